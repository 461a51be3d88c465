//! Claims that patients bring: each is paid once, where its patient said, and hinders nobody.

use medsync::chain::Fri;
use medsync::pipeline::fees::fee_round;
use medsync::source::{PlacedTicket, Pool};
use medsync_protocol::claim::Claim;
use medsync_protocol::consent::SignedGrant;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContractAddress, UnixSeconds};
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::ticket::PoolNonce;

use super::access::{files_of, holds};
use super::chain::FEE;
use super::faults::{Fault, Plan};
use super::tickets::{custodian, pool, pool_id, to_recipient};
use super::*;

/// How long a claim rests that was refused, in seconds.
const REFUSED_REST_S: u64 = 10 * 60;
const DAY_S: u64 = 24 * 60 * 60;

pub(super) fn address(number: u64) -> ContractAddress {
    ContractAddress::from_felt(Felt::from(number))
}

/// Another pool of the same contract.
pub(super) fn second_pool() -> Pool {
    Pool {
        nonce: PoolNonce::from_felt(Felt::from(64)),
        ..pool()
    }
}

/// The claim of a ticket.
pub(super) fn claim_of(
    placed: &PlacedTicket,
    signed: &SignedGrant,
    pay_to: ContractAddress,
) -> Claim {
    let place = (registry().chain_id, pool().contract);
    let with = (&placed.ticket, &placed.proof);
    Claim::sign(place, with, &signed.secrets, pay_to).expect("signable")
}

/// A custodian whose patient has a ticket of each of these pools, which are anchored.
pub(super) async fn promised(pools: &[Pool]) -> (World, SignedGrant) {
    let mut world = custodian(Vec::new(), 10).await;
    let (store, chain_id) = (&world.pipeline.store, registry().chain_id);
    for pool in pools {
        store.keep_pool(chain_id, pool).await.expect("kept");
        let issued = store.issue_from(pool.id(chain_id), Some(10), UnixSeconds(START));
        issued.await.expect("a pool that is kept");
    }
    let (consent, signed) = to_recipient(1, CONTEXT);
    world.circle.add_consent(consent);
    run(&mut world).await;
    assert_eq!(world.circle.tickets().len(), pools.len().max(1));
    (world, signed)
}

async fn bring(world: &World, claim: &Claim) {
    let kept = world
        .pipeline
        .store
        .keep_claim(CONTEXT, claim, world.clock.now());
    kept.await.expect("kept");
}

async fn refused(world: &World, claim: &Claim) -> Option<String> {
    let kept = world
        .pipeline
        .store
        .claim_of((claim.pool, claim.handle()))
        .await;
    kept.expect("the store").expect("it is kept").refused
}

#[tokio::test]
async fn claims_that_are_brought_are_paid_once_in_one_transaction() {
    let (mut world, signed) = promised(&[pool(), second_pool()]).await;
    let claims: Vec<Claim> = (1..)
        .zip(world.circle.tickets())
        .map(|(number, placed)| claim_of(&placed, &signed, address(number)))
        .collect();
    let sent = world.faults.calls("send");
    for claim in &claims {
        bring(&world, claim).await;
    }
    run(&mut world).await;
    let mut paid: Vec<_> = claims
        .iter()
        .map(|claim| (claim.pool, claim.handle(), claim.pay_to))
        .collect();
    paid.sort();
    assert_eq!(world.chain.claimed(), paid);
    assert_eq!(world.faults.calls("send"), sent + 1);
    // Brought again, nothing more is sent.
    for claim in &claims {
        bring(&world, claim).await;
    }
    run(&mut world).await;
    assert_eq!(world.faults.calls("send"), sent + 1);
}

#[tokio::test]
async fn hostile_weather_every_call_of_a_claim_fails_once_in_each_way() {
    async fn day(plans: Vec<Plan>) -> (World, Claim) {
        let (mut world, signed) = promised(&[]).await;
        let claim = claim_of(&world.circle.tickets()[0], &signed, address(1));
        world.faults.plan(plans);
        world.restart().await;
        bring(&world, &claim).await;
        for _ in 0..3 {
            run(&mut world).await;
            world.clock.advance(REFUSED_REST_S);
        }
        (world, claim)
    }
    let (calm, _) = day(Vec::new()).await;
    let mut rows = 0;
    for (operation, has_effect) in [
        ("ticket_times", false),
        ("refuses_claim", false),
        ("nonce", false),
        ("prepare", true),
        ("send", true),
    ] {
        let calls = calm.faults.calls(operation);
        assert!(calls > 0, "{operation} is never called");
        for call in 1..=calls {
            for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
                if fault == Fault::FailedButTookEffect && !has_effect {
                    continue;
                }
                let plan = Plan {
                    operation,
                    call,
                    fault,
                };
                let (world, claim) = day(vec![plan]).await;
                let paid = [(claim.pool, claim.handle(), claim.pay_to)];
                assert_eq!(world.chain.claimed(), paid, "{operation} {call} {fault:?}");
                rows += 1;
            }
        }
    }
    println!("{rows} rows of the fault table hold");
}

