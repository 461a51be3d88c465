//! Places of logs in batches: a leaf that binds an author's log up to one entry.
//!
//! A place counts if its path leads from the leaf to the root, whoever wrote it down; whether the
//! root is anchored is for the chain to say. A head that names an entry which is not here is kept:
//! it proves that the entry was there when the batch was sealed.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::audit::{head_leaf, EntryDigest, Seq};
use medsync_protocol::ids::{Salt, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::{Proof, Root, Sibling, DEPTH_MAX};

use crate::abi::{HeadInput, HeadView, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::log;
use crate::members::Members;
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::read;

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct HeadBody {
    author_key: PublicKey,
    seq: Seq,
    digest: EntryDigest,
    salt: Salt,
    root: Root,
    index: u64,
    siblings: Vec<Sibling>,
    recorded_at: u64,
}

impl HeadBody {
    fn read(input: &HeadInput) -> Result<Self, Refusal> {
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
        Ok(Self {
            author_key: read("author_key", &input.author_key)?,
            seq: Seq(input.seq),
            digest: read("digest", &input.digest)?,
            salt: read("salt", &input.salt)?,
            root: read("root", &input.root)?,
            index: input.index,
            siblings: siblings?,
            recorded_at: host::now().0,
        })
    }

    fn is_included(&self, circle: &Circle) -> bool {
        let leaf = head_leaf(
            circle.context,
            self.author_key,
            self.seq,
            self.digest,
            self.salt,
        );
        // Bounded before anything is hashed.
        self.siblings.len() <= DEPTH_MAX
            && Proof {
                index: self.index,
                siblings: self.siblings.clone(),
            }
            .includes(leaf, self.root)
    }

    fn shard(&self) -> Shard {
        Kind::Heads.shard_of(&self.digest.to_bytes())
    }

    fn is_same_place(&self, other: &Self) -> bool {
        let recorded_at = self.recorded_at;
        *self
            == Self {
                recorded_at,
                ..other.clone()
            }
    }
}

/// A place that counts.
pub struct Found {
    key: Key,
    body: HeadBody,
}

/// One place, if it is there and counts.
pub fn load(circle: &Circle, shard: Shard, key: Key) -> Option<Found> {
    let body: HeadBody = store::load(key)?.decode()?;
    let counts = body.shard() == shard && body.is_included(circle);
    counts.then_some(Found { key, body })
}

impl Found {
    /// As the interface shows it.
    pub fn view(&self) -> HeadView {
        let body = &self.body;
        HeadView {
            key: self.key.to_string(),
            head: HeadInput {
                author_key: body.author_key.to_string(),
                seq: body.seq.0,
                digest: body.digest.to_string(),
                salt: body.salt.to_string(),
                root: body.root.to_string(),
                index: body.index,
                siblings: body.siblings.iter().map(ToString::to_string).collect(),
            },
            recorded_at: UnixSeconds(body.recorded_at).0,
        }
    }
}

/// Records a place.
pub fn record(input: &HeadInput) -> Result<Written, Refusal> {
    let circle = Circle::load()?;
    let body = HeadBody::read(input)?;
    Proof {
        index: body.index,
        siblings: body.siblings.clone(),
    }
    .check()?;
    if !body.is_included(&circle) {
        return Err(Refusal::NotIncluded);
    }
    let members = Members::load(&circle);
    if !log::is_here(&circle, &members, body.author_key, body.seq, body.digest) {
        return Err(Refusal::UnknownLogEntry);
    }
    let shard = body.shard();
    let same = store::keys(Kind::Heads, shard)
        .into_iter()
        .find(|(key, _)| {
            let known = store::load(*key).and_then(|stored| stored.decode::<HeadBody>());
            known.is_some_and(|known| known.is_same_place(&body))
        });
    if let Some((key, _)) = same {
        return Ok(Written::there(key));
    }
    let key = store::insert(Kind::Heads, shard, &body)?;
    Ok(Written::new(key))
}
