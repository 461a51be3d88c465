//! What goes to the chain, and what is paid there: `/v1/batches`, `/v1/pools`, and the tickets of a
//! circle.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use medsync_client::wire::{BatchPage, Pools, Tickets};

use super::caller::who::{PARTY, STAFF};
use super::caller::{Asked, ForStaff, Page, Theirs};
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

/// The rewards that a circle's patient was promised, each with what a claim needs besides the
/// patient's keys.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/tickets",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle.")),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "All of them.", body = Tickets), Problem)
)]
pub(super) async fn tickets(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
) -> Result<Json<Tickets>, Problem> {
    let state = api.enter(&row).await?.circle().await?;
    let custodian = state.custodian.anchorer;
    let tickets = views::anchoring::tickets(&api.pipeline, row.context, custodian).await?;
    Ok(Json(Tickets { tickets }))
}
