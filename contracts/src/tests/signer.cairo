//! A signer for tests, so that a consent can be bound to whatever address a test deploys at.
//!
//! Its nonce is a constant, which gives the secret key away after two signatures: the keys it
//! signs with are worth nothing.

use core::ec::stark_curve::{GEN_X, GEN_Y};
use core::ec::{EcPointTrait, NonZeroEcPoint, ec_point_unwrap};
use core::math::{u256_inv_mod, u256_mul_mod_n};
use crate::hashes::CURVE_ORDER;
use crate::types::Signature;

const NONCE: felt252 = 0x5eed;

/// The x-coordinate of `secret_key` times the generator.
pub fn public_key(secret_key: felt252) -> felt252 {
    let generator = EcPointTrait::new(GEN_X, GEN_Y).unwrap();
    let point: NonZeroEcPoint = generator.mul(secret_key).try_into().unwrap();
    let (x, _) = ec_point_unwrap(point);
    x
}

/// Signs `message` as ECDSA defines it: s = (message + r * secret_key) / nonce.
pub fn sign(message: felt252, secret_key: felt252) -> Signature {
    let order: NonZero<u256> = CURVE_ORDER.try_into().unwrap();
    let r = public_key(NONCE);
    let nonce: u256 = NONCE.into();
    let inverse: u256 = u256_inv_mod(nonce, order).unwrap().into();
    let product = u256_mul_mod_n(r.into(), secret_key.into(), order);
    let sum = (message.into() + product) % CURVE_ORDER;
    let s = u256_mul_mod_n(sum, inverse, order);
    Signature { r, s: s.try_into().unwrap() }
}
