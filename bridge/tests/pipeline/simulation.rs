//! Simulation: operations, faults and restarts from one list, on the pipeline's own code.
//!
//! A list is drawn from a seed, and shrunk to the shortest that still fails; the usual run draws
//! the same lists each time, `--full` others. Whatever was done, when the weather is calm again
//! every consent is anchored in just one batch, its circle knows where, every revocation is on
//! chain, and `fsck` finds nothing. `MEDSYNC_SIMULATIONS` says how many lists are drawn. What was
//! found once is kept below by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use medsync::daemon;
use medsync::pipeline::watch::watch_round;
use medsync::pipeline::{ingest, relay};
use medsync::source::EntryKind;
use medsync::store::revocations::Origin;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::tree::Root;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::SeedableRng;
use rand::rngs::ChaCha20Rng;
use tokio::sync::Mutex;

use super::circle::CONTEXT;
use super::faults::Fault;
use super::restored::found_but_evidence;
use super::{World, consent, revocation_of, world};

/// How many lists are drawn if nothing else is said.
const LISTS: u32 = 800;
/// How many of `scripts/test --full`.
const LISTS_OF_FULL: u32 = 20_000;
/// The longest list.
const STEPS_MAX: usize = 60;
/// The most consents of one list.
const CONSENTS_MAX: u64 = 6;
/// How far the clock is set back at most: a week, in seconds.
const SET_BACK_S_MAX: u64 = 7 * 24 * 60 * 60;
/// How many calm rounds there are at least, for the watch to come around, and until everything
/// has to be at rest.
const CALM_ROUNDS: std::ops::Range<u32> = 8..60;
/// How long each of them takes: more than anything rests or settles for.
const CALM_ROUND_S: u64 = 11 * 60;

/// Whatever can fail, but for the store's writes, which have names of their own.
const OPERATIONS: [&str; 15] = [
    "state_hash",
    "changes",
    "circle",
    "entry",
    "pin",
    "record_anchor",
    "anchored_at",
    "head_of",
    "nonce",
    "prepare",
    "send",
    "status",
    "revoked_at",
    "opening_of",
    "revoke",
];

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The patient grants its next consent.
    Grant,
    /// The patient revokes one, in the circle.
    Revoke(u64),
    /// This party revokes one itself, by its command.
    RevokeHere(u64),
    /// Somebody sends the opening of one past everybody.
    RevokePast(u64),
    Ingest,
    Relay,
    Batch,
    Watch,
    Publish,
    /// Time goes by, in seconds.
    Wait(u64),
    /// The clock was ahead by so many seconds, and is set back.
    SetBack(u64),
    /// The next call of an operation goes wrong.
    Fail(usize, Fault),
    /// The next write of the store goes wrong.
    FailWrite(Fault),
    /// The process dies now.
    Die,
    /// Transactions stay out of all blocks.
    Stuck,
    /// They come into blocks again; the oldest first, or the newest.
    GoOn(bool),
    /// The chain drops everything that it has.
    Drop,
    /// A node loses its revocations.
    Forget,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Failed),
        Just(Fault::FailedButTookEffect),
        Just(Fault::Died)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Grant),
        2 => (0..CONSENTS_MAX).prop_map(Step::Revoke),
        1 => (0..CONSENTS_MAX).prop_map(Step::RevokeHere),
        1 => (0..CONSENTS_MAX).prop_map(Step::RevokePast),
        6 => Just(Step::Ingest),
        4 => Just(Step::Relay),
        8 => Just(Step::Batch),
        2 => Just(Step::Watch),
        2 => Just(Step::Publish),
        3 => (1..2_000u64).prop_map(Step::Wait),
        1 => (1..SET_BACK_S_MAX).prop_map(Step::SetBack),
        5 => (0..OPERATIONS.len(), fault()).prop_map(|(which, fault)| Step::Fail(which, fault)),
        4 => fault().prop_map(Step::FailWrite),
        2 => Just(Step::Die),
        1 => Just(Step::Stuck),
        2 => any::<bool>().prop_map(Step::GoOn),
        1 => Just(Step::Drop),
        1 => Just(Step::Forget),
    ]
}

