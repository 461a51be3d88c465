//! Signatures of protocol v1: Stark-curve ECDSA within narrow ranges.

use core::ecdsa::check_ecdsa_signature;
use crate::types::Signature;

/// 2^251: r, s and the message lie below it. It is less than the order of the curve, so one
/// value has one meaning in every implementation.
pub const UPPER_BOUND: u256 = 0x800000000000000000000000000000000000000000000000000000000000000;

/// Whether `signature` over `message` is by the key whose x-coordinate is `key`.
///
/// Every input gets an answer: values out of range, a `key` or an `r` that is on no point of the
/// curve, and an equation that ends in the point at infinity are ordinary refusals.
pub fn is_valid_signature(message: felt252, key: felt252, signature: Signature) -> bool {
    let Signature { r, s } = signature;
    if r == 0 || s == 0 {
        return false;
    }
    if !is_below_bound(message) || !is_below_bound(r) || !is_below_bound(s) {
        return false;
    }
    check_ecdsa_signature(message, key, r, s)
}

fn is_below_bound(value: felt252) -> bool {
    value.into() < UPPER_BOUND
}
