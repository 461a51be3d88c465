//! The pipeline under faults: every call outside × {failed, failed but took effect}, and a death
//! right after it, which is the same to a pipeline that keeps nothing in memory.
//!
//! Whatever fails, afterwards every consent is anchored exactly once, its circle knows where, and
//! every revocation is on chain.

mod chain;
mod circle;
mod faults;
mod verifier;

use std::sync::Arc;

use medsync::guard::GuardError;
use medsync::pipeline::{BatchBounds, Pipeline, PipelineError, ingest, relay, watch};
use medsync::seams::{Clock, system_random};
use medsync::source::{
    ApplicationId, BlobId, Consent, ConsentState, EntryKey, GroupId, Revocation, StageReport,
};
use medsync::store::Store;
use medsync::store::circles::CircleRow;
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{Grant, Registry, SignedGrant};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    AddressBytes, Anchorer, ChainId, ContextId, ContractAddress, MemberId, Nonce, Sha256Digest,
    UnixSeconds,
};
use medsync_protocol::secrets::{Counter, DeviceNumber, Seed};
use medsync_protocol::signature::SecretKey;
use medsync_protocol::terms::{Provision, ProvisionKind, TERMS_VERSION, Terms};
use tokio::sync::Mutex;

use chain::{FakeAccount, FakeChain};
use circle::{CONTEXT, CUSTODIAN, FakeCircle};
use faults::{Fault, Faults, Plan};

const CONSENTS: u64 = 3;
const ROUNDS_MAX: u32 = 40;

struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> UnixSeconds {
        UnixSeconds(5_000)
    }
}

fn registry() -> Registry {
    Registry {
        chain_id: ChainId::from_felt(Felt::ONE),
        registry: ContractAddress::from_felt(Felt::TWO),
    }
}

fn anchorer() -> Anchorer {
    Anchorer::from_felt(Felt::from(100))
}

struct World {
    _home: tempfile::TempDir,
    pipeline: Pipeline,
    chain: FakeChain,
    circle: FakeCircle,
    faults: Faults,
}

async fn world(plans: Vec<Plan>) -> World {
    let faults = Faults::planned(plans);
    let home = tempfile::tempdir().expect("a folder");
    let store = Store::open(home.path()).await.expect("a store");
    store.enter_circle(&row()).await.expect("entered");
    let (chain, circle) = (
        FakeChain::new(faults.clone()),
        FakeCircle::new(faults.clone(), patient().public_key()),
    );
    let account = |address: u64| {
        let address = ContractAddress::from_felt(Felt::from(address));
        Some(Arc::new(FakeAccount {
            chain: chain.clone(),
            address,
        }) as Arc<dyn medsync::chain::Account>)
    };
    let pipeline = Pipeline {
        store,
        circles: Arc::new(circle.clone()),
        chain: Arc::new(chain.clone()),
        clock: Arc::new(StoppedClock),
        random: Arc::new(Mutex::new(system_random())),
        registry: registry(),
        anchor_account: account(100),
        revoke_account: account(200),
        relay_after_s: 0,
        batch: BatchBounds {
            age_s_max: 0,
            consents_max: 2,
        },
    };
    World {
        _home: home,
        pipeline,
        chain,
        circle,
        faults,
    }
}

fn row() -> CircleRow {
    CircleRow {
        context: CONTEXT,
        group: GroupId([6; 32]),
        label: "circle".into(),
        member: CUSTODIAN,
        custodian_member: CUSTODIAN,
        application: ApplicationId([4; 32]),
        bytecode: BlobId([5; 32]),
        invitation: None,
        entered_at: UnixSeconds(0),
        state_hash: None,
        alarm: None,
    }
}

fn patient() -> SecretKey {
    SecretKey::from_scalar(&[3; 32]).expect("a scalar")
}

fn consent(number: u64) -> (Consent, SignedGrant) {
    consent_of(&patient(), number, CONTEXT, anchorer())
}

/// A consent that `patient` signed, for a circle and a custodian of one's choice.
fn consent_of(
    patient: &SecretKey,
    number: u64,
    context: ContextId,
    anchorer: Anchorer,
) -> (Consent, SignedGrant) {
    let purposes = CodeSet::collect([Code::new("act", "HRESCH")]).expect("short");
    let terms = Terms {
        version: TERMS_VERSION,
        nonce: Nonce([number as u8; 32]),
        context,
        custodian_member: CUSTODIAN,
        custodian_address: AddressBytes::of(anchorer),
        policy_uri: "https://example.org".into(),
        policy_sha256: Sha256Digest([0; 32]),
        provision: Provision {
            purposes,
            ..Provision::everything(ProvisionKind::Permit)
        },
        exceptions: Vec::new(),
    };
    let grant = Grant {
        terms: terms.digest().expect("sound"),
        anchorer,
        grantee: patient.public_key(),
        not_before: UnixSeconds(0),
        not_after: UnixSeconds(0),
    };
    let seed = Seed::from_bytes(&[5; 32]).expect("a felt");
    let signed = grant
        .sign(registry(), patient, &seed, DeviceNumber(0), Counter(number))
        .expect("sound");
    let consent = Consent {
        key: EntryKey([number as u8; 32]),
        commitment: signed.commitment,
        terms_bytes: terms.encode().expect("sound"),
        terms,
        opening: signed.opening,
        signature: signed.signature,
        state: ConsentState::InForce,
        recorded_at: UnixSeconds(10),
        revoked_at: None,
        anchors: Vec::new(),
    };
    (consent, signed)
}

