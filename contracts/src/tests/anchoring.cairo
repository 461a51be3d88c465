use starknet::testing::{pop_log_raw, set_block_timestamp, set_contract_address};
use crate::hashes::next_head;
use crate::interface::IConsentRegistryDispatcherTrait;
use crate::tests::setup::{ANCHORED_AT, another_custodian, custodian, deploy};

#[test]
fn the_first_batch_starts_from_head_zero() {
    let registry = deploy();
    assert_eq!(registry.head_of(custodian()), 0);
    registry.anchor(0, 'root', 16);
    assert_eq!(registry.head_of(custodian()), next_head(0, 'root', 16));
    assert_eq!(registry.anchored_at(custodian(), 'root'), ANCHORED_AT);
}

#[test]
fn heads_chain_over_root_and_leaf_count() {
    let registry = deploy();
    registry.anchor(0, 'root', 16);
    let first = next_head(0, 'root', 16);
    set_block_timestamp(ANCHORED_AT + 60);
    registry.anchor(first, 'second root', 32);
    assert_eq!(registry.head_of(custodian()), next_head(first, 'second root', 32));
    assert_eq!(registry.anchored_at(custodian(), 'root'), ANCHORED_AT);
    assert_eq!(registry.anchored_at(custodian(), 'second root'), ANCHORED_AT + 60);
}

#[test]
fn the_largest_leaf_count_is_taken_as_it_is() {
    let registry = deploy();
    registry.anchor(0, 'root', 0xffffffffffffffff);
    assert_eq!(registry.head_of(custodian()), next_head(0, 'root', 0xffffffffffffffff));
}

#[test]
#[should_panic(expected: ('HEAD_MISMATCH', 'ENTRYPOINT_FAILED'))]
fn a_transaction_that_is_sent_twice_lands_once() {
    let registry = deploy();
    registry.anchor(0, 'root', 16);
    registry.anchor(0, 'root', 16);
}

#[test]
#[should_panic(expected: ('HEAD_MISMATCH', 'ENTRYPOINT_FAILED'))]
fn a_batch_that_is_built_on_an_old_head_is_refused() {
    let registry = deploy();
    registry.anchor(0, 'root', 16);
    registry.anchor(0, 'second root', 16);
}

#[test]
#[should_panic(expected: ('HEAD_MISMATCH', 'ENTRYPOINT_FAILED'))]
fn a_first_batch_on_a_head_from_nowhere_is_refused() {
    deploy().anchor('head', 'root', 16);
}

#[test]
#[should_panic(expected: ('ROOT_ALREADY_ANCHORED', 'ENTRYPOINT_FAILED'))]
fn a_root_is_anchored_once_by_one_custodian() {
    let registry = deploy();
    registry.anchor(0, 'root', 16);
    registry.anchor(next_head(0, 'root', 16), 'root', 16);
}

#[test]
#[should_panic(expected: ('ROOT_ZERO', 'ENTRYPOINT_FAILED'))]
fn a_zero_root_is_refused() {
    deploy().anchor(0, 0, 16);
}

#[test]
#[should_panic(expected: ('LEAF_COUNT_ZERO', 'ENTRYPOINT_FAILED'))]
fn a_zero_leaf_count_is_refused() {
    deploy().anchor(0, 'root', 0);
}

#[test]
#[should_panic(expected: ('CALLER_ZERO', 'ENTRYPOINT_FAILED'))]
fn the_zero_address_cannot_anchor() {
    let registry = deploy();
    set_contract_address(0.try_into().unwrap());
    registry.anchor(0, 'root', 16);
}

#[test]
#[should_panic(expected: ('BLOCK_TIME_ZERO', 'ENTRYPOINT_FAILED'))]
fn nothing_is_anchored_at_time_zero() {
    let registry = deploy();
    set_block_timestamp(0);
    registry.anchor(0, 'root', 16);
}

#[test]
fn custodians_share_neither_heads_nor_roots() {
    let registry = deploy();
    registry.anchor(0, 'root', 16);
    assert_eq!(registry.head_of(another_custodian()), 0);
    assert_eq!(registry.anchored_at(another_custodian(), 'root'), 0);

    set_contract_address(another_custodian());
    set_block_timestamp(ANCHORED_AT + 60);
    registry.anchor(0, 'root', 8);
    assert_eq!(registry.head_of(another_custodian()), next_head(0, 'root', 8));
    assert_eq!(registry.anchored_at(another_custodian(), 'root'), ANCHORED_AT + 60);
    assert_eq!(registry.head_of(custodian()), next_head(0, 'root', 16));
    assert_eq!(registry.anchored_at(custodian(), 'root'), ANCHORED_AT);
}

#[test]
fn an_anchored_batch_is_announced_by_anchorer_and_root() {
    let registry = deploy();
    registry.anchor(0, 'root', 16);
    let (keys, data) = pop_log_raw(registry.contract_address).unwrap();
    assert_eq!(keys, [selector!("BatchAnchored"), 'custodian', 'root'].span());
    let head = next_head(0, 'root', 16);
    assert_eq!(data, [head, 16, ANCHORED_AT.into()].span());
    assert!(pop_log_raw(registry.contract_address).is_none(), "one event a batch");
}
