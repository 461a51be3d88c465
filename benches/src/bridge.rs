//! The bridge: what a hospital's pipeline does with many consents at once, against what the
//! protocol has to hash for them, and how long one consent takes on real parts.
//!
//! The pipeline and its store, in a file, are the real ones. The many consents are held by circles
//! in memory, since a real node would be filled for a day; the latencies are taken with real nodes,
//! daemons and a devnet.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync::at_rest::HomeSecret;
use medsync::chain::{Account, Chain};
use medsync::config::BatchConfig;
use medsync::guard::Circles;
use medsync::pipeline::ingest::{self, Readings, Round};
use medsync::pipeline::place::LastTree;
use medsync::pipeline::{BatchBounds, Pipeline, seal};
use medsync::seams::{Clock as PipelineClock, SystemClock, system_random};
use medsync::store::Store;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::tree::{Leaf, Tree};
use medsync_tests::circle::{anchorer, registry};
use tokio::sync::Mutex;

use self::chain::MemoryChain;
use self::circles::{CONSENTS_EACH, Hospital, Signed};
use crate::report::{Figure, Report, Target};
use crate::timing::{process_time, repeat, thread_time};
use crate::trees;

pub mod chain;
mod circles;
mod latency;

/// How many consents there are; the larger number is asked for.
const CONSENTS: usize = 10_000;
const CONSENTS_FULL: usize = 100_000;
/// How many times the hashing time may pass until all is sealed.
const SEALED_RATIO_MAX: f64 = 3.0;
/// How many consents' hashes and signatures are timed, for all of them.
const SAMPLE: usize = 5_000;
/// How long the daemon's lanes rest after a round.
const ROUND_REST: Duration = Duration::from_millis(500);
/// After how many rounds something is wrong.
const ROUNDS_MAX: usize = 100_000;

/// Measures throughput, memory and latencies.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    let count = if is_full { CONSENTS_FULL } else { CONSENTS };
    throughput(report, count)?;
    latency::measure(report, is_full)
}

/// The machine's clock, which can be moved on.
#[derive(Default)]
struct MovedClock(AtomicU64);

impl PipelineClock for MovedClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(SystemClock.now().0 + self.0.load(Ordering::Relaxed))
    }
}

/// What something took.
#[derive(Clone, Copy, Default)]
struct Took {
    processor: Duration,
    passed: Duration,
}

impl std::ops::Add for Took {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            processor: self.processor + other.processor,
            passed: self.passed + other.passed,
        }
    }
}

/// A stretch of time that is being taken.
struct Stretch {
    processor: Duration,
    began: Instant,
}

impl Stretch {
    fn begin() -> Self {
        Self {
            processor: process_time(),
            began: Instant::now(),
        }
    }

    fn end(self) -> Took {
        self.look()
    }

    fn look(&self) -> Took {
        Took {
            processor: process_time().saturating_sub(self.processor),
            passed: self.began.elapsed(),
        }
    }
}

/// What the protocol itself has to do for some consents, on one thread.
#[derive(Clone, Copy)]
struct Bare {
    hashing: Duration,
    signatures: Duration,
}

impl Bare {
    /// Hashes terms, commitments, messages, leaves and the trees of the batches, and checks the
    /// signatures. Of the first and the last a sample is timed.
    fn time(consents: &[&Signed], batch_len_max: usize) -> anyhow::Result<Self> {
        let every = consents.len().div_ceil(SAMPLE);
        let sample: Vec<&Signed> = consents.iter().step_by(every).copied().collect();
        let share = consents.len() as f64 / sample.len() as f64;
        let start = thread_time();
        repeat(sample.len(), |number| {
            let commitment = sample[number].commitment();
            let message = commitment.grant_message(registry());
            (message, commitment.leaf(&sample[number].signature))
        });
        let leaves = thread_time().saturating_sub(start).mul_f64(share);
        let messages: Vec<_> = sample
            .iter()
            .map(|signed| signed.commitment().grant_message(registry()))
            .collect();
        let start = thread_time();
        repeat(sample.len(), |number| {
            let signed = sample[number];
            let key = signed.opening.patient_key;
            key.verifies(messages[number], &signed.signature)
        });
        let signatures = thread_time().saturating_sub(start).mul_f64(share);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        let mut building = Duration::ZERO;
        let mut left = consents.len();
        while left > 0 {
            let len = left.min(batch_len_max);
            let leaves = trees::leaves(len.next_power_of_two().max(seal::LEAVES_MIN));
            building += one.install(|| {
                let start = thread_time();
                repeat(1, |_| Tree::build(&leaves));
                thread_time().saturating_sub(start)
            });
            left -= len;
        }
        Ok(Self {
            hashing: leaves + building,
            signatures,
        })
    }

