//! Everything in a file moves into a server's database, and the file takes no writes from then on.
//!
//! The file says that it is left before anything is copied, and refuses every write of whoever has
//! it open still: nothing comes into it that the copy lacks. A move that was cut off is completed
//! by the next: either the database was entered by it, or nothing of it is there.

use super::copy::tables;
use super::{Db, query, query_scalar};
use crate::seams::{random_bytes, system_random};
use crate::store::StoreError;

/// The fact by which a file says which move left it.
const LEFT_BY: &str = "left_by";
/// The fact by which a database says which move entered it.
const ENTERED_BY: &str = "entered_by";
/// What is refused in a file that was left.
const WRITES: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

impl Db {
    /// Which move left this file, if one did.
    pub(crate) async fn left_by(&self) -> Result<Option<String>, StoreError> {
        let known = query_scalar("SELECT value FROM facts WHERE name = $1");
        known.bind(LEFT_BY).fetch_optional(self).await
    }

    /// Moves everything out of this file into a database that is laid out and empty, all or
    /// nothing. One that this file's move entered already is left as it is.
    pub(crate) async fn move_to(&self, other: &Self) -> Result<(), StoreError> {
        let left_by = match self.left_by().await? {
            None => self.leave().await?,
            Some(by) => by,
        };
        let entered_by = query_scalar("SELECT value FROM facts WHERE name = $1");
        let entered_by: Option<String> = entered_by.bind(ENTERED_BY).fetch_optional(other).await?;
        if entered_by == Some(left_by) {
            return Ok(());
        }
        let mut filled = match self.fill(other).await {
            Ok(filled) => filled,
            // Nothing of it is there.
            Err(error) => {
                self.stay().await?;
                return Err(error);
            }
        };
        query("DELETE FROM facts WHERE name = $1")
            .bind(ENTERED_BY)
            .execute(&mut filled)
            .await?;
        query("UPDATE facts SET name = $1 WHERE name = $2")
            .bind(ENTERED_BY)
            .bind(LEFT_BY)
            .execute(&mut filled)
            .await?;
        // One that failed may have taken effect: the next run sees whether it did.
        filled.commit().await
    }

    /// The file takes no writes from now on; answers by which move.
    async fn leave(&self) -> Result<String, StoreError> {
        let by = hex::encode(random_bytes(&mut system_random()));
        let mut open = self.open().await?;
        query("INSERT INTO facts (name, value) VALUES ($1, $2)")
            .bind(LEFT_BY)
            .bind(&by)
            .execute(&mut open)
            .await?;
        for table in tables(&mut open).await? {
            for write in WRITES {
                let refuse = format!(
                    "CREATE TRIGGER {} BEFORE {write} ON {} \
                     BEGIN SELECT RAISE(ABORT, 'this store was moved to PostgreSQL'); END",
                    refusal(write, &table.name),
                    table.name
                );
                query(&refuse).execute(&mut open).await?;
            }
        }
        open.commit().await?;
        Ok(by)
    }

    /// The file goes on.
    async fn stay(&self) -> Result<(), StoreError> {
        let mut open = self.open().await?;
        for table in tables(&mut open).await? {
            for write in WRITES {
                let accept = format!("DROP TRIGGER {}", refusal(write, &table.name));
                query(&accept).execute(&mut open).await?;
            }
        }
        query("DELETE FROM facts WHERE name = $1")
            .bind(LEFT_BY)
            .execute(&mut open)
            .await?;
        open.commit().await
    }
}

fn refusal(write: &str, table: &str) -> String {
    format!("left_{write}_{table}")
}
