//! Reward pools, the tickets that a custodian issues, and those that were seen in a circle.
//!
//! A ticket is live until it was replaced: of one pool a circle is issued at most one live ticket,
//! and so is a patient's key, which the database itself holds to. A store that was restored takes
//! over whatever its circles have, and issues nothing beside it.

use medsync_protocol::ids::{Anchorer, ChainId, ContextId, ContractAddress, Salt, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::{PoolId, Ticket};

use super::batches::BatchId;
use super::db::{Row, query};
use super::{Private, Store, StoreError, read, signed, unsigned};
use crate::source::Pool;

const DAY_S: i64 = 24 * 60 * 60;

/// A pool as this store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRow {
    /// Its name on chain.
    pub id: PoolId,
    /// What it is.
    pub pool: Pool,
    /// How many tickets this custodian may have out; nothing if it issues none.
    pub quota: Option<u64>,
    /// Since when it issues no more.
    pub closed_at: Option<UnixSeconds>,
    /// How many are out.
    pub live: u64,
}

/// A consent for which a ticket is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueTicket {
    /// The pool.
    pub pool_id: PoolId,
    /// When nothing is claimed from it any more.
    pub claim_end: UnixSeconds,
    /// The circle.
    pub context: ContextId,
    /// The consent's handle.
    pub handle: Handle,
    /// Under which key it was granted.
    pub patient_key: PublicKey,
    /// When the consent ends; 0 is open-ended.
    pub not_after: UnixSeconds,
}

/// A ticket that this custodian issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketRow {
    /// Where it is told.
    pub context: ContextId,
    /// The pool that pays.
    pub pool_id: PoolId,
    /// The consent's handle.
    pub handle: Handle,
    /// When the claim comes too late.
    pub claim_until: UnixSeconds,
    /// The leaf's salt.
    pub salt: Salt,
    /// Its place in its batch.
    pub position: Option<u64>,
}

impl TicketRow {
    /// What this custodian promises by it.
    #[must_use]
    pub const fn ticket(&self, anchorer: Anchorer) -> Ticket {
        Ticket {
            pool_id: self.pool_id,
            anchorer,
            handle: self.handle,
            claim_until: self.claim_until,
            salt: self.salt,
        }
    }
}

/// A circle of which no live ticket of a pool is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithoutTicket {
    /// The circle.
    pub context: ContextId,
    /// Under which key its patient grants, if that was seen.
    pub patient_key: Option<PublicKey>,
    /// Whether nothing is read from it any more.
    pub is_stopped: bool,
}

impl WithoutTicket {
    /// Whether this key may have a ticket there that is not known here. A circle that was stopped
    /// before anybody was seen to enrol has none: else anybody could keep tickets from everybody.
    #[must_use]
    pub fn may_be_of(&self, patient_key: PublicKey) -> bool {
        match self.patient_key {
            Some(key) => key == patient_key,
            None => !self.is_stopped,
        }
    }
}

/// A live ticket whose consent was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedTicket {
    /// The pool.
    pub pool_id: PoolId,
    /// The contract that holds it.
    pub contract: ContractAddress,
    /// What was revoked.
    pub handle: Handle,
}

/// What a funder calls its pool.
const LABEL: Private = Private("a pool's label");

fn pool(store: &Store, row: &Row) -> Result<PoolRow, StoreError> {
    let number = |column| row.try_get::<Option<i64>, _>(column);
    let id: &str = row.try_get("pool_id")?;
    Ok(PoolRow {
        id: read("a pool", id)?,
        pool: Pool {
            contract: read("a contract", row.try_get("contract")?)?,
            funder: read("a funder", row.try_get("funder")?)?,
            nonce: read("a pool's number", row.try_get("nonce")?)?,
            recipient: read("a recipient", row.try_get("recipient")?)?,
            claim_end: UnixSeconds(unsigned(row.try_get("claim_end")?)),
            label: LABEL.read(store, id, row.try_get("label")?)?,
        },
        quota: number("quota")?.map(unsigned),
        closed_at: number("closed_at")?.map(unsigned).map(UnixSeconds),
        live: unsigned(row.try_get("live")?),
    })
}

