//! Nobody's circle keeps another's waiting, and nobody drains an account.

use std::collections::BTreeSet;

use medsync::audit;
use medsync::pipeline::ingest;
use medsync::seams::{Clock, system_random};
use medsync::source::{Circle, EntryKey, EntryKind, LogEntry, Revocation, StageReport};
use medsync::store::revocations::UNKNOWN_RELAYED_MAX;
use medsync_protocol::audit::Body;
use medsync_protocol::consent::Commitment;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{MemberId, UnixSeconds};
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Root;

use super::circle::{CONTEXT, FakeCircle, OTHER, Refuses};
use super::faults::{Fault, Plan};
use super::{
    ROUNDS_MAX, START, World, anchorer, consent, consent_of, fill, patient, revocation_of, round,
    run, world,
};

/// A revocation of nothing: anybody can make them without end.
fn rubbish(number: u64) -> Revocation {
    let secret = RevocationSecret::parse(&format!("{:#x}", number + 1)).expect("a felt");
    let claim_key = PublicKey::from_felt(Felt::ONE);
    Revocation {
        key: EntryKey([97; 32]),
        handle: Handle::of(secret.hash(), claim_key),
        secret,
        claim_key,
        recorded_at: UnixSeconds(1),
    }
}

#[tokio::test]
async fn what_was_verified_before_a_node_fell_silent_is_kept() {
    // The revocation is read first, then the consents.
    let plan = Plan {
        operation: "entry",
        call: 4,
        fault: Fault::Failed,
    };
    let world = world(vec![plan]).await;
    fill(&world.circle);
    let round = ingest::ingest_all(&world.pipeline).await.expect("a store");
    assert_eq!(round.failed, 1);
    let now = UnixSeconds(START);
    let (waiting, since) = world.pipeline.store.waiting(now).await.expect("the store");
    assert_eq!((waiting, since), (2, Some(now)));
}

#[tokio::test]
async fn hostile_member_opens_handles_without_end_and_nobody_waits_or_pays_for_it() {
    let world = world(Vec::new()).await;
    world.enter_other().await;
    for number in 0..1_000 {
        world.other.add_revocation(rubbish(number));
    }
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    assert_eq!(world.chain.revoked().len(), UNKNOWN_RELAYED_MAX as usize);
    // Another patient's is in the next transaction, whatever waits there.
    for number in 1_000..2_000 {
        world.other.add_revocation(rubbish(number));
    }
    let (granted, signed) = consent(1);
    world.circle.add_consent(granted);
    world.circle.add_revocation(revocation_of(&signed));
    for _ in 0..3 {
        round(&world).await;
    }
    assert!(world.chain.revoked().contains(&signed.secrets.handle()));
}

#[tokio::test]
async fn hostile_circle_that_is_slow_leaves_the_others_half_of_the_time() {
    slow_circle_leaves_half_of_the_time(Vec::new()).await;
}

#[tokio::test]
async fn hostile_circle_that_is_slow_and_fails_leaves_the_others_half_of_the_time() {
    let fails = (1..=1_000).map(|call| Plan {
        operation: "entry",
        call,
        fault: Fault::FailedButTookEffect,
    });
    slow_circle_leaves_half_of_the_time(fails.collect()).await;
}

async fn slow_circle_leaves_half_of_the_time(plans: Vec<Plan>) {
    let world = world(plans).await;
    world.enter_other().await;
    world.other.be_slow(world.clock.clone(), 5);
    for number in 0..1_000 {
        world.other.add_revocation(rubbish(number));
    }
    let began = world.clock.now();
    const ROUNDS: u64 = 100;
    for _ in 0..ROUNDS {
        ingest::ingest_all(&world.pipeline).await.expect("read");
        world.clock.advance(1);
    }
    let passed_s = world.clock.now().0 - began.0;
    let slow_s = passed_s - ROUNDS;
    assert!(slow_s > 0, "it is read all the same");
    assert!(2 * slow_s <= passed_s, "{slow_s} s of {passed_s}");
}

