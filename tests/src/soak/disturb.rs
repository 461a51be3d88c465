//! What goes wrong during a soak beside kills: a bad endpoint all the time, and now and then a full
//! disk, a reorganisation of the chain, and a chain whose clock is ahead of the machine's.
//!
//! Nothing here waits: each look moves on what is under way, so that the stream goes on meanwhile.

use std::collections::{BTreeSet, VecDeque};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync::at_rest::HomeSecret;
use medsync::chain::{Chain, RpcChain};
use medsync::config::Config;
use medsync::seams::{Clock, SystemClock};
use medsync::store::Store;
use medsync::store::batches::{BatchId, BatchRow};
use medsync::store::facts::{HINDRANCE, LAST_ROUND};
use medsync_protocol::ids::{Anchorer, ContractAddress, UnixSeconds};
use medsync_protocol::tree::Root;
use rand::RngExt;
use rand::rngs::ChaCha20Rng;
use rand::seq::SliceRandom;
use tokio::runtime::Runtime;
use url::Url;

use crate::endpoint::{Endpoint, Fault};
use crate::story::{Part, Story};

/// How long the endpoint is bad in one way, and good between two, in seconds.
const FAULT_S: std::ops::RangeInclusive<u64> = 3..=8;
const GOOD_S: std::ops::RangeInclusive<u64> = 2..=5;
/// In how many ways it is bad.
pub const KINDS_OF_FAULT: u32 = 6;
/// How late it answers, in milliseconds; later than anybody waits, too.
const LAG_MS: std::ops::RangeInclusive<u64> = 500..=11_000;
/// How many blocks it is behind.
const BEHIND: std::ops::RangeInclusive<u64> = 1..=12;
/// How often each of the others comes.
const CYCLE: Duration = Duration::from_secs(10 * 60);
/// How long the disk is full at least.
const FULL_DISK: Duration = Duration::from_secs(6);
/// How long the daemon's rounds stand still until it is clear that they do, in seconds.
const STILL_S: u64 = 3;
/// How far the chain's clock is ahead, in seconds: so far that what landed before counts as settled
/// and is looked at again.
const AHEAD_S: u64 = 11 * 60;
/// How long anything may take.
const WAIT: Duration = Duration::from_secs(240);
/// More than there are.
const ALL: u32 = 1 << 20;

/// What happened, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often the endpoint was bad.
    pub endpoint_faults: u32,
    /// How often the chain dropped blocks.
    pub reorganisations: u32,
    /// How often its clock was ahead, and back.
    pub clock_jumps: u32,
    /// How often the hospital's daemon could write nothing.
    pub full_disks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    FullDisk,
    Reorganisation,
    ClockJump,
}

/// What is under way.
enum Phase {
    FullDisk,
    DiskIsFree { since: UnixSeconds },
    ClockAhead { first: u64 },
    ClockBack { since: UnixSeconds },
}

pub(super) struct Disturbances {
    pub(super) endpoint: Endpoint,
    pub(super) tally: Tally,
    began: Instant,
    random: ChaCha20Rng,
    /// The ways in which the endpoint has yet to be bad, before they come again.
    deck: Vec<Fault>,
    is_bad: bool,
    /// The newest block when it began: before it there may be no registry.
    first: u64,
    endpoint_changes_at: Instant,
    plan: VecDeque<(Duration, Kind)>,
    phase: Option<(Instant, Phase)>,
    /// The batches that the chain dropped, until the hospital knows.
    dropped: BTreeSet<Root>,
    hospital: Hospital,
}

/// What the hospital's store says, and the chain past every endpoint.
struct Hospital {
    runtime: Runtime,
    store: Store,
    chain: RpcChain,
    registry: ContractAddress,
    anchorer: Anchorer,
}

impl Hospital {
    fn of(story: &Story) -> anyhow::Result<Self> {
        let home = story.path("hospital");
        let config = Config::load(&home)?;
        let account = config.anchor_account.context("a hospital anchors")?;
        let runtime = Runtime::new()?;
        let store = runtime.block_on(Store::open(&home, &HomeSecret::of(&home)?))?;
        Ok(Self {
            runtime,
            store,
            chain: RpcChain::new(&story.rpc()?.parse()?, config.chain.chain_id)?,
            registry: config.chain.registry,
            anchorer: Anchorer::from_felt(account.address.felt()),
        })
    }

