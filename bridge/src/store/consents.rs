//! Consents that count, and the patient's own grants.

use medsync_protocol::consent::{Commitment, Opening};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::secrets::{Counter, Handle};
use medsync_protocol::signature::{PublicKey, Signature};
use medsync_protocol::terms::Terms;
use medsync_protocol::tree::{Leaf, Proof};

use super::batches::BatchId;
use super::db::{Row, Tx, query, query_scalar};
use super::seen::note;
use super::{Private, Store, StoreError, json, read, read_json, signed, unsigned};
use crate::source::Change;

/// A consent whose signature and terms were verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRow {
    /// What is anchored of it, and where.
    pub leaf: ConsentLeaf,
    /// The terms' encoding.
    pub terms: Vec<u8>,
    /// What the commitment hides.
    pub opening: Opening,
    /// The patient's signature.
    pub signature: Signature,
    /// When it was written, by its writer's clock.
    pub recorded_at: UnixSeconds,
    /// Whether it may stand in a batch of which this store does not know.
    pub place_is_unsure: bool,
}

/// A consent as a leaf: all that the lanes to the chain need of it. Nothing of it is sealed, so
/// that one row that does not open keeps no other consent off the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentLeaf {
    /// The consent.
    pub commitment: Commitment,
    /// Its circle.
    pub context: ContextId,
    /// What revokes it opens this.
    pub handle: Handle,
    /// What is anchored.
    pub leaf: Leaf,
    /// The batch that it was sealed into.
    pub batch: Option<BatchId>,
    /// Its place there.
    pub position: Option<u64>,
    /// Its path there, if the batch's other leaves are not known here.
    pub proof: Option<Proof>,
}

/// Counters go up in steps, so that a grant whose message cannot be signed (odds 2^-55) may take
/// the next ones.
pub const COUNTER_STEP: u64 = 16;

/// The terms of a consent, sealed under its commitment.
const TERMS: Private = Private("terms");
/// What its commitment hides.
const OPENING: Private = Private("an opening");

fn opening(store: &Store, commitment: &str, sealed: &str) -> Result<Opening, StoreError> {
    let opened = OPENING.open(store, commitment, sealed)?;
    read_json(OPENING.0, &String::from_utf8_lossy(&opened))
}

fn seal_opening(store: &Store, commitment: &str, value: &Opening) -> Result<String, StoreError> {
    OPENING.seal(store, commitment, json(OPENING.0, value)?.as_bytes())
}

fn leaf(row: &Row) -> Result<ConsentLeaf, StoreError> {
    Ok(ConsentLeaf {
        commitment: read("a commitment", row.try_get("commitment")?)?,
        context: read("a context", row.try_get("context")?)?,
        handle: read("a handle", row.try_get("handle")?)?,
        leaf: read("a leaf", row.try_get("leaf")?)?,
        batch: row.try_get::<Option<i64>, _>("batch")?.map(BatchId),
        position: row.try_get::<Option<i64>, _>("position")?.map(unsigned),
        proof: row
            .try_get::<Option<String>, _>("proof")?
            .map(|text| read_json("a path", &text))
            .transpose()?,
    })
}

fn consent(store: &Store, row: &Row) -> Result<ConsentRow, StoreError> {
    let commitment: &str = row.try_get("commitment")?;
    Ok(ConsentRow {
        leaf: leaf(row)?,
        terms: TERMS
            .open(store, commitment, row.try_get("terms")?)?
            .to_vec(),
        opening: opening(store, commitment, row.try_get("opening")?)?,
        signature: read_json("a signature", row.try_get("signature")?)?,
        recorded_at: UnixSeconds(unsigned(row.try_get("recorded_at")?)),
        place_is_unsure: row.try_get("place_is_unsure")?,
    })
}

