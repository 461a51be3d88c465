//! The outbox, by which the command line asks the daemon, and what the daemon last said.

use std::collections::BTreeMap;

use medsync_protocol::ids::{ContextId, UnixSeconds};

use super::db::{Open, query, query_scalar};
use super::{Store, StoreError, signed};
use crate::source::EntryKind;

/// What the command line asks for: a revocation that has to come into its circle.
pub const PUBLISH_REVOCATION: &str = "publish_revocation";
/// How much of what was asked for is done in one round.
const ASKED_AT_ONCE: i64 = 16;
/// How long a revocation that was written has to be seen in its circle, before it is written again,
/// in seconds.
const SEEN_WITHIN_S: u64 = 60;
/// The fact under which the daemon says when it last completed a round.
pub const LAST_ROUND: &str = "last_round_at";
/// The fact under which the daemon says what is wrong with Starknet endpoints, empty if nothing is.
pub const ENDPOINTS: &str = "endpoints";
/// The fact under which the daemon says which of them are well, in their order: a digit each, 1 if
/// so.
pub const WELL: &str = "endpoints_well";
/// The fact under which the daemon says what other members' clocks say against this one's, empty if
/// nothing.
pub const CLOCK: &str = "clock";
/// The fact under which the daemon says how far the clock is behind the chain's, in seconds.
pub const BEHIND: &str = "behind_s";
/// The fact under which the daemon says what hinders it, empty if nothing does.
pub const HINDRANCE: &str = "hindrance";

impl Store {
    /// Puts off what could not be done, behind everything else that was asked for.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn put_off(
        &self,
        kind: &str,
        subject: &str,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        self.try_again(kind, subject, now).await
    }

    /// Notes that something that was asked for was written: it is done once a walk shows it, and
    /// written again if none does.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn was_written(
        &self,
        kind: &str,
        subject: &str,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let until = UnixSeconds(now.0 + SEEN_WITHIN_S);
        self.try_again(kind, subject, until).await
    }

    async fn try_again(
        &self,
        kind: &str,
        subject: &str,
        at: UnixSeconds,
    ) -> Result<(), StoreError> {
        query("UPDATE outbox SET asked_at = $3 WHERE kind = $1 AND subject = $2")
            .bind(kind)
            .bind(subject)
            .bind(signed(at.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// What was asked for and is due, the oldest first, a few at a time. A wait that is longer than
    /// any began before the clock was set back.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn asked(&self, kind: &str, now: UnixSeconds) -> Result<Vec<String>, StoreError> {
        let rows = query(
            "SELECT subject FROM outbox WHERE kind = $1 AND done_at IS NULL \
             AND (asked_at <= $3 OR asked_at > $4) ORDER BY asked_at, id LIMIT $2",
        )
        .bind(kind)
        .bind(ASKED_AT_ONCE)
        .bind(signed(now.0))
        .bind(signed(now.0 + SEEN_WITHIN_S))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(|row| Ok(row.try_get("subject")?)).collect()
    }

    /// Keeps a fact for the command line to show.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn state_fact(&self, name: &str, value: &str) -> Result<(), StoreError> {
        query(
            "INSERT INTO facts (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// States a fact that does not change any more; answers what was stated first.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn first_fact(&self, name: &str, value: &str) -> Result<String, StoreError> {
        query("INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(value)
            .execute(&self.db)
            .await?;
        Ok(self.fact(name).await?.unwrap_or_else(|| value.to_owned()))
    }

    /// A fact that was kept.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn fact(&self, name: &str) -> Result<Option<String>, StoreError> {
        query_scalar("SELECT value FROM facts WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.db)
            .await
    }
}

/// Asks the daemon to bring the revocations of a circle into it again, as part of a transaction.
pub(super) async fn ask_for_revocations(
    connection: &mut Open,
    context: ContextId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO outbox (id, kind, subject, asked_at) \
         SELECT (SELECT COALESCE(MAX(id), 0) FROM outbox) + ROW_NUMBER() OVER (ORDER BY handle), \
         $1, handle, $3 FROM revocations WHERE context = $2 AND state <> 'held' \
         ON CONFLICT (kind, subject) DO UPDATE SET done_at = NULL",
    )
    .bind(PUBLISH_REVOCATION)
    .bind(context.to_string())
    .bind(signed(now.0))
    .execute(connection)
    .await?;
    Ok(())
}

/// Asks the daemon to bring one revocation into its circle, as part of a transaction; asking for
/// what was done is asking anew.
pub(super) async fn ask_for_revocation(
    connection: &mut Open,
    handle: &str,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO outbox (id, kind, subject, asked_at) \
         SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3 FROM outbox WHERE TRUE \
         ON CONFLICT (kind, subject) DO UPDATE SET asked_at = excluded.asked_at, done_at = NULL",
    )
    .bind(PUBLISH_REVOCATION)
    .bind(handle)
    .bind(signed(now.0))
    .execute(connection)
    .await?;
    Ok(())
}

/// Settles what was asked for by a whole walk, as part of a transaction: `seen` says of each handle
/// of which the circle ever had a revocation whether it has one now. What is there is done, and
/// what is gone is asked for.
pub(super) async fn settle_revocations(
    connection: &mut Open,
    context: ContextId,
    seen: &BTreeMap<(EntryKind, &str), bool>,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let rows = query(
        "SELECT handle, outbox.id IS NOT NULL AND outbox.done_at IS NULL AS is_asked \
         FROM revocations LEFT JOIN outbox ON outbox.kind = $2 AND outbox.subject = handle \
         WHERE context = $1 AND state <> 'held'",
    )
    .bind(context.to_string())
    .bind(PUBLISH_REVOCATION)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let handle: String = row.try_get("handle")?;
        match (
            seen.get(&(EntryKind::Revocation, handle.as_str())),
            row.try_get("is_asked")?,
        ) {
            (Some(true), true) => {
                query("UPDATE outbox SET done_at = $3 WHERE kind = $1 AND subject = $2")
                    .bind(PUBLISH_REVOCATION)
                    .bind(handle)
                    .bind(signed(now.0))
                    .execute(&mut *connection)
                    .await?;
            }
            (Some(false), false) => ask_for_revocation(connection, &handle, now).await?,
            _ => {}
        }
    }
    Ok(())
}
