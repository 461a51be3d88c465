//! What a store does not know that was restored from a backup: which counters were spent since,
//! what its own logs say, and where its consents stand on chain.

use std::collections::BTreeSet;

use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::receipt::{Block, BlockNumber};
use medsync_protocol::tree::{Proof, Root};

use super::batches::BatchState;
use super::consents::COUNTER_STEP;
use super::db::{query, query_scalar};
use super::{Store, StoreError, json, read, read_json, signed, unsigned};

/// Under which name it is kept when this store was restored, each time.
const RESTORED_AT: &str = "restored_at";

/// Under which name it is kept that a context's own log was not read since the store was restored.
fn log_fact(context: ContextId) -> String {
    format!("log_unread:{context}")
}

/// Where a consent stands that was anchored before this store knew of it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The batch's root.
    pub root: Root,
    /// The path to it.
    pub proof: Proof,
    /// The block.
    pub block: Block,
    /// Its time.
    pub anchored_at: UnixSeconds,
    /// Whether the circle knows the block.
    pub is_told: bool,
}

/// A consent of which it is not known where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Unsure {
    /// Which.
    pub commitment: Commitment,
    /// Since when it is found to stand nowhere, if it is.
    pub nowhere_since: Option<UnixSeconds>,
    /// When it was first seen here.
    pub seen_at: UnixSeconds,
}

impl Store {
    /// Notes that this store was restored from a backup. A step for a second is skipped of the
    /// counters, since nobody grants faster; everything is read again.
    ///
    /// # Errors
    /// A database that refuses; it is then done again.
    pub async fn was_restored(&self, now: UnixSeconds) -> Result<(), StoreError> {
        let mut times = self.restored_at().await?;
        times.push(now);
        self.state_fact(RESTORED_AT, &json("times", &times)?)
            .await?;
        for context in self.circle_contexts().await? {
            self.state_fact(&log_fact(context), "unread").await?;
        }
        for batch in self.open_batches().await? {
            // It may have been taken apart since; one that was placed never is.
            if batch.state == BatchState::Sealed {
                self.take_apart(batch.id, now).await?;
            }
        }
        let mut transaction = self.db.begin("was_restored").await?;
        query("UPDATE consents SET place_is_unsure = TRUE WHERE batch IS NULL")
            .execute(&mut *transaction)
            .await?;
        query("UPDATE circles SET state_hash = NULL, consents_digest = NULL")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// When this store was restored, each time that it knows of: a backup knows of those before it.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn restored_at(&self) -> Result<Vec<UnixSeconds>, StoreError> {
        let times = self.fact(RESTORED_AT).await?;
        times.map_or(Ok(Vec::new()), |text| read_json("times", &text))
    }

    /// Below which number no counter is spent.
    pub(super) async fn counter_floor(&self) -> Result<u64, StoreError> {
        let last = self.restored_at().await?.into_iter().max();
        Ok(last.map_or(0, |UnixSeconds(at)| at.saturating_mul(COUNTER_STEP)))
    }

