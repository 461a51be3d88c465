//! What goes to the chain, and what is paid there: `/v1/batches` and `/v1/pools`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use medsync_client::wire::{BatchPage, Pools};

use super::caller::who::STAFF;
use super::caller::{Asked, ForStaff, Page};
use super::{Api, Problem};
use crate::store::batches::BatchId;
use crate::views;

/// Batches, the latest first, with how far each is on its way to the chain.
#[utoipa::path(
    get,
    path = "/v1/batches",
    tag = STAFF,
    params(Page),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = BatchPage), Problem)
)]
pub(super) async fn batches(
    State(api): State<Arc<Api>>,
    _: ForStaff,
    Asked(page): Asked<Page>,
) -> Result<Json<BatchPage>, Problem> {
    let (before, limit): (Option<i64>, _) = (page.after()?, page.limit()?);
    let store = &api.pipeline.store;
    let rows = store.batches_before(before.map(BatchId), limit).await?;
    let is_last = rows.len() < limit as usize;
    let last = rows.last().filter(|_| !is_last);
    Ok(Json(BatchPage {
        next: last.map(|row| row.id.0.to_string()),
        batches: rows.into_iter().map(views::anchoring::batch).collect(),
    }))
}

/// The reward pools that this party knows.
#[utoipa::path(
    get,
    path = "/v1/pools",
    tag = STAFF,
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "All of them.", body = Pools), Problem)
)]
pub(super) async fn pools(
    State(api): State<Arc<Api>>,
    _: ForStaff,
) -> Result<Json<Pools>, Problem> {
    let rows = api.pipeline.store.pools().await?.into_iter();
    Ok(Json(Pools {
        pools: rows.map(views::anchoring::pool).collect(),
    }))
}
