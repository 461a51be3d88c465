//! Batch trees and proofs.
//!
//! A tree is binary, its leaves padded with 0 to a power of two. A proof is an index and the
//! siblings from the leaf up; bit i of the index says on which side the node stands. Leaves are
//! made by `H` and nodes by `N`, whose capacities differ, so that no leaf can be read as a node.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::felt::{Felt, felt_newtype};
use crate::hash::node;

/// The deepest tree: 2^32 leaves.
pub const DEPTH_MAX: usize = 32;

felt_newtype! {
    /// What is anchored: a signed consent, a log head, a ticket, or padding.
    Leaf
}
felt_newtype! {
    /// An inner node or a leaf beside the path of a proof.
    Sibling
}
felt_newtype! {
    /// The root of a batch tree.
    Root
}

/// Where a leaf stands in its tree, and how to get from it to the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The leaf's place, from 0.
    pub index: u64,
    /// The siblings from the leaf up.
    pub siblings: Vec<Sibling>,
}

/// Why something is no proof, or no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum TreeError {
    /// The proof is deeper than any tree.
    #[error("a proof has at most {DEPTH_MAX} siblings, this has {0}")]
    TooDeep(usize),
    /// The index is outside of a tree of the proof's depth.
    #[error("index {index} is outside of a tree of depth {depth}")]
    IndexOutside {
        /// The index.
        index: u64,
        /// How many siblings there are.
        depth: usize,
    },
    /// A tree has no leaves.
    #[error("a tree has at least one leaf")]
    Empty,
}

impl Proof {
    /// Whether the index fits the number of siblings.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn check(&self) -> Result<(), TreeError> {
        let depth = self.siblings.len();
        if depth > DEPTH_MAX {
            return Err(TreeError::TooDeep(depth));
        }
        if self.index >> depth != 0 {
            return Err(TreeError::IndexOutside {
                index: self.index,
                depth,
            });
        }
        Ok(())
    }

    /// The root that this proof leads to from `leaf`.
    ///
    /// # Errors
    /// As [`Proof::check`].
    pub fn root_of(&self, leaf: Leaf) -> Result<Root, TreeError> {
        self.check()?;
        let mut at = leaf.felt();
        for (level, sibling) in self.siblings.iter().enumerate() {
            let sibling = sibling.felt();
            at = match (self.index >> level) & 1 {
                0 => node(&at, &sibling),
                _ => node(&sibling, &at),
            };
        }
        Ok(Root::from_felt(at))
    }

    /// Whether `leaf` stands where the proof says in the tree of `root`.
    #[must_use]
    pub fn includes(&self, leaf: Leaf, root: Root) -> bool {
        self.root_of(leaf) == Ok(root)
    }
}

/// A whole batch tree, from the leaves (first level) to the root (last).
#[derive(Clone, Debug)]
pub struct Tree {
    levels: Vec<Vec<Felt>>,
}

