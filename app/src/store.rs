//! Entries in Calimero's storage: written under the caller's stamp, read without trust.
//!
//! Every entry carries the storage domain `User` of the member who wrote it. Nodes that merge it
//! check that member's signature, and refuse changes and deletions by anyone else. That is defence
//! in depth for what a signature inside the entry already says, and it is what makes a record the
//! custodian's.
//!
//! A hostile member's node can write anything at all below its own stamp. Reading therefore never
//! fails on an entry: what cannot be decoded is reported as absent, and whoever lists it counts it.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use calimero_sdk::PublicKey;
use calimero_storage::address::Id;
use calimero_storage::collections::CrdtType;
use calimero_storage::entities::{ChildInfo, Data, Element, StorageType};
use calimero_storage::index::Index;
use calimero_storage::interface::MainInterface;
use calimero_storage::store::MainStorage;
use medsync_protocol::ids::{MemberId, Sha256Digest};

use crate::host;
use crate::layout::{Kind, Shard, ALL};
use crate::limits::{REVOCATION_SHARD_LEN_MAX, SHARD_LEN_MAX};
use crate::refusal::Refusal;

/// The name of an entry: random, and the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

/// An entry as it was found.
pub struct Stored {
    /// Who wrote it, as the merging nodes checked; nothing if the entry is public.
    pub owner: Option<MemberId>,
    /// The body's borsh.
    pub body: Vec<u8>,
}

impl Stored {
    /// The body, if these bytes are one.
    pub fn decode<T: BorshDeserialize>(&self) -> Option<T> {
        borsh::from_slice(&self.body).ok()
    }
}

/// A leaf of the storage tree.
#[derive(BorshSerialize, BorshDeserialize)]
struct Entry {
    body: Vec<u8>,
    storage: Element,
}

/// An inner node of the storage tree.
#[derive(BorshSerialize, BorshDeserialize)]
struct Branch {
    storage: Element,
}

/// Calimero's derive makes the same three accessors, but from a macro that wants its own names.
macro_rules! stored_data {
    ($name:ident) => {
        impl Data for $name {
            fn collections(&self) -> BTreeMap<String, Vec<ChildInfo>> {
                BTreeMap::new()
            }

            fn element(&self) -> &Element {
                &self.storage
            }

            fn element_mut(&mut self) -> &mut Element {
                &mut self.storage
            }
        }
    };
}

stored_data!(Entry);
stored_data!(Branch);

/// Writes a body into a shard under a fresh random key.
pub fn insert<T: BorshSerialize>(kind: Kind, shard: Shard, body: &T) -> Result<Key, Refusal> {
    let max = capacity(kind);
    if children(kind.shard_id(shard)).len() >= max {
        return Err(Refusal::Full {
            kind: kind.name(),
            max,
            advice: advice(kind),
        });
    }
    insert_at(kind, shard, Id::random(), body)
}

/// Writes the one body whose key is fixed, when nobody else is there yet.
pub fn insert_fixed<T: BorshSerialize>(kind: Kind, body: &T) -> Result<Key, Refusal> {
    insert_at(kind, Shard(0), kind.fixed_entry_id(), body)
}

fn insert_at<T: BorshSerialize>(
    kind: Kind,
    shard: Shard,
    id: Id,
    body: &T,
) -> Result<Key, Refusal> {
    grow(Id::root(), kind.id())?;
    grow(kind.id(), kind.shard_id(shard))?;
    let body = borsh::to_vec(body).map_err(|error| Refusal::Storage(error.to_string()))?;
    // The type is named so that every way in which nodes compare their trees carries the entry.
    let crdt = CrdtType::lww_register("medsync::Entry");
    let mut storage = Element::new_with_field_name_and_crdt_type(Some(id), None, crdt);
    let created_at = storage.created_at();
    storage.set_user_domain(PublicKey::from(host::executor().0));
    // Stamping counts as a change; a new entry is one whose two times are equal.
    storage.set_updated_at(created_at);
    let mut entry = Entry { body, storage };
    if !MainInterface::add_child_to(kind.shard_id(shard), &mut entry)? {
        return Err(Refusal::Storage("the entry was not written".into()));
    }
    Ok(Key(*id.as_bytes()))
}

