//! The outbox, by which the command line asks the daemon, and what the daemon last said.

use medsync_protocol::ids::{ContextId, UnixSeconds};
use sqlx::Row;
use sqlx::SqliteConnection;

use super::{Store, StoreError, signed};

/// What the command line asks for: a revocation that has to come into its circle.
pub const PUBLISH_REVOCATION: &str = "publish_revocation";
/// How much of what was asked for is done in one round.
const ASKED_AT_ONCE: i64 = 16;
/// The fact under which the daemon says when it last completed a round.
pub const LAST_ROUND: &str = "last_round_at";
/// The fact under which the daemon says what is wrong with Starknet endpoints, empty if nothing is.
pub const ENDPOINTS: &str = "endpoints";
/// The fact under which the daemon says what hinders it, empty if nothing does.
pub const HINDRANCE: &str = "hindrance";

impl Store {
    /// Asks the daemon for something; asking twice is asking once, and asking for what was done
    /// is asking anew.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn ask(&self, kind: &str, subject: &str, now: UnixSeconds) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO outbox (kind, subject, asked_at) VALUES ($1, $2, $3) \
             ON CONFLICT (kind, subject) DO UPDATE SET done_at = NULL",
        )
        .bind(kind)
        .bind(subject)
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }

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
        sqlx::query("UPDATE outbox SET asked_at = $3 WHERE kind = $1 AND subject = $2")
            .bind(kind)
            .bind(subject)
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// What was asked for and is not done, the oldest first, a few at a time.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn asked(&self, kind: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT subject FROM outbox WHERE kind = $1 AND done_at IS NULL \
             ORDER BY asked_at, id LIMIT $2",
        )
        .bind(kind)
        .bind(ASKED_AT_ONCE)
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(|row| Ok(row.try_get("subject")?)).collect()
    }

    /// Notes that something that was asked for is done.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn answer(
        &self,
        kind: &str,
        subject: &str,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE outbox SET done_at = $3 WHERE kind = $1 AND subject = $2")
            .bind(kind)
            .bind(subject)
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Keeps a fact for the command line to show.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn state_fact(&self, name: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO facts (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// A fact that was kept.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn fact(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(
            sqlx::query_scalar("SELECT value FROM facts WHERE name = $1")
                .bind(name)
                .fetch_optional(&self.db)
                .await?,
        )
    }
}

/// Asks the daemon to bring the revocations of a circle into it again, as part of a transaction.
pub(super) async fn ask_for_revocations(
    connection: &mut SqliteConnection,
    context: ContextId,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO outbox (kind, subject, asked_at) \
         SELECT $1, handle, $3 FROM revocations WHERE context = $2 AND state <> 'held' \
         ON CONFLICT (kind, subject) DO UPDATE SET done_at = NULL",
    )
    .bind(PUBLISH_REVOCATION)
    .bind(context.to_string())
    .bind(signed(now.0))
    .execute(connection)
    .await?;
    Ok(())
}
