//! Checking every log of a circle: what `medsync audit verify` does.

use std::collections::BTreeSet;

use medsync_protocol::audit::EntryDigest;
use medsync_protocol::ids::{Anchorer, ContextKind};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Root;
use serde::Serialize;

use super::{
    Anchorings, Fault, LogReport, answers_fact, check, check_answers, logs_fact, read_all,
};
use crate::guard::{self, GuardError};
use crate::invitation::Invitation;
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{CircleState, Head, LogEntry};
use crate::store::circles::CircleRow;
use crate::store::log::LogFilter;

/// The exit code of a log that is broken.
const BROKEN: u8 = 2;
/// The exit code of a log of which only what was kept here could be checked.
pub const UNREAD: u8 = 3;

/// One author's log.
#[derive(Clone, Debug, Serialize)]
pub struct NamedLog {
    /// What the author is called in this circle; `unknown` if the circle does not say.
    pub by: &'static str,
    /// What came of checking it.
    pub log: LogReport,
}

/// What came of checking every log of a circle.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each log that was ever seen.
    pub logs: Vec<NamedLog>,
    /// Whether the circle could be read; else this is about what was kept here.
    pub was_read: bool,
    /// What was found in the custodian's answers before the circle could be read no more.
    pub found_before: Option<String>,
}

impl Report {
    /// Whether no log is broken, as far as it could be checked.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_whole = |named: &NamedLog| !named.log.faults.iter().any(Fault::is_certain);
        self.logs.iter().all(is_whole) && self.found_before.is_none()
    }

    /// What the command ends with: 0 if every log is whole, 2 if one is broken, 3 if the circle
    /// could not be read and what was kept here is whole. What is not anchored yet is not broken.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.is_sound(), self.was_read) {
            (false, _) => BROKEN,
            (true, false) => UNREAD,
            (true, true) => 0,
        }
    }
}

/// What an author is called in this circle.
#[must_use]
pub fn author(state: Option<&CircleState>, author_key: PublicKey) -> &'static str {
    let mut authors = state.into_iter().flat_map(CircleState::authors);
    let known = authors.find(|(key, _)| *key == author_key);
    known.map_or("unknown", |(_, name)| name)
}

/// Reads what the circle shows, adds what was ever kept, asks the chain, and checks each log.
///
/// # Errors
/// A store that does not answer, a circle that stops answering while it is read, and, if a log
/// is in a batch, a chain that does not answer. A circle that is not entered is no error.
pub async fn verify(pipeline: &Pipeline, row: &CircleRow) -> Result<Report, PipelineError> {
    let (context, store, now) = (row.context, &pipeline.store, pipeline.now());
    let mut there: Option<BTreeSet<EntryDigest>> = None;
    let mut state = None;
    let mut answers = Vec::new();
    let entered = match guard::enter(&*pipeline.circles, store, row, now).await {
        Ok(circle) => Some(circle),
        Err(GuardError::Store(error)) => return Err(error.into()),
        Err(_) => None,
    };
    if let Some(circle) = entered {
        let found = circle.circle().await?;
        there = Some(read_all(store, &*circle, &found, now).await?);
        if row.kind == ContextKind::Circle {
            answers = check_answers(pipeline, &*circle).await?;
        }
        state = Some(found);
    }
    let kept = store.log(context, &LogFilter::default()).await?;
    let heads = store.heads(context).await?;
    let anchored = anchorings(pipeline, row, &heads, state.as_ref()).await?;
    let authors: BTreeSet<PublicKey> = kept
        .iter()
        .map(|entry| entry.entry.author_key)
        .chain(heads.iter().map(|head| head.author_key))
        .collect();
    let custodian = state.as_ref().map(|state| state.custodian.author_key);
    let logs = authors
        .into_iter()
        .map(|author_key| {
            let own: Vec<LogEntry> = kept
                .iter()
                .filter(|entry| entry.entry.author_key == author_key)
                .cloned()
                .collect();
            let whose = (context, author_key);
            let mut log = check(whose, &own, there.as_ref(), &heads, &anchored);
            if custodian == Some(author_key) {
                log.faults.append(&mut answers);
            }
            let by = author(state.as_ref(), author_key);
            NamedLog { by, log }
        })
        .collect();
    let was_read = there.is_some();
    let mut found_before = None;
    if !was_read {
        // Whoever stops a circle takes nothing back of what was found in it.
        for fact in [logs_fact(context), answers_fact(context)] {
            let found = store.fact(&fact).await?;
            found_before = found.filter(|why| !why.is_empty()).or(found_before);
        }
    }
    Ok(Report {
        logs,
        was_read,
        found_before,
    })
}

/// How many places of entries that nobody here has the chain is asked about.
const GONE_MAX: usize = 16;

/// What is broken in the logs of a circle, as it was read, in words; nothing if none is. An entry
/// that is not here and stands in a batch is missed once the chain has that batch.
pub(super) async fn broken_logs(
    pipeline: &Pipeline,
    row: &CircleRow,
    state: &CircleState,
) -> Result<Option<String>, PipelineError> {
    let store = &pipeline.store;
    let kept = store.log(row.context, &LogFilter::default()).await?;
    let mut heads = store.heads(row.context).await?;
    let there: BTreeSet<EntryDigest> = kept.iter().map(LogEntry::digest).collect();
    // Others' are asked about by `verify`, which costs a question to the chain each.
    heads.retain(|head| !there.contains(&head.digest) && head.is_included(row.context));
    heads.truncate(GONE_MAX);
    let anchored = anchorings(pipeline, row, &heads, Some(state)).await?;
    for (author_key, by) in state.authors() {
        let own: Vec<LogEntry> = kept
            .iter()
            .filter(|entry| entry.entry.author_key == author_key)
            .cloned()
            .collect();
        let log = check((row.context, author_key), &own, None, &heads, &anchored);
        if log.faults.iter().any(Fault::is_certain) {
            let why = format!("the log of the {by} is broken: see `medsync audit verify`");
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// Since when each root is on the chain.
async fn anchorings(
    pipeline: &Pipeline,
    row: &CircleRow,
    heads: &[Head],
    state: Option<&CircleState>,
) -> Result<Anchorings, PipelineError> {
    let mut anchored = Anchorings::new();
    if heads.is_empty() {
        return Ok(anchored);
    }
    pipeline.check_chain().await?;
    let anchorer = anchorer(row, state)?;
    let roots: BTreeSet<Root> = heads.iter().map(|head| head.root).collect();
    for root in roots {
        let registry = pipeline.registry.registry;
        let since = pipeline.chain.anchored_at(registry, anchorer, root).await?;
        anchored.extend(since.map(|since| (root, since)));
    }
    Ok(anchored)
}

/// Who anchors this circle: as the invitation says, or the circle itself.
fn anchorer(row: &CircleRow, state: Option<&CircleState>) -> Result<Anchorer, PipelineError> {
    if let Some(invitation) = &row.invitation {
        let invitation: Invitation = serde_json::from_str(invitation)
            .map_err(|error| PipelineError::Broken(format!("the kept invitation: {error}")))?;
        return Ok(invitation.says.custodian_address);
    }
    let state = state.ok_or_else(|| {
        let why = "the circle cannot be read, and who anchors it is not known here";
        PipelineError::Broken(why.into())
    })?;
    Ok(state.custodian.anchorer)
}