/// Makes every kind and shard. The custodian does so at init, when nobody else is there yet: nodes
/// that compare their trees send each other leaves only, and an inner node that one of them had to
/// make up on the way would keep a hash of its own for ever.
pub fn plant() -> Result<(), Refusal> {
    for kind in ALL {
        grow(Id::root(), kind.id())?;
        for shard in kind.all_shards() {
            grow(kind.id(), kind.shard_id(shard))?;
        }
    }
    Ok(())
}

/// Makes an inner node if it is not there, or not there any more.
fn grow(parent: Id, id: Id) -> Result<(), Refusal> {
    if Index::<MainStorage>::get_index(id)?.is_some_and(|index| index.deleted_at.is_none()) {
        return Ok(());
    }
    let crdt = CrdtType::unordered_map("Key", "medsync::Entry");
    let storage = Element::new_with_field_name_and_crdt_type(Some(id), None, crdt);
    MainInterface::add_child_to(parent, &mut Branch { storage })?;
    Ok(())
}

/// The entry of a key, wherever it stands; nothing if it is missing or cannot be read.
pub fn load(key: Key) -> Option<Stored> {
    let entry: Entry = MainInterface::find_by_id(Id::new(key.0)).ok()??;
    let owner = match &entry.storage.metadata().storage_type {
        StorageType::User { owner, .. } => Some(MemberId(*owner.digest())),
        _ => None,
    };
    Some(Stored {
        owner,
        body: entry.body,
    })
}

/// The shard of this kind in which a key stands.
pub fn shard_of_key(kind: Kind, key: Key) -> Option<Shard> {
    let index = Index::<MainStorage>::get_index(Id::new(key.0)).ok()??;
    kind.shard_named(index.parent_id()?)
}

/// The keys of a shard with the digests of their entries, in the order of the keys.
pub fn keys(kind: Kind, shard: Shard) -> Vec<(Key, Sha256Digest)> {
    let mut keys: Vec<_> = children(kind.shard_id(shard))
        .iter()
        .map(|child| {
            (
                Key(*child.id().as_bytes()),
                Sha256Digest(child.merkle_hash()),
            )
        })
        .collect();
    keys.sort_unstable();
    keys
}

/// The shards of a kind that are there, in order.
pub fn shards(kind: Kind) -> Vec<Shard> {
    let mut shards: Vec<_> = children(kind.id())
        .iter()
        .filter_map(|child| kind.shard_named(child.id()))
        .collect();
    shards.sort_unstable();
    shards
}

/// How many entries of a kind there are, valid or not.
pub fn count(kind: Kind) -> u64 {
    shards(kind)
        .into_iter()
        .map(|shard| children(kind.shard_id(shard)).len() as u64)
        .sum()
}

/// One digest over everything that is stored; equal digests mean equal entries.
pub fn digest(kinds: &[Kind]) -> Sha256Digest {
    let mut bytes = Vec::with_capacity(kinds.len() * 32);
    for kind in kinds {
        let hashes = Index::<MainStorage>::get_hashes_for(kind.id())
            .ok()
            .flatten();
        bytes.extend_from_slice(&hashes.unwrap_or_default().0);
    }
    Sha256Digest::of(&bytes)
}

/// A node that is not there has no children, and neither has one that cannot be read.
fn children(id: Id) -> Vec<ChildInfo> {
    Index::<MainStorage>::get_children_of(id).unwrap_or_default()
}

const fn capacity(kind: Kind) -> usize {
    match kind {
        Kind::Revocations => REVOCATION_SHARD_LEN_MAX,
        _ => SHARD_LEN_MAX,
    }
}

const fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Consents => "the next counter gives another handle and so another shard",
        Kind::Records | Kind::Payloads => "a fresh record id gives another shard",
        _ => "look at the entries: honest use does not come to this many",
    }
}
