//! `medsync fsck`: whether a party's store, its circles and the chain fit together.
//!
//! It mends nothing; entering a circle raises the alarms that it always does. What is under way is
//! no discrepancy; what does not fit is named, with what it means and whether the daemon mends it
//! by itself. A daemon may run meanwhile: what it has just written may then be named, and is gone
//! with the next look.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::audit::RecordRef;
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{Anchorer, ContextId, ContextKind};
use medsync_protocol::secrets::Handle;
use medsync_protocol::tree::{Root, Tree};
use serde::Serialize;

use crate::chain::REVOCATIONS_MAX;
use crate::guard;
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{
    Change, Circle, Consent, EntryBody, EntryKind, all_changes, all_consents, all_records,
};
use crate::store::batches::{BatchId, BatchRow, BatchState};
use crate::store::circles::{CircleRow, UnreadableCircle};

/// How many batches are read at once.
const BATCHES_AT_ONCE: u32 = 64;

/// Something that does not fit together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Discrepancy {
    /// The database itself is damaged.
    Damaged {
        /// In its own words.
        why: String,
    },
    /// A consent or a revocation in the store does not open.
    Unreadable {
        /// Its circle.
        context: ContextId,
        /// What of it.
        why: String,
    },
    /// What the store pinned or saw of a circle does not open: its own row, an entry that was seen,
    /// or a change of its party's key.
    UnreadableCircle {
        /// Its context, as the store names it.
        circle: String,
        /// What of it.
        why: String,
    },
    /// A batch's leaves do not lead to its root, or a consent does not stand where it should.
    BrokenBatch {
        /// Its number.
        batch: i64,
        /// Which of both.
        why: String,
    },
    /// The store says that the chain has a batch, and the chain does not.
    BatchNotOnChain {
        /// Its number.
        batch: i64,
        /// Its root.
        root: Root,
    },
    /// The account has anchored what this store does not know, or not in this order.
    OtherHead {
        /// What the store's batches lead to.
        expected: AnchorHead,
        /// What the chain says.
        found: AnchorHead,
    },
    /// The store says that the chain has a revocation, and the chain does not.
    RevocationNotOnChain {
        /// What it opens.
        handle: Handle,
    },
    /// A circle is not entered.
    NotEntered {
        /// Which.
        context: ContextId,
        /// Why.
        why: String,
    },
    /// A circle has entries that this store has not taken in.
    NotTakenIn {
        /// Which.
        context: ContextId,
        /// How many, by kind.
        entries: BTreeMap<&'static str, usize>,
    },
    /// Entries that were seen are gone from a circle, or have another content.
    Evidence {
        /// Which.
        context: ContextId,
        /// In words.
        what_was_done: String,
    },
    /// A consent is on chain and its circle does not show where.
    NotPlaced {
        /// The circle.
        context: ContextId,
        /// The consent.
        consent: Commitment,
    },
    /// A consent stands in several batches that are on chain.
    AnchoredTwice {
        /// The circle.
        context: ContextId,
        /// The consent.
        consent: Commitment,
        /// The batches.
        roots: Vec<Root>,
    },
    /// The custodian has no key that opens to some records, and did not erase them.
    NoKeys {
        /// The circle.
        context: ContextId,
        /// How many versions of records.
        records: usize,
    },
    /// A revocation that goes out is not in its circle.
    NotPublished {
        /// The circle.
        context: ContextId,
        /// How many.
        revocations: usize,
    },
}

impl Discrepancy {
    /// What it means, for people.
    #[must_use]
    pub const fn meaning(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "the file is damaged: restore the backup",
            Self::Unreadable { .. } => {
                "nothing is released on such a consent, and such a revocation is not sent: `fsck \
                 --rebuild` reads them from their circle again"
            }
            Self::UnreadableCircle { .. } => {
                "nothing is taken in from it or released of it, and the others go on: what is \
                 missing comes from a backup alone, restore it"
            }
            Self::BrokenBatch { .. } => {
                "receipts of this batch cannot be made from here, and the circles' are sound: what \
                 is on its way goes on, and once it is on chain `fsck --rebuild` takes them over"
            }
            Self::BatchNotOnChain { .. } => {
                "the endpoint is behind, or the chain dropped a block: the daemon sends it again"
            }
            Self::OtherHead { .. } => {
                "another process uses this account, or this store is older than the chain: the \
                 daemon goes on after whatever the chain has"
            }
            Self::RevocationNotOnChain { .. } => {
                "the endpoint is behind, or the chain dropped a block: the daemon sends it again"
            }
            Self::NotEntered { .. } => {
                "nothing is read from it or written to it: see what stopped it, then `resume`"
            }
            Self::NotTakenIn { .. } => "the daemon takes them in",
            Self::Evidence { .. } => {
                "somebody deleted or replaced them: they stay in force here, and come back where \
                 that is possible"
            }
            Self::NotPlaced { .. } => {
                "a receipt cannot be made from the circle alone: somebody deleted its place"
            }
            Self::AnchoredTwice { .. } => "harmless, and should not be: report it",
            Self::NoKeys { .. } => {
                "they were imported after the backup from which this home was restored, or by \
                 another, or the keys here do not open: import them again, or restore the backup"
            }
            Self::NotPublished { .. } => "the daemon brings them into the circle",
        }
    }

    /// Whether the daemon mends it by itself.
    #[must_use]
    pub const fn is_mended(&self) -> bool {
        matches!(
            self,
            Self::BatchNotOnChain { .. }
                | Self::RevocationNotOnChain { .. }
                | Self::NotTakenIn { .. }
                | Self::NotPublished { .. }
        )
    }
}

