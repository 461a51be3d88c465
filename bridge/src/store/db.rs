//! The database behind the store, and the seam at which a write goes wrong.
//!
//! Every statement and transaction of the store passes here. A write has a name: its statement, or
//! what its transaction is called. In a test, [`WriteFaults`] says what becomes of it.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use sqlx::sqlite::{Sqlite, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, SqliteConnection, SqlitePool, Transaction};

/// What becomes of a write that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// Nothing was written.
    Failed,
    /// It was written, and whoever wrote it is told that it failed.
    FailedButTookEffect,
}

/// Says what becomes of writes, by their names.
pub trait WriteFaults: Debug + Send + Sync {
    /// What becomes of this write; nothing if it goes well.
    fn take(&self, write: &str) -> Option<WriteFault>;
}

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: SqlitePool,
    faults: Option<Arc<dyn WriteFaults>>,
}

/// Several writes, all or nothing.
pub(crate) struct Tx {
    inner: Transaction<'static, Sqlite>,
    fault: Option<WriteFault>,
}

impl Db {
    pub(crate) fn new(pool: SqlitePool, faults: Option<Arc<dyn WriteFaults>>) -> Self {
        Self { pool, faults }
    }

    /// Begins a transaction of this name.
    pub(crate) async fn begin(&self, name: &'static str) -> Result<Tx, sqlx::Error> {
        // SQLite waits for another writer here alone: who read before it writes is refused at once.
        let inner = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Tx {
            inner,
            fault: self.fault_of(name),
        })
    }

    /// Waits until every connection is closed.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    fn fault_of(&self, write: &str) -> Option<WriteFault> {
        self.faults.as_ref().and_then(|faults| faults.take(write))
    }

    fn fault_of_statement(&self, sql: &str) -> Option<WriteFault> {
        let is_write = ["INSERT", "UPDATE", "DELETE"]
            .iter()
            .any(|verb| sql.starts_with(verb));
        is_write.then(|| self.fault_of(sql)).flatten()
    }
}

impl Tx {
    /// Makes all of it durable.
    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self.fault {
            None => self.inner.commit().await,
            Some(WriteFault::Failed) => Err(gone_wrong()),
            Some(WriteFault::FailedButTookEffect) => {
                self.inner.commit().await?;
                Err(gone_wrong())
            }
        }
    }
}

impl Deref for Tx {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }
}

fn gone_wrong() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other("a fault of the test"))
}

type Answer = Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>;

impl<'c> Executor<'c> for &'c Db {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Answer>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let failed = || stream::once(async { Err(gone_wrong()) });
        match self.fault_of_statement(query.sql()) {
            None => (&self.pool).fetch_many(query),
            Some(WriteFault::Failed) => failed().boxed(),
            Some(WriteFault::FailedButTookEffect) => {
                (&self.pool).fetch_many(query).chain(failed()).boxed()
            }
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<SqliteRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        match self.fault_of_statement(query.sql()) {
            None => (&self.pool).fetch_optional(query),
            Some(WriteFault::Failed) => async { Err(gone_wrong()) }.boxed(),
            Some(WriteFault::FailedButTookEffect) => {
                let written = (&self.pool).fetch_optional(query);
                async move { written.await.and(Err(gone_wrong())) }.boxed()
            }
        }
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<SqliteStatement<'q>, sqlx::Error>>
    where
        'c: 'e,
    {
        (&self.pool).prepare_with(sql, parameters)
    }

    fn describe<'e, 'q: 'e>(
        self,
        sql: &'q str,
    ) -> BoxFuture<'e, Result<Describe<Sqlite>, sqlx::Error>>
    where
        'c: 'e,
    {
        (&self.pool).describe(sql)
    }
}
