//! Reward tickets: who gets one, how many there are, and what a revocation changes.

use std::collections::BTreeSet;

use medsync::pipeline::tickets::{TicketStage, bring_back, promised};
use medsync::source::{Circle, EntryKind, PlacedTicket, Pool};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContractAddress, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::{PublicKey, SecretKey};
use medsync_protocol::ticket::{PoolId, PoolNonce};

use super::access::{files_of, holds};
use super::circle::Refuses;
use super::faults::{Fault, Plan};
use super::*;

/// Long after the tests end, and not at the start of a day.
const CLAIM_END: u64 = 1_000_000;
const DAY_S: u64 = 24 * 60 * 60;
/// After how long a revocation is settled.
const SETTLED_S: u64 = 10 * 60;

fn recipient() -> PublicKey {
    SecretKey::from_scalar(&[4; 32])
        .expect("a scalar")
        .public_key()
}

pub(super) fn pool() -> Pool {
    Pool {
        contract: ContractAddress::from_felt(Felt::from(61)),
        funder: ContractAddress::from_felt(Felt::from(62)),
        nonce: PoolNonce::from_felt(Felt::from(63)),
        recipient: recipient(),
        claim_end: UnixSeconds(CLAIM_END),
        label: "asthma".into(),
    }
}

pub(super) fn pool_id() -> PoolId {
    pool().id(registry().chain_id)
}

/// A custodian that issues up to `quota` tickets, with both patients' circles.
pub(super) async fn custodian(plans: Vec<Plan>, quota: u64) -> World {
    let world = world(plans).await;
    world.enter_other().await;
    let store = &world.pipeline.store;
    let chain_id = registry().chain_id;
    store.keep_pool(chain_id, &pool()).await.expect("kept");
    store
        .issue_from(pool_id(), Some(quota), UnixSeconds(START))
        .await
        .expect("a pool that is kept");
    for circle in [&world.circle, &world.other] {
        circle.add_enrolment(patient().public_key());
    }
    world
}

pub(super) fn to_recipient(number: u64, context: ContextId) -> (Consent, SignedGrant) {
    consent_to(recipient(), &patient(), number, context, anchorer())
}

/// Everything that the chain has now is old.
async fn settle(world: &mut World) {
    world.chain.grow(2 * SETTLED_S);
    world.clock.advance(2 * SETTLED_S);
    run(world).await;
}

/// The custodian's store is lost: another one begins over the same circles and chain.
async fn lose_the_store(world: &mut World, quota: u64) -> tempfile::TempDir {
    let empty = tempfile::tempdir().expect("a folder");
    let store = shared::opened(empty.path()).await.expect("a store");
    store.enter_circle(&row()).await.expect("entered");
    let chain_id = registry().chain_id;
    store.keep_pool(chain_id, &pool()).await.expect("kept");
    store
        .issue_from(pool_id(), Some(quota), UnixSeconds(START))
        .await
        .expect("a pool that is kept");
    world.pipeline.store = store;
    world.pipeline.readings = Readings::default();
    empty
}

/// The handles that the circle's tickets are for.
pub(super) fn handles(circle: &FakeCircle) -> BTreeSet<Handle> {
    let tickets = circle.tickets();
    tickets.iter().map(|placed| placed.ticket.handle).collect()
}

async fn live(world: &World) -> u64 {
    let pools = world.pipeline.store.pools().await.expect("the store");
    pools[0].live
}

#[tokio::test]
async fn a_patient_gets_one_ticket_with_a_place_in_an_anchored_batch() {
    let mut world = custodian(Vec::new(), 10).await;
    // A second consent to the same recipient, and one to somebody else, promise nothing more.
    let [(first, _), (second, _)] = [1, 2].map(|number| to_recipient(number, CONTEXT));
    let handles = [first.opening.handle, second.opening.handle];
    for consent in [first, second, consent(3).0] {
        world.circle.add_consent(consent);
    }
    run(&mut world).await;
    assert_eq!(world.circle.pools(), [pool()]);
    assert_eq!(world.other.pools(), [pool()]);
    let tickets = world.circle.tickets();
    assert_eq!(tickets.len(), 1);
    let placed = &tickets[0];
    assert!(handles.contains(&placed.ticket.handle));
    assert_eq!(placed.ticket.pool_id, pool_id());
    assert_eq!(placed.ticket.anchorer, anchorer());
    assert_eq!(placed.ticket.claim_until.0, CLAIM_END - CLAIM_END % DAY_S);
    assert!(placed.is_included());
    assert!(world.chain.anchored().contains(&placed.root));
    // The circle shows it to whoever is in it.
    let seen = world.pipeline.store.placed_tickets(CONTEXT).await;
    assert_eq!(seen.expect("the store"), tickets);
}

