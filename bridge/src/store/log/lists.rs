//! Lists of entries: whole, by kind, and in pages.

use medsync_protocol::audit::{EntryDigest, EntryKind};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Leaf;

use super::super::db::query;
use super::super::{Store, StoreError, signed};
use super::{LogFilter, entry, head};
use crate::source::{Head, LogEntry};

impl Store {
    /// Entries of a context, by author and number.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn log(
        &self,
        context: ContextId,
        filter: &LogFilter,
    ) -> Result<Vec<LogEntry>, StoreError> {
        // With a kind, its index is used.
        let statement = match filter.kind {
            Some(_) => {
                "SELECT * FROM log WHERE context = $1 AND ($2 IS NULL OR author_key = $2) \
                 AND kind = $3 AND at >= $4 ORDER BY author_key, seq, seen_at"
            }
            None => {
                "SELECT * FROM log WHERE context = $1 AND ($2 IS NULL OR author_key = $2) \
                 AND $3 IS NULL AND at >= $4 ORDER BY author_key, seq, seen_at"
            }
        };
        let rows = query(statement)
            .bind(context.to_string())
            .bind(filter.author_key.map(|key| key.to_string()))
            .bind(filter.kind)
            .bind(signed(filter.since.0))
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(|row| entry(self, row)).collect()
    }

    /// Entries of a context, the latest first, those before `before`: a page of what [`Store::log`]
    /// has.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn log_before(
        &self,
        context: ContextId,
        filter: &LogFilter,
        before: Option<(UnixSeconds, EntryDigest)>,
        len_max: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let (at, digest) = before.map_or((None, None), |(at, digest)| {
            (Some(signed(at.0)), Some(digest.to_string()))
        });
        let rows = query(
            "SELECT * FROM log WHERE context = $1 AND ($2 IS NULL OR author_key = $2) \
             AND ($3 IS NULL OR kind = $3) AND at >= $4 \
             AND ($5 IS NULL OR at < $5 OR (at = $5 AND digest < $6)) \
             ORDER BY at DESC, digest DESC LIMIT $7",
        )
        .bind(context.to_string())
        .bind(filter.author_key.map(|key| key.to_string()))
        .bind(filter.kind)
        .bind(signed(filter.since.0))
        .bind(at)
        .bind(digest)
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(|row| entry(self, row)).collect()
    }

    /// Entries of a kind in a context, in an order that never changes, those after `after`.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn log_page(
        &self,
        (context, kind): (ContextId, EntryKind),
        after: Option<EntryDigest>,
        len_max: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let rows = query(
            "SELECT * FROM log WHERE context = $1 AND kind = $2 AND digest > $3 \
             ORDER BY digest LIMIT $4",
        )
        .bind(context.to_string())
        .bind(kind.name())
        .bind(after.map(|after| after.to_string()).unwrap_or_default())
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(|row| entry(self, row)).collect()
    }

    /// The first entries of a context that answer a request: of this author, or of anybody but who
    /// asked.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn answers_to(
        &self,
        request: &LogEntry,
        author_key: Option<PublicKey>,
        len_max: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let rows = query(
            "SELECT * FROM log WHERE request = $1 AND context = $2 AND author_key <> $3 \
             AND ($4 IS NULL OR author_key = $4) ORDER BY author_key, seq, seen_at LIMIT $5",
        )
        .bind(request.digest().to_string())
        .bind(request.entry.context.to_string())
        .bind(request.entry.author_key.to_string())
        .bind(author_key.map(|key| key.to_string()))
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(|row| entry(self, row)).collect()
    }

    /// The first few places of a context's logs in batches, after the leaf of the one before.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn heads_after(
        &self,
        context: ContextId,
        after: Option<Leaf>,
        len_max: u32,
    ) -> Result<Vec<Head>, StoreError> {
        let after = after.map(|leaf| leaf.to_string()).unwrap_or_default();
        let statement =
            "SELECT * FROM heads WHERE context = $1 AND leaf > $2 ORDER BY leaf LIMIT $3";
        let rows = query(statement)
            .bind(context.to_string())
            .bind(after)
            .bind(i64::from(len_max))
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(head).collect()
    }
}
