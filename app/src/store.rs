//! Entries in Calimero's storage: written under the caller's stamp, read without trust.
//!
//! Every entry carries the storage domain `User` of the member who wrote it. Nodes that merge it
//! check that member's signature, and refuse changes and deletions by anyone else. There are ways
//! past that check (an inner node that is made up on the way takes whatever metadata a peer names),
//! so that [`Stored::owner`] checks the signature again, over the entry as it stands.
//!
//! A hostile member's node can write anything at all below its own stamp. Reading therefore never
//! fails on an entry: what cannot be decoded is reported as absent, and whoever lists it counts it.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use calimero_sdk::PublicKey;
use calimero_storage::address::Id;
use calimero_storage::collections::CrdtType;
use calimero_storage::entities::{ChildInfo, Data, Element, Metadata, StorageType};
use calimero_storage::index::Index;
use calimero_storage::interface::MainInterface;
use calimero_storage::store::MainStorage;
use curve25519_dalek::edwards::CompressedEdwardsY;
use medsync_protocol::ids::{ContextKind, MemberId, Sha256Digest};

use crate::host;
use crate::layout::{Kind, Shard, ALL};
use crate::limits::{SHARD_LEN_MAX, SHARD_ROOM_MAX};
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
    /// The body's borsh.
    pub body: Vec<u8>,
    id: Id,
    raw: Vec<u8>,
    metadata: Metadata,
}

impl Stored {
    /// Who wrote it: whose stamp it carries, with a signature that verifies over just this entry.
    pub fn owner(&self) -> Option<MemberId> {
        // Storage exempts its own book-keeping from the check; no entry of ours is of that type.
        let is_entry = self.metadata.crdt_type == Some(entry_type());
        let owner = claimed_owner(&self.metadata).filter(|_| is_entry)?;
        // The host ends the call at a key that is none.
        CompressedEdwardsY(owner.0).decompress()?;
        MainInterface::verify_snapshot_entity_signature(self.id, &self.raw, &self.metadata).ok()?;
        Some(owner)
    }

    /// The body, if these bytes are one.
    pub fn decode<T: BorshDeserialize>(&self) -> Option<T> {
        borsh::from_slice(&self.body).ok()
    }
}

/// A leaf of the storage tree; also an inner node, whose body is empty.
#[derive(BorshSerialize, BorshDeserialize)]
struct Entry {
    body: Vec<u8>,
    storage: Element,
}

