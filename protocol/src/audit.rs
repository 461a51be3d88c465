//! The signed log: one hash chain per context and author.
//!
//! `seq` counts from 0 without gaps and `prev` names the author's previous entry, so that whoever
//! kept one entry notices if an earlier one changes or goes. Two signed entries with one `seq`
//! prove a fork.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::felt::{Felt, felt_newtype};
use crate::hash::{Tag, tagged};
use crate::ids::{ContextId, Salt, Sha256Digest, UnixSeconds};
use crate::signature::{Message, PublicKey, Signature};
use crate::tree::Leaf;

mod body;

pub use body::{
    BODY_BYTES_MAX, Body, BodyError, CONSENTS_LEN_MAX, DenialReason, ErasureReason, Pseudonym,
    REASON_BYTES_MAX, RECORDS_LEN_MAX, RecordRef, Requested,
};

const AUDIT: Tag = Tag::new("MEDSYNC_AUDIT_V1");
const AUDIT_HEAD: Tag = Tag::new("MEDSYNC_AUDIT_HEAD_V1");

felt_newtype! {
    /// The digest of a log entry; zero before the first.
    EntryDigest
}

/// The number of an entry in its author's log of one context.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

/// What an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntryKind {
    /// A party's keys came into the context.
    Enrolled,
    /// A consent was granted.
    Granted,
    /// A consent was declined.
    Declined,
    /// A consent was revoked.
    Revoked,
    /// Somebody asked for data.
    Requested,
    /// A request was permitted.
    Permitted,
    /// A request was denied.
    Denied,
    /// Somebody used break-glass.
    #[serde(rename = "BREAKGLASS")]
    BreakGlass,
    /// Keys were released.
    Released,
    /// Data was exported.
    Exported,
    /// A recipient was told to erase.
    EraseOrdered,
    /// A recipient said that it erased.
    Erased,
    /// A key was changed.
    KeyChanged,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Enrolled,
        Self::Granted,
        Self::Declined,
        Self::Revoked,
        Self::Requested,
        Self::Permitted,
        Self::Denied,
        Self::BreakGlass,
        Self::Released,
        Self::Exported,
        Self::EraseOrdered,
        Self::Erased,
        Self::KeyChanged,
    ];

    /// The kind's short string.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enrolled => "ENROLLED",
            Self::Granted => "GRANTED",
            Self::Declined => "DECLINED",
            Self::Revoked => "REVOKED",
            Self::Requested => "REQUESTED",
            Self::Permitted => "PERMITTED",
            Self::Denied => "DENIED",
            Self::BreakGlass => "BREAKGLASS",
            Self::Released => "RELEASED",
            Self::Exported => "EXPORTED",
            Self::EraseOrdered => "ERASE_ORDERED",
            Self::Erased => "ERASED",
            Self::KeyChanged => "KEY_CHANGED",
        }
    }

    /// The kind with this short string.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where it happened.
    pub context: ContextId,
    /// Who says so.
    pub author_key: PublicKey,
    /// Its number.
    pub seq: Seq,
    /// The author's previous entry here, or zero.
    pub prev: EntryDigest,
    /// What happened.
    pub kind: EntryKind,
    /// SHA-256 of the borsh of the entry's body.
    pub subject: Sha256Digest,
    /// When.
    pub at: UnixSeconds,
    /// Makes the digest tell nothing; another one is taken if the digest cannot be signed.
    pub salt: Salt,
}

/// The greatest number and the latest time of an entry: what every store can hold.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

impl Entry {
    /// Whether number and time are within [`NUMBER_MAX`]; an entry beyond counts nowhere.
    #[must_use]
    pub const fn is_bounded(&self) -> bool {
        self.seq.0 <= NUMBER_MAX && self.at.0 <= NUMBER_MAX
    }

    /// The entry's digest.
    #[must_use]
    pub fn digest(&self) -> EntryDigest {
        let before = [
            self.author_key.felt(),
            Felt::from(self.seq.0),
            self.prev.felt(),
        ];
        let kind = [Felt::from_bytes_be_slice(self.kind.name().as_bytes())];
        let after = [self.at.felt(), self.salt.felt()];
        EntryDigest::from_felt(tagged(
            AUDIT,
            &[
                &self.context.halves(),
                &before,
                &kind,
                &self.subject.halves(),
                &after,
            ],
        ))
    }
}

/// The leaf by which a log is anchored up to the entry `digest`.
#[must_use]
pub fn head_leaf(
    context: ContextId,
    author_key: PublicKey,
    seq: Seq,
    digest: EntryDigest,
    salt: Salt,
) -> Leaf {
    let parts = [
        author_key.felt(),
        Felt::from(seq.0),
        digest.felt(),
        salt.felt(),
    ];
    Leaf::from_felt(tagged(AUDIT_HEAD, &[&context.halves(), &parts]))
}

impl EntryDigest {
    /// What the author signs.
    #[must_use]
    pub fn message(self) -> Message {
        Message::from_felt(self.felt())
    }
}

/// Why an entry does not continue a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The entry is of another context or author.
    #[error("entry {0:?} belongs to another context or author")]
    OtherLog(Seq),
    /// The entry's number is not the next one.
    #[error("the log goes on with {expected:?}, this is {found:?}: an entry is missing")]
    Gap {
        /// The number that comes next.
        expected: Seq,
        /// The number that came.
        found: Seq,
    },
    /// The entry has the number of the log's last entry, and another digest.
    #[error("two signed entries have {0:?}: the author forked the log")]
    Fork(Seq),
    /// The entry's number was passed already; compare it with the entry that was kept.
    #[error("the log is past {0:?}")]
    Past(Seq),
    /// The entry names another predecessor.
    #[error("entry {0:?} does not follow the entry before it: one of the two was changed")]
    Rewritten(Seq),
    /// The entry says an earlier time than the one before it.
    #[error("entry {0:?} is dated before the entry that it follows")]
    Backdated(Seq),
    /// The signature is not the author's.
    #[error("entry {0:?} is not signed by its author")]
    BadSignature(Seq),
}

