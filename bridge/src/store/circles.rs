//! Circles and exchanges: what was pinned when they were entered.

use std::collections::{BTreeSet, HashMap};

use medsync_protocol::device::Admission;
use medsync_protocol::ids::{ContextId, ContextKind, MemberId, Sha256Digest, UnixSeconds};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::PublicKey;

use super::db::{Row, query, query_scalar};
use super::{Private, Store, StoreError, json, read, read_json, signed, unsigned};
use crate::source::{ApplicationId, BlobId, GroupId, StateHash};

/// A circle as this party entered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircleRow {
    /// The context.
    pub context: ContextId,
    /// What it is for.
    pub kind: ContextKind,
    /// Its Restricted subgroup.
    pub group: GroupId,
    /// What the custodian calls it; never a name of a person.
    pub label: String,
    /// This party's member key.
    pub member: MemberId,
    /// The custodian's member key.
    pub custodian_member: MemberId,
    /// The pinned application.
    pub application: ApplicationId,
    /// The pinned bytecode.
    pub bytecode: BlobId,
    /// The invitation file: the one that was written, or by which this party was invited.
    pub invitation: Option<String>,
    /// When the circle was entered.
    pub entered_at: UnixSeconds,
    /// The member that enrolled as the patient, once that was seen.
    pub patient_member: Option<MemberId>,
    /// For whose key a custodian opened an exchange: nobody else is served in it.
    pub recipient_key: Option<PublicKey>,
    /// Which of the patient's devices this is, if it is one.
    pub device: DeviceNumber,
    /// The context's state when it was last read through.
    pub state_hash: Option<StateHash>,
    /// Of which revocations and consents it is known that all were taken in.
    pub consents_digest: Option<Sha256Digest>,
    /// Why nothing is read from or written to it any more.
    pub alarm: Option<String>,
    /// Since when somebody is in it whom nobody here knows to be admitted.
    pub suspected_at: Option<UnixSeconds>,
}

/// What shows that a circle changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircleMark {
    /// Its state when it was last read through.
    pub state: Option<String>,
    /// What stops it.
    pub alarm: Option<String>,
}

/// A circle whose row does not open or cannot be read.
#[derive(Debug)]
pub struct UnreadableCircle {
    /// Its context, as the row names it.
    pub name: String,
    /// What of it.
    pub why: StoreError,
}

/// What the custodian calls a context, sealed under its name.
const LABEL: Private = Private("a label");
/// The invitation file, with the one-time key in it.
const INVITATION: Private = Private("an invitation");

fn circle(store: &Store, row: &Row) -> Result<CircleRow, StoreError> {
    let context: &str = row.try_get("context")?;
    let invitation: Option<&str> = row.try_get("invitation")?;
    Ok(CircleRow {
        context: read("a context", context)?,
        kind: read("a kind of context", row.try_get("kind")?)?,
        group: read("a group", row.try_get("group_id")?)?,
        label: LABEL.read(store, context, row.try_get("label")?)?,
        member: read("a member", row.try_get("member")?)?,
        custodian_member: read("a member", row.try_get("custodian_member")?)?,
        application: read("an application", row.try_get("application")?)?,
        bytecode: read("a blob", row.try_get("bytecode")?)?,
        invitation: invitation
            .map(|sealed| INVITATION.read(store, context, sealed))
            .transpose()?,
        entered_at: UnixSeconds(unsigned(row.try_get("entered_at")?)),
        patient_member: row
            .try_get::<Option<String>, _>("patient_member")?
            .map(|text| read("a member", &text))
            .transpose()?,
        recipient_key: row
            .try_get::<Option<String>, _>("recipient_key")?
            .map(|text| read("a key", &text))
            .transpose()?,
        device: DeviceNumber(row.try_get("device")?),
        state_hash: row
            .try_get::<Option<String>, _>("state_hash")?
            .map(|text| read("a state hash", &text))
            .transpose()?,
        consents_digest: row
            .try_get::<Option<String>, _>("consents_digest")?
            .map(|text| read("a digest", &text))
            .transpose()?,
        alarm: row.try_get("alarm")?,
        suspected_at: row
            .try_get::<Option<i64>, _>("suspected_at")?
            .map(|at| UnixSeconds(unsigned(at))),
    })
}

