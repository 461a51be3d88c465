//! PostgreSQL: one database that the replicas of a home share.
//!
//! Nothing waits for ever: the server ends a statement, a wait for a lock and a transaction of a
//! writer that fell asleep, and an answer that does not come is no longer waited for. A connection
//! on which something is left open is closed, which rolls it back.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode, Postgres};
use sqlx::{ConnectOptions, Executor, PgPool};
use tokio::time::timeout;

use super::statement::{Done, Query, Row, Wanted};
use super::{Db, Pool};
use crate::files::{self, FileError};
use crate::store::StoreError;

const CONNECTIONS_MAX: u32 = 8;
/// How long connecting may take.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Longer than the server lets any statement take.
const ANSWER_WAIT: Duration = Duration::from_secs(25);
/// The same for what writes or reads whole tables.
const LONG_WAIT: Duration = Duration::from_secs(60 * 60);
/// What the server bounds, so that no writer that fell asleep keeps the others waiting; and how
/// much memory a look at what is in no other table takes before it gets slow.
const BOUNDS: [(&str, &str); 6] = [
    ("statement_timeout", "20s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("synchronous_commit", "on"),
    ("work_mem", "64MB"),
    ("client_min_messages", "warning"),
];
const URL_BYTES_MAX: u64 = 4 * 1024;
/// What a URL may say behind its question mark.
const NAMES: [&str; 9] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "user",
    "password",
    "dbname",
];

/// Begins a transaction that waits for no other.
pub(super) const BEGIN: &str = "BEGIN";
/// Begins a transaction when it is this writer's turn. The number is of no meaning, and the same in
/// every version.
pub(super) const BEGIN_IN_TURN: &str = "BEGIN; SELECT pg_advisory_xact_lock(7021633841104520243)";
/// Begins to read everything as it is at one moment.
pub(super) const BEGIN_TO_COPY: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL statement_timeout = 0";

/// Where a database is, with the password: printed nowhere.
#[derive(Clone)]
pub struct PostgresUrl(Box<PgConnectOptions>);

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresUrl")
    }
}

impl PostgresUrl {
    /// Reads the file that holds a URL.
    ///
    /// # Errors
    /// A file that is absent, that others may read, or that holds none.
    pub fn read(file: &Path) -> Result<Self, FileError> {
        let bytes = files::read_secret(file, URL_BYTES_MAX)?;
        let malformed = |why| FileError::Malformed {
            path: file.to_owned(),
            why,
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed("it is no text".into()))?;
        Self::parse(text.trim()).map_err(malformed)
    }

    /// Reads a URL; what is wrong is said without it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const LIKE: &str = "like postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full";
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(format!("it does not begin {LIKE}"));
        }
        let url = url::Url::parse(text).map_err(|_| format!("it is no URL {LIKE}"))?;
        // A misspelt name would be written into the log, with what may be the password; and what
        // stands there may be the rest of one in which there is a question mark.
        if url.query_pairs().any(|(name, _)| !NAMES.contains(&&*name)) {
            let names = NAMES.join(", ");
            return Err(format!(
                "it names something behind ? that is none of {names}"
            ));
        }
        let options = PgConnectOptions::from_str(text);
        // What is wrong may quote the URL.
        let options = options.map_err(|_| format!("it is no URL {LIKE}"))?;
        let host = options.get_host();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let is_here = options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || address.is_ok_and(|address| address.is_loopback());
        let is_checked = matches!(
            options.get_ssl_mode(),
            PgSslMode::VerifyFull | PgSslMode::VerifyCa
        );
        if !is_here && !is_checked {
            return Err("its database is on another machine: add sslmode=verify-full to it".into());
        }
        if options.get_database().is_none() {
            return Err(format!("it names no database; it is {LIKE}"));
        }
        Ok(Self(Box::new(
            options
                .application_name("medsync")
                .options(BOUNDS)
                .disable_statement_logging(),
        )))
    }
}

impl Db {
    /// Opens a database that is there.
    pub(crate) async fn of_server(url: &PostgresUrl) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_WAIT)
            .connect_with((*url.0).clone())
            .await?;
        let db = Self {
            pool: Pool::Postgres(pool),
            faults: None,
            fence: None,
            is_beside: false,
        };
        db.check_texts().await?;
        Ok(db)
    }

    /// The store's order is that of bytes, and what it keeps is Unicode.
    async fn check_texts(&self) -> Result<(), StoreError> {
        let asked = super::query_scalar(
            "SELECT current_setting('server_encoding') = 'UTF8' AND 'B' < 'a' AND 'a-c' < 'ab' \
             AND 'z' < U&'\\00e9'",
        );
        match asked.fetch_one(self).await? {
            true => Ok(()),
            false => Err(StoreError::OtherTexts),
        }
    }
}

