//! The database behind the store, and the seam at which a write goes wrong.
//!
//! It is SQLite in the home, or PostgreSQL that several replicas of a home share. Nothing outside
//! of this module knows which: `sqlx`'s own common face for both has no booleans of SQLite's and
//! none of the settings that make a write durable and a deletion one, so this is a smaller one.
//!
//! Every statement and transaction of the store passes here. A write has a name: its statement, or
//! what its transaction is called. In a test, [`WriteFaults`] says what becomes of it.
//!
//! Writers go one after the other: SQLite has one lock for them, and on PostgreSQL each takes one
//! before it reads or writes anything. A store that is fenced by a lease writes only while the
//! lease is the one that it was fenced by, which the transaction of the write itself makes sure of.

use std::fmt::Debug;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::sqlite::Sqlite;
use sqlx::{PgPool, SqlitePool, Transaction};

use self::postgres::Lent;
pub use self::postgres::PostgresUrl;
use self::statement::Wanted;
pub(crate) use self::statement::{
    Done, Query, Row, Value, query, query_as, query_rows, query_scalar,
};
use super::StoreError;

mod copy;
mod layout;
mod moving;
mod postgres;
mod sqlite;
mod statement;

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

/// Under which lease a store writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    /// The lease's name.
    pub lease: &'static str,
    /// Its epoch: another one is somebody else's.
    pub epoch: i64,
}

#[derive(Clone, Debug)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Db {
    pool: Pool,
    faults: Option<Arc<dyn WriteFaults>>,
    fence: Option<Fence>,
    /// Its writes wait for no other's: those that keep a lease.
    is_beside: bool,
}

/// What is begun, on a connection of its own. What is not committed is rolled back.
pub(crate) enum Open {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Lent),
}

/// Several writes, all or nothing.
pub(crate) struct Tx {
    inner: Open,
    fault: Option<WriteFault>,
}

impl Db {
    /// Those whose writes go wrong as a test says.
    pub(crate) fn with_faults(mut self, faults: Option<Arc<dyn WriteFaults>>) -> Self {
        self.faults = faults;
        self
    }

    /// The same database, whose writes count only under this lease.
    pub(crate) fn fenced(&self, fence: Fence) -> Self {
        Self {
            fence: Some(fence),
            ..self.clone()
        }
    }

    /// The same database, in which single writes wait for nobody.
    pub(crate) fn beside(&self) -> Self {
        Self {
            is_beside: true,
            ..self.clone()
        }
    }

    /// The same database by connections of its own: whatever keeps the others busy.
    pub(crate) fn apart(&self) -> Self {
        let pool = match &self.pool {
            Pool::Sqlite(pool) => Pool::Sqlite(pool.clone()),
            Pool::Postgres(pool) => Pool::Postgres(postgres::another(pool)),
        };
        Self {
            pool,
            ..self.clone()
        }
    }

    /// Whether several processes with homes of their own share it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.pool, Pool::Postgres(_))
    }

    /// Begins a transaction of this name.
    pub(crate) async fn begin(&self, name: &'static str) -> Result<Tx, StoreError> {
        Ok(Tx {
            inner: Box::pin(self.open()).await?,
            fault: self.fault_of(name),
        })
    }

    /// Begins without a name, where it is this writer's turn and its lease is the one that counts.
    async fn open(&self) -> Result<Open, StoreError> {
        let mut open = match &self.pool {
            // SQLite waits for another writer here alone: who reads before it writes is refused at
            // once.
            Pool::Sqlite(pool) => Open::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
            Pool::Postgres(pool) => {
                let begin = match self.is_beside {
                    true => postgres::BEGIN,
                    false => postgres::BEGIN_IN_TURN,
                };
                Open::Postgres(Lent::begun(pool, begin).await?)
            }
        };
        if let Some(Fence { lease, epoch }) = self.fence {
            let asked = query("SELECT epoch FROM leases WHERE name = $1").bind(lease);
            let rows = open.run(asked, Wanted::Rows).await?.rows;
            let last: Option<i64> = rows.first().map(|row| row.try_get("epoch")).transpose()?;
            if last != Some(epoch) {
                return Err(StoreError::NotLeader { lease, epoch });
            }
        }
        Ok(open)
    }

    /// Waits until every connection is closed.
    pub(crate) async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(pool) => close(pool).await,
            Pool::Postgres(pool) => close(pool).await,
        }
    }

    async fn run(&self, query: Query<'_>, wanted: Wanted) -> Result<Done, StoreError> {
        let is_write = query.is_write();
        let fault = is_write.then(|| self.fault_of(query.sql)).flatten();
        if fault == Some(WriteFault::Failed) {
            return Err(gone_wrong());
        }
        let done = match &self.pool {
            Pool::Sqlite(pool) if self.fence.is_none() => sqlite::run(pool, query, wanted).await?,
            Pool::Postgres(pool) if !is_write => Lent::run_alone(pool, query, wanted).await?,
            Pool::Sqlite(pool) if !is_write => sqlite::run(pool, query, wanted).await?,
            _ => {
                let mut open = self.open().await?;
                let done = open.run(query, wanted).await?;
                open.commit().await?;
                done
            }
        };
        match fault {
            None => Ok(done),
            Some(_) => Err(gone_wrong()),
        }
    }

    fn fault_of(&self, write: &str) -> Option<WriteFault> {
        self.faults.as_ref().and_then(|faults| faults.take(write))
    }
}

impl Open {
    async fn run(&mut self, query: Query<'_>, wanted: Wanted) -> Result<Done, StoreError> {
        Ok(match self {
            Self::Sqlite(transaction) => sqlite::run(&mut **transaction, query, wanted).await?,
            Self::Postgres(lent) => lent.run(query, wanted).await?,
        })
    }

    async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await?,
            Self::Postgres(lent) => lent.commit().await?,
        }
        Ok(())
    }
}

impl Tx {
    /// Makes all of it durable.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        if self.fault == Some(WriteFault::Failed) {
            return Err(gone_wrong());
        }
        Box::pin(self.inner.commit()).await?;
        match self.fault {
            None => Ok(()),
            Some(_) => Err(gone_wrong()),
        }
    }
}

impl Deref for Tx {
    type Target = Open;

    fn deref(&self) -> &Open {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Open {
        &mut self.inner
    }
}

async fn close<D: sqlx::Database>(pool: &sqlx::Pool<D>) {
    loop {
        pool.close().await;
        if pool.size() == 0 {
            break;
        }
        // One that was on its way back meanwhile is closed the next time.
        tokio::task::yield_now().await;
    }
}

fn gone_wrong() -> StoreError {
    sqlx::Error::Io(std::io::Error::other("a fault of the test")).into()
}
