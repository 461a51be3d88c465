//! Answers that arrived long after the time that they say: by when each was there, the chain says.
//!
//! What a custodian releases after the end of a consent, and dates before it, comes late, as what
//! it released in time comes late to a home that was cut off. The one is in no batch from before
//! that end, the other is in the next one after it was made.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{EntryDigest, Seq};
use medsync_protocol::ids::UnixSeconds;

use super::judge::Judge;
use crate::audit::AuditError;
use crate::pipeline::Pipeline;
use crate::source::{CircleState, Head, LogEntry};

/// How long an answer has to be in a batch on the chain, from when it arrived, in seconds.
const ANCHORED_WITHIN_S: u64 = 60 * 60;
/// How many batches the chain is asked about at a look, of those that it has not answered for.
const ASKED_MAX: usize = 64;
/// How many of the next places of a log it is asked about for an entry: batches can be taken apart.
const PLACES_MAX: usize = 4;

/// By when entries were there, as the chain says.
#[derive(Default)]
pub(super) struct MadeBy {
    by: BTreeMap<Seq, UnixSeconds>,
    /// Of these nothing is known yet.
    unknown: BTreeSet<Seq>,
}

impl MadeBy {
    /// By when an entry was there at the latest.
    pub fn of(&self, seq: Seq) -> Option<UnixSeconds> {
        self.by.get(&seq).copied()
    }

    /// Whether the chain was asked, or nothing is in a batch though it had its time.
    pub fn is_known(&self, seq: Seq) -> bool {
        !self.unknown.contains(&seq)
    }
}

/// By when the answers that arrived late were there. A chain that does not answer is asked at the
/// next look.
///
/// # Errors
/// A store that does not answer.
pub(super) async fn made_by(
    pipeline: &Pipeline,
    state: &CircleState,
    log: &[(LogEntry, UnixSeconds)],
    judge: &Judge,
) -> Result<MadeBy, AuditError> {
    let mut made_by = MadeBy::default();
    let late = judge.late(log, |_| None);
    if late.is_empty() {
        return Ok(made_by);
    }
    let (custodian, now) = (&state.custodian, pipeline.now());
    let here: BTreeMap<EntryDigest, Seq> = log
        .iter()
        .map(|(entry, _)| (entry.digest(), entry.entry.seq))
        .collect();
    let seen: BTreeMap<Seq, UnixSeconds> = log
        .iter()
        .map(|(entry, seen_at)| (entry.entry.seq, *seen_at))
        .collect();
    let mut places: Vec<Head> = pipeline.store.heads(state.context).await?;
    places.retain(|head| {
        head.author_key == custodian.author_key
            && here.get(&head.digest) == Some(&head.seq)
            && head.is_included(state.context)
    });
    places.sort_by_key(|head| head.seq);
    let mut left = ASKED_MAX;
    for (seq, _) in late {
        let since = &places[places.partition_point(|head| head.seq < seq)..];
        let mut is_asked = true;
        for head in since.iter().take(PLACES_MAX) {
            let (anchorer, root) = (custodian.anchorer, head.root);
            let mut at = pipeline.known_anchored(anchorer, root).await?;
            if at.is_none() {
                let asked = match left {
                    0 => None,
                    _ => pipeline.ask_anchored(anchorer, root).await.ok(),
                };
                // Whether it was not asked or does not answer: at the next look.
                let Some(said) = asked else {
                    (left, is_asked) = (0, false);
                    break;
                };
                left -= 1;
                at = said;
            }
            if let Some(at) = at {
                made_by.by.insert(seq, at);
                break;
            }
        }
        let seen_at = seen.get(&seq).map_or(now.0, |at| at.0);
        let had_its_time = now.0 >= seen_at.saturating_add(ANCHORED_WITHIN_S);
        let is_settled = made_by.by.contains_key(&seq) || (is_asked && had_its_time);
        if !is_settled {
            made_by.unknown.insert(seq);
        }
    }
    Ok(made_by)
}
