//! Stark-curve ECDSA.
//!
//! A signature is valid only if `0 < r, s < 2^251`, the message is below 2^251, the key is an
//! x-coordinate of the curve and the equation's sum is a point whose x is `r`. Everything else,
//! the point at infinity included, is an ordinary refusal and never a panic.
//!
//! The curve arithmetic is that of `starknet-crypto` (in its maintained fork, which refuses the
//! crafted signature on which the older crate panics).
//!
//! A signature has a twin (`r`, `n - s`), so that acts are told apart by message, never by
//! signature.

use serde::{Deserialize, Serialize};
use starknet_crypto::rfc6979_generate_k;

use crate::felt::{Felt, FeltError, TWO_POW_251, felt_newtype, secret_newtype};

/// The order of the curve's group.
pub(crate) const ORDER: Felt =
    Felt::from_hex_unchecked("0x800000000000010ffffffffffffffffb781126dcae7b2321e66a241adc64d2f");
/// What crypto-cpp-py, with which the reference signs, puts into the nonce besides key and message.
const FIRST_ADDITIONAL_DATA: u64 = 32;

felt_newtype! {
    /// A Stark public key: the x-coordinate of a point. Whether it is on the curve shows when a
    /// signature is checked against it.
    PublicKey
}
felt_newtype! {
    /// What is signed: the digest of exactly one act.
    Message
}
felt_newtype! {
    /// One half of a signature.
    SignatureHalf
}
secret_newtype! {
    /// A Stark secret key, a scalar in `[1, n)`.
    SecretKey
}

/// A Stark-curve ECDSA signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The x-coordinate of the nonce's point.
    pub r: SignatureHalf,
    /// The other half.
    pub s: SignatureHalf,
}

/// Why something cannot be signed, or a key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The message is 2^251 or more; the caller takes its next counter or salt.
    #[error("the message is not below 2^251; take the next counter or salt")]
    MessageTooLarge,
    /// The secret key is zero or not below the curve's order.
    #[error("a secret key is a number from 1 to the curve's order less one")]
    KeyOutOfRange,
    /// The secret key is no felt.
    #[error(transparent)]
    Felt(#[from] FeltError),
}

impl Message {
    /// Whether this can be signed at all; with odds of 2^-55 a digest cannot.
    #[must_use]
    pub fn is_signable(&self) -> bool {
        self.felt() < TWO_POW_251
    }
}

impl SecretKey {
    /// A key from a uniform random felt.
    ///
    /// # Errors
    /// [`SignError::KeyOutOfRange`] for zero and for values at or above the order.
    pub fn from_scalar(bytes: &[u8; 32]) -> Result<Self, SignError> {
        let key = Self::from_bytes(bytes)?;
        let scalar = key.reveal();
        if scalar == Felt::ZERO || scalar >= ORDER {
            return Err(SignError::KeyOutOfRange);
        }
        Ok(key)
    }

    /// The public key of this secret.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_felt(starknet_crypto::get_public_key(&self.reveal()))
    }

    /// Signs a message with the nonce of RFC 6979, section 3.6, whose additional data is that of
    /// the reference: the same message and key give the same signature everywhere.
    ///
    /// # Errors
    /// [`SignError::MessageTooLarge`] if the message is 2^251 or more.
    pub fn sign(&self, message: Message) -> Result<Signature, SignError> {
        if !message.is_signable() {
            return Err(SignError::MessageTooLarge);
        }
        let (secret, message) = (self.reveal(), message.felt());
        // A nonce that gives an r or s out of range (odds 2^-55) is followed by the next one.
        for additional_data in FIRST_ADDITIONAL_DATA.. {
            let seed = Felt::from(additional_data);
            let k = rfc6979_generate_k(&message, &secret, Some(&seed));
            if let Ok(signature) = starknet_crypto::sign(&secret, &message, &k) {
                return Ok(Signature {
                    r: SignatureHalf::from_felt(signature.r),
                    s: SignatureHalf::from_felt(signature.s),
                });
            }
        }
        unreachable!("some nonce gives a signature")
    }
}