    fn shorter(self, other: Self) -> Self {
        Self {
            hashing: self.hashing.min(other.hashing),
            signatures: self.signatures.min(other.signatures),
        }
    }
}

/// Starts to look for the most memory that this process has.
fn watch_memory() -> anyhow::Result<()> {
    const RESET_PEAK: &str = "5";
    Ok(fs::write("/proc/self/clear_refs", RESET_PEAK)?)
}

/// A line of what the system says of this process's memory, in bytes.
fn memory(line: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|said| said.strip_prefix(line));
    let kib = found.and_then(|said| said.split_whitespace().next());
    let kib: u64 = kib
        .context("Linux says how much memory there is")?
        .parse()?;
    Ok(kib * 1024)
}

/// What it took until everything was sealed.
struct ToSealed {
    ingested: Took,
    sealed: Took,
    /// How much the memory grew.
    bytes: u64,
}

/// What it took until everything was on chain, and until the circles knew.
struct CaughtUp {
    anchored: Took,
    told: Took,
    /// How much the memory grew.
    bytes: u64,
    transactions: usize,
}

fn throughput(report: &mut Report, count: usize) -> anyhow::Result<()> {
    report.measuring(&format!("signing {count} consents"));
    let signing = Stretch::begin();
    let hospital = Arc::new(Hospital::with_consents(count)?);
    let signing = signing.end();
    let consents: Vec<&Signed> = hospital.consents().collect();
    let batch_len_max = BatchConfig::default().consents_max as usize;
    report.measuring("what they cost at least");
    let before = Bare::time(&consents, batch_len_max)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let resident = memory("VmRSS:")?;
    let to_sealed = runtime.block_on(seal_all(report, &hospital, count, resident))?;
    let caught_up = runtime.block_on(catch_up(report, &hospital, count, resident))?;
    let bare = before.shorter(Bare::time(&consents, batch_len_max)?);
    let leaves: HashMap<_, Leaf> = consents
        .iter()
        .map(|signed| (signed.commitment(), signed.leaf()))
        .collect();
    let (positions, lead) = hospital.heard.positions(&leaves);
    ensure!(
        lead && positions == count && hospital.heard.anchored() == count,
        "of {count} consents {positions} have a place and {} are told; sound: {lead}",
        hospital.heard.anchored(),
    );
    add(report, count, signing, bare, &to_sealed);
    add_catch_up(report, count, bare, &caught_up);
    Ok(())
}

/// A hospital's bridge that knows its circles and has read none of them.
struct Bridge {
    pipeline: Pipeline,
    chain: MemoryChain,
    clock: Arc<MovedClock>,
    /// Where the store is; gone with this.
    _home: tempfile::TempDir,
}

impl Bridge {
    async fn of(hospital: &Arc<Hospital>) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let store = Store::open(home.path(), &HomeSecret::from_bytes(&[7; 32])).await?;
        for row in hospital.rows() {
            store.enter_circle(&row).await?;
        }
        let (chain, clock) = (MemoryChain::default(), Arc::new(MovedClock::default()));
        Ok(Self {
            pipeline: pipeline(
                &store,
                Arc::<Hospital>::clone(hospital),
                &chain,
                Arc::<MovedClock>::clone(&clock),
            ),
            chain,
            clock,
            _home: home,
        })
    }

    /// All is taken in: what is left of the last batch does not wait for more.
    fn let_batch_grow_old(&self) {
        let age_s_max = self.pipeline.batch.age_s_max;
        self.clock.0.store(age_s_max, Ordering::Relaxed);
    }

    fn is_all_taken_in(&self) -> bool {
        self.clock.0.load(Ordering::Relaxed) > 0
    }

    async fn is_all_sealed(&self) -> anyhow::Result<bool> {
        let counts = self.pipeline.store.anchoring_counts().await?;
        let waiting = counts.iter().find(|(what, _)| what == "consents waiting");
        Ok(waiting.is_some_and(|(_, count)| *count == 0))
    }
}

