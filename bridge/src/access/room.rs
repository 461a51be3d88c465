//! Room in the logs: what is answered may have to be ordered erased one day, and a log has an end.

use medsync_protocol::audit::{Entry, Seq};
use medsync_protocol::ids::ContextId;
use medsync_protocol::signature::PublicKey;

use super::Desk;
use crate::pipeline::PipelineError;
use crate::store::{Store, StoreError};

/// How many entries of one author a context's log has room for, as the app lays it out.
pub const LOG_ENTRIES_MAX: u64 = 65_536;
/// How many entries whoever enrolled has written by their custodian's node. What one member writes
/// is counted together, whoever signed it: half of the room is theirs, and half the custodian's.
pub const BROUGHT_ENTRIES_MAX: u64 = LOG_ENTRIES_MAX / 2;
/// How many more are kept free than what is open may need: an answer has several entries.
const RESERVE: u64 = 1_024;
/// How many entries an open release may still need: that it is ordered erased, and that it was.
const ENTRIES_OF_A_RELEASE: u64 = 2;

/// The fact under which it is kept that a context's log is nearly full; it stays so.
#[must_use]
pub fn full_fact(context: ContextId) -> String {
    format!("full:{context}")
}

/// The fact under which it is kept that who enrolled has entries written by this custodian's node.
#[must_use]
pub fn brought_fact(context: ContextId) -> String {
    format!("brought:{context}")
}

/// Makes sure that an entry that the custodian's node is to write for who enrolled leaves room for
/// the custodian's own, and keeps that there is such an entry.
///
/// # Errors
/// [`NoRoom`]; a store that does not answer.
pub async fn let_in(
    store: &Store,
    custodian: PublicKey,
    entry: &Entry,
) -> Result<Result<(), NoRoom>, StoreError> {
    let (context, author) = (entry.context, entry.author_key);
    if store.pinned_author(context).await? != Some(author) {
        return Ok(Err(NoRoom::OfAnother));
    }
    let own = store.log_next(context, custodian).await?.seq;
    if entry.seq.0.max(own.0) >= BROUGHT_ENTRIES_MAX {
        return Ok(Err(NoRoom::Full));
    }
    let fact = brought_fact(context);
    if store.fact(&fact).await?.is_none() {
        store.state_fact(&fact, "true").await?;
    }
    Ok(Ok(()))
}

/// Why a custodian's node writes an entry for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// It is of a key with which nobody enrolled.
    #[error(
        "this node writes the entries of whoever enrolled, by the author key that they enrolled \
         with, and no others: write them on the node of their author"
    )]
    OfAnother,
    /// Half of the log's room is used.
    #[error(
        "this log has no more room for what this node writes for others: {BROUGHT_ENTRIES_MAX}"
    )]
    Full,
}

impl Desk {
    /// Makes sure that what is answered in a context leaves room to order all of it erased.
    ///
    /// # Errors
    /// A log that is nearly full, which is also kept for people to see; a store that does not
    /// answer.
    pub(super) async fn check_room(&self, context: ContextId) -> Result<(), PipelineError> {
        let (store, own) = (&self.pipeline.store, self.author.public_key());
        let Seq(used) = store.log_next(context, own).await?.seq;
        let open = store.open_releases(context).await?;
        let needed = open
            .saturating_mul(ENTRIES_OF_A_RELEASE)
            .saturating_add(RESERVE);
        let max = match store.fact(&brought_fact(context)).await? {
            None => self.log_entries_max,
            Some(_) => self.log_entries_max - BROUGHT_ENTRIES_MAX.min(self.log_entries_max / 2),
        };
        if used.saturating_add(needed) < max {
            return Ok(());
        }
        let why = format!(
            "its log is nearly full ({used} entries of at most {}): no request is answered in it \
             any more, so that orders to erase find room. Open another",
            max
        );
        let fact = full_fact(context);
        if store.fact(&fact).await?.is_none() {
            tracing::error!(%context, why, "ALARM: a log is nearly full");
            store.state_fact(&fact, &why).await?;
        }
        Err(PipelineError::Broken(format!("{context}: {why}")))
    }
}