#[tokio::test]
async fn what_a_pool_is_called_lies_sealed() {
    let world = custodian(Vec::new(), 1).await;
    let pools = world.pipeline.store.pools().await.expect("the store");
    assert_eq!(pools[0].pool.label, pool().label);
    let files = files_of(world.home.path());
    assert!(holds(&files, pool_id().to_string().as_bytes()));
    assert!(!holds(&files, pool().label.as_bytes()));
}

#[tokio::test]
async fn hostile_patient_with_one_key_in_two_circles_gets_one_ticket_a_pool() {
    let mut world = custodian(Vec::new(), 10).await;
    world.circle.add_consent(to_recipient(1, CONTEXT).0);
    world.other.add_consent(to_recipient(2, OTHER).0);
    run(&mut world).await;
    let issued = world.circle.tickets().len() + world.other.tickets().len();
    assert_eq!(issued, 1, "one key in two circles");
}

#[tokio::test]
async fn hostile_patient_that_changes_its_key_gets_no_second_ticket() {
    let mut world = custodian(Vec::new(), 10).await;
    world.circle.add_consent(to_recipient(1, CONTEXT).0);
    run(&mut world).await;
    let next = SecretKey::from_scalar(&[7; 32]).expect("a scalar");
    let change = keys::change(&patient(), &next, 0, &patient());
    world.circle.change_key(&change, 1).await.expect("taken");
    let (consent, _) = consent_to(recipient(), &next, 5, CONTEXT, anchorer());
    world.circle.add_consent(consent);
    run(&mut world).await;
    assert_eq!(live(&world).await, 1);
}

#[tokio::test]
async fn a_quota_is_never_exceeded_and_a_closed_pool_issues_nothing() {
    let mut world = custodian(Vec::new(), 1).await;
    let stranger = SecretKey::from_scalar(&[2; 32]).expect("a scalar");
    world.other.enrol_instead(stranger.public_key());
    world.circle.add_consent(to_recipient(1, CONTEXT).0);
    let (others, _) = consent_to(recipient(), &stranger, 2, OTHER, anchorer());
    world.other.add_consent(others);
    run(&mut world).await;
    assert_eq!(live(&world).await, 1);
    let store = world.pipeline.store.clone();
    let now = UnixSeconds(START);
    store.issue_from(pool_id(), None, now).await.expect("kept");
    store
        .issue_from(PoolId::from_felt(Felt::ONE), Some(5), now)
        .await
        .expect_err("no such pool");
    run(&mut world).await;
    assert_eq!(live(&world).await, 1);
    store
        .issue_from(pool_id(), Some(2), now)
        .await
        .expect("open again");
    run(&mut world).await;
    assert_eq!(live(&world).await, 2);
}

#[tokio::test]
async fn a_ticket_is_issued_anew_only_when_it_was_revoked_unclaimed() {
    for is_claimed in [true, false] {
        let mut world = custodian(Vec::new(), 1).await;
        let (first, signed) = to_recipient(1, CONTEXT);
        world.circle.add_consent(first);
        run(&mut world).await;
        if is_claimed {
            world.chain.claim(pool_id(), signed.opening.handle);
        }
        world.circle.add_revocation(revocation_of(&signed));
        run(&mut world).await;
        // As of the revocation's own block nothing is known; one long after says it.
        assert_eq!(live(&world).await, 1, "claimed: {is_claimed}");
        settle(&mut world).await;
        let (second, _) = to_recipient(2, CONTEXT);
        world.circle.add_consent(second.clone());
        run(&mut world).await;
        let tickets = world.circle.tickets();
        assert_eq!(live(&world).await, 1);
        if is_claimed {
            assert_eq!(tickets.len(), 1, "a claimed ticket makes no room");
        } else {
            assert_eq!(tickets.len(), 2);
            assert_eq!(tickets[1].ticket.handle, second.opening.handle);
        }
    }
}

