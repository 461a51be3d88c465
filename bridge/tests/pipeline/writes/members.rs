//! Members who come before the patient's word for them, and a reader for whom there is none.

use medsync::guard;
use medsync::pipeline::Pipeline;
use medsync::source::Circle;
use medsync_protocol::ids::MemberId;
use medsync_protocol::signature::SecretKey;

use super::super::circle::{CONTEXT, recovery};
use super::super::devices::{PHONE, admission};
use super::super::faults::{Faults, Plan};
use super::super::keys::change;
use super::super::{World, consent, patient, world};
use super::{Day, again, anchored_in, rounds};

/// Whom nobody admits.
const STRANGER: MemberId = MemberId([66; 32]);
/// Longer than an admission is waited for, in seconds.
const WAIT_S: u64 = 60;

/// What came of it.
pub(super) struct Members {
    world: World,
}

impl Day for Members {
    const NAME: &'static str = "a day of members";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut world = world(Vec::new()).await;
        world.circle.add_enrolment(patient().public_key());
        world.circle.add_consent(consent(1).0);
        world.faults.plan(plans);
        world.restart().await;
        rounds(&mut world, 3).await;
        world.circle.add_to_group(PHONE);
        rounds(&mut world, 1).await;
        world.circle.add_device(admission(PHONE, 1, &patient()));
        rounds(&mut world, 4).await;
        world.circle.add_to_group(STRANGER);
        rounds(&mut world, 2).await;
        world.clock.advance(WAIT_S);
        rounds(&mut world, 2).await;
        let row = world.pipeline.store.circle(CONTEXT).await.expect("a row");
        assert!(row.alarm.is_some_and(|why| why.contains("readers")));
        let before = world.chain.anchored().len();
        world.circle.add_consent(consent(2).0);
        rounds(&mut world, 2).await;
        assert_eq!(world.chain.anchored().len(), before, "it is stopped");
        world.circle.remove_from_group(STRANGER);
        again(&mut world, async |world| {
            let (circles, store) = (&*world.pipeline.circles, &world.pipeline.store);
            let row = store.circle(CONTEXT).await?;
            Ok(guard::resume(circles, store, &row).await?)
        })
        .await;
        rounds(&mut world, 4).await;
        // Whoever stole the key is overruled; who was let in stays by the next key's word.
        let next = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
        let overruled = change(&patient(), &next, 0, &recovery());
        let changed = world.circle.change_key(&overruled, 1).await;
        changed.expect("the test's own");
        world.circle.add_device(admission(PHONE, 1, &next));
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
        let (world, store) = (&self.world, &self.world.pipeline.store);
        for number in [1, 2] {
            let roots = anchored_in(world, consent(number).1.commitment);
            assert_eq!(roots.len(), 1, "{plan}: consent {number} is anchored once");
            let end = store.end_of_consent(consent(number).1.commitment).await;
            let end = end.expect("the store").expect("it is kept");
            assert!(end.overruled_at.is_some(), "{plan}: consent {number}");
        }
        let row = store.circle(CONTEXT).await.expect("a row");
        assert_eq!((row.alarm, row.suspected_at), (None, None), "{plan}");
        let admitted = admission(PHONE, 1, &patient()).admission;
        let is_in = store.was_let_in(CONTEXT, &admitted).await;
        assert!(is_in.expect("the store"), "{plan}: it lets in once");
        let members = world.circle.pin().await.expect("a pin").members;
        assert!(members.contains(&PHONE), "{plan}");
        assert!(!members.contains(&STRANGER), "{plan}");
    }
}
