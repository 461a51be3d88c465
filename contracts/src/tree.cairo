//! The batch tree of protocol v1: binary, padded with 0 to a power of two.
//!
//! Nodes are hashed with capacity 2, leaves (by `hashes`) with capacity 0, so that no node can
//! pass for a leaf.

use core::poseidon::hades_permutation;
use crate::types::Proof;

/// The longest proof that is followed: a batch of 2^32 leaves is beyond any hospital, and a
/// bound keeps the cost of a hostile proof known.
pub const MAX_DEPTH: u32 = 32;

/// The parent of two nodes: `N(l, r)`, Starknet's `poseidon_hash` of a pair.
pub fn node(left: felt252, right: felt252) -> felt252 {
    let (parent, _, _) = hades_permutation(left, right, 2);
    parent
}

/// The root to which `proof` leads from `leaf`, or `None` if no tree has such a place: more than
/// `MAX_DEPTH` levels, or an index at or above 2^depth.
pub fn root_of(leaf: felt252, proof: Proof) -> Option<felt252> {
    if proof.siblings.len() > MAX_DEPTH {
        return Option::None;
    }
    let mut reached = leaf;
    let mut place = proof.index;
    for sibling in proof.siblings {
        reached =
            if place % 2 == 0 {
                node(reached, *sibling)
            } else {
                node(*sibling, reached)
            };
        place /= 2;
    };
    // Bits that no level consumed would let one leaf be proven at many places.
    if place != 0 {
        return Option::None;
    }
    Option::Some(reached)
}

/// Whether `proof` shows `leaf` to be under `root`.
pub fn is_included(root: felt252, leaf: felt252, proof: Proof) -> bool {
    match root_of(leaf, proof) {
        Option::Some(reached) => reached == root,
        Option::None => false,
    }
}
