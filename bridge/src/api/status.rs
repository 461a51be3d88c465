//! How the party does: `/live`, `/ready`, `/v1/status`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{Live, Ready, Status};

use super::caller::ForStaff;
use super::caller::who::{EVERYBODY, STAFF};
use super::{Api, Problem};
use crate::status::{self, last_round, runs};

/// Whether the process answers.
#[utoipa::path(get, path = "/live", tag = EVERYBODY, responses(
    (status = 200, description = "It does.", body = Live),
    Problem,
))]
pub(super) async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether the daemon does its rounds.
#[utoipa::path(get, path = "/ready", tag = EVERYBODY, responses(
    (status = 200, description = "It does.", body = Ready),
    Problem,
))]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Result<Json<Ready>, Problem> {
    let round_at = last_round(&api.pipeline.store).await?;
    let unready = |why: String| Err(Problem::of(StatusCode::SERVICE_UNAVAILABLE, why));
    let Some(round_at) = round_at else {
        return unready("the daemon has not completed a round yet".into());
    };
    let now = api.pipeline.now();
    let round_age_s = now.0.saturating_sub(round_at.0);
    if !runs(round_at, now) {
        return unready(format!("the daemon's last round was {round_age_s} s ago"));
    }
    Ok(Json(Ready { round_age_s }))
}

/// What is under way, and what hinders it.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = STAFF,
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "How the party does.", body = Status), Problem)
)]
pub(super) async fn status(
    State(api): State<Arc<Api>>,
    _: ForStaff,
) -> Result<Json<Status>, Problem> {
    Ok(Json(status::status(&api.pipeline.store).await?))
}