    fn fact(&self, name: &str) -> anyhow::Result<String> {
        let fact = self.runtime.block_on(self.store.fact(name))?;
        Ok(fact.unwrap_or_default())
    }

    /// When its daemon last came to the end of a round.
    fn last_round(&self) -> anyhow::Result<UnixSeconds> {
        Ok(UnixSeconds(self.fact(LAST_ROUND)?.parse()?))
    }

    fn batches(&self) -> anyhow::Result<Vec<BatchRow>> {
        let batches = self.store.anchored_batches(BatchId(0), ALL);
        Ok(self.runtime.block_on(batches)?)
    }

    /// The batches that are on chain by its word, and are not.
    fn dropped_batches(&self) -> anyhow::Result<BTreeSet<Root>> {
        let mut dropped = BTreeSet::new();
        for batch in self.batches()? {
            let at = self
                .chain
                .anchored_at(self.registry, self.anchorer, batch.root);
            if self.runtime.block_on(at)?.is_none() {
                dropped.insert(batch.root);
            }
        }
        Ok(dropped)
    }

    /// When each revocation landed that is on chain by its word, and whether it is.
    fn revocations(&self) -> anyhow::Result<Vec<(UnixSeconds, bool)>> {
        self.runtime.block_on(async {
            let handles = self.store.landed_revocations().await?;
            let (times, _) = self.chain.revoked_at(self.registry, &handles).await?;
            let mut all = Vec::new();
            for (handle, time) in handles.into_iter().zip(times) {
                let row = self.store.revocation(handle).await?;
                let landed = row.and_then(|row| row.landed);
                all.extend(landed.map(|landed| (landed.revoked_at, time.is_some())));
            }
            Ok(all)
        })
    }
}

impl Disturbances {
    /// Puts a bad endpoint before the story's chain: the hospital has no other, the patient has the
    /// chain itself too.
    pub(super) fn begin(
        story: &mut Story,
        length: Duration,
        random: ChaCha20Rng,
    ) -> anyhow::Result<Self> {
        let endpoint = Endpoint::before(story.devnet()?)?;
        let bad: Url = endpoint.rpc().parse()?;
        let direct: Url = story.rpc()?.parse()?;
        for (home, rpc) in [
            ("hospital", vec![bad.clone()]),
            ("patient", vec![bad, direct]),
        ] {
            let home = story.path(home);
            let mut config = Config::load(&home)?;
            config.chain.rpc = rpc;
            config.save(&home)?;
        }
        story.kill_and_restart(Part::Hospital)?;
        story.kill_and_restart(Part::Patient)?;
        let now = Instant::now();
        Ok(Self {
            hospital: Hospital::of(story)?,
            endpoint,
            tally: Tally::default(),
            began: now,
            random,
            deck: Vec::new(),
            is_bad: false,
            first: story.devnet()?.number()?,
            endpoint_changes_at: now,
            plan: plan(length),
            phase: None,
            dropped: BTreeSet::new(),
        })
    }

    pub(super) fn random(&mut self) -> &mut ChaCha20Rng {
        &mut self.random
    }

    /// Whether everything that was to happen has happened, and the endpoint was bad in each way.
    pub(super) fn are_over(&self) -> bool {
        let was_dealt = self.tally.endpoint_faults >= KINDS_OF_FAULT;
        self.plan.is_empty() && self.phase.is_none() && was_dealt
    }

    /// Whether the hospital has yet to look at the chain, which it does when it starts.
    pub(super) fn wait_for_a_look(&self) -> bool {
        matches!(
            self.phase,
            Some((_, Phase::ClockAhead { .. } | Phase::ClockBack { .. }))
        )
    }

    /// Whether the hospital's disk has no room.
    pub(super) fn disk_is_full(&self) -> bool {
        matches!(self.phase, Some((_, Phase::FullDisk)))
    }

    pub(super) fn say(&self, what: &str) {
        println!("{:4} s: {what}", self.began.elapsed().as_secs());
    }

