//! What transactions cost, and how long each stage took, for who operates this.

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::TransactionHash;

use super::db::{Open, query, query_scalar};
use super::{Store, StoreError, read, signed, unsigned};

/// What was paid for so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// How many transactions, also such as had no effect.
    pub transactions: u64,
    /// Their fees, in 10^9 fri, of which 10^9 are one STRK.
    pub gfri: u64,
}

/// A stage, and how long each of the latest took to reach it from the one before, in seconds.
pub type StageTimes = (&'static str, Vec<u64>);

/// How long the latest took: what is looked at, and its stages, each a column.
const STAGES: [(&str, &[&str]); 3] = [
    (
        "SELECT sealed_at - ingested_at AS sealed, submitted_at - sealed_at AS submitted, \
         block_time - submitted_at AS anchored, told_at - block_time AS told \
         FROM consents JOIN batches ON consents.batch = batches.id \
         WHERE batches.state = 'anchored' ORDER BY batches.id DESC LIMIT $1",
        &["sealed", "submitted", "anchored", "told"],
    ),
    (
        "SELECT revoked_at - seen_at AS revoked FROM revocations \
         WHERE revoked_at IS NOT NULL ORDER BY revoked_at DESC LIMIT $1",
        &["revoked"],
    ),
    (
        "SELECT claimed_at - brought_at AS claimed FROM claims \
         WHERE claimed_at IS NOT NULL ORDER BY claimed_at DESC LIMIT $1",
        &["claimed"],
    ),
];

/// Keeps with an intent that its transaction is to be paid for.
pub(super) async fn note_sent(
    connection: &mut Open,
    what: &str,
    hash: TransactionHash,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO sent (transaction_hash, what, sent_at) VALUES ($1, $2, $3) \
         ON CONFLICT (transaction_hash) DO NOTHING",
    )
    .bind(hash.to_string())
    .bind(what)
    .bind(signed(now.0))
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Transactions that were sent whose fee is not known yet, and since when; those first that
    /// were asked about the longest ago.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn unpaid_for(
        &self,
        len_max: u32,
    ) -> Result<Vec<(TransactionHash, UnixSeconds)>, StoreError> {
        let rows = query(
            "SELECT transaction_hash, sent_at FROM sent \
             ORDER BY asked_at, sent_at, transaction_hash LIMIT $1",
        )
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        let mut sent = Vec::new();
        for row in &rows {
            let hash = read("a transaction hash", row.try_get("transaction_hash")?)?;
            sent.push((hash, UnixSeconds(unsigned(row.try_get("sent_at")?))));
        }
        Ok(sent)
    }

    /// Notes that what a transaction cost was asked for in vain.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn asked_in_vain(
        &self,
        hash: TransactionHash,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE sent SET asked_at = $2 WHERE transaction_hash = $1")
            .bind(hash.to_string())
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Counts what a transaction cost, in 10^9 fri, once; nothing of one that never lands.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn paid_for(
        &self,
        hash: TransactionHash,
        gfri: Option<u64>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("paid_for").await?;
        let what: Option<String> =
            query_scalar("DELETE FROM sent WHERE transaction_hash = $1 RETURNING what")
                .bind(hash.to_string())
                .fetch_optional(&mut *transaction)
                .await?;
        if let (Some(what), Some(gfri)) = (what, gfri) {
            query(
                "INSERT INTO fees (what, transactions, gfri) VALUES ($1, 1, $2) \
                 ON CONFLICT (what) DO UPDATE SET transactions = fees.transactions + 1, \
                 gfri = fees.gfri + excluded.gfri",
            )
            .bind(what)
            .bind(signed(gfri))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// What was paid so far, by what it was for.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn fees(&self) -> Result<Vec<(String, Paid)>, StoreError> {
        let rows = query("SELECT * FROM fees ORDER BY what").fetch_all(&self.db);
        let mut fees = Vec::new();
        for row in &rows.await? {
            let paid = Paid {
                transactions: unsigned(row.try_get("transactions")?),
                gfri: unsigned(row.try_get("gfri")?),
            };
            fees.push((row.try_get("what")?, paid));
        }
        Ok(fees)
    }

    /// How long the latest consents, revocations and claims took to each stage, in order of length.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn stage_times(&self, latest: u32) -> Result<Vec<StageTimes>, StoreError> {
        let mut stages = Vec::new();
        for (sql, columns) in STAGES {
            let rows = query(sql).bind(i64::from(latest)).fetch_all(&self.db);
            let rows = rows.await?;
            for column in columns {
                let mut took = Vec::new();
                for row in &rows {
                    // The chain's clock is another one, and a stage may have been passed over.
                    let seconds: Option<i64> = row.try_get(column)?;
                    took.extend(seconds.map(unsigned));
                }
                took.sort_unstable();
                stages.push((*column, took));
            }
        }
        Ok(stages)
    }
}
