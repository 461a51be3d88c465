//! Transactions that stay out of all blocks, and batches that cannot be sent.

use medsync::pipeline::{ingest, relay, watch};
use medsync::source::{EntryKey, Revocation};

use super::faults::Plan;
use super::{Fault, World, check, consent, fill, revocation_of, round, run, world};

/// After how long a transaction is replaced, in seconds.
const STUCK_AFTER_S: u64 = 10 * 60;

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
