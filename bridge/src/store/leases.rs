//! Leases: who does what only one process may do at a time, where several share a store.
//!
//! When one is taken, kept and lost is said in [`crate::lease`]; here are its writes. Whoever takes
//! a lease waits for the writer before it, so that nothing of an older epoch is written after.

use super::db::query;
use super::{Store, StoreError};

/// A lease as it stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// How often it was taken.
    pub epoch: i64,
    /// Moves while its holder lives.
    pub beat: i64,
    /// Whether its holder gave it back.
    pub is_free: bool,
}

impl Store {
    /// What a lease is now.
    ///
    /// # Errors
    /// A database that refuses; [`StoreError::Absent`] for one that there is not.
    pub async fn lease(&self, name: &'static str) -> Result<LeaseRow, StoreError> {
        let row = query("SELECT holder, epoch, beat FROM leases WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.db)
            .await?;
        let row = row.ok_or_else(|| StoreError::Absent {
            what: "lease",
            name: name.to_owned(),
        })?;
        Ok(LeaseRow {
            epoch: row.try_get("epoch")?,
            beat: row.try_get("beat")?,
            is_free: row.try_get::<&str, _>("holder")?.is_empty(),
        })
    }

    /// Takes a lease over, if it is still what was seen; its epoch is the next one then. Answers
    /// whether it was.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn take_lease(
        &self,
        name: &'static str,
        holder: &str,
        seen: LeaseRow,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.db.begin("take_lease").await?;
        let taken = query(
            "UPDATE leases SET holder = $2, epoch = epoch + 1, beat = beat + 1 \
             WHERE name = $1 AND epoch = $3 AND beat = $4",
        )
        .bind(name)
        .bind(holder)
        .bind(seen.epoch)
        .bind(seen.beat)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Shows that a lease's holder lives; answers whether it still is the holder.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn renew_lease(
        &self,
        name: &'static str,
        holder: &str,
        epoch: i64,
    ) -> Result<bool, StoreError> {
        let renewed = query(
            "UPDATE leases SET beat = beat + 1 WHERE name = $1 AND holder = $2 AND epoch = $3",
        )
        .bind(name)
        .bind(holder)
        .bind(epoch)
        .execute(&self.db)
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Gives a lease back: whoever waits for it takes it at once.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn release_lease(
        &self,
        name: &'static str,
        holder: &str,
        epoch: i64,
    ) -> Result<(), StoreError> {
        query(
            "UPDATE leases SET holder = '', beat = beat + 1 \
             WHERE name = $1 AND holder = $2 AND epoch = $3",
        )
        .bind(name)
        .bind(holder)
        .bind(epoch)
        .execute(&self.db)
        .await?;
        Ok(())
    }
}