impl Store {
    /// Keeps a circle; entering it twice changes nothing.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn enter_circle(&self, row: &CircleRow) -> Result<(), StoreError> {
        let context = row.context.to_string();
        let invitation = row.invitation.as_ref();
        let invitation = invitation.map(|text| INVITATION.seal(self, &context, text.as_bytes()));
        query(
            "INSERT INTO circles (context, group_id, label, member, custodian_member, \
             application, bytecode, invitation, entered_at, kind, device, recipient_key) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
             ON CONFLICT (context) DO NOTHING",
        )
        .bind(&context)
        .bind(row.group.to_string())
        .bind(LABEL.seal(self, &context, row.label.as_bytes())?)
        .bind(row.member.to_string())
        .bind(row.custodian_member.to_string())
        .bind(row.application.to_string())
        .bind(row.bytecode.to_string())
        .bind(invitation.transpose()?)
        .bind(signed(row.entered_at.0))
        .bind(row.kind.name())
        .bind(i64::from(row.device.0))
        .bind(row.recipient_key.map(|key| key.to_string()))
        .execute(&self.db)
        .await
        .map_err(StoreError::of_an_exchange)?;
        Ok(())
    }

    /// From now on an exchange is for this key; the recipient told so past the exchange.
    ///
    /// # Errors
    /// A database that refuses; [`StoreError::Absent`] for what is no exchange of this custodian's.
    pub async fn expect_recipient(
        &self,
        exchange: ContextId,
        key: PublicKey,
    ) -> Result<(), StoreError> {
        let changed = query(
            "UPDATE circles SET recipient_key = $2 WHERE context = $1 \
             AND recipient_key IS NOT NULL",
        )
        .bind(exchange.to_string())
        .bind(key.to_string())
        .execute(&self.db)
        .await
        .map_err(StoreError::of_an_exchange)?;
        if changed.rows_affected() == 0 {
            let name = exchange.to_string();
            return Err(StoreError::Absent {
                what: "exchange",
                name,
            });
        }
        Ok(())
    }

    /// All circles, in the order in which they were entered.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn circles(&self) -> Result<Vec<CircleRow>, StoreError> {
        let (circles, unreadable) = self.readable_circles().await?;
        match unreadable.into_iter().next() {
            Some(circle) => Err(circle.why),
            None => Ok(circles),
        }
    }

    /// The circles that can be read, in the order in which they were entered, and those that
    /// cannot: for whoever goes on without them.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn readable_circles(
        &self,
    ) -> Result<(Vec<CircleRow>, Vec<UnreadableCircle>), StoreError> {
        let rows = query("SELECT * FROM circles ORDER BY entered_at, context")
            .fetch_all(&self.db)
            .await?;
        let (mut circles, mut unreadable) = (Vec::new(), Vec::new());
        for row in &rows {
            match self.readable(row)? {
                Ok(circle) => circles.push(circle),
                Err(one) => unreadable.push(one),
            }
        }
        Ok((circles, unreadable))
    }

    /// How many circles there are, and how many of them an alarm stops.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn circle_counts(&self) -> Result<(u64, u64), StoreError> {
        let row = query("SELECT COUNT(*) AS n, COUNT(alarm) AS stopped FROM circles")
            .fetch_one(&self.db)
            .await?;
        Ok((
            unsigned(row.try_get("n")?),
            unsigned(row.try_get("stopped")?),
        ))
    }

    /// The first few circles whose context comes after a text, in the order of their contexts.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn circles_after(
        &self,
        after: &str,
        len_max: u32,
    ) -> Result<Vec<Result<CircleRow, UnreadableCircle>>, StoreError> {
        let rows = query("SELECT * FROM circles WHERE context > $1 ORDER BY context LIMIT $2")
            .bind(after)
            .bind(i64::from(len_max))
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(|row| self.readable(row)).collect()
    }

    /// A circle, or why it cannot be read.
    fn readable(&self, row: &Row) -> Result<Result<CircleRow, UnreadableCircle>, StoreError> {
        match circle(self, row) {
            Err(why) if why.is_of_a_row() => {
                let name = row.try_get("context")?;
                Ok(Err(UnreadableCircle { name, why }))
            }
            read => Ok(Ok(read?)),
        }
    }

    /// The contexts of all circles, also of those whose rows do not open. One whose own name cannot
    /// be read is of no circle that anything else is known of.
    ///
    /// # Errors
    /// A database that refuses.
    pub(super) async fn circle_contexts(&self) -> Result<Vec<ContextId>, StoreError> {
        let names: Vec<String> = query_scalar("SELECT context FROM circles ORDER BY context")
            .fetch_all(&self.db)
            .await?;
        let contexts = names.iter().filter_map(|name| name.parse().ok());
        Ok(contexts.collect())
    }

    /// One circle.
    ///
    /// # Errors
    /// [`StoreError::Absent`] for a context that was never entered.
    pub async fn circle(&self, context: ContextId) -> Result<CircleRow, StoreError> {
        let row = query("SELECT * FROM circles WHERE context = $1")
            .bind(context.to_string())
            .fetch_optional(&self.db)
            .await?;
        row.as_ref()
            .map(|row| circle(self, row))
            .transpose()?
            .ok_or_else(|| StoreError::Absent {
                what: "circle",
                name: context.to_string(),
            })
    }

    /// Notes who enrolled, as the patient or the recipient, the key that counts now, whose log is
    /// theirs and by which key they log in; the first who enrolled stays.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn pin_party(
        &self,
        context: ContextId,
        enrolled: &Enrolment,
        key: PublicKey,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE circles SET patient_member = $2, party_key = $3, party_author = $4, \
             party_login = $5 WHERE context = $1 \
             AND (patient_member IS NULL OR patient_member = $2)",
        )
        .bind(context.to_string())
        .bind(enrolled.member.to_string())
        .bind(key.to_string())
        .bind(enrolled.author_key.to_string())
        .bind(enrolled.login_key.to_string())
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Who was first seen to have enrolled, and the key of theirs that counted last.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn pinned_party(
        &self,
        context: ContextId,
    ) -> Result<Option<(MemberId, PublicKey)>, StoreError> {
        let row = query(
            "SELECT patient_member, party_key FROM circles WHERE context = $1 \
             AND patient_member IS NOT NULL AND party_key IS NOT NULL",
        )
        .bind(context.to_string())
        .fetch_optional(&self.db)
        .await?;
        row.map(|row| {
            let member = read("a member", row.try_get("patient_member")?)?;
            Ok((member, read("a key", row.try_get("party_key")?)?))
        })
        .transpose()
    }

    /// Whose log is that of who enrolled first, also of a context that is stopped.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn pinned_author(&self, context: ContextId) -> Result<Option<PublicKey>, StoreError> {
        self.pinned_key(
            "SELECT party_author FROM circles WHERE context = $1",
            context,
        )
        .await
    }

    /// By which key who enrolled first logs in, also where a context is stopped.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn pinned_login(&self, context: ContextId) -> Result<Option<PublicKey>, StoreError> {
        self.pinned_key(
            "SELECT party_login FROM circles WHERE context = $1",
            context,
        )
        .await
    }

    async fn pinned_key(
        &self,
        query: &str,
        context: ContextId,
    ) -> Result<Option<PublicKey>, StoreError> {
        let key: Option<Option<String>> = query_scalar(query)
            .bind(context.to_string())
            .fetch_optional(&self.db)
            .await?;
        key.flatten().map(|text| read("a key", &text)).transpose()
    }

    /// Lets a stopped circle go on; everything in it is read again.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn clear_alarm(&self, context: ContextId) -> Result<(), StoreError> {
        query(
            "UPDATE circles SET alarm = NULL, suspected_at = NULL, suspects = NULL, \
             state_hash = NULL, consents_digest = NULL \
             WHERE context = $1",
        )
        .bind(context.to_string())
        .execute(&self.db)
        .await
        .map_err(StoreError::of_an_exchange)?;
        Ok(())
    }

    /// Whether this custodian let a member in by this admission before.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn was_let_in(
        &self,
        context: ContextId,
        admission: &Admission,
    ) -> Result<bool, StoreError> {
        let known: Option<i64> = query_scalar(
            "SELECT let_in_at FROM let_in WHERE context = $1 AND member = $2 AND device = $3 \
             AND admitted_by = $4",
        )
        .bind(context.to_string())
        .bind(admission.member.to_string())
        .bind(i64::from(admission.device.0))
        .bind(admission.admitted_by.to_string())
        .fetch_optional(&self.db)
        .await?;
        Ok(known.is_some())
    }

    /// How often this custodian let somebody in by a key of the patient's.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn let_in_by(
        &self,
        context: ContextId,
        admitted_by: PublicKey,
    ) -> Result<u64, StoreError> {
        let count: i64 =
            query_scalar("SELECT COUNT(*) FROM let_in WHERE context = $1 AND admitted_by = $2")
                .bind(context.to_string())
                .bind(admitted_by.to_string())
                .fetch_one(&self.db)
                .await?;
        Ok(unsigned(count))
    }

    /// Notes that this custodian let a member in by this admission; again changes nothing.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn note_let_in(
        &self,
        context: ContextId,
        admission: &Admission,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        query(
            "INSERT INTO let_in (context, member, device, admitted_by, let_in_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(context.to_string())
        .bind(admission.member.to_string())
        .bind(i64::from(admission.device.0))
        .bind(admission.admitted_by.to_string())
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Notes who is in a circle whom nobody here knows to be admitted, beside those who were seen
    /// before, and since when.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn suspect(
        &self,
        context: ContextId,
        strangers: &BTreeSet<MemberId>,
        since: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut suspects = self.suspects(context).await?;
        suspects.extend(strangers);
        query("UPDATE circles SET suspected_at = $2, suspects = $3 WHERE context = $1")
            .bind(context.to_string())
            .bind(signed(since.0))
            .bind(json("suspects", &suspects)?)
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Who was suspected since a circle last was as it should be.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn suspects(&self, context: ContextId) -> Result<BTreeSet<MemberId>, StoreError> {
        let suspects: Option<Option<String>> =
            query_scalar("SELECT suspects FROM circles WHERE context = $1")
                .bind(context.to_string())
                .fetch_optional(&self.db)
                .await?;
        let suspects = suspects.flatten();
        suspects.map_or_else(|| Ok(BTreeSet::new()), |text| read_json("suspects", &text))
    }

    /// Notes that everybody in a circle is explained; what was read for revocations alone meanwhile
    /// is read again.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn suspect_nobody(&self, context: ContextId) -> Result<(), StoreError> {
        query(
            "UPDATE circles SET suspected_at = NULL, suspects = NULL, state_hash = NULL, \
             consents_digest = NULL WHERE context = $1",
        )
        .bind(context.to_string())
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Stops a circle: nothing is read from or written to it until a person looked.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn raise_alarm(&self, context: ContextId, why: &str) -> Result<(), StoreError> {
        query("UPDATE circles SET alarm = $2 WHERE context = $1 AND alarm IS NULL")
            .bind(context.to_string())
            .bind(why)
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// What was last read of each circle, for whoever waits for changes; without those whose names
    /// cannot be read.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn circle_marks(&self) -> Result<HashMap<ContextId, CircleMark>, StoreError> {
        let rows =
            query("SELECT context, state_hash, COALESCE(alarm, suspects) AS alarm FROM circles")
                .fetch_all(&self.db)
                .await?;
        let mut marks = HashMap::new();
        for row in &rows {
            let mark = CircleMark {
                state: row.try_get("state_hash")?,
                alarm: row.try_get("alarm")?,
            };
            let named = read::<ContextId>("a context", row.try_get("context")?);
            marks.extend(named.ok().map(|context| (context, mark)));
        }
        Ok(marks)
    }
}
