//! What this party wrote or heard of and its circles lack, or their custodian may lack.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;

use medsync_protocol::ids::{ContextId, UnixSeconds};

use crate::audit::{self, AuditError};
use crate::chain::REVOCATIONS_MAX;
use crate::guard;
use crate::pipeline::{Pipeline, PipelineError};
use crate::source::{Consent, all_consents};
use crate::store::consents::OpenGrant;
use crate::store::facts::PUBLISH_REVOCATION;

/// After how long what nobody shows to have heard of is written down once more, in seconds, and how
/// often at most.
const UNHEARD_S: u64 = 10 * 60;
const COPIES_MAX: u32 = 8;
/// And a key change, of which nothing says that the custodian has it.
const CHANGE_COPIES_MAX: u32 = 4;
/// How long after it was seen here it is copied at most, in seconds.
const CHANGE_COPIED_WITHIN_S: u64 = 30 * 24 * 60 * 60;
/// How long a consent has to get its place in a batch before that, in seconds: batches close after
/// a while, and what is on its way is not written down twice.
const PLACED_WITHIN_S: u64 = 20 * 60;
/// How many of a patient's consents without a place are looked at in one round.
const GRANTS_LOOKED_AT: u32 = 64;

/// Brings revocations into their circles that are not there, or not any more; a few a round. One
/// that cannot be brought is put off and keeps no other out.
///
/// # Errors
/// A store that does not answer.
pub async fn publish_revocations(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let asked = pipeline.store.asked(PUBLISH_REVOCATION, pipeline.now());
    for subject in asked.await? {
        if let Err(error) = publish(pipeline, &subject).await {
            tracing::warn!(handle = subject, %error, "a revocation is not in its circle yet");
            let now = pipeline.clock.now();
            pipeline
                .store
                .put_off(PUBLISH_REVOCATION, &subject, now)
                .await?;
        }
    }
    Ok(())
}

/// Writes down once more what the custodian shows no sign of having for long, ever more seldom:
/// whoever heard of an entry first may have kept it from the custodian's node, which shows nothing
/// here. Of a revocation the sign is the chain, of a consent a block that a witness names; of a key
/// change there is none.
///
/// # Errors
/// A store that does not answer.
pub async fn copy_unheard(pipeline: &Pipeline) -> Result<(), PipelineError> {
    if pipeline.anchorer().is_some() {
        return Ok(());
    }
    copy_revocations(pipeline).await?;
    copy_key_changes(pipeline).await?;
    copy_grants(pipeline).await
}

async fn copy_revocations(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    for revocation in store.open_revocations(REVOCATIONS_MAX as u32).await? {
        // Anybody opens handles of its own making: copies of those would fill this member's room.
        if !store.has_consent_of(revocation.handle).await? {
            continue;
        }
        let Some(due) = due_copies(pipeline, &revocation.handle).await? else {
            continue;
        };
        let copies = due.copies;
        if due.attempts == COPIES_MAX {
            tracing::error!(
                handle = %revocation.handle,
                "ALARM: the hospital brings no revocation to the chain: see `medsync patient show`",
            );
        }
        if copies > COPIES_MAX {
            if due.attempts == COPIES_MAX {
                note_copies(pipeline, &revocation.handle, due, Ok(false)).await?;
            }
            continue;
        }
        let opening = (&revocation.secret, revocation.claim_key);
        let copied = async {
            let row = store.circle(revocation.context).await?;
            let Some(circle) = guard::enter_for_revocations(&*pipeline.circles, &row).await? else {
                return Ok(false);
            };
            circle.revoke(opening.0, opening.1, copies).await?;
            Ok::<bool, PipelineError>(true)
        };
        note_copies(pipeline, &revocation.handle, due, copied.await).await?;
    }
    Ok(())
}

