//! Claims that patients brought, and their way to the chain.

use medsync_protocol::claim::Claim;
use medsync_protocol::ids::{ContextId, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;

use super::db::{Row, query};
use super::fees::note_sent;
use super::{Out, Private, Store, StoreError, json, read, read_json, signed, unsigned};

/// A claim's name: the ticket that it spends.
pub type ClaimName = (PoolId, Handle);

/// A claim that a patient brought.
#[derive(Clone, Debug)]
pub struct ClaimRow {
    /// What is sent.
    pub claim: Claim,
    /// The same as it lies in the store: another that was brought since is another text.
    kept: String,
    /// The contract that pays.
    pub contract: ContractAddress,
    /// When it was brought.
    pub brought_at: UnixSeconds,
    /// Why it was not taken when that was last tried.
    pub refused: Option<String>,
    /// The transaction that carries it, if one is out.
    pub out: Option<Out>,
    /// When it was paid, as the chain says.
    pub claimed_at: Option<UnixSeconds>,
}

impl ClaimRow {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> ClaimName {
        (self.claim.pool, self.claim.handle())
    }
}

/// Where a patient's reward goes, until the chain shows it.
const CLAIM: Private = Private("a claim");
/// The prepared transaction, which carries it.
const INTENT: Private = Private("a claim's transaction");

/// What a row's private values are sealed under.
fn key_of((pool, handle): ClaimName) -> String {
    format!("{pool}:{handle}")
}

fn claim(store: &Store, row: &Row) -> Result<ClaimRow, StoreError> {
    let pool: PoolId = read("a pool", row.try_get("pool_id")?)?;
    let handle: Handle = read("a handle", row.try_get("handle")?)?;
    let key = key_of((pool, handle));
    let kept: String = row.try_get("claim")?;
    let opened = CLAIM.open(store, &key, &kept)?;
    let claimed_at: Option<i64> = row.try_get("claimed_at")?;
    Ok(ClaimRow {
        claim: read_json(CLAIM.0, &String::from_utf8_lossy(&opened))?,
        kept,
        contract: read("a contract", row.try_get("contract")?)?,
        brought_at: UnixSeconds(unsigned(row.try_get("brought_at")?)),
        refused: row.try_get("refused")?,
        out: Out::of(store, row, (INTENT, &key))?,
        claimed_at: claimed_at.map(unsigned).map(UnixSeconds),
    })
}

impl Store {
    /// Keeps a claim of a circle's ticket, in the place of one that is not on its way. One whose
    /// predecessor was refused rests as long.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_claim(
        &self,
        context: ContextId,
        claim: &Claim,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let name = (claim.pool, claim.handle());
        let text = json(CLAIM.0, claim)?;
        query(
            "INSERT INTO claims (pool_id, handle, context, claim, claim_until, brought_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (pool_id, handle) DO UPDATE SET \
             claim = excluded.claim, brought_at = excluded.brought_at, refused = NULL, \
             claimed_at = NULL WHERE claims.transaction_hash IS NULL",
        )
        .bind(claim.pool.to_string())
        .bind(name.1.to_string())
        .bind(context.to_string())
        .bind(CLAIM.seal(self, &key_of(name), text.as_bytes())?)
        .bind(signed(claim.claim_until.0))
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// A claim that is kept.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn claim_of(
        &self,
        (pool, handle): ClaimName,
    ) -> Result<Option<ClaimRow>, StoreError> {
        let row = query(
            "SELECT claims.*, pools.contract FROM claims \
             JOIN pools ON pools.pool_id = claims.pool_id \
             WHERE claims.pool_id = $1 AND handle = $2",
        )
        .bind(pool.to_string())
        .bind(handle.to_string())
        .fetch_optional(&self.db)
        .await?;
        row.as_ref().map(|row| claim(self, row)).transpose()
    }

    /// Claims that are not paid: what is on its way, then what was last tried before a time, the
    /// longest ago first, but for what is over and was refused.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn open_claims(
        &self,
        (tried_before, now): (UnixSeconds, UnixSeconds),
        len_max: usize,
    ) -> Result<Vec<ClaimRow>, StoreError> {
        let rows = query(
            "SELECT claims.*, pools.contract FROM claims \
             JOIN pools ON pools.pool_id = claims.pool_id WHERE claimed_at IS NULL \
             AND (transaction_hash IS NOT NULL OR (tried_at <= $1 \
             AND (claim_until > $2 OR refused IS NULL OR tried_at < claim_until))) \
             ORDER BY transaction_hash IS NULL, tried_at, brought_at, handle LIMIT $3",
        )
        .bind(signed(tried_before.0))
        .bind(signed(now.0))
        .bind(signed(len_max as u64))
        .fetch_all(&self.db)
        .await?;
        let mut open = Vec::new();
        for row in &rows {
            match claim(self, row) {
                Err(error) if error.is_of_a_row() => {
                    tracing::error!(%error, "a claim is not sent: its patient can bring it again");
                }
                row => open.push(row?),
            }
        }
        Ok(open)
    }

    /// Keeps the intent to send one transaction for several claims, before it is sent; answers
    /// whether it is. It is not if another claim has taken the place of one of them: nothing may
    /// then be sent.
    ///
    /// # Errors
    /// A database that refuses; nothing may then be sent.
    pub async fn intend_claims(
        &self,
        rows: &[ClaimRow],
        (intent, hash): (&str, TransactionHash),
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.db.begin("intend_claims").await?;
        for row in rows {
            let name = row.name();
            let written = query(
                "UPDATE claims SET intent = $4, transaction_hash = $5, sent_at = $6, \
                 refused = NULL WHERE pool_id = $1 AND handle = $2 AND claim = $3",
            )
            .bind(name.0.to_string())
            .bind(name.1.to_string())
            .bind(&row.kept)
            .bind(INTENT.seal(self, &key_of(name), intent.as_bytes())?)
            .bind(hash.to_string())
            .bind(signed(now.0))
            .execute(&mut *transaction)
            .await?;
            if written.rows_affected() == 0 {
                return Ok(false);
            }
        }
        note_sent(&mut transaction, "claim", hash, now).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Notes why claims were not taken; nothing of theirs is on its way any more. What was brought
    /// in their place since is not meant.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn claims_refused(
        &self,
        rows: &[ClaimRow],
        why: &str,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("claims_refused").await?;
        for row in rows {
            query(
                "UPDATE claims SET refused = $4, tried_at = $5, intent = NULL, \
                 transaction_hash = NULL, sent_at = NULL \
                 WHERE pool_id = $1 AND handle = $2 AND claim = $3",
            )
            .bind(row.claim.pool.to_string())
            .bind(row.claim.handle().to_string())
            .bind(&row.kept)
            .bind(why)
            .bind(signed(now.0))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Notes that the chain says that a claim was paid, by whomever it was sent.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn claim_paid(
        &self,
        (pool, handle): ClaimName,
        at: UnixSeconds,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE claims SET claimed_at = $3, refused = NULL, intent = NULL, \
             transaction_hash = NULL, sent_at = NULL WHERE pool_id = $1 AND handle = $2",
        )
        .bind(pool.to_string())
        .bind(handle.to_string())
        .bind(signed(at.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }
}
