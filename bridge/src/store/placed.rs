//! Tickets with their places, as they were seen in a circle: evidence, and what a custodian brings
//! back into a circle that lost it.

use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::ticket::Ticket;

use super::db::{Open, Row, query};
use super::{Store, StoreError, json, read, read_json, signed, unsigned};
use crate::source::PlacedTicket;

fn placed(row: &Row) -> Result<PlacedTicket, StoreError> {
    Ok(PlacedTicket {
        ticket: Ticket {
            pool_id: read("a pool", row.try_get("pool_id")?)?,
            anchorer: read("an anchorer", row.try_get("anchorer")?)?,
            handle: read("a handle", row.try_get("handle")?)?,
            claim_until: UnixSeconds(unsigned(row.try_get("claim_until")?)),
            salt: read("a salt", row.try_get("salt")?)?,
        },
        root: read("a root", row.try_get("root")?)?,
        proof: read_json("a path", row.try_get("proof")?)?,
    })
}

impl Store {
    /// Keeps a ticket with its place, as a circle shows it. A custodian that issued it and whose
    /// store was restored since takes it over again: nobody gets another one for it.
    ///
    /// # Errors
    /// A database that refuses; nothing is then kept.
    pub async fn keep_ticket(
        &self,
        context: ContextId,
        seen: &PlacedTicket,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let ticket = &seen.ticket;
        let mut transaction = self.db.begin("keep_ticket").await?;
        query(
            "INSERT INTO placed_tickets (leaf, root, context, pool_id, anchorer, handle, \
             claim_until, salt, proof, seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             ON CONFLICT (leaf, root) DO NOTHING",
        )
        .bind(ticket.leaf().to_string())
        .bind(seen.root.to_string())
        .bind(context.to_string())
        .bind(ticket.pool_id.to_string())
        .bind(ticket.anchorer.to_string())
        .bind(ticket.handle.to_string())
        .bind(signed(ticket.claim_until.0))
        .bind(ticket.salt.to_string())
        .bind(json("a path", &seen.proof)?)
        .bind(signed(now.0))
        .execute(&mut *transaction)
        .await?;
        query(
            "INSERT INTO tickets (pool_id, handle, context, patient_key, claim_until, salt, \
             issued_at, batch, was_taken_over) SELECT $1, $2, $3, \
             COALESCE((SELECT patient_key FROM consents WHERE handle = $2 AND context = $3), ''), \
             $4, $5, $6, (SELECT id FROM batches WHERE root = $7), TRUE \
             FROM circles WHERE context = $3 AND member = custodian_member \
             ON CONFLICT (pool_id, handle) DO NOTHING",
        )
        .bind(ticket.pool_id.to_string())
        .bind(ticket.handle.to_string())
        .bind(context.to_string())
        .bind(signed(ticket.claim_until.0))
        .bind(ticket.salt.to_string())
        .bind(signed(now.0))
        .bind(seen.root.to_string())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The tickets of a circle with their places, as they were ever seen.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn placed_tickets(
        &self,
        context: ContextId,
    ) -> Result<Vec<PlacedTicket>, StoreError> {
        let rows =
            query("SELECT * FROM placed_tickets WHERE context = $1 ORDER BY seen_at, leaf, root")
                .bind(context.to_string())
                .fetch_all(&self.db)
                .await?;
        rows.iter().map(placed).collect()
    }

    /// Tickets that circles of this custodian lost, those that are due, and where.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn lost_tickets(
        &self,
        len_max: u32,
        now: UnixSeconds,
    ) -> Result<Vec<(ContextId, PlacedTicket)>, StoreError> {
        let rows = query(
            "SELECT placed_tickets.* FROM placed_tickets JOIN circles \
             ON circles.context = placed_tickets.context \
             AND circles.member = circles.custodian_member AND circles.alarm IS NULL \
             WHERE put_again_at <= $2 ORDER BY put_again_at, leaf, root LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        rows.iter()
            .map(|row| Ok((read("a context", row.try_get("context")?)?, placed(row)?)))
            .collect()
    }

    /// Notes that a circle has a lost ticket again.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn ticket_is_back(&self, lost: &PlacedTicket) -> Result<(), StoreError> {
        query("UPDATE placed_tickets SET put_again_at = NULL WHERE leaf = $1 AND root = $2")
            .bind(lost.ticket.leaf().to_string())
            .bind(lost.root.to_string())
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Notes that a circle did not take a lost ticket: none of its is written before `until`.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn tickets_wait(
        &self,
        context: ContextId,
        until: UnixSeconds,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE placed_tickets SET put_again_at = $2 \
             WHERE context = $1 AND put_again_at IS NOT NULL",
        )
        .bind(context.to_string())
        .bind(signed(until.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }
}

/// Has the tickets of a circle written again, as part of a transaction: all of them, because which
/// one went with a key is not known.
pub(super) async fn ask_for_tickets(
    connection: &mut Open,
    context: ContextId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    query("UPDATE placed_tickets SET put_again_at = COALESCE(put_again_at, $2) WHERE context = $1")
        .bind(context.to_string())
        .bind(signed(now.0))
        .execute(connection)
        .await?;
    Ok(())
}
