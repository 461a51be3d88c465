//! What was believed to be settled and is not.

use medsync::daemon;
use medsync::pipeline::retention::retention_round;
use medsync::pipeline::{PipelineError, ingest, relay, watch};
use medsync::seams::Clock;
use medsync::store::batches::BatchId;
use medsync::store::facts::PUBLISH_REVOCATION;
use medsync_protocol::ids::UnixSeconds;

use super::faults::{Fault, Plan};
use super::restored::found_but_evidence;
use super::{
    RETENTION_S, SETTLED_S, START, World, YEAR_S, check, consent, fill, revocation_of, run, world,
};

/// Enough rounds for the watch to come around.
const WATCHES: u32 = 4;

#[tokio::test]
async fn hostile_endpoint_said_that_it_landed_and_it_goes_out_again() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    world.chain.forget_everything();
    for _ in 0..WATCHES {
        watch::watch_round(&world.pipeline).await.expect("asked");
    }
    run(&mut world).await;
    check(&world, "the chain forgot everything once");
}

/// Of the same block a circle hears once, and of others a few times.
#[tokio::test]
async fn hostile_endpoint_says_now_and_then_that_a_batch_is_gone_and_fills_no_circle() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let (store, heard) = (world.pipeline.store.clone(), world.circle.reports().len());
    let batches = store.anchored_batches(BatchId(0), u32::MAX).await;
    let batch = batches.expect("the store").remove(0);
    let (block, time) = batch.block.expect("it landed");
    for _ in 0..20 {
        store.batch_lost(batch.id).await.expect("the store");
        run(&mut world).await;
        assert_eq!(world.circle.reports().len(), heard);
    }
    for later in 1..20 {
        let time = UnixSeconds(time.0 + later);
        store.batch_lost(batch.id).await.expect("the store");
        let landed = store.batch_landed(batch.id, block, time).await;
        landed.expect("the store");
        run(&mut world).await;
    }
    let heard = world.circle.reports().len() - heard;
    assert!((7..=14).contains(&heard), "{heard}");
    check(&world, "a batch was said to be gone");
}

#[tokio::test]
async fn of_the_batches_the_newest_are_looked_at_first() {
    const CONSENTS: u64 = 20;
    let mut world = world(Vec::new()).await;
    for number in 0..CONSENTS / 2 {
        world.circle.add_consent(consent(number).0);
    }
    run(&mut world).await;
    let before = world.chain.fork();
    for number in CONSENTS / 2..CONSENTS {
        world.circle.add_consent(consent(number).0);
    }
    run(&mut world).await;
    world.chain.go_back_to(&before);
    let store = world.pipeline.store.clone();
    let anchored = async || {
        let batches = store.anchored_batches(BatchId(0), u32::MAX).await;
        batches.expect("the store").len()
    };
    let kept = world.chain.anchored().len();
    assert_eq!((anchored().await, kept), (10, 5));
    watch::watch_round(&world.pipeline).await.expect("asked");
    assert_eq!(anchored().await, kept);
    run(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 10);
}

#[tokio::test]
async fn an_endpoint_that_is_behind_takes_nothing_back() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let handle = world.chain.revoked()[0];
    let store = world.pipeline.store.clone();
    // It landed later than the newest block that the endpoint has.
    let later = UnixSeconds(world.chain.time().0 + 100_000);
    store.revocation_lost(handle).await.expect("the store");
    store
        .revocation_landed(handle, later, later)
        .await
        .expect("the store");
    world.chain.forget_everything();
    watch::watch_round(&world.pipeline).await.expect("asked");
    let kept = store.revocation(handle).await.expect("the store");
    assert_eq!(
        kept.and_then(|row| row.landed).map(|it| it.revoked_at),
        Some(later)
    );
}

