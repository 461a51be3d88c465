//! Access: a custodian answers what recipients ask for.
//!
//! Everything happens in an order of which each step is durable before the next begins:
//!
//! - [`carry`]: an exchange is given receipts, and revocations, of the consents to its recipient;
//! - [`answer`]: a request is copied into the circle's log, decided with what the chain says now,
//!   and permitted or denied, in both logs;
//! - [`release`]: decided again, logged in the circle and read back; only then are keys sealed to
//!   the recipient;
//! - [`erase`]: what no longer is permitted is ordered to be erased, and the recipient's
//!   acknowledgement is copied into the circle.
//!
//! The steps are found from the store alone: with nothing to do a round costs a few queries. What
//! hinders one request or release keeps no other waiting. [`recipient`] is the other side.

use std::collections::BTreeMap;
use std::sync::Mutex;

use medsync_protocol::audit::{Body, EntryDigest, Requested};
use medsync_protocol::codes::Code;
use medsync_protocol::ids::ContextId;
use medsync_protocol::signature::SecretKey;

use crate::audit;
use crate::guard;
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{Circle, LogEntry};

pub mod answer;
pub mod carry;
mod decision;
pub mod erase;
pub mod recipient;
pub mod release;
mod rests;
mod room;

pub use self::erase::said_erased;
pub use self::rests::Rests;
pub use self::room::{
    BROUGHT_ENTRIES_MAX, LOG_ENTRIES_MAX, NoRoom, brought_fact, full_fact, let_in,
};

/// The code by which somebody breaks the glass, in v3-ActReason: a patient who allows it grants
/// this purpose.
#[must_use]
pub fn break_glass_code() -> Code {
    Code::new("http://terminology.hl7.org/CodeSystem/v3-ActReason", "BTG")
}

/// How many entries of a list that only grows one round looks at.
const LOOKED_AT_PER_ROUND: usize = 512;

/// How far the looks through lists that only grow are. Each round goes on from where the one before
/// it ended, so that it costs the same however long they are. A start without it begins anew.
#[derive(Debug, Default)]
pub struct Turns(Mutex<BTreeMap<String, EntryDigest>>);

impl Turns {
    /// After which entry of a list the next look begins.
    fn after(&self, list: &str) -> Option<EntryDigest> {
        self.0.lock().ok()?.get(list).copied()
    }

    /// Notes what a look found: the list ends there if that is less than a look holds.
    fn looked_at(&self, list: String, found: impl ExactSizeIterator<Item = EntryDigest>) {
        let is_last = found.len() < LOOKED_AT_PER_ROUND;
        let last = found.last().filter(|_| !is_last);
        let Ok(mut turns) = self.0.lock() else {
            return;
        };
        match last {
            Some(last) => turns.insert(list, last),
            None => turns.remove(&list),
        };
    }
}

/// A custodian's desk: the pipeline's parts, and the key that signs its log.
pub struct Desk {
    /// Store, node, chain, clock, chance.
    pub pipeline: Pipeline,
    /// Signs the custodian's log entries.
    pub author: SecretKey,
    /// How far the looks through its releases are; empty at the start.
    pub turns: Turns,
    /// Which contexts rest, because they are slow; none at the start.
    pub rests: Rests,
    /// How many entries a log has room for; [`LOG_ENTRIES_MAX`] but in tests.
    pub log_entries_max: u64,
}

impl Desk {
    /// One round of everything.
    ///
    /// # Errors
    /// A store that does not answer, a clock that is wrong. Whatever else hinders a step is said
    /// and tried again.
    pub async fn round(&self) -> Result<(), PipelineError> {
        self.pipeline.check_clock()?;
        carry::carry_all(self).await?;
        erase::say_all(self).await?;
        // Orders first: what is to be handed over may take long.
        erase::order_all(self).await?;
        answer::answer_all(self).await?;
        release::publish_all(self).await?;
        erase::acknowledge_all(self).await
    }

    /// Does one step in a context, within a bound.
    async fn step<T>(
        &self,
        context: ContextId,
        step: impl Future<Output = Result<T, PipelineError>>,
    ) -> Result<T, PipelineError> {
        self.rests.step(&*self.pipeline.clock, context, step).await
    }

    /// Enters a context through the guard, unless it rests.
    async fn enter(&self, context: ContextId) -> Result<Box<dyn Circle>, PipelineError> {
        self.rests.check(context, self.pipeline.now())?;
        let row = self.pipeline.store.circle(context).await?;
        self.step(context, async {
            let circles = &*self.pipeline.circles;
            Ok(guard::enter(circles, &self.pipeline.store, &row, self.pipeline.now()).await?)
        })
        .await
    }

    /// Says something in a context's log, unless it was said before: kept, published, read back.
    async fn log(&self, circle: &dyn Circle, says: &Body) -> Result<LogEntry, PipelineError> {
        let (store, now, context) = (&self.pipeline.store, self.pipeline.now(), circle.context());
        self.step(context, async {
            audit::catch_up(store, circle, &self.author, now).await?;
            let mut random = self.pipeline.random.lock().await;
            let said =
                audit::append_once(store, context, &self.author, says, now, &mut *random).await?;
            drop(random);
            audit::place(store, circle, &said, now).await?;
            Ok(said)
        })
        .await
    }

    /// What a request says.
    async fn requested(&self, request: EntryDigest) -> Result<Requested, PipelineError> {
        match self.pipeline.store.entry(request).await?.map(|e| e.body) {
            Some(Body::Requested(requested)) => Ok(requested),
            _ => Err(PipelineError::Broken(format!(
                "the store has no request {request}; restore its backup"
            ))),
        }
    }
}

/// Whether what went wrong is the store's; anything else hinders one step alone.
fn only_store(result: Result<(), PipelineError>, what: &str) -> Result<(), PipelineError> {
    match result {
        Err(error) if error.is_of_the_store() => Err(error),
        Err(error) => {
            tracing::warn!(%error, "{what} is tried again");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsync_protocol::felt::Felt;

    #[test]
    fn a_look_goes_on_where_the_one_before_it_ended_and_begins_anew_at_the_end() {
        let turns = Turns::default();
        let digest = |number: usize| EntryDigest::from_felt(Felt::from(number));
        let (whole, short) = (LOOKED_AT_PER_ROUND, LOOKED_AT_PER_ROUND - 1);
        assert_eq!(turns.after("a"), None);
        turns.looked_at("a".into(), (0..whole).map(digest));
        assert_eq!(turns.after("a"), Some(digest(short)));
        assert_eq!(turns.after("b"), None);
        turns.looked_at("a".into(), (0..short).map(digest));
        assert_eq!(turns.after("a"), None);
    }
}
