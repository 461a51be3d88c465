//! Where entries live: kinds, shards, and the ids of both.
//!
//! The tree is context root → kind → branch → shard → entry. Calimero keeps the children of a node
//! in one index value (about 230 bytes a child) that every insert below it rewrites, so that no
//! node gets more than [`SHARD_LEN_MAX`](crate::limits::SHARD_LEN_MAX) children from one member:
//! the root has one a kind, a kind one a branch, a branch [`BRANCH_LEN`] shards, and a shard its
//! entries. Init makes all of them but entries, under ids that every node computes alike; from then
//! on only entries come. Readers go by those ids and never by what a node lists, so that nothing
//! can be hidden by taking a shard off its branch.
//!
//! The shard of an entry follows from its content: consents, revocations and anchors go by their
//! handle, records by their record id, log entries by author and number. Everything about one
//! consent is therefore found by reading one shard of each kind, and nothing has to be looked for
//! across a collection. An entry that stands in another shard than its content says is ignored.
//!
//! Entries themselves have fresh random ids, so that no member can occupy one in advance.

use calimero_storage::address::Id;
use medsync_protocol::ids::{ContextKind, Sha256Digest};

use crate::limits::LOG_SHARD_SEQS;
use crate::refusal::Refusal;

/// A collection of the circle. The order is the order of `changes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What the custodian wrote at init; one entry.
    Circle,
    /// Revocations; before all that a hostile member could put in their way.
    Revocations,
    /// Enrolments; one, unless somebody cheats.
    Enrolments,
    /// Changes of the enrolled party's key.
    KeyChanges,
    /// Members whom the patient admitted.
    Devices,
    /// Granted consents.
    Consents,
    /// Where consents stand in batches, and what the chain says about those.
    Anchors,
    /// Signed log entries.
    Log,
    /// Up to which entry a log is in a batch.
    Heads,
    /// Descriptions of records.
    Records,
    /// Reward pools that the custodian makes known.
    Pools,
    /// Where reward tickets stand in batches.
    Tickets,
    /// Receipts of consents to an exchange's recipient.
    Receipts,
    /// Released records.
    Releases,
    /// Sealed payloads; each is found through its record or release alone.
    Payloads,
}

/// One part of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard(pub u8);

/// Every kind.
pub const ALL: [Kind; 15] = [
    Kind::Circle,
    Kind::Revocations,
    Kind::Enrolments,
    Kind::KeyChanges,
    Kind::Devices,
    Kind::Consents,
    Kind::Anchors,
    Kind::Log,
    Kind::Heads,
    Kind::Records,
    Kind::Pools,
    Kind::Tickets,
    Kind::Receipts,
    Kind::Releases,
    Kind::Payloads,
];

/// The kinds that `changes` walks, in its order.
pub const WALKED: [Kind; 14] = [
    Kind::Circle,
    Kind::Revocations,
    Kind::Enrolments,
    Kind::KeyChanges,
    Kind::Devices,
    Kind::Consents,
    Kind::Anchors,
    Kind::Log,
    Kind::Heads,
    Kind::Records,
    Kind::Pools,
    Kind::Tickets,
    Kind::Receipts,
    Kind::Releases,
];

/// The last two bytes of an id say which part of a kind's tree it names.
const KIND_ITSELF: [u8; 2] = [0, 0];
const SHARD_MARK: u8 = 1;
const FIXED_ENTRY: [u8; 2] = [2, 0];
const BRANCH_MARK: u8 = 3;

/// How many shards hang on one branch. What an insert rewrites above its shard grows with a node's
/// children, and init, which makes some thousand shards one by one, with their square.
const BRANCH_LEN: u8 = 16;