/// What opened it is in its transaction: it denies in its circle too, and goes to no chain again.
#[tokio::test]
async fn a_revocation_past_everybody_here_is_brought_into_its_circle() {
    let plan = Plan {
        operation: "opening_of",
        call: 1,
        fault: Fault::Failed,
    };
    let mut world = world(vec![plan]).await;
    let (consent, signed) = consent(1);
    world.circle.add_consent(consent);
    run(&mut world).await;
    let sent = world.faults.calls("send");
    let at = UnixSeconds(1_001);
    world.chain.open_past_everybody(&signed.secrets, at);
    let known = async || {
        watch::watch_round(&world.pipeline).await.expect("asked");
        let kept = world.pipeline.store.revocation(signed.secrets.handle());
        kept.await.expect("the store").is_some()
    };
    assert!(!known().await, "it could not be read");
    assert!(!known().await, "too soon");
    world.clock.advance(60 * 60);
    assert!(known().await);
    daemon::publish_revocations(&world.pipeline)
        .await
        .expect("brought");
    assert_eq!(world.circle.revocations(), 1);
    run(&mut world).await;
    let kept = world.pipeline.store.revocation(signed.secrets.handle());
    let landed = kept.await.expect("the store").and_then(|row| row.landed);
    assert_eq!(landed.map(|landed| landed.revoked_at), Some(at));
    assert_eq!(world.faults.calls("send"), sent);
}

#[tokio::test]
async fn a_revocation_past_everybody_here_is_seen() {
    let mut world = world(Vec::new()).await;
    let (consent, signed) = consent(1);
    world.circle.add_consent(consent);
    run(&mut world).await;
    let handle = signed.secrets.handle();
    let seen = async || {
        watch::watch_round(&world.pipeline).await.expect("asked");
        let elsewhere = world.pipeline.store.revoked_elsewhere(handle).await;
        let elsewhere = elsewhere.expect("the store");
        elsewhere.map(|elsewhere| (elsewhere.revoked_at, elsewhere.is_settled))
    };
    assert_eq!(seen().await, None);
    world
        .chain
        .revoke_past_everybody(handle, UnixSeconds(1_001));
    assert_eq!(seen().await, Some((UnixSeconds(1_001), false)));
    assert_eq!(seen().await, Some((UnixSeconds(1_001), false)), "too soon");
    world.clock.advance(SETTLED_S);
    assert_eq!(seen().await, Some((UnixSeconds(1_001), false)), "behind");
    world.chain.grow(2 * START);
    assert_eq!(seen().await, Some((UnixSeconds(1_001), true)));
    // And then for ever.
    world.chain.forget_revocation(handle);
    assert_eq!(seen().await, Some((UnixSeconds(1_001), true)));
}

#[tokio::test]
async fn hostile_endpoint_says_revoked_once_and_the_consent_counts_again() {
    let mut world = world(Vec::new()).await;
    let (consent, signed) = consent(1);
    world.circle.add_consent(consent);
    run(&mut world).await;
    world.chain.grow(2 * START);
    let handle = signed.secrets.handle();
    let is_denied = async || {
        watch::watch_round(&world.pipeline).await.expect("asked");
        let elsewhere = world.pipeline.store.revoked_elsewhere(handle).await;
        elsewhere.expect("the store").is_some()
    };
    world
        .chain
        .revoke_past_everybody(handle, UnixSeconds(1_001));
    assert!(is_denied().await);
    world.chain.forget_revocation(handle);
    assert!(
        is_denied().await,
        "a backend that is behind takes nothing back"
    );
    world.clock.advance(SETTLED_S);
    assert!(!is_denied().await);
}

#[tokio::test]
async fn what_the_chain_said_once_is_asked_about_before_the_watch_comes_around() {
    let mut world = world(Vec::new()).await;
    let (consent, signed) = consent(1);
    world.circle.add_consent(consent);
    run(&mut world).await;
    world.chain.grow(2 * START);
    let (handle, store) = (signed.secrets.handle(), &world.pipeline.store);
    world
        .chain
        .revoke_past_everybody(handle, UnixSeconds(1_001));
    watch::watch_round(&world.pipeline).await.expect("asked");
    world.clock.advance(SETTLED_S);
    // Every handle is before this.
    store
        .state_fact("watch_handles", "0xg")
        .await
        .expect("kept");
    watch::watch_round(&world.pipeline).await.expect("asked");
    let elsewhere = store.revoked_elsewhere(handle).await.expect("the store");
    assert!(elsewhere.expect("kept").is_settled);
}

/// The chain's newest block is of now.
fn catch_up(world: &World) {
    let (now, newest) = (world.clock.now(), world.chain.time());
    world.chain.grow(now.0.saturating_sub(newest.0));
}