    /// Whether this home may have signed entries of a context's log of which this store does not
    /// know.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn is_log_unread(&self, context: ContextId) -> Result<bool, StoreError> {
        let fact = self.fact(&log_fact(context)).await?;
        Ok(fact.is_some_and(|said| !said.is_empty()))
    }

    /// Notes that the own log was read from its context.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn log_is_read(&self, context: ContextId) -> Result<(), StoreError> {
        if self.is_log_unread(context).await? {
            self.state_fact(&log_fact(context), "").await?;
        }
        Ok(())
    }

    /// Circles that go on, with consents of which it is not known where they stand and that are
    /// looked up now.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn contexts_with_unsure_places(
        &self,
        now: UnixSeconds,
    ) -> Result<Vec<ContextId>, StoreError> {
        let contexts: Vec<String> = query_scalar(
            "SELECT DISTINCT context FROM consents WHERE place_is_unsure AND look_up_at <= $1 \
             AND context NOT IN (SELECT context FROM circles WHERE alarm IS NOT NULL)",
        )
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        let contexts = contexts.iter();
        contexts.map(|text| read("a context", text)).collect()
    }

    /// Those consents of a circle.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn unsure_consents(
        &self,
        context: ContextId,
        now: UnixSeconds,
    ) -> Result<Vec<Unsure>, StoreError> {
        let rows = query(
            "SELECT commitment, nowhere_since, ingested_at FROM consents WHERE context = $1 \
             AND place_is_unsure AND look_up_at <= $2 ORDER BY commitment",
        )
        .bind(context.to_string())
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        let unsure = rows.iter().map(|row| {
            let since: Option<i64> = row.try_get("nowhere_since")?;
            Ok(Unsure {
                commitment: read("a commitment", row.try_get("commitment")?)?,
                nowhere_since: since.map(unsigned).map(UnixSeconds),
                seen_at: UnixSeconds(unsigned(row.try_get("ingested_at")?)),
            })
        });
        unsure.collect()
    }

    /// Notes since when a consent is found to stand nowhere, if it is, and when it is looked up
    /// again.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn stands_nowhere(
        &self,
        commitment: Commitment,
        since: Option<UnixSeconds>,
        again: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE consents SET nowhere_since = $2, look_up_at = $3 WHERE commitment = $1")
            .bind(commitment.to_string())
            .bind(since.map(|since| signed(since.0)))
            .bind(signed(again.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// The roots of all batches that are known to be this party's: its own, and those in which its
    /// circles show logs and tickets.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn known_roots(&self) -> Result<BTreeSet<Root>, StoreError> {
        let roots: Vec<String> = query_scalar(
            "SELECT root FROM batches UNION SELECT root FROM heads \
             UNION SELECT root FROM placed_tickets",
        )
        .fetch_all(&self.db)
        .await?;
        roots.iter().map(|text| read("a root", text)).collect()
    }

    /// The first block that is known to have a batch.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn first_anchored_block(&self) -> Result<BlockNumber, StoreError> {
        let first: Option<i64> =
            query_scalar("SELECT MIN(block_number) FROM batches WHERE state = 'anchored'")
                .fetch_one(&self.db)
                .await?;
        Ok(BlockNumber(first.map_or(0, unsigned)))
    }

    /// Notes where a consent stands, or that it stands nowhere and may be sealed.
    ///
    /// # Errors
    /// A database that refuses; nothing is then changed.
    pub async fn place_is(
        &self,
        commitment: Commitment,
        place: Option<&Place>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("place_is").await?;
        if let Some(place) = place {
            query(
                "INSERT INTO batches (id, root, leaf_count, leaves, state, sealed_at, \
                 block_number, block_hash, block_time) SELECT COALESCE(MAX(id), 0) + 1, $1, 0, \
                 '[]', 'anchored', $4, $2, $3, $4 FROM batches WHERE TRUE \
                 ON CONFLICT (root) DO NOTHING",
            )
            .bind(place.root.to_string())
            .bind(signed(place.block.number.0))
            .bind(place.block.hash.to_string())
            .bind(signed(place.anchored_at.0))
            .execute(&mut *transaction)
            .await?;
            query(
                "UPDATE consents SET batch = (SELECT id FROM batches WHERE root = $2), \
                 position = $3, proof = $4, told_at = $5 WHERE commitment = $1 AND batch IS NULL",
            )
            .bind(commitment.to_string())
            .bind(place.root.to_string())
            .bind(signed(place.proof.index))
            .bind(json("a path", &place.proof)?)
            .bind(place.is_told.then(|| signed(now.0)))
            .execute(&mut *transaction)
            .await?;
        }
        query(
            "UPDATE consents SET place_is_unsure = FALSE, nowhere_since = NULL, look_up_at = 0 \
             WHERE commitment = $1",
        )
        .bind(commitment.to_string())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
