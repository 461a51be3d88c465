//! The names that only Calimero and its app use: groups, applications, blobs, entries, cursors.

use std::fmt;
use std::str::FromStr;

use medsync_protocol::ids::parse_bytes32;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Why a text is none of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is not the spelling of 32 bytes that this name has.
    #[error("this is not 32 bytes in {0}")]
    Spelling(&'static str),
    /// The kind of an entry is not known.
    #[error("no entry has this kind")]
    Kind,
    /// A cursor is empty or longer than any.
    #[error("a cursor has 1 to {CURSOR_BYTES_MAX} printable ASCII characters")]
    Cursor,
    /// A page of no or too many entries.
    #[error("a page has 1 to {PAGE_LEN_MAX} entries")]
    PageLimit,
}

/// The longest cursor that the app writes.
pub const CURSOR_BYTES_MAX: usize = 128;
/// The most entries of one page.
pub const PAGE_LEN_MAX: u32 = 100;

/// Reads base58, Calimero's spelling of most 32-byte values.
pub(super) fn from_base58(text: &str) -> Result<[u8; 32], NameError> {
    let mut bytes = [0u8; 32];
    // 32 bytes take at most 44 characters: nothing longer is worth decoding.
    match bs58::decode(text.get(..text.len().min(45)).unwrap_or_default()).onto(&mut bytes) {
        Ok(32) => Ok(bytes),
        _ => Err(NameError::Spelling("base58")),
    }
}

/// Writes base58.
pub(super) fn to_base58(bytes: &[u8; 32]) -> String {
    bs58::encode(bytes).into_string()
}

fn from_hex(text: &str) -> Result<[u8; 32], NameError> {
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| NameError::Spelling("hex"))?;
    Ok(bytes)
}

fn to_hex(bytes: &[u8; 32]) -> String {
    hex::encode(bytes)
}

fn from_bytes32(text: &str) -> Result<[u8; 32], NameError> {
    parse_bytes32(text).map_err(|_| NameError::Spelling("hex after 0x"))
}

fn to_bytes32(bytes: &[u8; 32]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// Makes a name of 32 bytes with one spelling, in which it is also serialized.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $read:path, $write:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $read(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$write(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// Any value that a node writes in base58 and that is ours under a name of the protocol.
    Base58, from_base58, to_base58
}
name! {
    /// An installed application, whatever its version.
    ApplicationId, from_base58, to_base58
}
name! {
    /// A blob of a node, named by its content.
    BlobId, from_base58, to_base58
}
name! {
    /// A blob as a group names it.
    HexBlob, from_hex, to_hex
}
name! {
    /// The hash of a context's whole state on one node.
    StateHash, from_base58, to_base58
}
name! {
    /// A custodian's namespace, which holds a group a patient.
    NamespaceId, from_hex, to_hex
}
name! {
    /// A group of members; each circle has its own.
    GroupId, from_hex, to_hex
}
name! {
    /// The random key of one entry of a circle.
    EntryKey, from_bytes32, to_bytes32
}
name! {
    /// Changes if and only if what it stands for does.
    ChangeDigest, from_bytes32, to_bytes32
}

/// The piece in which a node cuts a blob.
const BLOB_CHUNK_BYTES: usize = 1024 * 1024;

impl BlobId {
    /// The name under which every node keeps these bytes: the SHA-256 of the SHA-256 of each
    /// mebibyte. It lets a patient hold a node to a file without believing any node.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut whole = Sha256::new();
        for chunk in bytes.chunks(BLOB_CHUNK_BYTES) {
            whole.update(Sha256::digest(chunk));
        }
        Self(whole.finalize().into())
    }
}

/// What an entry of a circle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// What the custodian wrote when it opened the circle.
    Circle,
    /// An enrolment.
    Enrolment,
    /// A change of the enrolled party's key.
    KeyChange,
    /// A member whom the patient admitted.
    Device,
    /// A granted consent.
    Consent,
    /// A revocation.
    Revocation,
    /// A position in a batch, or news of it.
    Anchor,
    /// A signed log entry.
    Log,
    /// A log's place in a batch.
    Head,
    /// A version of a record.
    Record,
    /// A reward pool.
    Pool,
    /// A ticket's place in a batch.
    Ticket,
    /// A receipt, in an exchange.
    Receipt,
    /// A released record, in an exchange.
    Release,
}

impl EntryKind {
    /// All of them, in the order of the walk.
    pub const ALL: [Self; 14] = [
        Self::Circle,
        Self::Enrolment,
        Self::KeyChange,
        Self::Device,
        Self::Consent,
        Self::Revocation,
        Self::Anchor,
        Self::Log,
        Self::Head,
        Self::Record,
        Self::Pool,
        Self::Ticket,
        Self::Receipt,
        Self::Release,
    ];

    /// The name in the app's interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Enrolment => "enrolment",
            Self::KeyChange => "key_change",
            Self::Device => "device",
            Self::Consent => "consent",
            Self::Revocation => "revocation",
            Self::Anchor => "anchor",
            Self::Log => "log",
            Self::Head => "head",
            Self::Record => "record",
            Self::Pool => "pool",
            Self::Ticket => "ticket",
            Self::Receipt => "receipt",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EntryKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or(NameError::Kind)
    }
}

/// Where the next page starts; opaque.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// The text that the app wrote.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Cursor {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let sound = (1..=CURSOR_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if sound {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Cursor)
        }
    }
}

/// How many entries a page has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PageLimit(u32);

impl PageLimit {
    /// The largest page.
    pub const MAX: Self = Self(PAGE_LEN_MAX);

    /// One entry.
    pub const ONE: Self = Self(1);

    /// A limit from 1 to [`PAGE_LEN_MAX`].
    ///
    /// # Errors
    /// [`NameError::PageLimit`].
    pub const fn new(entries: u32) -> Result<Self, NameError> {
        if entries == 0 || entries > PAGE_LEN_MAX {
            return Err(NameError::PageLimit);
        }
        Ok(Self(entries))
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_read_back_in_each_spelling(bytes: [u8; 32]) {
            prop_assert_eq!(ApplicationId(bytes).to_string().parse(), Ok(ApplicationId(bytes)));
            prop_assert_eq!(GroupId(bytes).to_string().parse(), Ok(GroupId(bytes)));
            prop_assert_eq!(EntryKey(bytes).to_string().parse(), Ok(EntryKey(bytes)));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<ApplicationId>();
            let _ = text.parse::<GroupId>();
            let _ = text.parse::<EntryKey>();
            let _ = text.parse::<Cursor>();
        }
    }

    #[test]
    fn kinds_read_back() {
        for kind in EntryKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert_eq!("payload".parse::<EntryKind>(), Err(NameError::Kind));
    }

    #[test]
    fn limits_and_cursors_are_bounded() {
        assert_eq!(PageLimit::new(0), Err(NameError::PageLimit));
        assert_eq!(PageLimit::new(101), Err(NameError::PageLimit));
        assert_eq!("".parse::<Cursor>(), Err(NameError::Cursor));
        assert_eq!("x".repeat(129).parse::<Cursor>(), Err(NameError::Cursor));
        assert_eq!("a b".parse::<Cursor>(), Err(NameError::Cursor));
        assert_eq!(
            "1".repeat(1000).parse::<BlobId>(),
            Err(NameError::Spelling("base58"))
        );
    }
}
