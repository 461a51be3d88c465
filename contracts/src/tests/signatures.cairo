use crate::hashes::secret_hash;
use crate::signature::{UPPER_BOUND, is_valid_signature};
use crate::tests::signer::{public_key, sign};
use crate::types::Signature;

const SECRET_KEY: felt252 = 0x5ec2e7;
/// 2^251, the first value out of range.
const BOUND: felt252 = 0x800000000000000000000000000000000000000000000000000000000000000;

/// A message and its signature. It hashes first: a test that uses the curve but no Poseidon does
/// not start in every runner.
fn signed() -> (felt252, felt252, Signature) {
    let message = secret_hash('message');
    assert!(message.into() < UPPER_BOUND, "the sample must be in range");
    (message, public_key(SECRET_KEY), sign(message, SECRET_KEY))
}

#[test]
fn a_signature_is_valid_under_its_key_and_message() {
    let (message, key, signature) = signed();
    assert!(is_valid_signature(message, key, signature), "as signed");
    assert!(!is_valid_signature(message + 1, key, signature), "another message");
    assert!(!is_valid_signature(message, public_key(2), signature), "another key");
}

#[test]
fn r_and_s_are_not_interchangeable() {
    let (message, key, Signature { r, s }) = signed();
    assert!(!is_valid_signature(message, key, Signature { r: s, s: r }), "swapped");
    assert!(!is_valid_signature(message, key, Signature { r, s: s + 1 }), "another s");
}

#[test]
fn zeros_are_refused() {
    let (message, key, Signature { r, s }) = signed();
    assert!(!is_valid_signature(message, key, Signature { r: 0, s }), "r");
    assert!(!is_valid_signature(message, key, Signature { r, s: 0 }), "s");
    assert!(!is_valid_signature(message, 0, Signature { r, s }), "key");
}

#[test]
fn values_at_the_bound_are_refused() {
    let (message, key, Signature { r, s }) = signed();
    assert!(!is_valid_signature(BOUND, key, Signature { r, s }), "message");
    assert!(!is_valid_signature(message, key, Signature { r: BOUND, s }), "r");
    assert!(!is_valid_signature(message, key, Signature { r, s: BOUND }), "s");
    assert!(!is_valid_signature(-1, key, Signature { r: -1, s: -1 }), "the largest felt");
}

/// The equation holds for a message of 2^251 or more as well: the range alone refuses it.
#[test]
fn a_true_signature_over_a_message_out_of_range_is_refused() {
    let _ = secret_hash(0);
    let key = public_key(SECRET_KEY);
    let signature = sign(BOUND, SECRET_KEY);
    assert!(core::ecdsa::check_ecdsa_signature(BOUND, key, signature.r, signature.s), "true");
    assert!(!is_valid_signature(BOUND, key, signature), "out of range");
    let signature = sign(BOUND - 1, SECRET_KEY);
    assert!(is_valid_signature(BOUND - 1, key, signature), "the largest message");
}
