//! Revocations and their way to the chain.

use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;

use crate::source::Change;

use super::db::{Row, query, query_as, query_scalar};
use super::facts::ask_for_revocation;
use super::fees::note_sent;
use super::{Out, Private, Store, StoreError, read, signed, unsigned};

/// A revocation that was seen in a circle or made here.
#[derive(Clone, Debug)]
pub struct RevocationRow {
    /// What it opens.
    pub handle: Handle,
    /// The circle.
    pub context: ContextId,
    /// Opens the handle; published by the revocation itself.
    pub secret: RevocationSecret,
    /// Opens the handle together with the secret.
    pub claim_key: PublicKey,
    /// When it was first seen here.
    pub seen_at: UnixSeconds,
    /// The transaction that carries it, if one is out.
    pub out: Option<Out>,
    /// When the chain had it, and how sure that is.
    pub landed: Option<RevokedOnChain>,
}

/// What opens a handle, sealed under it until the chain shows it.
const SECRET: Private = Private("a revocation's secret");
/// The prepared transaction, which carries it.
const INTENT: Private = Private("a revocation's transaction");

fn revocation(store: &Store, row: &Row) -> Result<RevocationRow, StoreError> {
    let handle: &str = row.try_get("handle")?;
    let secret = SECRET.open(store, handle, row.try_get("secret")?)?;
    let revoked_at: Option<i64> = row.try_get("revoked_at")?;
    Ok(RevocationRow {
        handle: read("a handle", handle)?,
        context: read("a context", row.try_get("context")?)?,
        secret: RevocationSecret::parse(&String::from_utf8_lossy(&secret)).map_err(|why| {
            StoreError::Corrupt {
                what: SECRET.0,
                why: why.to_string(),
            }
        })?,
        claim_key: read("a claim key", row.try_get("claim_key")?)?,
        seen_at: UnixSeconds(unsigned(row.try_get("seen_at")?)),
        out: Out::of(store, row, (INTENT, handle))?,
        landed: revoked_at.map(|at| on_chain(at, row)).transpose()?,
    })
}

fn on_chain(revoked_at: i64, row: &Row) -> Result<RevokedOnChain, StoreError> {
    let said_at: Option<i64> = row.try_get("said_at")?;
    Ok(RevokedOnChain {
        revoked_at: UnixSeconds(unsigned(revoked_at)),
        said_at: UnixSeconds(unsigned(said_at.unwrap_or_default())),
        is_settled: row.try_get("is_settled")?,
    })
}

/// The most revocations of consents that nobody here knows which are relayed for one circle. Any
/// member can open handles without end; only those of consents are worth anybody's fees.
pub const UNKNOWN_RELAYED_MAX: u32 = 64;

/// Where a revocation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was made here: it goes out.
    Here,
    /// It is in a circle: it goes out if its consent is known or the circle has not had its share
    /// of others.
    Circle,
    /// The same, by this entry, which is noted as seen with it: should it vanish, it is brought
    /// back.
    Entry(Change),
}

/// What the chain says of a revocation; an endpoint may lie or be behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedOnChain {
    /// When the handle was opened, as the chain says.
    pub revoked_at: UnixSeconds,
    /// When the chain was first heard saying so.
    pub said_at: UnixSeconds,
    /// It said so again long after: what rests on the consent may be undone for good.
    pub is_settled: bool,
}