/// Where a look is: for people who wait.
pub trait Progress {
    /// What is looked at now, and how many of how many.
    fn at(&self, what: &'static str, done: usize, of: usize);
}

/// Makes the outbox and the queue of a store anew; the daemon, which must not run meanwhile, does
/// the rest. Broken batches, and what does not open, as [`fsck`] found them, are taken over from
/// the circles.
///
/// # Errors
/// A store that does not answer; it is then done again.
pub async fn rebuild(pipeline: &Pipeline, found: &[Discrepancy]) -> Result<(), PipelineError> {
    let broken = found.iter().filter_map(|one| match one {
        Discrepancy::BrokenBatch { batch, .. } => Some(BatchId(*batch)),
        _ => None,
    });
    let broken: Vec<BatchId> = broken.collect();
    let unreadable = found.iter().filter_map(|one| match one {
        Discrepancy::Unreadable { context, .. } => Some(*context),
        _ => None,
    });
    let unreadable: Vec<ContextId> = unreadable.collect();
    let store = &pipeline.store;
    Ok(store.rebuild(&broken, &unreadable, pipeline.now()).await?)
}

/// Looks at everything.
///
/// # Errors
/// A store, or a chain, that does not answer. A circle that does not is a discrepancy.
pub async fn fsck(
    pipeline: &Pipeline,
    progress: &dyn Progress,
) -> Result<Vec<Discrepancy>, PipelineError> {
    let mut found: Vec<Discrepancy> = Vec::new();
    let damage = pipeline.store.damage().await?;
    found.extend(damage.into_iter().map(|why| Discrepancy::Damaged { why }));
    pipeline.check_chain().await?;
    let mut on_chain = BTreeMap::new();
    if let Some(anchorer) = pipeline.anchorer() {
        on_chain = batches(pipeline, anchorer, progress, &mut found).await?;
    }
    revocations(pipeline, progress, &mut found).await?;
    let (rows, unreadable) = pipeline.store.readable_circles().await?;
    for UnreadableCircle { name, why } in unreadable {
        let (circle, why) = (name, why.to_string());
        found.push(Discrepancy::UnreadableCircle { circle, why });
    }
    for (done, row) in rows.iter().enumerate() {
        progress.at("circles", done, rows.len());
        match look_at_circle(pipeline, row, &mut on_chain, &mut found).await {
            Err(PipelineError::Store(error)) if error.is_of_a_row() => {
                let (circle, why) = (row.context.to_string(), error.to_string());
                found.push(Discrepancy::UnreadableCircle { circle, why });
            }
            looked => looked?,
        }
    }
    Ok(found)
}

/// Looks at what the store has of a circle, and into the circle.
///
/// # Errors
/// A store that does not answer; a row without which the circle cannot be looked into.
async fn look_at_circle(
    pipeline: &Pipeline,
    row: &CircleRow,
    on_chain: &mut BTreeMap<Root, bool>,
    found: &mut Vec<Discrepancy>,
) -> Result<(), PipelineError> {
    let (store, context) = (&pipeline.store, row.context);
    if let Some(why) = unreadable(pipeline, context).await? {
        found.push(Discrepancy::Unreadable { context, why });
    }
    let seen = store.unreadable_seen(context).await?;
    if let Some(error) = seen.or(store.unreadable_key_change(context).await?) {
        return Err(error.into());
    }
    match guard::enter(&*pipeline.circles, store, row, pipeline.now()).await {
        Ok(circle) => look_into(pipeline, row, &*circle, on_chain, found).await?,
        Err(guard::GuardError::Store(error)) => return Err(error.into()),
        Err(error) => found.push(Discrepancy::NotEntered {
            context,
            why: error.to_string(),
        }),
    }
    Ok(())
}

/// Looks at every batch, and asks the chain for those that it has by the store's word; answers the
/// roots that are there.
async fn batches(
    pipeline: &Pipeline,
    anchorer: Anchorer,
    progress: &dyn Progress,
    found: &mut Vec<Discrepancy>,
) -> Result<BTreeMap<Root, bool>, PipelineError> {
    let (store, registry) = (&pipeline.store, pipeline.registry.registry);
    let (mut after, mut known) = (BatchId(0), Vec::new());
    loop {
        let some = store.anchored_batches(after, BATCHES_AT_ONCE).await?;
        let Some(last) = some.last() else { break };
        after = last.id;
        for batch in some {
            progress.at("batches", known.len(), known.len() + 1);
            if let Some(why) = what_is_broken(pipeline, &batch).await? {
                let batch = batch.id.0;
                found.push(Discrepancy::BrokenBatch { batch, why });
            }
            let anchored = pipeline
                .chain
                .anchored_at_by_most(registry, anchorer, batch.root);
            if anchored.await?.is_none() {
                let (batch, root) = (batch.id.0, batch.root);
                found.push(Discrepancy::BatchNotOnChain { batch, root });
            } else {
                known.push(batch);
            }
        }
    }
    for batch in store.open_batches().await? {
        if let Some(why) = what_is_broken(pipeline, &batch).await? {
            let batch = batch.id.0;
            found.push(Discrepancy::BrokenBatch { batch, why });
        }
    }
    // In the order in which they moved the head; of one that was taken over too little is known.
    known.sort_by_key(|batch| {
        // One that was found on chain later has its own time, and the block in which it was found.
        let landed = batch.block.map(|(block, time)| (time, block.number.0));
        (landed, batch.id)
    });
    let expected = known.iter().fold(AnchorHead::START, |head, batch| {
        head.next(batch.root, LeafCount(batch.leaf_count))
    });
    let head = pipeline.chain.head_of(registry, anchorer).await?;
    let are_all_whole = known.iter().all(|batch| batch.leaf_count > 0);
    if head != expected && are_all_whole {
        let found_there = Discrepancy::OtherHead {
            expected,
            found: head,
        };
        found.push(found_there);
    }
    Ok(known.iter().map(|batch| (batch.root, true)).collect())
}

/// What is wrong with a batch in the store alone.
async fn what_is_broken(
    pipeline: &Pipeline,
    batch: &BatchRow,
) -> Result<Option<String>, PipelineError> {
    if batch.is_unreadable {
        return Ok(Some("its leaves cannot be read".into()));
    }
    let consents = pipeline.store.consents_in(batch.id).await?;
    if batch.leaves.is_empty() && batch.state == BatchState::Anchored {
        // Taken over from the circles, or old: each consent has its path.
        let astray = consents.iter().find(|consent| {
            let proof = consent.proof.as_ref();
            !proof.is_some_and(|proof| proof.includes(consent.leaf, batch.root))
        });
        return Ok(astray.map(|consent| format!("the path of {} leads astray", consent.commitment)));
    }
    let tree = match Tree::build(&batch.leaves) {
        Ok(tree) if tree.root() == batch.root => tree,
        Ok(_) => return Ok(Some("its leaves lead to another root".into())),
        Err(error) => return Ok(Some(error.to_string())),
    };
    let astray = consents.iter().find(|consent| {
        let proof = consent.position.and_then(|position| tree.proof(position));
        !proof.is_some_and(|proof| proof.includes(consent.leaf, batch.root))
    });
    Ok(astray.map(|consent| format!("{} does not stand in its place", consent.commitment)))
}

/// Looks at every revocation that is on chain by the store's word.
async fn revocations(
    pipeline: &Pipeline,
    progress: &dyn Progress,
    found: &mut Vec<Discrepancy>,
) -> Result<(), PipelineError> {
    let (store, registry) = (&pipeline.store, pipeline.registry.registry);
    let landed = store.landed_revocations().await?;
    for (at, some) in landed.chunks(REVOCATIONS_MAX).enumerate() {
        progress.at("revocations", at * REVOCATIONS_MAX, landed.len());
        let (times, _) = pipeline.chain.revoked_at(registry, some).await?;
        let missing = some.iter().zip(times).filter(|(_, time)| time.is_none());
        found.extend(
            missing.map(|(handle, _)| Discrepancy::RevocationNotOnChain { handle: *handle }),
        );
    }
    Ok(())
}

/// What of a circle does not open in the store, if anything.
async fn unreadable(
    pipeline: &Pipeline,
    context: ContextId,
) -> Result<Option<String>, PipelineError> {
    let store = &pipeline.store;
    let consent = match store.consents_in_circle(context).await {
        Err(error) if error.is_of_a_row() => Some(error),
        read => read.map(|_| None)?,
    };
    let revocation = store.unreadable_revocation(context).await?;
    Ok(consent.or(revocation).map(|error| error.to_string()))
}

/// Looks into a circle.
async fn look_into(
    pipeline: &Pipeline,
    row: &CircleRow,
    circle: &dyn Circle,
    on_chain: &mut BTreeMap<Root, bool>,
    found: &mut Vec<Discrepancy>,
) -> Result<(), PipelineError> {
    let (store, context) = (&pipeline.store, row.context);
    let walked = all_changes(circle).await?;
    let unseen = store.unseen(context, &walked).await?;
    let mut entries: BTreeMap<&'static str, usize> = BTreeMap::new();
    for entry in unseen.new.iter().chain(&unseen.replaced) {
        *entries.entry(entry.kind.name()).or_default() += 1;
    }
    if !entries.is_empty() {
        found.push(Discrepancy::NotTakenIn { context, entries });
    }
    if let Some(what_was_done) = store.evidence(context).await?.describe() {
        found.push(Discrepancy::Evidence {
            context,
            what_was_done,
        });
    }
    let there: BTreeSet<Handle> = revoked_there(circle, &walked).await?;
    let kept = store.published_revocations(context).await?;
    let revocations = kept.iter().filter(|handle| !there.contains(handle)).count();
    if revocations > 0 {
        found.push(Discrepancy::NotPublished {
            context,
            revocations,
        });
    }
    if row.kind == ContextKind::Circle && row.member == row.custodian_member {
        for consent in all_consents(circle).await? {
            look_at(pipeline, context, &consent, on_chain, found).await?;
        }
        let records = without_key(pipeline, circle).await?;
        if records > 0 {
            found.push(Discrepancy::NoKeys { context, records });
        }
    }
    Ok(())
}

/// How many records of a circle this custodian neither opens nor erased.
async fn without_key(pipeline: &Pipeline, circle: &dyn Circle) -> Result<usize, PipelineError> {
    let (store, context) = (&pipeline.store, circle.context());
    let erased = store.erased_records(context, false).await?;
    let mut without = 0;
    for record in all_records(circle, None).await? {
        let what = RecordRef {
            record: record.record,
            version: record.version.0,
        };
        let has_key = match store.record_secret(context, what).await {
            Err(error) if error.is_of_a_row() => false,
            read => read?.is_some(),
        };
        without += usize::from(!has_key && !erased.contains(&what));
    }
    Ok(without)
}

/// The handles that a circle's revocations open.
async fn revoked_there(
    circle: &dyn Circle,
    walked: &[Change],
) -> Result<BTreeSet<Handle>, PipelineError> {
    let mut handles = BTreeSet::new();
    for change in walked {
        if change.kind != EntryKind::Revocation {
            continue;
        }
        let entry = circle.entry(change.kind, change.key).await?;
        if let Some(EntryBody::Revocation(revocation)) = entry.body {
            handles.insert(revocation.handle);
        }
    }
    Ok(handles)
}

/// Looks at one consent of a custodian's circle.
async fn look_at(
    pipeline: &Pipeline,
    context: ContextId,
    consent: &Consent,
    on_chain: &mut BTreeMap<Root, bool>,
    found: &mut Vec<Discrepancy>,
) -> Result<(), PipelineError> {
    let (store, commitment) = (&pipeline.store, consent.commitment);
    let mut shown: BTreeSet<Root> = BTreeSet::new();
    for position in &consent.anchors {
        let is_own = pipeline.anchorer() == Some(position.anchorer);
        if is_own && position.proof.includes(consent.leaf(), position.root) {
            shown.insert(position.root);
        }
    }
    let mut roots = Vec::new();
    for root in shown {
        if is_on_chain(pipeline, root, on_chain).await? {
            roots.push(root);
        }
    }
    if roots.len() > 1 {
        found.push(Discrepancy::AnchoredTwice {
            context,
            consent: commitment,
            roots: roots.clone(),
        });
    }
    if store.is_told(commitment).await? && roots.is_empty() {
        found.push(Discrepancy::NotPlaced {
            context,
            consent: commitment,
        });
    }
    Ok(())
}

/// Whether a batch of this custodian is on chain; also one that this store does not know.
async fn is_on_chain(
    pipeline: &Pipeline,
    root: Root,
    known: &mut BTreeMap<Root, bool>,
) -> Result<bool, PipelineError> {
    let Some(anchorer) = pipeline.anchorer() else {
        return Ok(false);
    };
    if let Some(is_there) = known.get(&root) {
        return Ok(*is_there);
    }
    let registry = pipeline.registry.registry;
    let anchored = pipeline.chain.anchored_at_by_most(registry, anchorer, root);
    let is_there = anchored.await?.is_some();
    known.insert(root, is_there);
    Ok(is_there)
}
