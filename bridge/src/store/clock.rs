//! What a clock that was wrong left behind.

use medsync_protocol::ids::UnixSeconds;

use super::db::query;
use super::{Store, StoreError, signed};

/// Under which name it is kept until when this store has lived.
const LIVED_UNTIL: &str = "lived_until";
/// How far a clock goes back without anybody setting it, in seconds; as often is it written down.
const STEP_S: u64 = 60;
/// Every time that something waits for, or since which it waits, and that a clock ahead of its time
/// leaves in the future. What is evidence of a moment, or holds something back until it was said
/// twice, stays as it is: it may be this clock that is wrong now.
const WAITS: [(&str, &str); 20] = [
    ("batches", "sealed_at"),
    ("batches", "submitted_at"),
    ("carry_waits", "not_before"),
    ("circles", "held_until"),
    ("claims", "sent_at"),
    ("claims", "tried_at"),
    ("consents", "held_until"),
    ("consents", "look_up_at"),
    ("consents", "tell_after"),
    ("held_logs", "held_until"),
    ("outbox", "asked_at"),
    ("placed_tickets", "put_again_at"),
    ("pools_told", "not_before"),
    ("releases", "rests_until"),
    ("releases", "tried_at"),
    ("requests", "tried_at"),
    ("revocations", "sent_at"),
    ("revoked_elsewhere", "tried_at"),
    ("sent", "asked_at"),
    ("tickets", "checked_at"),
];

impl Store {
    /// Ends every wait of a clock that was ahead and is set right: nothing waits until a time that
    /// was wrong has come.
    ///
    /// # Errors
    /// A database that refuses; it is then done again.
    pub async fn mind_the_clock(&self, now: UnixSeconds) -> Result<(), StoreError> {
        let known = self.fact(LIVED_UNTIL).await?;
        let lived_until: u64 = known.and_then(|text| text.parse().ok()).unwrap_or_default();
        if lived_until > now.0 + STEP_S {
            let mut transaction = self.db.begin("mind_the_clock").await?;
            for (table, column) in WAITS {
                let statement = format!("UPDATE {table} SET {column} = $1 WHERE {column} > $1");
                query(&statement)
                    .bind(signed(now.0))
                    .execute(&mut *transaction)
                    .await?;
            }
            query("UPDATE facts SET value = $2 WHERE name = $1")
                .bind(LIVED_UNTIL)
                .bind(now.to_string())
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            let ahead_s = lived_until - now.0;
            tracing::warn!(
                ahead_s,
                "the clock was set back; nothing waits for what it was before"
            );
        } else if lived_until + STEP_S <= now.0 {
            self.state_fact(LIVED_UNTIL, &now.to_string()).await?;
        }
        Ok(())
    }
}
