//! Batches and their way to the chain.
//!
//! `sealed` → `placed` (every leaf's position is in its context) → `submitted` (the intent is here
//! before anything is sent) → `anchored`. A batch whose transaction cannot land, or that the chain
//! no longer has, goes back to `placed` and is prepared anew; its root stays what it is. One that
//! is not placed yet can be dissolved, and its consents are sealed again. One that is placed never
//! is: its root and the number of its leaves are enough to send it, and its circles have the paths.

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::{Block, BlockHash, BlockNumber, TransactionHash};
use medsync_protocol::tree::{Leaf, Root};

use super::consents::ConsentLeaf;
use super::db::{Row, query, query_rows, query_scalar};
use super::fees::note_sent;
use super::held::LeftOut;
use super::log::HeadLeaf;
use super::tickets::TicketRow;
use super::{Store, StoreError, json, read, read_json, signed, unsigned};

/// The number of a batch in this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub i64);

/// How far a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    /// Its leaves and their order are fixed.
    Sealed,
    /// Each leaf's position is in its context.
    Placed,
    /// The intent to send is durable; the transaction may be out.
    Submitted,
    /// The chain has the root.
    Anchored,
}

impl BatchState {
    /// The name in the store and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Placed => "placed",
            Self::Submitted => "submitted",
            Self::Anchored => "anchored",
        }
    }

    fn named(name: &str) -> Result<Self, StoreError> {
        [Self::Sealed, Self::Placed, Self::Submitted, Self::Anchored]
            .into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| StoreError::Corrupt {
                what: "a batch state",
                why: name.into(),
            })
    }
}

/// A batch.
#[derive(Clone, Debug)]
pub struct BatchRow {
    /// Its number.
    pub id: BatchId,
    /// Its root.
    pub root: Root,
    /// How many leaves it has, padding included; 0 of one that was taken over.
    pub leaf_count: u64,
    /// They, in order; nothing of one that was taken over, and of an old one: its consents have
    /// their paths.
    pub leaves: Vec<Leaf>,
    /// Whether there are leaves that cannot be read; there are none above then.
    pub is_unreadable: bool,
    /// How far it is.
    pub state: BatchState,
    /// When it was sealed.
    pub sealed_at: UnixSeconds,
    /// When its transaction was first sent.
    pub submitted_at: Option<UnixSeconds>,
    /// The prepared transaction, as the chain's side wrote it.
    pub intent: Option<String>,
    /// Its hash.
    pub transaction: Option<TransactionHash>,
    /// The block that has it.
    pub block: Option<(Block, UnixSeconds)>,
    /// Since when the chain says that it no longer has it, where it cannot be sent again.
    pub missing_since: Option<UnixSeconds>,
    /// What last went wrong.
    pub last_error: Option<String>,
}

/// How often a batch that landed at another time is told of again: whoever says other times without
/// end fills no circle.
const LANDINGS_MAX: u64 = 8;

/// What becomes of the consents of a batch that is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// They are sealed again.
    Sealed,
    /// The same, once it was looked up where they stand.
    LookedUp,
}

/// Whatever a batch takes in waited for one until now.
fn all_waited(what: &'static str, marked: u64, wanted: usize) -> Result<(), StoreError> {
    match u64::try_from(wanted).is_ok_and(|wanted| wanted == marked) {
        true => Ok(()),
        false => Err(StoreError::Absent {
            what,
            name: format!("that waits: {marked} of {wanted} do"),
        }),
    }
}

pub(super) fn batch(row: &Row) -> Result<BatchRow, StoreError> {
    let transaction: Option<String> = row.try_get("transaction_hash")?;
    let number: Option<i64> = row.try_get("block_number")?;
    let hash: Option<String> = row.try_get("block_hash")?;
    let time: Option<i64> = row.try_get("block_time")?;
    let state = BatchState::named(row.try_get("state")?)?;
    let block = match (number, hash, time) {
        (Some(number), Some(hash), Some(time)) if state == BatchState::Anchored => Some((
            Block {
                number: BlockNumber(unsigned(number)),
                hash: read::<BlockHash>("a block hash", &hash)?,
            },
            UnixSeconds(unsigned(time)),
        )),
        _ => None,
    };
    // Leaves that cannot be read lead nowhere, and the batch alone is broken.
    let leaves: Result<Vec<Leaf>, _> = read_json("leaves", row.try_get("leaves")?);
    Ok(BatchRow {
        id: BatchId(row.try_get("id")?),
        root: read("a root", row.try_get("root")?)?,
        leaf_count: unsigned(row.try_get("leaf_count")?),
        is_unreadable: leaves.is_err(),
        leaves: leaves.unwrap_or_default(),
        state,
        sealed_at: UnixSeconds(unsigned(row.try_get("sealed_at")?)),
        submitted_at: row
            .try_get::<Option<i64>, _>("submitted_at")?
            .map(unsigned)
            .map(UnixSeconds),
        intent: row.try_get("intent")?,
        transaction: transaction
            .map(|text| read("a transaction hash", &text))
            .transpose()?,
        block,
        missing_since: row
            .try_get::<Option<i64>, _>("missing_since")?
            .map(unsigned)
            .map(UnixSeconds),
        last_error: row.try_get("last_error")?,
    })
}

