//! Walks over all pages, with an end.
//!
//! A node that makes cursors go in circles, or a member that floods a context, must not keep the
//! daemon in one walk for ever: a cursor that comes twice and a walk of too many pages are errors.

use std::collections::HashSet;

use medsync_protocol::audit::Seq;
use medsync_protocol::signature::PublicKey;

use super::{
    Change, Circle, Consent, Cursor, LogEntry, PageLimit, Record, Release, SharedReceipt,
    SourceError, SourceResult,
};

/// The most pages of one walk: a million entries, which is more than honest members can put into a
/// circle.
pub const WALK_PAGES_MAX: usize = 10_000;

/// Which cursors a walk has met.
#[derive(Default)]
struct Steps(HashSet<String>);

impl Steps {
    /// Takes the next cursor, unless the walk goes in circles or does not end.
    fn take(&mut self, walk: &str, next: &Cursor) -> SourceResult<()> {
        if self.0.len() >= WALK_PAGES_MAX {
            let reason = format!("it has more than {WALK_PAGES_MAX} pages");
            return Err(SourceError::malformed(walk, reason));
        }
        if self.0.insert(next.as_str().to_owned()) {
            Ok(())
        } else {
            Err(SourceError::malformed(walk, "its pages go in circles"))
        }
    }
}

/// A walk over all entries of a circle, which may be read in parts.
#[derive(Default)]
pub struct ChangeWalk {
    /// The entries so far, in the walk's order.
    pub entries: Vec<Change>,
    next: Option<Cursor>,
    steps: Steps,
    is_complete: bool,
}

impl ChangeWalk {
    /// Whether the last page was read.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Reads the next pages, at most so many.
    ///
    /// # Errors
    /// [`SourceError`]; also if the walk does not end.
    pub async fn read(&mut self, circle: &dyn Circle, pages_max: usize) -> SourceResult<()> {
        for _ in 0..pages_max {
            if self.is_complete {
                break;
            }
            let mut page = circle.changes(self.next.as_ref(), PageLimit::MAX).await?;
            self.entries.append(&mut page.entries);
            if let Some(next) = &page.next {
                self.steps.take("changes", next)?;
            }
            self.is_complete = page.next.is_none();
            self.next = page.next;
        }
        Ok(())
    }
}

/// Every entry by kind, key and digest.
///
/// # Errors
/// [`SourceError`]; also if the walk does not end.
pub async fn all_changes(circle: &dyn Circle) -> SourceResult<Vec<Change>> {
    let mut walk = ChangeWalk::default();
    while !walk.is_complete() {
        walk.read(circle, WALK_PAGES_MAX).await?;
    }
    Ok(walk.entries)
}

/// Every consent that counts.
///
/// # Errors
/// [`SourceError`]; also if the walk does not end.
pub async fn all_consents(circle: &dyn Circle) -> SourceResult<Vec<Consent>> {
    let mut page = circle.consents(None, PageLimit::MAX).await?;
    let (mut consents, mut steps) = (Vec::new(), Steps::default());
    loop {
        consents.append(&mut page.consents);
        let Some(next) = page.next else {
            return Ok(consents);
        };
        steps.take("consents", &next)?;
        page = circle.consents(Some(&next), PageLimit::MAX).await?;
    }
}

/// One author's log from a number on, up to the first number that is not there.
///
/// # Errors
/// [`SourceError`]; also if the walk does not end.
pub async fn all_log(
    circle: &dyn Circle,
    author_key: PublicKey,
    from: Seq,
) -> SourceResult<Vec<LogEntry>> {
    let (mut entries, mut next) = (Vec::new(), Some(from));
    for _ in 0..WALK_PAGES_MAX {
        let Some(from) = next else {
            return Ok(entries);
        };
        let mut page = circle.log(author_key, from, PageLimit::MAX).await?;
        entries.append(&mut page.entries);
        next = page.next;
    }
    let reason = format!("it has more than {WALK_PAGES_MAX} pages");
    Err(SourceError::malformed("log_page", reason))
}

/// Every record's description, in its latest version; of one FHIR type if it is named.
///
/// # Errors
/// [`SourceError`]; also if the walk does not end.
pub async fn all_records(
    circle: &dyn Circle,
    resource_type: Option<&str>,
) -> SourceResult<Vec<Record>> {
    let mut page = circle.records(None, PageLimit::MAX, resource_type).await?;
    let (mut records, mut steps) = (Vec::new(), Steps::default());
    loop {
        records.append(&mut page.records);
        let Some(next) = page.next else {
            return Ok(records);
        };
        steps.take("records", &next)?;
        page = circle
            .records(Some(&next), PageLimit::MAX, resource_type)
            .await?;
    }
}

/// Every receipt of an exchange.
///
/// # Errors
/// [`SourceError`]; also if the walk does not end.
pub async fn all_receipts(exchange: &dyn Circle) -> SourceResult<Vec<SharedReceipt>> {
    let mut page = exchange.receipts(None, PageLimit::MAX).await?;
    let (mut receipts, mut steps) = (Vec::new(), Steps::default());
    loop {
        receipts.append(&mut page.receipts);
        let Some(next) = page.next else {
            return Ok(receipts);
        };
        steps.take("receipts", &next)?;
        page = exchange.receipts(Some(&next), PageLimit::MAX).await?;
    }
}

/// Every released record's description.
///
/// # Errors
/// [`SourceError`]; also if the walk does not end.
pub async fn all_releases(exchange: &dyn Circle) -> SourceResult<Vec<Release>> {
    let mut page = exchange.releases(None, PageLimit::MAX).await?;
    let (mut releases, mut steps) = (Vec::new(), Steps::default());
    loop {
        releases.append(&mut page.releases);
        let Some(next) = page.next else {
            return Ok(releases);
        };
        steps.take("releases", &next)?;
        page = exchange.releases(Some(&next), PageLimit::MAX).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends() {
        let cursor = |text: &str| text.parse::<Cursor>().expect("a cursor");
        let mut steps = Steps::default();
        assert!(steps.take("x", &cursor("a")).is_ok());
        assert!(steps.take("x", &cursor("a")).is_err());
        for page in 1..WALK_PAGES_MAX {
            assert!(steps.take("x", &cursor(&page.to_string())).is_ok());
        }
        assert!(steps.take("x", &cursor("last")).is_err());
    }
}