fn ticket(row: &Row) -> Result<TicketRow, StoreError> {
    Ok(TicketRow {
        context: read("a context", row.try_get("context")?)?,
        pool_id: read("a pool", row.try_get("pool_id")?)?,
        handle: read("a handle", row.try_get("handle")?)?,
        claim_until: UnixSeconds(unsigned(row.try_get("claim_until")?)),
        salt: read("a salt", row.try_get("salt")?)?,
        position: row.try_get::<Option<i64>, _>("position")?.map(unsigned),
    })
}

impl Store {
    /// Keeps a pool that a circle makes known; what was kept first stays.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_pool(&self, chain_id: ChainId, pool: &Pool) -> Result<(), StoreError> {
        let id = pool.id(chain_id).to_string();
        let label = LABEL.seal(self, &id, pool.label.as_bytes())?;
        query(
            "INSERT INTO pools (pool_id, contract, funder, nonce, recipient, claim_end, label) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (pool_id) DO NOTHING",
        )
        .bind(id)
        .bind(pool.contract.to_string())
        .bind(pool.funder.to_string())
        .bind(pool.nonce.to_string())
        .bind(pool.recipient.to_string())
        .bind(signed(pool.claim_end.0))
        .bind(label)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// From now on this custodian issues up to `quota` tickets of a pool that is kept; with `None`
    /// it issues no more.
    ///
    /// # Errors
    /// A database that refuses; [`StoreError::Absent`] for a pool that is not kept.
    pub async fn issue_from(
        &self,
        pool: PoolId,
        quota: Option<u64>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let changed = query(
            "UPDATE pools SET quota = COALESCE($2, quota), \
             closed_at = CASE WHEN $2 IS NULL THEN COALESCE(closed_at, $3) END \
             WHERE pool_id = $1",
        )
        .bind(pool.to_string())
        .bind(quota.map(signed))
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        if changed.rows_affected() == 0 {
            let name = pool.to_string();
            return Err(StoreError::Absent { what: "pool", name });
        }
        Ok(())
    }

