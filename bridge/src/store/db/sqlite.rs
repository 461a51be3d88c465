//! SQLite: one file in the home.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Executor, SqlitePool};

use super::statement::{Done, Query, Row, Wanted};
use super::{Db, Pool};

impl Db {
    /// Opens a file; makes it if it is not there.
    pub(crate) async fn of_file(file: &Path) -> Result<Self, sqlx::Error> {
        const CONNECTIONS_MAX: u32 = 4;
        // Longer than any single statement of ours; a command line that waits longer says so.
        const LOCK_WAIT: Duration = Duration::from_secs(10);
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("secure_delete", "ON")
            .busy_timeout(LOCK_WAIT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            // SQLite itself rolls back where the disk is full, and the roll-back that follows
            // fails: such a connection counts a transaction that there is not, and begins no other.
            .after_release(|connection, _| {
                let is_free = !sqlx::Connection::is_in_transaction(connection);
                Box::pin(async move { Ok(is_free) })
            })
            .connect_with(options)
            .await?;
        Ok(Self {
            pool: Pool::Sqlite(pool),
            faults: None,
            fence: None,
            is_beside: false,
        })
    }
}

/// Runs a statement on a connection, or on one of the pool's.
pub(super) async fn run<'e, E>(
    executor: E,
    query: Query<'_>,
    wanted: Wanted,
) -> Result<Done, sqlx::Error>
where
    E: Executor<'e, Database = Sqlite>,
{
    let sql = query.sql;
    let query = sqlx::query_with(sql, query.for_sqlite()?);
    Ok(match wanted {
        Wanted::Count => Done {
            rows_affected: query.execute(executor).await?.rows_affected(),
            rows: Vec::new(),
        },
        Wanted::Rows => Done {
            rows_affected: 0,
            rows: query
                .fetch_all(executor)
                .await?
                .into_iter()
                .map(Row::Sqlite)
                .collect(),
        },
    })
}

/// What SQLite says of a file's damage.
pub(super) async fn damage(pool: &SqlitePool) -> Result<Vec<String>, sqlx::Error> {
    let mut said: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_all(pool)
        .await?;
    said.retain(|line| line != "ok");
    Ok(said)
}

/// Empties the journal; answers whether nobody kept it from being emptied.
pub(super) async fn empty_journal(pool: &SqlitePool) -> Result<bool, sqlx::Error> {
    let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(pool)
        .await?;
    let busy: i64 = sqlx::Row::try_get(&row, 0)?;
    Ok(busy == 0)
}
