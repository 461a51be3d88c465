//! The walk over everything, and single entries.

use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{MemberId, Sha256Digest};

use super::super::names::{ChangeDigest, Cursor, EntryKey, EntryKind};
use super::{
    Consent, Device, Enrolled, Head, LogEntry, PlacedTicket, Pool, Record, Release, Revocation,
    SharedReceipt, SignedKeyChange,
};

/// One entry of the walk over everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// What it is.
    pub kind: EntryKind,
    /// The entry.
    pub key: EntryKey,
    /// Changes if and only if the entry does.
    pub digest: ChangeDigest,
}

/// The digest by which a circle says which revocations and consents it has, of entries in the
/// walk's order.
#[must_use]
pub fn consents_digest<'a>(entries: impl IntoIterator<Item = &'a Change>) -> Sha256Digest {
    let bears = |entry: &&Change| matches!(entry.kind, EntryKind::Revocation | EntryKind::Consent);
    let bearing = entries.into_iter().filter(bears);
    let all: Vec<u8> = bearing
        .flat_map(|entry| [entry.key.0, entry.digest.0])
        .flatten()
        .collect();
    Sha256Digest::of(&all)
}

/// A page of the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangePage {
    /// The entries.
    pub entries: Vec<Change>,
    /// Where the next page starts; nothing after the last.
    pub next: Option<Cursor>,
}

/// One entry of a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The entry.
    pub key: EntryKey,
    /// The member who wrote it.
    pub owner: Option<MemberId>,
    /// What it says, if it counts.
    pub body: Option<EntryBody>,
}

/// What an entry that counts says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryBody {
    /// The circle's own description; [`Circle::circle`](crate::source::Circle::circle) shows it.
    Circle,
    /// An enrolment.
    Enrolment(Enrolled),
    /// A key change.
    KeyChange(SignedKeyChange),
    /// An admission.
    Device(Box<Device>),
    /// A consent with its present state.
    Consent(Box<Consent>),
    /// A consent of which the circle shows another copy.
    Copy(Commitment),
    /// A revocation.
    Revocation(Revocation),
    /// The consent that an anchor entry is about.
    Anchor(Box<Consent>),
    /// A log entry.
    Log(Box<LogEntry>),
    /// A log's place in a batch.
    Head(Box<Head>),
    /// A record.
    Record(Box<Record>),
    /// A reward pool.
    Pool(Box<Pool>),
    /// A ticket with its place in a batch.
    Ticket(Box<PlacedTicket>),
    /// A receipt.
    Receipt(Box<SharedReceipt>),
    /// A released record.
    Release(Box<Release>),
}
