//! The outbox, by which the command line asks the daemon, and what the daemon last said.

use medsync_protocol::ids::{ContextId, UnixSeconds};
use sqlx::Row;

use super::{Store, StoreError, signed};

/// What the command line asks for: a revocation that has to come into its circle.
pub const PUBLISH_REVOCATION: &str = "publish_revocation";
/// The fact under which the daemon says when it last completed a round.
pub const LAST_ROUND: &str = "last_round_at";
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
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Asks the daemon to bring every revocation of a circle into it again.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn ask_for_revocations(
        &self,
        kind: &str,
        context: ContextId,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO outbox (kind, subject, asked_at) \
             SELECT $1, handle, $3 FROM revocations WHERE context = $2 \
             ON CONFLICT (kind, subject) DO UPDATE SET done_at = NULL",
        )
        .bind(kind)
        .bind(context.to_string())
        .bind(signed(now.0))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What was asked for and is not done, the oldest first.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn asked(&self, kind: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT subject FROM outbox WHERE kind = $1 AND done_at IS NULL ORDER BY id",
        )
        .bind(kind)
        .fetch_all(&self.pool)
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
            .execute(&self.pool)
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
        .execute(&self.pool)
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
                .fetch_optional(&self.pool)
                .await?,
        )
    }
}