/// Takes everything in, then seals it: the two steps alone.
async fn seal_all(
    report: &Report,
    hospital: &Arc<Hospital>,
    count: usize,
    resident: u64,
) -> anyhow::Result<ToSealed> {
    let bridge = Bridge::of(hospital).await?;
    report.measuring(&format!("taking in {count} consents"));
    watch_memory()?;
    let stretch = Stretch::begin();
    for round in 0.. {
        ensure!(round < ROUNDS_MAX, "the circles do not come to an end");
        if ingest::ingest_all(&bridge.pipeline).await? == Round::default() {
            break;
        }
    }
    let ingested = stretch.end();
    report.measuring("sealing them");
    bridge.let_batch_grow_old();
    let stretch = Stretch::begin();
    while !bridge.is_all_sealed().await? {
        seal::seal_due(&bridge.pipeline, anchorer()).await?;
    }
    Ok(ToSealed {
        ingested,
        sealed: stretch.end(),
        bytes: memory("VmHWM:")?.saturating_sub(resident),
    })
}

/// Starts with nothing taken in, and runs both lanes beside each other as the daemon does.
async fn catch_up(
    report: &Report,
    hospital: &Arc<Hospital>,
    count: usize,
    resident: u64,
) -> anyhow::Result<CaughtUp> {
    let bridge = Bridge::of(hospital).await?;
    let pipeline = &bridge.pipeline;
    report.measuring(&format!("catching up with {count} consents"));
    watch_memory()?;
    let stretch = Stretch::begin();
    let ingest = async {
        while ingest::ingest_all(pipeline).await? != Round::default() {
            tokio::time::sleep(ROUND_REST).await;
        }
        bridge.let_batch_grow_old();
        anyhow::Ok(())
    };
    let batches = async {
        let mut anchored = None;
        while hospital.heard.anchored() < count {
            let is_under_way = pipeline.batch_round().await?;
            let may_be_done = anchored.is_none() && !is_under_way && bridge.is_all_taken_in();
            if may_be_done && bridge.is_all_sealed().await? {
                anchored = Some(stretch.look());
                report.measuring("telling the circles");
            }
            tokio::time::sleep(ROUND_REST).await;
        }
        anchored.context("nothing is told that is not anchored")
    };
    let ((), anchored) = tokio::try_join!(ingest, batches)?;
    Ok(CaughtUp {
        anchored,
        told: stretch.look(),
        bytes: memory("VmHWM:")?.saturating_sub(resident),
        transactions: bridge.chain.transactions(),
    })
}

/// A hospital's pipeline over a chain in memory.
pub fn pipeline(
    store: &Store,
    circles: Arc<dyn Circles>,
    chain: &MemoryChain,
    clock: Arc<dyn PipelineClock>,
) -> Pipeline {
    let bounds = BatchConfig::default();
    Pipeline {
        store: store.clone(),
        circles,
        chain: Arc::new(chain.clone()) as Arc<dyn Chain>,
        clock,
        random: Arc::new(Mutex::new(system_random())),
        registry: registry(),
        class_hash: chain::class_hash(),
        anchor_account: Some(Arc::new(chain.clone()) as Arc<dyn Account>),
        revoke_account: None,
        claim_account: None,
        relay_after_s: 0,
        block_age_s_max: u64::MAX,
        clock_behind_s_max: u64::MAX,
        clock_behind_s: Arc::default(),
        peers_ahead_s: Arc::default(),
        batch: BatchBounds {
            age_s_max: bounds.age_s_max,
            consents_max: bounds.consents_max,
        },
        retention_s: u64::MAX,
        seen_max: ingest::SEEN_MAX,
        readings: Readings::default(),
        last_tree: LastTree::default(),
        chain_is_right: Arc::default(),
    }
}

