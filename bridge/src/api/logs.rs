//! Logs, with what proves them: `/v1/circles/{context}/log`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{LogCheck, LogHeadPage, LogPage};
use medsync_protocol::audit::EntryKind;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::tree::Leaf;
use serde::Deserialize;
use tokio::time::timeout;

use super::caller::who::PARTY;
use super::caller::{Asked, Identified, Page, Theirs, limit};
use super::{Api, Problem};
use crate::audit::verify_with;
use crate::store::log::LogFilter;
use crate::views;
use crate::views::log::Place;

/// How long the circle has to say whose entries these are.
const NAMED_WITHIN: Duration = Duration::from_secs(2);
/// How many roots the chain is asked about that would bind entries which nobody here has: anybody
/// in a circle can make them up. `medsync audit verify` asks about more.
const ROOTS_ASKED: usize = 16;

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
    let since = asked.since.unwrap_or_default();
    if i64::try_from(since).is_err() {
        return Err(Problem::wrong("since is at most 9223372036854775807"));
    }
    let filter = LogFilter {
        author_key: None,
        kind: kind.transpose()?.map(EntryKind::name),
        since: UnixSeconds(since),
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
    let named = async { api.enter(&row).await.ok()?.circle().await.ok() };
    let state = timeout(NAMED_WITHIN, named).await.ok().flatten();
    let line = |entry| views::log::line(state.as_ref(), entry);
    Ok(Json(LogPage {
        entries: entries.into_iter().map(line).collect(),
        next,
    }))
}

/// The places of the logs in batches: each proves that a log up to some entry was anchored.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/log/heads",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle or exchange."), Page),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = LogHeadPage), Problem)
)]
pub(super) async fn heads(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Asked(page): Asked<Page>,
) -> Result<Json<LogHeadPage>, Problem> {
    let (after, limit): (Option<Leaf>, _) = (page.after()?, page.limit()?);
    let store = &api.pipeline.store;
    let heads = store.heads_after(row.context, after, limit).await?;
    let is_last = heads.len() < limit as usize;
    let last = heads.last().filter(|_| !is_last);
    Ok(Json(LogHeadPage {
        next: last.map(|last| last.leaf(row.context).to_string()),
        heads: heads.into_iter().map(views::log::head).collect(),
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
    Identified { caller, .. }: Identified,
) -> Result<Json<LogCheck>, Problem> {
    let _one = api.heavy_turn(&caller).await?;
    let report = verify_with(&api.pipeline, &row, ROOTS_ASKED).await?;
    let checked = views::log::check(&row, &report);
    checked
        .map(Json)
        .map_err(|error| Problem::of(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
