//! Each verdict through the registry, at the second at which it begins to apply and one before.

use starknet::testing::{set_block_timestamp, set_contract_address};
use crate::interface::IConsentRegistryDispatcherTrait;
use crate::tests::setup::{
    ANCHORED_AT, CLAIM_KEY, SECRET, SampleTrait, another_custodian, anchored_consent, deploy,
    opening, signed_consent,
};
use crate::types::Verdict;

const NOW: u64 = ANCHORED_AT + 1000;

#[test]
fn a_consent_is_valid_from_the_second_of_its_anchor() {
    let sample = anchored_consent(0, 0, NOW);
    assert_eq!(sample.verdict_at(ANCHORED_AT), Verdict::Valid);
    assert_eq!(sample.verdict_at(ANCHORED_AT - 1), Verdict::UnknownAnchor);
    assert_eq!(sample.verdict_at(0), Verdict::UnknownAnchor);
}

#[test]
fn a_consent_that_was_never_anchored_is_unknown() {
    let registry = deploy();
    let sample = signed_consent(registry, opening(0, 0));
    assert_eq!(sample.verdict_at(ANCHORED_AT), Verdict::UnknownAnchor);
}

#[test]
fn a_root_that_only_another_custodian_anchored_is_unknown() {
    let registry = deploy();
    let sample = signed_consent(registry, opening(0, 0));
    set_contract_address(another_custodian());
    registry.anchor(0, sample.root, 2);
    assert_eq!(sample.verdict_at(ANCHORED_AT), Verdict::UnknownAnchor);
}

#[test]
fn a_revocation_counts_from_its_second() {
    let sample = anchored_consent(0, 0, ANCHORED_AT + 500);
    sample.registry.revoke(SECRET, CLAIM_KEY);
    set_block_timestamp(NOW);
    assert_eq!(sample.verdict_at(ANCHORED_AT + 499), Verdict::Valid);
    assert_eq!(sample.verdict_at(ANCHORED_AT + 500), Verdict::Revoked);
    assert_eq!(sample.verdict_at(NOW), Verdict::Revoked);
}

#[test]
fn a_revocation_before_the_anchor_counts() {
    let registry = deploy();
    let sample = signed_consent(registry, opening(0, 0));
    registry.revoke(SECRET, CLAIM_KEY);
    set_block_timestamp(NOW);
    registry.anchor(0, sample.root, 2);
    assert_eq!(sample.verdict_at(NOW - 1), Verdict::UnknownAnchor);
    assert_eq!(sample.verdict_at(NOW), Verdict::Revoked);
}

#[test]
fn another_opening_revokes_nothing_here() {
    let sample = anchored_consent(0, 0, NOW);
    sample.registry.revoke(SECRET + 1, CLAIM_KEY);
    sample.registry.revoke(SECRET, CLAIM_KEY + 1);
    assert_eq!(sample.verdict_at(NOW), Verdict::Valid);
}

#[test]
fn a_consent_is_valid_from_not_before() {
    let sample = anchored_consent(ANCHORED_AT + 500, 0, NOW);
    assert_eq!(sample.verdict_at(ANCHORED_AT + 499), Verdict::NotYetValid);
    assert_eq!(sample.verdict_at(ANCHORED_AT + 500), Verdict::Valid);
}

#[test]
fn a_consent_is_expired_from_not_after() {
    let sample = anchored_consent(0, ANCHORED_AT + 500, NOW);
    assert_eq!(sample.verdict_at(ANCHORED_AT + 499), Verdict::Valid);
    assert_eq!(sample.verdict_at(ANCHORED_AT + 500), Verdict::Expired);
}

#[test]
fn a_consent_without_not_after_never_expires() {
    let sample = anchored_consent(0, 0, 0xffffffffffffffff);
    assert_eq!(sample.verdict_at(0xffffffffffffffff), Verdict::Valid);
}

#[test]
fn the_time_of_the_block_may_be_asked_for() {
    let sample = anchored_consent(0, 0, NOW);
    assert_eq!(sample.verdict_at(NOW), Verdict::Valid);
}

#[test]
#[should_panic(expected: ('TIME_AHEAD_OF_BLOCK', 'ENTRYPOINT_FAILED'))]
fn a_time_that_the_block_has_not_reached_is_refused() {
    anchored_consent(0, 0, NOW).verdict_at(NOW + 1);
}
