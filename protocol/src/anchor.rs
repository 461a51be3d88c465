//! The anchor head: one hash chain an anchorer, moved by every batch.

use serde::{Deserialize, Serialize};

use crate::felt::{Felt, felt_newtype};
use crate::hash::{Tag, tagged};
use crate::tree::Root;

const HEAD: Tag = Tag::new("MEDSYNC_HEAD_V1");

felt_newtype! {
    /// The state of an anchorer's chain of batches; zero before the first.
    AnchorHead
}

/// How many leaves a batch has, padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeafCount(pub u64);

impl AnchorHead {
    /// The head before the first batch.
    pub const START: Self = Self::from_felt(Felt::ZERO);

    /// The head after a batch.
    #[must_use]
    pub fn next(self, root: Root, leaf_count: LeafCount) -> Self {
        let parts = [self.felt(), root.felt(), Felt::from(leaf_count.0)];
        Self::from_felt(tagged(HEAD, &[&parts]))
    }
}
