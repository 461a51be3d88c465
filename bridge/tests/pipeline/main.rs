//! The pipeline under faults: every call outside × {failed, failed but took effect, died right
//! after}. Whoever died starts again over the same store.
//!
//! Whatever fails, afterwards every consent is anchored exactly once, its circle knows where, and
//! every revocation is on chain.

mod access;
mod chain;
mod circle;
mod claims;
mod custodian;
mod devices;
mod door;
mod earlier;
mod endpoints;
mod fairness;
mod faults;
mod full_disk;
mod imports;
mod kept;
mod keys;
mod log;
mod quiet;
mod restored;
mod rows;
mod settled;
mod shared;
mod signed;
mod simulation;
mod stuck;
mod tickets;
mod tracked;
mod verifier;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use medsync::at_rest::HomeSecret;
use medsync::daemon;
use medsync::pipeline::claims::claim_round;
use medsync::pipeline::ingest::{Readings, Round};
use medsync::pipeline::place::LastTree;
use medsync::pipeline::{BatchBounds, Pipeline, ingest, relay};
use medsync::seams::{Clock, system_random};
use medsync::source::{ApplicationId, BlobId, Consent, EntryKey, GroupId, Revocation, StageReport};
use medsync::store::circles::CircleRow;
use medsync_protocol::consent::{Registry, SignedGrant};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    Anchorer, ChainId, ClassHash, ContextId, ContextKind, ContractAddress, MemberId, UnixSeconds,
};
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::SecretKey;
use medsync_protocol::terms::{Provision, ProvisionKind};
use tokio::sync::Mutex;

use chain::{FakeAccount, FakeChain};
use circle::{CONTEXT, CUSTODIAN, FakeCircle, FakeCircles, OTHER};
use faults::{Fault, Faults, Plan};
use signed::{consent, consent_of, consent_to, consent_until, sign_between, sign_terms};

const CONSENTS: u64 = 3;
const ROUNDS_MAX: u32 = 40;

/// When the tests begin, and how long a round takes, in seconds.
const START: u64 = 5_000;
const ROUND_S: u64 = 20;
/// How far a clock is ahead that is quite wrong, in seconds.
const YEAR_S: u64 = 365 * 24 * 60 * 60;
/// How long what is needed no more is kept, in seconds.
const RETENTION_S: u64 = 90 * 24 * 60 * 60;
/// How long what the chain said has to hold, in seconds.
const SETTLED_S: u64 = 10 * 60;

struct TestClock(AtomicU64);

impl TestClock {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn set_back(&self, seconds: u64) {
        self.0.fetch_sub(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(self.0.load(Ordering::SeqCst))
    }
}

fn registry() -> Registry {
    Registry {
        chain_id: ChainId::from_felt(Felt::ONE),
        registry: ContractAddress::from_felt(Felt::TWO),
    }
}

/// What seals every home of these tests.
fn secret() -> HomeSecret {
    HomeSecret::from_bytes(&[7; 32])
}

fn anchorer() -> Anchorer {
    Anchorer::from_felt(Felt::from(100))
}

struct World {
    home: tempfile::TempDir,
    clock: Arc<TestClock>,
    pipeline: Pipeline,
    chain: FakeChain,
    circle: FakeCircle,
    /// Another patient's circle on the same node; entered by the tests that want it.
    other: FakeCircle,
    faults: Faults,
}

impl World {
    /// A new process over the same store, whose writes go wrong as planned too.
    async fn restart(&mut self) {
        let faults = Arc::new(self.faults.clone());
        let store = shared::opened_with(self.home.path(), Some(faults)).await;
        self.pipeline.store = store.expect("the store");
        self.pipeline.readings = Readings::default();
        self.pipeline.last_tree = LastTree::default();
    }

