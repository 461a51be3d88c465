//! The log of a context, and its places in batches.

use medsync_protocol::audit::{self, Body, EntryDigest, Seq, head_leaf};
use medsync_protocol::ids::{ContextId, Salt};
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::tree::{Leaf, Proof, Root};

/// A log entry with its body; subject and digest are those of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What was signed.
    pub entry: audit::Entry,
    /// What it says.
    pub body: Body,
    /// The author's signature; whoever keeps an entry checks it.
    pub signature: Signature,
}

impl LogEntry {
    /// The entry's digest.
    #[must_use]
    pub fn digest(&self) -> EntryDigest {
        self.entry.digest()
    }

    /// Whether it is within its bounds, and its author signed it.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        let author_key = self.entry.author_key;
        self.entry.is_bounded() && author_key.verifies(self.digest().message(), &self.signature)
    }
}

/// A part of one author's log, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The entries; two with one number prove a fork.
    pub entries: Vec<LogEntry>,
    /// The number after the last that was looked at; nothing if the next is not there.
    pub next: Option<Seq>,
}

/// A place of a log in a batch; the path leads from the head's leaf to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub author_key: PublicKey,
    /// The number of the last entry.
    pub seq: Seq,
    /// Its digest.
    pub digest: EntryDigest,
    /// The leaf's salt.
    pub salt: Salt,
    /// The batch's root.
    pub root: Root,
    /// The path.
    pub proof: Proof,
}

impl Head {
    /// What is anchored.
    #[must_use]
    pub fn leaf(&self, context: ContextId) -> Leaf {
        head_leaf(context, self.author_key, self.seq, self.digest, self.salt)
    }

    /// Whether the path leads from the leaf to the root.
    #[must_use]
    pub fn is_included(&self, context: ContextId) -> bool {
        self.proof.includes(self.leaf(context), self.root)
    }
}
