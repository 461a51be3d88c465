//! Requests, releases and what an exchange was given; and a recipient's reply keys.
//!
//! What was asked and answered is in the logs. These tables say how far each answer is, so that a
//! custodian that died goes on where it was.

use medsync_protocol::audit::{EntryDigest, Pseudonym, RecordRef};
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::{ContextId, SealKey, UnixSeconds};
use medsync_protocol::seal::SealSecret;
use medsync_protocol::secrets::Handle;
use medsync_protocol::signature::PublicKey;

use super::db::{query, query_scalar};
use super::records::{RECORD_KEY, record_key, secret};
use super::{Private, Store, StoreError, read, signed, unsigned};

/// A recipient's key for what one request brings.
const REPLY_KEY: Private = Private("a reply key");

/// How far the answer to a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// Nothing is decided.
    New,
    /// It was permitted, and is being released.
    Permitted,
    /// All that is permitted is released.
    Answered,
    /// It was denied.
    Denied,
}

impl RequestState {
    /// The name in the store and for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Permitted => "permitted",
            Self::Answered => "answered",
            Self::Denied => "denied",
        }
    }
}

/// A request that a custodian has to answer.
#[derive(Clone, Copy, Debug)]
pub struct RequestRow {
    /// The recipient's entry in the exchange.
    pub request: EntryDigest,
    /// The exchange.
    pub exchange: ContextId,
    /// Whether it was permitted already.
    pub is_permitted: bool,
}