/// What is in a batch besides padding, each with its place.
#[derive(Debug, Default)]
pub struct Contents {
    /// Consents.
    pub consents: Vec<(ConsentLeaf, u64)>,
    /// Heads of logs.
    pub heads: Vec<HeadLeaf>,
    /// Reward tickets.
    pub tickets: Vec<(TicketRow, u64)>,
}

impl Store {
    /// Keeps a sealed batch with what is in it, all or nothing. What is in a batch already stops
    /// it.
    ///
    /// # Errors
    /// A database that refuses; nothing is then kept.
    pub async fn keep_batch(
        &self,
        root: Root,
        leaves: &[Leaf],
        contents: &Contents,
        now: UnixSeconds,
    ) -> Result<BatchId, StoreError> {
        let mut transaction = self.db.begin("keep_batch").await?;
        let id: i64 = query_scalar(
            "INSERT INTO batches (id, root, leaf_count, leaves, state, sealed_at) \
             SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3, 'sealed', $4 FROM batches RETURNING id",
        )
        .bind(root.to_string())
        .bind(signed(leaves.len() as u64))
        .bind(json("leaves", &leaves)?)
        .bind(signed(now.0))
        .fetch_one(&mut *transaction)
        .await?;
        let consents = contents.consents.iter().map(|(consent, position)| {
            let commitment = consent.commitment.to_string();
            [commitment.into(), id.into(), signed(*position).into()]
        });
        let marked = query_rows(
            "UPDATE consents SET batch = marked.column2, position = marked.column3 \
             FROM (VALUES {rows}) AS marked \
             WHERE commitment = marked.column1 AND batch IS NULL",
            consents,
        );
        let marked = marked.execute(&mut transaction).await?;
        all_waited("consent", marked, contents.consents.len())?;
        let ends = contents.heads.iter().map(|HeadLeaf { end, .. }| {
            [
                end.context.to_string().into(),
                end.author_key.to_string().into(),
                signed(end.seq.0).into(),
                id.into(),
            ]
        });
        query_rows(
            "UPDATE log SET head_batch = ends.column4 FROM (VALUES {rows}) AS ends \
             WHERE context = ends.column1 AND author_key = ends.column2 \
             AND seq <= ends.column3 AND head_batch IS NULL",
            ends,
        )
        .execute(&mut transaction)
        .await?;
        let heads = contents.heads.iter().map(|head| {
            let HeadLeaf { end, salt, .. } = head;
            [
                end.context.to_string().into(),
                end.author_key.to_string().into(),
                signed(end.seq.0).into(),
                end.digest.to_string().into(),
                salt.to_string().into(),
                id.into(),
                signed(head.position).into(),
            ]
        });
        query_rows(
            "INSERT INTO head_leaves (context, author_key, seq, digest, salt, batch, position) \
             VALUES {rows}",
            heads,
        )
        .execute(&mut transaction)
        .await?;
        let tickets = contents.tickets.iter().map(|(ticket, position)| {
            [
                ticket.pool_id.to_string().into(),
                ticket.handle.to_string().into(),
                id.into(),
                signed(*position).into(),
            ]
        });
        let marked = query_rows(
            "UPDATE tickets SET batch = marked.column3, position = marked.column4 \
             FROM (VALUES {rows}) AS marked \
             WHERE pool_id = marked.column1 AND handle = marked.column2 \
             AND batch IS NULL AND replaced_at IS NULL",
            tickets,
        );
        let marked = marked.execute(&mut transaction).await?;
        all_waited("ticket", marked, contents.tickets.len())?;
        transaction.commit().await?;
        Ok(BatchId(id))
    }

