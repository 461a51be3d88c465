//! Logs as people read them.

use std::fmt;
use std::str::FromStr;

use medsync_client::wire::{CheckedLog, LogCheck, LogHead, LogLine};
use medsync_protocol::audit::EntryDigest;
use medsync_protocol::ids::UnixSeconds;

use crate::audit::{NamedLog, Report, author};
use crate::source::{CircleState, Head, LogEntry};
use crate::store::circles::CircleRow;

/// Where a page of entries ends: at the time and the digest of its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub UnixSeconds, pub EntryDigest);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let malformed = "pass the `next` of the page before";
        let (at, digest) = text.split_once('-').ok_or(malformed)?;
        let at = at.parse().map_err(|_| malformed)?;
        Ok(Self(
            UnixSeconds(at),
            digest.parse().map_err(|_| malformed)?,
        ))
    }
}

/// An entry, with what its author is called in its circle.
#[must_use]
pub fn line(state: Option<&CircleState>, kept: LogEntry) -> LogLine {
    let (digest, entry) = (kept.digest(), kept.entry);
    LogLine {
        at: entry.at,
        by: author(state, entry.author_key).to_owned(),
        seq: entry.seq,
        kind: entry.kind,
        says: kept.body,
        digest,
        author_key: entry.author_key,
        prev: entry.prev,
        salt: entry.salt,
        signature: kept.signature,
    }
}

/// A place of a log in a batch.
#[must_use]
pub fn head(head: Head) -> LogHead {
    LogHead {
        author_key: head.author_key,
        seq: head.seq,
        digest: head.digest,
        salt: head.salt,
        root: head.root,
        proof: head.proof,
    }
}

/// What came of checking every log of a circle.
///
/// # Errors
/// None that can happen: it is made of numbers and texts.
pub fn check(row: &CircleRow, report: &Report) -> Result<LogCheck, serde_json::Error> {
    let named = |NamedLog { by, log }: &NamedLog| {
        Ok(CheckedLog {
            by: (*by).to_owned(),
            log: serde_json::to_value(log)?,
        })
    };
    Ok(LogCheck {
        circle: row.context,
        sound: report.is_sound() && report.was_read,
        circle_was_read: report.was_read,
        found_before: report.found_before.clone(),
        unasked: report.unasked,
        logs: report.logs.iter().map(named).collect::<Result<_, _>>()?,
    })
}
