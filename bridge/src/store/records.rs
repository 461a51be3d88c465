//! Imported records.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::RecordRef;
use medsync_protocol::ids::{ContextId, RecordId, Sha256Digest, UnixSeconds};
use medsync_protocol::seal::{RecordVersion, SealSecret};

use super::db::{query, query_scalar};
use super::versions::versions;
use super::{Private, Store, StoreError, read, signed};

/// An imported resource: which record it is, and the key that opens it for the custodian.
#[derive(Clone, Debug)]
pub struct RecordRow {
    /// The record; random.
    pub record: RecordId,
    /// The version that was written or is about to be.
    pub version: RecordVersion,
    /// SHA-256 of the resource.
    pub payload: Sha256Digest,
    /// The custodian's key for this version, nowhere else; destroyed at erasure.
    pub secret: SealSecret,
    /// Whether the context has this version.
    pub is_written: bool,
}

/// The custodian's key to a version of a record.
pub(super) const RECORD_KEY: Private = Private("a record's key");

/// What was imported, under its name here: digests of health data can be guessed at.
const PAYLOAD: Private = Private("a resource's digest");

/// By what a resource is found again.
fn name_of(store: &Store, local_key: Sha256Digest) -> String {
    store.secret.name_of("a resource", &local_key.0).to_string()
}

/// Whose key it is.
pub(super) fn record_key(context: ContextId, record: &str, version: i64) -> String {
    format!("{context}/{record}/{version}")
}

/// Opens a sealing key.
pub(super) fn secret(
    store: &Store,
    kind: Private,
    of: &str,
    sealed: &str,
) -> Result<SealSecret, StoreError> {
    let opened = kind.open(store, of, sealed)?;
    let bytes = opened.as_slice().try_into();
    let bytes = bytes.map_err(|_| StoreError::Corrupt {
        what: kind.0,
        why: "it has another length".into(),
    })?;
    Ok(SealSecret::from_bytes(bytes))
}

