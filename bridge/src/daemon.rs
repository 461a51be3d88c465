//! The daemon: the lanes of the pipeline, each in its own loop, until it is told to stop.
//!
//! A lane that cannot do its work says why, waits, and tries again: neither a dead node nor a
//! dead endpoint ends the daemon, and neither keeps the lanes waiting that do not need it. The
//! lanes that speak to the chain first make sure, once, that it is the right one. Lanes are
//! interrupted between rounds only; a round that is cut off all the same is done again at the next
//! start.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use medsync_protocol::ids::ContextId;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::recipient::Recipient;
use crate::access::{Desk, Turns};
use crate::audit::{self, AuditError, Judged};
use crate::chain::REVOCATIONS_MAX;
use crate::commands::{hospital, researcher};
use crate::config::Role;
use crate::guard;
use crate::party::{Party, PartyError};
use crate::pipeline::retention::retention_round;
use crate::pipeline::watch::watch_round;
use crate::pipeline::{Pipeline, PipelineError, ingest, relay, tickets};
use crate::source::{Consent, all_consents};
use crate::store::consents::OpenGrant;
use crate::store::facts::{BEHIND, CLOCK, ENDPOINTS, HINDRANCE, LAST_ROUND, PUBLISH_REVOCATION};

/// How long a lane rests after a round.
const ROUND_REST: Duration = Duration::from_millis(500);
/// The same for the look at the node's connections.
const PEERS_REST: Duration = Duration::from_secs(5);
/// The same for the question to the chain about revocations past everybody here.
const WATCH_REST: Duration = Duration::from_secs(30);
/// The same for the look at what is not needed any more.
const RETENTION_REST: Duration = Duration::from_secs(60 * 60);
/// The lanes, as their hindrances are named.
pub const LANES: [&str; 7] = [
    "ingest",
    "peers",
    "relay",
    "watch",
    "batches",
    "access",
    "retention",
];
/// How long a lane rests after a round that failed; doubles up to the other.
const FAILURE_REST: Duration = Duration::from_secs(1);
const FAILURE_REST_MAX: Duration = Duration::from_secs(30);
/// After how long what nobody shows to have heard of is written down once more, in seconds, and how
/// often at most.
const UNHEARD_S: u64 = 10 * 60;
const COPIES_MAX: u32 = 8;
/// How long a consent has to get its place in a batch before that, in seconds: batches close after
/// a while, and what is on its way is not written down twice.
const PLACED_WITHIN_S: u64 = 20 * 60;
/// How many of a patient's consents without a place are looked at in one round.
const GRANTS_LOOKED_AT: u32 = 64;
/// How long the lanes have to come to the end of their rounds.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Runs until `stop` becomes true.
///
/// # Errors
/// A home that cannot be opened. An endpoint that is down at the start is waited for.
pub async fn run(party: Party, stop: watch::Receiver<bool>) -> Result<(), PartyError> {
    let pipeline = Arc::new(party.pipeline()?);
    let (node, turn) = (Arc::clone(&party.node), AtomicUsize::new(0));
    tracing::info!("ready");
    let ingest = lane(
        "ingest",
        ROUND_REST,
        stop.clone(),
        Arc::clone(&pipeline),
        |p| async move {
            ingest::ingest_all(&p).await?;
            publish_revocations(&p).await?;
            copy_unheard(&p).await?;
            publish_key_changes(&p).await?;
            publish_log(&p).await?;
            tickets::bring_back(&p).await?;
            p.store
                .state_fact(LAST_ROUND, &p.clock.now().to_string())
                .await?;
            Ok(())
        },
    );
    let peers = lane(
        "peers",
        PEERS_REST,
        stop.clone(),
        Arc::clone(&pipeline),
        move |p| {
            let (node, turn) = (Arc::clone(&node), turn.fetch_add(1, Ordering::Relaxed));
            async move {
                node.reach_peers().await?;
                ask_in_turn(&p, turn).await
            }
        },
    );
    let relay = lane(
        "relay",
        ROUND_REST,
        stop.clone(),
        Arc::clone(&pipeline),
        |p| async move {
            p.check_chain().await?;
            relay::relay_round(&p).await.map(|_| ())
        },
    );
    let watch = lane(
        "watch",
        WATCH_REST,
        stop.clone(),
        Arc::clone(&pipeline),
        |p| async move {
            let checked = p.check_chain().await;
            let complaints = p.chain.complaints().join("; ");
            p.store.state_fact(ENDPOINTS, &complaints).await?;
            p.store.state_fact(CLOCK, &p.word_of_peers()).await?;
            checked?;
            let watched = watch_round(&p).await;
            // Of a chain that does not answer nothing is known.
            let behind_s = watched.as_ref().map_or(0, |()| p.behind_s());
            p.store.state_fact(BEHIND, &behind_s.to_string()).await?;
            watched
        },
    );
    let side = Arc::new(Side::of(&party, &pipeline)?);
    let batches = lane(
        "batches",
        ROUND_REST,
        stop.clone(),
        Arc::clone(&pipeline),
        |p| async move {
            p.check_chain().await?;
            p.batch_round().await.map(|_| ())
        },
    );
    let retention = lane(
        "retention",
        RETENTION_REST,
        stop.clone(),
        Arc::clone(&pipeline),
        |p| async move { retention_round(&p).await },
    );
    let access = lane("access", ROUND_REST, stop, pipeline, move |p| {
        let side = Arc::clone(&side);
        async move { side.round(&p).await }
    });
    tokio::join!(ingest, peers, relay, watch, batches, access, retention);
    Ok(())
}