#[tokio::test]
async fn hostile_endpoint_that_says_nothing_of_claims_gets_no_second_ticket_out() {
    let plans = (1..=ROUNDS_MAX * 8).map(|call| Plan {
        operation: "ticket_times",
        call,
        fault: Fault::Failed,
    });
    let mut world = custodian(plans.collect(), 1).await;
    let (first, signed) = to_recipient(1, CONTEXT);
    world.circle.add_consent(first);
    run(&mut world).await;
    world.circle.add_revocation(revocation_of(&signed));
    world.circle.add_consent(to_recipient(2, CONTEXT).0);
    run(&mut world).await;
    settle(&mut world).await;
    assert!(world.faults.calls("ticket_times") > 0);
    assert_eq!(world.circle.tickets().len(), 1);
}

#[tokio::test]
async fn consents_that_are_over_revoked_or_of_a_frozen_circle_promise_nothing() {
    let mut world = custodian(Vec::new(), 10).await;
    let (revoked, signed) = to_recipient(1, CONTEXT);
    world.circle.add_consent(revoked);
    world.circle.add_revocation(revocation_of(&signed));
    world.other.add_consent(to_recipient(2, OTHER).0);
    world.other.enrol_again(
        SecretKey::from_scalar(&[2; 32])
            .expect("a scalar")
            .public_key(),
    );
    run(&mut world).await;
    // Within the last day nothing is promised: the claim would come too late.
    world.circle.add_consent(to_recipient(3, CONTEXT).0);
    world.clock.advance(CLAIM_END - CLAIM_END % DAY_S - START);
    run(&mut world).await;
    assert!(world.circle.tickets().is_empty());
    assert!(world.other.tickets().is_empty());
    assert_eq!(live(&world).await, 0);
}

#[tokio::test]
async fn hostile_patient_that_only_denies_gets_no_ticket() {
    let mut world = custodian(Vec::new(), 5).await;
    let denying = |number, exception| {
        let mut terms = to_recipient(number, CONTEXT).0.terms;
        terms.provision.kind = ProvisionKind::Deny;
        terms.exceptions = vec![Provision::everything(exception)];
        sign_terms(recipient(), &patient(), number, terms).0
    };
    world.circle.add_consent(denying(1, ProvisionKind::Deny));
    run(&mut world).await;
    assert!(handles(&world.circle).is_empty());
    // An exception that permits is a permission.
    let permits = denying(2, ProvisionKind::Permit);
    let handle = permits.opening.handle;
    world.circle.add_consent(permits);
    run(&mut world).await;
    assert_eq!(handles(&world.circle), BTreeSet::from([handle]));
}

#[tokio::test]
async fn hostile_member_drops_a_ticket_and_it_is_brought_back() {
    let mut world = custodian(Vec::new(), 5).await;
    world.circle.add_consent(to_recipient(1, CONTEXT).0);
    // It is issued, then read as the circle has it.
    run(&mut world).await;
    run(&mut world).await;
    let tickets = world.circle.tickets();
    assert_eq!(tickets.len(), 1);
    bring_back(&world.pipeline).await.expect("the store");
    assert_eq!(world.circle.tickets(), tickets, "nothing is lost");
    world.circle.forget(EntryKind::Ticket);
    run(&mut world).await;
    assert!(world.circle.tickets().is_empty());
    world.circle.refuse(Refuses::Everything);
    bring_back(&world.pipeline).await.expect("the store");
    world.circle.refuse(Refuses::Nothing);
    bring_back(&world.pipeline).await.expect("the store");
    assert!(world.circle.tickets().is_empty(), "what was refused rests");
    world.clock.advance(3600);
    for _ in 0..2 {
        bring_back(&world.pipeline).await.expect("the store");
        assert_eq!(world.circle.tickets(), tickets);
        run(&mut world).await;
    }
    assert_eq!(live(&world).await, 1);
}

/// How far the circle's one ticket is, as its patient is shown it.
async fn stage(world: &World) -> TicketStage {
    let shown = promised(&world.pipeline, CONTEXT, anchorer()).await;
    let mut shown = shown.expect("the store");
    assert_eq!(shown.len(), 1);
    shown.remove(0).1
}