impl Store {
    /// By which name an exchange knows the patient of a circle; the first that was drawn stays.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn pseudonym(
        &self,
        exchange: ContextId,
        circle: ContextId,
        fresh: Pseudonym,
    ) -> Result<Pseudonym, StoreError> {
        query(
            "INSERT INTO pseudonyms (exchange, circle, pseudonym) VALUES ($1, $2, $3) \
             ON CONFLICT (exchange, circle) DO NOTHING",
        )
        .bind(exchange.to_string())
        .bind(circle.to_string())
        .bind(fresh.to_string())
        .execute(&self.db)
        .await?;
        let text: String =
            query_scalar("SELECT pseudonym FROM pseudonyms WHERE exchange = $1 AND circle = $2")
                .bind(exchange.to_string())
                .bind(circle.to_string())
                .fetch_one(&self.db)
                .await?;
        read("a pseudonym", &text)
    }

    /// Whose pseudonym this is in an exchange.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn circle_of(
        &self,
        exchange: ContextId,
        patient: Pseudonym,
    ) -> Result<Option<ContextId>, StoreError> {
        let circle: Option<String> =
            query_scalar("SELECT circle FROM pseudonyms WHERE exchange = $1 AND pseudonym = $2")
                .bind(exchange.to_string())
                .bind(patient.to_string())
                .fetch_optional(&self.db)
                .await?;
        circle.map(|text| read("a context", &text)).transpose()
    }

    /// Anchored consents whose receipts the exchange with their recipient was not given yet, with
    /// that exchange.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn uncarried_consents(
        &self,
        now: UnixSeconds,
        len_max: u32,
    ) -> Result<Vec<(ContextId, Commitment)>, StoreError> {
        let rows = query(
            "SELECT consents.commitment, circles.context AS exchange, ROW_NUMBER() OVER \
             (PARTITION BY circles.context, consents.context \
             ORDER BY consents.ingested_at, consents.commitment) AS turn FROM consents \
             JOIN batches ON consents.batch = batches.id AND batches.state = 'anchored' \
             JOIN circles ON circles.kind = 'exchange' AND circles.alarm IS NULL \
             AND circles.party_key = consents.grantee \
             AND circles.recipient_key = consents.grantee \
             WHERE NOT EXISTS (SELECT 1 FROM carried WHERE carried.exchange = circles.context \
             AND carried.commitment = consents.commitment) \
             AND NOT EXISTS (SELECT 1 FROM carry_waits WHERE not_before > $2 \
             AND carry_waits.exchange = circles.context \
             AND carry_waits.commitment = consents.commitment) \
             ORDER BY turn, consents.ingested_at, consents.commitment LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        rows.iter()
            .map(|row| {
                let exchange = read("a context", row.try_get("exchange")?)?;
                Ok((exchange, read("a commitment", row.try_get("commitment")?)?))
            })
            .collect()
    }

    /// Revoked consents whose receipts an exchange has, and whose revocations it has not.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn uncarried_revocations(
        &self,
        now: UnixSeconds,
        len_max: u32,
    ) -> Result<Vec<(ContextId, Commitment, Handle)>, StoreError> {
        let rows = query(
            "SELECT carried.exchange, carried.commitment, consents.handle, ROW_NUMBER() OVER \
             (PARTITION BY carried.exchange, consents.context \
             ORDER BY revocations.seen_at, carried.commitment) AS turn FROM carried \
             JOIN consents ON consents.commitment = carried.commitment \
             JOIN revocations ON revocations.handle = consents.handle \
             JOIN circles ON circles.context = carried.exchange AND circles.alarm IS NULL \
             WHERE NOT carried.revocation_too AND NOT EXISTS (SELECT 1 FROM carry_waits \
             WHERE not_before > $2 AND carry_waits.exchange = carried.exchange \
             AND carry_waits.commitment = carried.commitment) \
             ORDER BY turn, revocations.seen_at, carried.commitment LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    read("a context", row.try_get("exchange")?)?,
                    read("a commitment", row.try_get("commitment")?)?,
                    read("a handle", row.try_get("handle")?)?,
                ))
            })
            .collect()
    }

    /// Notes that an exchange has the receipt of a consent, and whether its revocation too.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn carried(
        &self,
        exchange: ContextId,
        consent: Commitment,
        revocation_too: bool,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO carried (exchange, commitment, revocation_too) VALUES ($1, $2, $3) \
             ON CONFLICT (exchange, commitment) \
             DO UPDATE SET revocation_too = excluded.revocation_too",
        )
        .bind(exchange.to_string())
        .bind(consent.to_string())
        .bind(revocation_too)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Requests in the exchanges' logs that are not answered, of each exchange one after the other
    /// in turns, the longest waiting first. `own` is the custodian's own author key, whose entries
    /// are no requests.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn open_requests(
        &self,
        own: PublicKey,
        len_max: u32,
    ) -> Result<Vec<RequestRow>, StoreError> {
        query(
            "INSERT INTO requests (request, exchange, state, tried_at) \
             SELECT log.digest, log.context, 'new', 0 FROM log \
             JOIN circles ON circles.context = log.context \
             WHERE log.kind = 'REQUESTED' AND circles.kind = 'exchange' \
             AND log.author_key <> $1 AND NOT EXISTS \
             (SELECT 1 FROM requests WHERE requests.request = log.digest)",
        )
        .bind(own.to_string())
        .execute(&self.db)
        .await?;
        let rows = query(
            "SELECT * FROM (SELECT requests.*, \
             ROW_NUMBER() OVER (PARTITION BY exchange ORDER BY tried_at, request) AS turn \
             FROM requests WHERE state IN ('new', 'permitted')) AS open \
             ORDER BY turn, tried_at, request LIMIT $1",
        )
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter()
            .map(|row| {
                let state: String = row.try_get("state")?;
                Ok(RequestRow {
                    request: read("a digest", row.try_get("request")?)?,
                    exchange: read("a context", row.try_get("exchange")?)?,
                    is_permitted: state == RequestState::Permitted.name(),
                })
            })
            .collect()
    }

    /// Counts a request about a patient, unless as many of this exchange were counted `since`; one
    /// that was counted stays so.
    ///
    /// # Returns
    /// Whether it is counted.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn counts_request(
        &self,
        request: EntryDigest,
        (exchange, circle): (ContextId, ContextId),
        (since, now): (UnixSeconds, UnixSeconds),
        count_max: u32,
    ) -> Result<bool, StoreError> {
        query(
            "UPDATE requests SET circle = $2, counted_at = $3 \
             WHERE request = $1 AND counted_at IS NULL AND $6 > (SELECT COUNT(*) FROM requests \
             WHERE exchange = $4 AND circle = $2 AND counted_at > $5)",
        )
        .bind(request.to_string())
        .bind(circle.to_string())
        .bind(signed(now.0))
        .bind(exchange.to_string())
        .bind(signed(since.0))
        .bind(i64::from(count_max))
        .execute(&self.db)
        .await?;
        let counted: i64 = query_scalar(
            "SELECT COUNT(*) FROM requests WHERE request = $1 AND counted_at IS NOT NULL",
        )
        .bind(request.to_string())
        .fetch_one(&self.db)
        .await?;
        Ok(counted > 0)
    }

    /// Notes how far a request is; nothing hinders it any more, and the others come first then.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn request_is(
        &self,
        request: EntryDigest,
        state: RequestState,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE requests SET state = $2, hindrance = NULL, tried_at = $3 WHERE request = $1")
            .bind(request.to_string())
            .bind(state.name())
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Notes what hinders a request, which stays where it is; the others come first then.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn request_hindered(
        &self,
        request: EntryDigest,
        why: &str,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE requests SET hindrance = $2, tried_at = $3 WHERE request = $1")
            .bind(request.to_string())
            .bind(why)
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Puts off what an exchange could not be given.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn carry_later(
        &self,
        exchange: ContextId,
        consent: Commitment,
        not_before: UnixSeconds,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO carry_waits (exchange, commitment, not_before) VALUES ($1, $2, $3) \
             ON CONFLICT (exchange, commitment) DO UPDATE SET not_before = excluded.not_before",
        )
        .bind(exchange.to_string())
        .bind(consent.to_string())
        .bind(signed(not_before.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// How many requests and releases are in each state, and what hinders requests.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn access_counts(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let rows = query(
            "SELECT 'requests_' || state AS what, COUNT(*) AS n FROM requests GROUP BY state \
             UNION ALL SELECT 'releases_' || state, COUNT(*) FROM releases GROUP BY state \
             ORDER BY 1",
        )
        .fetch_all(&self.db)
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("what")?, unsigned(row.try_get("n")?))))
            .collect()
    }

    /// The custodian's key for one version of a record; nothing once it was erased.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn record_secret(
        &self,
        circle: ContextId,
        what: RecordRef,
    ) -> Result<Option<SealSecret>, StoreError> {
        let sealed: Option<String> = query_scalar(
            "SELECT custodian_secret FROM record_keys \
             WHERE context = $1 AND record = $2 AND version = $3",
        )
        .bind(circle.to_string())
        .bind(what.record.to_string())
        .bind(i64::from(what.version))
        .fetch_optional(&self.db)
        .await?;
        let key = record_key(circle, &what.record.to_string(), what.version.into());
        sealed
            .map(|sealed| secret(self, RECORD_KEY, &key, &sealed))
            .transpose()
    }

    /// Keeps a reply key before anybody is asked to seal to it.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_reply_key(&self, key: &SealSecret) -> Result<(), StoreError> {
        let public = key.public_key().to_string();
        query("INSERT INTO reply_keys (public, secret) VALUES ($1, $2)")
            .bind(&public)
            .bind(REPLY_KEY.seal(self, &public, key.reveal())?)
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// The secret half of a reply key; nothing once it was destroyed.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn reply_key(&self, public: SealKey) -> Result<Option<SealSecret>, StoreError> {
        let public = public.to_string();
        let sealed: Option<String> =
            query_scalar("SELECT secret FROM reply_keys WHERE public = $1")
                .bind(&public)
                .fetch_optional(&self.db)
                .await?;
        sealed
            .map(|sealed| secret(self, REPLY_KEY, &public, &sealed))
            .transpose()
    }

    /// Destroys a reply key: overwritten, then gone from the file and its journal.
    ///
    /// # Errors
    /// A database that refuses; it is then done again.
    pub async fn destroy_reply_key(&self, public: SealKey) -> Result<(), StoreError> {
        query("DELETE FROM reply_keys WHERE public = $1")
            .bind(public.to_string())
            .execute(&self.db)
            .await?;
        self.scrub().await
    }
}

#[cfg(test)]
mod tests {
    use medsync_protocol::felt::Felt;

    use super::*;
    use crate::at_rest::HomeSecret;

    #[tokio::test]
    async fn hostile_heap_of_one_exchanges_requests_keeps_no_other_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = HomeSecret::from_bytes(&[7; 32]);
        let store = Store::open(folder.path(), &secret).await.expect("a store");
        let (flooding, other) = (ContextId([1; 32]), ContextId([2; 32]));
        // Its digests are ground to come first.
        let flood = (0x100..0x164_u64).map(|number| (flooding, number));
        for (exchange, digest) in flood.chain([(other, 0xfff)]) {
            query(
                "INSERT INTO requests (request, exchange, state, tried_at) \
                 VALUES ($1, $2, 'new', 0)",
            )
            .bind(EntryDigest::from_felt(Felt::from(digest)).to_string())
            .bind(exchange.to_string())
            .execute(&store.db)
            .await
            .expect("inserted");
        }
        let own = PublicKey::from_felt(Felt::ONE);
        let open = store.open_requests(own, 8).await.expect("requests");
        let of = |exchange| open.iter().filter(|row| row.exchange == exchange).count();
        assert_eq!((open.len(), of(flooding), of(other)), (8, 7, 1));
    }
}
