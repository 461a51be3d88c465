//! Where consents stand in batches, as the state says.
//!
//! A position counts if its path leads from the leaf of a consent that counts to the root; that
//! is the protocol's rule and anybody can check it, so that anybody may write it down.
//!
//! Rubbish costs whoever reads it: of positions that no witness wrote only a few are looked at.
//!
//! What a chain says cannot be checked in here. It is a witness's word (the custodian's or the
//! patient's member, by the stamp of the entry) and tells how far a batch is; a verifier asks the
//! chain itself.

use std::cmp::Reverse;

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::consent::Commitment;
use medsync_protocol::felt;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::tree::{Leaf, Proof, Root, Sibling, DEPTH_MAX};

use crate::abi::AnchorView;
use crate::circle::Circle;
use crate::layout::{Kind, Shard};
use crate::limits::UNWITNESSED_LOOKED_AT_MAX;
use crate::members::Members;
use crate::store::{self, Key};

/// The block that holds a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// Its number.
    pub number: u64,
    /// Its hash, a felt.
    pub hash: [u8; 32],
    /// Its time in unix seconds.
    pub time: u64,
}

/// What a witness says about a batch: it was sent, or (with a block) it is on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct News {
    /// The transaction's hash, a felt.
    pub transaction: [u8; 32],
    /// The block, once there is one.
    pub block: Option<Block>,
}

impl News {
    /// Whether its hashes can be read by whoever is shown them.
    fn is_sound(&self) -> bool {
        let block = self.block.map_or([0; 32], |block| block.hash);
        felt::from_bytes(&self.transaction).is_ok() && felt::from_bytes(&block).is_ok()
    }
}

/// An entry about a consent's place in a batch.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum AnchorBody {
    /// The consent is a leaf of this batch.
    Position {
        /// The consent.
        commitment: [u8; 32],
        /// The batch's root.
        root: [u8; 32],
        /// The leaf's place.
        index: u64,
        /// The siblings from the leaf up.
        siblings: Vec<[u8; 32]>,
        /// When it was written, by its writer's clock.
        recorded_at: u64,
    },
    /// Something happened to the batch.
    News {
        /// The consent.
        commitment: [u8; 32],
        /// The batch's root.
        root: [u8; 32],
        /// What happened.
        news: News,
        /// When it was written, by its writer's clock.
        recorded_at: u64,
    },
}

/// A position that counts, with the latest news of its batch.
#[derive(Clone, Debug)]
pub struct Position {
    /// The entry's key.
    pub key: Key,
    /// The consent.
    pub commitment: Commitment,
    /// The leaf from which the path leads to the root.
    pub leaf: Leaf,
    /// The batch's root.
    pub root: Root,
    /// The path.
    pub proof: Proof,
    witnessed: bool,
    sealed_at: UnixSeconds,
    heard: Vec<News>,
    submitted: Option<(UnixSeconds, News)>,
    anchored: Option<(UnixSeconds, News)>,
}

impl Position {
    /// The more, the further: anchored, then submitted, then written by a witness, then the
    /// earliest. Rubbish that proves itself comes after whatever a witness stands for.
    #[must_use]
    pub fn rank(&self) -> (bool, bool, bool, Reverse<(UnixSeconds, Key)>) {
        let earliest = Reverse((self.sealed_at, self.key));
        (
            self.anchored.is_some(),
            self.submitted.is_some(),
            self.witnessed,
            earliest,
        )
    }

    /// Takes in what a witness says about the batch; of several, the latest word counts.
    fn hear(&mut self, at: UnixSeconds, news: News) {
        let known = if news.block.is_some() {
            &mut self.anchored
        } else {
            &mut self.submitted
        };
        if known.is_none_or(|(before, _)| before <= at) {
            *known = Some((at, news));
        }
        self.heard.push(news);
    }

    /// Whether this news was written down already.
    #[must_use]
    pub fn has_heard(&self, news: News) -> bool {
        self.heard.contains(&news)
    }