impl Store {
    /// How many revocations are kept of a circle that open the handle of no consent that is known.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn unknown_revocations(&self, context: ContextId) -> Result<u64, StoreError> {
        let count: i64 = query_scalar(
            "SELECT COUNT(*) FROM revocations WHERE context = $1 \
             AND handle NOT IN (SELECT handle FROM consents)",
        )
        .bind(context.to_string())
        .fetch_one(&self.db)
        .await?;
        Ok(unsigned(count))
    }

    /// Keeps a revocation for ever. One that is known is what it was, unless it was held and is
    /// made here now, and is mended if it did not open. One that is made here is asked for in its
    /// circle.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_revocation(
        &self,
        handle: Handle,
        context: ContextId,
        (secret, claim_key): (&RevocationSecret, PublicKey),
        origin: Origin,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let share = match origin {
            Origin::Here => i64::MAX,
            Origin::Circle | Origin::Entry(_) => i64::from(UNKNOWN_RELAYED_MAX),
        };
        let key = handle.to_string();
        let sealed = SECRET.seal(self, &key, secret.reveal_text().as_bytes())?;
        let mut transaction = self.db.begin("keep_revocation").await?;
        if let Origin::Entry(entry) = origin {
            query(
                "INSERT INTO seen (context, kind, entry_key, digest, first_seen_at, content) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (context, kind, entry_key) \
                 DO UPDATE SET content = excluded.content",
            )
            .bind(context.to_string())
            .bind(entry.kind.name())
            .bind(entry.key.to_string())
            .bind(entry.digest.to_string())
            .bind(signed(now.0))
            .bind(&key)
            .execute(&mut *transaction)
            .await?;
        }
        query(
            "INSERT INTO revocations (handle, context, secret, claim_key, seen_at, state) \
             SELECT $1, $2, $3, $4, $5, CASE WHEN handle_is_known OR $6 > share_used \
             THEN 'waiting' ELSE 'held' END FROM (SELECT \
             EXISTS (SELECT 1 FROM consents WHERE handle = $1) AS handle_is_known, \
             (SELECT COUNT(*) FROM revocations AS others WHERE others.context = $2 \
             AND others.state IN ('waiting', 'submitted', 'revoked') \
             AND others.handle NOT IN (SELECT handle FROM consents)) AS share_used) AS circle \
             WHERE TRUE ON CONFLICT (handle) DO UPDATE SET secret = excluded.secret, \
             claim_key = excluded.claim_key, state = CASE WHEN revocations.state = 'held' \
             THEN excluded.state ELSE revocations.state END",
        )
        .bind(&key)
        .bind(context.to_string())
        .bind(sealed)
        .bind(claim_key.to_string())
        .bind(signed(now.0))
        .bind(share)
        .execute(&mut *transaction)
        .await?;
        if matches!(origin, Origin::Here) {
            ask_for_revocation(&mut transaction, &key, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Revocations that the chain does not have yet, but for those that do not open, in the order
    /// in which they go out: what is on its way, then those of known consents before others, and of
    /// each circle one after the other in turns, so that no circle's keep another's waiting.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn open_revocations(&self, len_max: u32) -> Result<Vec<RevocationRow>, StoreError> {
        let rows = query(
            "SELECT * FROM (SELECT open.*, \
             ROW_NUMBER() OVER (PARTITION BY context, known ORDER BY seen_at, handle) AS turn \
             FROM (SELECT revocations.*, \
             handle IN (SELECT handle FROM consents) AS known FROM revocations \
             WHERE state IN ('waiting', 'submitted')) AS open) AS queue \
             ORDER BY transaction_hash IS NULL, known DESC, turn, seen_at, handle LIMIT $1",
        )
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        let mut open = Vec::new();
        for row in &rows {
            match revocation(self, row) {
                Err(error) if error.is_of_a_row() => {
                    tracing::error!(%error, "a revocation is not sent: `fsck --rebuild` mends it");
                }
                row => open.push(row?),
            }
        }
        Ok(open)
    }

    /// Whether a revocation is known here.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn has_revocation(&self, handle: Handle) -> Result<bool, StoreError> {
        let found = query_scalar("SELECT EXISTS (SELECT 1 FROM revocations WHERE handle = $1)")
            .bind(handle.to_string())
            .fetch_one(&self.db);
        found.await
    }

    /// Of a revocation that is known here, what the chain says of it.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn landing(
        &self,
        handle: Handle,
    ) -> Result<Option<Option<RevokedOnChain>>, StoreError> {
        let row =
            query("SELECT revoked_at, said_at, is_settled FROM revocations WHERE handle = $1")
                .bind(handle.to_string())
                .fetch_optional(&self.db)
                .await?;
        row.map(|row| {
            let revoked_at: Option<i64> = row.try_get("revoked_at")?;
            revoked_at.map(|at| on_chain(at, &row)).transpose()
        })
        .transpose()
    }

    /// Why a revocation of a circle does not open, if one does not.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn unreadable_revocation(
        &self,
        context: ContextId,
    ) -> Result<Option<StoreError>, StoreError> {
        let rows = query("SELECT * FROM revocations WHERE context = $1 ORDER BY handle")
            .bind(context.to_string())
            .fetch_all(&self.db)
            .await?;
        let read = rows.iter().map(|row| revocation(self, row));
        Ok(read.filter_map(Result::err).next())
    }

    /// The handles of revocations that the chain has.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn landed_revocations(&self) -> Result<Vec<Handle>, StoreError> {
        let handles: Vec<String> = query_scalar(
            "SELECT handle FROM revocations WHERE revoked_at IS NOT NULL ORDER BY handle",
        )
        .fetch_all(&self.db)
        .await?;
        handles.iter().map(|text| read("a handle", text)).collect()
    }

    /// The handles of a circle's revocations that should be in it.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn published_revocations(
        &self,
        context: ContextId,
    ) -> Result<Vec<Handle>, StoreError> {
        let handles: Vec<String> = query_scalar(
            "SELECT handle FROM revocations WHERE context = $1 AND state <> 'held' \
             ORDER BY handle",
        )
        .bind(context.to_string())
        .fetch_all(&self.db)
        .await?;
        handles.iter().map(|text| read("a handle", text)).collect()
    }

    /// How many revocations of a circle that go out the chain does not have yet.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn unlanded_revocations(&self, context: ContextId) -> Result<u64, StoreError> {
        let count: i64 = query_scalar(
            "SELECT COUNT(*) FROM revocations \
             WHERE context = $1 AND state IN ('waiting', 'submitted')",
        )
        .bind(context.to_string())
        .fetch_one(&self.db)
        .await?;
        Ok(unsigned(count))
    }

    /// A revocation that is known here.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn revocation(&self, handle: Handle) -> Result<Option<RevocationRow>, StoreError> {
        let row = query("SELECT * FROM revocations WHERE handle = $1")
            .bind(handle.to_string())
            .fetch_optional(&self.db)
            .await?;
        row.as_ref().map(|row| revocation(self, row)).transpose()
    }

    /// Keeps the intent to send one transaction for several revocations, before it is sent; with
    /// nothing, forgets an intent whose transaction cannot land.
    ///
    /// # Errors
    /// A database that refuses; nothing may then be sent.
    pub async fn intend_revocations(
        &self,
        handles: &[Handle],
        intent: Option<(&str, TransactionHash)>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("intend_revocations").await?;
        for handle in handles {
            let key = handle.to_string();
            let sealed = intent.map(|(payload, _)| INTENT.seal(self, &key, payload.as_bytes()));
            query(
                "UPDATE revocations SET state = $2, intent = $3, transaction_hash = $4, \
                 sent_at = $5 WHERE handle = $1",
            )
            .bind(key)
            .bind(if intent.is_some() {
                "submitted"
            } else {
                "waiting"
            })
            .bind(sealed.transpose()?)
            .bind(intent.map(|(_, hash)| hash.to_string()))
            .bind(intent.map(|_| signed(now.0)))
            .execute(&mut *transaction)
            .await?;
        }
        if let Some((_, hash)) = intent {
            note_sent(&mut transaction, "revocation", hash, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Notes when the chain says that it had a revocation, in the place of another time that it
    /// said before. Nothing on chain is of a time to come: what is said so is of now.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn revocation_landed(
        &self,
        handle: Handle,
        at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE revocations SET state = 'revoked', revoked_at = $2, said_at = $3, \
             is_settled = FALSE, intent = NULL, transaction_hash = NULL WHERE handle = $1",
        )
        .bind(handle.to_string())
        .bind(signed(at.min(now).0))
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Settles when the chain had a revocation: it said so again long after.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn settle_revocation(&self, handle: Handle) -> Result<(), StoreError> {
        query("UPDATE revocations SET is_settled = TRUE WHERE handle = $1")
            .bind(handle.to_string())
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Takes back that the chain had a revocation: it goes out again.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn revocation_lost(&self, handle: Handle) -> Result<(), StoreError> {
        query(
            "UPDATE revocations SET state = 'waiting', revoked_at = NULL, said_at = NULL, \
             is_settled = FALSE, intent = NULL, transaction_hash = NULL WHERE handle = $1",
        )
        .bind(handle.to_string())
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// What the chain says of a handle of which no revocation is known here.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn revoked_elsewhere(
        &self,
        handle: Handle,
    ) -> Result<Option<RevokedOnChain>, StoreError> {
        let row = query("SELECT * FROM revoked_elsewhere WHERE handle = $1")
            .bind(handle.to_string())
            .fetch_optional(&self.db)
            .await?;
        row.map(|row| on_chain(row.try_get("revoked_at")?, &row))
            .transpose()
    }

    /// Handles of which the chain said not after `said_until` that they are open, which is not
    /// settled; the oldest first. So are those of which it said so after `ahead`, to a clock that
    /// was wrong. What came into its circle since is looked after there.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn unsettled_handles(
        &self,
        (said_until, ahead): (UnixSeconds, UnixSeconds),
        len_max: usize,
    ) -> Result<Vec<Handle>, StoreError> {
        let handles: Vec<String> = query_scalar(
            "SELECT handle, said_at FROM revoked_elsewhere WHERE NOT is_settled \
             AND (said_at <= $1 OR said_at > $3) \
             AND handle NOT IN (SELECT handle FROM revocations) \
             UNION SELECT handle, said_at FROM revocations WHERE NOT is_settled \
             AND (said_at <= $1 OR said_at > $3) ORDER BY said_at, handle LIMIT $2",
        )
        .bind(signed(said_until.0))
        .bind(signed(len_max as u64))
        .bind(signed(ahead.0))
        .fetch_all(&self.db)
        .await?;
        handles.iter().map(|text| read("a handle", text)).collect()
    }

    /// Keeps that the chain says that a handle is open, in the place of what it said before, unless
    /// that is settled. Nothing is of a time to come.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_revoked_elsewhere(
        &self,
        handle: Handle,
        revoked_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO revoked_elsewhere (handle, revoked_at, said_at) VALUES ($1, $2, $3) \
             ON CONFLICT (handle) DO UPDATE SET revoked_at = excluded.revoked_at, \
             said_at = excluded.said_at WHERE NOT revoked_elsewhere.is_settled",
        )
        .bind(handle.to_string())
        .bind(signed(revoked_at.min(now).0))
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Handles that are open on chain by what nobody here knows, each with its circle, whose
    /// opening was not asked for since a time, and which are now noted as asked; the longest ago
    /// first.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn unopened_handles(
        &self,
        (since, now): (UnixSeconds, UnixSeconds),
        len_max: u32,
    ) -> Result<Vec<(Handle, ContextId)>, StoreError> {
        let rows: Vec<(String, String)> = query_as(
            "UPDATE revoked_elsewhere SET tried_at = $2 WHERE handle IN \
             (SELECT handle FROM revoked_elsewhere WHERE tried_at <= $1 \
             AND handle IN (SELECT handle FROM consents) \
             AND handle NOT IN (SELECT handle FROM revocations) \
             ORDER BY tried_at, handle LIMIT $3) \
             RETURNING handle, (SELECT MIN(context) FROM consents \
             WHERE consents.handle = revoked_elsewhere.handle)",
        )
        .bind(signed(since.0))
        .bind(signed(now.0))
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        let of = |(handle, context): (String, String)| {
            Ok((read("a handle", &handle)?, read("a context", &context)?))
        };
        rows.into_iter().map(of).collect()
    }

    /// Settles what the chain said: for good, or it does not say so any more.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn settle_revoked_elsewhere(
        &self,
        handle: Handle,
        is_revoked: bool,
    ) -> Result<(), StoreError> {
        let settle = if is_revoked {
            "UPDATE revoked_elsewhere SET is_settled = TRUE WHERE handle = $1"
        } else {
            "DELETE FROM revoked_elsewhere WHERE handle = $1 AND NOT is_settled"
        };
        query(settle)
            .bind(handle.to_string())
            .execute(&self.db)
            .await?;
        Ok(())
    }
}
