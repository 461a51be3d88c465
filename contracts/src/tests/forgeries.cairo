//! Receipts in which something is not what the patient signed or the custodian anchored.

use starknet::testing::{set_chain_id, set_contract_address};
use crate::hashes::CURVE_ORDER;
use crate::interface::IConsentRegistryDispatcherTrait;
use crate::tests::setup::{
    ANCHORED_AT, NEIGHBOUR, SampleTrait, another_custodian, anchored_consent, deploy, opening,
    signed_consent,
};
use crate::types::{Opening, Proof, Signature, Verdict};

const NOW: u64 = ANCHORED_AT + 1000;

#[test]
fn a_consent_that_names_another_custodian_was_not_signed() {
    let mut sample = anchored_consent(0, 0, NOW);
    set_contract_address(another_custodian());
    sample.registry.anchor(0, sample.root, 2);
    sample.anchorer = another_custodian();
    assert_eq!(sample.verdict_at(NOW), Verdict::BadSignature);
}

#[test]
fn a_proof_must_lead_to_the_root() {
    let mut sample = anchored_consent(0, 0, NOW);
    let siblings = [NEIGHBOUR].span();
    for proof in array![
        Proof { index: 0, siblings },
        // The bit that says the side is right, but no tree of two leaves has a place 3.
        Proof { index: 3, siblings },
        Proof { index: 1, siblings: [NEIGHBOUR + 1].span() },
        Proof { index: 0, siblings: [].span() },
        Proof { index: 1, siblings: [NEIGHBOUR, NEIGHBOUR].span() },
    ] {
        sample.proof = proof;
        assert_eq!(sample.verdict_at(NOW), Verdict::NotIncluded);
    };
}

#[test]
fn a_proof_that_is_too_deep_is_an_answer_and_no_panic() {
    let mut sample = anchored_consent(0, 0, NOW);
    let mut siblings = array![];
    for _ in 0..33_u32 {
        siblings.append(NEIGHBOUR);
    };
    sample.proof = Proof { index: 1, siblings: siblings.span() };
    assert_eq!(sample.verdict_at(NOW), Verdict::NotIncluded);
}

#[test]
fn a_leaf_of_another_anchored_root_is_not_included() {
    let mut sample = anchored_consent(0, 0, ANCHORED_AT);
    sample.registry.anchor(sample.registry.head_of(sample.anchorer), 'another root', 2);
    sample.root = 'another root';
    assert_eq!(sample.verdict_at(ANCHORED_AT), Verdict::NotIncluded);
}

#[test]
fn every_part_of_the_opening_was_signed() {
    let mut sample = anchored_consent(1, 2 * NOW, NOW);
    let signed = sample.opening;
    for opening in array![
        Opening { patient_key: 'another', ..signed },
        Opening { grantee: 'another', ..signed },
        Opening { not_before: 0, ..signed },
        Opening { not_after: 0, ..signed },
        Opening { handle: 'another', ..signed },
        Opening { salt: 'another', ..signed },
    ] {
        sample.opening = opening;
        assert_eq!(sample.verdict_at(NOW), Verdict::BadSignature);
    };
    sample.opening = signed;
    assert_eq!(sample.verdict_at(NOW), Verdict::Valid);
}

#[test]
fn both_halves_of_the_terms_hash_were_signed() {
    let mut sample = anchored_consent(0, 0, NOW);
    let u256 { low, high } = sample.terms_sha256;
    for terms_sha256 in array![
        u256 { low: low ^ 1, high }, u256 { low, high: high ^ 1 }, u256 { low: high, high: low },
    ] {
        sample.terms_sha256 = terms_sha256;
        assert_eq!(sample.verdict_at(NOW), Verdict::BadSignature);
    };
}

#[test]
fn a_signature_that_makes_no_sense_is_an_answer_and_no_panic() {
    let mut sample = anchored_consent(0, 0, NOW);
    let Signature { r, s } = sample.signature;
    for signature in array![
        Signature { r: 0, s },
        Signature { r, s: 0 },
        Signature { r: -1, s },
        Signature { r, s: -1 },
    ] {
        sample.signature = signature;
        assert_eq!(sample.verdict_at(NOW), Verdict::BadSignature);
    };
}

/// The twin (r, n - s) of a signature is no other consent: it has a leaf of its own, which was
/// not anchored.
#[test]
fn the_twin_of_a_signature_is_another_leaf() {
    let mut sample = anchored_consent(0, 0, NOW);
    let Signature { r, s } = sample.signature;
    let twin = (CURVE_ORDER - s.into()).try_into().unwrap();
    sample.signature = Signature { r, s: twin };
    assert_eq!(sample.verdict_at(NOW), Verdict::NotIncluded);
}

#[test]
fn a_grant_for_another_chain_was_not_signed() {
    let sample = anchored_consent(0, 0, NOW);
    set_chain_id('SN_MAIN');
    assert_eq!(sample.verdict_at(NOW), Verdict::BadSignature);
}

#[test]
fn a_consent_to_nobody_is_none() {
    let registry = deploy();
    let sample = signed_consent(registry, Opening { grantee: 0, ..opening(0, 0) });
    registry.anchor(0, sample.root, 2);
    assert_eq!(sample.verdict_at(ANCHORED_AT), Verdict::BadSignature);
}