/// Keeps a consent. One that is known is what it was: only what of it did not open is mended.
async fn keep(
    store: &Store,
    transaction: &mut Tx,
    row: &ConsentRow,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let commitment = row.leaf.commitment.to_string();
    query(
        "INSERT INTO consents (commitment, context, handle, leaf, terms, opening, \
         signature, recorded_at, ingested_at, grantee, patient_key, not_before, not_after, \
         permits, place_is_unsure) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
         $13, $14, $15) ON CONFLICT (commitment) DO UPDATE SET terms = excluded.terms, \
         opening = excluded.opening, signature = CASE WHEN consents.leaf = excluded.leaf \
         THEN excluded.signature ELSE consents.signature END",
    )
    .bind(&commitment)
    .bind(row.leaf.context.to_string())
    .bind(row.leaf.handle.to_string())
    .bind(row.leaf.leaf.to_string())
    .bind(TERMS.seal(store, &commitment, &row.terms)?)
    .bind(seal_opening(store, &commitment, &row.opening)?)
    .bind(json("a signature", &row.signature)?)
    .bind(signed(row.recorded_at.0))
    .bind(signed(now.0))
    .bind(row.opening.grantee.to_string())
    .bind(row.opening.patient_key.to_string())
    .bind(signed(row.opening.not_before.0))
    .bind(signed(row.opening.not_after.0))
    .bind(Terms::decode(&row.terms).is_ok_and(|terms| terms.permits()))
    .bind(row.place_is_unsure)
    .execute(&mut **transaction)
    .await?;
    // A revocation of it may have come first, and was held as one of nobody's consent. It is looked
    // up by its name: there may be very many that are held.
    query("UPDATE revocations SET state = 'waiting' WHERE handle = $1 AND state = 'held'")
        .bind(row.leaf.handle.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

impl Store {
    /// Keeps consents and that the entries with them were seen, all or nothing: together they are
    /// one wait for the disk. One that is known already is not kept again.
    ///
    /// # Errors
    /// A database that refuses; nothing is then kept.
    pub async fn keep_consents(
        &self,
        consents: &[(ConsentRow, Change)],
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("keep_consents").await?;
        for (row, entry) in consents {
            keep(self, &mut transaction, row, now).await?;
            let commitment = row.leaf.commitment.to_string();
            let content = Some(commitment.as_str());
            note(&mut transaction, row.leaf.context, entry, content, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// How many consents are in no batch yet and may be sealed, and since when the oldest waits.
    /// Those of a circle that is stopped or held back may not, since it could not be told of their
    /// places, and neither may those that their circle did not have any more.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn waiting(
        &self,
        now: UnixSeconds,
    ) -> Result<(u64, Option<UnixSeconds>), StoreError> {
        let row = query(
            "SELECT COUNT(*) AS n, MIN(ingested_at) AS since FROM consents \
             WHERE batch IS NULL AND NOT place_is_unsure AND held_until <= $1 AND context NOT IN \
             (SELECT context FROM circles WHERE alarm IS NOT NULL OR held_until > $1)",
        )
        .bind(signed(now.0))
        .fetch_one(&self.db)
        .await?;
        let since: Option<i64> = row.try_get("since")?;
        let since = since.map(|at| UnixSeconds(unsigned(at)));
        Ok((unsigned(row.try_get("n")?), since))
    }

    /// The consents that may be sealed, the oldest first; those that do not read keep no other out.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn waiting_consents(
        &self,
        len_max: u32,
        now: UnixSeconds,
    ) -> Result<Vec<ConsentLeaf>, StoreError> {
        let rows = query(
            "SELECT * FROM consents \
             WHERE batch IS NULL AND NOT place_is_unsure AND held_until <= $2 AND context NOT IN \
             (SELECT context FROM circles WHERE alarm IS NOT NULL OR held_until > $2) \
             ORDER BY ingested_at, commitment LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        let readable = rows.iter().map(leaf);
        readable
            .filter(|read| !read.as_ref().is_err_and(StoreError::is_of_a_row))
            .collect()
    }

    /// Every consent of a circle to a recipient that was ever seen.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn consents_to(
        &self,
        context: ContextId,
        grantee: PublicKey,
    ) -> Result<Vec<ConsentRow>, StoreError> {
        let rows =
            query("SELECT * FROM consents WHERE context = $1 AND grantee = $2 ORDER BY commitment")
                .bind(context.to_string())
                .bind(grantee.to_string())
                .fetch_all(&self.db)
                .await?;
        rows.iter().map(|row| consent(self, row)).collect()
    }

    /// Every consent of a circle that was ever seen.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn consents_in_circle(
        &self,
        context: ContextId,
    ) -> Result<Vec<ConsentRow>, StoreError> {
        let rows = query("SELECT * FROM consents WHERE context = $1 ORDER BY commitment")
            .bind(context.to_string())
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(|row| consent(self, row)).collect()
    }

    /// Whether a consent of this handle is known.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn has_consent_of(&self, handle: Handle) -> Result<bool, StoreError> {
        let found = query_scalar("SELECT EXISTS (SELECT 1 FROM consents WHERE handle = $1)")
            .bind(handle.to_string())
            .fetch_one(&self.db);
        found.await
    }

    /// Whether a consent of this handle is known in this circle.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn has_consent_in(
        &self,
        context: ContextId,
        handle: Handle,
    ) -> Result<bool, StoreError> {
        let found = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM consents WHERE handle = $1 AND context = $2)",
        )
        .bind(handle.to_string())
        .bind(context.to_string())
        .fetch_one(&self.db);
        found.await
    }

    /// Whether a consent's circle was told where it stands.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn is_told(&self, commitment: Commitment) -> Result<bool, StoreError> {
        let told = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM consents WHERE commitment = $1 AND told_at IS NOT NULL)",
        )
        .bind(commitment.to_string())
        .fetch_one(&self.db);
        told.await
    }

    /// Handles of consents and of revocations that landed, in an order that never changes, after
    /// `cursor`.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn watched_handles(
        &self,
        cursor: &str,
        len_max: usize,
    ) -> Result<Vec<Handle>, StoreError> {
        let handles: Vec<String> = query_scalar(
            "SELECT handle FROM consents WHERE handle > $1 \
             UNION SELECT handle FROM revocations WHERE handle > $1 AND revoked_at IS NOT NULL \
             ORDER BY handle LIMIT $2",
        )
        .bind(cursor)
        .bind(signed(len_max as u64))
        .fetch_all(&self.db)
        .await?;
        handles.iter().map(|text| read("a handle", text)).collect()
    }

    /// Consents whose batch is on chain and whose circle was not told, those that are due.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn untold_consents(
        &self,
        len_max: u32,
        now: UnixSeconds,
    ) -> Result<Vec<ConsentLeaf>, StoreError> {
        let rows = query(
            "SELECT consents.* FROM consents JOIN batches ON consents.batch = batches.id \
             WHERE batches.state = 'anchored' AND told_at IS NULL AND tell_after <= $2 \
             ORDER BY consents.batch, consents.position LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(leaf).collect()
    }

    /// Notes that a consent's circle knows of the block.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn consent_told(
        &self,
        commitment: Commitment,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE consents SET told_at = $2, tell_failures = 0 WHERE commitment = $1")
            .bind(commitment.to_string())
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Tells these consents' circles later, the more often it failed the later: 10 s, doubling up
    /// to about an hour and a half.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn tell_later(&self, which: TellLater, now: UnixSeconds) -> Result<(), StoreError> {
        let name = match which {
            TellLater::Consent(commitment) => commitment.to_string(),
            TellLater::Circle(context) => context.to_string(),
        };
        query(
            "UPDATE consents SET tell_failures = tell_failures + 1, \
             tell_after = $2 + (10 << CAST(CASE WHEN tell_failures < 9 \
             THEN tell_failures ELSE 9 END AS INTEGER)) \
             WHERE (commitment = $1 OR context = $1) AND told_at IS NULL AND tell_after <= $2 \
             AND batch IN (SELECT id FROM batches WHERE state = 'anchored')",
        )
        .bind(name)
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// What a consent of this store opens to: one that was granted here or came from the circle.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn opening_of(&self, commitment: Commitment) -> Result<Option<Opening>, StoreError> {
        let commitment = commitment.to_string();
        let sealed: Option<String> = query_scalar(
            "SELECT opening FROM grants WHERE commitment = $1 \
             UNION SELECT opening FROM consents WHERE commitment = $1 LIMIT 1",
        )
        .bind(&commitment)
        .fetch_optional(&self.db)
        .await?;
        sealed
            .map(|sealed| opening(self, &commitment, &sealed))
            .transpose()
    }

    /// Whether a consent is known: one that was granted here or came from the circle.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn knows_consent(&self, commitment: Commitment) -> Result<bool, StoreError> {
        let found = query_scalar(
            "SELECT EXISTS (SELECT 1 FROM grants WHERE commitment = $1) \
             OR EXISTS (SELECT 1 FROM consents WHERE commitment = $1)",
        )
        .bind(commitment.to_string())
        .fetch_one(&self.db);
        found.await
    }

    /// Whether a consent that came from the circle is kept, whether it opens or not.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn is_kept(&self, commitment: Commitment) -> Result<bool, StoreError> {
        let found = query_scalar("SELECT EXISTS (SELECT 1 FROM consents WHERE commitment = $1)")
            .bind(commitment.to_string())
            .fetch_one(&self.db);
        found.await
    }

    /// A consent that came from the circle.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn consent(&self, commitment: Commitment) -> Result<Option<ConsentRow>, StoreError> {
        let row = query("SELECT * FROM consents WHERE commitment = $1")
            .bind(commitment.to_string())
            .fetch_optional(&self.db)
            .await?;
        row.as_ref().map(|row| consent(self, row)).transpose()
    }

    /// The consents of a batch.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn consents_in(&self, batch: BatchId) -> Result<Vec<ConsentLeaf>, StoreError> {
        let rows = query("SELECT * FROM consents WHERE batch = $1 ORDER BY position")
            .bind(batch.0)
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(leaf).collect()
    }

    /// Spends the next counter for a grant. A request that has one keeps it, so that a command
    /// that is run again after a crash signs the same consent and not a second one.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn spend_counter(
        &self,
        context: ContextId,
        request: &str,
        now: UnixSeconds,
    ) -> Result<Counter, StoreError> {
        query(
            "INSERT INTO grants (counter, context, request, made_at) \
             SELECT CASE WHEN free > $5 THEN free ELSE $5 END, $1, $2, $3 FROM \
             (SELECT COALESCE(MAX(counter) + $4, 0) AS free FROM grants) AS counters WHERE TRUE \
             ON CONFLICT (request) DO NOTHING",
        )
        .bind(context.to_string())
        .bind(request)
        .bind(signed(now.0))
        .bind(signed(COUNTER_STEP))
        .bind(signed(self.counter_floor().await?))
        .execute(&self.db)
        .await?;
        let counter: i64 = query_scalar("SELECT counter FROM grants WHERE request = $1")
            .bind(request)
            .fetch_one(&self.db)
            .await?;
        Ok(Counter(unsigned(counter)))
    }

    /// Keeps what was signed under a counter, before it leaves this machine.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_grant(
        &self,
        counter: Counter,
        commitment: Commitment,
        terms: &[u8],
        opening: &Opening,
        signature: &Signature,
    ) -> Result<(), StoreError> {
        let commitment = commitment.to_string();
        query(
            "UPDATE grants SET commitment = $2, terms = $3, opening = $4, signature = $5 \
             WHERE counter = $1",
        )
        .bind(signed(counter.0))
        .bind(&commitment)
        .bind(TERMS.seal(self, &commitment, terms)?)
        .bind(seal_opening(self, &commitment, opening)?)
        .bind(json("a signature", signature)?)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Consents that were granted here and are not settled: no circle was seen to show a block with
    /// them, and they are not over; the oldest first, without those of circles that are stopped.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn open_grants(&self, len_max: u32) -> Result<Vec<OpenGrant>, StoreError> {
        let rows = query(
            "SELECT commitment, context, request, made_at FROM grants \
             WHERE commitment IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM facts WHERE name = 'settled:' || commitment) AND NOT EXISTS \
             (SELECT 1 FROM circles WHERE circles.context = grants.context \
             AND alarm IS NOT NULL) ORDER BY made_at, counter LIMIT $1",
        )
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OpenGrant {
                    commitment: read("a commitment", row.try_get("commitment")?)?,
                    context: read("a context", row.try_get("context")?)?,
                    request: row.try_get("request")?,
                    made_at: UnixSeconds(unsigned(row.try_get("made_at")?)),
                })
            })
            .collect()
    }

    /// Notes that a consent that was granted here has its place, or needs none any more.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn grant_is_settled(&self, commitment: Commitment) -> Result<(), StoreError> {
        self.state_fact(&format!("settled:{commitment}"), "").await
    }

    /// What was signed for a request, if it came so far.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn kept_grant(&self, request: &str) -> Result<Option<KeptGrant>, StoreError> {
        let row = query(
            "SELECT commitment, terms, opening, signature FROM grants \
             WHERE request = $1 AND commitment IS NOT NULL",
        )
        .bind(request)
        .fetch_optional(&self.db)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let commitment: &str = row.try_get("commitment")?;
        Ok(Some(KeptGrant {
            terms: TERMS
                .open(self, commitment, row.try_get("terms")?)?
                .to_vec(),
            opening: opening(self, commitment, row.try_get("opening")?)?,
            signature: read_json("a signature", row.try_get("signature")?)?,
        }))
    }
}

/// What is told later.
#[derive(Clone, Copy, Debug)]
pub enum TellLater {
    /// One consent.
    Consent(Commitment),
    /// All of a circle.
    Circle(ContextId),
}

/// A consent that was granted here and is not settled.
#[derive(Clone, Debug)]
pub struct OpenGrant {
    /// The consent.
    pub commitment: Commitment,
    /// Its circle.
    pub context: ContextId,
    /// By what it was asked for.
    pub request: String,
    /// When it was granted.
    pub made_at: UnixSeconds,
}

/// A grant as it was signed here.
#[derive(Clone, Debug)]
pub struct KeptGrant {
    /// The terms' encoding.
    pub terms: Vec<u8>,
    /// What the commitment hides.
    pub opening: Opening,
    /// The patient's signature.
    pub signature: Signature,
}
