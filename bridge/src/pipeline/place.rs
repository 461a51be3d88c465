//! Place: every leaf's position goes into its circle before the batch is submitted.
//!
//! From then on a receipt can be made from the circle alone, whatever happens to this store. The
//! writes are idempotent: after a crash they are made again.
//!
//! No circle can keep the others of its batch waiting. If one is stopped by an alarm, refuses or
//! does not answer for a while, the batch, of which nothing was sent, is taken apart: the others
//! are sealed anew at once, and that circle's consents are tried again later, each time after twice
//! as long. A consent or a log that its circle does not have any more is left out alone: whoever
//! deletes its own entry keeps nobody else's waiting.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use medsync_protocol::ids::{Anchorer, ContextId};
use medsync_protocol::tree::{Root, Tree};

use super::{Pipeline, PipelineError};
use crate::guard::{self, GuardError};
use crate::source::{AnchorReport, Head, PlacedTicket, SourceError, StageReport};
use crate::store::batches::{Afterwards, BatchRow, BatchState};
use crate::store::consents::ConsentLeaf;
use crate::store::held::LeftOut;
use crate::store::log::LogEnd;

/// How long a sealed batch waits for a circle that does not answer, in seconds.
const CIRCLE_WAIT_S: u64 = 5 * 60;
/// What the app answers about what the circle does not have.
const UNKNOWN: [&str; 2] = ["unknown_consent", "unknown_log_entry"];

/// What did not take its place.
enum Unplaced {
    Consent(ConsentLeaf),
    Log(LogEnd),
    Ticket(ContextId),
}

impl Unplaced {
    const fn context(&self) -> ContextId {
        match self {
            Self::Consent(consent) => consent.context,
            Self::Log(end) => end.context,
            Self::Ticket(context) => *context,
        }
    }

    /// What of it is left out, where the circle does not have it.
    fn leave_out(&self, left_out: &mut LeftOut) {
        match self {
            Self::Consent(consent) => drop(left_out.consents.insert(consent.commitment)),
            Self::Log(end) => drop(left_out.logs.insert((end.context, end.author_key))),
            Self::Ticket(context) => drop(left_out.circles.insert(*context)),
        }
    }
}

type NotPlaced = Vec<(Unplaced, PipelineError)>;

/// Places every sealed batch.
///
/// # Errors
/// The first position that could not be written and may be soon, after all batches were tried.
pub async fn place_sealed(pipeline: &Pipeline, anchorer: Anchorer) -> Result<(), PipelineError> {
    let mut outcome = Ok(());
    for batch in pipeline.store.open_batches().await? {
        if batch.state == BatchState::Sealed {
            outcome = outcome.and(place(pipeline, &batch, anchorer).await);
        }
    }
    outcome
}

async fn place(
    pipeline: &Pipeline,
    batch: &BatchRow,
    anchorer: Anchorer,
) -> Result<(), PipelineError> {
    if let Err(error) = tree_of(pipeline, batch) {
        // Nothing was sent of it: what was in it is sealed anew, with other leaves.
        let (left_out, now) = (LeftOut::default(), pipeline.now());
        pipeline
            .store
            .dissolve_batch(batch.id, Afterwards::Sealed, &left_out, now)
            .await?;
        tracing::error!(%error, "a batch was taken apart: its leaves lead nowhere");
        return Ok(());
    }
    let consents = pipeline.store.consents_in(batch.id).await?;
    let untold = report(pipeline, batch, &consents, anchorer, StageReport::Sealed).await;
    let untold = untold.into_iter();
    let mut unplaced: NotPlaced = untold
        .map(|(consent, error)| (Unplaced::Consent(consent), error))
        .collect();
    place_heads(pipeline, batch, &mut unplaced).await?;
    place_tickets(pipeline, batch, anchorer, &mut unplaced).await?;
    let now = pipeline.now();
    let has_waited = now.0.saturating_sub(batch.sealed_at.0) >= CIRCLE_WAIT_S;
    let mut left_out = LeftOut::default();
    let mut waits = None;
    for (what, error) in unplaced {
        if is_unknown(&error) {
            what.leave_out(&mut left_out);
        } else if is_final(&error) || (has_waited && !is_node_down(&error)) {
            left_out.circles.insert(what.context());
        } else {
            waits.get_or_insert(error);
        }
    }
    if !left_out.is_empty() {
        pipeline
            .store
            .dissolve_batch(batch.id, Afterwards::Sealed, &left_out, now)
            .await?;
        tracing::warn!(
            batch = batch.id.0,
            circles = left_out.circles.len(),
            consents = left_out.consents.len(),
            logs = left_out.logs.len(),
            "a batch was taken apart: what did not take its position is left out",
        );
        return Ok(());
    }
    if let Some(error) = waits {
        return Err(error);
    }
    pipeline.store.place_batch(batch.id, None).await?;
    tracing::info!(batch = batch.id.0, "positions are in the circles");
    Ok(())
}

