//! Transactions that stay out of all blocks, and batches that cannot be sent.

use medsync::daemon;
use medsync::pipeline::{ingest, relay, watch};
use medsync::source::{AnchorReport, Circle, EntryKey, Revocation, StageReport};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::tree::{Proof, Root};

use super::access::{files_of, holds};
use super::circle::{CONTEXT, Refuses};
use super::faults::Plan;
use super::{
    Fault, START, World, YEAR_S, anchorer, check, consent, fill, revocation_of, round, run, world,
};

/// After how long a transaction is replaced, in seconds.
pub(super) const STUCK_AFTER_S: u64 = 10 * 60;

/// Everything that is sent gets stuck, and is replaced once.
async fn stuck_twice() -> World {
    let world = world(Vec::new()).await;
    fill(&world.circle);
    world.chain.get_stuck();
    for _ in 0..4 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 2, "a batch and a revocation");
    world.clock.advance(STUCK_AFTER_S);
    for _ in 0..4 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 4, "each was replaced, once");
    world
}

#[tokio::test]
async fn a_transaction_that_does_not_land_is_replaced_and_either_of_both_lands_once() {
    for is_oldest_first in [true, false] {
        let mut world = stuck_twice().await;
        world.chain.go_on(is_oldest_first);
        run(&mut world).await;
        check(&world, &format!("oldest first: {is_oldest_first}"));
    }
}

#[tokio::test]
async fn a_clock_that_was_a_year_ahead_keeps_nothing_waiting_once_it_is_right() {
    let mut world = world(Vec::new()).await;
    world.clock.advance(YEAR_S);
    fill(&world.circle);
    world.chain.get_stuck();
    for _ in 0..4 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 2, "a batch and a revocation");
    world.clock.set_back(YEAR_S);
    round(&world).await;
    world.clock.advance(STUCK_AFTER_S);
    for _ in 0..4 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 4, "each is replaced");
    world.chain.go_on(true);
    run(&mut world).await;
    check(&world, "the clock was ahead");
}

#[tokio::test]
async fn a_circle_that_was_walked_in_times_to_come_is_walked_each_hour() {
    const HOUR_S: u64 = 60 * 60;
    let world = world(Vec::new()).await;
    fill(&world.circle);
    world.clock.advance(YEAR_S);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    world.clock.set_back(YEAR_S);
    for hour in 0..2 {
        let before = world.faults.calls("changes");
        ingest::ingest_all(&world.pipeline).await.expect("read");
        assert!(world.faults.calls("changes") > before, "hour {hour}");
        world.clock.advance(HOUR_S);
    }
}

/// A hostile member may have kept it from the custodian's node, and nothing here shows that.
#[tokio::test]
async fn a_patient_writes_down_again_what_the_chain_does_not_hear_of() {
    let world = world(Vec::new()).await;
    let pipeline = world.without_accounts();
    fill(&world.circle);
    ingest::ingest_all(&pipeline).await.expect("read");
    let soon = [(0, 1), (600, 2), (600, 3), (600, 3), (600, 4)];
    // However long nobody looked, each has its own wait.
    let late = [5, 6, 7, 8, 8].map(|copies| (1 << 20, copies));
    for (after, copies) in soon.into_iter().chain(late) {
        world.clock.advance(after);
        for _ in 0..8 {
            daemon::copy_unheard(&pipeline).await.expect("asked");
        }
        assert_eq!(world.circle.revocations(), copies, "after {after} s more");
    }
}

/// A circle that takes no copies is not asked each round for as long as it does not.
#[tokio::test]
async fn a_copy_that_finds_no_place_is_tried_again_ever_more_seldom() {
    let world = world(Vec::new()).await;
    let pipeline = world.without_accounts();
    fill(&world.circle);
    ingest::ingest_all(&pipeline).await.expect("read");
    world.circle.refuse(Refuses::Copies);
    let before = world.faults.calls("revoke");
    for _ in 0..2_000 {
        world.clock.advance(60);
        daemon::copy_unheard(&pipeline).await.expect("asked");
    }
    let tried = world.faults.calls("revoke") - before;
    assert!((4..=12).contains(&tried), "{tried} times in 2,000 rounds");
    assert_eq!(world.circle.revocations(), 1);
    // What could not be written counts as none.
    world.circle.refuse(Refuses::Nothing);
    for _ in 0..12 {
        world.clock.advance(1 << 30);
        daemon::copy_unheard(&pipeline).await.expect("asked");
    }
    assert_eq!(world.circle.revocations(), 8);
}

/// Anybody opens handles of its own making: copies of those would fill the patient's room.
#[tokio::test]
async fn hostile_revocations_of_nothing_are_not_written_down_again() {
    let world = world(Vec::new()).await;
    let pipeline = world.without_accounts();
    world.circle.add_revocation(revocation_of(&consent(0).1));
    ingest::ingest_all(&pipeline).await.expect("read");
    for _ in 0..8 {
        world.clock.advance(1 << 20);
        daemon::copy_unheard(&pipeline).await.expect("asked");
    }
    assert_eq!(world.circle.revocations(), 1);
}

#[tokio::test]
async fn a_revocation_that_is_on_its_way_lies_sealed() {
    let world = stuck_twice().await;
    let handle = consent(0).1.secrets.handle();
    let kept = world.pipeline.store.revocation(handle).await;
    let out = kept.expect("the store").and_then(|kept| kept.out);
    let intent = out.expect("a transaction is out").intent;
    let files = files_of(world.home.path());
    assert!(holds(&files, handle.to_string().as_bytes()));
    for private in [
        intent,
        consent(0).1.secrets.secret.reveal_text().to_string(),
    ] {
        assert!(!holds(&files, private.as_bytes()), "{private}");
    }
}