    /// Every pool, by its name on chain.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn pools(&self) -> Result<Vec<PoolRow>, StoreError> {
        let rows = query(
            "SELECT pools.*, (SELECT COUNT(*) FROM tickets \
             WHERE tickets.pool_id = pools.pool_id AND replaced_at IS NULL) AS live \
             FROM pools ORDER BY pool_id",
        )
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(|row| pool(self, row)).collect()
    }

    /// Circles that do not know an open pool of this custodian yet, those that are due.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn untold_pools(
        &self,
        len_max: u32,
        now: UnixSeconds,
    ) -> Result<Vec<(ContextId, PoolRow)>, StoreError> {
        let rows = query(
            "SELECT pools.*, 0 AS live, circles.context FROM pools JOIN circles \
             ON circles.kind = 'circle' AND circles.alarm IS NULL \
             LEFT JOIN pools_told ON pools_told.context = circles.context \
             AND pools_told.pool_id = pools.pool_id \
             WHERE quota IS NOT NULL AND closed_at IS NULL AND claim_end > $2 \
             AND told_at IS NULL AND COALESCE(not_before, 0) <= $2 \
             ORDER BY circles.context, pools.pool_id LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        let read_row = |row: &Row| {
            let context = read("a context", row.try_get("context")?)?;
            Ok((context, pool(self, row)?))
        };
        rows.iter().map(read_row).collect()
    }

    /// Notes that a circle knows a pool, or with `until` that it is told no sooner.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn pool_told(
        &self,
        context: ContextId,
        pool: PoolId,
        now: UnixSeconds,
        until: Option<UnixSeconds>,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO pools_told (context, pool_id, told_at, not_before) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (context, pool_id) \
             DO UPDATE SET told_at = excluded.told_at, not_before = excluded.not_before",
        )
        .bind(context.to_string())
        .bind(pool.to_string())
        .bind(until.is_none().then(|| signed(now.0)))
        .bind(until.map_or(0, |until| signed(until.0)))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Consents for which a ticket is due, the oldest first: in force under the patient's present
    /// key, to a pool's recipient, with a rule that allows something, in a circle that has no live
    /// ticket of the pool and whose patient's key has none elsewhere. A handle that somebody else
    /// granted with too is nobody's.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn due_tickets(
        &self,
        len_max: u32,
        now: UnixSeconds,
    ) -> Result<Vec<DueTicket>, StoreError> {
        let rows = query(
            "SELECT pools.pool_id, pools.claim_end, consents.context, consents.handle, \
             consents.patient_key, consents.not_after \
             FROM pools JOIN consents ON consents.grantee = pools.recipient \
             JOIN circles ON circles.context = consents.context \
             AND circles.party_key = consents.patient_key \
             WHERE pools.quota IS NOT NULL AND pools.closed_at IS NULL \
             AND pools.claim_end - pools.claim_end % $3 > $2 \
             AND circles.alarm IS NULL AND circles.held_until <= $2 \
             AND consents.permits AND consents.not_before <= $2 \
             AND (consents.not_after = 0 OR consents.not_after - consents.not_after % $3 > $2) \
             AND pools.quota > (SELECT COUNT(*) FROM tickets \
             WHERE tickets.pool_id = pools.pool_id AND replaced_at IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM tickets WHERE tickets.pool_id = pools.pool_id \
             AND (tickets.handle = consents.handle OR (replaced_at IS NULL AND \
             (tickets.context = consents.context \
             OR tickets.patient_key = consents.patient_key)))) \
             AND NOT EXISTS (SELECT 1 FROM revocations \
             WHERE revocations.handle = consents.handle) \
             AND NOT EXISTS (SELECT 1 FROM consents AS others \
             WHERE others.handle = consents.handle AND (others.context <> consents.context \
             OR others.patient_key <> consents.patient_key)) \
             AND NOT EXISTS (SELECT 1 FROM revoked_elsewhere \
             WHERE revoked_elsewhere.handle = consents.handle) \
             AND NOT EXISTS (SELECT 1 FROM facts WHERE name = 'frozen:' || consents.context) \
             ORDER BY consents.ingested_at, consents.commitment LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .bind(DAY_S)
        .fetch_all(&self.db)
        .await?;
        let due = |row: &Row| {
            Ok(DueTicket {
                pool_id: read("a pool", row.try_get("pool_id")?)?,
                claim_end: UnixSeconds(unsigned(row.try_get("claim_end")?)),
                context: read("a context", row.try_get("context")?)?,
                handle: read("a handle", row.try_get("handle")?)?,
                patient_key: read("a key", row.try_get("patient_key")?)?,
                not_after: UnixSeconds(unsigned(row.try_get("not_after")?)),
            })
        };
        rows.iter().map(due).collect()
    }

    /// The circles that have no live ticket of a pool here.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn circles_without_ticket(
        &self,
        pool: PoolId,
    ) -> Result<Vec<WithoutTicket>, StoreError> {
        let rows = query(
            "SELECT context, party_key, alarm FROM circles WHERE kind = 'circle' AND NOT EXISTS \
             (SELECT 1 FROM tickets WHERE tickets.pool_id = $1 AND replaced_at IS NULL \
             AND tickets.context = circles.context) ORDER BY context",
        )
        .bind(pool.to_string())
        .fetch_all(&self.db)
        .await?;
        let circle = |row: &Row| {
            let key: Option<String> = row.try_get("party_key")?;
            Ok(WithoutTicket {
                context: read("a context", row.try_get("context")?)?,
                patient_key: key.map(|key| read("a key", &key)).transpose()?,
                is_stopped: row.try_get::<Option<String>, _>("alarm")?.is_some(),
            })
        };
        rows.iter().map(circle).collect()
    }

    /// Keeps a ticket, within the pool's quota less what is kept free; answers whether it is
    /// issued. One that the circle or the key has already, or a quota that is used up, issues
    /// nothing.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_issued(
        &self,
        due: &DueTicket,
        ticket: &Ticket,
        kept_free: u64,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        let kept = query(
            "INSERT INTO tickets (pool_id, handle, context, patient_key, claim_until, salt, \
             issued_at) SELECT $1, $2, $3, $4, $5, $6, $7 WHERE \
             (SELECT COUNT(*) FROM tickets WHERE pool_id = $1 AND replaced_at IS NULL) + $8 < \
             (SELECT quota FROM pools WHERE pool_id = $1 AND closed_at IS NULL) \
             ON CONFLICT DO NOTHING",
        )
        .bind(due.pool_id.to_string())
        .bind(due.handle.to_string())
        .bind(due.context.to_string())
        .bind(due.patient_key.to_string())
        .bind(signed(ticket.claim_until.0))
        .bind(ticket.salt.to_string())
        .bind(signed(now.0))
        .bind(signed(kept_free))
        .execute(&self.db)
        .await?;
        Ok(kept.rows_affected() > 0)
    }

    /// Live tickets whose consent's revocation is held here and on chain, of which it is not known
    /// that they were claimed, those that were not asked about since.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn revoked_tickets(
        &self,
        len_max: u32,
        not_since: UnixSeconds,
    ) -> Result<Vec<RevokedTicket>, StoreError> {
        let rows = query(
            "SELECT tickets.pool_id, pools.contract, tickets.handle \
             FROM tickets JOIN pools ON pools.pool_id = tickets.pool_id \
             JOIN revocations ON revocations.handle = tickets.handle \
             WHERE replaced_at IS NULL AND tickets.claimed_at IS NULL \
             AND revocations.revoked_at IS NOT NULL AND checked_at <= $2 \
             ORDER BY tickets.checked_at, tickets.handle LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(not_since.0))
        .fetch_all(&self.db)
        .await?;
        let revoked = |row: &Row| {
            Ok(RevokedTicket {
                pool_id: read("a pool", row.try_get("pool_id")?)?,
                contract: read("a contract", row.try_get("contract")?)?,
                handle: read("a handle", row.try_get("handle")?)?,
            })
        };
        rows.iter().map(revoked).collect()
    }

    /// Makes room for another ticket in place of one that was revoked unclaimed.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn replace_ticket(
        &self,
        pool: PoolId,
        handle: Handle,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE tickets SET replaced_at = $3 WHERE pool_id = $1 AND handle = $2")
            .bind(pool.to_string())
            .bind(handle.to_string())
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Notes that a revoked ticket was asked about, and if it was claimed, when: it is not asked
    /// about again then.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn ticket_checked(
        &self,
        (pool, handle): (PoolId, Handle),
        claimed_at: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE tickets SET checked_at = $3, claimed_at = $4 \
             WHERE pool_id = $1 AND handle = $2",
        )
        .bind(pool.to_string())
        .bind(handle.to_string())
        .bind(signed(now.0))
        .bind(claimed_at.map(|at| signed(at.0)))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Issued tickets that are in no batch yet and may be sealed, the oldest first, and since when
    /// the oldest waits.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn waiting_tickets(
        &self,
        len_max: u32,
        now: UnixSeconds,
    ) -> Result<(Vec<TicketRow>, Option<UnixSeconds>), StoreError> {
        let rows = query(
            "SELECT tickets.* FROM tickets WHERE tickets.batch IS NULL AND replaced_at IS NULL \
             AND NOT EXISTS (SELECT 1 FROM revocations \
             WHERE revocations.handle = tickets.handle) \
             AND tickets.context NOT IN \
             (SELECT context FROM circles WHERE alarm IS NOT NULL OR held_until > $2) \
             ORDER BY issued_at, tickets.handle LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        let since = rows
            .first()
            .map(|row| row.try_get("issued_at"))
            .transpose()?;
        let tickets = rows.iter().map(ticket).collect::<Result<_, _>>()?;
        Ok((tickets, since.map(|at| UnixSeconds(unsigned(at)))))
    }

    /// A ticket that was issued in a circle.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn ticket_in(
        &self,
        context: ContextId,
        (pool, handle): (PoolId, Handle),
    ) -> Result<Option<TicketRow>, StoreError> {
        let row =
            query("SELECT * FROM tickets WHERE pool_id = $1 AND handle = $2 AND context = $3")
                .bind(pool.to_string())
                .bind(handle.to_string())
                .bind(context.to_string())
                .fetch_optional(&self.db)
                .await?;
        row.as_ref().map(ticket).transpose()
    }

    /// The tickets of a batch.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn tickets_in(&self, batch: BatchId) -> Result<Vec<TicketRow>, StoreError> {
        let rows = query("SELECT * FROM tickets WHERE batch = $1 ORDER BY position")
            .bind(batch.0)
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(ticket).collect()
    }
}