/// Those by the recovery key alone: a thief of the other makes as many changes as it likes, and
/// copies of them would fill this member's room, which the recovery key needs.
async fn copy_key_changes(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let since = UnixSeconds(pipeline.now().0.saturating_sub(CHANGE_COPIED_WITHIN_S));
    for (context, kept) in pipeline.store.recovered_since(since).await? {
        let change = kept.change;
        let of = format!("{context}:{}:{}", change.seq, change.new_key);
        let due = due_copies(pipeline, &of).await?;
        let Some(due) = due.filter(|due| due.copies <= CHANGE_COPIES_MAX) else {
            continue;
        };
        let copied = async {
            let row = pipeline.store.circle(context).await?;
            let Some(circle) = guard::enter_for_revocations(&*pipeline.circles, &row).await? else {
                return Ok(false);
            };
            circle.change_key(&kept, due.copies).await?;
            Ok::<bool, PipelineError>(true)
        };
        note_copies(pipeline, &of, due, copied.await).await?;
    }
    Ok(())
}

async fn copy_grants(pipeline: &Pipeline) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let mut circles: BTreeMap<ContextId, Vec<Consent>> = BTreeMap::new();
    for grant in store.open_grants(GRANTS_LOOKED_AT).await? {
        // What was granted in times to come was granted by a clock that was wrong.
        if pipeline.now().0.abs_diff(grant.made_at.0) < PLACED_WITHIN_S {
            continue;
        }
        let Some(due) = due_copies(pipeline, &grant.commitment).await? else {
            continue;
        };
        let copied = copy_grant(pipeline, &grant, due, &mut circles).await;
        note_copies(pipeline, &grant.commitment, due, copied).await?;
    }
    Ok(())
}

/// Writes a consent down once more, unless it is over, or its circle shows the block
/// that has it; answers whether it did. After the last time it says so and looks no more.
async fn copy_grant(
    pipeline: &Pipeline,
    grant: &OpenGrant,
    due: Due,
    circles: &mut BTreeMap<ContextId, Vec<Consent>>,
) -> Result<bool, PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let kept = store.kept_grant(&grant.request).await?;
    let Some(kept) = kept.filter(|kept| !kept.opening.is_over(now)) else {
        store.grant_is_settled(grant.commitment).await?;
        return Ok(false);
    };
    if store.has_revocation(kept.opening.handle).await? {
        store.grant_is_settled(grant.commitment).await?;
        return Ok(false);
    }
    let row = store.circle(grant.context).await?;
    let circle = guard::enter(&*pipeline.circles, store, &row, now).await?;
    let shown = match circles.entry(grant.context) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(first) => first.insert(all_consents(&*circle).await?),
    };
    let shown = shown
        .iter()
        .find(|shown| shown.commitment == grant.commitment);
    // Anybody can write down a place; that it is in a block only a witness.
    let is_anchored = shown.is_some_and(|shown| {
        let submissions = shown.anchors.iter().filter_map(|place| place.submission);
        submissions.into_iter().any(|said| said.block.is_some())
    });
    if is_anchored {
        store.grant_is_settled(grant.commitment).await?;
        return Ok(false);
    }
    if due.attempts >= COPIES_MAX {
        tracing::error!(consent = %grant.commitment, "ALARM: the hospital anchors no consent");
        store.grant_is_settled(grant.commitment).await?;
        return Ok(false);
    }
    circle
        .grant(&kept.terms, &kept.opening, &kept.signature, due.copies)
        .await?;
    tracing::warn!(
        consent = %grant.commitment, copies = due.copies,
        "a consent is in no block for long; it was written down once more",
    );
    Ok(true)
}

fn copies_fact(of: &impl Display) -> String {
    format!("copies:{of}")
}

/// A copy that is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// How many there have to be with it.
    copies: u32,
    /// How often it was tried to write one down, with this time.
    attempts: u32,
}

/// What there has to be of something now, if there is less: one copy more ten minutes after it was
/// first looked at, and each time after a wait that doubles. Who was away for long, and has yet to
/// hear of everything, waits from now.
async fn due_copies(pipeline: &Pipeline, of: &impl Display) -> Result<Option<Due>, PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let fact = copies_fact(of);
    let known = store.fact(&fact).await?.unwrap_or_default();
    let known: Vec<u64> = known
        .split(' ')
        .filter_map(|part| part.parse().ok())
        .collect();
    let &[copies, attempts, at] = known.as_slice() else {
        store.state_fact(&fact, &format!("1 0 {now}")).await?;
        return Ok(None);
    };
    let wait_s = UNHEARD_S << attempts.saturating_sub(1).min(16);
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
    let due = Due {
        copies: count(copies),
        attempts: count(attempts),
    };
    Ok((now.0.abs_diff(at) >= wait_s).then_some(due))
}