fn fill(circle: &FakeCircle) {
    for number in 0..CONSENTS {
        let (consent, signed) = consent(number);
        circle.add_consent(consent);
        if number == 0 {
            circle.add_revocation(Revocation {
                key: EntryKey([99; 32]),
                handle: signed.secrets.handle(),
                secret: signed.secrets.secret.clone(),
                claim_key: signed.secrets.claim_key.public_key(),
                recorded_at: UnixSeconds(11),
            });
        }
    }
}

/// Rounds of all lanes until nothing is left to do; errors are what the daemon would log.
async fn run(world: &World) -> u32 {
    let mut errors = 0;
    for _ in 0..ROUNDS_MAX {
        let ingested = ingest::ingest_all(&world.pipeline).await;
        let relayed = relay::relay_round(&world.pipeline).await;
        let moved = world.pipeline.batch_round().await;
        errors +=
            u32::from(ingested.is_err()) + u32::from(relayed.is_err()) + u32::from(moved.is_err());
        let idle = matches!(
            (&ingested, &relayed, &moved),
            (Ok(()), Ok(false), Ok(false))
        );
        let (waiting, _) = world
            .pipeline
            .store
            .waiting_consents(1)
            .await
            .expect("the store");
        if idle && waiting.is_empty() {
            return errors;
        }
    }
    panic!("the pipeline did not come to rest in {ROUNDS_MAX} rounds");
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
    let world = world(Vec::new()).await;
    fill(&world.circle);
    assert_eq!(run(&world).await, 0);
    check(&world, "no fault");
    assert_eq!(
        world.faults.calls("send"),
        3,
        "two batches and one revocation"
    );
}

#[tokio::test]
async fn hostile_weather_every_call_fails_once_in_each_way() {
    let calm = world(Vec::new()).await;
    fill(&calm.circle);
    run(&calm).await;
    let mut rows = 0;
    for (operation, has_effect) in [
        ("state_hash", false),
        ("changes", false),
        ("circle", false),
        ("entry", false),
        ("record_anchor", true),
        ("head_of", false),
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
            for fault in [Fault::Failed, Fault::FailedButTookEffect] {
                if fault == Fault::FailedButTookEffect && !has_effect {
                    continue;
                }
                let plan = Plan {
                    operation,
                    call,
                    fault,
                };
                let name = format!("{plan:?}");
                let world = world(vec![plan]).await;
                fill(&world.circle);
                assert!(run(&world).await > 0, "{name}: the fault was not noticed");
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
    run(&world).await;
    check(&world, "entries dropped after they were seen");
}

#[tokio::test]
async fn hostile_hospital_adds_a_reader_and_the_circle_stops() {
    let world = world(Vec::new()).await;
    world.circle.add_member(MemberId([66; 32]));
    fill(&world.circle);
    let stopped = ingest::ingest_all(&world.pipeline).await;
    assert!(matches!(
        stopped,
        Err(PipelineError::Guard(GuardError::Alarm { .. }))
    ));
    let row = world
        .pipeline
        .store
        .circle(CONTEXT)
        .await
        .expect("the circle");
    assert!(row.alarm.is_some_and(|why| why.contains("readers")));
    assert!(world.chain.anchored().is_empty());
}

#[tokio::test]
async fn hostile_hospital_pushes_code_and_the_circle_stops_for_good() {
    let world = world(Vec::new()).await;
    fill(&world.circle);
    world.circle.push_code(true);
    for pushed in [true, false] {
        world.circle.push_code(pushed);
        let stopped = ingest::ingest_all(&world.pipeline).await;
        assert!(matches!(
            stopped,
            Err(PipelineError::Guard(GuardError::Alarm { .. }))
        ));
    }
    let row = world.pipeline.store.circle(CONTEXT).await.expect("a row");
    assert!(row.alarm.is_some_and(|why| why.contains("code")));
    assert!(world.chain.anchored().is_empty());
}

/// Whoever can stop a circle must not stop the other patients' batches with it.
#[tokio::test]
async fn hostile_reader_stops_a_circle_and_no_batch() {
    let world = world(Vec::new()).await;
    fill(&world.circle);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    world.circle.add_member(MemberId([66; 32]));
    for _ in 0..ROUNDS_MAX {
        world.pipeline.batch_round().await.expect("nothing hinders");
    }
    assert_eq!(
        world.chain.anchored().len(),
        2,
        "three consents, two a batch"
    );
    assert!(
        world.circle.reports().is_empty(),
        "the circle is left alone"
    );
}

#[tokio::test]
async fn hostile_node_serves_consents_that_do_not_count_and_they_are_left_out() {
    let world = world(Vec::new()).await;
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
    run(&world).await;
    assert!(world.chain.anchored().is_empty());
}

#[tokio::test]
async fn hostile_second_enrolment_freezes_the_circle_and_is_told() {
    let world = world(Vec::new()).await;
    fill(&world.circle);
    let other = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    world.circle.enrol_again(other.public_key());
    run(&world).await;
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

#[tokio::test]
async fn a_revocation_past_everybody_here_is_seen() {
    let world = world(Vec::new()).await;
    let (consent, signed) = consent(1);
    world.circle.add_consent(consent);
    run(&world).await;
    let handle = signed.secrets.handle();
    let seen = || watch::revoked_by_others(&world.pipeline.store, handle);
    watch::watch_round(&world.pipeline).await.expect("asked");
    assert_eq!(seen().await.expect("the store"), None);
    world
        .chain
        .revoke_past_everybody(handle, UnixSeconds(1_001));
    watch::watch_round(&world.pipeline).await.expect("asked");
    assert_eq!(seen().await.expect("the store"), Some(UnixSeconds(1_001)));
}
