//! Checking a whole log: chain, signatures, forks, completeness, anchors.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{ChainError, EntryDigest, LogCursor, RecordRef, Seq};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Root;
use serde::Serialize;

use crate::source::{Head, LogEntry};

/// When each root was anchored; none that is not on the chain.
pub type Anchorings = BTreeMap<Root, UnixSeconds>;

/// Where and how a log is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum Fault {
    /// The author signed two entries with one number.
    Fork {
        /// The number.
        seq: Seq,
        /// Their digests.
        digests: Vec<EntryDigest>,
    },
    /// An entry is missing, and others come after it.
    Missing {
        /// Its number.
        seq: Seq,
    },
    /// An entry does not follow the one before it.
    Rewritten {
        /// Its number.
        seq: Seq,
    },
    /// An entry is not signed by its author.
    BadSignature {
        /// Its number.
        seq: Seq,
    },
    /// A batch binds an entry that nobody here has.
    AnchoredAndGone {
        /// Its number.
        seq: Seq,
        /// Its digest.
        digest: EntryDigest,
    },
    /// An entry says an earlier time than the one before it.
    Backdated {
        /// Its number.
        seq: Seq,
    },
    /// An answer names a request that is not in the log before it.
    NotAsked {
        /// Its number.
        seq: Seq,
    },
    /// A release on a request that was denied, or not answered.
    NotPermitted {
        /// Its number.
        seq: Seq,
    },
    /// A release of records that the custodian had said before it erased.
    AfterErasure {
        /// Its number.
        seq: Seq,
        /// Which records.
        records: Vec<RecordRef>,
    },
    /// An answer has a time that had not come when it was first seen.
    Postdated {
        /// Its number.
        seq: Seq,
    },
    /// An answer to whoever broke the glass, of which the log says nothing before.
    SilentGlass {
        /// Its number.
        seq: Seq,
    },
    /// A consent that a release rests on ended long ago, and its erasure was not ordered.
    NotOrdered {
        /// Its number.
        seq: Seq,
    },
    /// An answer names records that no consent which it names permitted at its time, or that were
    /// not asked for.
    NotCovered {
        /// Its number.
        seq: Seq,
        /// Which records.
        records: Vec<RecordRef>,
    },
    /// The same by consents that had ended here, of which the custodian shows no sign of having
    /// heard, though its node was in reach since: it is still about it, or another member kept the
    /// end from its node. Also what arrived long after such an end, says a time before it, and is
    /// in no batch of then.
    Unproven {
        /// Its number.
        seq: Seq,
        /// Which records.
        records: Vec<RecordRef>,
    },
    /// The same by consents that had ended here, of which the custodian cannot have heard yet: this
    /// home was cut off, or the custodian kept still.
    Unheard {
        /// Its number.
        seq: Seq,
        /// Which records.
        records: Vec<RecordRef>,
    },
    /// An entry that was kept here is not in its context any more.
    Vanished {
        /// Its number.
        seq: Seq,
        /// Its digest.
        digest: EntryDigest,
    },
}

impl Fault {
    /// Whether it is held against somebody; else it is only shown.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        !matches!(self, Self::Unheard { .. } | Self::Unproven { .. })
    }
}

/// What came of checking one author's log in one context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Whose log.
    pub author_key: PublicKey,
    /// How many entries follow each other without a fault.
    pub sound: u64,
    /// Up to which entry the log is anchored, and since when.
    pub anchored: Option<(Seq, UnixSeconds)>,
    /// Where it is broken, or may be; empty if it is not.
    pub faults: Vec<Fault>,
}