    /// Moves everything on.
    pub(super) fn look(&mut self, story: &mut Story) -> anyhow::Result<()> {
        self.start_again(story)?;
        if Instant::now() >= self.endpoint_changes_at {
            self.change_endpoint(story)?;
        }
        if let Some((since, phase)) = self.phase.take() {
            ensure!(since.elapsed() < WAIT, "a disturbance does not end");
            self.phase = match self.go_on(story, since, phase)? {
                Moved::Stays(phase) => Some((since, phase)),
                Moved::To(phase) => Some((Instant::now(), phase)),
                Moved::Over => None,
            };
            return Ok(());
        }
        if let Some((at, kind)) = self.plan.front().copied()
            && self.began.elapsed() >= at
            && self.start(story, kind)?
        {
            self.plan.pop_front();
        }
        Ok(())
    }

    /// Starts the hospital's daemon again if it ended, as a service manager does.
    fn start_again(&self, story: &mut Story) -> anyhow::Result<()> {
        let daemon = story.hospital_mut()?;
        if !daemon.is_running()? {
            self.say("the hospital's daemon ended by itself, and is started again");
            daemon.kill_and_restart()?;
        }
        Ok(())
    }

    fn change_endpoint(&mut self, story: &Story) -> anyhow::Result<()> {
        self.is_bad = !self.is_bad;
        let fault = match self.is_bad {
            true => Some(self.next_fault(story)?),
            false => None,
        };
        self.endpoint.set(fault);
        if let Some(fault) = fault {
            self.tally.endpoint_faults += 1;
            self.say(&format!("the endpoint: {fault:?}"));
        }
        let range = if self.is_bad { FAULT_S } else { GOOD_S };
        let for_s = self.random.random_range(range);
        self.endpoint_changes_at = Instant::now() + Duration::from_secs(for_s);
        Ok(())
    }

    fn next_fault(&mut self, story: &Story) -> anyhow::Result<Fault> {
        if self.deck.is_empty() {
            let lag = Duration::from_millis(self.random.random_range(LAG_MS));
            let mut deck: [Fault; KINDS_OF_FAULT as usize] = [
                Fault::Stalls,
                Fault::Fails,
                Fault::TalksNonsense,
                Fault::Lags(lag),
                Fault::IsBehind(self.random.random_range(BEHIND)),
                Fault::LosesAnswers,
            ];
            deck.shuffle(&mut self.random);
            self.deck = deck.to_vec();
        }
        Ok(match self.deck.pop().context("it is not empty")? {
            Fault::IsBehind(by) => {
                let newest = story.devnet()?.number()?;
                Fault::IsBehind(newest.saturating_sub(by).max(self.first))
            }
            fault => fault,
        })
    }

    /// Starts one of the others; answers whether it could.
    fn start(&mut self, story: &mut Story, kind: Kind) -> anyhow::Result<bool> {
        let phase = match kind {
            Kind::FullDisk => {
                self.say("the hospital's disk is full");
                Phase::FullDisk
            }
            Kind::Reorganisation => return self.reorganise(story),
            Kind::ClockJump => {
                let devnet = story.devnet()?;
                let first = devnet.number()? + 1;
                devnet.close_block_at(SystemClock.now().0 + AHEAD_S)?;
                self.say("the chain's clock is ahead");
                Phase::ClockAhead { first }
            }
        };
        self.phase = Some((Instant::now(), phase));
        Ok(true)
    }

    /// Drops the newest blocks, as far back as a batch and a revocation that landed.
    fn reorganise(&mut self, story: &Story) -> anyhow::Result<bool> {
        let (batches, revocations) = (self.hospital.batches()?, self.hospital.revocations()?);
        let blocks = batches.iter().filter_map(|batch| batch.block);
        let newest = blocks.map(|(block, _)| block.number.0).max();
        let revoked = revocations.iter().map(|(at, _)| *at).max();
        let (Some(mut from), Some(revoked)) = (newest, revoked) else {
            return Ok(false);
        };
        let devnet = story.devnet()?;
        let last = devnet.number()?;
        if from > last {
            return Ok(false);
        }
        // The chain's clock may have been ahead when the contracts were made, which have to stay.
        while from > self.first + 1 && devnet.time_of(from - 1)? >= revoked.0 {
            from -= 1;
        }
        let blocks = last + 1 - from;
        devnet.abort_blocks(from)?;
        self.dropped = self.hospital.dropped_batches()?;
        let revocations = self.hospital.revocations()?;
        let revocations = revocations.iter().filter(|(_, is_there)| !is_there).count();
        let batches = self.dropped.len();
        self.say(&format!(
            "the chain dropped {blocks} blocks, with {batches} batches and {revocations} \
             revocations that had landed"
        ));
        self.tally.reorganisations += 1;
        Ok(batches > 0 && revocations > 0)
    }

