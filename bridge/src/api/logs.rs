//! Logs, with what proves them: `/v1/circles/{context}/log`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{LogCheck, LogPage};
use medsync_protocol::audit::{EntryDigest, EntryKind};
use medsync_protocol::ids::UnixSeconds;
use serde::Deserialize;

use super::caller::who::PARTY;
use super::caller::{Asked, Page, Theirs, limit};
use super::{Api, Problem};
use crate::audit::verify;
use crate::store::log::LogFilter;
use crate::views;

/// Which entries.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Entries {
    /// Only of this kind: `RELEASED`, `DENIED`, …
    kind: Option<String>,
    /// Not before this time, in unix seconds.
    since: Option<u64>,
    /// What the page comes after: the `next` of the page before.
    after: Option<String>,
    /// How many it has at most: 1 to 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The last entry of a page.
struct Place(UnixSeconds, EntryDigest);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let malformed = "pass the `next` of the page before";
        let (at, digest) = text.split_once('-').ok_or(malformed)?;
        let at = at.parse().map_err(|_| malformed)?;
        Ok(Self(
            UnixSeconds(at),
            digest.parse().map_err(|_| malformed)?,
        ))
    }
}

/// Every log entry that was ever seen here, the latest first: also of a circle that is stopped.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/log",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle or exchange."), Entries),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = LogPage), Problem)
)]
pub(super) async fn log(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Asked(asked): Asked<Entries>,
) -> Result<Json<LogPage>, Problem> {
    let limit = limit(asked.limit)?;
    let page = Page {
        after: asked.after,
        limit: None,
    };
    let before: Option<Place> = page.after()?;
    let kind = asked.kind.map(|name| {
        EntryKind::named(&name).ok_or_else(|| {
            let names: Vec<&str> = EntryKind::ALL.iter().map(|kind| kind.name()).collect();
            Problem::wrong(format!("kind is one of {}", names.join(", ")))
        })
    });
    let filter = LogFilter {
        author_key: None,
        kind: kind.transpose()?.map(EntryKind::name),
        since: UnixSeconds(asked.since.unwrap_or_default()),
    };
    let before = before.map(|Place(at, digest)| (at, digest));
    let store = &api.pipeline.store;
    let entries = store
        .log_before(row.context, &filter, before, limit)
        .await?;
    let is_last = entries.len() < limit as usize;
    let last = entries.last().filter(|_| !is_last);
    let next = last.map(|last| Place(last.entry.at, last.digest()).to_string());
    // Whose an entry is, the circle alone says; what was seen is evidence without that, too.
    let state = match api.enter(&row).await {
        Ok(circle) => circle.circle().await.ok(),
        Err(_) => None,
    };
    let line = |entry| views::log::line(state.as_ref(), entry);
    Ok(Json(LogPage {
        entries: entries.into_iter().map(line).collect(),
        next,
    }))
}

/// Checks every log of a circle: chain, signatures, forks, completeness, anchors, and whether the
/// consents carry what was answered.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/log/check",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle or exchange.")),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "What came of it.", body = LogCheck), Problem)
)]
pub(super) async fn check(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
) -> Result<Json<LogCheck>, Problem> {
    let Ok(_one) = api.checks.try_acquire() else {
        let why = "another log is being checked; ask again in a few seconds";
        return Err(Problem::of(StatusCode::TOO_MANY_REQUESTS, why));
    };
    let report = verify(&api.pipeline, &row).await?;
    let checked = views::log::check(&row, &report);
    checked
        .map(Json)
        .map_err(|error| Problem::of(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