#[tokio::test]
async fn hostile_endpoint_that_does_not_answer_hides_no_ticket() {
    let mut world = custodian(Vec::new(), 5).await;
    world.pipeline.class_hash = ClassHash::from_felt(Felt::TWO);
    let (consent, signed) = to_recipient(1, CONTEXT);
    world.circle.add_consent(consent);
    run(&mut world).await;
    run(&mut world).await;
    // Whether this is the right chain is not known yet.
    assert!(matches!(stage(&world).await, TicketStage::Unknown(_)));
    world.pipeline.chain_is_right.set(()).expect("set once");
    assert!(matches!(stage(&world).await, TicketStage::Anchored(_)));
    let silence = (1..=9).map(|call| Plan {
        operation: "anchored_at",
        call,
        fault: Fault::Failed,
    });
    let silent = FakeChain::new(Faults::planned(silence.collect()));
    let chain = world.pipeline.chain.clone();
    world.pipeline.chain = Arc::new(silent);
    assert!(matches!(stage(&world).await, TicketStage::Unknown(_)));
    // That it is revoked is known without a chain.
    world.pipeline.chain = chain;
    world.circle.add_revocation(revocation_of(&signed));
    run(&mut world).await;
    world.pipeline.chain = Arc::new(FakeChain::new(Faults::default()));
    assert!(matches!(stage(&world).await, TicketStage::Revoked(_)));
    // Another custodian's word is no promise of this one.
    let others = Anchorer::from_felt(Felt::from(7));
    let none = promised(&world.pipeline, CONTEXT, others).await;
    assert!(none.expect("the store").is_empty());
}

#[tokio::test]
async fn a_circle_that_takes_no_ticket_keeps_no_other_out() {
    let world = custodian(Vec::new(), 10).await;
    let stranger = SecretKey::from_scalar(&[2; 32]).expect("a scalar");
    world.other.enrol_instead(stranger.public_key());
    world.circle.add_consent(to_recipient(1, CONTEXT).0);
    let (others, _) = consent_to(recipient(), &stranger, 2, OTHER, anchorer());
    world.other.add_consent(others);
    world.other.refuse(Refuses::Everything);
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    // A place in a batch that was taken apart is there too, and leads nowhere.
    let has_one = |circle: &FakeCircle| {
        let (tickets, anchored) = (circle.tickets(), world.chain.anchored());
        let is_anchored = |placed: &PlacedTicket| anchored.contains(&placed.root);
        let is_same = |placed: &PlacedTicket| placed.ticket == tickets[0].ticket;
        tickets.iter().all(is_same) && tickets.iter().any(is_anchored)
    };
    assert!(has_one(&world.circle));
    assert!(world.other.tickets().is_empty());
    world.other.refuse(Refuses::Nothing);
    world.clock.advance(3600);
    for _ in 0..ROUNDS_MAX {
        round(&world).await;
    }
    assert!(has_one(&world.other));
}

#[tokio::test]
async fn every_write_of_a_ticket_fails_once_in_each_way() {
    for operation in ["put_pool", "put_ticket"] {
        for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
            let plan = Plan {
                operation,
                call: 1,
                fault,
            };
            let name = format!("{plan:?}");
            let mut world = custodian(vec![plan], 1).await;
            world.circle.add_consent(to_recipient(1, CONTEXT).0);
            run(&mut world).await;
            world.clock.advance(3600);
            run(&mut world).await;
            assert_eq!(world.circle.pools(), [pool()], "{name}");
            let tickets = world.circle.tickets();
            assert_eq!(tickets.len(), 1, "{name}");
            assert!(world.chain.anchored().contains(&tickets[0].root), "{name}");
        }
    }
}

#[tokio::test]
async fn a_restored_custodian_takes_its_tickets_over_and_issues_no_second() {
    let mut world = custodian(Vec::new(), 1).await;
    world.circle.add_consent(to_recipient(1, CONTEXT).0);
    run(&mut world).await;
    let _home = lose_the_store(&mut world, 5).await;
    world.circle.add_consent(to_recipient(2, CONTEXT).0);
    run(&mut world).await;
    assert_eq!(handles(&world.circle).len(), 1);
}

/// What the other circle has is not known to a restored store before that circle was read.
#[tokio::test]
async fn a_restored_custodian_issues_nothing_that_another_circle_may_have() {
    let stranger = SecretKey::from_scalar(&[2; 32]).expect("a scalar");
    // Past the quota, and twice to one key.
    for (quota, patients) in [(1, [patient(), stranger]), (5, [patient(), patient()])] {
        let [here, there] = &patients;
        let mut world = custodian(Vec::new(), quota).await;
        world.other.enrol_instead(there.public_key());
        let (others, _) = consent_to(recipient(), there, 2, OTHER, anchorer());
        world.other.add_consent(others);
        run(&mut world).await;
        assert_eq!(handles(&world.other).len(), 1);
        let _home = lose_the_store(&mut world, quota).await;
        world.enter_other().await;
        world.other.refuse(Refuses::Everything);
        let (consent, _) = consent_to(recipient(), here, 1, CONTEXT, anchorer());
        world.circle.add_consent(consent);
        for _ in 0..ROUNDS_MAX {
            round(&world).await;
        }
        assert!(handles(&world.circle).is_empty(), "{quota}: not read yet");
        world.other.refuse(Refuses::Nothing);
        world.clock.advance(3600);
        run(&mut world).await;
        assert!(handles(&world.circle).is_empty(), "{quota}: taken over");
        assert_eq!(live(&world).await, 1);
    }
}