    /// Batches that are not anchored yet, in their order.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn open_batches(&self) -> Result<Vec<BatchRow>, StoreError> {
        let rows = query("SELECT * FROM batches WHERE state <> 'anchored' ORDER BY id")
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(batch).collect()
    }

    /// One batch.
    ///
    /// # Errors
    /// [`StoreError::Absent`] if there is none.
    pub async fn batch(&self, id: BatchId) -> Result<BatchRow, StoreError> {
        let row = query("SELECT * FROM batches WHERE id = $1")
            .bind(id.0)
            .fetch_optional(&self.db)
            .await?;
        let absent = || StoreError::Absent {
            what: "batch",
            name: id.0.to_string(),
        };
        batch(&row.ok_or_else(absent)?)
    }

    /// Moves a batch to a state without a transaction: placed for the first time, or again after
    /// its transaction failed. The last transaction's hash stays: it may have landed after all.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn place_batch(&self, id: BatchId, why: Option<&str>) -> Result<(), StoreError> {
        query("UPDATE batches SET state = 'placed', intent = NULL, last_error = $2 WHERE id = $1")
            .bind(id.0)
            .bind(why)
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Keeps the intent to send, before anything is sent.
    ///
    /// # Errors
    /// A database that refuses; nothing may then be sent.
    pub async fn intend_batch(
        &self,
        id: BatchId,
        intent: &str,
        transaction: TransactionHash,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut writing = self.db.begin("intend_batch").await?;
        query(
            "UPDATE batches SET state = 'submitted', intent = $2, transaction_hash = $3, \
             submitted_at = $4 WHERE id = $1",
        )
        .bind(id.0)
        .bind(intent)
        .bind(transaction.to_string())
        .bind(signed(now.0))
        .execute(&mut *writing)
        .await?;
        note_sent(&mut writing, "batch", transaction, now).await?;
        writing.commit().await?;
        Ok(())
    }

    /// Keeps the block that has the batch; its contexts are told next. If it was there before and
    /// was taken back, and is there at the same time again, they know.
    ///
    /// # Errors
    /// A database that refuses; nothing is then changed.
    pub async fn batch_landed(
        &self,
        id: BatchId,
        block: Block,
        time: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("batch_landed").await?;
        let elsewhere = query(
            "UPDATE batches SET block_number = $2, block_hash = $3, block_time = $4, \
             landings = landings + 1 WHERE id = $1 \
             AND (block_time IS NULL OR block_time <> $4) AND landings < $5",
        )
        .bind(id.0)
        .bind(signed(block.number.0))
        .bind(block.hash.to_string())
        .bind(signed(time.0))
        .bind(signed(LANDINGS_MAX))
        .execute(&mut *transaction)
        .await?;
        if elsewhere.rows_affected() > 0 {
            query(
                "UPDATE consents SET told_at = NULL, tell_after = 0, tell_failures = 0 \
                 WHERE batch = $1",
            )
            .bind(id.0)
            .execute(&mut *transaction)
            .await?;
        }
        query(
            "UPDATE batches SET state = 'anchored', intent = NULL, last_error = NULL \
             WHERE id = $1",
        )
        .bind(id.0)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Takes back that a batch is on chain: it is sent again.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn batch_lost(&self, id: BatchId) -> Result<(), StoreError> {
        query(
            "UPDATE batches SET state = 'placed', last_error = 'the chain no longer has it' \
             WHERE id = $1",
        )
        .bind(id.0)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Notes since when the chain says that it no longer has a batch that cannot be sent again;
    /// with nothing, that it has it.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn batch_is_missing(
        &self,
        id: BatchId,
        since: Option<UnixSeconds>,
    ) -> Result<(), StoreError> {
        query("UPDATE batches SET missing_since = $2 WHERE id = $1")
            .bind(id.0)
            .bind(since.map(|at| signed(at.0)))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Takes a batch apart that is not on chain and never will be: nothing was sent of it, or its
    /// leaves are not known here. What is `left_out` is not sealed again for a while: logs before
    /// their entries are there again, the others an hour and each time twice as long, up to a day.
    ///
    /// # Errors
    /// A database that refuses; nothing is then changed.
    pub async fn dissolve_batch(
        &self,
        id: BatchId,
        afterwards: Afterwards,
        left_out: &LeftOut,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("dissolve_batch").await?;
        left_out.leave_out(&mut transaction, now).await?;
        query(
            "UPDATE consents SET batch = NULL, position = NULL, proof = NULL, told_at = NULL, \
             place_is_unsure = $2 WHERE batch = $1",
        )
        .bind(id.0)
        .bind(afterwards == Afterwards::LookedUp)
        .execute(&mut *transaction)
        .await?;
        query("UPDATE log SET head_batch = NULL WHERE head_batch = $1")
            .bind(id.0)
            .execute(&mut *transaction)
            .await?;
        query("UPDATE tickets SET batch = NULL, position = NULL WHERE batch = $1")
            .bind(id.0)
            .execute(&mut *transaction)
            .await?;
        query("DELETE FROM head_leaves WHERE batch = $1")
            .bind(id.0)
            .execute(&mut *transaction)
            .await?;
        query("DELETE FROM batches WHERE id = $1")
            .bind(id.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Batches that are on chain, as far as is known, after a number.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn anchored_batches(
        &self,
        after: BatchId,
        len_max: u32,
    ) -> Result<Vec<BatchRow>, StoreError> {
        let rows = query(
            "SELECT * FROM batches WHERE state = 'anchored' AND id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after.0)
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(batch).collect()
    }

    /// Batches before a number, the latest first, without their leaves and intents.
    ///
    /// # Errors
    /// As [`Store::anchored_batches`].
    pub async fn batches_before(
        &self,
        before: Option<BatchId>,
        len_max: u32,
    ) -> Result<Vec<BatchRow>, StoreError> {
        let rows = query(
            "SELECT id, root, leaf_count, state, sealed_at, submitted_at, transaction_hash, \
             block_number, block_hash, block_time, missing_since, last_error, \
             '[]' AS leaves, CAST(NULL AS TEXT) AS intent \
             FROM batches WHERE id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(before.map_or(i64::MAX, |before| before.0))
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(batch).collect()
    }

    /// The batch that landed last, of those in blocks up to a time that are not missed already.
    ///
    /// # Errors
    /// As [`Store::anchored_batches`].
    pub async fn newest_anchored(
        &self,
        until: UnixSeconds,
    ) -> Result<Option<BatchRow>, StoreError> {
        let row = query(
            "SELECT * FROM batches WHERE state = 'anchored' AND block_time <= $1 \
             AND missing_since IS NULL \
             ORDER BY block_time DESC, block_number DESC, id DESC LIMIT 1",
        )
        .bind(signed(until.0))
        .fetch_optional(&self.db)
        .await?;
        row.as_ref().map(batch).transpose()
    }

    /// How many batches are in each state, and how many consents wait for one.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn anchoring_counts(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let mut counts = vec![(
            "consents_waiting".to_owned(),
            count(self, "SELECT COUNT(*) FROM consents WHERE batch IS NULL").await?,
        )];
        let rows = query("SELECT state, COUNT(*) AS n FROM batches GROUP BY state")
            .fetch_all(&self.db)
            .await?;
        for row in rows {
            let state: String = row.try_get("state")?;
            counts.push((format!("batches_{state}"), unsigned(row.try_get("n")?)));
        }
        for (what, sql) in [
            (
                "consents_untold",
                "SELECT COUNT(*) FROM consents JOIN batches ON consents.batch = batches.id \
                 WHERE batches.state = 'anchored' AND told_at IS NULL",
            ),
            (
                "revocations_on_their_way",
                "SELECT COUNT(*) FROM revocations WHERE state IN ('waiting', 'submitted')",
            ),
            (
                "claims_on_their_way",
                "SELECT COUNT(*) FROM claims WHERE claimed_at IS NULL AND refused IS NULL",
            ),
            (
                "claims_refused",
                "SELECT COUNT(*) FROM claims WHERE claimed_at IS NULL AND refused IS NOT NULL",
            ),
            (
                "revocations_held",
                "SELECT COUNT(*) FROM revocations WHERE state = 'held'",
            ),
        ] {
            counts.push((what.to_owned(), count(self, sql).await?));
        }
        Ok(counts)
    }

    /// Since when the oldest of what is under way waits, by what it is; nothing of what is not.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn oldest_waiting(&self) -> Result<Vec<(&'static str, UnixSeconds)>, StoreError> {
        let mut oldest = Vec::new();
        for (what, sql) in [
            (
                "consents_waiting",
                "SELECT MIN(ingested_at) FROM consents WHERE batch IS NULL",
            ),
            (
                "batches_open",
                "SELECT MIN(sealed_at) FROM batches WHERE state <> 'anchored'",
            ),
            (
                "revocations_on_their_way",
                "SELECT MIN(seen_at) FROM revocations WHERE state IN ('waiting', 'submitted')",
            ),
            (
                "claims_on_their_way",
                "SELECT MIN(brought_at) FROM claims WHERE claimed_at IS NULL AND refused IS NULL",
            ),
        ] {
            let since: Option<i64> = query_scalar(sql).fetch_one(&self.db).await?;
            oldest.extend(since.map(|since| (what, UnixSeconds(unsigned(since)))));
        }
        Ok(oldest)
    }
}

async fn count(store: &Store, sql: &'static str) -> Result<u64, StoreError> {
    let count: i64 = query_scalar(sql).fetch_one(&store.db).await?;
    Ok(unsigned(count))
}
