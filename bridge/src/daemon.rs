//! The daemon: the lanes of the pipeline, each in its own loop, until it is told to stop.
//!
//! A lane that cannot do its work says why, waits, and tries again: neither a dead node nor a
//! dead endpoint ends the daemon, and neither keeps the lanes waiting that do not need it. The
//! lanes that speak to the chain first make sure, once, that it is the right one. Lanes are
//! interrupted between rounds only; a round that is cut off all the same is done again at the next
//! start.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use crate::access::recipient::Recipient;
use crate::access::{Desk, LOG_ENTRIES_MAX, Rests, Turns};
use crate::audit::{self, Judged};
use crate::commands::researcher;
use crate::config::Role;
use crate::custodian;
use crate::guard;
use crate::party::{Party, PartyError};
use crate::pipeline::fees::fee_round;
use crate::pipeline::retention::retention_round;
use crate::pipeline::watch::watch_round;
use crate::pipeline::{Pipeline, PipelineError, claims, ingest, relay, tickets};
use crate::store::StoreError;
use crate::store::facts::{BEHIND, CLOCK, ENDPOINTS, HINDRANCE, LAST_ROUND, WELL};

pub use publish::{copy_unheard, publish_key_changes, publish_log, publish_revocations};

mod publish;

/// How long a lane rests after a round.
const ROUND_REST: Duration = Duration::from_millis(500);
/// The same for the look at the node's connections.
const PEERS_REST: Duration = Duration::from_secs(5);
/// The same for the question to the chain about revocations past everybody here.
const WATCH_REST: Duration = Duration::from_secs(30);
/// The same for the look at what is not needed any more.
const RETENTION_REST: Duration = Duration::from_secs(60 * 60);
/// The same for claims, which nobody waits for by the second.
const CLAIM_REST: Duration = Duration::from_secs(2);
/// The lanes, as their hindrances are named.
pub const LANES: [&str; 8] = [
    "ingest",
    "peers",
    "relay",
    "claims",
    "watch",
    "batches",
    "access",
    "retention",
];
/// How long a lane rests after a round that failed; doubles up to the other.
const FAILURE_REST: Duration = Duration::from_secs(1);
const FAILURE_REST_MAX: Duration = Duration::from_secs(30);
/// How long the lanes have to come to the end of their rounds.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Why a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// A lane failed for longer than its patience; another replica may do better.
    Hindered,
}

/// What the lanes share.
#[derive(Clone)]
struct Lanes {
    pipeline: Arc<Pipeline>,
    stop: watch::Receiver<bool>,
    /// How long a lane may fail.
    patience: Option<Duration>,
    hindered: Arc<Notify>,
}

/// Runs until `stop` becomes true; with `patience`, no longer than a lane failed for so long.
///
/// # Errors
/// A home that cannot be opened. An endpoint that is down at the start is waited for.
pub async fn run(
    party: Party,
    stop: watch::Receiver<bool>,
    patience: Option<Duration>,
) -> Result<Ended, PartyError> {
    let pipeline = Arc::new(party.pipeline()?);
    let (node, turn) = (Arc::clone(&party.node), AtomicUsize::new(0));
    let hindered = Arc::new(Notify::new());
    let lanes = Lanes {
        pipeline: Arc::clone(&pipeline),
        stop,
        patience,
        hindered: Arc::clone(&hindered),
    };
    tracing::info!("ready");
    let ingest = lane("ingest", ROUND_REST, lanes.clone(), |p| async move {
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
    });
    let peers = lane("peers", PEERS_REST, lanes.clone(), move |p| {
        let (node, turn) = (Arc::clone(&node), turn.fetch_add(1, Ordering::Relaxed));
        async move {
            node.reach_peers().await?;
            ask_in_turn(&p, turn).await
        }
    });
    let relay = lane("relay", ROUND_REST, lanes.clone(), |p| async move {
        p.check_chain().await?;
        relay::relay_round(&p).await.map(|_| ())
    });
    let watch = lane("watch", WATCH_REST, lanes.clone(), |p| async move {
        let checked = p.check_chain().await;
        say_endpoints(&p).await?;
        p.store.state_fact(CLOCK, &p.word_of_peers()).await?;
        checked?;
        let watched = watch_round(&p).await;
        // Of a chain that does not answer nothing is known.
        let behind_s = watched.as_ref().map_or(0, |()| p.behind_s());
        p.store.state_fact(BEHIND, &behind_s.to_string()).await?;
        watched?;
        Ok(fee_round(&p).await?)
    });
    let side = Arc::new(Side::of(&party, &pipeline)?);
    let batches = lane("batches", ROUND_REST, lanes.clone(), |p| async move {
        p.check_chain().await?;
        p.batch_round().await.map(|_| ())
    });
    // What is kept for too long hinders nobody.
    let patient = Lanes {
        patience: None,
        ..lanes.clone()
    };
    // Nor does a claim that is not sent: no other replica pays for it either.
    let claims = lane("claims", CLAIM_REST, patient.clone(), |p| async move {
        p.check_chain().await?;
        claims::claim_round(&p).await.map(|_| ())
    });
    let retention = lane("retention", RETENTION_REST, patient, |p| async move {
        retention_round(&p).await
    });
    let access = lane("access", ROUND_REST, lanes, move |p| {
        let side = Arc::clone(&side);
        async move { side.round(&p).await }
    });
    let all = async {
        tokio::join!(
            ingest, peers, relay, claims, watch, batches, access, retention
        )
    };
    // What is cut off in the middle of its rounds is done again by whoever is next.
    Ok(tokio::select! {
        _ = all => Ended::Stopped,
        () = hindered.notified() => Ended::Hindered,
    })
}

/// Says which Starknet endpoints are well, and what is wrong with the others.
///
/// # Errors
/// A store that does not answer.
pub async fn say_endpoints(pipeline: &Pipeline) -> Result<(), StoreError> {
    let (store, chain) = (&pipeline.store, &pipeline.chain);
    let complaints = chain.complaints().join("; ");
    store.state_fact(ENDPOINTS, &complaints).await?;
    let well = chain.are_well().into_iter();
    let well: String = well
        .map(|is_well| if is_well { '1' } else { '0' })
        .collect();
    store.state_fact(WELL, &well).await
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
                author: custodian::keys(party)?.author,
                turns: Turns::default(),
                rests: Rests::default(),
                log_entries_max: LOG_ENTRIES_MAX,
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
    lanes: Lanes,
    round: impl Fn(Arc<Pipeline>) -> R,
) where
    R: Future<Output = Result<(), PipelineError>>,
{
    let Lanes {
        pipeline,
        mut stop,
        patience,
        hindered,
    } = lanes;
    let mut failure_rest = FAILURE_REST;
    let mut failing_since = None;
    loop {
        let mut stopped = stop.clone();
        let done = tokio::select! {
            done = round(Arc::clone(&pipeline)) => done,
            () = cut_off(&mut stopped) => return,
        };
        let how_long = match done {
            Ok(()) => {
                failure_rest = FAILURE_REST;
                failing_since = None;
                note(&pipeline, name, "").await;
                round_rest
            }
            Err(error) => {
                tracing::warn!(lane = name, %error, "a round failed and will be done again");
                note(&pipeline, name, &error.to_string()).await;
                let since = *failing_since.get_or_insert_with(Instant::now);
                if patience.is_some_and(|patience| since.elapsed() > patience) {
                    hindered.notify_one();
                }
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
