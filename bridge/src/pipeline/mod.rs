//! The pipeline: from a circle to the chain and back.
//!
//! The lanes run beside each other over one store, so that no lane waits for another:
//!
//! - [`ingest`]: what is new in the circles comes into the store;
//! - [`relay`]: revocations go out first and alone, from an account of their own;
//! - [`claims`]: rewards that patients claim go out, from another account of their own;
//! - [`watch`]: what the chain says of what was believed to be settled;
//! - [`fees`]: what all of that has cost;
//! - [`retention`]: what is not needed any more;
//! - [`take_over`] → [`tickets`] → [`seal`] → [`place`] → [`submit`] → [`confirm`] → [`tell`]:
//!   consents become batches, positions, one transaction, and receipts.
//!
//! Each step reads its input from the store, does one thing, and writes what it did. A step that
//! is interrupted anywhere is simply done again: the normal path and recovery are one path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use medsync_protocol::consent::Registry;
use medsync_protocol::ids::{Anchorer, ClassHash, UnixSeconds};
use medsync_protocol::tree::Root;
use rand_core::CryptoRng;
use tokio::sync::{Mutex, OnceCell};

use crate::audit::AuditError;
use crate::chain::{Account, BlockAt, Chain, ChainError};
use crate::guard::{Circles, GuardError};
use crate::seams::Clock;
use crate::source::SourceError;
use crate::store::{Store, StoreError};

pub mod claims;
pub mod confirm;
mod errand;
pub mod fees;
pub mod ingest;
pub mod place;
pub mod relay;
pub mod retention;
pub mod seal;
pub mod submit;
pub mod take_over;
pub mod tell;
pub mod tickets;
pub mod watch;

/// When a batch closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchBounds {
    /// It closes when its oldest consent waits this long, in seconds.
    pub age_s_max: u64,
    /// It closes when it has this many consents.
    pub consents_max: u32,
}

/// Everything that the lanes work with; each of the outer parts is a seam.
#[derive(Clone)]
pub struct Pipeline {
    /// The party's store.
    pub store: Store,
    /// The party's node.
    pub circles: Arc<dyn Circles>,
    /// Starknet.
    pub chain: Arc<dyn Chain>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The random source, for padding and order.
    pub random: Arc<Mutex<dyn CryptoRng + Send>>,
    /// Where this party anchors and revokes.
    pub registry: Registry,
    /// The class that the contract there has to be of.
    pub class_hash: ClassHash,
    /// The account that anchors; a patient has none.
    pub anchor_account: Option<Arc<dyn Account>>,
    /// The account that revokes; a patient may have none.
    pub revoke_account: Option<Arc<dyn Account>>,
    /// The account that sends claims; who has none sends none.
    pub claim_account: Option<Arc<dyn Account>>,
    /// How long a revocation is left to somebody else's relay, in seconds; 0 for a custodian.
    pub relay_after_s: u64,
    /// How old the newest block may be when the chain is asked what is revoked, in seconds.
    pub block_age_s_max: u64,
    /// How far this clock may be behind the chain's newest block, in seconds; nothing but
    /// revocations is written beyond it.
    pub clock_behind_s_max: u64,
    /// How far it was when the watch last looked, in seconds.
    pub clock_behind_s: Arc<AtomicU64>,
    /// How far ahead of it, at most, another member's was since [`Pipeline::word_of_peers`] said
    /// so, in seconds.
    pub peers_ahead_s: Arc<AtomicU64>,
    /// When a batch closes.
    pub batch: BatchBounds,
    /// How long what is needed no more is kept, in seconds.
    pub retention_s: u64,
    /// How many entries of one circle are kept; [`ingest::SEEN_MAX`] but in tests.
    pub seen_max: usize,
    /// Where the reading of each circle is; empty at the start.
    pub readings: ingest::Readings,
    /// The tree of the batch that was last placed or told of; empty at the start.
    pub last_tree: place::LastTree,
    /// Whether the endpoint was found to be the right one; empty at the start.
    pub chain_is_right: Arc<OnceCell<()>>,
}

/// Why a step could not be done this time.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A node did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A circle is not entered.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The chain did not answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A log entry could not be written or read back.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The endpoint lags or lies.
    #[error(
        "the endpoint's newest block is of {block}, and it is {now}: older than {age_s_max} s \
         (block_age_s_max). What was revoked since would not show"
    )]
    OldBlock {
        /// The newest block's time, in unix seconds.
        block: UnixSeconds,
        /// Now.
        now: UnixSeconds,
        /// What is believed, in seconds.
        age_s_max: u64,
    },
    /// This machine's clock is wrong.
    #[error(
        "this machine's clock is {0} s behind what the Starknet endpoint says: set it right, or \
         use another endpoint. Nothing is anchored, answered, granted or asked for until then; \
         revocations go on"
    )]
    ClockBehind(u64),
    /// What the store holds does not fit together.
    #[error("{0}")]
    Broken(String),
}

impl PipelineError {
    /// Whether the store itself does not answer, so that nothing goes on. Whatever else goes wrong
    /// hinders one circle or one step, also a row that does not open.
    #[must_use]
    pub const fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Store(error) if !error.is_of_a_row())
    }
}

/// The fact under which it is kept since when a batch is on chain.
fn on_chain_fact(anchorer: Anchorer, root: Root) -> String {
    format!("on_chain:{anchorer}:{root}")
}