/// A few more connections to the same database, made when they are wanted.
pub(super) fn another(pool: &PgPool) -> PgPool {
    const CONNECTIONS_MAX: u32 = 2;
    PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(CONNECT_WAIT)
        .connect_lazy_with((*pool.connect_options()).clone())
}

/// A connection that goes back to the others only when nothing is open on it.
#[derive(Debug)]
pub(crate) struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    async fn of(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    /// Begins a transaction on one.
    pub(super) async fn begun(pool: &PgPool, begin: &str) -> Result<Self, sqlx::Error> {
        let mut lent = Self::of(pool).await?;
        lent.say(begin).await?;
        Ok(lent)
    }

    /// Runs a single statement on one.
    pub(super) async fn run_alone(
        pool: &PgPool,
        query: Query<'_>,
        wanted: Wanted,
    ) -> Result<Done, sqlx::Error> {
        let mut lent = Self::of(pool).await?;
        let done = lent.run(query, wanted).await;
        // The server itself refused: nothing is open.
        if !matches!(&done, Err(error) if error.as_database_error().is_none()) {
            lent.give_back();
        }
        done
    }

    /// Runs a statement.
    pub(super) async fn run(
        &mut self,
        query: Query<'_>,
        wanted: Wanted,
    ) -> Result<Done, sqlx::Error> {
        let sql = query.sql;
        let query = sqlx::query_with(sql, query.for_postgres()?);
        let connection = self.connection()?;
        let done = async {
            Ok::<_, sqlx::Error>(match wanted {
                Wanted::Count => Done {
                    rows_affected: query.execute(connection).await?.rows_affected(),
                    rows: Vec::new(),
                },
                Wanted::Rows => {
                    let rows = query.fetch_all(connection).await?;
                    Done {
                        rows_affected: rows.len() as u64,
                        rows: rows.into_iter().map(Row::Postgres).collect(),
                    }
                }
            })
        };
        let done = timeout(ANSWER_WAIT, done).await;
        done.map_err(|_| silent(ANSWER_WAIT))?
    }

    /// Makes what was begun durable.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.say("COMMIT").await?;
        self.give_back();
        Ok(())
    }

    /// Runs a statement that the server lets take as long as it takes, as one by itself.
    pub(super) async fn at_length(pool: &PgPool, statement: &str) -> Result<(), sqlx::Error> {
        let mut lent = Self::of(pool).await?;
        lent.say("SET statement_timeout = 0").await?;
        // The connection is closed afterwards, with that setting.
        let done = lent.connection()?.execute(statement);
        let done = timeout(LONG_WAIT, done).await;
        done.map_err(|_| silent(LONG_WAIT))??;
        Ok(())
    }

    /// Says something that has no values and no rows.
    pub(super) async fn say(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let said = self.connection()?.execute(sql);
        let said = timeout(ANSWER_WAIT, said).await;
        said.map_err(|_| silent(ANSWER_WAIT))??;
        Ok(())
    }

    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        // It is there until it is given back or dropped.
        self.0.as_deref_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}

fn silent(waited: Duration) -> sqlx::Error {
    let why = format!("the database did not answer within {} s", waited.as_secs());
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_of_this_machine_or_checks_whom_it_speaks_to() {
        for good in [
            "postgres://medsync:secret@127.0.0.1:5432/medsync",
            "postgresql://medsync@localhost/medsync",
            "postgres://medsync@[::1]/medsync",
            "postgres:///medsync?host=/run/postgresql&user=medsync",
            "postgres://medsync:secret@db.example/medsync?sslmode=verify-full",
        ] {
            assert!(PostgresUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "medsync",
            "mysql://medsync:secret@localhost/medsync",
            "postgres://medsync:secret@db.example/medsync",
            "postgres://medsync:secret@db.example/medsync?sslmode=require",
            "postgres://medsync:secret@127.0.0.1:99999999/medsync",
            "postgres://medsync@127.0.0.1/medsync?pasword=secret",
            "postgres://medsync:54?secret@localhost/medsync",
        ] {
            let why = PostgresUrl::parse(bad).expect_err(bad);
            assert!(!why.contains("secret"), "{why}");
        }
        let url = PostgresUrl::parse("postgres://medsync:secret@127.0.0.1/medsync");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