#[tokio::test]
async fn a_batch_that_cannot_be_prepared_keeps_no_other_waiting() {
    // Two batches are placed in one round; the chain says of the first that it would revert.
    let refused = (1..=2).map(|call| Plan {
        operation: "prepare",
        call,
        fault: Fault::FailedButTookEffect,
    });
    let mut world = world(refused.collect()).await;
    for number in 0..4 {
        world.circle.add_consent(consent(number).0);
    }
    ingest::ingest_all(&world.pipeline).await.expect("read");
    for _ in 0..2 {
        let _ = world.pipeline.batch_round().await;
    }
    assert!(!world.chain.anchored().is_empty());
    run(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 2);
}

#[tokio::test]
async fn a_revocation_is_sent_while_a_batch_is_stuck() {
    let world = world(Vec::new()).await;
    world.circle.add_consent(consent(1).0);
    world.chain.get_stuck();
    for _ in 0..3 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 1);
    world.circle.add_revocation(revocation_of(&consent(1).1));
    ingest::ingest_all(&world.pipeline).await.expect("read");
    relay::relay_round(&world.pipeline).await.expect("sent");
    assert_eq!(world.chain.pool(), 2);
}

/// The chain drops what a transaction that is out follows on.
#[tokio::test]
async fn a_transaction_whose_predecessor_was_dropped_is_made_anew() {
    let mut world = world(Vec::new()).await;
    let before = world.chain.fork();
    world.circle.add_consent(consent(1).0);
    world.circle.add_revocation(revocation_of(&consent(1).1));
    run(&mut world).await;
    world.chain.get_stuck();
    world.circle.add_consent(consent(2).0);
    let second = Revocation {
        key: EntryKey([98; 32]),
        ..revocation_of(&consent(2).1)
    };
    world.circle.add_revocation(second);
    for _ in 0..4 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 2, "the second batch and revocation");
    world.chain.go_back_to(&before);
    run(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 1, "the second is there");
    assert_eq!(world.chain.revoked().len(), 1);
    watch::watch_round(&world.pipeline).await.expect("asked");
    run(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 2, "and the first again");
    assert_eq!(world.chain.revoked().len(), 2);
}

/// A price that nobody pays does not keep what was sent before from landing.
#[tokio::test]
async fn what_would_cost_too_much_is_sent_again_as_it_is() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    world.chain.get_stuck();
    for _ in 0..4 {
        round(&world).await;
    }
    world.chain.cap_fees();
    world.clock.advance(STUCK_AFTER_S);
    for _ in 0..4 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 2, "none was replaced");
    world.chain.drop_pool();
    for _ in 0..4 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 2, "each was sent again");
    world.chain.go_on(true);
    run(&mut world).await;
    check(&world, "nobody pays more");
}

/// The same of a consent: one that denies would not be heard of.
#[tokio::test]
async fn a_patient_writes_down_again_a_consent_that_has_no_place() {
    let mut world = world(Vec::new()).await;
    let there = consent(1).0;
    let (commitment, store) = (there.commitment, world.pipeline.store.clone());
    let request = "a denial";
    let counter = store.spend_counter(CONTEXT, request, UnixSeconds(START));
    let counter = counter.await.expect("the store");
    store
        .keep_grant(
            counter,
            commitment,
            &there.terms_bytes,
            &there.opening,
            &there.signature,
        )
        .await
        .expect("kept");
    world.circle.add_consent(there);
    let patients = world.without_accounts();
    let copies = async |after: u64| {
        world.clock.advance(after);
        for _ in 0..8 {
            daemon::copy_unheard(&patients).await.expect("asked");
        }
        world.circle.granted().len()
    };
    // It has yet to hear of everything when it is looked at first.
    for (after, there) in [(0, 1), (600, 1), (36_000, 1), (600, 2), (600, 3)] {
        assert_eq!(copies(after).await, there, "after {after} s more");
    }
    // Anybody can write down a place of its own making.
    let report = AnchorReport {
        commitment,
        handle: consent(1).1.secrets.handle(),
        root: Root::from_felt(Felt::ONE),
        proof: Proof {
            index: 0,
            siblings: Vec::new(),
        },
        anchorer: anchorer(),
        stage: StageReport::Sealed,
    };
    world.circle.record_anchor(&report).await.expect("taken");
    assert_eq!(copies(1_200).await, 4);
    world.circle.lose_reports();
    run(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 1, "however often it is there");
    let copies = async |after: u64| {
        world.clock.advance(after);
        for _ in 0..8 {
            daemon::copy_unheard(&patients).await.expect("asked");
        }
        world.circle.granted().len()
    };
    assert_eq!(copies(1 << 20).await, 4, "it is anchored");
}

#[tokio::test]
async fn a_step_that_fails_keeps_no_other_waiting() {
    let mut world = world(Vec::new()).await;
    world.circle.add_consent(consent(1).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    world.chain.get_stuck();
    world.pipeline.batch_round().await.expect("it is sent");
    let sent = world
        .pipeline
        .store
        .open_batches()
        .await
        .expect("the store");
    assert_eq!(sent.len(), 1);
    world.chain.go_on(true);
    world.circle.add_consent(consent(2).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    // Whose store's writes fail as planned.
    world.restart().await;
    world.faults.plan_next("keep_batch", Fault::Failed);
    world
        .pipeline
        .batch_round()
        .await
        .expect_err("it cannot seal");
    let open = world.pipeline.store.open_batches().await;
    assert!(
        open.expect("the store").is_empty(),
        "the first is confirmed"
    );
    run(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 2);
}