impl PublicKey {
    /// Whether `signature` is this key's over `message`. Never panics.
    #[must_use]
    pub fn verifies(&self, message: Message, signature: &Signature) -> bool {
        starknet_crypto::verify(
            &self.felt(),
            &message.felt(),
            &signature.r.felt(),
            &signature.s.felt(),
        )
        .unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_scalar(&[byte & 7; 32]).expect("a scalar below the order")
    }

    fn message(value: u64) -> Message {
        Message::from_felt(Felt::from(value))
    }

    #[test]
    fn secret_keys_are_scalars() {
        assert_eq!(
            SecretKey::from_scalar(&[0; 32]),
            Err(SignError::KeyOutOfRange)
        );
        assert_eq!(
            SecretKey::from_scalar(&ORDER.to_bytes_be()),
            Err(SignError::KeyOutOfRange)
        );
        assert_eq!(
            SecretKey::from_scalar(&[0xff; 32]),
            Err(SignError::Felt(FeltError::AbovePrime))
        );
    }

    #[test]
    fn a_large_message_is_refused_before_signing() {
        assert_eq!(
            key(1).sign(Message::from_felt(TWO_POW_251)),
            Err(SignError::MessageTooLarge)
        );
    }

    #[test]
    fn secrets_are_never_printed() {
        assert_eq!(alloc::format!("{:?}", key(1)), "SecretKey(hidden)");
    }

    /// A signature whose two summands are the same point: the sum is a doubling.
    #[test]
    fn a_doubling_sum_is_an_ordinary_check() {
        use num_mod::{inv, mul};
        let (secret, nonce) = (Felt::from(5), Felt::from(77));
        let r = starknet_crypto::get_public_key(&nonce);
        let z = mul(r, secret);
        // s = (z + r * secret) / k with z = r * secret.
        let s = mul(mul(Felt::TWO, z), inv(nonce));
        let signature = Signature {
            r: SignatureHalf::from_felt(r),
            s: SignatureHalf::from_felt(s),
        };
        let public = PublicKey::from_felt(starknet_crypto::get_public_key(&secret));
        assert!(public.verifies(Message::from_felt(z), &signature));
    }

    mod num_mod {
        use super::super::{Felt, ORDER};
        use starknet_types_core::felt::NonZeroFelt;

        pub fn mul(a: Felt, b: Felt) -> Felt {
            a.mul_mod(&b, &NonZeroFelt::from_felt_unchecked(ORDER))
        }

        pub fn inv(a: Felt) -> Felt {
            a.mod_inverse(&NonZeroFelt::from_felt_unchecked(ORDER))
                .expect("not zero")
        }
    }

    proptest! {
        // A case here costs as much as many elsewhere.
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]

        #[test]
        fn what_is_signed_verifies_and_nothing_else_does(m in 1u64.., other in 1u64..) {
            let (mine, theirs) = (key(1), key(2));
            let signature = mine.sign(message(m)).expect("small messages are signable");
            prop_assert!(mine.public_key().verifies(message(m), &signature));
            prop_assert!(!theirs.public_key().verifies(message(m), &signature));
            prop_assert_eq!(mine.public_key().verifies(message(other), &signature), m == other);
        }

        #[test]
        fn no_input_panics(k: [u8; 32], m: [u8; 32], r: [u8; 32], s: [u8; 32]) {
            let felt = |b: &[u8; 32]| Felt::from_bytes_be(b);
            let signature = Signature {
                r: SignatureHalf::from_felt(felt(&r)),
                s: SignatureHalf::from_felt(felt(&s)),
            };
            let key = PublicKey::from_felt(felt(&k));
            prop_assert!(!key.verifies(Message::from_felt(felt(&m)), &signature));
        }
    }
}
