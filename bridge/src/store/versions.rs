//! Which versions of each record were ever seen in a circle.

use std::collections::BTreeMap;

use medsync_protocol::audit::RecordRef;
use medsync_protocol::ids::{ContextId, RecordId};

use super::db::{Row, query, query_scalar};
use super::{Store, StoreError, read};
use crate::source::EntryKey;

/// A version of each record.
pub(super) fn versions(rows: &[Row]) -> Result<BTreeMap<RecordId, u32>, StoreError> {
    let version = |row: &Row| {
        let record = read("a record", row.try_get("record")?)?;
        Ok((record, row.try_get("version")?))
    };
    rows.iter().map(version).collect()
}

impl Store {
    /// The latest version of each record of a circle that was ever seen in it.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn seen_versions(
        &self,
        context: ContextId,
    ) -> Result<BTreeMap<RecordId, u32>, StoreError> {
        let rows = query(
            "SELECT record, MAX(version) AS version FROM seen_versions WHERE context = $1 \
             GROUP BY record",
        )
        .bind(context.to_string())
        .fetch_all(&self.db)
        .await?;
        versions(&rows)
    }

    /// Keeps that an entry describes a version, unless another did before; answers the first.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn keep_version(
        &self,
        context: ContextId,
        what: RecordRef,
        entry: EntryKey,
    ) -> Result<EntryKey, StoreError> {
        query(
            "INSERT INTO seen_versions (context, record, version, entry_key) \
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(context.to_string())
        .bind(what.record.to_string())
        .bind(what.version)
        .bind(entry.to_string())
        .execute(&self.db)
        .await?;
        let first: String = query_scalar(
            "SELECT entry_key FROM seen_versions \
             WHERE context = $1 AND record = $2 AND version = $3",
        )
        .bind(context.to_string())
        .bind(what.record.to_string())
        .bind(what.version)
        .fetch_one(&self.db)
        .await?;
        read("an entry", &first)
    }
}
