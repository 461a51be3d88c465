//! Releases: how far the handing over of each is, and what has to be erased of it.

use std::collections::{BTreeMap, BTreeSet};

use medsync_protocol::audit::{EntryDigest, RecordRef};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;

use super::db::{Row, query, query_scalar};
use super::{Store, StoreError, read, signed, unsigned};

/// How long a release rests of which something could not be written, in seconds.
const RELEASE_REST_S: u64 = 60;

/// How far a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseState {
    /// It is in the circle's log; no key has left.
    Logged,
    /// The recipient has it.
    Published,
    /// The recipient was told to erase it.
    Ordered,
    /// The recipient said that it did.
    Erased,
}

impl ReleaseState {
    const ALL: [Self; 4] = [Self::Logged, Self::Published, Self::Ordered, Self::Erased];

    /// The name in the store and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logged => "logged",
            Self::Published => "published",
            Self::Ordered => "ordered",
            Self::Erased => "erased",
        }
    }
}

/// A release of a custodian.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseRow {
    /// The RELEASED entry in the circle.
    pub logged_as: EntryDigest,
    /// The request that it answers.
    pub request: EntryDigest,
    /// The exchange.
    pub exchange: ContextId,
    /// The circle.
    pub circle: ContextId,
    /// How far it is.
    pub state: ReleaseState,
    /// The order to erase in the circle and in the exchange, once there is one.
    pub orders: Option<(EntryDigest, EntryDigest)>,
}

fn release(row: &Row) -> Result<ReleaseRow, StoreError> {
    let state: String = row.try_get("state")?;
    let order = |name| -> Result<Option<EntryDigest>, StoreError> {
        let text: Option<String> = row.try_get(name)?;
        text.map(|text| read("a digest", &text)).transpose()
    };
    Ok(ReleaseRow {
        logged_as: read("a digest", row.try_get("logged_as")?)?,
        request: read("a digest", row.try_get("request")?)?,
        exchange: read("a context", row.try_get("exchange")?)?,
        circle: read("a context", row.try_get("circle")?)?,
        state: ReleaseState::ALL
            .into_iter()
            .find(|known| known.name() == state)
            .ok_or(StoreError::Corrupt {
                what: "a release's state",
                why: state,
            })?,
        orders: order("order_in_circle")?.zip(order("order_in_exchange")?),
    })
}

fn record(row: &Row) -> Result<RecordRef, StoreError> {
    Ok(RecordRef {
        record: read("a record", row.try_get("record")?)?,
        version: row.try_get("version")?,
    })
}

/// By what a consent ends.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// It is over when this is opened.
    pub handle: Handle,
    /// From when on it is over; 0 is never.
    pub not_after: UnixSeconds,
    /// When it was heard that the recovery key replaced the key that had signed it.
    pub overruled_at: Option<UnixSeconds>,
}

impl Store {
    /// Notes which consents of a context the recovery key overruled: those under keys that it
    /// replaced, and under keys that came from them and are the patient's no more.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn overrule_consents(
        &self,
        context: ContextId,
        (keys, stolen): (&[PublicKey], &[PublicKey]),
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        if stolen.is_empty() {
            return Ok(());
        }
        let signed_by: Vec<String> = query_scalar(
            "SELECT DISTINCT patient_key FROM consents WHERE context = $1 AND overruled_at IS NULL",
        )
        .bind(context.to_string())
        .fetch_all(&self.db)
        .await?;
        let mut overruled = Vec::new();
        for text in signed_by {
            let key: PublicKey = read("a key", &text)?;
            if !keys.contains(&key) || stolen.contains(&key) {
                overruled.push(text);
            }
        }
        if overruled.is_empty() {
            return Ok(());
        }
        let mut transaction = self.db.begin("overrule_consents").await?;
        for key in overruled {
            query(
                "UPDATE consents SET overruled_at = $3 \
                 WHERE context = $1 AND patient_key = $2 AND overruled_at IS NULL",
            )
            .bind(context.to_string())
            .bind(key)
            .bind(signed(now.0))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// By what a consent that came from the circle ends.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn end_of_consent(&self, commitment: Commitment) -> Result<Option<End>, StoreError> {
        let row =
            query("SELECT handle, not_after, overruled_at FROM consents WHERE commitment = $1")
                .bind(commitment.to_string())
                .fetch_optional(&self.db)
                .await?;
        row.map(|row| {
            Ok(End {
                handle: read("a handle", row.try_get("handle")?)?,
                not_after: UnixSeconds(unsigned(row.try_get("not_after")?)),
                overruled_at: row
                    .try_get::<Option<i64>, _>("overruled_at")?
                    .map(|at| UnixSeconds(unsigned(at))),
            })
        })
        .transpose()
    }

