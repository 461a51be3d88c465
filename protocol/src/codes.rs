//! Codes and sets of codes.
//!
//! A set is sorted by system, then code, as UTF-8, and has no doubles, so that one meaning has
//! one encoding. An input in another order is refused, never sorted silently.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use borsh::io;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// The longest system or code, in bytes of UTF-8.
pub const CODE_TEXT_BYTES_MAX: usize = 256;
/// The most members of one set.
pub const SET_LEN_MAX: usize = 64;

/// One code of one code system, as FHIR's `Coding` has them.
#[derive(
    Clone, Debug, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// The code system's URI.
    pub system: String,
    /// The code within it.
    pub code: String,
}

/// Why something is not a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum SetError {
    /// More members than a set may have.
    #[error("a set has at most {SET_LEN_MAX} members, this has {0}")]
    TooMany(usize),
    /// A member comes after one that it should precede.
    #[error("member {0} of the set is out of order")]
    Unsorted(usize),
    /// A member is there twice.
    #[error("member {0} of the set is there twice")]
    Doubled(usize),
    /// A system or code is empty or too long.
    #[error("member {0} of the set has an empty text or one above {CODE_TEXT_BYTES_MAX} bytes")]
    Text(usize),
}

impl Code {
    /// A code from its two texts.
    #[must_use]
    pub fn new(system: impl Into<String>, code: impl Into<String>) -> Self {
        Self {
            system: system.into(),
            code: code.into(),
        }
    }

    fn is_bounded(&self) -> bool {
        [&self.system, &self.code]
            .iter()
            .all(|text| !text.is_empty() && text.len() <= CODE_TEXT_BYTES_MAX)
    }
}

impl Ord for Code {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.system.as_bytes(), self.code.as_bytes())
            .cmp(&(other.system.as_bytes(), other.code.as_bytes()))
    }
}

impl PartialOrd for Code {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A set in its one order. An empty set restricts nothing.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize)]
#[serde(transparent)]
pub struct SortedSet<T>(Vec<T>);

/// A set of codes.
pub type CodeSet = SortedSet<Code>;

/// What may be in a [`SortedSet`].
pub trait Member: Ord {
    /// Whether the member's own size is within bounds.
    fn is_bounded(&self) -> bool {
        true
    }
}

impl Member for Code {
    fn is_bounded(&self) -> bool {
        Self::is_bounded(self)
    }
}
impl Member for crate::ids::AuthorId {}
impl Member for crate::ids::RecordId {}

impl<T> Default for SortedSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Member> SortedSet<T> {
    /// A set from members that are sorted already.
    ///
    /// # Errors
    /// Too many members, or the first that is out of order, doubled, empty or too long.
    pub fn from_sorted(members: Vec<T>) -> Result<Self, SetError> {
        if members.len() > SET_LEN_MAX {
            return Err(SetError::TooMany(members.len()));
        }
        if let Some(at) = members.iter().position(|member| !member.is_bounded()) {
            return Err(SetError::Text(at));
        }
        for (i, pair) in members.windows(2).enumerate() {
            match pair[0].cmp(&pair[1]) {
                Ordering::Less => {}
                Ordering::Equal => return Err(SetError::Doubled(i + 1)),
                Ordering::Greater => return Err(SetError::Unsorted(i + 1)),
            }
        }
        Ok(Self(members))
    }

    /// A set from members in any order; doubles become one. For a person's own input, before
    /// anything is signed.
    ///
    /// # Errors
    /// Too many members, or one that is empty or too long.
    pub fn collect(members: impl IntoIterator<Item = T>) -> Result<Self, SetError> {
        let mut members: Vec<T> = members.into_iter().collect();
        members.sort();
        members.dedup();
        Self::from_sorted(members)
    }

    /// Whether the set holds this member.
    #[must_use]
    pub fn contains(&self, member: &T) -> bool {
        self.0.binary_search(member).is_ok()
    }
}

impl<T> SortedSet<T> {
    /// The members in order.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// Whether the set restricts nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Member + BorshDeserialize> BorshDeserialize for SortedSet<T> {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        Self::from_sorted(Vec::deserialize_reader(reader)?)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, alloc::format!("{error}")))
    }
}

impl<'de, T: Member + Deserialize<'de>> Deserialize<'de> for SortedSet<T> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_sorted(<Vec<T> as Deserialize>::deserialize(d)?)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn codes(texts: &[&str]) -> Vec<Code> {
        texts.iter().map(|code| Code::new("s", *code)).collect()
    }

    #[test]
    fn a_set_has_one_order() {
        assert!(CodeSet::from_sorted(codes(&["a", "b"])).is_ok());
        assert_eq!(
            CodeSet::from_sorted(codes(&["b", "a"])),
            Err(SetError::Unsorted(1))
        );
        assert_eq!(
            CodeSet::from_sorted(codes(&["a", "a"])),
            Err(SetError::Doubled(1))
        );
        assert_eq!(CodeSet::from_sorted(codes(&[""])), Err(SetError::Text(0)));
        let long = "x".repeat(CODE_TEXT_BYTES_MAX + 1);
        assert_eq!(
            CodeSet::from_sorted(codes(&[&long])),
            Err(SetError::Text(0))
        );
        let many = vec![Code::new("s", "c"); SET_LEN_MAX + 1];
        assert_eq!(
            CodeSet::from_sorted(many),
            Err(SetError::TooMany(SET_LEN_MAX + 1))
        );
    }

    #[test]
    fn the_order_is_by_system_then_code_and_not_by_encoded_length() {
        let set = CodeSet::collect([
            Code::new("z", "a"),
            Code::new("aa", "b"),
            Code::new("b", "a"),
        ]);
        let systems: Vec<_> = set
            .iter()
            .flat_map(|s| s.as_slice())
            .map(|c| c.system.as_str())
            .collect();
        assert_eq!(systems, ["aa", "b", "z"]);
    }

    #[test]
    fn borsh_in_another_order_is_refused() {
        let bytes = borsh::to_vec(&codes(&["b", "a"])).expect("vectors encode");
        assert!(CodeSet::try_from_slice(&bytes).is_err());
    }
}