/// It was said to a clock that was ahead: that is not the first of two times.
#[tokio::test]
async fn what_the_chain_said_in_times_to_come_is_said_twice_once_the_clock_is_right() {
    for is_true in [true, false] {
        let mut world = world(Vec::new()).await;
        world.pipeline.clock_behind_s_max = 2;
        let (consent, signed) = consent(1);
        world.circle.add_consent(consent);
        run(&mut world).await;
        let handle = signed.secrets.handle();
        world.clock.advance(YEAR_S);
        world
            .chain
            .revoke_past_everybody(handle, UnixSeconds(1_001));
        let said = async || {
            catch_up(&world);
            watch::watch_round(&world.pipeline).await.expect("asked");
            let elsewhere = world.pipeline.store.revoked_elsewhere(handle).await;
            elsewhere.expect("the store").map(|said| said.is_settled)
        };
        watch::watch_round(&world.pipeline).await.expect("asked");
        world.clock.set_back(YEAR_S);
        if !is_true {
            world.chain.forget_revocation(handle);
        }
        for _ in 0..2 {
            assert_eq!(said().await, Some(false), "it is said for the first time");
        }
        world.clock.advance(SETTLED_S);
        assert_eq!(said().await, is_true.then_some(true), "and again");
    }
}

#[tokio::test]
async fn what_landed_in_times_to_come_settles_ten_minutes_after_the_clock_is_right() {
    let mut world = world(Vec::new()).await;
    world.pipeline.clock_behind_s_max = 2;
    fill(&world.circle);
    world.clock.advance(YEAR_S);
    run(&mut world).await;
    world.clock.set_back(YEAR_S);
    let handle = consent(0).1.secrets.handle();
    let landed = async || {
        catch_up(&world);
        for _ in 0..WATCHES {
            watch::watch_round(&world.pipeline).await.expect("asked");
        }
        let kept = world.pipeline.store.revocation(handle).await;
        let kept = kept.expect("the store").and_then(|kept| kept.landed);
        kept.expect("it landed")
    };
    let first = landed().await;
    assert_eq!(
        (first.is_settled, first.said_at),
        (false, world.clock.now())
    );
    world.clock.advance(SETTLED_S);
    assert!(landed().await.is_settled);
}

/// Its leaves are given up: it cannot be sent again.
#[tokio::test]
async fn a_batch_that_was_missed_in_times_to_come_is_missed_twice_once_the_clock_is_right() {
    let mut world = world(Vec::new()).await;
    world.pipeline.clock_behind_s_max = 2;
    fill(&world.circle);
    run(&mut world).await;
    world.chain.grow(RETENTION_S + SETTLED_S);
    world.clock.advance(RETENTION_S + SETTLED_S);
    retention_round(&world.pipeline).await.expect("a round");
    world.chain.forget_everything();
    let kept = async || {
        for _ in 0..WATCHES {
            watch::watch_round(&world.pipeline).await.expect("asked");
        }
        let batches = world.pipeline.store.anchored_batches(BatchId(0), 9).await;
        batches.expect("the store").len()
    };
    world.clock.advance(YEAR_S);
    assert_eq!(kept().await, 2);
    world.clock.set_back(YEAR_S);
    assert_eq!(kept().await, 2, "it is missed for the first time");
    world.clock.advance(SETTLED_S);
    assert_eq!(kept().await, 0, "and again");
}

/// A time to come is believed to be now: an honest endpoint takes it back.
#[tokio::test]
async fn hostile_endpoint_says_that_it_landed_in_times_to_come_and_it_goes_out_again() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    let handle = consent(0).1.secrets.handle();
    let in_times_to_come = UnixSeconds(1 << 40);
    world.chain.revoke_past_everybody(handle, in_times_to_come);
    run(&mut world).await;
    world.chain.forget_revocation(handle);
    world.chain.grow(2 * START);
    world.clock.advance(SETTLED_S);
    for _ in 0..WATCHES {
        watch::watch_round(&world.pipeline).await.expect("asked");
    }
    run(&mut world).await;
    check(&world, "it landed in times to come");
}

