//! The verdict about a receipt, as a function of what the chain knows and nothing else.

use crate::hashes::{consent_commitment, grant_message, signed_leaf};
use crate::signature::is_valid_signature;
use crate::tree::is_included;
use crate::types::{Deployment, Opening, Proof, ReceiptTimes, Signature, Verdict};

/// What a verifier was handed, but for the terms, of which the chain sees the hash alone.
#[derive(Copy, Drop)]
pub struct Receipt {
    /// The custodian's Starknet address.
    pub anchorer: felt252,
    pub root: felt252,
    pub terms_sha256: u256,
    pub opening: Opening,
    pub signature: Signature,
    pub proof: Proof,
}

/// The first verdict that applies to `receipt` at time `at`, in the order of `Verdict`.
///
/// `times` must have been read for this receipt's anchorer, root and handle, and `at` must not
/// lie beyond `times.block_time`: both are the caller's to see to.
pub fn verdict_at(
    deployment: Deployment, receipt: Receipt, times: ReceiptTimes, at: u64,
) -> Verdict {
    let opening = receipt.opening;
    let commitment = consent_commitment(receipt.terms_sha256, receipt.anchorer, opening);
    if !is_granted(deployment, commitment, opening, receipt.signature) {
        return Verdict::BadSignature;
    }
    if times.anchored_at == 0 || times.anchored_at > at {
        return Verdict::UnknownAnchor;
    }
    if !is_included(receipt.root, signed_leaf(commitment, receipt.signature), receipt.proof) {
        return Verdict::NotIncluded;
    }
    if times.revoked_at != 0 && times.revoked_at <= at {
        return Verdict::Revoked;
    }
    if at < opening.not_before {
        return Verdict::NotYetValid;
    }
    if opening.not_after != 0 && at >= opening.not_after {
        return Verdict::Expired;
    }
    Verdict::Valid
}

/// Whether the patient granted this consent at this deployment.
///
/// A consent to nobody (a zero grantee) is none, whatever was signed.
fn is_granted(
    deployment: Deployment, commitment: felt252, opening: Opening, signature: Signature,
) -> bool {
    opening.grantee != 0
        && is_valid_signature(
            grant_message(deployment, commitment), opening.patient_key, signature,
        )
}