/// A world and what was done to it.
struct Run {
    world: World,
    granted: u64,
    revoked: BTreeSet<u64>,
}

impl Run {
    async fn begin() -> Self {
        let mut world = world(Vec::new()).await;
        // Far enough to be set back as often as a list is long.
        world.clock.advance(SET_BACK_S_MAX * STEPS_MAX as u64);
        // The same list comes to the same every time.
        world.pipeline.random = Arc::new(Mutex::new(ChaCha20Rng::seed_from_u64(0)));
        world.restart().await;
        Self {
            world,
            granted: 0,
            revoked: BTreeSet::new(),
        }
    }

    async fn take(&mut self, step: Step) {
        let world = &mut self.world;
        // Errors are what the daemon would log.
        match step {
            Step::Grant if self.granted < CONSENTS_MAX => {
                world.circle.add_consent(consent(self.granted).0);
                self.granted += 1;
            }
            Step::Revoke(number) if number < self.granted => {
                let mut revocation = revocation_of(&consent(number).1);
                revocation.key.0[0] = number as u8;
                if self.revoked.insert(number) {
                    world.circle.add_revocation(revocation);
                }
            }
            Step::RevokeHere(number) if number < self.granted => {
                let secrets = &consent(number).1.secrets;
                let (handle, key) = (secrets.handle(), secrets.claim_key.public_key());
                let (store, now) = (&world.pipeline.store, world.pipeline.clock.now());
                let opening = (&secrets.secret, key);
                let kept = store.keep_revocation(handle, CONTEXT, opening, Origin::Here, now);
                if kept.await.is_ok() {
                    self.revoked.insert(number);
                }
            }
            Step::RevokePast(number) if number < self.granted => {
                let at = world.chain.time();
                let secrets = consent(number).1.secrets;
                world.chain.open_past_everybody(&secrets, at);
            }
            Step::Grant | Step::Revoke(_) | Step::RevokeHere(_) | Step::RevokePast(_) => {}
            Step::Ingest => drop(ingest::ingest_all(&world.pipeline).await),
            Step::Relay => drop(relay::relay_round(&world.pipeline).await),
            Step::Batch => drop(world.pipeline.batch_round().await),
            Step::Watch => drop(watch_round(&world.pipeline).await),
            Step::Publish => drop(daemon::publish_revocations(&world.pipeline).await),
            Step::Wait(seconds) => world.clock.advance(seconds),
            Step::SetBack(seconds) => world.clock.set_back(seconds),
            Step::Fail(which, fault) => world.faults.plan_next(OPERATIONS[which], fault),
            Step::FailWrite(fault) => world.faults.plan_next_write(fault),
            Step::Die => world.restart().await,
            Step::Stuck => world.chain.get_stuck(),
            Step::GoOn(is_oldest_first) => world.chain.go_on(is_oldest_first),
            Step::Drop => world.chain.forget_everything(),
            Step::Forget => {
                world.circle.forget(EntryKind::Revocation);
                // What nobody here had seen is the patient's own side's to bring back.
                let mut kept = BTreeSet::new();
                for number in &self.revoked {
                    let handle = consent(*number).1.secrets.handle();
                    let known = world.pipeline.store.revocation(handle).await;
                    if known.expect("the store").is_some() {
                        kept.insert(*number);
                    }
                }
                self.revoked = kept;
            }
        }
        if world.faults.revive() {
            world.restart().await;
        }
        self.never();
    }

    /// What is never true, whatever happened.
    fn never(&self) {
        for (number, roots) in self.roots() {
            assert!(
                roots.len() <= 1,
                "consent {number} is anchored in {roots:?}"
            );
        }
    }