#[tokio::test]
async fn hostile_patient_whose_consent_is_revoked_costs_nobody_a_fee() {
    let (mut world, signed) = promised(&[]).await;
    let claim = claim_of(&world.circle.tickets()[0], &signed, address(1));
    let handle = claim.handle();
    world
        .chain
        .revoke_past_everybody(handle, world.chain.time());
    let sent = world.faults.calls("send");
    bring(&world, &claim).await;
    run(&mut world).await;
    let why = refused(&world, &claim).await.expect("refused");
    assert!(why.contains("REVOKED"), "{why}");
    // It is not asked about again before it rested, also if it is brought again.
    let asked = world.faults.calls("refuses_claim");
    for _ in 0..3 {
        bring(&world, &claim).await;
        claim_round(&world.pipeline).await.expect("a round");
    }
    assert_eq!(world.faults.calls("refuses_claim"), asked);
    world.clock.advance(REFUSED_REST_S);
    claim_round(&world.pipeline).await.expect("a round");
    assert_eq!(world.faults.calls("refuses_claim"), asked + 1);
    // When it is over it is looked at once more, and never again.
    for _ in 0..3 {
        world.clock.advance(claim.claim_until.0);
        claim_round(&world.pipeline).await.expect("a round");
    }
    assert_eq!(world.faults.calls("refuses_claim"), asked + 2);
    assert_eq!(world.faults.calls("send"), sent);
}

#[tokio::test]
async fn a_claim_that_somebody_else_sent_is_paid_and_sent_by_nobody() {
    let (mut world, signed) = promised(&[]).await;
    let claim = claim_of(&world.circle.tickets()[0], &signed, address(1));
    world.chain.claim(claim.pool, claim.handle());
    let sent = world.faults.calls("send");
    bring(&world, &claim).await;
    run(&mut world).await;
    let kept = world
        .pipeline
        .store
        .claim_of((pool_id(), claim.handle()))
        .await;
    let kept = kept.expect("the store").expect("it is kept");
    assert_eq!(kept.claimed_at, Some(world.chain.time()));
    assert_eq!(world.faults.calls("send"), sent);
}

#[tokio::test]
async fn a_claim_goes_elsewhere_until_it_is_sent_and_nowhere_else_then() {
    let (mut world, signed) = promised(&[]).await;
    let placed = world.circle.tickets().remove(0);
    let to = |number| claim_of(&placed, &signed, address(number));
    bring(&world, &to(1)).await;
    bring(&world, &to(2)).await;
    world.chain.get_stuck();
    claim_round(&world.pipeline).await.expect("sent");
    bring(&world, &to(3)).await;
    world.chain.go_on(true);
    run(&mut world).await;
    let paid = [(pool_id(), placed.ticket.handle, address(2))];
    assert_eq!(world.chain.claimed(), paid);
}

/// One that is out and in no block is replaced under its nonce; no batch waits for it.
#[tokio::test]
async fn a_claim_that_is_stuck_is_replaced_and_keeps_nothing_waiting() {
    let (mut world, signed) = promised(&[]).await;
    let claim = claim_of(&world.circle.tickets()[0], &signed, address(1));
    bring(&world, &claim).await;
    world.chain.get_stuck();
    claim_round(&world.pipeline).await.expect("sent");
    assert_eq!(world.chain.pool(), 1);
    world.clock.advance(REFUSED_REST_S);
    claim_round(&world.pipeline).await.expect("replaced");
    assert_eq!(world.chain.pool(), 2);
    world.chain.go_on(false);
    world.circle.add_consent(to_recipient(2, CONTEXT).0);
    let anchored = world.chain.anchored().len();
    run(&mut world).await;
    assert_eq!(world.chain.anchored().len(), anchored + 1);
    let paid = [(claim.pool, claim.handle(), claim.pay_to)];
    assert_eq!(world.chain.claimed(), paid);
}

/// What was taken when it was asked and is passed over in its block costs a fee in ten minutes.
#[tokio::test]
async fn a_claim_that_is_passed_over_in_its_block_rests() {
    let (mut world, signed) = promised(&[pool(), second_pool()]).await;
    let claims: Vec<Claim> = (world.circle.tickets().iter())
        .map(|placed| claim_of(placed, &signed, address(1)))
        .collect();
    for claim in &claims {
        bring(&world, claim).await;
    }
    world.chain.get_stuck();
    claim_round(&world.pipeline).await.expect("sent");
    let handle = claims[0].handle();
    world
        .chain
        .revoke_past_everybody(handle, world.chain.time());
    world.chain.go_on(true);
    let sent = world.faults.calls("send");
    for _ in 0..3 {
        claim_round(&world.pipeline).await.expect("a round");
    }
    assert_eq!(world.chain.claimed(), []);
    for claim in &claims {
        let why = refused(&world, claim).await.expect("refused");
        assert!(why.contains("passed it over"), "{why}");
    }
    world.clock.advance(REFUSED_REST_S);
    run(&mut world).await;
    let why = refused(&world, &claims[0]).await.expect("refused");
    assert!(why.contains("REVOKED"), "{why}");
    assert_eq!(world.faults.calls("send"), sent);
}

