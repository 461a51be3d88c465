//! Checking every log of a circle: what `medsync audit verify` does.

use std::collections::BTreeSet;
use std::sync::Arc;

use medsync_protocol::audit::EntryDigest;
use medsync_protocol::ids::{Anchorer, ContextId, ContextKind};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Root;
use serde::Serialize;
use tokio::task::spawn_blocking;

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
    /// How many roots, which would bind entries that nobody here has, the chain was not asked
    /// about: there are too many.
    pub unasked: usize,
}

impl Report {
    /// Whether no log is broken, as far as it could be checked.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let is_whole = |named: &NamedLog| !named.log.faults.iter().any(Fault::is_certain);
        self.logs.iter().all(is_whole) && self.found_before.is_none()
    }

    /// What the command ends with: 0 if every log is whole, 2 if one is broken, 3 if the circle
    /// could not be read, or not all of it be asked about, and what could is whole. What is not
    /// anchored yet is not broken.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.is_sound(), self.was_read && self.unasked == 0) {
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
    verify_with(pipeline, row, ASKED_BY_COMMAND).await
}

/// The same, asking the chain about so many roots at most that would bind entries which nobody here
/// has.
///
/// # Errors
/// As [`verify`].
pub async fn verify_with(
    pipeline: &Pipeline,
    row: &CircleRow,
    asked_max: usize,
) -> Result<Report, PipelineError> {
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
    let gone = gone_roots(context, &kept, &heads);
    let unasked = gone.len().saturating_sub(asked_max);
    let asked: Vec<Root> = gone.into_iter().take(asked_max).collect();
    let gone = anchorings(pipeline, row, state.as_ref(), &asked).await?;
    let authors: BTreeSet<PublicKey> = kept
        .iter()
        .map(|entry| entry.entry.author_key)
        .chain(heads.iter().map(|head| head.author_key))
        .collect();
    let custodian = state.as_ref().map(|state| state.custodian.author_key);
    let was_read = there.is_some();
    let (there, heads) = (Arc::new(there), Arc::new(heads));
    let mut logs = Vec::new();
    for author_key in authors {
        let own = entries_of(&kept, author_key);
        let mut anchored = gone.clone();
        anchored.extend(anchored_last(pipeline, row, state.as_ref(), (&own, &heads)).await?);
        let (there, heads) = (Arc::clone(&there), Arc::clone(&heads));
        let whose = (context, author_key);
        // Each entry costs its signature: the lanes have their threads meanwhile.
        let checked = spawn_blocking(move || {
            let there = there.as_ref().as_ref();
            check(whose, &own, there, &heads, &anchored)
        });
        let checked = checked.await;
        let mut log = checked.map_err(|error| PipelineError::Broken(error.to_string()))?;
        if custodian == Some(author_key) {
            log.faults.append(&mut answers);
        }
        let by = author(state.as_ref(), author_key);
        logs.push(NamedLog { by, log });
    }
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
        unasked,
    })
}

/// How many roots the chain is asked about that would bind entries which nobody here has: by one
/// look of the daemon, which goes on at the next one where it stopped, and by the command. Anybody
/// in a circle can make up such places.
const ASKED_BY_LOOK: usize = 16;
const ASKED_BY_COMMAND: usize = 1_024;
/// How many of the last places of an author's log it is asked about until one is on the chain.
const ASKED_ABOUT_LAST: usize = 16;

/// What a look at the logs of a circle found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// This is broken, in words.
    Broken(String),
    /// Nothing is, as far as this root; the next look goes on behind it.
    SoFar(Root),
    /// Nothing is.
    Whole,
}

/// Looks at the logs of a circle, as it was read, from behind a root on. An entry that is not here
/// and stands in a batch is missed once the chain has that batch.
pub(super) async fn look(
    pipeline: &Pipeline,
    row: &CircleRow,
    state: &CircleState,
    behind: Option<Root>,
) -> Result<Look, PipelineError> {
    let store = &pipeline.store;
    let kept = store.log(row.context, &LogFilter::default()).await?;
    let heads = store.heads(row.context).await?;
    let gone = gone_roots(row.context, &kept, &heads);
    let mut ahead = gone
        .into_iter()
        .filter(|root| behind.is_none_or(|last| last < *root));
    let asked: Vec<Root> = ahead.by_ref().take(ASKED_BY_LOOK).collect();
    let is_all = ahead.next().is_none();
    let anchored = anchorings(pipeline, row, Some(state), &asked).await?;
    for (author_key, by) in state.authors() {
        let own = entries_of(&kept, author_key);
        let log = check((row.context, author_key), &own, None, &heads, &anchored);
        if log.faults.iter().any(Fault::is_certain) {
            let why = format!("the log of the {by} is broken: see `medsync audit verify`");
            return Ok(Look::Broken(why));
        }
    }
    let last = asked.last().filter(|_| !is_all);
    Ok(last.map_or(Look::Whole, |last| Look::SoFar(*last)))
}

fn entries_of(kept: &[LogEntry], author_key: PublicKey) -> Vec<LogEntry> {
    let own = kept.iter();
    let own = own.filter(|entry| entry.entry.author_key == author_key);
    own.cloned().collect()
}

/// The roots that would bind entries which nobody here has.
fn gone_roots(context: ContextId, kept: &[LogEntry], heads: &[Head]) -> BTreeSet<Root> {
    let here: BTreeSet<EntryDigest> = kept.iter().map(LogEntry::digest).collect();
    let gone = heads
        .iter()
        .filter(|head| !here.contains(&head.digest) && head.is_included(context));
    gone.map(|head| head.root).collect()
}

/// Since when each of these roots is on the chain.
async fn anchorings(
    pipeline: &Pipeline,
    row: &CircleRow,
    state: Option<&CircleState>,
    roots: &[Root],
) -> Result<Anchorings, PipelineError> {
    let mut anchored = Anchorings::new();
    if roots.is_empty() {
        return Ok(anchored);
    }
    pipeline.check_chain().await?;
    let anchorer = anchorer(row, state)?;
    let registry = pipeline.registry.registry;
    for root in roots {
        let since = pipeline
            .chain
            .anchored_at(registry, anchorer, *root)
            .await?;
        anchored.extend(since.map(|since| (*root, since)));
    }
    Ok(anchored)
}

/// Up to which of its entries an author's log is on the chain: the last place that is, of the last
/// few.
async fn anchored_last(
    pipeline: &Pipeline,
    row: &CircleRow,
    state: Option<&CircleState>,
    (own, heads): (&[LogEntry], &[Head]),
) -> Result<Anchorings, PipelineError> {
    let here: BTreeSet<EntryDigest> = own.iter().map(LogEntry::digest).collect();
    let mut places: Vec<&Head> = heads
        .iter()
        .filter(|head| here.contains(&head.digest) && head.is_included(row.context))
        .collect();
    places.sort_by_key(|head| std::cmp::Reverse(head.seq));
    for head in places.into_iter().take(ASKED_ABOUT_LAST) {
        let anchored = anchorings(pipeline, row, state, &[head.root]).await?;
        if !anchored.is_empty() {
            return Ok(anchored);
        }
    }
    Ok(Anchorings::new())
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