    /// In which batches on chain the circle shows each consent.
    fn roots(&self) -> BTreeMap<u64, BTreeSet<Root>> {
        let anchored = self.world.chain.anchored();
        let reports = self.world.circle.reports();
        let of = |number: u64| {
            let commitment = consent(number).1.commitment;
            let own = reports.iter().filter(|told| told.commitment == commitment);
            let roots = own
                .map(|told| told.root)
                .filter(|root| anchored.contains(root));
            (number, roots.collect())
        };
        (0..self.granted).map(of).collect()
    }

    /// Whether nothing is under way.
    async fn is_at_rest(&self) -> bool {
        let store = &self.world.pipeline.store;
        let batches = store.open_batches().await.expect("the store");
        let revocations = store.open_revocations(1).await.expect("the store");
        let later = UnixSeconds(1 << 40);
        let waiting = store.waiting_consents(1, later).await.expect("the store");
        let untold = store.untold_consents(1, later).await.expect("the store");
        batches.is_empty() && revocations.is_empty() && waiting.is_empty() && untold.is_empty()
    }

    /// The weather is calm from now on; then everything has to be as it should.
    async fn end(mut self) {
        self.world.faults.plan(Vec::new());
        self.world.restart().await;
        self.world.chain.go_on(true);
        for round in 0..CALM_ROUNDS.end {
            if round >= CALM_ROUNDS.start && self.is_at_rest().await {
                break;
            }
            for step in [
                Step::Ingest,
                Step::Publish,
                Step::Relay,
                Step::Batch,
                Step::Watch,
            ] {
                self.take(step).await;
            }
            self.world.chain.grow(CALM_ROUND_S);
            self.world.clock.advance(CALM_ROUND_S);
        }
        // What was brought into the circle last is yet to be seen there.
        self.take(Step::Ingest).await;
        for (number, roots) in self.roots() {
            assert_eq!(roots.len(), 1, "consent {number} is anchored in one batch");
        }
        let on_chain = self.world.chain.revoked();
        for number in &self.revoked {
            let handle = consent(*number).1.secrets.handle();
            assert!(
                on_chain.contains(&handle),
                "revocation {number} is on chain"
            );
        }
        assert_eq!(found_but_evidence(&self.world.pipeline).await, []);
    }
}

fn simulate(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut run = Run::begin().await;
        for step in steps {
            run.take(*step).await;
        }
        run.end().await;
    });
}

#[test]
fn simulated_weather_loses_nothing_and_doubles_nothing() {
    let asked = std::env::var("MEDSYNC_SIMULATIONS").ok();
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    let usual = if is_full { LISTS_OF_FULL } else { LISTS };
    let lists = asked.and_then(|text| text.parse().ok()).unwrap_or(usual);
    let config = Config {
        cases: lists,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = match is_full {
        true => TestRunner::new(config),
        false => {
            let same = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
            TestRunner::new_with_rng(config, same)
        }
    };
    let outcome = runner.run(&proptest::collection::vec(step(), 1..STEPS_MAX), |steps| {
        let outcome = std::panic::catch_unwind(|| simulate(&steps));
        outcome.map_err(|_| TestCaseError::fail("see above"))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    println!("{lists} lists were simulated");
}

/// A revocation was kept, and its entry was not noted as seen: nobody missed it when it was gone.
#[test]
fn a_revocation_that_vanishes_right_after_a_failed_write_comes_back() {
    simulate(&[
        Step::Grant,
        Step::Revoke(0),
        Step::FailWrite(Fault::FailedButTookEffect),
        Step::Ingest,
        Step::Relay,
        Step::Forget,
    ]);
}

/// A walk had missed it before: the circle's state was the one of that walk again.
#[test]
fn a_revocation_that_vanishes_again_before_the_next_walk_comes_back() {
    simulate(&[
        Step::Grant,
        Step::Grant,
        Step::Revoke(0),
        Step::Ingest,
        Step::Forget,
        Step::Ingest,
        Step::Publish,
        Step::Forget,
    ]);
}