/// Checks one author's log: `kept` is everything that was ever seen of it here, by number;
/// `there` are the digests that its context shows now, if it could be asked.
#[must_use]
pub fn check(
    (context, author_key): (ContextId, PublicKey),
    kept: &[LogEntry],
    there: Option<&BTreeSet<EntryDigest>>,
    heads: &[Head],
    anchored: &Anchorings,
) -> LogReport {
    let mut by_number: BTreeMap<Seq, Vec<&LogEntry>> = BTreeMap::new();
    for entry in kept {
        by_number.entry(entry.entry.seq).or_default().push(entry);
    }
    let mut faults = Vec::new();
    let mut cursor = LogCursor::start(context, author_key);
    let mut is_whole = true;
    for (seq, entries) in &by_number {
        let signed: Vec<_> = entries.iter().filter(|entry| entry.is_signed()).collect();
        if signed.len() < entries.len() {
            faults.push(Fault::BadSignature { seq: *seq });
        }
        if signed.len() > 1 {
            faults.push(Fault::Fork {
                seq: *seq,
                digests: signed.iter().map(|entry| entry.digest()).collect(),
            });
        }
        if !is_whole {
            continue;
        }
        // Of a fork, the side that goes on is followed.
        let followed = signed
            .iter()
            .map(|entry| cursor.follow(&entry.entry, &entry.signature))
            .reduce(Result::or);
        match followed {
            Some(Ok(next)) => cursor = next,
            Some(Err(ChainError::Gap { expected, .. })) => {
                faults.push(Fault::Missing { seq: expected });
                is_whole = false;
            }
            Some(Err(ChainError::Backdated(_))) => {
                faults.push(Fault::Backdated { seq: *seq });
                is_whole = false;
            }
            Some(Err(_)) => {
                faults.push(Fault::Rewritten { seq: *seq });
                is_whole = false;
            }
            None => is_whole = false,
        }
    }
    let own: Vec<&Head> = heads
        .iter()
        .filter(|head| head.author_key == author_key && head.is_included(context))
        .collect();
    let mut latest = None;
    for head in own {
        let has = by_number
            .get(&head.seq)
            .is_some_and(|entries| entries.iter().any(|entry| entry.digest() == head.digest));
        let since = anchored.get(&head.root);
        if !has && since.is_some() {
            faults.push(Fault::AnchoredAndGone {
                seq: head.seq,
                digest: head.digest,
            });
        }
        if let (true, Some(since)) = (has, since)
            && latest.is_none_or(|(seq, _)| seq < head.seq)
        {
            latest = Some((head.seq, *since));
        }
    }
    for entry in kept {
        let digest = entry.digest();
        if there.is_some_and(|there| !there.contains(&digest)) {
            let seq = entry.entry.seq;
            faults.push(Fault::Vanished { seq, digest });
        }
    }
    LogReport {
        author_key,
        sound: cursor.next().0,
        anchored: latest,
        faults,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsync_protocol::audit::{Body, Entry, head_leaf};
    use medsync_protocol::consent::Commitment;
    use medsync_protocol::felt::Felt;
    use medsync_protocol::ids::Salt;
    use medsync_protocol::signature::SecretKey;
    use medsync_protocol::tree::Tree;

    const CONTEXT: ContextId = ContextId([7; 32]);

    fn author() -> SecretKey {
        SecretKey::from_scalar(&[4; 32]).expect("a scalar")
    }

    fn entry(seq: u64, prev: EntryDigest, salt: u64) -> LogEntry {
        entry_with(seq, prev, salt, seq)
    }

    fn entry_at(seq: u64, prev: EntryDigest, at: u64) -> LogEntry {
        entry_with(seq, prev, 0, at)
    }

    fn entry_with(seq: u64, prev: EntryDigest, salt: u64, at: u64) -> LogEntry {
        let body = Body::Granted {
            consent: Commitment::from_felt(Felt::from(seq)),
        };
        let entry = Entry {
            context: CONTEXT,
            author_key: author().public_key(),
            seq: Seq(seq),
            prev,
            kind: body.kind(),
            subject: body.subject().expect("sound"),
            at: UnixSeconds(at),
            salt: Salt::from_felt(Felt::from(salt)),
        };
        LogEntry {
            entry,
            body,
            signature: author().sign(entry.digest().message()).expect("signable"),
        }
    }

    fn log(len: u64) -> Vec<LogEntry> {
        let mut log: Vec<LogEntry> = Vec::new();
        for seq in 0..len {
            let prev = log
                .last()
                .map_or(EntryDigest::from_felt(Felt::ZERO), LogEntry::digest);
            log.push(entry(seq, prev, 0));
        }
        log
    }

    fn head(of: &LogEntry) -> Head {
        let (seq, digest) = (of.entry.seq, of.digest());
        let salt = Salt::from_felt(Felt::ONE);
        let leaf = head_leaf(CONTEXT, author().public_key(), seq, digest, salt);
        let tree = Tree::build(&[leaf, leaf]).expect("two leaves");
        Head {
            author_key: author().public_key(),
            seq,
            digest,
            salt,
            root: tree.root(),
            proof: tree.proof(1).expect("two leaves"),
        }
    }

    fn faults(kept: &[LogEntry], heads: &[Head], is_anchored: bool) -> LogReport {
        let there = kept.iter().map(LogEntry::digest).collect();
        let anchored = heads
            .iter()
            .filter(|_| is_anchored)
            .map(|head| (head.root, UnixSeconds(50)))
            .collect();
        let whose = (CONTEXT, author().public_key());
        check(whose, kept, Some(&there), heads, &anchored)
    }

    #[test]
    fn a_sound_log_is_anchored_as_far_as_its_heads_go() {
        let log = log(4);
        let report = faults(&log, &[head(&log[1]), head(&log[2])], true);
        assert_eq!((report.sound, report.faults.len()), (4, 0));
        assert_eq!(report.anchored, Some((Seq(2), UnixSeconds(50))));
        // A head on its way to the chain is neither an anchor nor a fault.
        let report = faults(&log[..1], &[head(&log[3])], false);
        assert_eq!((report.anchored, report.faults.len()), (None, 0));
    }

    #[test]
    fn hostile_gaps_forks_rewritings_and_tails_that_were_cut_are_named() {
        let whole = log(4);
        let gap = [whole[0].clone(), whole[2].clone(), whole[3].clone()];
        let report = faults(&gap, &[], false);
        assert_eq!(report.faults, [Fault::Missing { seq: Seq(1) }]);
        assert_eq!(report.sound, 1);

        let other = entry(1, whole[0].digest(), 9);
        let mut forked = whole.clone();
        forked.insert(1, other.clone());
        let report = faults(&forked, &[], false);
        let digests = vec![other.digest(), whole[1].digest()];
        let seq = Seq(1);
        assert_eq!(report.faults[0], Fault::Fork { seq, digests });

        let mut rewritten = whole.clone();
        rewritten[1] = other;
        let report = faults(&rewritten, &[], false);
        assert_eq!(report.faults, [Fault::Rewritten { seq: Seq(2) }]);

        let mut backdated = whole[..3].to_vec();
        backdated.push(entry_at(3, whole[2].digest(), 1));
        let report = faults(&backdated, &[], false);
        assert_eq!(report.faults, [Fault::Backdated { seq: Seq(3) }]);

        let mut forged = whole.clone();
        forged[3].signature = whole[2].signature;
        let report = faults(&forged, &[], false);
        assert_eq!(report.faults, [Fault::BadSignature { seq: Seq(3) }]);

        // The last entries are dropped by everybody, but a batch binds them.
        let (seq, digest) = (Seq(3), whole[3].digest());
        let report = faults(&whole[..3], &[head(&whole[3])], true);
        assert_eq!(report.faults, [Fault::AnchoredAndGone { seq, digest }]);
        assert_eq!(report.anchored, None);

        let there = whole[..3].iter().map(LogEntry::digest).collect();
        let whose = (CONTEXT, author().public_key());
        let report = check(whose, &whole, Some(&there), &[], &Anchorings::new());
        assert_eq!(report.faults, [Fault::Vanished { seq, digest }]);
    }
}
