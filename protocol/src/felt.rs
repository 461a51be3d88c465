//! Felts as text, and the newtypes made of them.
//!
//! A felt has exactly one spelling: `0x`, lower-case hex, no leading zeros, below the prime.
//! Anything else is refused rather than reduced, so that two texts never mean one value.

use alloc::string::String;

pub use starknet_types_core::felt::Felt;

/// The exclusive bound of addresses, and of messages and signature halves.
pub(crate) const TWO_POW_251: Felt =
    Felt::from_hex_unchecked("0x800000000000000000000000000000000000000000000000000000000000000");

/// Why a text or a byte string is not a felt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeltError {
    /// The text does not start with `0x`.
    #[error("a felt starts with 0x")]
    NoPrefix,
    /// The text has no digit or more than 64 of them.
    #[error("a felt has 1 to 64 hex digits, this has {0}")]
    Length(usize),
    /// A character is not a lower-case hex digit.
    #[error("a felt is written in lower-case hex digits only")]
    Digit,
    /// The text has leading zeros.
    #[error("a felt is written without leading zeros (zero itself is 0x0)")]
    LeadingZero,
    /// The value is the field's prime or more.
    #[error("a felt is below the Stark prime 2^251 + 17 * 2^192 + 1")]
    AbovePrime,
    /// The value is 2^251 or more where an address is meant.
    #[error("an address on Starknet is below 2^251")]
    NoAddress,
    /// The value is zero where zero has no meaning.
    #[error("zero is not allowed here")]
    Zero,
}

/// Reads the one canonical spelling of a felt.
///
/// # Errors
/// Any other spelling, and any value at or above the prime.
pub fn parse(text: &str) -> Result<Felt, FeltError> {
    let digits = text.strip_prefix("0x").ok_or(FeltError::NoPrefix)?;
    if digits.is_empty() || digits.len() > 64 {
        return Err(FeltError::Length(digits.len()));
    }
    if !digits
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(FeltError::Digit);
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(FeltError::LeadingZero);
    }
    let mut bytes = [0u8; 32];
    for (i, digit) in digits.bytes().rev().enumerate() {
        let value = if digit <= b'9' {
            digit - b'0'
        } else {
            digit - b'a' + 10
        };
        bytes[31 - i / 2] |= value << (4 * (i % 2));
    }
    from_bytes(&bytes)
}

/// Reads 32 big-endian bytes.
///
/// # Errors
/// [`FeltError::AbovePrime`] for a value at or above the prime.
pub fn from_bytes(bytes: &[u8; 32]) -> Result<Felt, FeltError> {
    let felt = Felt::from_bytes_be(bytes);
    // The constructor reduces; a value that comes back changed was not canonical.
    if felt.to_bytes_be() == *bytes {
        Ok(felt)
    } else {
        Err(FeltError::AbovePrime)
    }
}

/// A felt that can be an address. A call that names another fails as a whole.
pub(crate) fn address(felt: Felt) -> Result<Felt, FeltError> {
    if felt < TWO_POW_251 {
        Ok(felt)
    } else {
        Err(FeltError::NoAddress)
    }
}

/// Writes the canonical spelling.
#[must_use]
pub fn to_text(felt: &Felt) -> String {
    let digits = hex::encode(felt.to_bytes_be());
    let trimmed = digits.trim_start_matches('0');
    alloc::format!("0x{}", if trimmed.is_empty() { "0" } else { trimmed })
}