/// How far a log of one context and author was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCursor {
    context: ContextId,
    author_key: PublicKey,
    next: Seq,
    prev: EntryDigest,
    not_before: UnixSeconds,
}

impl LogCursor {
    /// Before the first entry.
    #[must_use]
    pub fn start(context: ContextId, author_key: PublicKey) -> Self {
        Self {
            context,
            author_key,
            next: Seq(0),
            prev: EntryDigest::from_felt(Felt::ZERO),
            not_before: UnixSeconds(0),
        }
    }

    /// The number that the next entry must have.
    #[must_use]
    pub fn next(&self) -> Seq {
        self.next
    }

    /// The digest that the next entry must name.
    #[must_use]
    pub fn prev(&self) -> EntryDigest {
        self.prev
    }

    /// The cursor after `entry`, if it continues the log.
    ///
    /// # Errors
    /// Where the log breaks, and how: see [`ChainError`].
    pub fn follow(self, entry: &Entry, signature: &Signature) -> Result<Self, ChainError> {
        if entry.context != self.context || entry.author_key != self.author_key {
            return Err(ChainError::OtherLog(entry.seq));
        }
        let digest = entry.digest();
        if !entry.author_key.verifies(digest.message(), signature) {
            return Err(ChainError::BadSignature(entry.seq));
        }
        if entry.seq.0.checked_add(1) == Some(self.next.0) {
            return if digest == self.prev {
                Ok(self)
            } else {
                Err(ChainError::Fork(entry.seq))
            };
        }
        if entry.seq < self.next {
            return Err(ChainError::Past(entry.seq));
        }
        if entry.seq > self.next {
            return Err(ChainError::Gap {
                expected: self.next,
                found: entry.seq,
            });
        }
        if entry.prev != self.prev {
            return Err(ChainError::Rewritten(entry.seq));
        }
        if entry.at < self.not_before {
            return Err(ChainError::Backdated(entry.seq));
        }
        Ok(Self {
            next: Seq(entry.seq.0 + 1),
            prev: digest,
            not_before: entry.at,
            ..self
        })
    }
}

/// Whether two entries, both signed by their author, prove that the author forked a log.
#[must_use]
pub fn proves_fork(first: (&Entry, &Signature), second: (&Entry, &Signature)) -> bool {
    let signed = |(entry, signature): (&Entry, &Signature)| {
        entry
            .author_key
            .verifies(entry.digest().message(), signature)
    };
    let (a, b) = (first.0, second.0);
    (a.context, a.author_key, a.seq) == (b.context, b.author_key, b.seq)
        && a.digest() != b.digest()
        && signed(first)
        && signed(second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SecretKey;

    fn key() -> SecretKey {
        SecretKey::from_scalar(&[6; 32]).expect("a scalar")
    }

    fn entry(seq: u64, prev: EntryDigest, salt: u64) -> (Entry, Signature) {
        let entry = Entry {
            context: ContextId([1; 32]),
            author_key: key().public_key(),
            seq: Seq(seq),
            prev,
            kind: EntryKind::Granted,
            subject: Sha256Digest([2; 32]),
            at: UnixSeconds(3),
            salt: Salt::from_felt(Felt::from(salt)),
        };
        let signature = key().sign(entry.digest().message()).expect("signable");
        (entry, signature)
    }

    #[test]
    fn a_log_breaks_where_it_was_touched() {
        let start = LogCursor::start(ContextId([1; 32]), key().public_key());
        let first = entry(0, start.prev(), 0);
        let second = entry(1, first.0.digest(), 0);
        let one = start.follow(&first.0, &first.1).expect("the first entry");
        let two = one.follow(&second.0, &second.1).expect("the second entry");
        assert_eq!(two.next(), Seq(2));
        assert_eq!(two.follow(&second.0, &second.1), Ok(two));
        assert_eq!(
            two.follow(&first.0, &first.1),
            Err(ChainError::Past(Seq(0)))
        );

        let gap = ChainError::Gap {
            expected: Seq(0),
            found: Seq(1),
        };
        assert_eq!(start.follow(&second.0, &second.1), Err(gap));
        let fork = entry(1, first.0.digest(), 1);
        assert_eq!(two.follow(&fork.0, &fork.1), Err(ChainError::Fork(Seq(1))));
        assert!(proves_fork((&second.0, &second.1), (&fork.0, &fork.1)));
        assert!(!proves_fork((&second.0, &second.1), (&second.0, &second.1)));
        let rewritten = entry(1, start.prev(), 0);
        assert_eq!(
            one.follow(&rewritten.0, &rewritten.1),
            Err(ChainError::Rewritten(Seq(1)))
        );
        assert_eq!(
            one.follow(&second.0, &first.1),
            Err(ChainError::BadSignature(Seq(1)))
        );
        let elsewhere = LogCursor::start(ContextId([9; 32]), key().public_key());
        assert_eq!(
            elsewhere.follow(&first.0, &first.1),
            Err(ChainError::OtherLog(Seq(0)))
        );
    }

    #[test]
    fn kinds_are_named_as_they_are_serialized() {
        for kind in EntryKind::ALL {
            assert_eq!(EntryKind::named(kind.name()), Some(kind));
            let json = serde_json::to_string(&kind).expect("kinds serialize");
            assert_eq!(json, alloc::format!("\"{}\"", kind.name()));
        }
    }
}