    /// As the interface shows it.
    #[must_use]
    pub fn view(&self, circle: &Circle) -> AnchorView {
        let news = self.anchored.or(self.submitted).map(|(_, news)| news);
        let block = news.and_then(|news| news.block);
        let stage = match (news, block) {
            (_, Some(_)) => "anchored",
            (Some(_), None) => "submitted",
            (None, None) => "sealed",
        };
        let siblings = self
            .proof
            .siblings
            .iter()
            .map(ToString::to_string)
            .collect();
        AnchorView {
            key: self.key.to_string(),
            root: self.root.to_string(),
            index: self.proof.index,
            siblings,
            anchorer: circle.anchorer.to_string(),
            stage: stage.into(),
            sealed_at: self.sealed_at.0,
            submitted_at: self.submitted.map(|(at, _)| at.0),
            transaction_hash: news.and_then(|news| felt_text(&news.transaction)),
            block_number: block.map(|block| block.number),
            block_hash: block.and_then(|block| felt_text(&block.hash)),
            block_time: block.map(|block| block.time),
        }
    }

    fn is_of(&self, commitment: &[u8; 32], root: &[u8; 32]) -> bool {
        self.commitment.to_bytes() == *commitment && self.root.to_bytes() == *root
    }

    fn is_same_place(&self, other: &Self) -> bool {
        (self.leaf, self.root, &self.proof) == (other.leaf, other.root, &other.proof)
    }
}

fn felt_text(bytes: &[u8; 32]) -> Option<String> {
    let value = felt::from_bytes(bytes).ok()?;
    Some(felt::to_text(&value))
}

/// Reads a shard of anchors: the positions of these leaves, with their news.
pub fn in_shard(
    circle: &Circle,
    members: &Members,
    shard: Shard,
    leaves: &[(Commitment, Leaf)],
) -> Vec<Position> {
    let mut positions: Vec<Position> = Vec::new();
    let mut heard = Vec::new();
    let mut unwitnessed = 0;
    for (key, _) in store::keys(Kind::Anchors, shard) {
        let Some(stored) = store::load(key) else {
            continue;
        };
        let Some(body) = stored.decode() else {
            continue;
        };
        let witnessed = stored
            .owner()
            .is_some_and(|owner| members.is_witness(circle, owner));
        match body {
            body @ AnchorBody::Position { .. } => {
                unwitnessed += usize::from(!witnessed);
                if !witnessed && unwitnessed > UNWITNESSED_LOOKED_AT_MAX {
                    continue;
                }
                if let Some(position) = read_position(key, witnessed, body, leaves) {
                    keep_the_better(&mut positions, position);
                }
            }
            AnchorBody::News {
                commitment,
                root,
                news,
                recorded_at,
            } if witnessed && news.is_sound() => {
                heard.push((commitment, root, news, UnixSeconds(recorded_at)));
            }
            AnchorBody::News { .. } => {}
        }
    }
    for (commitment, root, news, at) in heard {
        let about = positions
            .iter_mut()
            .filter(|position| position.is_of(&commitment, &root));
        about.for_each(|position| position.hear(at, news));
    }
    positions
}

/// One place that was written down twice is one position.
fn keep_the_better(positions: &mut Vec<Position>, new: Position) {
    match positions.iter_mut().find(|known| known.is_same_place(&new)) {
        Some(known) if known.rank() < new.rank() => *known = new,
        Some(_) => {}
        None => positions.push(new),
    }
}

