//! Where several verdicts apply, the first in the order of `Verdict` is the answer.
//!
//! Each test breaks one thing more than the test after it, so that swapping any two neighbouring
//! checks fails one of them.

use crate::hashes::{consent_commitment, grant_message, signed_leaf};
use crate::tests::setup::{CHAIN_ID, PATIENT_SECRET_KEY, TERMS_SHA256, opening};
use crate::tests::signer::sign;
use crate::types::{Deployment, Proof, ReceiptTimes, Signature, Verdict};
use crate::verdict::{Receipt, verdict_at};

const DEPLOYMENT: Deployment = Deployment { chain_id: CHAIN_ID, registry: 'registry' };
const ANCHORED_AT: u64 = 100;
const AT: u64 = 200;
/// Anchored, but revoked before it.
const REVOKED: ReceiptTimes = ReceiptTimes {
    anchored_at: ANCHORED_AT, revoked_at: ANCHORED_AT, block_time: AT,
};
const IN_FORCE: ReceiptTimes = ReceiptTimes {
    anchored_at: ANCHORED_AT, revoked_at: 0, block_time: AT,
};

/// A batch of one leaf.
fn receipt(not_before: u64, not_after: u64) -> Receipt {
    let opening = opening(not_before, not_after);
    let commitment = consent_commitment(TERMS_SHA256, 'custodian', opening);
    let signature = sign(grant_message(DEPLOYMENT, commitment), PATIENT_SECRET_KEY);
    Receipt {
        anchorer: 'custodian',
        root: signed_leaf(commitment, signature),
        terms_sha256: TERMS_SHA256,
        opening,
        signature,
        proof: Proof { index: 0, siblings: [].span() },
    }
}

/// Ends before it begins, so that at `AT` it is both too early and too late.
fn never_in_force() -> Receipt {
    receipt(AT + 1, AT)
}

#[test]
fn a_bad_signature_comes_before_an_unknown_anchor() {
    let mut receipt = never_in_force();
    receipt.signature = Signature { r: 1, s: 1 };
    let times = ReceiptTimes { anchored_at: 0, ..REVOKED };
    assert_eq!(verdict_at(DEPLOYMENT, receipt, times, AT), Verdict::BadSignature);
}

#[test]
fn an_unknown_anchor_comes_before_a_missing_leaf() {
    let mut receipt = never_in_force();
    receipt.root = 'another root';
    let never = ReceiptTimes { anchored_at: 0, ..REVOKED };
    assert_eq!(verdict_at(DEPLOYMENT, receipt, never, AT), Verdict::UnknownAnchor);
    let later = ReceiptTimes { anchored_at: AT + 1, ..REVOKED };
    assert_eq!(verdict_at(DEPLOYMENT, receipt, later, AT), Verdict::UnknownAnchor);
}

#[test]
fn a_missing_leaf_comes_before_a_revocation() {
    let mut receipt = never_in_force();
    receipt.root = 'another root';
    assert_eq!(verdict_at(DEPLOYMENT, receipt, REVOKED, AT), Verdict::NotIncluded);
}

#[test]
fn a_revocation_comes_before_the_consents_own_times() {
    assert_eq!(verdict_at(DEPLOYMENT, never_in_force(), REVOKED, AT), Verdict::Revoked);
}

#[test]
fn too_early_comes_before_too_late() {
    assert_eq!(verdict_at(DEPLOYMENT, never_in_force(), IN_FORCE, AT), Verdict::NotYetValid);
}

#[test]
fn too_late_comes_last_of_all_refusals() {
    assert_eq!(verdict_at(DEPLOYMENT, receipt(0, AT), IN_FORCE, AT), Verdict::Expired);
    assert_eq!(verdict_at(DEPLOYMENT, receipt(0, AT + 1), IN_FORCE, AT), Verdict::Valid);
}

/// Clients of other languages decode the verdict by its place.
#[test]
fn verdicts_are_numbered_in_their_order() {
    let mut numbers = array![];
    for verdict in array![
        Verdict::BadSignature,
        Verdict::UnknownAnchor,
        Verdict::NotIncluded,
        Verdict::Revoked,
        Verdict::NotYetValid,
        Verdict::Expired,
        Verdict::Valid,
    ] {
        verdict.serialize(ref numbers);
    };
    assert_eq!(numbers, array![0, 1, 2, 3, 4, 5, 6]);
}