/// The circles of which nothing more is asked for this batch.
fn silent(unplaced: &NotPlaced) -> BTreeSet<ContextId> {
    let about_circle = unplaced.iter().filter(|(_, error)| !is_unknown(error));
    about_circle.map(|(what, _)| what.context()).collect()
}

/// Writes the heads of a batch into their contexts, and notes which did not take one.
async fn place_heads(
    pipeline: &Pipeline,
    batch: &BatchRow,
    unplaced: &mut NotPlaced,
) -> Result<(), PipelineError> {
    let tree = tree_of(pipeline, batch)?;
    let mut silent = silent(unplaced);
    for leaf in pipeline.store.heads_in(batch.id).await? {
        let end = leaf.end;
        if silent.contains(&end.context) {
            continue;
        }
        let head = Head {
            author_key: end.author_key,
            seq: end.seq,
            digest: end.digest,
            salt: leaf.salt,
            root: batch.root,
            proof: tree
                .proof(leaf.position)
                .ok_or_else(|| broken(batch, "a head stands outside of it"))?,
        };
        if let Err(error) = record_head(pipeline, end.context, &head).await {
            tracing::warn!(context = %end.context, %error, "a head could not be written");
            if !is_unknown(&error) {
                silent.insert(end.context);
            }
            unplaced.push((Unplaced::Log(end), error));
        }
    }
    Ok(())
}

async fn record_head(
    pipeline: &Pipeline,
    context: ContextId,
    head: &Head,
) -> Result<(), PipelineError> {
    let row = pipeline.store.circle(context).await?;
    let circle = guard::enter(&*pipeline.circles, &pipeline.store, &row, pipeline.now()).await?;
    circle.record_head(head).await?;
    Ok(())
}

/// Writes the tickets of a batch into their circles, and notes which did not take one.
async fn place_tickets(
    pipeline: &Pipeline,
    batch: &BatchRow,
    anchorer: Anchorer,
    unplaced: &mut NotPlaced,
) -> Result<(), PipelineError> {
    let tickets = pipeline.store.tickets_in(batch.id).await?;
    if tickets.is_empty() {
        return Ok(());
    }
    let (tree, mut silent) = (tree_of(pipeline, batch)?, silent(unplaced));
    for row in tickets {
        let proof = row.position.and_then(|position| tree.proof(position));
        let placed = PlacedTicket {
            ticket: row.ticket(anchorer),
            root: batch.root,
            proof: proof.ok_or_else(|| broken(batch, "a ticket stands outside of it"))?,
        };
        if silent.contains(&row.context) {
            continue;
        }
        if let Err(error) = put_ticket(pipeline, row.context, &placed).await {
            tracing::warn!(context = %row.context, %error, "a ticket could not be written");
            silent.insert(row.context);
            unplaced.push((Unplaced::Ticket(row.context), error));
        }
    }
    Ok(())
}

/// Writes a ticket with its place into its circle, unless it is there.
///
/// # Errors
/// A circle that is not entered, or does not take it.
pub(super) async fn put_ticket(
    pipeline: &Pipeline,
    context: ContextId,
    placed: &PlacedTicket,
) -> Result<(), PipelineError> {
    let row = pipeline.store.circle(context).await?;
    let circle = guard::enter(&*pipeline.circles, &pipeline.store, &row, pipeline.now()).await?;
    circle.put_ticket(placed).await?;
    Ok(())
}

fn broken(batch: &BatchRow, what: &str) -> PipelineError {
    PipelineError::Broken(format!("batch {}: {what}", batch.id.0))
}

/// The tree that was last built: a large batch is placed and told of in many steps, each of which
/// needs the paths.
#[derive(Clone, Default)]
pub struct LastTree(Arc<Mutex<Option<Arc<Tree>>>>);

impl LastTree {
    fn of(&self, root: Root) -> Option<Arc<Tree>> {
        let last = self.0.lock().ok()?.clone();
        last.filter(|tree| tree.root() == root)
    }

    fn keep(&self, tree: &Arc<Tree>) {
        if let Ok(mut last) = self.0.lock() {
            *last = Some(Arc::clone(tree));
        }
    }
}