/// Makes a public newtype of a felt: parsed, printed and serialized in the canonical spelling. What
/// is read has to pass a check, if one is named.
macro_rules! felt_newtype {
    ($(#[$doc:meta])* $name:ident $(: $check:path)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($crate::felt::Felt);

        impl $name {
            /// Wraps a felt that is already known to be one of these.
            #[must_use]
            pub const fn from_felt(felt: $crate::felt::Felt) -> Self {
                Self(felt)
            }

            /// The felt itself, as it enters a hash.
            #[must_use]
            pub const fn felt(&self) -> $crate::felt::Felt {
                self.0
            }

            /// Reads 32 big-endian bytes.
            ///
            /// # Errors
            /// A value at or above the prime, or none of these.
            pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, $crate::felt::FeltError> {
                $crate::felt::from_bytes(bytes)$(.and_then($check))?.map(Self)
            }

            /// The value as 32 big-endian bytes.
            #[must_use]
            pub fn to_bytes(&self) -> [u8; 32] {
                self.0.to_bytes_be()
            }

            /// Whether this is zero, which most objects never are.
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.0 == $crate::felt::Felt::ZERO
            }
        }

        impl core::str::FromStr for $name {
            type Err = $crate::felt::FeltError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::felt::parse(text)$(.and_then($check))?.map(Self)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(&$crate::felt::to_text(&self.0))
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

        // Borsh has 32 big-endian bytes, and reads back only what is below the prime.
        impl borsh::BorshSerialize for $name {
            fn serialize<W: borsh::io::Write>(&self, writer: &mut W) -> borsh::io::Result<()> {
                writer.write_all(&self.to_bytes())
            }
        }

        impl borsh::BorshDeserialize for $name {
            fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Self> {
                use borsh::io::{Error, ErrorKind};
                Self::from_bytes(&<[u8; 32]>::deserialize_reader(reader)?)
                    .map_err(|error| Error::new(ErrorKind::InvalidData, alloc::format!("{error}")))
            }
        }
    };
}

/// Makes a newtype of a secret felt: it is never printed, and it is wiped when dropped.
macro_rules! secret_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(pub(crate) [u8; 32]);

        impl $name {
            /// Reads 32 big-endian bytes.
            ///
            /// # Errors
            /// A value at or above the prime.
            pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, $crate::felt::FeltError> {
                $crate::felt::from_bytes(bytes).map(|_| Self(*bytes))
            }

            /// Reads the canonical spelling.
            ///
            /// # Errors
            /// Any other spelling.
            pub fn parse(text: &str) -> Result<Self, $crate::felt::FeltError> {
                $crate::felt::parse(text).map(|felt| Self(felt.to_bytes_be()))
            }

            /// The secret value; whoever calls this keeps it off logs and errors.
            #[must_use]
            pub fn reveal(&self) -> $crate::felt::Felt {
                $crate::felt::Felt::from_bytes_be(&self.0)
            }

            /// The canonical spelling of the secret, for a file that is sealed or a call that
            /// reveals it on purpose.
            #[must_use]
            pub fn reveal_text(&self) -> alloc::string::String {
                $crate::felt::to_text(&self.reveal())
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                zeroize::Zeroize::zeroize(&mut self.0);
            }
        }
    };
}

pub(crate) use {felt_newtype, secret_newtype};

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    const PRIME: &str = "0x800000000000011000000000000000000000000000000000000000000000001";
    const LAST: &str = "0x800000000000011000000000000000000000000000000000000000000000000";

    #[test]
    fn what_is_no_address_is_not_read_as_one() {
        use crate::ids::{Anchorer, ClassHash, ContractAddress};
        let bound = to_text(&TWO_POW_251);
        let last = to_text(&(TWO_POW_251 - Felt::ONE));
        assert_eq!(bound.parse::<ContractAddress>(), Err(FeltError::NoAddress));
        assert_eq!(LAST.parse::<Anchorer>(), Err(FeltError::NoAddress));
        assert_eq!(
            ContractAddress::from_bytes(&TWO_POW_251.to_bytes_be()),
            Err(FeltError::NoAddress)
        );
        assert!(last.parse::<ContractAddress>().is_ok());
        assert!(last.parse::<Anchorer>().is_ok());
        assert!(LAST.parse::<ClassHash>().is_ok());
    }

    #[test]
    fn each_wrong_spelling_has_its_own_error() {
        let too_long = alloc::format!("0x{}", "1".repeat(65));
        for (text, error) in [
            ("12", FeltError::NoPrefix),
            ("0x", FeltError::Length(0)),
            (too_long.as_str(), FeltError::Length(65)),
            ("0xA", FeltError::Digit),
            ("0x0a", FeltError::LeadingZero),
            ("0x00", FeltError::LeadingZero),
            (PRIME, FeltError::AbovePrime),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(parse("0x0"), Ok(Felt::ZERO));
        assert_eq!(parse(LAST), Ok(Felt::MAX));
    }

    proptest! {
        #[test]
        fn text_and_value_are_one_to_one(bytes: [u8; 32]) {
            let felt = Felt::from_bytes_be(&bytes);
            prop_assert_eq!(parse(&to_text(&felt)), Ok(felt));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            if let Ok(felt) = parse(&text) {
                prop_assert_eq!(to_text(&felt), text.to_string());
            }
        }
    }
}