/// Notes that a copy was written, or that a circle which is stopped or full takes none now: that is
/// not asked for again each round.
async fn note_copies(
    pipeline: &Pipeline,
    of: &impl Display,
    due: Due,
    copied: Result<bool, PipelineError>,
) -> Result<(), PipelineError> {
    let copies = match copied {
        Ok(true) => due.copies,
        Ok(false) => due.copies - 1,
        Err(error) => {
            tracing::warn!(%of, %error, "not copied");
            if !matches!(error, PipelineError::Source(error) if error.refusal().is_some()) {
                return Ok(());
            }
            due.copies - 1
        }
    };
    let (fact, now) = (copies_fact(of), pipeline.now());
    let said = format!("{copies} {} {now}", due.attempts);
    Ok(pipeline.store.state_fact(&fact, &said).await?)
}

/// Brings key changes into their contexts that are not there, or not any more.
///
/// # Errors
/// A store that does not answer.
pub async fn publish_key_changes(pipeline: &Pipeline) -> Result<(), PipelineError> {
    for context in pipeline
        .store
        .contexts_with_unpublished_key_changes()
        .await?
    {
        match publish_keys_of(pipeline, context).await {
            Err(error) if error.is_of_the_store() => return Err(error),
            Err(error) => tracing::warn!(%context, %error, "key changes are not in their context"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Those that count; what was overruled need not come back.
async fn publish_keys_of(pipeline: &Pipeline, context: ContextId) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let row = store.circle(context).await?;
    let Some(circle) = guard::enter_for_revocations(&*pipeline.circles, &row).await? else {
        return Ok(());
    };
    let state = circle.circle().await?;
    let Some(enrolled) = state.only() else {
        return Ok(());
    };
    for change in store
        .counting_key_changes(context, &enrolled.enrolment)
        .await?
    {
        circle.change_key(&change, 1).await?;
    }
    Ok(store
        .key_changes_are_published(context, pipeline.now())
        .await?)
}

/// Brings log entries into their contexts that are not there, or not any more. A context that does
/// not take its own keeps no other out.
///
/// # Errors
/// A store that does not answer.
pub async fn publish_log(pipeline: &Pipeline) -> Result<(), PipelineError> {
    for context in pipeline.store.contexts_with_unpublished_entries().await? {
        match publish_log_of(pipeline, context).await {
            Err(error) if error.is_of_the_store() => return Err(error),
            Err(error) => tracing::warn!(%context, %error, "a log entry is not in its circle yet"),
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn publish_log_of(pipeline: &Pipeline, context: ContextId) -> Result<(), PipelineError> {
    let store = &pipeline.store;
    let row = store.circle(context).await?;
    let entered = guard::enter(&*pipeline.circles, store, &row, pipeline.now()).await;
    let Ok(circle) = entered else {
        // What stops it is said where it is read.
        return Ok(());
    };
    match audit::publish(store, &*circle, pipeline.clock.now()).await {
        Err(AuditError::Store(error)) => Err(error.into()),
        published => Ok(published?),
    }
}

async fn publish(pipeline: &Pipeline, subject: &str) -> Result<(), PipelineError> {
    let handle = subject
        .parse()
        .map_err(|_| PipelineError::Broken(format!("the outbox names no handle: {subject}")))?;
    let Some(revocation) = pipeline.store.revocation(handle).await? else {
        return Ok(());
    };
    let row = pipeline.store.circle(revocation.context).await?;
    let entered = guard::enter_for_revocations(&*pipeline.circles, &row).await?;
    let now = pipeline.clock.now();
    let Some(circle) = entered else {
        let put_off = pipeline.store.put_off(PUBLISH_REVOCATION, subject, now);
        return Ok(put_off.await?);
    };
    circle
        .revoke(&revocation.secret, revocation.claim_key, 1)
        .await?;
    Ok(pipeline
        .store
        .was_written(PUBLISH_REVOCATION, subject, now)
        .await?)
}
