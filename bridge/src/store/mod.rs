//! The store of one party: SQLite in its home folder.
//!
//! The command line and the daemon open the same file. It runs in write-ahead mode with full
//! synchronisation: what a call has answered survives the loss of power. Statements are plain SQL
//! that PostgreSQL understands too.
//!
//! | file | tables |
//! |---|---|
//! | [`circles`] | circles, pins, what was seen in them |
//! | [`consents`] | consents and grants |
//! | [`batches`] | batches and their way to the chain |
//! | [`revocations`] | revocations and their way to the chain |
//! | [`access`] | requests, reply keys |
//! | [`keychanges`] | changes of an enrolled party's key |
//! | [`log`] | log entries, and their places in batches |
//! | [`records`] | imported records |
//! | [`releases`] | releases, and what has to be erased of them |
//! | [`tickets`] | reward pools and tickets |
//! | [`placed`] | tickets with their places, as they were seen |
//! | [`versions`] | which version of each record was ever seen |
//! | [`restored`] | what a store does not know that was restored from a backup |
//! | [`facts`] | the outbox, and what was last heard of the daemon |

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use self::db::Db;
pub use self::db::{WriteFault, WriteFaults};

pub mod access;
pub mod batches;
pub mod circles;
pub mod consents;
mod db;
pub mod facts;
pub mod keychanges;
pub mod log;
mod placed;
pub mod records;
pub mod releases;
pub mod restored;
pub mod revocations;
pub mod tickets;
pub mod versions;

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("the store: {0}")]
    Database(#[from] sqlx::Error),
    /// The store's layout could not be brought up to date.
    #[error("the store's layout: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The lock beside the store could not be taken.
    #[error("the store's lock: {0}")]
    Lock(#[source] io::Error),
    /// Readers kept the journal from being emptied.
    #[error("the store is read by others at this moment; what was destroyed is scrubbed next time")]
    Busy,
    /// A value in the store is not what was written there.
    #[error("the store holds {what} that cannot be read: {why}")]
    Corrupt {
        /// What cannot be read.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Records are being imported or erased.
    #[error("another import or erasure is at work in this home; wait until it has ended")]
    RecordsBusy,
    /// Something is not there.
    #[error("there is no {what} {name} here")]
    Absent {
        /// What was looked for.
        what: &'static str,
        /// Under which name.
        name: String,
    },
}

/// Waits for whoever lays the store out; the lock ends with the file or the process.
async fn lock(home: &Path) -> Result<File, StoreError> {
    let path = home.join("medsync.lock");
    let taken = tokio::task::spawn_blocking(move || {
        let file = lock_file(&path)?;
        file.lock()?;
        Ok(file)
    });
    let taken = taken.await.map_err(io::Error::other).and_then(|lock| lock);
    taken.map_err(StoreError::Lock)
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

/// Keeps out whoever else would import or erase records in this home, for as long as it lives: two
/// at once would each seal the same record's version under a key of its own.
#[derive(Debug)]
pub struct RecordsLock(#[expect(dead_code, reason = "held, not read")] File);

impl RecordsLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`StoreError::RecordsBusy`] if another has it; a folder that cannot be written.
    pub fn take(home: &Path) -> Result<Self, StoreError> {
        let file = lock_file(&home.join("records.lock")).map_err(StoreError::Lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::RecordsBusy),
            Err(TryLockError::Error(error)) => Err(StoreError::Lock(error)),
        }
    }
}

/// Reads a text of the store as what it was written from.
pub(crate) fn read<T>(what: &'static str, text: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|why: T::Err| StoreError::Corrupt {
        what,
        why: why.to_string(),
    })
}

/// Reads a JSON text of the store.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|why| StoreError::Corrupt {
        what,
        why: why.to_string(),
    })
}

/// Writes a JSON text for the store.
pub(crate) fn json<T: serde::Serialize>(
    what: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|why| StoreError::Corrupt {
        what,
        why: why.to_string(),
    })
}

/// SQL has no unsigned numbers; a time or count above 2^63 does not occur and stays at the bound.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Back from [`signed`].
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// One party's store.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) db: Db,
}

impl Store {
    /// Opens the store in a home folder, makes it if it is not there, and brings its layout up
    /// to date.
    ///
    /// # Errors
    /// A folder that cannot be written, a file that is no store.
    pub async fn open(home: &Path) -> Result<Self, StoreError> {
        Self::open_with(home, None).await
    }

    /// The same for a test, in which writes go wrong.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(
        home: &Path,
        faults: Option<Arc<dyn WriteFaults>>,
    ) -> Result<Self, StoreError> {
        const CONNECTIONS_MAX: u32 = 4;
        // Longer than any single statement of ours; a command line that waits longer says so.
        const LOCK_WAIT: Duration = Duration::from_secs(10);
        let options = SqliteConnectOptions::new()
            .filename(home.join("medsync.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("secure_delete", "ON")
            .busy_timeout(LOCK_WAIT);
        // A daemon and a command that open a new store at once must not both lay it out: SQLite
        // does not wait for the other when a file becomes a database with a write-ahead log.
        let guard = lock(home).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        drop(guard);
        Ok(Self {
            db: Db::new(pool, faults),
        })
    }

    /// Copies the store into a new file, as it is at one moment, while others use it; without what
    /// was deleted.
    ///
    /// # Errors
    /// A database that refuses; a file that is there.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        sqlx::query("VACUUM INTO $1")
            .bind(file.to_string_lossy().into_owned())
            .execute(&self.db)
            .await?;
        Ok(())
    }

    /// Closes the store; what others have open of it goes on.
    pub async fn close(self) {
        self.db.close().await;
    }

    /// What the database says of its own damage; nothing if it is whole.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn damage(&self) -> Result<Vec<String>, StoreError> {
        let mut said: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_all(&self.db)
            .await?;
        said.retain(|line| line != "ok");
        Ok(said)
    }

    /// Takes what was deleted out of the file itself: pages are overwritten when they are freed
    /// (`secure_delete`), and the journal that still holds them is emptied.
    ///
    /// # Errors
    /// A database that refuses; readers that stay in the way are waited for.
    pub(crate) async fn scrub(&self) -> Result<(), StoreError> {
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.db)
            .await?;
        let busy: i64 = sqlx::Row::try_get(&row, 0)?;
        if busy == 0 {
            Ok(())
        } else {
            Err(StoreError::Busy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_imports_or_erases_at_a_time() {
        let home = tempfile::tempdir().expect("a folder");
        let lock = RecordsLock::take(home.path()).expect("free");
        let second = RecordsLock::take(home.path());
        assert!(matches!(second, Err(StoreError::RecordsBusy)));
        drop(lock);
        assert!(RecordsLock::take(home.path()).is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_may_open_a_new_store_at_once() {
        for _ in 0..8 {
            let home = tempfile::tempdir().expect("a folder");
            let open = || {
                let path = home.path().to_owned();
                tokio::spawn(async move { Store::open(&path).await.map(|_| ()) })
            };
            let opening: Vec<_> = (0..8).map(|_| open()).collect();
            for opened in opening {
                opened.await.expect("no panic").expect("a store");
            }
        }
    }
}
