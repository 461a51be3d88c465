//! How a party does, for people, programs and metrics: what its daemon last wrote down.

use std::collections::BTreeMap;

use medsync_client::wire::{CircleStatus, Status};
use medsync_protocol::ids::UnixSeconds;

use crate::access::full_fact;
use crate::audit::forked_fact;
use crate::daemon::LANES;
use crate::party::CLOCK_BEHIND_S_MAX;
use crate::pipeline::PipelineError;
use crate::pipeline::ingest::{frozen_fact, unreadable_fact};
use crate::store::circles::CircleRow;
use crate::store::facts::{BEHIND, CLOCK, ENDPOINTS, HINDRANCE, LAST_ROUND};
use crate::store::{Store, StoreError};

/// How old the last round is of a daemon that runs, in seconds.
const RUNS_S: u64 = 2 * 60;

/// What is under way, and what hinders it, as the store says.
///
/// # Errors
/// A store that does not answer.
pub async fn status(store: &Store) -> Result<Status, StoreError> {
    let mut hindrances = BTreeMap::new();
    let lanes = LANES.map(|lane| (lane, format!("{HINDRANCE}:{lane}")));
    let others = [ENDPOINTS, CLOCK].map(|name| (name, name.to_owned()));
    for (lane, fact) in lanes.into_iter().chain(others) {
        let why = store.fact(&fact).await?.filter(|why| !why.is_empty());
        hindrances.extend(why.map(|why| (lane.to_owned(), why)));
    }
    let oldest = store.oldest_waiting().await?.into_iter();
    Ok(Status {
        last_round_at: last_round(store).await?.map(|at| at.0),
        counts: store.anchoring_counts().await?.into_iter().collect(),
        access: store.access_counts().await?.into_iter().collect(),
        oldest: oldest
            .map(|(what, since)| (what.to_owned(), since.0))
            .collect(),
        hindrances,
    })
}

/// When the daemon last completed a round.
///
/// # Errors
/// A store that does not answer.
pub async fn last_round(store: &Store) -> Result<Option<UnixSeconds>, StoreError> {
    let fact = store.fact(LAST_ROUND).await?;
    Ok(fact.and_then(|at| at.parse().ok()).map(UnixSeconds))
}

/// Whether a daemon whose last round was then runs now. A round in times to come was made by a
/// clock that was wrong.
#[must_use]
pub fn runs(round_at: UnixSeconds, now: UnixSeconds) -> bool {
    now.0.abs_diff(round_at.0) <= RUNS_S
}

/// Makes sure that this clock was right when the daemon last looked; a daemon that does not run
/// says nothing.
///
/// # Errors
/// [`PipelineError::ClockBehind`]; a store that does not answer.
pub async fn check_clock(store: &Store, now: UnixSeconds) -> Result<(), PipelineError> {
    let behind_s: Option<String> = store.fact(BEHIND).await?;
    let behind_s: u64 = behind_s
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let round_at = last_round(store).await?;
    let is_recent = round_at.is_some_and(|at| runs(at, now));
    if is_recent && behind_s > CLOCK_BEHIND_S_MAX {
        return Err(PipelineError::ClockBehind(behind_s));
    }
    Ok(())
}

/// The first few circles and exchanges after a context, in the order of their contexts.
///
/// # Errors
/// A store that does not answer.
pub async fn circles_after(
    store: &Store,
    after: &str,
    limit: u32,
) -> Result<Vec<CircleStatus>, StoreError> {
    let mut page = Vec::new();
    for read in store.circles_after(after, limit).await? {
        page.push(match read {
            Ok(row) => CircleStatus {
                context: row.context.to_string(),
                kind: Some(row.kind.name().to_owned()),
                alarm: alarm(store, &row).await?,
                label: Some(row.label),
            },
            Err(unreadable) => CircleStatus {
                context: unreadable.name,
                kind: None,
                label: None,
                alarm: Some(unreadable.why.to_string()),
            },
        });
    }
    Ok(page)
}

/// All circles and exchanges.
///
/// # Errors
/// A store that does not answer.
pub async fn all_circles(store: &Store) -> Result<Vec<CircleStatus>, StoreError> {
    const AT_ONCE: u32 = 100;
    let mut all: Vec<CircleStatus> = Vec::new();
    loop {
        let after = all.last().map(|last| last.context.clone());
        let page = circles_after(store, &after.unwrap_or_default(), AT_ONCE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

/// What a person has to look at in a circle.
async fn alarm(store: &Store, circle: &CircleRow) -> Result<Option<String>, StoreError> {
    if circle.alarm.is_some() {
        return Ok(circle.alarm.clone());
    }
    if let Some(since) = store.fact(&frozen_fact(circle.context)).await? {
        let why = format!("frozen since {since}: two different enrolments; no consent counts");
        return Ok(Some(why));
    }
    if let Some(why) = store.fact(&forked_fact(circle.context)).await? {
        return Ok(Some(why));
    }
    if let Some(done) = store.evidence(circle.context).await?.describe() {
        return Ok(Some(done));
    }
    if let Some(why) = store.fact(&full_fact(circle.context)).await? {
        return Ok(Some(why));
    }
    let unreadable = store
        .fact(&unreadable_fact(&circle.context.to_string()))
        .await?;
    Ok(unreadable.filter(|why| !why.is_empty()))
}