fn read_position(
    key: Key,
    witnessed: bool,
    body: AnchorBody,
    leaves: &[(Commitment, Leaf)],
) -> Option<Position> {
    let AnchorBody::Position {
        commitment,
        root,
        index,
        siblings,
        recorded_at,
    } = body
    else {
        return None;
    };
    // Bounded before anything is hashed.
    if siblings.len() > DEPTH_MAX {
        return None;
    }
    let commitment = Commitment::from_bytes(&commitment).ok()?;
    let root = Root::from_bytes(&root).ok()?;
    let siblings: Option<Vec<Sibling>> = siblings
        .iter()
        .map(|sibling| Sibling::from_bytes(sibling).ok())
        .collect();
    let proof = Proof {
        index,
        siblings: siblings?,
    };
    let mut candidates = leaves.iter().filter(|(of, _)| *of == commitment);
    let (_, leaf) = candidates.find(|(_, leaf)| proof.includes(*leaf, root))?;
    Some(Position {
        key,
        commitment,
        leaf: *leaf,
        root,
        proof,
        witnessed,
        sealed_at: UnixSeconds(recorded_at),
        heard: Vec::new(),
        submitted: None,
        anchored: None,
    })
}

/// The commitment that an anchor entry is about.
pub fn subject(key: Key) -> Option<Commitment> {
    match store::load(key)?.decode()? {
        AnchorBody::Position { commitment, .. } | AnchorBody::News { commitment, .. } => {
            Commitment::from_bytes(&commitment).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsync_protocol::felt::Felt;
    use medsync_protocol::tree::Tree;

    fn position() -> Position {
        let leaves: Vec<Leaf> = (1..=4u64).map(|n| Leaf::from_felt(Felt::from(n))).collect();
        let tree = Tree::build(&leaves).expect("four leaves");
        let proof = tree.proof(2).expect("inside");
        let commitment = Commitment::from_felt(Felt::from(9));
        let body = AnchorBody::Position {
            commitment: commitment.to_bytes(),
            root: tree.root().to_bytes(),
            index: 2,
            siblings: proof.siblings.iter().map(Sibling::to_bytes).collect(),
            recorded_at: 5,
        };
        // The same path from another consent's leaf leads nowhere.
        let others = [
            (commitment, leaves[1]),
            (Commitment::from_felt(Felt::ONE), leaves[2]),
        ];
        assert!(read_position(Key([1; 32]), false, body.clone(), &others).is_none());
        let known = [(commitment, leaves[2])];
        read_position(Key([1; 32]), false, body, &known).expect("it is included")
    }

    #[test]
    fn a_path_is_bounded_before_it_is_hashed() {
        let known = [(Commitment::from_felt(Felt::ONE), Leaf::from_felt(Felt::ONE))];
        let body = AnchorBody::Position {
            commitment: known[0].0.to_bytes(),
            root: [0; 32],
            index: 0,
            siblings: vec![[0; 32]; 1_000_000],
            recorded_at: 0,
        };
        assert!(read_position(Key([1; 32]), false, body, &known).is_none());
    }

    #[test]
    fn the_latest_word_counts_and_the_furthest_comes_first() {
        let sealed = position();
        let block = |number| {
            Some(Block {
                number,
                hash: [0; 32],
                time: 7,
            })
        };
        let news = |block| News {
            transaction: [1; 32],
            block,
        };
        let mut further = sealed.clone();
        further.hear(UnixSeconds(3), news(None));
        assert!(further.rank() > sealed.rank());
        let submitted = further.clone();
        further.hear(UnixSeconds(9), news(block(2)));
        further.hear(UnixSeconds(8), news(block(1)));
        assert!(further.rank() > submitted.rank());
        assert!(further.has_heard(news(block(2))));
        assert!(further.has_heard(news(block(1))));
        assert!(!further.has_heard(news(block(3))));
        assert!(further.has_heard(news(None)));
        assert!(!sealed.has_heard(news(None)));
    }

    #[test]
    fn of_two_places_the_earlier_comes_first() {
        let first = position();
        let later = Position {
            sealed_at: UnixSeconds(6),
            ..first.clone()
        };
        assert!(first.rank() > later.rank());
        let witnessed = Position {
            witnessed: true,
            ..later.clone()
        };
        assert!(witnessed.rank() > first.rank());
        let mut known = vec![first.clone()];
        keep_the_better(&mut known, later);
        assert_eq!(known[0].rank(), first.rank());
        keep_the_better(&mut known, witnessed);
        assert_eq!(known.len(), 1);
        assert!(known[0].witnessed);
    }
}