impl Store {
    /// What is known of a resource by its local key.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn record(
        &self,
        context: ContextId,
        local_key: Sha256Digest,
    ) -> Result<Option<RecordRow>, StoreError> {
        let name = name_of(self, local_key);
        let row = query(
            "SELECT * FROM records NATURAL JOIN record_keys WHERE context = $1 AND local_key = $2",
        )
        .bind(context.to_string())
        .bind(&name)
        .fetch_optional(&self.db)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let key = record_key(context, row.try_get("record")?, row.try_get("version")?);
        Ok(Some(RecordRow {
            record: read("a record", row.try_get("record")?)?,
            version: RecordVersion(row.try_get("version")?),
            payload: PAYLOAD.read(self, &name, row.try_get("payload_sha256")?)?,
            secret: secret(self, RECORD_KEY, &key, row.try_get("custodian_secret")?)?,
            is_written: row.try_get::<Option<i64>, _>("written_at")?.is_some(),
        }))
    }

    /// Keeps a record's identity and key before anything is written to the context.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn plan_record(
        &self,
        context: ContextId,
        local_key: Sha256Digest,
        row: &RecordRow,
    ) -> Result<(), StoreError> {
        let name = name_of(self, local_key);
        let payload = PAYLOAD.seal(self, &name, row.payload.to_string().as_bytes())?;
        let mut transaction = self.db.begin("plan_record").await?;
        query(
            "UPDATE record_keys SET renamed = $3 WHERE context = $1 AND $3 <> \
             COALESCE(renamed, record) AND COALESCE(renamed, record) = \
             (SELECT record FROM records WHERE context = $1 AND local_key = $2)",
        )
        .bind(context.to_string())
        .bind(&name)
        .bind(row.record.to_string())
        .execute(&mut *transaction)
        .await?;
        query(
            "INSERT INTO records (context, local_key, record, version, payload_sha256) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (context, local_key) DO UPDATE SET \
             record = excluded.record, version = excluded.version, \
             payload_sha256 = excluded.payload_sha256, written_at = NULL",
        )
        .bind(context.to_string())
        .bind(name)
        .bind(row.record.to_string())
        .bind(row.version.0)
        .bind(payload)
        .execute(&mut *transaction)
        .await?;
        let key = record_key(context, &row.record.to_string(), row.version.0.into());
        // The keys of earlier versions stay: what they open was not erased.
        query(
            "INSERT INTO record_keys (context, record, version, custodian_secret) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (context, record, version) \
             DO UPDATE SET custodian_secret = excluded.custodian_secret",
        )
        .bind(context.to_string())
        .bind(row.record.to_string())
        .bind(row.version.0)
        .bind(RECORD_KEY.seal(self, &key, row.secret.reveal())?)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Notes that the context has the planned version.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn record_written(
        &self,
        context: ContextId,
        local_key: Sha256Digest,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE records SET written_at = $3 WHERE context = $1 AND local_key = $2")
            .bind(context.to_string())
            .bind(name_of(self, local_key))
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Destroys the keys of all versions of a record, or of every record of a circle, and scrubs
    /// them from the file and its journal. Answers how many.
    ///
    /// # Errors
    /// A database that refuses: nothing is then destroyed. [`StoreError::Busy`]: the keys are gone,
    /// and doing it again scrubs the journal.
    pub async fn erase_records(
        &self,
        context: ContextId,
        record: Option<RecordId>,
        now: UnixSeconds,
    ) -> Result<u64, StoreError> {
        let record = record.map(|record| record.to_string());
        let mut transaction = self.db.begin("erase_records").await?;
        // All of its resource, by whatever name it is asked for.
        let record: Option<String> = query_scalar(
            "SELECT COALESCE((SELECT MAX(renamed) FROM record_keys \
             WHERE context = $1 AND record = $2), $2)",
        )
        .bind(context.to_string())
        .bind(&record)
        .fetch_one(&mut *transaction)
        .await?;
        query(
            "INSERT INTO erased (context, record, version, erased_at) \
             SELECT context, record, version, $3 FROM record_keys \
             WHERE context = $1 AND ($2 IS NULL OR record = $2 OR renamed = $2) \
             ON CONFLICT DO NOTHING",
        )
        .bind(context.to_string())
        .bind(&record)
        .bind(signed(now.0))
        .execute(&mut *transaction)
        .await?;
        query(
            "UPDATE records SET payload_sha256 = '' \
             WHERE context = $1 AND ($2 IS NULL OR record = $2)",
        )
        .bind(context.to_string())
        .bind(&record)
        .execute(&mut *transaction)
        .await?;
        let gone = query(
            "DELETE FROM record_keys \
             WHERE context = $1 AND ($2 IS NULL OR record = $2 OR renamed = $2)",
        )
        .bind(context.to_string())
        .bind(&record)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.scrub().await?;
        Ok(gone.rows_affected())
    }

    /// Destroys the keys of records that were erased before, if they are here again, and scrubs the
    /// file and its journal in any case.
    ///
    /// # Errors
    /// As [`Store::erase_records`].
    pub async fn stay_erased(
        &self,
        context: ContextId,
        records: &[RecordRef],
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("stay_erased").await?;
        for what in records {
            query(
                "INSERT INTO erased (context, record, version, erased_at, logged_at) \
                 VALUES ($1, $2, $3, $4, $4) ON CONFLICT (context, record, version) \
                 DO UPDATE SET logged_at = COALESCE(erased.logged_at, excluded.logged_at)",
            )
            .bind(context.to_string())
            .bind(what.record.to_string())
            .bind(what.version)
            .bind(signed(now.0))
            .execute(&mut *transaction)
            .await?;
            query("DELETE FROM record_keys WHERE context = $1 AND record = $2 AND version = $3")
                .bind(context.to_string())
                .bind(what.record.to_string())
                .bind(what.version)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        // Also if none was here: whoever destroyed them may have died before this.
        self.scrub().await
    }

    /// Whether a resource was imported and then erased.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn was_erased(
        &self,
        context: ContextId,
        local_key: Sha256Digest,
    ) -> Result<bool, StoreError> {
        let count: i64 = query_scalar(
            "SELECT COUNT(*) FROM records NATURAL JOIN erased \
             WHERE context = $1 AND local_key = $2",
        )
        .bind(context.to_string())
        .bind(name_of(self, local_key))
        .fetch_one(&self.db)
        .await?;
        Ok(count > 0)
    }

    /// The latest version of each record of a circle that was ever to be written from here: one
    /// that could not be does not leave those before it as they are.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn latest_versions(
        &self,
        context: ContextId,
    ) -> Result<BTreeMap<RecordId, u32>, StoreError> {
        let rows = query("SELECT record, version FROM records WHERE context = $1")
            .bind(context.to_string())
            .fetch_all(&self.db)
            .await?;
        versions(&rows)
    }

    /// Each version of each record of a circle to which there is a key here, and whether it is of
    /// the name that its resource has now.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn keyed_records(
        &self,
        context: ContextId,
    ) -> Result<BTreeMap<RecordRef, bool>, StoreError> {
        let rows = query(
            "SELECT record, version, renamed IS NULL AS is_current FROM record_keys \
             WHERE context = $1",
        )
        .bind(context.to_string())
        .fetch_all(&self.db)
        .await?;
        rows.iter()
            .map(|row| {
                let what = RecordRef {
                    record: read("a record", row.try_get("record")?)?,
                    version: row.try_get("version")?,
                };
                Ok((what, row.try_get("is_current")?))
            })
            .collect()
    }

    /// Whether records of a circle were erased of which this store does not know what they were.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn has_unknown_erased(&self, context: ContextId) -> Result<bool, StoreError> {
        let count: i64 = query_scalar(
            "SELECT COUNT(*) FROM erased WHERE context = $1 AND record NOT IN \
             (SELECT record FROM records WHERE context = $1)",
        )
        .bind(context.to_string())
        .fetch_one(&self.db)
        .await?;
        Ok(count > 0)
    }

    /// The records of a circle whose keys were destroyed; only those that its log does not say yet,
    /// if it is asked so.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn erased_records(
        &self,
        context: ContextId,
        only_unlogged: bool,
    ) -> Result<BTreeSet<RecordRef>, StoreError> {
        let rows = query(
            "SELECT record, version FROM erased \
             WHERE context = $1 AND (logged_at IS NULL OR NOT $2)",
        )
        .bind(context.to_string())
        .bind(only_unlogged)
        .fetch_all(&self.db)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(RecordRef {
                    record: read("a record", row.try_get("record")?)?,
                    version: row.try_get("version")?,
                })
            })
            .collect()
    }

    /// The circles whose logs do not say yet what was erased there.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn circles_with_unlogged_erasures(&self) -> Result<Vec<ContextId>, StoreError> {
        let contexts = query_scalar::<String>(
            "SELECT DISTINCT context FROM erased WHERE logged_at IS NULL ORDER BY context",
        );
        let contexts = contexts.fetch_all(&self.db).await?;
        let contexts = contexts.iter().map(|text| read("a context", text));
        contexts.collect()
    }

    /// Notes that the circle's log says that these were erased.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn erasure_logged(
        &self,
        context: ContextId,
        records: &[RecordRef],
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        for what in records {
            query(
                "UPDATE erased SET logged_at = $4 \
                 WHERE context = $1 AND record = $2 AND version = $3",
            )
            .bind(context.to_string())
            .bind(what.record.to_string())
            .bind(what.version)
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        }
        Ok(())
    }
}
