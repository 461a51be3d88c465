//! How the party does: `/live`, `/ready`, `/v1/status`, `/v1/circles`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use medsync_protocol::ids::ContextId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, Problem};
use crate::status::{CircleStatus, Status, last_round, runs};

/// How many circles a page has, unless it is asked for fewer.
const PAGE_LEN_MAX: u32 = 100;

/// Whether the process answers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Live {
    live: bool,
}

/// Whether the daemon does its rounds.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct Ready {
    /// How long ago its last round was, in seconds.
    round_age_s: u64,
}

/// Circles and exchanges.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CirclePage {
    circles: Vec<CircleStatus>,
    /// What the next page comes after; nothing on the last.
    next: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// The context after which it begins: `0x` and 64 digits.
    after: Option<String>,
    /// How many circles it has at most: 1 to 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// Whether the process answers.
#[utoipa::path(get, path = "/live", responses(
    (status = 200, description = "It does.", body = Live),
    Problem,
))]
pub(super) async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// Whether the daemon does its rounds.
#[utoipa::path(get, path = "/ready", responses(
    (status = 200, description = "It does.", body = Ready),
    Problem,
))]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Result<Json<Ready>, Problem> {
    let round_at = last_round(&api.store).await;
    let round_at = round_at.map_err(|error| Problem::of_the_store(&error))?;
    let unready = |why: String| Err(Problem::of(StatusCode::SERVICE_UNAVAILABLE, why));
    let Some(round_at) = round_at else {
        return unready("the daemon has not completed a round yet".into());
    };
    let now = api.clock.now();
    let round_age_s = now.0.saturating_sub(round_at.0);
    if !runs(round_at, now) {
        return unready(format!("the daemon's last round was {round_age_s} s ago"));
    }
    Ok(Json(Ready { round_age_s }))
}

/// What is under way, and what hinders it.
#[utoipa::path(get, path = "/v1/status", security(("operator" = [])), responses(
    (status = 200, description = "How the party does.", body = Status),
    Problem,
))]
pub(super) async fn status(State(api): State<Arc<Api>>) -> Result<Json<Status>, Problem> {
    let status = Status::of(&api.store).await;
    Ok(Json(status.map_err(|error| Problem::of_the_store(&error))?))
}

/// Circles and exchanges, in the order of their contexts, each with its alarm.
#[utoipa::path(get, path = "/v1/circles", params(Page), security(("operator" = [])), responses(
    (status = 200, description = "A page.", body = CirclePage),
    Problem,
))]
pub(super) async fn circles(
    State(api): State<Arc<Api>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<CirclePage>, Problem> {
    let wrong = |why: String| Problem::of(StatusCode::BAD_REQUEST, why);
    let Query(page) = page.map_err(|error| wrong(error.body_text()))?;
    let limit = page.limit.unwrap_or(PAGE_LEN_MAX);
    if !(1..=PAGE_LEN_MAX).contains(&limit) {
        return Err(wrong(format!("limit is from 1 to {PAGE_LEN_MAX}")));
    }
    let after = page.after.map(|after| after.parse::<ContextId>());
    let after = after
        .transpose()
        .map_err(|error| wrong(format!("after: {error}")))?;
    let after = after.map(|context| context.to_string()).unwrap_or_default();
    let circles = CircleStatus::page(&api.store, &after, limit).await;
    let circles = circles.map_err(|error| Problem::of_the_store(&error))?;
    let is_last = circles.len() < limit as usize;
    let next = circles.last().filter(|_| !is_last);
    Ok(Json(CirclePage {
        next: next.map(|circle| circle.context.clone()),
        circles,
    }))
}