/// The tree of a batch whose leaves are known here.
///
/// # Errors
/// Leaves that do not lead to the batch's root.
pub(crate) fn tree_of(pipeline: &Pipeline, batch: &BatchRow) -> Result<Arc<Tree>, PipelineError> {
    if let Some(known) = pipeline.last_tree.of(batch.root) {
        return Ok(known);
    }
    let tree = Tree::build(&batch.leaves).map_err(|error| broken(batch, &error.to_string()))?;
    if tree.root() != batch.root {
        let why = "its leaves do not lead to its root";
        return Err(broken(batch, why));
    }
    let tree = Arc::new(tree);
    pipeline.last_tree.keep(&tree);
    Ok(tree)
}

/// Whether waiting is of no use: the circle is stopped, its app refuses by name, or its row does
/// not open.
fn is_final(error: &PipelineError) -> bool {
    match error {
        PipelineError::Store(error) => error.is_of_a_row(),
        PipelineError::Guard(GuardError::Alarm { .. }) => true,
        PipelineError::Source(error) => error.refusal().is_some_and(|code| code != "failed"),
        _ => false,
    }
}

/// Whether the circle does not have what is to be placed: its member deleted it again.
fn is_unknown(error: &PipelineError) -> bool {
    let PipelineError::Source(error) = error else {
        return false;
    };
    error.refusal().is_some_and(|code| UNKNOWN.contains(&code))
}

/// Whether it is nothing about the circle: all of them have to wait.
pub(super) fn is_node_down(error: &PipelineError) -> bool {
    matches!(
        error,
        PipelineError::Source(SourceError::Unreachable { .. } | SourceError::Unauthorized)
            | PipelineError::Guard(GuardError::Source(
                SourceError::Unreachable { .. } | SourceError::Unauthorized
            ))
    ) || error.is_of_the_store()
}

/// Writes how far a batch is into the circles of these consents of it. Answers those that could
/// not be told, and why; once a circle does not answer, its other consents are not tried. One whose
/// path is not known here cannot be told.
pub async fn report(
    pipeline: &Pipeline,
    batch: &BatchRow,
    consents: &[ConsentLeaf],
    anchorer: Anchorer,
    stage: StageReport,
) -> Vec<(ConsentLeaf, PipelineError)> {
    // Of a batch that was taken over only the paths are known.
    let needs_tree = consents.iter().any(|consent| consent.proof.is_none());
    let tree = needs_tree.then(|| tree_of(pipeline, batch).ok()).flatten();
    let mut untold = Vec::new();
    let mut silent = BTreeSet::new();
    for consent in consents {
        if silent.contains(&consent.context) {
            continue;
        }
        let in_tree = || tree.as_ref()?.proof(consent.position?);
        let proof = consent.proof.clone().or_else(in_tree);
        let Some(proof) = proof else {
            let error = broken(batch, "its leaves lead to no path of a consent");
            untold.push((consent.clone(), error));
            continue;
        };
        let position = AnchorReport {
            commitment: consent.commitment,
            handle: consent.handle,
            root: batch.root,
            proof,
            anchorer,
            stage,
        };
        if let Err(error) = record(pipeline, consent.context, &position).await {
            let commitment = position.commitment;
            tracing::warn!(%commitment, %error, "a position could not be written");
            let is_refusal = matches!(error, PipelineError::Source(SourceError::Refused { .. }));
            // One refusal is enough to leave a circle out of a batch.
            if !is_refusal || stage == StageReport::Sealed && !is_unknown(&error) {
                silent.insert(consent.context);
            }
            untold.push((consent.clone(), error));
        } else {
            say(consent, batch, stage);
        }
    }
    untold
}

/// Says how far a consent is, under the name by which the log has it from its circle on.
fn say(consent: &ConsentLeaf, batch: &BatchRow, stage: StageReport) {
    let (track, batch) = (consent.commitment, batch.id.0);
    match stage {
        StageReport::Sealed => tracing::info!(%track, batch, "consent sealed"),
        StageReport::Submitted { transaction } => {
            tracing::info!(%track, batch, %transaction, "consent submitted");
        }
        StageReport::Anchored { block, .. } => {
            let block = block.number.0;
            tracing::info!(%track, batch, block, "consent anchored");
        }
    }
}

async fn record(
    pipeline: &Pipeline,
    context: ContextId,
    position: &AnchorReport,
) -> Result<(), PipelineError> {
    let row = pipeline.store.circle(context).await?;
    let circle = guard::enter(&*pipeline.circles, &pipeline.store, &row, pipeline.now()).await?;
    circle.record_anchor(position).await?;
    Ok(())
}
