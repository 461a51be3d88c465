//! What the store keeps no longer than it needs it. Evidence, pins and keys are none of that.

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::tree::Tree;

use super::batches::batch;
use super::consents::ConsentLeaf;
use super::db::{Value, query, query_rows};
use super::{Store, StoreError, json, signed};

impl Store {
    /// Gives up the padding and the order of one batch that is on chain since before a time: each
    /// consent in it keeps its own path. Only of a batch that its circles show whole: consents were
    /// told, heads and tickets were seen in their places. Answers whether there was one.
    ///
    /// # Errors
    /// A database that refuses, or a batch that does not fit together; nothing is then changed.
    pub async fn compact_batch(&self, before: UnixSeconds) -> Result<bool, StoreError> {
        let row = query(
            "SELECT * FROM batches WHERE state = 'anchored' AND block_time < $1 \
             AND leaves <> '[]' \
             AND NOT EXISTS (SELECT 1 FROM consents \
             WHERE batch = batches.id AND told_at IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM head_leaves AS own WHERE own.batch = batches.id \
             AND NOT EXISTS (SELECT 1 FROM heads WHERE heads.root = batches.root \
             AND heads.context = own.context AND heads.author_key = own.author_key \
             AND heads.seq = own.seq)) \
             AND NOT EXISTS (SELECT 1 FROM tickets WHERE tickets.batch = batches.id \
             AND NOT EXISTS (SELECT 1 FROM placed_tickets AS placed \
             WHERE placed.root = batches.root AND placed.pool_id = tickets.pool_id \
             AND placed.handle = tickets.handle)) ORDER BY id LIMIT 1",
        )
        .bind(signed(before.0))
        .fetch_optional(&self.db)
        .await?;
        let Some(row) = row else { return Ok(false) };
        let batch = batch(&row)?;
        let corrupt = |why: &str| StoreError::Corrupt {
            what: "a batch",
            why: format!("{}: {why}", batch.id.0),
        };
        let tree = Tree::build(&batch.leaves).map_err(|error| corrupt(&error.to_string()))?;
        if tree.root() != batch.root {
            return Err(corrupt("its leaves lead to another root"));
        }
        let consents = self.consents_in(batch.id).await?;
        let path = |consent: &ConsentLeaf| -> Result<[Value; 2], StoreError> {
            let proof = consent.position.and_then(|position| tree.proof(position));
            let proof = proof.filter(|proof| proof.includes(consent.leaf, batch.root));
            let proof = proof.ok_or_else(|| corrupt("a consent stands elsewhere"))?;
            let commitment = consent.commitment.to_string();
            Ok([commitment.into(), json("a path", &proof)?.into()])
        };
        let paths = consents.iter().map(path).collect::<Result<Vec<_>, _>>()?;
        let mut transaction = self.db.begin("compact_batch").await?;
        query_rows(
            "UPDATE consents SET proof = own.column2 FROM (VALUES {rows}) AS own \
             WHERE commitment = own.column1",
            paths,
        )
        .execute(&mut transaction)
        .await?;
        query("UPDATE batches SET leaves = '[]' WHERE id = $1")
            .bind(batch.id.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Forgets what was asked of the daemon and done before a time; answers how much that was.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn forget_answered(&self, before: UnixSeconds) -> Result<u64, StoreError> {
        let forgotten = query("DELETE FROM outbox WHERE done_at < $1")
            .bind(signed(before.0))
            .execute(&self.db)
            .await?;
        Ok(forgotten.rows_affected())
    }
}