impl Data for Entry {
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

/// Every way in which nodes compare their trees carries an entry of a named type.
fn entry_type() -> CrdtType {
    CrdtType::lww_register("medsync::Entry")
}

/// Whose stamp metadata carries; its signature is yet to be checked.
fn claimed_owner(metadata: &Metadata) -> Option<MemberId> {
    match &metadata.storage_type {
        StorageType::User { owner, .. } => Some(MemberId(*owner.digest())),
        _ => None,
    }
}

/// Writes a body into a shard under a fresh random key.
pub fn insert<T: BorshSerialize>(kind: Kind, shard: Shard, body: &T) -> Result<Key, Refusal> {
    check_room(kind, shard, SHARD_LEN_MAX)?;
    insert_at(kind, shard, Id::random(), body)
}

/// Writes a body down, once more if some of what is `there` is this member's own. Such copies take
/// up no more than half of its room: what it has yet to say finds a place.
pub fn insert_copy<T: BorshSerialize>(
    kind: Kind,
    shard: Shard,
    there: &[Key],
    body: &T,
) -> Result<Key, Refusal> {
    let is_copy = own(there).next().is_some();
    let room = if is_copy {
        SHARD_LEN_MAX / 2
    } else {
        SHARD_LEN_MAX
    };
    check_room(kind, shard, room)?;
    insert_at(kind, shard, Id::random(), body)
}

/// Each member has room of its own in a shard, so that others' rubbish keeps nobody from writing,
/// least of all a patient from revoking, before a shard comes near what storage can hold at all.
fn check_room(kind: Kind, shard: Shard, own_max: usize) -> Result<(), Refusal> {
    let full = |max| Refusal::Full {
        kind: kind.name(),
        max,
        advice: advice(kind),
    };
    let children = children(kind.shard_id(shard));
    if children.len() >= SHARD_ROOM_MAX {
        return Err(full(SHARD_ROOM_MAX));
    }
    let me = host::executor();
    let mine = || {
        children
            .iter()
            .filter(|child| claimed_owner(&child.metadata) == Some(me))
    };
    // Stamps that claim to be mine are checked only when they come to too many.
    let is_mine = |child: &&ChildInfo| {
        let stored = load(Key(*child.id().as_bytes()));
        stored.is_some_and(|stored| stored.owner() == Some(me))
    };
    if mine().count() >= own_max && mine().filter(is_mine).take(own_max).count() >= own_max {
        return Err(full(own_max));
    }
    Ok(())
}

/// Writes a body into a shard under a key that follows from its content, where nothing is and
/// nothing was: other nodes keep to the stamp that came first, and this one would not.
pub fn insert_named<T: BorshSerialize>(
    kind: Kind,
    shard: Shard,
    key: Key,
    body: &T,
) -> Result<Key, Refusal> {
    check_room(kind, shard, SHARD_LEN_MAX)?;
    let id = Id::new(key.0);
    if Index::<MainStorage>::get_index(id)?.is_some() {
        return Err(Refusal::Taken);
    }
    insert_at(kind, shard, id, body)
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
    grow_shard(kind, shard)?;
    let body = borsh::to_vec(body).map_err(|error| Refusal::Storage(error.to_string()))?;
    let mut storage = Element::new_with_field_name_and_crdt_type(Some(id), None, entry_type());
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

/// Makes every kind, branch and shard that such a context has. The custodian does so at init, when
/// nobody else is there yet: nodes that compare their trees send each other leaves only, and an
/// inner node that one of them had to make up on the way would keep a hash of its own for ever.
pub fn plant(context: ContextKind) -> Result<(), Refusal> {
    for kind in ALL.into_iter().filter(|kind| kind.is_in(context)) {
        for shard in kind.all_shards() {
            grow_shard(kind, shard)?;
        }
    }
    Ok(())
}

/// Makes what is not there of a shard and the nodes that it hangs on.
fn grow_shard(kind: Kind, shard: Shard) -> Result<(), Refusal> {
    let (branch, shard) = (kind.branch_id(shard), kind.shard_id(shard));
    grow(Id::root(), kind.id())?;
    grow(kind.id(), branch)?;
    grow(branch, shard)
}

/// Makes an inner node if it is not there, or not there any more.
fn grow(parent: Id, id: Id) -> Result<(), Refusal> {
    if Index::<MainStorage>::get_index(id)?.is_some_and(|index| index.deleted_at.is_none()) {
        return Ok(());
    }
    let crdt = CrdtType::unordered_map("Key", "medsync::Entry");
    let storage = Element::new_with_field_name_and_crdt_type(Some(id), None, crdt);
    let mut branch = Entry {
        body: Vec::new(),
        storage,
    };
    MainInterface::add_child_to(parent, &mut branch)?;
    Ok(())
}

/// The entry of a key, wherever it stands; nothing if it is missing or cannot be read.
pub fn load(key: Key) -> Option<Stored> {
    let id = Id::new(key.0);
    let raw = MainInterface::find_by_id_raw(id)?;
    let entry: Entry = MainInterface::find_by_id(id).ok()??;
    Some(Stored {
        body: entry.body,
        id,
        raw,
        metadata: entry.storage.metadata().clone(),
    })
}

/// The body of a key, whoever wrote it: half the work of [`load`], for those who look for one entry
/// among many.
pub fn peek<T: BorshDeserialize>(key: Key) -> Option<T> {
    let raw = MainInterface::find_by_id_raw(Id::new(key.0))?;
    let body: Vec<u8> = BorshDeserialize::deserialize(&mut raw.as_slice()).ok()?;
    borsh::from_slice(&body).ok()
}

/// Of what is `there` already, one, if no more is wanted: that is one of anybody's, or so many
/// `copies` of this member's own. Whoever heard of an entry first can keep it from a node that had
/// not, by an entry in its place; others' copies may be seen here alone for that reason.
pub fn enough(there: &[Key], copies: u32) -> Option<Key> {
    let copies = copies as usize;
    let is_enough = copies <= 1 || own(there).take(copies).count() >= copies;
    there.first().copied().filter(|_| is_enough)
}

/// Those of some entries that this member wrote.
fn own(there: &[Key]) -> impl Iterator<Item = Key> + '_ {
    let me = host::executor();
    there.iter().copied().filter(move |key| {
        let stored = load(*key);
        stored.is_some_and(|stored| stored.owner() == Some(me))
    })
}

/// The keys of entries whose stamp verifies, of each writer the first few in this order: nobody
/// but the writer itself can use those up.
pub fn first_of_each_owner(
    keys: impl Iterator<Item = Key>,
    of_each_max: usize,
) -> impl Iterator<Item = Key> {
    let mut looked_at: BTreeMap<MemberId, usize> = BTreeMap::new();
    keys.filter(move |key| {
        let Some(owner) = load(*key).and_then(|stored| stored.owner()) else {
            return false;
        };
        let count = looked_at.entry(owner).or_default();
        *count += 1;
        *count <= of_each_max
    })
}

/// The shards of this kind that list a key, the one that it says it is in first. What an entry says
/// of its parent is a peer's word, and a peer can have it listed in more than one.
pub fn shards_of_key(kind: Kind, key: Key) -> impl Iterator<Item = Shard> {
    let id = Id::new(key.0);
    let holds = move |shard: &Shard| {
        children(kind.shard_id(*shard))
            .iter()
            .any(|child| child.id() == id)
    };
    let index = Index::<MainStorage>::get_index(id).ok().flatten();
    let named = index.and_then(|index| kind.shard_named(index.parent_id()?));
    let others = kind.all_shards().filter(move |shard| named != Some(*shard));
    named.into_iter().chain(others).filter(holds)
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

/// How many entries of a kind there are, valid or not.
pub fn count(kind: Kind) -> u64 {
    kind.all_shards()
        .map(|shard| children(kind.shard_id(shard)).len() as u64)
        .sum()
}

/// A node that is not there has no children, and neither has one that cannot be read.
fn children(id: Id) -> Vec<ChildInfo> {
    Index::<MainStorage>::get_children_of(id).unwrap_or_default()
}

const fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Consents => "the next counter gives another handle and so another shard",
        Kind::Records | Kind::Payloads => "a fresh record id gives another shard",
        Kind::Receipts => "another patient's receipts go into another shard",
        _ => "look at the entries: honest use does not come to this many",
    }
}
