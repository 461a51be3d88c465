//! A circle that takes nothing for a while, or not everything, and loses its tickets.

use medsync::pipeline::Pipeline;
use medsync::source::{EntryKind, PlacedTicket};
use medsync_protocol::ids::UnixSeconds;

use super::super::circle::{CONTEXT, OTHER, Refuses};
use super::super::faults::{Fault, Faults, Plan};
use super::super::tickets::{custodian, to_recipient};
use super::super::{World, anchorer, consent_of, patient, revocation_of};
use super::{Day, anchored_in, rounds};

/// Longer than any circle is held back, in seconds.
const HELD_BACK_S: u64 = 2 * 60 * 60;

/// What came of it.
pub(super) struct Refusals {
    world: World,
}

impl Day for Refusals {
    const NAME: &'static str = "a day of refusals";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut world = custodian(Vec::new(), 5).await;
        world.faults.plan(plans);
        world.restart().await;
        // A batch is taken apart, since a circle does not take its place in it.
        world.circle.refuse(Refuses::Everything);
        let (granted, signed) = to_recipient(1, CONTEXT);
        world.circle.add_consent(granted);
        let (others, _) = consent_of(&patient(), 2, OTHER, anchorer());
        world.other.add_consent(others);
        rounds(&mut world, 6).await;
        // The next is on chain, and that circle does not hear of it.
        world.circle.refuse(Refuses::Blocks);
        world.clock.advance(HELD_BACK_S);
        rounds(&mut world, 5).await;
        world.circle.refuse(Refuses::Nothing);
        world.clock.advance(HELD_BACK_S);
        rounds(&mut world, 4).await;
        // What it loses it does not take at once.
        world.circle.add_revocation(revocation_of(&signed));
        rounds(&mut world, 3).await;
        for lost in [EntryKind::Ticket, EntryKind::Revocation] {
            world.circle.forget(lost);
        }
        world.circle.refuse(Refuses::Everything);
        world.faults.plan_next("revoke", Fault::Failed);
        rounds(&mut world, 3).await;
        world.circle.refuse(Refuses::Nothing);
        world.clock.advance(HELD_BACK_S);
        rounds(&mut world, 4).await;
        Self { world }
    }

    fn faults(&self) -> &Faults {
        &self.world.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let world = &self.world;
        let (_, own) = to_recipient(1, CONTEXT);
        let (_, others) = consent_of(&patient(), 2, OTHER, anchorer());
        for commitment in [own.commitment, others.commitment] {
            let roots = anchored_in(world, commitment);
            assert_eq!(roots.len(), 1, "{plan}: {commitment} is anchored once");
            let told = world.pipeline.store.is_told(commitment).await;
            assert!(told.expect("the store"), "{plan}: its circle knows where");
        }
        assert_eq!(world.chain.revoked(), [own.secrets.handle()], "{plan}");
        assert_eq!(world.circle.revocations(), 1, "{plan}: it was brought back");
        let (tickets, anchored) = (world.circle.tickets(), world.chain.anchored());
        let is_whole = |placed: &&PlacedTicket| anchored.contains(&placed.root);
        assert_eq!(
            tickets.iter().filter(is_whole).count(),
            1,
            "{plan}: so was it"
        );
        let later = UnixSeconds(1 << 40);
        let lost = world.pipeline.store.lost_tickets(9, later).await;
        assert_eq!(lost.expect("the store"), [], "{plan}");
    }
}
