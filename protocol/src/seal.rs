//! Sealing: records under their own keys, and those keys to people.
//!
//! A key is sealed with HPKE (RFC 9180) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305. A payload is encrypted with ChaCha20-Poly1305 (RFC 8439) under a key that is
//! used for it alone, so that its nonce is zero. What is sealed for one record, version or reader
//! opens as no other: all of that is authenticated with it.

use alloc::vec::Vec;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hpke::aead::ChaCha20Poly1305 as HpkeAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::audit::EntryDigest;
use crate::ids::{ContextId, RecordId, SealKey};

mod parts;

pub use parts::{Opened, PARTED_BYTES_MAX, Parts, PartsError, split};

const INFO: &[u8] = b"MEDSYNC_SEAL_V1";
/// The largest payload, in bytes: a record travels between nodes as one message of a Calimero
/// topic, which holds 64 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024;
/// How much longer a sealed payload is than the payload.
pub const PAYLOAD_OVERHEAD_BYTES: usize = 16;
/// The length of a sealed key: the encapsulated key, the record key and a tag.
pub const SEALED_KEY_BYTES: usize = 32 + 32 + 16;

/// An X25519 secret key, to whose public half records are sealed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SealSecret([u8; 32]);

/// The key of one version of one record.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecordKey([u8; 32]);

/// The version of a record, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordVersion(pub u32);

/// What a sealed thing is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedFor {
    /// The circle of the record.
    pub context: ContextId,
    /// The record.
    pub record: RecordId,
    /// Its version.
    pub version: RecordVersion,
    /// Who can open it.
    pub reader: SealKey,
    /// The log entry that a release names; `None` for what is stored.
    pub log: Option<EntryDigest>,
}

/// Why something cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The reader's key is no usable X25519 key.
    #[error("the reader's seal key is no usable X25519 public key")]
    ReaderKey,
    /// More bytes than a payload may have.
    #[error("a payload has at most {PAYLOAD_BYTES_MAX} bytes, this has {0}")]
    TooLong(usize),
    /// The sealed bytes have the wrong length.
    #[error("a sealed key has {SEALED_KEY_BYTES} bytes, this has {0}")]
    Length(usize),
    /// The bytes do not open: another key, record, version, reader or log entry, or changed bytes.
    #[error("this does not open with this key for this record, version and reader")]
    Closed,
}

macro_rules! secret_bytes {
    ($name:ident) => {
        impl $name {
            /// A secret from 32 uniform random bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The secret bytes; whoever calls this keeps them off logs and errors.
            #[must_use]
            pub const fn reveal(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }
    };
}
secret_bytes!(SealSecret);
secret_bytes!(RecordKey);

type Dhkem = X25519HkdfSha256;

impl SealSecret {
    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> SealKey {
        // Unwrap safety: every 32 bytes are an X25519 secret key; the length is in the type.
        #[expect(clippy::unwrap_used)]
        let secret = <Dhkem as Kem>::PrivateKey::from_bytes(&self.0).unwrap();
        SealKey(Dhkem::sk_to_pk(&secret).to_bytes().into())
    }
}

impl SealedFor {
    /// The bytes that are authenticated with the sealed key.
    fn aad(&self) -> Vec<u8> {
        let mut aad = self.payload_aad();
        aad.extend_from_slice(&self.reader.0);
        aad.extend_from_slice(&self.log.map_or([0; 32], |digest| digest.to_bytes()));
        aad
    }

    /// The payload is the same for every reader, so that only the record is bound to it.
    fn payload_aad(&self) -> Vec<u8> {
        let mut aad = Vec::with_capacity(132);
        aad.extend_from_slice(&self.context.0);
        aad.extend_from_slice(&self.record.0);
        aad.extend_from_slice(&self.version.0.to_le_bytes());
        aad
    }
}

impl RecordKey {
    /// Encrypts the payload of the record in `place` (the reader does not matter). A key is used
    /// once: a new version of a record takes a new key.
    ///
    /// # Errors
    /// [`SealError::TooLong`].
    pub fn encrypt(&self, place: &SealedFor, payload: &[u8]) -> Result<Vec<u8>, SealError> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(SealError::TooLong(payload.len()));
        }
        self.cipher()
            .encrypt(
                &Nonce::default(),
                Payload {
                    msg: payload,
                    aad: &place.payload_aad(),
                },
            )
            .map_err(|_| SealError::TooLong(payload.len()))
    }

    /// Decrypts what [`RecordKey::encrypt`] made for the same record and version.
    ///
    /// # Errors
    /// [`SealError::Closed`].
    pub fn decrypt(&self, place: &SealedFor, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        self.cipher()
            .decrypt(
                &Nonce::default(),
                Payload {
                    msg: sealed,
                    aad: &place.payload_aad(),
                },
            )
            .map_err(|_| SealError::Closed)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&self.0).into())
    }

    /// Seals this key to the reader in `place`: the encapsulated key, then the ciphertext.
    ///
    /// # Errors
    /// [`SealError::ReaderKey`].
    pub fn seal(&self, place: &SealedFor, rng: &mut impl CryptoRng) -> Result<Vec<u8>, SealError> {
        let reader = <Dhkem as Kem>::PublicKey::from_bytes(&place.reader.0)
            .map_err(|_| SealError::ReaderKey)?;
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal_with_rng::<HpkeAead, HkdfSha256, Dhkem>(
                &OpModeS::Base,
                &reader,
                INFO,
                &self.0,
                &place.aad(),
                rng,
            )
            .map_err(|_| SealError::ReaderKey)?;
        let mut sealed = encapsulated.to_bytes().to_vec();
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what [`RecordKey::seal`] made for the holder of `secret`.
    ///
    /// # Errors
    /// [`SealError::Length`] or [`SealError::Closed`].
    pub fn open(secret: &SealSecret, place: &SealedFor, sealed: &[u8]) -> Result<Self, SealError> {
        if sealed.len() != SEALED_KEY_BYTES {
            return Err(SealError::Length(sealed.len()));
        }
        let (encapsulated, ciphertext) = sealed.split_at(32);
        let closed = |_| SealError::Closed;
        let secret = <Dhkem as Kem>::PrivateKey::from_bytes(&secret.0).map_err(closed)?;
        let encapsulated = <Dhkem as Kem>::EncappedKey::from_bytes(encapsulated).map_err(closed)?;
        let mut key = hpke::single_shot_open::<HpkeAead, HkdfSha256, Dhkem>(
            &OpModeR::Base,
            &secret,
            &encapsulated,
            INFO,
            ciphertext,
            &place.aad(),
        )
        .map_err(closed)?;
        let bytes: [u8; 32] = key.as_slice().try_into().map_err(|_| SealError::Closed)?;
        key.zeroize();
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests;