    /// Keeps a release that is in the circle's log, before any key leaves.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_release(&self, row: &ReleaseRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO releases (logged_as, request, exchange, circle, state) \
             VALUES ($1, $2, $3, $4, 'logged') ON CONFLICT (logged_as) DO NOTHING",
        )
        .bind(row.logged_as.to_string())
        .bind(row.request.to_string())
        .bind(row.exchange.to_string())
        .bind(row.circle.to_string())
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// How many releases out of a circle, or into an exchange, are not erased yet.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn open_releases(&self, context: ContextId) -> Result<u64, StoreError> {
        let count: i64 = query_scalar(
            "SELECT COUNT(*) FROM releases WHERE (exchange = $1 OR circle = $1) \
             AND state <> 'erased'",
        )
        .bind(context.to_string())
        .fetch_one(&self.db)
        .await?;
        Ok(unsigned(count))
    }

    /// The releases that answer a request.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn releases_for(&self, request: EntryDigest) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = query("SELECT * FROM releases WHERE request = $1 ORDER BY logged_as")
            .bind(request.to_string())
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(release).collect()
    }

    /// The releases in a state that do not rest, in an order that never changes, those after
    /// `after`.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn releases_in(
        &self,
        state: ReleaseState,
        after: Option<EntryDigest>,
        now: UnixSeconds,
        len_max: u32,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        // A rest that is longer than any began before a clock was set back.
        let rows = query(
            "SELECT * FROM releases WHERE state = $1 AND logged_as > $2 \
             AND (rests_until <= $4 OR rests_until > $4 + $5) ORDER BY logged_as LIMIT $3",
        )
        .bind(state.name())
        .bind(after.map(|after| after.to_string()).unwrap_or_default())
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .bind(signed(RELEASE_REST_S))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(release).collect()
    }

    /// Lets a release rest, of which something could not be written.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn release_rests(
        &self,
        logged_as: EntryDigest,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE releases SET rests_until = $2 WHERE logged_as = $1")
            .bind(logged_as.to_string())
            .bind(signed(now.0.saturating_add(RELEASE_REST_S)))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Releases that are to be handed over and were not tried since, the longest waiting first.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn releases_due(
        &self,
        not_since: UnixSeconds,
        len_max: u32,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        let rows = query(
            "SELECT * FROM releases WHERE state = 'logged' AND tried_at <= $1 \
             ORDER BY tried_at, logged_as LIMIT $2",
        )
        .bind(signed(not_since.0))
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(release).collect()
    }

    /// Notes that the exchange has a record of a release, or that it is left out for good; how many
    /// of its parts are there is then of no use any more.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_handed_over(
        &self,
        logged_as: EntryDigest,
        what: RecordRef,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO handed_over (logged_as, record, version) VALUES ($1, $2, $3) \
             ON CONFLICT (logged_as, record, version) DO NOTHING",
        )
        .bind(logged_as.to_string())
        .bind(what.record.to_string())
        .bind(what.version)
        .execute(&self.db)
        .await?;
        query("DELETE FROM carried_parts WHERE logged_as = $1 AND record = $2 AND version = $3")
            .bind(logged_as.to_string())
            .bind(what.record.to_string())
            .bind(what.version)
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Notes how many parts of a large record the exchange has.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_carried_parts(
        &self,
        logged_as: EntryDigest,
        what: RecordRef,
        parts: usize,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO carried_parts (logged_as, record, version, parts) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (logged_as, record, version) \
             DO UPDATE SET parts = excluded.parts",
        )
        .bind(logged_as.to_string())
        .bind(what.record.to_string())
        .bind(what.version)
        .bind(signed(parts as u64))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// The large records of a release that are under way, and how many parts of each the exchange
    /// has.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn carried_parts(
        &self,
        logged_as: EntryDigest,
    ) -> Result<BTreeMap<RecordRef, usize>, StoreError> {
        let rows = query("SELECT record, version, parts FROM carried_parts WHERE logged_as = $1")
            .bind(logged_as.to_string())
            .fetch_all(&self.db)
            .await?;
        rows.iter()
            .map(|row| Ok((record(row)?, unsigned(row.try_get("parts")?) as usize)))
            .collect()
    }

    /// The records of a release that need not be handed over any more.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn handed_over(
        &self,
        logged_as: EntryDigest,
    ) -> Result<BTreeSet<RecordRef>, StoreError> {
        let rows = query("SELECT record, version FROM handed_over WHERE logged_as = $1")
            .bind(logged_as.to_string())
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(record).collect()
    }

    /// Notes that handing a release over was tried.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn release_tried(
        &self,
        logged_as: EntryDigest,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE releases SET tried_at = $2 WHERE logged_as = $1")
            .bind(logged_as.to_string())
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Notes that a release is in the next state, and nothing of it under way any more; `orders`
    /// are the entries of an order to erase.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn release_is(
        &self,
        logged_as: EntryDigest,
        state: ReleaseState,
        orders: Option<(EntryDigest, EntryDigest)>,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE releases SET state = $2, order_in_circle = COALESCE($3, order_in_circle), \
             order_in_exchange = COALESCE($4, order_in_exchange) WHERE logged_as = $1",
        )
        .bind(logged_as.to_string())
        .bind(state.name())
        .bind(orders.map(|(circle, _)| circle.to_string()))
        .bind(orders.map(|(_, exchange)| exchange.to_string()))
        .execute(&self.db)
        .await?;
        query("DELETE FROM carried_parts WHERE logged_as = $1")
            .bind(logged_as.to_string())
            .execute(&self.db)
            .await?;
        Ok(())
    }
}