impl Pipeline {
    /// Since when a batch is on chain, as the chain said once.
    pub(crate) async fn known_anchored(
        &self,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, StoreError> {
        let kept = self.store.fact(&on_chain_fact(anchorer, root)).await?;
        Ok(kept.and_then(|text| text.parse().ok()).map(UnixSeconds))
    }

    /// Asks the chain since when it has a batch; what it has is kept.
    pub(crate) async fn ask_anchored(
        &self,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, PipelineError> {
        self.check_chain().await?;
        let registry = self.registry.registry;
        let at = self.chain.anchored_at(registry, anchorer, root).await?;
        if let Some(at) = at {
            let fact = on_chain_fact(anchorer, root);
            self.store.state_fact(&fact, &at.0.to_string()).await?;
        }
        Ok(at)
    }

    pub(crate) fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// The address under which this party anchors.
    pub(crate) fn anchorer(&self) -> Option<Anchorer> {
        self.anchor_account
            .as_ref()
            .map(|account| Anchorer::from_felt(account.address().felt()))
    }

    /// Makes sure, until it was sure once, that the endpoint serves the chain and the contract that
    /// are believed in.
    ///
    /// # Errors
    /// Another chain, no contract or one of another class, an endpoint that does not answer.
    pub async fn check_chain(&self) -> Result<(), PipelineError> {
        let sure = self.chain_is_right.get_or_try_init(|| self.ask_chain());
        Ok(sure.await.copied()?)
    }

    /// Makes sure that an answer about revocations is of a block of now.
    pub(crate) fn check_recent(&self, block: BlockAt) -> Result<(), PipelineError> {
        self.check_not_ahead(block.time)?;
        let (block, now, age_s_max) = (block.time, self.now(), self.block_age_s_max);
        if now.0.saturating_sub(block.0) > age_s_max {
            return Err(PipelineError::OldBlock {
                block,
                now,
                age_s_max,
            });
        }
        Ok(())
    }

    /// Makes sure that this clock was right when the watch last looked.
    ///
    /// # Errors
    /// [`PipelineError::ClockBehind`].
    pub(crate) fn check_clock(&self) -> Result<(), PipelineError> {
        let behind_s = self.behind_s();
        if behind_s > self.clock_behind_s_max {
            return Err(PipelineError::ClockBehind(behind_s));
        }
        Ok(())
    }

    /// Makes sure that something that the chain says to have happened has not yet to come.
    pub(crate) fn check_not_ahead(&self, at: UnixSeconds) -> Result<(), PipelineError> {
        let behind_s = at.0.saturating_sub(self.now().0);
        if behind_s > self.clock_behind_s_max {
            return Err(PipelineError::ClockBehind(behind_s));
        }
        Ok(())
    }

    /// How far this clock was behind the chain's newest block when that was last asked, in seconds.
    #[must_use]
    pub fn behind_s(&self) -> u64 {
        self.clock_behind_s.load(Ordering::Relaxed)
    }

    /// Notes how far this clock is behind a block: none is of a time to come.
    pub(crate) fn note_block(&self, block: BlockAt) {
        let behind_s = block.time.0.saturating_sub(self.now().0);
        self.clock_behind_s.store(behind_s, Ordering::Relaxed);
    }

    /// Notes when another member wrote an entry, by its own clock.
    pub(crate) fn note_peer(&self, wrote_at: UnixSeconds) {
        let ahead_s = wrote_at.0.saturating_sub(self.now().0);
        self.peers_ahead_s.fetch_max(ahead_s, Ordering::Relaxed);
    }

    /// What other members' clocks said against this one since this was last asked, empty if
    /// nothing. It is for people to see and stops nothing: a member could stop everybody else's
    /// patients with a wrong time.
    #[must_use]
    pub fn word_of_peers(&self) -> String {
        let ahead_s = self.peers_ahead_s.swap(0, Ordering::Relaxed);
        if ahead_s <= self.clock_behind_s_max {
            return String::new();
        }
        format!(
            "another member wrote {ahead_s} s ahead of this machine's clock: set it right; nodes \
             take nothing from each other that is more than 5 s ahead"
        )
    }

    async fn ask_chain(&self) -> Result<(), ChainError> {
        let registry = self.registry;
        self.chain
            .check(registry.chain_id, registry.registry, self.class_hash)
            .await?;
        // Before anything is written: whether the clock is right.
        self.note_block(self.chain.tip_by_all().await?);
        Ok(())
    }

    /// One round of the batches' lane: seals what is due, then moves every open batch as far as
    /// it gets. Answers whether anything is still on its way.
    ///
    /// # Errors
    /// The first step that could not be done; the next round does it again.
    pub async fn batch_round(&self) -> Result<bool, PipelineError> {
        let (Some(account), Some(anchorer)) = (self.anchor_account.clone(), self.anchorer()) else {
            return Ok(false);
        };
        self.check_clock()?;
        // What hinders one step or one batch must not keep the others.
        let taken_over = take_over::take_over_places(self, anchorer).await;
        let issued = tickets::issue_due(self).await;
        let sealed = seal::seal_due(self, anchorer).await;
        let placed = place::place_sealed(self, anchorer).await;
        let submitted = submit::submit_next(self, &*account, anchorer).await;
        let confirmed = confirm::confirm_submitted(self, &*account, anchorer).await;
        let told = tell::tell_due(self, anchorer).await;
        let made = taken_over.and(issued).and(sealed);
        made.and(placed).and(submitted).and(confirmed).and(told)?;
        Ok(!self.store.open_batches().await?.is_empty())
    }
}
