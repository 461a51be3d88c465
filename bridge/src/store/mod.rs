//! The store of one party: SQLite in its home folder, or a hospital's on PostgreSQL, which several
//! replicas share.
//!
//! The command line and the daemon open the same file. It runs in write-ahead mode with full
//! synchronisation: what a call has answered survives the loss of power. Statements are plain SQL
//! that both databases read alike; which one it is, `db` alone knows.
//!
//! | file | tables |
//! |---|---|
//! | [`circles`] | circles, pins |
//! | [`seen`] | what was seen in them |
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
//! | `rebuild` | the outbox and the queue made anew |
//! | `clock` | what a clock that was wrong left behind |
//! | `retention` | what is kept no longer than it is needed |
//! | [`facts`] | the outbox, and what was last heard of the daemon |
//! | [`leases`] | who does what only one process may do at a time |

use std::io;
use std::path::Path;
use std::sync::Arc;

use sqlx::migrate::MigrateError;
use zeroize::Zeroizing;

use self::db::{Db, Fence, query, query_scalar};
pub use self::db::{PostgresUrl, WriteFault, WriteFaults};
pub use self::home_lock::HomeLock;
pub use self::out::Out;
use crate::at_rest::{AtRestError, HomeSecret, Place};

pub mod access;
pub mod batches;
pub mod circles;
pub mod claims;
mod clock;
pub mod consents;
mod db;
pub mod facts;
pub mod fees;
pub mod held;
mod home_lock;
pub mod keychanges;
pub mod leases;
pub mod log;
mod out;
mod placed;
mod rebuild;
pub mod records;
pub mod releases;
pub mod restored;
mod retention;
pub mod revocations;
pub mod seen;
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
    Migration(MigrateError),
    /// Another medsync laid the store out.
    #[error(
        "this store was laid out by another version of medsync ({0}): run that one, or restore a \
         backup that this one made"
    )]
    OtherLayout(MigrateError),
    /// The lock beside the store could not be taken.
    #[error("the store's lock: {0}")]
    Lock(#[source] io::Error),
    /// The database's texts are not what the store's are.
    #[error(
        "this database orders or keeps texts in its own way; create it with ENCODING 'UTF8' \
         LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )]
    OtherTexts,
    /// The file that a store was in before it was moved.
    #[error(
        "this store was moved to PostgreSQL, or a move was cut off: `medsync hospital move-store` \
         completes it"
    )]
    Left,
    /// Two exchanges that go on with one recipient.
    #[error("another exchange with this recipient goes on")]
    SecondExchange,
    /// There is something where a store is to be copied to.
    #[error("this database holds a store already; name an empty one")]
    NotEmpty,
    /// Another replica took over what this one did.
    #[error("another replica has the lease {lease} since epoch {epoch}; nothing was written")]
    NotLeader {
        /// The lease.
        lease: &'static str,
        /// Under which epoch this one would have written.
        epoch: i64,
    },
    /// Readers kept the journal from being emptied.
    #[error("the store is read by others at this moment; what was destroyed is scrubbed next time")]
    Busy,
    /// Something private does not open.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// A value in the store is not what was written there.
    #[error("the store holds {what} that cannot be read: {why}")]
    Corrupt {
        /// What cannot be read.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Another process does what only one may do at a time.
    #[error("another {0} is at work for this home; it has to end first")]
    Taken(&'static str),
    /// Something is not there.
    #[error("there is no {what} {name} here")]
    Absent {
        /// What was looked for.
        what: &'static str,
        /// Under which name.
        name: String,
    },
}

impl StoreError {
    /// Of a write that another exchange with the same recipient stands against.
    fn of_an_exchange(self) -> Self {
        match &self {
            Self::Database(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Self::SecondExchange
            }
            _ => self,
        }
    }

    /// Whether it is about one row that does not open or cannot be read: the store answers all
    /// others.
    #[must_use]
    pub const fn is_of_a_row(&self) -> bool {
        matches!(self, Self::AtRest(_) | Self::Corrupt { .. })
    }
}

/// A store is opened with the secret with which it was made.
async fn check_secret(db: &Db, secret: &HomeSecret) -> Result<(), StoreError> {
    const WITNESS: Place<'_> = Place {
        what: "the store",
        of: "",
    };
    let known = "SELECT value FROM facts WHERE name = 'sealed'";
    let mut sealed: Option<String> = query_scalar(known).fetch_optional(db).await?;
    if sealed.is_none() {
        query("INSERT INTO facts (name, value) VALUES ('sealed', $1) ON CONFLICT DO NOTHING")
            .bind(secret.seal(WITNESS, &[])?)
            .execute(db)
            .await?;
        sealed = Some(query_scalar(known).fetch_one(db).await?);
    }
    secret.open(WITNESS, &sealed.unwrap_or_default())?;
    Ok(())
}

