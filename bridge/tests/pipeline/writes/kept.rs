//! Long after: what is not needed any more is given up, and the queue is made anew.

use medsync::fsck::rebuild;
use medsync::pipeline::Pipeline;
use medsync::pipeline::retention::retention_round;
use medsync::source::EntryKind;
use medsync::store::batches::BatchId;

use super::super::faults::{Faults, Plan};
use super::super::{RETENTION_S, SETTLED_S, World, consent, revocation_of, world};
use super::{Day, again, anchored_in, rounds};

/// What came of it.
pub(super) struct Kept {
    world: World,
}

impl Day for Kept {
    const NAME: &'static str = "a day long after";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut world = world(Vec::new()).await;
        world.circle.add_consent(consent(0).0);
        let revocation = revocation_of(&consent(0).1);
        world.circle.add_revocation(revocation);
        rounds(&mut world, 4).await;
        // It is asked for, and comes back.
        world.circle.forget(EntryKind::Revocation);
        rounds(&mut world, 4).await;
        world.chain.grow(RETENTION_S + SETTLED_S);
        world.clock.advance(RETENTION_S + SETTLED_S);
        world.faults.plan(plans);
        world.restart().await;
        again(&mut world, async |world| {
            Ok(retention_round(&world.pipeline).await?)
        })
        .await;
        world.circle.add_consent(consent(1).0);
        again(&mut world, async |world| {
            Ok(rebuild(&world.pipeline, &[]).await?)
        })
        .await;
        rounds(&mut world, 6).await;
        Self { world }
    }

    fn faults(&self) -> &Faults {
        &self.world.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let (world, store) = (&self.world, &self.world.pipeline.store);
        for number in [0, 1] {
            let roots = anchored_in(world, consent(number).1.commitment);
            assert_eq!(roots.len(), 1, "{plan}: consent {number} is anchored once");
        }
        let batches = store.anchored_batches(BatchId(0), 9).await;
        let batches = batches.expect("the store");
        assert!(batches[0].leaves.is_empty(), "{plan}: it is given up");
        assert!(!batches[1].leaves.is_empty(), "{plan}: that is new");
        let revoked = consent(0).1.secrets.handle();
        assert_eq!(world.chain.revoked(), [revoked], "{plan}");
        assert_eq!(world.circle.revocations(), 1, "{plan}: it was brought back");
    }
}
