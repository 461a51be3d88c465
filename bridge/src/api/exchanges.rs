//! What is in an exchange: `/v1/circles/{context}/requests`, `…/releases`, `…/receipts`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{AskedFor, NewRequest, ReceiptPage, ReleasePage, RequestPage};

use super::caller::who::{OPERATOR, PARTY};
use super::caller::{Asked, ForOperators, Page, Said, Theirs};
use super::circles::{next, page_limit};
use super::{Api, Problem};
use crate::asking::ask;
use crate::source::Cursor;
use crate::views;
use crate::views::log::Place;

/// The requests of an exchange, the latest first, with what became of each.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/requests",
    tag = PARTY,
    params(("context" = String, Path, description = "The exchange."), Page),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = RequestPage), Problem)
)]
pub(super) async fn requests(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Asked(page): Asked<Page>,
) -> Result<Json<RequestPage>, Problem> {
    let (after, limit): (Option<Place>, _) = (page.after()?, page.limit()?);
    let store = &api.pipeline.store;
    let requests = views::exchange::requests(store, &row, after, limit).await?;
    let is_last = requests.len() < limit as usize;
    let last = requests.last().filter(|_| !is_last);
    Ok(Json(RequestPage {
        next: last.map(|last| Place(last.at, last.request).to_string()),
        requests,
    }))
}

/// Asks for a patient's records, in the name of the recipient whose home this is.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/requests",
    tag = OPERATOR,
    params(("context" = String, Path, description = "The exchange.")),
    request_body = NewRequest,
    security(("operator" = [])),
    responses((status = 201, description = "It is asked.", body = AskedFor), Problem)
)]
pub(super) async fn request(
    State(api): State<Arc<Api>>,
    _: ForOperators,
    Theirs(row): Theirs,
    Said(new): Said<NewRequest>,
) -> Result<(StatusCode, Json<AskedFor>), Problem> {
    let Some(keys) = &api.recipient else {
        let why = "this is a recipient's to do, and this home is not one's";
        return Err(Problem::of(StatusCode::CONFLICT, why));
    };
    let _turn = api.turn_at_node().await?;
    let (store, circles) = (&api.pipeline.store, &*api.pipeline.circles);
    let request = ask((store, circles), &row, keys, new, api.pipeline.now()).await?;
    Ok((StatusCode::CREATED, Json(AskedFor { request })))
}

/// What was released into an exchange. Payloads are sealed to whoever asked.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/releases",
    tag = PARTY,
    params(("context" = String, Path, description = "The exchange."), Page),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = ReleasePage), Problem)
)]
pub(super) async fn releases(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Asked(page): Asked<Page>,
) -> Result<Json<ReleasePage>, Problem> {
    let (after, limit): (Option<Cursor>, _) = (page.after()?, page_limit(page.limit()?)?);
    let found = api
        .enter(&row)
        .await?
        .releases(after.as_ref(), limit)
        .await?;
    Ok(Json(ReleasePage {
        releases: found
            .releases
            .iter()
            .map(views::exchange::release)
            .collect(),
        next: next(found.next),
    }))
}

/// The receipts that an exchange was given. A verifier says whether each is valid.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/receipts",
    tag = PARTY,
    params(("context" = String, Path, description = "The exchange."), Page),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = ReceiptPage), Problem)
)]
pub(super) async fn receipts(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Asked(page): Asked<Page>,
) -> Result<Json<ReceiptPage>, Problem> {
    let (after, limit): (Option<Cursor>, _) = (page.after()?, page_limit(page.limit()?)?);
    let found = api
        .enter(&row)
        .await?
        .receipts(after.as_ref(), limit)
        .await?;
    let receipts = found.receipts.iter().filter_map(views::exchange::receipt);
    Ok(Json(ReceiptPage {
        receipts: receipts.map(|(described, _)| described).collect(),
        next: next(found.next),
    }))
}
