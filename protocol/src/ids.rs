//! The names that things go by: 32-byte identifiers, times, and Starknet's own values.

use core::fmt;

use alloc::string::String;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::felt::{Felt, felt_newtype};

/// Why a text is not a 32-byte value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// The text does not start with `0x`.
    #[error("a 32-byte value starts with 0x")]
    NoPrefix,
    /// The text has another number of digits.
    #[error("a 32-byte value has 64 hex digits, this has {0}")]
    Length(usize),
    /// A character is not a lower-case hex digit.
    #[error("a 32-byte value is written in lower-case hex digits only")]
    Digit,
}

/// Reads `0x` and 64 lower-case hex digits.
///
/// # Errors
/// Any other spelling.
pub fn parse_bytes32(text: &str) -> Result<[u8; 32], BytesError> {
    let digits = text.strip_prefix("0x").ok_or(BytesError::NoPrefix)?;
    if digits.len() != 64 {
        return Err(BytesError::Length(digits.len()));
    }
    if digits.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(BytesError::Digit);
    }
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| BytesError::Digit)?;
    Ok(bytes)
}

/// Makes a public newtype of 32 bytes: printed and serialized as `0x` and 64 digits.
macro_rules! bytes_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            borsh::BorshSerialize, borsh::BorshDeserialize,
        )]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The value as it enters a hash: two felts below 2^128, high then low, big-endian.
            #[must_use]
            pub fn halves(&self) -> [$crate::felt::Felt; 2] {
                $crate::ids::halves(&self.0)
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::ids::BytesError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::ids::parse_bytes32(text).map(Self)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "0x{}", hex::encode(self.0))
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <alloc::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use bytes_newtype;

/// The two felts by which 32 bytes enter a hash: high, low, big-endian.
#[must_use]
pub(crate) fn halves(bytes: &[u8; 32]) -> [Felt; 2] {
    let mut high = [0u8; 32];
    let mut low = [0u8; 32];
    high[16..].copy_from_slice(&bytes[..16]);
    low[16..].copy_from_slice(&bytes[16..]);
    [Felt::from_bytes_be(&high), Felt::from_bytes_be(&low)]
}

bytes_newtype! {
    /// A Calimero context.
    ContextId
}
bytes_newtype! {
    /// A member of a context: the public key under which its node executes.
    MemberId
}
bytes_newtype! {
    /// One record of a patient, across its versions; uniform random.
    RecordId
}
bytes_newtype! {
    /// Who made a record, as a SHA-256 of the FHIR reference.
    AuthorId
}
bytes_newtype! {
    /// A SHA-256 digest.
    Sha256Digest
}
bytes_newtype! {
    /// An X25519 public key, to which records are sealed.
    SealKey
}
bytes_newtype! {
    /// Uniform random bytes that make one set of terms unlike every other.
    Nonce
}
bytes_newtype! {
    /// A Starknet address as 32 big-endian bytes, as it stands in the terms.
    AddressBytes
}

impl Sha256Digest {
    /// SHA-256 of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

felt_newtype! {
    /// Starknet's chain identifier, a short string such as `SN_SEPOLIA`.
    ChainId
}
felt_newtype! {
    /// The address of a contract on Starknet.
    ContractAddress: crate::felt::address
}
felt_newtype! {
    /// The Starknet address under which a custodian anchors.
    Anchorer: crate::felt::address
}
felt_newtype! {
    /// The hash of a declared contract class.
    ClassHash
}
felt_newtype! {
    /// A salt: uniform random, or derived from the patient's seed.
    Salt
}

impl ChainId {
    /// The identifier whose short string is `name`, at most 31 ASCII characters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        (!name.is_empty() && name.len() <= 31 && name.is_ascii())
            .then(|| Self::from_felt(Felt::from_bytes_be_slice(name.as_bytes())))
    }
}

impl AddressBytes {
    /// The address of an anchorer.
    #[must_use]
    pub fn of(anchorer: Anchorer) -> Self {
        Self(anchorer.to_bytes())
    }
}

/// What a context is for.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    borsh::BorshSerialize,
    borsh::BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ContextKind {
    /// One patient and one custodian: consents, records, the log.
    Circle,
    /// One custodian and one recipient: receipts, requests, releases, the log.
    Exchange,
}

impl ContextKind {
    /// The name in the interface and in stores.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Exchange => "exchange",
        }
    }
}

impl core::str::FromStr for ContextKind {
    type Err = ContextKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Circle, Self::Exchange]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or(ContextKindError)
    }
}

/// Why a text names no kind of context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a context is a circle or an exchange")]
pub struct ContextKindError;

/// A moment in unix seconds.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    borsh::BorshSerialize,
    borsh::BorshDeserialize,
)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// The time as it enters a hash.
    #[must_use]
    pub fn felt(self) -> Felt {
        Felt::from(self.0)
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Base64 with padding, the only spelling of byte strings in our JSON.
///
/// # Errors
/// A text that is not standard base64.
pub fn parse_base64(text: &str) -> Result<alloc::vec::Vec<u8>, base64::DecodeError> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text)
}

/// Writes standard base64 with padding.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn each_wrong_spelling_has_its_own_error() {
        assert_eq!("00".parse::<ContextId>(), Err(BytesError::NoPrefix));
        assert_eq!("0x00".parse::<ContextId>(), Err(BytesError::Length(2)));
        let upper = alloc::format!("0x{}", "A".repeat(64));
        assert_eq!(upper.parse::<ContextId>(), Err(BytesError::Digit));
        let odd = alloc::format!("0x{}", "g".repeat(64));
        assert_eq!(odd.parse::<ContextId>(), Err(BytesError::Digit));
    }

    #[test]
    fn a_value_prints_as_it_is_read() {
        let text = alloc::format!("0x{}", "0f".repeat(32));
        assert_eq!(text.parse::<RecordId>().map(|id| id.to_string()), Ok(text));
    }

    #[test]
    fn halves_are_high_then_low() {
        let mut bytes = [0u8; 32];
        bytes[15] = 1;
        bytes[31] = 2;
        assert_eq!(halves(&bytes), [Felt::ONE, Felt::TWO]);
    }

    #[test]
    fn chain_names_are_short_strings() {
        assert_eq!(
            ChainId::named("SN_SEPOLIA")
                .map(|c| c.to_string())
                .as_deref(),
            Some("0x534e5f5345504f4c4941")
        );
        assert_eq!(ChainId::named(""), None);
        assert_eq!(ChainId::named(&"x".repeat(32)), None);
    }
}