#[tokio::test]
async fn where_a_reward_goes_lies_sealed() {
    let (world, signed) = promised(&[]).await;
    let pay_to = ContractAddress::from_felt(Felt::from(0x00ab_cdef_0123_4567_u64));
    let claim = claim_of(&world.circle.tickets()[0], &signed, pay_to);
    bring(&world, &claim).await;
    let files = files_of(world.home.path());
    assert!(holds(&files, claim.handle().to_string().as_bytes()));
    assert!(!holds(&files, b"abcdef01234567"));
}

/// What is brought while another is about to be sent is not answered with the other's fate.
#[tokio::test]
async fn a_claim_that_was_replaced_meanwhile_is_not_sent() {
    let (mut world, signed) = promised(&[]).await;
    let placed = world.circle.tickets().remove(0);
    let to = |number| claim_of(&placed, &signed, address(number));
    bring(&world, &to(1)).await;
    let (store, now) = (&world.pipeline.store, world.clock.now());
    let rows = store.open_claims((now, now), 9).await.expect("the store");
    bring(&world, &to(2)).await;
    let hash = TransactionHash::from_felt(Felt::from(7));
    let is_kept = store.intend_claims(&rows, ("{}", hash), now).await;
    assert!(!is_kept.expect("the store"), "nothing may be sent");
    let refused = store.claims_refused(&rows, "not meant", now).await;
    refused.expect("the store");
    let kept = store.claim_of(rows[0].name()).await.expect("the store");
    let kept = kept.expect("it is kept");
    assert_eq!(kept.claim, to(2));
    assert!(kept.out.is_none() && kept.refused.is_none());
    run(&mut world).await;
    let paid = [(pool_id(), placed.ticket.handle, address(2))];
    assert_eq!(world.chain.claimed(), paid);
}

/// A clock that was ahead and is set right leaves nothing waiting for a time that never was.
#[tokio::test]
async fn a_claim_that_a_wrong_clock_sent_is_replaced_once_the_clock_is_right() {
    let (mut world, signed) = promised(&[]).await;
    let claim = claim_of(&world.circle.tickets()[0], &signed, address(1));
    bring(&world, &claim).await;
    let store = &world.pipeline.store;
    store
        .mind_the_clock(world.clock.now())
        .await
        .expect("noted");
    world.clock.advance(DAY_S);
    store
        .mind_the_clock(world.clock.now())
        .await
        .expect("noted");
    world.chain.get_stuck();
    claim_round(&world.pipeline).await.expect("sent");
    world.clock.set_back(DAY_S);
    store
        .mind_the_clock(world.clock.now())
        .await
        .expect("mended");
    world.clock.advance(REFUSED_REST_S);
    claim_round(&world.pipeline).await.expect("replaced");
    assert_eq!(world.chain.pool(), 2);
    world.chain.go_on(true);
    run(&mut world).await;
    let paid = [(claim.pool, claim.handle(), claim.pay_to)];
    assert_eq!(world.chain.claimed(), paid);
}

/// An endpoint that says what nobody paid is not believed, and stops nothing.
#[tokio::test]
async fn hostile_endpoint_that_says_an_endless_fee_is_not_believed() {
    let (world, signed) = promised(&[]).await;
    let claim = claim_of(&world.circle.tickets()[0], &signed, address(1));
    bring(&world, &claim).await;
    claim_round(&world.pipeline).await.expect("sent");
    let store = &world.pipeline.store;
    let sent = store.unpaid_for(99).await.expect("the store").len();
    world.chain.say_fee(Fri(u128::MAX));
    fee_round(&world.pipeline).await.expect("asked");
    assert_eq!(store.fees().await.expect("the store"), []);
    assert_eq!(store.unpaid_for(99).await.expect("the store").len(), sent);
    world.chain.say_fee(FEE);
    fee_round(&world.pipeline).await.expect("asked");
    assert_eq!(store.unpaid_for(99).await.expect("the store"), []);
}

/// Who has no account for claims sends none.
#[tokio::test]
async fn without_an_account_nothing_is_sent() {
    let (mut world, signed) = promised(&[]).await;
    let claim = claim_of(&world.circle.tickets()[0], &signed, address(1));
    bring(&world, &claim).await;
    world.pipeline.claim_account = None;
    assert!(!claim_round(&world.pipeline).await.expect("a round"));
    let refuses = world.pipeline.chain.refuses_claim(pool().contract, &claim);
    assert_eq!(refuses.await.expect("asked"), None);
    assert_eq!(world.chain.claimed(), []);
}
