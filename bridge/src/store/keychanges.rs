//! Key changes: a key that was changed stays changed here, whatever a context shows.

use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::keychange::{ChangedBy, KeyChange, KeyHistory};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::signature::PublicKey;

use super::db::{Open, Row, Tx, query, query_scalar};
use super::{Store, StoreError, json, read, read_json, signed, unsigned};
use crate::source::{EntryKind, SignedKeyChange};

/// How many changes of one key by itself are kept: more say no more.
const OLD_KEPT_MAX: i64 = 2;
/// How many of the newest are looked at.
const NEWEST_MAX: i64 = 64;

fn change(row: &Row) -> Result<SignedKeyChange, StoreError> {
    Ok(SignedKeyChange {
        change: KeyChange {
            old_key: read("a key", row.try_get("old_key")?)?,
            new_key: read("a key", row.try_get("new_key")?)?,
            seq: unsigned(row.try_get("seq")?),
        },
        signature: read_json("a signature", row.try_get("signature")?)?,
    })
}

/// Consents that were seen and did not count may do so by the keys that count now.
async fn look_again_at_consents(
    transaction: &mut Tx,
    context: ContextId,
) -> Result<(), StoreError> {
    query(
        "DELETE FROM seen WHERE context = $1 AND kind = $2 AND content IS NULL \
         AND vanished_at IS NULL AND replaced_at IS NULL",
    )
    .bind(context.to_string())
    .bind(EntryKind::Consent.name())
    .execute(&mut **transaction)
    .await?;
    query("UPDATE circles SET consents_digest = NULL WHERE context = $1")
        .bind(context.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

impl Store {
    /// Keeps a change whose signature was checked; `is_there` says whether its context has it. Of
    /// one key no more than two are kept, which freeze everything; the recovery key's word is
    /// always kept.
    ///
    /// # Returns
    /// Whether it is kept.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_key_change(
        &self,
        context: ContextId,
        (signed_change, by): (&SignedKeyChange, ChangedBy),
        is_there: bool,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let change = signed_change.change;
        let mut transaction = self.db.begin("keep_key_change").await?;
        let was_known: bool = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM key_changes WHERE context = $1 AND seq = $2 \
             AND old_key = $3 AND new_key = $4 AND changed_by = $5)",
        )
        .bind(context.to_string())
        .bind(signed(change.seq))
        .bind(change.old_key.to_string())
        .bind(change.new_key.to_string())
        .bind(by.name())
        .fetch_one(&mut *transaction)
        .await?;
        let kept = query(
            "INSERT INTO key_changes (context, seq, old_key, new_key, changed_by, signature, \
             seen_at, published_at) SELECT $1, $2, $3, $4, $5, $6, $7, $8 \
             WHERE $5 = 'recovery' OR $9 > (SELECT COUNT(*) FROM key_changes \
             WHERE context = $1 AND seq = $2 AND old_key = $3 AND changed_by = 'old' \
             AND new_key <> $4) \
             ON CONFLICT (context, seq, old_key, new_key, changed_by) \
             DO UPDATE SET published_at = COALESCE(excluded.published_at, \
             key_changes.published_at)",
        )
        .bind(context.to_string())
        .bind(signed(change.seq))
        .bind(change.old_key.to_string())
        .bind(change.new_key.to_string())
        .bind(by.name())
        .bind(json("a signature", &signed_change.signature)?)
        .bind(signed(now.0))
        .bind(is_there.then(|| signed(now.0)))
        .bind(OLD_KEPT_MAX)
        .execute(&mut *transaction)
        .await?;
        let is_kept = kept.rows_affected() > 0;
        if is_kept && !was_known {
            look_again_at_consents(&mut transaction, context).await?;
        }
        transaction.commit().await?;
        Ok(is_kept)
    }

    /// An enrolled party's keys through time, by every change that was ever seen.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn key_history(
        &self,
        context: ContextId,
        enrolled: &Enrolment,
    ) -> Result<KeyHistory, StoreError> {
        let changes: Vec<_> = self
            .key_changes(context, enrolled)
            .await?
            .into_iter()
            .map(|(signed_change, by)| (signed_change.change, by))
            .collect();
        Ok(KeyHistory::of(enrolled.party_key, &changes))
    }

    /// Every change that is kept and signed, and by which key, in no order but their numbers'.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn key_changes(
        &self,
        context: ContextId,
        enrolled: &Enrolment,
    ) -> Result<Vec<(SignedKeyChange, ChangedBy)>, StoreError> {
        let rows = query("SELECT * FROM key_changes WHERE context = $1 ORDER BY seq")
            .bind(context.to_string())
            .fetch_all(&self.db)
            .await?;
        let mut changes = Vec::new();
        for row in &rows {
            let kept = change(row)?;
            let by = kept
                .change
                .signed_by(context, enrolled.recovery_key, &kept.signature);
            changes.extend(by.map(|by| (kept, by)));
        }
        Ok(changes)
    }

    /// Why a key change of a context cannot be read, if one cannot.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn unreadable_key_change(
        &self,
        context: ContextId,
    ) -> Result<Option<StoreError>, StoreError> {
        let rows = query("SELECT * FROM key_changes WHERE context = $1 ORDER BY seq")
            .bind(context.to_string())
            .fetch_all(&self.db)
            .await?;
        Ok(rows.iter().map(change).filter_map(Result::err).next())
    }

    /// The keys of a party that were replaced, with the time at which a change of each, or one that
    /// contradicts it, was first seen here.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn key_ends(
        &self,
        context: ContextId,
        enrolled: &Enrolment,
    ) -> Result<Vec<(PublicKey, UnixSeconds)>, StoreError> {
        let history = self.key_history(context, enrolled).await?;
        let mut ends = Vec::new();
        for (seq, key) in (0..).zip(history.keys) {
            let seen_at: Option<i64> = query_scalar(
                "SELECT MIN(seen_at) FROM key_changes \
                 WHERE context = $1 AND seq = $2 AND old_key = $3",
            )
            .bind(context.to_string())
            .bind(signed(seq))
            .bind(key.to_string())
            .fetch_one(&self.db)
            .await?;
            ends.extend(seen_at.map(|at| (key, UnixSeconds(unsigned(at)))));
        }
        Ok(ends)
    }

    /// The changes that made a party's keys what they are, in their order.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn counting_key_changes(
        &self,
        context: ContextId,
        enrolled: &Enrolment,
    ) -> Result<Vec<SignedKeyChange>, StoreError> {
        let history = self.key_history(context, enrolled).await?;
        let mut counting = self.key_changes(context, enrolled).await?;
        counting.retain(|(kept, _)| {
            let steps = history.keys.windows(2).zip(0..);
            steps.into_iter().any(|(keys, seq)| {
                let change = kept.change;
                (change.seq, change.old_key, change.new_key) == (seq, keys[0], keys[1])
            })
        });
        Ok(counting.into_iter().map(|(kept, _)| kept).collect())
    }

    /// The newest changes by a recovery key that were seen since then, at most 64, with their
    /// contexts.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn recovered_since(
        &self,
        since: UnixSeconds,
    ) -> Result<Vec<(ContextId, SignedKeyChange)>, StoreError> {
        let rows = query(
            "SELECT * FROM key_changes WHERE changed_by = 'recovery' AND seen_at >= $1 \
             ORDER BY seen_at DESC, seq DESC LIMIT $2",
        )
        .bind(signed(since.0))
        .bind(NEWEST_MAX)
        .fetch_all(&self.db)
        .await?;
        // What does not read is what `fsck` says.
        let readable = rows.iter().filter_map(|row| {
            let context = read("a context", row.try_get("context").ok()?).ok()?;
            Some((context, change(row).ok()?))
        });
        Ok(readable.collect())
    }

    /// Contexts that lack a key change, or lost one.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn contexts_with_unpublished_key_changes(
        &self,
    ) -> Result<Vec<ContextId>, StoreError> {
        query("SELECT DISTINCT context FROM key_changes WHERE published_at IS NULL")
            .fetch_all(&self.db)
            .await?
            .iter()
            .map(|row| read("a context", row.try_get("context")?))
            .collect()
    }

    /// Notes that a context has whatever it needs.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn key_changes_are_published(
        &self,
        context: ContextId,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE key_changes SET published_at = $2 \
             WHERE context = $1 AND published_at IS NULL",
        )
        .bind(context.to_string())
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }
}

/// Has the key changes of a context published again, as part of a transaction.
pub(super) async fn ask_for_key_changes(
    connection: &mut Open,
    context: ContextId,
) -> Result<(), StoreError> {
    query("UPDATE key_changes SET published_at = NULL WHERE context = $1")
        .bind(context.to_string())
        .execute(connection)
        .await?;
    Ok(())
}