/// Asks one circle something: whether the node is stuck in one shows in nothing else while nobody
/// writes there.
async fn ask_in_turn(pipeline: &Pipeline, turn: usize) -> Result<(), PipelineError> {
    let (mut rows, _) = pipeline.store.readable_circles().await?;
    rows.retain(|row| row.alarm.is_none());
    let Some(row) = rows.get(turn % rows.len().max(1)) else {
        return Ok(());
    };
    let circle = guard::enter(&*pipeline.circles, &pipeline.store, row, pipeline.now()).await?;
    circle.circle().await?;
    Ok(())
}

/// On which side of requests and releases a party is.
enum Side {
    Custodian(Desk),
    Recipient(Recipient),
    Patient(Judged),
}

impl Side {
    fn of(party: &Party, pipeline: &Pipeline) -> Result<Self, PartyError> {
        let pipeline = pipeline.clone();
        Ok(match party.config.role {
            Role::Custodian => Self::Custodian(Desk {
                pipeline,
                author: hospital::keys(party)?.author,
                turns: Turns::default(),
            }),
            Role::Recipient => Self::Recipient(Recipient {
                pipeline,
                author: researcher::keys(party)?.author,
                home: party.home.clone(),
                turns: Turns::default(),
            }),
            Role::Patient => Self::Patient(Judged::default()),
        })
    }

    async fn round(&self, pipeline: &Pipeline) -> Result<(), PipelineError> {
        match self {
            Self::Custodian(desk) => {
                // What is released depends on what the chain says.
                pipeline.check_chain().await?;
                desk.round().await
            }
            Self::Recipient(recipient) => recipient.erase_all().await,
            Self::Patient(judged) => audit::judge_all(pipeline, judged).await,
        }
    }
}

/// Rests, but not longer than until the stop; answers whether it is time to stop.
async fn rest(stop: &mut watch::Receiver<bool>, how_long: Duration) -> bool {
    // Both ends of the wait mean the same: look at the flag.
    let _ = timeout(how_long, stop.wait_for(|stop| *stop)).await;
    *stop.borrow()
}

async fn lane<R>(
    name: &'static str,
    round_rest: Duration,
    mut stop: watch::Receiver<bool>,
    pipeline: Arc<Pipeline>,
    round: impl Fn(Arc<Pipeline>) -> R,
) where
    R: Future<Output = Result<(), PipelineError>>,
{
    let mut failure_rest = FAILURE_REST;
    loop {
        let mut stopped = stop.clone();
        let done = tokio::select! {
            done = round(Arc::clone(&pipeline)) => done,
            () = cut_off(&mut stopped) => return,
        };
        let how_long = match done {
            Ok(()) => {
                failure_rest = FAILURE_REST;
                note(&pipeline, name, "").await;
                round_rest
            }
            Err(error) => {
                tracing::warn!(lane = name, %error, "a round failed and will be done again");
                note(&pipeline, name, &error.to_string()).await;
                let how_long = failure_rest;
                failure_rest = (failure_rest * 2).min(FAILURE_REST_MAX);
                how_long
            }
        };
        if rest(&mut stop, how_long).await {
            return;
        }
    }
}

/// Comes back when a round had its time after the stop.
async fn cut_off(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means that the program ends.
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(STOP_WAIT).await;
}