    /// The same of a patient who leaves everything to the hospital's accounts.
    fn without_accounts(&self) -> Pipeline {
        Pipeline {
            anchor_account: None,
            revoke_account: None,
            claim_account: None,
            ..self.pipeline.clone()
        }
    }

    async fn enter_other(&self) {
        let row = CircleRow {
            context: OTHER,
            ..row()
        };
        self.pipeline
            .store
            .enter_circle(&row)
            .await
            .expect("entered");
    }
}

/// A folder in memory where there is one: these tests wait for no disk.
fn folder() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory
        .or_else(|_| tempfile::tempdir())
        .expect("a folder")
}

async fn world(plans: Vec<Plan>) -> World {
    let faults = Faults::planned(plans);
    let home = folder();
    let store = shared::opened(home.path()).await.expect("a store");
    store.enter_circle(&row()).await.expect("entered");
    let chain = FakeChain::new(faults.clone());
    let [circle, other] = [CONTEXT, OTHER]
        .map(|context| FakeCircle::new(context, faults.clone(), patient().public_key()));
    let clock = Arc::new(TestClock(AtomicU64::new(START)));
    let account = |address: u64| {
        let address = ContractAddress::from_felt(Felt::from(address));
        Some(Arc::new(FakeAccount {
            chain: chain.clone(),
            address,
        }) as Arc<dyn medsync::chain::Account>)
    };
    let pipeline = Pipeline {
        store,
        circles: Arc::new(FakeCircles(vec![circle.clone(), other.clone()])),
        chain: Arc::new(chain.clone()),
        clock: clock.clone(),
        random: Arc::new(Mutex::new(system_random())),
        registry: registry(),
        class_hash: ClassHash::from_felt(Felt::ONE),
        anchor_account: account(100),
        revoke_account: account(200),
        claim_account: account(300),
        relay_after_s: 0,
        // Its chain's clock is not this one's.
        block_age_s_max: u64::MAX,
        clock_behind_s_max: u64::MAX,
        clock_behind_s: Arc::default(),
        peers_ahead_s: Arc::default(),
        retention_s: RETENTION_S,
        batch: BatchBounds {
            age_s_max: 0,
            consents_max: 2,
        },
        seen_max: ingest::SEEN_MAX,
        readings: Readings::default(),
        last_tree: LastTree::default(),
        chain_is_right: Arc::default(),
    };
    World {
        home,
        clock,
        pipeline,
        chain,
        circle,
        other,
        faults,
    }
}

fn row() -> CircleRow {
    CircleRow {
        kind: ContextKind::Circle,
        context: CONTEXT,
        group: GroupId([6; 32]),
        label: "circle".into(),
        member: CUSTODIAN,
        custodian_member: CUSTODIAN,
        application: ApplicationId([4; 32]),
        bytecode: BlobId([5; 32]),
        invitation: None,
        patient_member: None,
        recipient_key: None,
        device: DeviceNumber::FIRST,
        entered_at: UnixSeconds(0),
        state_hash: None,
        consents_digest: None,
        alarm: None,
        suspected_at: None,
    }
}

fn patient() -> SecretKey {
    SecretKey::from_scalar(&[3; 32]).expect("a scalar")
}

fn fill(circle: &FakeCircle) {
    for number in 0..CONSENTS {
        let (consent, signed) = consent(number);
        circle.add_consent(consent);
        if number == 0 {
            circle.add_revocation(revocation_of(&signed));
        }
    }
}

fn revocation_of(signed: &SignedGrant) -> Revocation {
    Revocation {
        key: EntryKey([99; 32]),
        handle: signed.secrets.handle(),
        secret: signed.secrets.secret.clone(),
        claim_key: signed.secrets.claim_key.public_key(),
        recorded_at: UnixSeconds(11),
    }
}

/// Rounds of all lanes until nothing is left to do; a process that died starts again.
async fn run(world: &mut World) {
    for _ in 0..ROUNDS_MAX {
        let is_idle = round(world).await;
        if world.faults.revive() {
            world.restart().await;
        } else if is_idle {
            return;
        }
    }
    panic!("the pipeline did not come to rest in {ROUNDS_MAX} rounds");
}

