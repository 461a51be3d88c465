//! Logs as people read them.

use medsync_client::wire::{CheckedLog, LogCheck, LogLine};

use crate::audit::{NamedLog, Report, author};
use crate::source::{CircleState, LogEntry};
use crate::store::circles::CircleRow;

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
