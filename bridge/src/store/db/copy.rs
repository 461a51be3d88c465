//! All rows of one database, copied into an empty one of the other kind.
//!
//! One of the two is always SQLite, which says what the tables and their columns are. Leases are
//! of the processes that share a database, and are not copied.

use sqlx::SqlitePool;

use super::postgres::{BEGIN_TO_COPY, Lent};
use super::statement::{Query, Value};
use super::{Db, Open, Pool, Row, query, query_scalar, sqlite};
use crate::store::StoreError;

/// How many rows are in memory at a time.
const PAGE: i64 = 500;
/// What PostgreSQL says of a lock that others kept for too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A table, and its columns with their kinds.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    columns: Vec<(String, Kind)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Integer,
    Text,
    Boolean,
}

impl Kind {
    fn named(name: &str) -> Result<Self, StoreError> {
        match name {
            "BIGINT" => Ok(Self::Integer),
            "TEXT" => Ok(Self::Text),
            "BOOLEAN" => Ok(Self::Boolean),
            other => Err(StoreError::Corrupt {
                what: "a column's type",
                why: other.to_owned(),
            }),
        }
    }

    fn of(self, row: &Row, column: &str) -> Result<Value, sqlx::Error> {
        Ok(match self {
            Self::Integer => Value::Integer(row.try_get(column)?),
            Self::Text => Value::Text(row.try_get(column)?),
            Self::Boolean => Value::Boolean(row.try_get(column)?),
        })
    }
}

/// The tables of the store, as SQLite has them.
pub(super) async fn tables(sqlite: &mut Open) -> Result<Vec<Table>, StoreError> {
    let names = query_scalar::<String>(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN \
         ('_sqlx_migrations', 'leases') AND name NOT LIKE 'sqlite%' ORDER BY name",
    );
    let mut tables = Vec::new();
    for name in names.fetch_all(&mut *sqlite).await? {
        let rows = query("SELECT name, type FROM pragma_table_info($1) ORDER BY cid")
            .bind(&name)
            .fetch_all(&mut *sqlite)
            .await?;
        let column = |row: &Row| -> Result<_, StoreError> {
            Ok((row.try_get("name")?, Kind::named(row.try_get("type")?)?))
        };
        let columns = rows.iter().map(column).collect::<Result<_, _>>()?;
        tables.push(Table { name, columns });
    }
    Ok(tables)
}

impl Table {
    fn columns(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }

    async fn len(&self, open: &mut Open) -> Result<i64, StoreError> {
        let count = format!("SELECT COUNT(*) FROM {}", self.name);
        query_scalar(&count).fetch_one(open).await
    }

    async fn copy(&self, from: &mut Open, to: &mut Open) -> Result<(), StoreError> {
        let (name, columns) = (&self.name, self.columns());
        let places: Vec<String> = (1..=self.columns.len())
            .map(|at| format!("${at}"))
            .collect();
        let places = places.join(", ");
        let insert = format!("INSERT INTO {name} ({columns}) VALUES ({places})");
        let (is_sqlite, page) = match from {
            Open::Sqlite(_) => (
                true,
                format!(
                    "SELECT rowid AS at_row, {columns} FROM {name} WHERE rowid > $1 \
                     ORDER BY rowid LIMIT {PAGE}"
                ),
            ),
            Open::Postgres(lent) => {
                let declare = format!(
                    "DECLARE copy_{name} NO SCROLL CURSOR FOR SELECT {columns} FROM {name}"
                );
                lent.say(&declare).await?;
                (false, format!("FETCH {PAGE} FROM copy_{name}"))
            }
        };
        let mut after = 0_i64;
        loop {
            let mut asked = query(&page);
            if is_sqlite {
                asked = asked.bind(after);
            }
            let rows = asked.fetch_all(&mut *from).await?;
            for row in &rows {
                let mut insert: Query<'_> = query(&insert);
                for (column, kind) in &self.columns {
                    insert = insert.bind(kind.of(row, column)?);
                }
                insert.execute(&mut *to).await?;
            }
            let Some(last) = rows.last().filter(|_| rows.len() as i64 == PAGE) else {
                break;
            };
            if is_sqlite {
                after = last.try_get("at_row")?;
            }
        }
        let (there, here) = (self.len(from).await?, self.len(to).await?);
        if there != here {
            return Err(StoreError::Corrupt {
                what: "a copy",
                why: format!("{name} has {there} rows, and {here} in the copy"),
            });
        }
        Ok(())
    }
}

