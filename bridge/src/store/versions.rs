//! Which version of each record was ever seen in a circle.

use std::collections::BTreeMap;

use medsync_protocol::audit::RecordRef;
use medsync_protocol::ids::{ContextId, RecordId};
use sqlx::Row;

use super::{Store, StoreError, read};

impl Store {
    /// The latest version of each record of a circle that was ever seen in it.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn seen_versions(
        &self,
        context: ContextId,
    ) -> Result<BTreeMap<RecordId, u32>, StoreError> {
        sqlx::query("SELECT record, version FROM seen_versions WHERE context = $1")
            .bind(context.to_string())
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(|row| {
                let record = read("a record", row.try_get("record")?)?;
                Ok((record, row.try_get("version")?))
            })
            .collect()
    }

    /// Keeps which versions a circle shows; one that is lower than what was seen changes nothing.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn keep_versions(
        &self,
        context: ContextId,
        shown: &[RecordRef],
    ) -> Result<(), StoreError> {
        // A circle is walked often, and seldom has it a new version.
        let known = self.seen_versions(context).await?;
        let is_new = |what: &&RecordRef| {
            let seen = known.get(&what.record);
            seen.is_none_or(|seen| what.version > *seen)
        };
        let mut transaction = self.pool.begin().await?;
        for what in shown.iter().filter(is_new) {
            sqlx::query(
                "INSERT INTO seen_versions (context, record, version) VALUES ($1, $2, $3) \
                 ON CONFLICT (context, record) DO UPDATE SET version = excluded.version \
                 WHERE excluded.version > seen_versions.version",
            )
            .bind(context.to_string())
            .bind(what.record.to_string())
            .bind(what.version)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}