/// What hinders a lane is for people to see; failing to write it down hinders nothing.
async fn note(pipeline: &Pipeline, lane: &str, why: &str) {
    if let Err(error) = pipeline
        .store
        .state_fact(&format!("{HINDRANCE}:{lane}"), why)
        .await
    {
        tracing::warn!(%error, "the state of a lane could not be written down");
    }
}

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
/// here. Of a revocation the sign is the chain, of a consent a block that a witness names.
///
/// # Errors
/// A store that does not answer.
pub async fn copy_unheard(pipeline: &Pipeline) -> Result<(), PipelineError> {
    if pipeline.anchorer().is_some() {
        return Ok(());
    }
    let store = &pipeline.store;
    for revocation in store.open_revocations(REVOCATIONS_MAX as u32).await? {
        let due = due_copies(pipeline, &revocation.handle).await?;
        let Some(copies) = due.filter(|copies| *copies <= COPIES_MAX) else {
            continue;
        };
        let opening = (&revocation.secret, revocation.claim_key);
        let copied = async {
            let row = store.circle(revocation.context).await?;
            if let Some(circle) = guard::enter_for_revocations(&*pipeline.circles, &row).await? {
                circle.revoke(opening.0, opening.1, copies).await?;
            }
            Ok::<bool, PipelineError>(true)
        };
        note_copies(pipeline, &revocation.handle, copies, copied.await).await?;
    }
    let mut circles: BTreeMap<ContextId, Vec<Consent>> = BTreeMap::new();
    for grant in store.open_grants(GRANTS_LOOKED_AT).await? {
        // What was granted in times to come was granted by a clock that was wrong.
        if pipeline.now().0.abs_diff(grant.made_at.0) < PLACED_WITHIN_S {
            continue;
        }
        let Some(copies) = due_copies(pipeline, &grant.commitment).await? else {
            continue;
        };
        let copied = copy_grant(pipeline, &grant, copies, &mut circles).await;
        note_copies(pipeline, &grant.commitment, copies, copied).await?;
    }
    Ok(())
}

/// Writes a consent down once more, unless it is over, its circle is stopped or shows the block
/// that has it; answers whether it did. After the last time it says so and looks no more.
async fn copy_grant(
    pipeline: &Pipeline,
    grant: &OpenGrant,
    copies: u32,
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
    if row.alarm.is_some() {
        return Ok(false);
    }
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
    if copies > COPIES_MAX {
        tracing::error!(consent = %grant.commitment, "ALARM: the hospital anchors no consent");
        store.grant_is_settled(grant.commitment).await?;
        return Ok(false);
    }
    circle
        .grant(&kept.terms, &kept.opening, &kept.signature, copies)
        .await?;
    tracing::warn!(
        consent = %grant.commitment, copies,
        "a consent is in no block for long; it was written down once more",
    );
    Ok(true)
}

fn copies_fact(of: &impl Display) -> String {
    format!("copies:{of}")
}

/// How many copies there have to be of something now, if there are fewer: one more ten minutes
/// after it was first looked at, and each time after a wait that doubles. Who was away for long,
/// and has yet to hear of everything, waits from now.
async fn due_copies(pipeline: &Pipeline, of: &impl Display) -> Result<Option<u32>, PipelineError> {
    let (store, now) = (&pipeline.store, pipeline.now());
    let fact = copies_fact(of);
    let known = store.fact(&fact).await?.unwrap_or_default();
    let known = known.split_once(' ');
    let known = known.and_then(|(copies, at)| Some((copies.parse().ok()?, at.parse().ok()?)));
    let Some((copies, at)): Option<(u32, u64)> = known else {
        store.state_fact(&fact, &format!("1 {now}")).await?;
        return Ok(None);
    };
    let wait_s = UNHEARD_S << copies.saturating_sub(2).min(16);
    Ok((now.0.abs_diff(at) >= wait_s).then_some(copies + 1))
}

/// Notes that a copy was written, or refused: that is not asked for again each round.
async fn note_copies(
    pipeline: &Pipeline,
    of: &impl Display,
    copies: u32,
    copied: Result<bool, PipelineError>,
) -> Result<(), PipelineError> {
    let is_noted = match copied {
        Ok(is_written) => is_written,
        Err(error) => {
            tracing::warn!(%of, %error, "not copied");
            matches!(error, PipelineError::Source(error) if error.refusal().is_some())
        }
    };
    if is_noted {
        let (fact, now) = (copies_fact(of), pipeline.now());
        let store = &pipeline.store;
        store.state_fact(&fact, &format!("{copies} {now}")).await?;
    }
    Ok(())
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
        circle.change_key(&change).await?;
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