impl Db {
    /// Copies everything, as it is at one moment, into a new file, while others use it.
    pub(crate) async fn copy_to(&self, file: &std::path::Path) -> Result<(), StoreError> {
        match &self.pool {
            // Without what was deleted.
            Pool::Sqlite(pool) => vacuum_into(pool, file).await,
            Pool::Postgres(pool) => {
                let copy = Self::of_file(file).await?;
                copy.lay_out().await?;
                let mut from = Open::Postgres(Lent::begun(pool, BEGIN_TO_COPY).await?);
                let mut to = copy.open().await?;
                for table in tables(&mut to).await? {
                    table.copy(&mut from, &mut to).await?;
                }
                to.commit().await?;
                // Whoever takes the file takes no journal along.
                copy.scrub().await?;
                copy.close().await;
                Ok(())
            }
        }
    }

    /// Copies everything out of this file into a database that is laid out and empty; it is there
    /// once what is answered is committed.
    pub(super) async fn fill(&self, empty: &Self) -> Result<Open, StoreError> {
        let (mut from, mut to) = (self.open().await?, empty.open().await?);
        let tables = tables(&mut from).await?;
        for table in &tables {
            if table.len(&mut to).await? > 0 {
                return Err(StoreError::NotEmpty);
            }
        }
        for table in &tables {
            table.copy(&mut from, &mut to).await?;
        }
        Ok(to)
    }

    /// What the database says of its own damage; nothing if it is whole.
    pub(crate) async fn damage(&self) -> Result<Vec<String>, StoreError> {
        match &self.pool {
            Pool::Sqlite(pool) => Ok(sqlite::damage(pool).await?),
            // Reading a page checks its sum, if the server keeps sums; every value is read, also
            // those that lie beside their rows.
            Pool::Postgres(pool) => {
                let tables: Vec<String> = query_scalar(
                    "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() \
                     ORDER BY tablename",
                )
                .fetch_all(self)
                .await?;
                let mut said = Vec::new();
                for table in tables {
                    let read = format!("SELECT SUM(LENGTH(every::text)) FROM {table} every");
                    if let Err(error) = Lent::at_length(pool, &read).await {
                        match error.as_database_error() {
                            Some(refused) => said.push(format!("{table}: {refused}")),
                            None => return Err(error.into()),
                        }
                    }
                }
                Ok(said)
            }
        }
    }

    /// Takes what was deleted out of the files, as far as the database can.
    pub(crate) async fn scrub(&self) -> Result<(), StoreError> {
        match &self.pool {
            // Pages are overwritten when they are freed (`secure_delete`), and the journal that
            // still holds them is emptied.
            Pool::Sqlite(pool) => match sqlite::empty_journal(pool).await? {
                true => Ok(()),
                false => Err(StoreError::Busy),
            },
            // Rows that are dead are left behind: the tables are written anew into other files.
            Pool::Postgres(pool) => {
                let anew = "VACUUM (FULL) record_keys, records, reply_keys";
                Lent::at_length(pool, anew).await.map_err(|error| {
                    let code = error.as_database_error().and_then(|error| error.code());
                    match code.as_deref() {
                        Some(LOCK_NOT_AVAILABLE) => StoreError::Busy,
                        _ => error.into(),
                    }
                })
            }
        }
    }
}

async fn vacuum_into(pool: &SqlitePool, file: &std::path::Path) -> Result<(), StoreError> {
    sqlx::query("VACUUM INTO $1")
        .bind(file.to_string_lossy().into_owned())
        .execute(pool)
        .await?;
    Ok(())
}