/// Whoever deletes what it wrote and writes anew has what was seen of it kept each time.
#[tokio::test]
async fn hostile_member_writes_without_end_and_fills_no_store() {
    let mut world = world(Vec::new()).await;
    world.pipeline.seen_max = 16;
    let (granted, signed) = consent(1);
    world.circle.add_consent(granted);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    for number in 0..64 {
        world.circle.add_revocation(rubbish(number));
    }
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    let store = &world.pipeline.store;
    let alarm = store.circle(CONTEXT).await.expect("a row").alarm;
    assert!(alarm.is_some_and(|why| why.contains("more entries")));
    let kept = async |number| {
        let handle = rubbish(number).handle;
        store.revocation(handle).await.expect("the store").is_some()
    };
    for number in 0..64 {
        assert!(!kept(number).await, "{number}");
    }
    // Whoever granted here can still revoke.
    world.circle.add_revocation(revocation_of(&signed));
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    assert_eq!(world.chain.revoked(), [signed.secrets.handle()]);
}

#[tokio::test]
async fn a_revocation_that_came_before_its_consent_goes_out_with_it() {
    let world = world(Vec::new()).await;
    for number in 0..u64::from(UNKNOWN_RELAYED_MAX) {
        world.circle.add_revocation(rubbish(number));
    }
    let (granted, signed) = consent(1);
    world.circle.add_revocation(revocation_of(&signed));
    for _ in 0..5 {
        round(&world).await;
    }
    assert!(!world.chain.revoked().contains(&signed.secrets.handle()));
    world.circle.add_consent(granted);
    for _ in 0..5 {
        round(&world).await;
    }
    assert!(world.chain.revoked().contains(&signed.secrets.handle()));
}