/// A kind of value that is sealed in the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Private(pub &'static str);

impl Private {
    /// Seals one, of whom it is named after.
    pub fn seal(self, store: &Store, of: &str, value: &[u8]) -> Result<String, StoreError> {
        let place = Place { what: self.0, of };
        Ok(store.secret.seal(place, value)?)
    }

    /// Opens it.
    pub fn open(
        self,
        store: &Store,
        of: &str,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let place = Place { what: self.0, of };
        Ok(store.secret.open(place, sealed)?)
    }

    /// Opens it as what a text was written from.
    pub fn read<T>(self, store: &Store, of: &str, sealed: &str) -> Result<T, StoreError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let opened = self.open(store, of, sealed)?;
        read(self.0, &String::from_utf8_lossy(&opened))
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
    /// Seals what is private in it.
    secret: HomeSecret,
}

impl Store {
    /// Opens the store in a home folder, makes it if it is not there, and brings its layout up
    /// to date.
    ///
    /// # Errors
    /// A folder that cannot be written, a file that is no store, a secret that is not the one
    /// with which the store was made.
    pub async fn open(home: &Path, secret: &HomeSecret) -> Result<Self, StoreError> {
        Self::open_with(home, secret, None).await
    }

    /// The same for a test, in which writes go wrong.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(
        home: &Path,
        secret: &HomeSecret,
        faults: Option<Arc<dyn WriteFaults>>,
    ) -> Result<Self, StoreError> {
        let store = Self::open_left(home, secret).await?;
        match store.db.left_by().await? {
            None => Ok(Self {
                db: store.db.with_faults(faults),
                ..store
            }),
            Some(_) => Err(StoreError::Left),
        }
    }

    /// The same, also of one that was moved: to see whether all of it was.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_left(home: &Path, secret: &HomeSecret) -> Result<Self, StoreError> {
        // A daemon and a command that open a new store at once must not both lay it out: SQLite
        // does not wait for the other when a file becomes a database with a write-ahead log.
        let guard = home_lock::lay_out_alone(home).await?;
        let db = Db::of_file(&home.join("medsync.db")).await?;
        let store = Self::laid_out(db, secret, None).await?;
        drop(guard);
        Ok(store)
    }

    /// Opens the store that several replicas share, and brings its layout up to date.
    ///
    /// # Errors
    /// A database that does not answer, or orders texts in another way; a secret that is not the
    /// one with which the store was made.
    pub async fn open_shared(
        url: &PostgresUrl,
        secret: &HomeSecret,
        faults: Option<Arc<dyn WriteFaults>>,
    ) -> Result<Self, StoreError> {
        Self::laid_out(Db::of_server(url).await?, secret, faults).await
    }

    async fn laid_out(
        db: Db,
        secret: &HomeSecret,
        faults: Option<Arc<dyn WriteFaults>>,
    ) -> Result<Self, StoreError> {
        db.lay_out().await?;
        check_secret(&db, secret).await?;
        Ok(Self {
            db: db.with_faults(faults),
            secret: secret.clone(),
        })
    }

    /// Whether replicas with homes of their own share this store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.db.is_shared()
    }

    /// The same store, which writes only while this epoch of a lease is the last one.
    #[must_use]
    pub fn fenced(&self, lease: &'static str, epoch: i64) -> Self {
        Self {
            db: self.db.fenced(Fence { lease, epoch }),
            secret: self.secret.clone(),
        }
    }

    /// The same store, by connections of its own.
    pub(crate) fn apart(&self) -> Self {
        Self {
            db: self.db.apart(),
            secret: self.secret.clone(),
        }
    }

    /// The same store, in which single writes wait for no other writer.
    pub(crate) fn beside(&self) -> Self {
        Self {
            db: self.db.beside(),
            secret: self.secret.clone(),
        }
    }

    /// Copies the store into a new file, as it is at one moment, while others use it; without what
    /// was deleted.
    ///
    /// # Errors
    /// A database that refuses; a file that is there.
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        self.db.copy_to(file).await
    }

    /// Moves the store into a database that holds nothing yet, all or nothing; what is left of it
    /// here takes no writes. One that was cut off is completed by the next.
    ///
    /// # Errors
    /// A database that refuses; [`StoreError::NotEmpty`]. The store goes on here then, unless
    /// nobody knows what became of the move.
    pub async fn move_to_shared(&self, url: &PostgresUrl) -> Result<(), StoreError> {
        let shared = Db::of_server(url).await?;
        shared.lay_out().await?;
        self.db.move_to(&shared).await
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
        self.db.damage().await
    }

    /// Takes what was deleted out of the files of the database, as far as it can.
    ///
    /// # Errors
    /// A database that refuses; readers that stay in the way are waited for.
    pub(crate) async fn scrub(&self) -> Result<(), StoreError> {
        self.db.scrub().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_of_a_later_version_is_refused_and_left_as_it_is() {
        let home = tempfile::tempdir().expect("a folder");
        let secret = HomeSecret::from_bytes(&[7; 32]);
        let store = Store::open(home.path(), &secret).await.expect("a store");
        let later = query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
             execution_time) VALUES (1000, 'later', TRUE, x'00', 0)",
        );
        later.execute(&store.db).await.expect("laid out");
        store.close().await;
        for _ in 0..2 {
            let error = Store::open(home.path(), &secret).await.err();
            let error = error.expect("it is refused");
            assert!(matches!(error, StoreError::OtherLayout(_)), "{error}");
            assert!(error.to_string().contains("another version"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_transaction_that_found_no_room_spoils_no_connection() {
        let home = tempfile::tempdir().expect("a folder");
        let secret = HomeSecret::from_bytes(&[7; 32]);
        let store = Store::open(home.path(), &secret).await.expect("a store");
        for _ in 0..8 {
            let mut transaction = store.db.begin("test").await.expect("it begins");
            let pages: i64 = query_scalar("PRAGMA page_count")
                .fetch_one(&mut *transaction)
                .await
                .expect("a number");
            let full = format!("PRAGMA max_page_count = {pages}");
            let limited = query(&full).execute(&mut *transaction).await;
            limited.expect("a limit of this connection");
            let written = query("INSERT INTO facts (name, value) VALUES ('test', $1)")
                .bind("x".repeat(1 << 20))
                .execute(&mut *transaction)
                .await;
            assert!(written.is_err(), "there is no room");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_reads_before_it_writes_waits_for_another_writer() {
        let home = tempfile::tempdir().expect("a folder");
        let secret = HomeSecret::from_bytes(&[7; 32]);
        let store = Store::open(home.path(), &secret).await.expect("a store");
        let write = |who: usize| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..50 {
                    let mut transaction = store.db.begin("test").await?;
                    query("SELECT COUNT(*) FROM facts")
                        .fetch_one(&mut *transaction)
                        .await?;
                    query("INSERT INTO facts (name, value) VALUES ($1, '')")
                        .bind(format!("{who} {number}"))
                        .execute(&mut *transaction)
                        .await?;
                    transaction.commit().await?;
                }
                Ok::<_, StoreError>(())
            })
        };
        let writers: Vec<_> = (0..4).map(write).collect();
        for writer in writers {
            writer.await.expect("no panic").expect("written");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_may_open_a_new_store_at_once() {
        for _ in 0..8 {
            let home = tempfile::tempdir().expect("a folder");
            let open = || {
                let path = home.path().to_owned();
                tokio::spawn(async move {
                    let secret = HomeSecret::from_bytes(&[7; 32]);
                    Store::open(&path, &secret).await.map(|_| ())
                })
            };
            let opening: Vec<_> = (0..8).map(|_| open()).collect();
            for opened in opening {
                opened.await.expect("no panic").expect("a store");
            }
        }
    }
}