/// One round of all lanes; answers whether nothing is left to do. Errors are what the daemon would
/// log.
async fn round(world: &World) -> bool {
    let pipeline = &world.pipeline;
    let ingested = ingest::ingest_all(pipeline).await;
    let relayed = relay::relay_round(pipeline).await;
    let claimed = claim_round(pipeline).await;
    let moved = pipeline.batch_round().await;
    let idle = matches!(
        (&ingested, &relayed, &claimed, &moved),
        (Ok(round), Ok(false), Ok(false), Ok(false)) if *round == Round::default()
    );
    let later = UnixSeconds(1 << 40);
    let store = &pipeline.store;
    let waiting = store.waiting_consents(1, later).await;
    let untold = store.untold_consents(1, later).await;
    let unsure = store.contexts_with_unsure_places(later).await;
    world.clock.advance(ROUND_S);
    let is_sealed = waiting.expect("the store").is_empty() && untold.expect("the store").is_empty();
    idle && is_sealed && unsure.expect("the store").is_empty()
}

/// What has to be true at rest.
fn check(world: &World, plan: &str) {
    let (anchored, reports) = (world.chain.anchored(), world.circle.reports());
    for number in 0..CONSENTS {
        let (_, signed) = consent(number);
        let leaf = signed.commitment.leaf(&signed.signature);
        let mine: Vec<_> = reports
            .iter()
            .filter(|report| report.commitment == signed.commitment)
            .collect();
        assert!(
            mine.iter().all(|r| r.proof.includes(leaf, r.root)),
            "{plan}: a path leads astray"
        );
        let roots: std::collections::HashSet<_> = mine.iter().map(|r| r.root).collect();
        assert_eq!(roots.len(), 1, "{plan}: consent {number} is in one batch");
        assert!(
            roots.iter().all(|root| anchored.contains(root)),
            "{plan}: and that is anchored"
        );
        let told = mine
            .iter()
            .any(|r| matches!(r.stage, StageReport::Anchored { .. }));
        assert!(
            told,
            "{plan}: the circle of consent {number} knows its block"
        );
    }
    assert_eq!(anchored.len(), 2, "{plan}: three consents, two a batch");
    let (_, revoked) = consent(0);
    assert_eq!(
        world.chain.revoked(),
        [revoked.secrets.handle()],
        "{plan}: one revocation"
    );
}

#[tokio::test]
async fn without_faults_every_consent_is_anchored_once() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    check(&world, "no fault");
    assert_eq!(
        world.faults.calls("send"),
        3,
        "two batches and one revocation"
    );
}

#[tokio::test]
async fn hostile_weather_every_call_fails_once_in_each_way() {
    let mut calm = world(Vec::new()).await;
    fill(&calm.circle);
    run(&mut calm).await;
    let mut rows = 0;
    for (operation, has_effect) in [
        ("state_hash", false),
        ("changes", false),
        ("circle", false),
        ("entry", false),
        ("pin", false),
        ("record_anchor", true),
        ("anchored_at", false),
        ("head_of", false),
        ("nonce", false),
        ("prepare", false),
        ("send", true),
        ("status", false),
        ("revoked_at", false),
    ] {
        let calls = calm.faults.calls(operation);
        assert!(
            calls > 0,
            "{operation} is never called; the table is out of date"
        );
        for call in 1..=calls {
            for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
                if fault == Fault::FailedButTookEffect && !has_effect {
                    continue;
                }
                let plan = Plan {
                    operation,
                    call,
                    fault,
                };
                let name = format!("{plan:?}");
                let mut world = world(vec![plan]).await;
                fill(&world.circle);
                run(&mut world).await;
                assert!(
                    world.faults.calls(operation) >= call,
                    "{name}: it did not happen"
                );
                check(&world, &name);
                rows += 1;
            }
        }
    }
    println!("{rows} rows of the fault table hold");
}