/// Whoever can stop a circle must not stop the other patients' batches with it.
#[tokio::test]
async fn hostile_reader_stops_a_circle_and_no_batch() {
    let world = world(Vec::new()).await;
    world.enter_other().await;
    world.circle.add_consent(consent(0).0);
    world
        .other
        .add_consent(consent_of(&patient(), 1, OTHER, anchorer()).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    world.circle.add_to_group(MemberId([66; 32]));
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    assert!(
        world.circle.reports().is_empty(),
        "the circle is left alone"
    );
    assert!(!world.other.reports().is_empty());
    assert_eq!(world.chain.anchored().len(), 1);
}

/// Nothing goes to the chain whose position is not in its circle, and nobody waits for the circle
/// that does not take it.
#[tokio::test]
async fn hostile_circle_refuses_its_position_and_the_others_go_on_without_it() {
    let world = world(Vec::new()).await;
    world.enter_other().await;
    world.circle.refuse(Refuses::Everything);
    world.circle.add_consent(consent(0).0);
    world
        .other
        .add_consent(consent_of(&patient(), 1, OTHER, anchorer()).0);
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    assert_eq!(world.chain.anchored().len(), 1);
    assert!(!world.other.reports().is_empty());
    assert!(world.circle.reports().is_empty());
    // Later it is tried again.
    world.circle.refuse(Refuses::Nothing);
    world.clock.advance(2 * 60 * 60);
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    assert_eq!(world.chain.anchored().len(), 2);
    assert!(!world.circle.reports().is_empty());
}

/// A circle is held back as a whole: with a stream of consents it would have every batch taken
/// apart, one after the other.
#[tokio::test]
async fn hostile_stream_of_consents_that_are_refused_delays_one_batch() {
    let world = world(Vec::new()).await;
    world.enter_other().await;
    world.circle.refuse(Refuses::Everything);
    world
        .other
        .add_consent(consent_of(&patient(), 100, OTHER, anchorer()).0);
    for number in 0..5 {
        world.circle.add_consent(consent(number).0);
        round(&world).await;
    }
    assert_eq!(world.chain.anchored().len(), 1);
    assert!(!world.other.reports().is_empty());
}

/// What a circle does not take after its batch is on chain, it is told again.
#[tokio::test]
async fn a_circle_that_refuses_once_hears_of_its_block_later() {
    let world = world(Vec::new()).await;
    world.circle.add_consent(consent(0).0);
    world.circle.refuse(Refuses::Blocks);
    while world.chain.anchored().is_empty() {
        round(&world).await;
    }
    let told = world.circle.reports().len();
    for _ in 0..3 {
        round(&world).await;
    }
    assert_eq!(world.circle.reports().len(), told);
    world.circle.refuse(Refuses::Nothing);
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    assert!(world.circle.reports().len() > told);
}

/// Whoever deletes what it wrote before it has its place is left out alone.
#[tokio::test]
async fn hostile_member_deletes_its_consent_and_log_and_all_others_are_anchored() {
    const HOUR_S: u64 = 60 * 60;
    let mut world = world(Vec::new()).await;
    world.enter_other().await;
    world.pipeline.batch.consents_max = 16;
    for number in 0..3 {
        world.circle.add_consent(consent(number).0);
    }
    let (elsewhere, _) = consent_of(&patient(), 7, OTHER, anchorer());
    world.other.add_consent(elsewhere);
    world
        .circle
        .append_log(&said_elsewhere().await)
        .await
        .expect("taken");
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let (deleted, signed) = consent(1);
    world.circle.drop_consent(signed.commitment);
    world.circle.forget(EntryKind::Log);
    for _ in 0..6 {
        // What is taken apart is sealed anew.
        let _ = world.pipeline.batch_round().await;
    }
    let told = |circle: &FakeCircle| {
        let reports = circle.reports();
        let told = reports
            .iter()
            .filter(|report| matches!(report.stage, StageReport::Anchored { .. }));
        told.count()
    };
    assert_eq!((told(&world.circle), told(&world.other)), (2, 1));
    assert_eq!(world.chain.anchored().len(), 1);
    let waiting = async |world: &World| {
        let waiting = world.pipeline.store.waiting(world.clock.now()).await;
        waiting.expect("the store").0
    };
    assert_eq!(waiting(&world).await, 0, "it is left out");
    // It is there again, and has its place once its time has come.
    world.circle.add_consent(deleted);
    world.clock.advance(HOUR_S);
    assert_eq!(waiting(&world).await, 1);
    run(&mut world).await;
    assert_eq!(told(&world.circle), 3);
}

/// One consent after the other, each before it has its place.
#[tokio::test]
async fn hostile_patient_deletes_without_end_and_the_others_circles_hear_of_few_places() {
    const DELETED: u64 = 20;
    let mut world = world(Vec::new()).await;
    world.enter_other().await;
    world.pipeline.batch.consents_max = 64;
    for number in 0..DELETED {
        world.circle.add_consent(consent(number).0);
    }
    world
        .other
        .add_consent(consent_of(&patient(), 7, OTHER, anchorer()).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    for number in 0..DELETED {
        world.circle.drop_consent(consent(number).1.commitment);
        // What is taken apart is sealed anew.
        let _ = world.pipeline.batch_round().await;
    }
    let heard: BTreeSet<Root> = world.other.reports().iter().map(|told| told.root).collect();
    assert_eq!(heard.len(), 3, "its circle is left out from the second on");
    assert_eq!(world.chain.anchored().len(), 1);
}

/// An entry of the patient's log that this store did not write.
async fn said_elsewhere() -> LogEntry {
    let folder = tempfile::tempdir().expect("a folder");
    let store = crate::shared::opened(folder.path()).await.expect("a store");
    let says = Body::Granted {
        consent: Commitment::from_felt(Felt::ONE),
    };
    let (author, now, mut random) = (patient(), UnixSeconds(START), system_random());
    audit::append(&store, CONTEXT, &author, &says, now, &mut random)
        .await
        .expect("kept")
}
