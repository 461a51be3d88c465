//! Claims that a patient brings: one whose path leads nowhere, then the right ones.

use medsync::chain::Fri;
use medsync::pipeline::Pipeline;
use medsync::pipeline::fees::fee_round;
use medsync_protocol::claim::Claim;
use medsync_protocol::tree::Sibling;

use super::super::chain::FEE;
use super::super::circle::CONTEXT;
use super::super::claims::{address, claim_of, promised, second_pool};
use super::super::faults::{Faults, Plan};
use super::super::tickets::pool;
use super::super::{SETTLED_S, World};
use super::{Day, again, rounds};

/// What came of it.
pub(super) struct Claims {
    world: World,
    claims: Vec<Claim>,
}

impl Day for Claims {
    const NAME: &'static str = "claims";

    async fn live(plans: Vec<Plan>) -> Self {
        let (mut world, signed) = promised(&[pool(), second_pool()]).await;
        let claims: Vec<Claim> = (1..)
            .zip(world.circle.tickets())
            .map(|(number, placed)| claim_of(&placed, &signed, address(number)))
            .collect();
        let mut astray = claims[0].clone();
        astray.proof.siblings[0] = Sibling::from_felt(address(9).felt());
        world.faults.plan(plans);
        world.restart().await;
        for brought in [&[astray][..], &claims] {
            for claim in brought {
                again(&mut world, async |world| {
                    let (store, now) = (&world.pipeline.store, world.pipeline.clock.now());
                    Ok(store.keep_claim(CONTEXT, claim, now).await?)
                })
                .await;
            }
            rounds(&mut world, 5).await;
            // What takes the place of one that was refused rests as long.
            world.clock.advance(SETTLED_S);
            rounds(&mut world, 5).await;
            // An endpoint that lies about what it cost is asked again.
            for says in [Fri(u128::MAX), FEE] {
                world.chain.say_fee(says);
                again(&mut world, async |world| {
                    Ok(fee_round(&world.pipeline).await?)
                })
                .await;
            }
        }
        Self { world, claims }
    }

    fn faults(&self) -> &Faults {
        &self.world.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let claims = self.claims.iter();
        let mut paid: Vec<_> = claims
            .map(|claim| (claim.pool, claim.handle(), claim.pay_to))
            .collect();
        paid.sort();
        assert_eq!(self.world.chain.claimed(), paid, "{plan}");
        let fees = self.world.pipeline.store.fees().await.expect("the store");
        let of_claims = fees.iter().find(|(what, _)| what == "claim");
        let paid = of_claims.expect("they cost something").1;
        // The one that took another's place rested.
        assert_eq!((paid.transactions, paid.gfri), (2, 3_000_000), "{plan}");
        for claim in &self.claims {
            let name = (claim.pool, claim.handle());
            let kept = self.world.pipeline.store.claim_of(name).await;
            let kept = kept.expect("the store").expect("it is kept");
            assert!(kept.claimed_at.is_some(), "{plan}: and it is known");
        }
    }
}