#[tokio::test]
async fn hostile_member_drops_everything_and_the_revocation_stays_in_force() {
    let world = world(Vec::new()).await;
    fill(&world.circle);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    world.circle.drop_entries();
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    // What its circle does not have gets no place there, and is not anchored before it is back.
    assert_eq!(world.chain.anchored(), []);
    assert_eq!(world.chain.revoked(), [consent(0).1.secrets.handle()]);
    let evidence = world
        .pipeline
        .store
        .evidence(CONTEXT)
        .await
        .expect("the store");
    assert_eq!(evidence.vanished, 4);
    // The revocation is brought back into its circle.
    daemon::publish_revocations(&world.pipeline)
        .await
        .expect("brought");
    assert_eq!(world.circle.revocations(), 1);
}

#[tokio::test]
async fn hostile_member_replaces_an_entry_and_it_is_told() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    world.circle.replace_entry(1);
    run(&mut world).await;
    let evidence = world
        .pipeline
        .store
        .evidence(CONTEXT)
        .await
        .expect("the store");
    assert_eq!((evidence.vanished, evidence.replaced), (0, 1));
    check(&world, "an entry was replaced");
}

#[tokio::test]
async fn hostile_hospital_adds_a_reader_and_the_circle_stops() {
    let world = world(Vec::new()).await;
    world.circle.add_to_group(MemberId([66; 32]));
    fill(&world.circle);
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    let row = world
        .pipeline
        .store
        .circle(CONTEXT)
        .await
        .expect("the circle");
    assert!(row.alarm.is_some_and(|why| why.contains("readers")));
    assert!(world.chain.anchored().is_empty());
    assert_eq!(
        world.chain.revoked().len(),
        1,
        "a revocation proves itself and does not wait for a person"
    );
}

#[tokio::test]
async fn hostile_hospital_pushes_code_and_the_circle_stops_for_good() {
    let world = world(Vec::new()).await;
    fill(&world.circle);
    world.circle.push_code(true);
    for pushed in [true, false] {
        world.circle.push_code(pushed);
        for _ in 0..ROUNDS_MAX {
            round(&world).await;
        }
        let called = world.faults.calls("changes") > 0;
        assert_eq!(called, !pushed, "other code is not called");
    }
    let row = world.pipeline.store.circle(CONTEXT).await.expect("a row");
    assert!(row.alarm.is_some_and(|why| why.contains("code")));
    assert!(world.chain.anchored().is_empty());
}

#[tokio::test]
async fn hostile_node_serves_consents_that_do_not_count_and_they_are_left_out() {
    let mut world = world(Vec::new()).await;
    let (mut forged, _) = consent(0);
    forged.signature.s = forged.signature.r;
    let other = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    let stranger = Anchorer::from_felt(Felt::from(101));
    for consent in [
        forged,
        consent_of(&other, 1, CONTEXT, anchorer()).0,
        consent_of(&patient(), 2, ContextId([77; 32]), anchorer()).0,
        consent_of(&patient(), 3, CONTEXT, stranger).0,
    ] {
        world.circle.add_consent(consent);
    }
    run(&mut world).await;
    assert!(world.chain.anchored().is_empty());
}

#[tokio::test]
async fn hostile_second_enrolment_freezes_the_circle_and_is_told() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    let other = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    world.circle.enrol_again(other.public_key());
    run(&mut world).await;
    assert!(world.chain.anchored().is_empty());
    assert_eq!(
        world.chain.revoked().len(),
        1,
        "revoking works all the same"
    );
    let fact = ingest::frozen_fact(CONTEXT);
    let since = world.pipeline.store.fact(&fact).await.expect("the store");
    assert_eq!(since.as_deref(), Some("5000"));
}