    fn go_on(&mut self, story: &mut Story, since: Instant, phase: Phase) -> anyhow::Result<Moved> {
        Ok(match phase {
            Phase::FullDisk => {
                limit_files(story, "0:")?;
                let now = SystemClock.now().0;
                let is_still = self.hospital.last_round()?.0 + STILL_S < now;
                if !is_still || since.elapsed() < FULL_DISK {
                    return Ok(Moved::Stays(phase));
                }
                limit_files(story, "unlimited:")?;
                self.say("it has room again");
                Moved::To(Phase::DiskIsFree {
                    since: SystemClock.now(),
                })
            }
            Phase::DiskIsFree { since } => {
                if self.hospital.last_round()? <= since {
                    return Ok(Moved::Stays(phase));
                }
                self.say("the hospital goes on");
                self.tally.full_disks += 1;
                Moved::Over
            }
            Phase::ClockAhead { first } => {
                if !self.clock_is_noticed()? || !self.drop_is_noticed()? {
                    return Ok(Moved::Stays(phase));
                }
                let devnet = story.devnet()?;
                let blocks = devnet.number()? + 1 - first;
                let now = SystemClock.now();
                devnet.abort_blocks(first)?;
                devnet.close_block_at(now.0)?;
                self.say(&format!(
                    "the hospital writes no batch; the clock is back, and {blocks} blocks dropped"
                ));
                self.tally.reorganisations += 1;
                Moved::To(Phase::ClockBack { since: now })
            }
            Phase::ClockBack { since } => {
                let blocks = self.hospital.batches()?.into_iter();
                let mut blocks = blocks.filter_map(|batch| batch.block);
                if !blocks.any(|(_, time)| time >= since) || self.clock_is_noticed()? {
                    return Ok(Moved::Stays(phase));
                }
                self.say("the hospital writes batches again");
                self.tally.clock_jumps += 1;
                Moved::Over
            }
        })
    }

    /// Whether the hospital writes no batches since its clock is behind the chain's.
    fn clock_is_noticed(&self) -> anyhow::Result<bool> {
        let hindrance = self.hospital.fact(&format!("{HINDRANCE}:batches"))?;
        Ok(hindrance.contains("this machine's clock is"))
    }

    /// Whether the hospital knows of every batch that was dropped.
    fn drop_is_noticed(&self) -> anyhow::Result<bool> {
        let batches = self.hospital.batches()?;
        Ok(!batches
            .iter()
            .any(|batch| self.dropped.contains(&batch.root)))
    }
}

/// What became of something that was under way.
enum Moved {
    Stays(Phase),
    To(Phase),
    Over,
}

/// When each of the others begins. The clock jumps after the chain dropped something: what the
/// hospital believes to be settled it looks at only as time goes by on the chain.
fn plan(length: Duration) -> VecDeque<(Duration, Kind)> {
    let cycles = u32::try_from(length.as_secs() / CYCLE.as_secs())
        .unwrap_or(u32::MAX)
        .max(1);
    let cycle = length / cycles;
    let of = |number: u32| {
        let began = cycle * number;
        [
            (began + cycle / 20, Kind::FullDisk),
            (began + cycle / 4, Kind::Reorganisation),
            (began + cycle / 4, Kind::ClockJump),
        ]
    };
    (0..cycles).flat_map(of).collect()
}

/// Sets the size to which the hospital's daemon may let files grow: none is a full disk to it.
fn limit_files(story: &mut Story, bytes: &str) -> anyhow::Result<()> {
    let daemon = story.hospital_mut()?;
    let process = daemon.process().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &process, &format!("--fsize={bytes}")])
        .status()
        .context("prlimit, of util-linux, is not installed")?;
    ensure!(
        status.success() || !daemon.is_running()?,
        "prlimit: {status}"
    );
    Ok(())
}
