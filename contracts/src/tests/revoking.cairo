use starknet::testing::{pop_log_raw, set_block_timestamp, set_contract_address};
use crate::hashes::{revocation_handle, secret_hash};
use crate::interface::IConsentRegistryDispatcherTrait;
use crate::registry::MAX_REVOCATIONS;
use crate::tests::setup::{ANCHORED_AT, another_custodian, deploy};
use crate::types::Revocation;

fn handle_of(secret: felt252, claim_key: felt252) -> felt252 {
    revocation_handle(secret_hash(secret), claim_key)
}

/// `count` openings whose secrets are 1, 2, …
fn openings(count: u32) -> Span<Revocation> {
    let mut revocations = array![];
    for n in 1..count + 1 {
        revocations.append(Revocation { secret: n.into(), claim_key: 'claim key' });
    };
    revocations.span()
}

#[test]
fn an_opening_revokes_its_handle_and_no_other() {
    let registry = deploy();
    registry.revoke('secret', 'claim key');
    assert_eq!(registry.revoked_at(handle_of('secret', 'claim key')), ANCHORED_AT);
    assert_eq!(registry.revoked_at(handle_of('secret', 'another claim key')), 0);
    assert_eq!(registry.revoked_at(handle_of('another secret', 'claim key')), 0);
    // The halves are not interchangeable.
    assert_eq!(registry.revoked_at(handle_of('claim key', 'secret')), 0);
}

#[test]
fn the_first_time_is_never_overwritten() {
    let registry = deploy();
    registry.revoke('secret', 'claim key');
    set_block_timestamp(ANCHORED_AT + 60);
    set_contract_address(another_custodian());
    registry.revoke('secret', 'claim key');
    registry.revoke_many([Revocation { secret: 'secret', claim_key: 'claim key' }].span());
    assert_eq!(registry.revoked_at(handle_of('secret', 'claim key')), ANCHORED_AT);
}

#[test]
fn anyone_may_relay_even_a_caller_without_an_address() {
    let registry = deploy();
    set_contract_address(0.try_into().unwrap());
    registry.revoke('secret', 'claim key');
    assert_eq!(registry.revoked_at(handle_of('secret', 'claim key')), ANCHORED_AT);
}

#[test]
fn an_opening_with_zeros_revokes_too() {
    let registry = deploy();
    registry.revoke(0, 0);
    assert_eq!(registry.revoked_at(handle_of(0, 0)), ANCHORED_AT);
}

#[test]
fn a_revocation_is_announced_by_its_handle_the_first_time_only() {
    let registry = deploy();
    registry.revoke('secret', 'claim key');
    registry.revoke('secret', 'claim key');
    let (keys, data) = pop_log_raw(registry.contract_address).unwrap();
    let handle = handle_of('secret', 'claim key');
    assert_eq!(keys, [selector!("ConsentRevoked"), handle].span());
    assert_eq!(data, [ANCHORED_AT.into()].span());
    assert!(pop_log_raw(registry.contract_address).is_none(), "the second changes nothing");
}

#[test]
#[should_panic(expected: ('BLOCK_TIME_ZERO', 'ENTRYPOINT_FAILED'))]
fn nothing_is_revoked_at_time_zero() {
    let registry = deploy();
    set_block_timestamp(0);
    registry.revoke('secret', 'claim key');
}

#[test]
fn many_are_revoked_at_once() {
    let registry = deploy();
    registry.revoke_many(openings(3));
    assert_eq!(registry.revoked_at(handle_of(1, 'claim key')), ANCHORED_AT);
    assert_eq!(registry.revoked_at(handle_of(2, 'claim key')), ANCHORED_AT);
    assert_eq!(registry.revoked_at(handle_of(3, 'claim key')), ANCHORED_AT);
    assert_eq!(registry.revoked_at(handle_of(4, 'claim key')), 0);
}

#[test]
fn one_that_is_revoked_already_does_not_hold_up_the_rest() {
    let registry = deploy();
    registry.revoke(2, 'claim key');
    let _ = pop_log_raw(registry.contract_address);
    set_block_timestamp(ANCHORED_AT + 60);
    registry.revoke_many(openings(3));
    assert_eq!(registry.revoked_at(handle_of(2, 'claim key')), ANCHORED_AT);
    assert_eq!(registry.revoked_at(handle_of(3, 'claim key')), ANCHORED_AT + 60);

    let (keys, _) = pop_log_raw(registry.contract_address).unwrap();
    assert_eq!(*keys[1], handle_of(1, 'claim key'));
    let (keys, _) = pop_log_raw(registry.contract_address).unwrap();
    assert_eq!(*keys[1], handle_of(3, 'claim key'));
    assert!(pop_log_raw(registry.contract_address).is_none(), "nothing for the second");
}

#[test]
fn an_opening_that_comes_twice_is_announced_once() {
    let registry = deploy();
    let opening = Revocation { secret: 'secret', claim_key: 'claim key' };
    registry.revoke_many([opening, opening].span());
    assert!(pop_log_raw(registry.contract_address).is_some(), "the first");
    assert!(pop_log_raw(registry.contract_address).is_none(), "the second");
}

#[test]
fn as_many_as_the_bound_are_revoked() {
    let registry = deploy();
    registry.revoke_many(openings(MAX_REVOCATIONS));
    assert_eq!(registry.revoked_at(handle_of(MAX_REVOCATIONS.into(), 'claim key')), ANCHORED_AT);
}

#[test]
#[should_panic(expected: ('REVOCATIONS_TOO_MANY', 'ENTRYPOINT_FAILED'))]
fn one_more_than_the_bound_is_refused() {
    deploy().revoke_many(openings(MAX_REVOCATIONS + 1));
}

#[test]
#[should_panic(expected: ('REVOCATIONS_EMPTY', 'ENTRYPOINT_FAILED'))]
fn revoking_nothing_is_refused() {
    deploy().revoke_many([].span());
}

#[test]
#[should_panic(expected: ('BLOCK_TIME_ZERO', 'ENTRYPOINT_FAILED'))]
fn nothing_is_revoked_in_bulk_at_time_zero() {
    let registry = deploy();
    set_block_timestamp(0);
    registry.revoke_many(openings(1));
}
