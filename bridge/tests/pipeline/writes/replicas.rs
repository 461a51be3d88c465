//! Two replicas over one store: one leads, the other takes over, and what the first still does is
//! refused.

use medsync::pipeline::Pipeline;
use medsync::store::leases::LeaseRow;
use medsync::store::{Store, StoreError};
use medsync_protocol::ids::UnixSeconds;

use super::super::faults::{Faults, Plan};
use super::super::{START, World, consent, fill, world};
use super::{Day, again, anchored_in, rounds};

/// The lease of the lanes.
const LEASE: &str = "daemon";

/// What came of it.
pub(super) struct Replicas {
    world: World,
    /// The epoch of the one that took over.
    last: i64,
}

/// Takes the lease from whoever has it; a run that failed may have taken it.
async fn taken(store: &Store, holder: &str) -> anyhow::Result<i64> {
    let seen = store.lease(LEASE).await?;
    anyhow::ensure!(store.take_lease(LEASE, holder, seen).await?, "it moved");
    Ok(seen.epoch + 1)
}

impl Day for Replicas {
    const NAME: &'static str = "a day of two replicas";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut world = world(plans).await;
        world.restart().await;
        let first = again(&mut world, async |world| {
            taken(&world.pipeline.store, "first").await
        })
        .await;
        fill(&world.circle);
        let behind = world.pipeline.store.clone();
        world.pipeline.store = behind.fenced(LEASE, first);
        rounds(&mut world, 2).await;
        again(&mut world, async |world| {
            let renewed = world
                .pipeline
                .store
                .renew_lease(LEASE, "first", first)
                .await?;
            anyhow::ensure!(renewed, "it is its own");
            Ok(())
        })
        .await;
        let last = again(&mut world, async |world| {
            taken(&world.pipeline.store, "second").await
        })
        .await;
        let late = behind.fenced(LEASE, first);
        let refused = late.state_fact("late", "written").await;
        assert!(refused.is_err(), "it leads no more: {refused:?}");
        let refused = late.keep_consents(&[], UnixSeconds(START)).await;
        assert!(matches!(refused, Err(StoreError::NotLeader { .. })));
        let renewed = behind.renew_lease(LEASE, "first", first).await;
        assert!(!renewed.unwrap_or_default(), "it is another's");
        world.pipeline.store = behind.fenced(LEASE, last);
        rounds(&mut world, 4).await;
        again(&mut world, async |world| {
            let store = &world.pipeline.store;
            Ok(store.release_lease(LEASE, "second", last).await?)
        })
        .await;
        Self { world, last }
    }

    fn faults(&self) -> &Faults {
        &self.world.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let store = &self.world.pipeline.store;
        for number in 0..super::super::CONSENTS {
            let roots = anchored_in(&self.world, consent(number).1.commitment);
            assert_eq!(roots.len(), 1, "{plan}: consent {number} is anchored once");
        }
        let late = store.fact("late").await.expect("the store");
        assert_eq!(late, None, "{plan}: nothing late was written");
        let lease = store.lease(LEASE).await.expect("the store");
        let LeaseRow { epoch, is_free, .. } = lease;
        assert_eq!((epoch, is_free), (self.last, true), "{plan}");
    }
}