#[tokio::test]
async fn hostile_patient_that_claimed_and_revoked_gets_no_second_from_a_restored_custodian() {
    let mut world = custodian(Vec::new(), 1).await;
    let (first, signed) = to_recipient(1, CONTEXT);
    world.circle.add_consent(first);
    run(&mut world).await;
    world.chain.claim(pool_id(), signed.opening.handle);
    world.circle.add_revocation(revocation_of(&signed));
    run(&mut world).await;
    let _home = lose_the_store(&mut world, 5).await;
    run(&mut world).await;
    settle(&mut world).await;
    world.circle.add_consent(to_recipient(2, CONTEXT).0);
    settle(&mut world).await;
    assert_eq!(handles(&world.circle).len(), 1);
}

#[tokio::test]
async fn hostile_patient_with_a_second_ticket_claimed_gets_no_third_from_a_restored_custodian() {
    let mut world = custodian(Vec::new(), 5).await;
    let (first, signed) = to_recipient(1, CONTEXT);
    world.circle.add_consent(first);
    run(&mut world).await;
    world.circle.add_revocation(revocation_of(&signed));
    run(&mut world).await;
    let (second, _) = to_recipient(2, CONTEXT);
    world.circle.add_consent(second.clone());
    settle(&mut world).await;
    world.chain.claim(pool_id(), second.opening.handle);
    assert_eq!(handles(&world.circle).len(), 2);
    let _home = lose_the_store(&mut world, 5).await;
    world.circle.add_consent(to_recipient(3, CONTEXT).0);
    run(&mut world).await;
    settle(&mut world).await;
    assert_eq!(handles(&world.circle).len(), 2);
}

#[tokio::test]
async fn hostile_endpoint_that_says_revoked_gets_no_second_ticket_out() {
    let mut world = custodian(Vec::new(), 5).await;
    let (first, signed) = to_recipient(1, CONTEXT);
    world.circle.add_consent(first);
    run(&mut world).await;
    // Nobody has an opening of it.
    let handle = signed.opening.handle;
    world
        .chain
        .revoke_past_everybody(handle, UnixSeconds(START));
    run(&mut world).await;
    world.chain.forget_revocation(handle);
    world.circle.add_consent(to_recipient(2, CONTEXT).0);
    settle(&mut world).await;
    assert_eq!(handles(&world.circle).len(), 1);
}

#[tokio::test]
async fn a_revocation_whose_block_was_dropped_makes_no_room() {
    let mut world = custodian(Vec::new(), 5).await;
    let (first, signed) = to_recipient(1, CONTEXT);
    world.circle.add_consent(first);
    run(&mut world).await;
    world.circle.add_revocation(revocation_of(&signed));
    run(&mut world).await;
    world.chain.forget_revocation(signed.opening.handle);
    world.circle.add_consent(to_recipient(2, CONTEXT).0);
    world.clock.advance(2 * SETTLED_S);
    run(&mut world).await;
    assert_eq!(handles(&world.circle).len(), 1);
    // It goes out again, and is settled in its time.
    let now = world.chain.time();
    world
        .chain
        .revoke_past_everybody(signed.opening.handle, now);
    settle(&mut world).await;
    settle(&mut world).await;
    assert_eq!(handles(&world.circle).len(), 2);
}

#[tokio::test]
async fn hostile_patient_that_grants_with_anothers_handle_takes_no_ticket() {
    let mut world = custodian(Vec::new(), 5).await;
    let stranger = SecretKey::from_scalar(&[2; 32]).expect("a scalar");
    world.other.enrol_instead(stranger.public_key());
    // The same counter of the same seed makes the same handle.
    let (theirs, _) = consent_to(recipient(), &stranger, 1, OTHER, anchorer());
    let (own, _) = to_recipient(1, CONTEXT);
    assert_eq!(theirs.opening.handle, own.opening.handle);
    world.circle.add_consent(own);
    world.other.add_consent(theirs);
    run(&mut world).await;
    assert!(handles(&world.circle).is_empty());
    assert!(handles(&world.other).is_empty());
}
