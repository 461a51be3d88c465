//! Poseidon, in the only two forms that MedSync uses, and the tags that keep its uses apart.

use alloc::vec::Vec;

use starknet_types_core::felt::Felt;
use starknet_types_core::hash::{Poseidon, StarkHash};

/// A domain tag: a Cairo short string that enters a hash first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(&'static str);

impl Tag {
    /// The tag spelled by `name`; a wrong spelling does not compile where it is a constant.
    pub(crate) const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= 31 && name.is_ascii());
        Self(name)
    }

    pub(crate) fn felt(self) -> Felt {
        Felt::from_bytes_be_slice(self.0.as_bytes())
    }
}

/// `H(tag, …)`: Starknet's `poseidon_hash_many` of the tag and the parts in order.
pub(crate) fn tagged(tag: Tag, parts: &[&[Felt]]) -> Felt {
    let mut felts = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    felts.push(tag.felt());
    for part in parts {
        felts.extend_from_slice(part);
    }
    Poseidon::hash_array(&felts)
}

/// `N(left, right)`: Starknet's `poseidon_hash`, for the nodes of a tree alone.
pub(crate) fn node(left: &Felt, right: &Felt) -> Felt {
    Poseidon::hash(left, right)
}
