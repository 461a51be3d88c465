//! A chain that drops blocks, and an endpoint that takes back what it said.

use std::collections::BTreeSet;

use medsync::pipeline::Pipeline;
use medsync::seams::Clock;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::Handle;

use super::super::circle::CONTEXT;
use super::super::faults::{Faults, Plan};
use super::super::tickets::{custodian, handles, to_recipient};
use super::super::{SETTLED_S, World, consent, revocation_of};
use super::{Day, anchored_in, rounds};

/// What came of it.
pub(super) struct Drops {
    world: World,
}

/// Who is granted to: the pool's recipient, somebody else, the pool's recipient again.
const REVOKED: u64 = 1;
const DOUBTED: u64 = 2;
const LATER: u64 = 3;

impl Day for Drops {
    const NAME: &'static str = "a day of dropped blocks";

    /// The chain says once that a consent is revoked; another is revoked indeed, and its reward is
    /// promised anew. In between, everything is dropped.
    async fn live(plans: Vec<Plan>) -> Self {
        let mut world = custodian(Vec::new(), 5).await;
        world.faults.plan(plans);
        world.restart().await;
        let (revoked, signed) = to_recipient(REVOKED, CONTEXT);
        world.circle.add_consent(revoked);
        world.circle.add_consent(consent(DOUBTED).0);
        rounds(&mut world, 6).await;
        let at = world.chain.time();
        world.chain.revoke_past_everybody(doubted(), at);
        rounds(&mut world, 3).await;
        assert!(said(&world).await.is_some(), "what it says counts at once");
        world.chain.forget_revocation(doubted());
        settle(&mut world).await;
        world.circle.add_revocation(revocation_of(&signed));
        rounds(&mut world, 4).await;
        world.chain.forget_everything();
        for _ in 0..2 {
            settle(&mut world).await;
        }
        world.circle.add_consent(to_recipient(LATER, CONTEXT).0);
        for _ in 0..2 {
            settle(&mut world).await;
        }
        // Of a clock that was ahead nothing is left.
        world.clock.set_back(SETTLED_S);
        rounds(&mut world, 2).await;
        world.clock.advance(SETTLED_S);
        rounds(&mut world, 2).await;
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
        let [revoked, later] = [REVOKED, LATER].map(|number| to_recipient(number, CONTEXT).1);
        let commitments = [
            revoked.commitment,
            consent(DOUBTED).1.commitment,
            later.commitment,
        ];
        for commitment in commitments {
            let roots = anchored_in(world, commitment);
            assert_eq!(roots.len(), 1, "{plan}: {commitment} is anchored once");
        }
        assert_eq!(said(world).await, None, "{plan}: it was taken back");
        let handle = revoked.secrets.handle();
        assert_eq!(world.chain.revoked(), [handle], "{plan}: it went out again");
        let kept = store.revocation(handle).await.expect("the store");
        let landed = kept.and_then(|kept| kept.landed);
        assert!(landed.is_some_and(|landed| landed.is_settled), "{plan}");
        let promised = BTreeSet::from([handle, later.secrets.handle()]);
        assert_eq!(
            handles(&world.circle),
            promised,
            "{plan}: one for the other"
        );
        let pools = store.pools().await.expect("the store");
        assert_eq!(pools[0].live, 1, "{plan}: one is out");
    }
}

fn doubted() -> Handle {
    consent(DOUBTED).1.secrets.handle()
}

/// When the doubted consent was revoked past everybody, as far as is known.
async fn said(world: &World) -> Option<UnixSeconds> {
    let kept = world.pipeline.store.revoked_elsewhere(doubted()).await;
    kept.expect("the store").map(|kept| kept.revoked_at)
}

/// Everything that the chain has now is old, and its newest block is of now; then rounds of every
/// lane.
async fn settle(world: &mut World) {
    world.clock.advance(2 * SETTLED_S);
    let (now, newest) = (world.clock.now(), world.chain.time());
    world.chain.grow(now.0.saturating_sub(newest.0));
    rounds(world, 5).await;
}