impl Kind {
    /// The name in cursors and in the ABI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Enrolments => "enrolment",
            Self::KeyChanges => "key_change",
            Self::Devices => "device",
            Self::Consents => "consent",
            Self::Revocations => "revocation",
            Self::Anchors => "anchor",
            Self::Log => "log",
            Self::Heads => "head",
            Self::Records => "record",
            Self::Pools => "pool",
            Self::Tickets => "ticket",
            Self::Receipts => "receipt",
            Self::Releases => "release",
            Self::Payloads => "payload",
        }
    }

    /// The kind of a name.
    ///
    /// # Errors
    /// A name that no walked kind has.
    pub fn named(name: &str) -> Result<Self, Refusal> {
        WALKED
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| {
                Refusal::malformed(
                    "kind",
                    "one of circle, enrolment, key_change, device, consent, revocation, \
                     anchor, log, head, record, pool, ticket, receipt, release",
                )
            })
    }

    /// How many shards the kind has: a power of two up to 256.
    #[must_use]
    pub const fn shards(self) -> u16 {
        match self {
            Self::Circle | Self::Enrolments | Self::KeyChanges | Self::Devices | Self::Pools => 1,
            // 128 shards of 256: 32,768 consents a patient, of which some 10,900 can be anchored,
            // since each takes three entries there. Every insert rewrites the index of its shard,
            // and looks at each entry of it: with 10,000 entries in the circle some 20.
            Self::Consents | Self::Revocations | Self::Anchors => 128,
            // 256 shards of 128 entries of one author, filled one after the other: 32,768 entries
            // until the first is met again, and twice as many in all.
            Self::Log => 256,
            // 64 shards of 256: 16,384 batches with news of a log.
            Self::Heads => 64,
            // 128 shards of 256: 32,768 versions of records.
            Self::Records | Self::Releases | Self::Payloads => 128,
            // 16 shards of 256: 4,096 places of tickets, of which a consent has one a pool.
            Self::Tickets => 16,
            // 64 shards of 256: 16,384 receipts.
            Self::Receipts => 64,
        }
    }

    /// Whether contexts of this kind hold such entries. Others are not made there: each shard costs
    /// every context its place.
    #[must_use]
    pub const fn is_in(self, context: ContextKind) -> bool {
        match self {
            Self::Circle
            | Self::Enrolments
            | Self::KeyChanges
            | Self::Revocations
            | Self::Log
            | Self::Heads
            | Self::Payloads => true,
            Self::Devices
            | Self::Consents
            | Self::Anchors
            | Self::Records
            | Self::Pools
            | Self::Tickets => matches!(context, ContextKind::Circle),
            Self::Receipts | Self::Releases => matches!(context, ContextKind::Exchange),
        }
    }

    /// Every shard of the kind, in order.
    pub fn all_shards(self) -> impl Iterator<Item = Shard> {
        (0..self.shards()).map_while(|shard| u8::try_from(shard).ok().map(Shard))
    }

    /// The shard of content that is named by these bytes. Handles and record ids are uniform in
    /// their last byte.
    #[must_use]
    pub fn shard_of(self, name: &[u8; 32]) -> Shard {
        let mask = u8::try_from(self.shards() - 1).unwrap_or(u8::MAX);
        Shard(name[31] & mask)
    }

    /// The shard of the log entry with this number: an author's entries fill shard after shard, so
    /// that a page of a log is one shard or two, however long the log is. Authors begin apart.
    #[must_use]
    pub fn shard_of_entry(author_key: &[u8; 32], seq: u64) -> Shard {
        let lap = (seq / LOG_SHARD_SEQS) % u64::from(Self::Log.shards());
        Shard(author_key[31].wrapping_add(u8::try_from(lap).unwrap_or_default()))
    }

    fn tagged_id(self, tail: [u8; 2]) -> Id {
        let mut bytes = Sha256Digest::of(format!("medsync/v1/{}", self.name()).as_bytes()).0;
        bytes[30..].copy_from_slice(&tail);
        Id::new(bytes)
    }

    /// The id of the kind's own node.
    #[must_use]
    pub fn id(self) -> Id {
        self.tagged_id(KIND_ITSELF)
    }

    /// The id of the node that a shard hangs on: a branch, or the kind itself if it has no more
    /// shards than one branch would.
    #[must_use]
    pub fn branch_id(self, shard: Shard) -> Id {
        if self.shards() <= u16::from(BRANCH_LEN) {
            return self.id();
        }
        self.tagged_id([BRANCH_MARK, shard.0 / BRANCH_LEN])
    }

    /// The id of a shard's node.
    #[must_use]
    pub fn shard_id(self, shard: Shard) -> Id {
        self.tagged_id([SHARD_MARK, shard.0])
    }

    /// The id of the one entry that is not random: what init writes, when the custodian is alone.
    #[must_use]
    pub fn fixed_entry_id(self) -> Id {
        self.tagged_id(FIXED_ENTRY)
    }

    /// Which shard of this kind an id names, if it does.
    #[must_use]
    pub fn shard_named(self, id: Id) -> Option<Shard> {
        let shard = Shard(id.as_bytes()[31]);
        (u16::from(shard.0) < self.shards() && self.shard_id(shard) == id).then_some(shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_its_own_id() {
        let mut ids = std::collections::BTreeSet::new();
        for kind in ALL {
            assert!(ids.insert(*kind.id().as_bytes()));
            assert!(ids.insert(*kind.fixed_entry_id().as_bytes()));
            let mut branches = std::collections::BTreeSet::new();
            for shard in kind.all_shards() {
                let id = kind.shard_id(shard);
                assert!(ids.insert(*id.as_bytes()));
                assert_eq!(kind.shard_named(id), Some(shard));
                branches.insert(*kind.branch_id(shard).as_bytes());
                assert_eq!(kind.shard_named(kind.branch_id(shard)), None);
            }
            branches.remove(kind.id().as_bytes());
            assert!(branches.len() <= usize::from(BRANCH_LEN));
            for branch in branches {
                assert!(ids.insert(branch));
            }
            assert_eq!(kind.shard_named(kind.id()), None);
            assert_eq!(kind.shard_named(kind.fixed_entry_id()), None);
        }
    }

    #[test]
    fn a_log_fills_shard_after_shard_and_never_one_with_too_many() {
        let mut author = [0; 32];
        author[31] = 250;
        let mut filled = std::collections::BTreeMap::new();
        for seq in 0..u64::from(Kind::Log.shards()) * LOG_SHARD_SEQS * 2 {
            let shard = Kind::shard_of_entry(&author, seq);
            *filled.entry(shard).or_insert(0usize) += 1;
        }
        assert_eq!(filled.len(), usize::from(Kind::Log.shards()));
        assert!(filled.values().all(|n| *n == crate::limits::SHARD_LEN_MAX));
        assert_eq!(
            Kind::shard_of_entry(&author, 0),
            Kind::shard_of_entry(&author, LOG_SHARD_SEQS - 1)
        );
    }

    #[test]
    fn no_node_has_too_many_children() {
        for kind in ALL {
            assert!(kind.shards().is_power_of_two());
            assert!(usize::from(kind.shards()) <= crate::limits::SHARD_LEN_MAX);
            for byte in 0..=u8::MAX {
                let mut name = [0; 32];
                name[31] = byte;
                assert!(u16::from(kind.shard_of(&name).0) < kind.shards());
            }
        }
        assert!(ALL.len() <= crate::limits::SHARD_LEN_MAX);
    }
}
