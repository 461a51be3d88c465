//! Where consents stand in batches, and what the chain says about those batches.
//!
//! A position counts if its path leads from the leaf of a consent that counts to the root; that
//! is the protocol's rule and anybody can check it, so that anybody may write it down. It is
//! written before the batch goes out: with it a receipt can be made whatever happens to the
//! custodian's store.
//!
//! What a chain says cannot be checked in here. It is a witness's word (the custodian's or the
//! patient's member, by the stamp of the entry) and tells how far a batch is; a verifier asks the
//! chain itself.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::consent::Commitment;
use medsync_protocol::felt::{self, Felt};
use medsync_protocol::ids::{Anchorer, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::tree::{Leaf, Proof, Root, Sibling, DEPTH_MAX};

use crate::abi::{AnchorInput, AnchorView, Written};
use crate::consents::{shard_of, ConsentShard};
use crate::host;
use crate::layout::{Kind, Shard};
use crate::members::{Circle, Members};
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::read;

/// How far a batch is, as somebody saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Block {
    number: u64,
    hash: [u8; 32],
    time: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum AnchorBody {
    /// The consent is a leaf of this batch.
    Position {
        commitment: [u8; 32],
        root: [u8; 32],
        index: u64,
        siblings: Vec<[u8; 32]>,
        recorded_at: u64,
    },
    /// The batch was sent (no block) or is on the chain.
    News {
        commitment: [u8; 32],
        root: [u8; 32],
        transaction: [u8; 32],
        block: Option<Block>,
        recorded_at: u64,
    },
}

/// A position that counts, with the latest news of its batch.
#[derive(Clone, Debug)]
pub struct Position {
    key: Key,
    /// The leaf from which its path leads to the root.
    pub leaf: Leaf,
    commitment: Commitment,
    root: Root,
    proof: Proof,
    sealed_at: UnixSeconds,
    submitted: Option<(UnixSeconds, [u8; 32])>,
    anchored: Option<(UnixSeconds, [u8; 32], Block)>,
}

impl Position {
    /// The more, the further: anchored, then submitted, then the earliest.
    #[must_use]
    pub fn rank(&self) -> (bool, bool, std::cmp::Reverse<(UnixSeconds, Key)>) {
        let earliest = std::cmp::Reverse((self.sealed_at, self.key));
        (self.anchored.is_some(), self.submitted.is_some(), earliest)
    }

    /// As the interface shows it.
    #[must_use]
    pub fn view(&self, circle: &Circle) -> AnchorView {
        let stage = match (&self.anchored, &self.submitted) {
            (Some(_), _) => "anchored",
            (None, Some(_)) => "submitted",
            (None, None) => "sealed",
        };
        let transaction = self
            .anchored
            .map(|(_, transaction, _)| transaction)
            .or(self.submitted.map(|(_, transaction)| transaction));
        let block = self.anchored.map(|(_, _, block)| block);
        AnchorView {
            key: self.key.to_string(),
            root: self.root.to_string(),
            index: self.proof.index,
            siblings: self
                .proof
                .siblings
                .iter()
                .map(ToString::to_string)
                .collect(),
            anchorer: circle.anchorer.to_string(),
            stage: stage.into(),
            sealed_at: self.sealed_at.0,
            submitted_at: self.submitted.map(|(at, _)| at.0),
            transaction_hash: transaction.and_then(|hash| felt_text(&hash)),
            block_number: block.map(|block| block.number),
            block_hash: block.and_then(|block| felt_text(&block.hash)),
            block_time: block.map(|block| block.time),
        }
    }

    /// Takes in what a witness says about the batch; of several, the latest word counts.
    fn hear(&mut self, at: UnixSeconds, transaction: [u8; 32], block: Option<Block>) {
        match block {
            None => {
                if self.submitted.is_none_or(|(before, _)| before <= at) {
                    self.submitted = Some((at, transaction));
                }
            }
            Some(block) => {
                if self.anchored.is_none_or(|(before, ..)| before <= at) {
                    self.anchored = Some((at, transaction, block));
                }
            }
        }
    }
}

fn felt_text(bytes: &[u8; 32]) -> Option<String> {
    felt::from_bytes(bytes)
        .ok()
        .map(|value| felt::to_text(&value))
}

/// Reads a shard of anchors: the positions of these leaves, with their news.
pub fn positions(
    circle: &Circle,
    members: &Members,
    shard: Shard,
    leaves: &[(Commitment, Leaf)],
) -> Vec<Position> {
    let mut positions: Vec<Position> = Vec::new();
    let mut news = Vec::new();
    for (key, _) in store::keys(Kind::Anchors, shard) {
        let Some(stored) = store::load(key) else {
            continue;
        };
        let witness = stored
            .owner
            .is_some_and(|owner| members.is_witness(circle, owner));
        match stored.decode() {
            Some(AnchorBody::Position {
                commitment,
                root,
                index,
                siblings,
                recorded_at,
            }) => {
                let fields = (commitment, root, index, siblings, recorded_at);
                let position = read_position(key, fields, leaves);
                positions.extend(position.filter(|new| is_new_place(&positions, new)));
            }
            Some(AnchorBody::News {
                commitment,
                root,
                transaction,
                block,
                recorded_at,
            }) if witness => {
                news.push((
                    commitment,
                    root,
                    transaction,
                    block,
                    UnixSeconds(recorded_at),
                ));
            }
            _ => {}
        }
    }
    for (commitment, root, transaction, block, at) in news {
        for position in &mut positions {
            if position.commitment.to_bytes() == commitment && position.root.to_bytes() == root {
                position.hear(at, transaction, block);
            }
        }
    }
    positions
}

fn is_new_place(known: &[Position], new: &Position) -> bool {
    let place = |position: &Position| (position.leaf, position.root, position.proof.clone());
    !known.iter().any(|known| place(known) == place(new))
}

type PositionFields = ([u8; 32], [u8; 32], u64, Vec<[u8; 32]>, u64);

fn read_position(
    key: Key,
    (commitment, root, index, siblings, recorded_at): PositionFields,
    leaves: &[(Commitment, Leaf)],
) -> Option<Position> {
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
        leaf: *leaf,
        commitment,
        root,
        proof,
        sealed_at: UnixSeconds(recorded_at),
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

/// The arguments of `record_anchor`, read.
struct Anchor {
    commitment: Commitment,
    handle: Handle,
    root: Root,
    proof: Proof,
    news: Option<([u8; 32], Option<Block>)>,
}

impl Anchor {
    fn read(circle: &Circle, input: &AnchorInput) -> Result<Self, Refusal> {
        if input.siblings.len() > DEPTH_MAX {
            let (max, is) = (DEPTH_MAX, input.siblings.len());
            return Err(Refusal::TooLarge {
                field: "siblings",
                max,
                is,
            });
        }
        let siblings: Result<Vec<Sibling>, Refusal> = input
            .siblings
            .iter()
            .map(|sibling| read("siblings", sibling))
            .collect();
        let proof = Proof {
            index: input.index,
            siblings: siblings?,
        };
        proof.check()?;
        let anchorer: Anchorer = read("anchorer", &input.anchorer)?;
        if anchorer != circle.anchorer {
            let other = anchorer.to_string();
            return Err(Refusal::OtherAnchorer {
                other,
                here: circle.anchorer,
            });
        }
        Ok(Self {
            commitment: read("commitment", &input.commitment)?,
            handle: read("handle", &input.handle)?,
            root: read("root", &input.root)?,
            proof,
            news: read_news(input)?,
        })
    }

    fn is_at(&self, position: &Position) -> bool {
        position.commitment == self.commitment
            && position.root == self.root
            && position.proof == self.proof
    }
}

fn read_news(input: &AnchorInput) -> Result<Option<([u8; 32], Option<Block>)>, Refusal> {
    let hash = |field, text: &str| -> Result<[u8; 32], Refusal> {
        felt::parse(text)
            .map(|value: Felt| value.to_bytes_be())
            .map_err(|error| Refusal::malformed(field, error))
    };
    let stage = match input.stage.as_str() {
        "sealed" => return Ok(None),
        "submitted" => "submitted",
        "anchored" => "anchored",
        _ => {
            return Err(Refusal::malformed(
                "stage",
                "one of sealed, submitted, anchored",
            ))
        }
    };
    let Some(transaction) = &input.transaction_hash else {
        return Err(Refusal::StageNeeds {
            stage,
            needs: "transaction_hash",
        });
    };
    let transaction = hash("transaction_hash", transaction)?;
    if stage == "submitted" {
        return Ok(Some((transaction, None)));
    }
    let (Some(number), Some(block), Some(time)) =
        (input.block_number, &input.block_hash, input.block_time)
    else {
        let needs = "block_number, block_hash and block_time";
        return Err(Refusal::StageNeeds { stage, needs });
    };
    Ok(Some((
        transaction,
        Some(Block {
            number,
            hash: hash("block_hash", block)?,
            time,
        }),
    )))
}

/// Records where a consent stands in a batch, and how far that batch is.
pub fn record(input: &AnchorInput) -> Result<(Written, Commitment), Refusal> {
    let circle = Circle::load()?;
    let anchor = Anchor::read(&circle, input)?;
    let members = Members::load(&circle);
    if anchor.news.is_some() && !members.is_witness(&circle, host::executor()) {
        return Err(Refusal::NotAWitness);
    }
    let shard = shard_of(Kind::Anchors, anchor.handle);
    let consents = ConsentShard::load(&circle, &members, shard);
    let leaves = consents.leaves(anchor.commitment);
    if leaves.is_empty() {
        return Err(Refusal::UnknownConsent);
    }
    let included = leaves
        .iter()
        .any(|leaf| anchor.proof.includes(*leaf, anchor.root));
    if !included {
        return Err(Refusal::NotIncluded);
    }
    let now = host::now().0;
    let known = consents
        .positions()
        .iter()
        .find(|position| anchor.is_at(position));
    let mut existing = true;
    let key = match known {
        Some(position) => position.key,
        None => {
            existing = false;
            let body = AnchorBody::Position {
                commitment: anchor.commitment.to_bytes(),
                root: anchor.root.to_bytes(),
                index: anchor.proof.index,
                siblings: anchor
                    .proof
                    .siblings
                    .iter()
                    .map(Sibling::to_bytes)
                    .collect(),
                recorded_at: now,
            };
            store::insert(Kind::Anchors, shard, &body)?
        }
    };
    let news = anchor.news.filter(|(transaction, block)| {
        !known.is_some_and(|position| is_heard(position, *transaction, *block))
    });
    if let Some((transaction, block)) = news {
        existing = false;
        let body = AnchorBody::News {
            commitment: anchor.commitment.to_bytes(),
            root: anchor.root.to_bytes(),
            transaction,
            block,
            recorded_at: now,
        };
        store::insert(Kind::Anchors, shard, &body)?;
    }
    Ok((
        Written {
            key: key.to_string(),
            existing,
        },
        anchor.commitment,
    ))
}

/// Whether a position shows this news already.
fn is_heard(position: &Position, transaction: [u8; 32], block: Option<Block>) -> bool {
    match block {
        None => position
            .submitted
            .is_some_and(|(_, known)| known == transaction),
        Some(block) => position
            .anchored
            .is_some_and(|(_, known, at)| known == transaction && at == block),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsync_protocol::tree::Tree;

    fn position() -> (Position, Tree) {
        let leaves: Vec<Leaf> = (1..=4u64).map(|n| Leaf::from_felt(Felt::from(n))).collect();
        let tree = Tree::build(&leaves).expect("four leaves");
        let proof = tree.proof(2).expect("inside");
        let commitment = Commitment::from_felt(Felt::from(9));
        let siblings = proof.siblings.iter().map(Sibling::to_bytes).collect();
        let fields = (
            commitment.to_bytes(),
            tree.root().to_bytes(),
            2,
            siblings,
            5,
        );
        let known = [(commitment, leaves[2])];
        let position = read_position(Key([1; 32]), fields.clone(), &known).expect("it is included");
        // The same path from another consent's leaf leads nowhere.
        let others = [
            (commitment, leaves[1]),
            (Commitment::from_felt(Felt::ONE), leaves[2]),
        ];
        assert!(read_position(Key([1; 32]), fields, &others).is_none());
        (position, tree)
    }

    #[test]
    fn a_path_is_bounded_before_it_is_hashed() {
        let known = [(Commitment::from_felt(Felt::ONE), Leaf::from_felt(Felt::ONE))];
        let fields = (
            known[0].0.to_bytes(),
            [0; 32],
            0,
            vec![[0; 32]; 1_000_000],
            0,
        );
        assert!(read_position(Key([1; 32]), fields, &known).is_none());
    }

    #[test]
    fn the_latest_word_counts_and_the_furthest_comes_first() {
        let (sealed, _) = position();
        let block = |number| Block {
            number,
            hash: [0; 32],
            time: 7,
        };
        let mut further = sealed.clone();
        further.hear(UnixSeconds(3), [1; 32], None);
        assert!(further.rank() > sealed.rank());
        let submitted = further.clone();
        further.hear(UnixSeconds(9), [1; 32], Some(block(2)));
        further.hear(UnixSeconds(8), [1; 32], Some(block(1)));
        assert!(further.rank() > submitted.rank());
        assert_eq!(further.anchored.map(|(_, _, block)| block.number), Some(2));
        assert!(is_heard(&further, [1; 32], Some(block(2))));
        assert!(!is_heard(&further, [1; 32], Some(block(1))));
    }

    #[test]
    fn of_two_places_the_earlier_comes_first() {
        let (first, _) = position();
        let later = Position {
            sealed_at: UnixSeconds(6),
            ..first.clone()
        };
        assert!(first.rank() > later.rank());
    }
}
