//! What was believed to be settled and is not.

use medsync::pipeline::watch;
use medsync_protocol::ids::UnixSeconds;

use super::{check, fill, run, world};

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
        .revocation_landed(handle, later)
        .await
        .expect("the store");
    world.chain.forget_everything();
    watch::watch_round(&world.pipeline).await.expect("asked");
    let kept = store.revocation(handle).await.expect("the store");
    assert_eq!(kept.and_then(|row| row.revoked_at), Some(later));
}