#[tokio::test]
async fn hostile_endpoint_says_another_time_and_the_later_word_counts() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let handle = consent(0).1.secrets.handle();
    let (store, watched) = (world.pipeline.store.clone(), world.pipeline.clone());
    let landed = async || {
        for _ in 0..WATCHES {
            watch::watch_round(&watched).await.expect("asked");
        }
        let kept = store.revocation(handle).await.expect("the store");
        kept.and_then(|kept| kept.landed).expect("it landed")
    };
    let first = landed().await;
    assert!(!first.is_settled);
    world.chain.revoke_past_everybody(handle, UnixSeconds(7));
    assert_eq!(landed().await.revoked_at, UnixSeconds(7));
    world.chain.grow(2 * START);
    world.clock.advance(SETTLED_S);
    let settled = landed().await;
    assert!(settled.is_settled && settled.revoked_at == UnixSeconds(7));
}

#[tokio::test]
async fn what_came_into_its_circle_takes_no_turn_of_what_is_unsettled() {
    let mut world = world(Vec::new()).await;
    let (consent, signed) = consent(1);
    world.circle.add_consent(consent);
    run(&mut world).await;
    let (handle, store) = (signed.secrets.handle(), world.pipeline.store.clone());
    world
        .chain
        .revoke_past_everybody(handle, UnixSeconds(1_001));
    watch::watch_round(&world.pipeline).await.expect("asked");
    let ever = UnixSeconds(1 << 40);
    let unsettled = async || {
        let handles = store.unsettled_handles((ever, ever), 9).await;
        handles.expect("the store").len()
    };
    assert_eq!(unsettled().await, 1);
    world.circle.add_revocation(revocation_of(&signed));
    ingest::ingest_all(&world.pipeline).await.expect("read");
    assert_eq!(unsettled().await, 0);
}

#[tokio::test]
async fn hostile_member_overwrites_its_revocation_with_another_and_it_comes_back() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    let other = revocation_of(&consent(9).1);
    world.circle.overwrite_revocations(&other);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    daemon::publish_revocations(&world.pipeline)
        .await
        .expect("published");
    assert_eq!(world.circle.revocations(), 2, "the other, and it");
    ingest::ingest_all(&world.pipeline).await.expect("read");
    world.clock.advance(60);
    let asked = world
        .pipeline
        .store
        .asked(PUBLISH_REVOCATION, UnixSeconds(1 << 40));
    assert_eq!(asked.await.expect("the store"), Vec::<String>::new());
    assert_eq!(found_but_evidence(&world.pipeline).await, []);
}

#[tokio::test]
async fn a_clock_that_is_behind_the_chain_writes_nothing_but_revocations() {
    let mut world = world(Vec::new()).await;
    world.pipeline.clock_behind_s_max = 2;
    fill(&world.circle);
    world.chain.grow(START + 3 - world.chain.time().0);
    watch::watch_round(&world.pipeline).await.expect("asked");
    ingest::ingest_all(&world.pipeline).await.expect("read");
    relay::relay_round(&world.pipeline).await.expect("sent");
    assert_eq!(world.chain.revoked().len(), 1);
    let done = world.pipeline.batch_round().await;
    assert!(
        matches!(done, Err(PipelineError::ClockBehind(3))),
        "{done:?}"
    );
    world.clock.advance(10);
    watch::watch_round(&world.pipeline).await.expect("asked");
    assert!(world.pipeline.batch_round().await.is_ok());
}

#[tokio::test]
async fn hostile_member_that_writes_ahead_is_told_of_and_stops_nothing() {
    let mut world = world(Vec::new()).await;
    world.pipeline.clock_behind_s_max = 2;
    for (number, ahead_s, is_told) in [(0, 2, false), (1, 3, true)] {
        let mut ahead = consent(number).0;
        ahead.recorded_at = UnixSeconds(START + ahead_s);
        world.circle.add_consent(ahead);
        ingest::ingest_all(&world.pipeline).await.expect("read");
        let word = world.pipeline.word_of_peers();
        assert_eq!(word.contains("3 s ahead"), is_told, "{word}");
    }
    assert_eq!(world.pipeline.word_of_peers(), "");
    world.pipeline.batch_round().await.expect("it is written");
    assert_eq!(world.chain.anchored().len(), 1);
}