fn add(report: &mut Report, count: usize, signing: Took, bare: Bare, stages: &ToSealed) {
    let circles = count.div_ceil(CONSENTS_EACH);
    let source = format!(
        "{circles} circles in memory in the place of a node; the real pipeline over its store in \
         a file; processor time of all threads"
    );
    let seconds = |name: &str, time: Duration, how: &str| {
        Figure::new(format!("{name}_{count}"), "s", time.as_secs_f64(), how)
    };
    let how = "setup: processor time of all threads";
    report.add(seconds("bridge_setup_signing", signing.processor, how));
    let how = "terms (SHA-256), commitment, message, leaf, and the trees of the batches; one \
               thread's processor time, the shorter of before and after";
    report.add(seconds("bridge_bare_hashing", bare.hashing, how));
    let how = "one thread's processor time for a sample, times its share; the shorter of before \
               and after";
    let figure = seconds("bridge_bare_signatures", bare.signatures, how);
    report.add(figure.against("pure hashing", bare.hashing.as_secs_f64()));

    let sealed = stages.ingested + stages.sealed;
    let (hashing, needed) = (
        bare.hashing.as_secs_f64(),
        (bare.hashing + bare.signatures).as_secs_f64(),
    );
    let figure = seconds("bridge_to_sealed", sealed.processor, &source);
    let target = Target::RatioMax(SEALED_RATIO_MAX);
    report.add(figure.against("pure hashing", hashing).with_target(target));
    let figure = seconds("bridge_to_sealed_of_all", sealed.processor, &source);
    report.add(figure.against("hashing and signature checks", needed));
    let how = "time passed, with the disk and whatever else the machine did";
    let figure = seconds("bridge_to_sealed_passed", sealed.passed, how);
    report.add(figure.against("pure hashing", hashing));
    for (name, took) in [
        ("bridge_ingest", stages.ingested),
        ("bridge_seal", stages.sealed),
    ] {
        let figure = seconds(name, took.processor, &source);
        report.add(figure.against("pure hashing", hashing));
    }
    add_memory(report, "bridge_memory_to_sealed", count, stages.bytes);
}

fn add_catch_up(report: &mut Report, count: usize, bare: Bare, caught_up: &CaughtUp) {
    let hashing = bare.hashing.as_secs_f64();
    let (anchored, told) = (caught_up.anchored, caught_up.told);
    let source = "circles and a chain in memory; the ingest lane and the batches' lane beside each \
                  other, which rest 500 ms after each round as in the daemon; a batch's age passes \
                  once all is taken in";
    for (name, time, how) in [
        ("bridge_catch_up", anchored.processor, "processor time"),
        ("bridge_catch_up_passed", anchored.passed, "time passed"),
        ("bridge_catch_up_told", told.processor, "processor time"),
        ("bridge_catch_up_told_passed", told.passed, "time passed"),
    ] {
        let (name, how) = (format!("{name}_{count}"), format!("{how}; {source}"));
        let figure = Figure::new(name, "s", time.as_secs_f64(), &how);
        report.add(figure.against("pure hashing", hashing));
    }
    let name = format!("bridge_catch_up_transactions_{count}");
    let how = "one for each batch, of 65,536 consents at most";
    let transactions = caught_up.transactions as f64;
    report.add(Figure::new(name, "count", transactions, how));
    add_memory(report, "bridge_memory_catch_up", count, caught_up.bytes);
}

fn add_memory(report: &mut Report, name: &str, count: usize, bytes: u64) {
    let how = "peak resident memory above what was resident before, the circles' consents";
    let mib = bytes as f64 / f64::from(1 << 20);
    report.add(Figure::new(format!("{name}_{count}"), "MiB", mib, how));
}