impl Tree {
    /// Builds the tree of some leaves. Memory: 64 bytes a leaf.
    ///
    /// # Errors
    /// [`TreeError::Empty`] without leaves.
    pub fn build(leaves: &[Leaf]) -> Result<Self, TreeError> {
        if leaves.is_empty() {
            return Err(TreeError::Empty);
        }
        let mut level: Vec<Felt> = leaves.iter().map(Leaf::felt).collect();
        level.resize(leaves.len().next_power_of_two(), Felt::ZERO);
        let mut levels = Vec::new();
        while level.len() > 1 {
            let above = parents(&level);
            levels.push(level);
            level = above;
        }
        levels.push(level);
        Ok(Self { levels })
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Root {
        let top = self.levels.last().and_then(|level| level.first());
        Root::from_felt(top.copied().unwrap_or(Felt::ZERO))
    }

    /// How many leaves the tree has, padding included.
    #[must_use]
    pub fn leaf_count(&self) -> crate::anchor::LeafCount {
        crate::anchor::LeafCount(self.levels[0].len() as u64)
    }

    /// The proof of the leaf at `index`, or nothing outside of the tree.
    #[must_use]
    pub fn proof(&self, index: u64) -> Option<Proof> {
        let mut at = usize::try_from(index)
            .ok()
            .filter(|at| *at < self.levels[0].len())?;
        let mut siblings = Vec::with_capacity(self.levels.len() - 1);
        for level in &self.levels[..self.levels.len() - 1] {
            siblings.push(Sibling::from_felt(level[at ^ 1]));
            at /= 2;
        }
        Some(Proof { index, siblings })
    }
}

#[cfg(not(feature = "parallel"))]
fn parents(level: &[Felt]) -> Vec<Felt> {
    level
        .chunks_exact(2)
        .map(|pair| node(&pair[0], &pair[1]))
        .collect()
}

#[cfg(feature = "parallel")]
fn parents(level: &[Felt]) -> Vec<Felt> {
    use rayon::prelude::*;
    // Below this many pairs, handing out the work costs more than hashing.
    const PAIRS_PER_TASK: usize = 64;
    level
        .par_chunks_exact(2)
        .with_min_len(PAIRS_PER_TASK)
        .map(|pair| node(&pair[0], &pair[1]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: u64) -> Vec<Leaf> {
        (1..=count)
            .map(|n| Leaf::from_felt(Felt::from(n)))
            .collect()
    }

    /// The root by the definition, without levels.
    fn naive(leaves: &[Felt]) -> Felt {
        match leaves {
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len() / 2);
                node(&naive(left), &naive(right))
            }
        }
    }

    #[test]
    fn a_proof_outside_of_its_tree_is_refused() {
        let proof = |index, depth| Proof {
            index,
            siblings: alloc::vec![Sibling::from_felt(Felt::ONE); depth],
        };
        assert_eq!(proof(0, 33).check(), Err(TreeError::TooDeep(33)));
        assert_eq!(
            proof(4, 2).check(),
            Err(TreeError::IndexOutside { index: 4, depth: 2 })
        );
        assert_eq!(
            proof(1, 0).check(),
            Err(TreeError::IndexOutside { index: 1, depth: 0 })
        );
        assert_eq!(proof(u64::from(u32::MAX), 32).check(), Ok(()));
        assert!(matches!(Tree::build(&[]), Err(TreeError::Empty)));
    }

    #[test]
    fn a_single_leaf_is_its_own_root() {
        let tree = Tree::build(&leaves(1)).expect("one leaf");
        assert_eq!(tree.root().felt(), Felt::ONE);
        assert_eq!(
            tree.proof(0),
            Some(Proof {
                index: 0,
                siblings: Vec::new()
            })
        );
        assert_eq!(tree.proof(1), None);
    }

    proptest! {
        // A case here costs as much as many elsewhere.
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]

        #[test]
        fn every_leaf_is_proven_at_its_own_place_alone(count in 1u64..40, at: u64, other: u64) {
            let leaves = leaves(count);
            let tree = Tree::build(&leaves).expect("some leaves");
            let mut padded: Vec<Felt> = leaves.iter().map(Leaf::felt).collect();
            padded.resize(leaves.len().next_power_of_two(), Felt::ZERO);
            prop_assert_eq!(tree.root().felt(), naive(&padded));
            prop_assert_eq!(tree.leaf_count().0 as usize, padded.len());

            let (at, other) = (at % count, other % count);
            let mut proof = tree.proof(at).expect("inside");
            let leaf = leaves[at as usize];
            prop_assert!(proof.includes(leaf, tree.root()));
            proof.index = other;
            prop_assert_eq!(proof.includes(leaf, tree.root()), at == other);
            proof.index = at;
            proof.siblings.push(Sibling::from_felt(Felt::ZERO));
            prop_assert!(!proof.includes(leaf, tree.root()));
        }
    }
}
