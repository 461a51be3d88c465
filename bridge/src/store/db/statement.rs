//! One statement, its values and its rows, whichever database runs it.
//!
//! Values are of three kinds, which both databases have: whole numbers, texts and booleans. An
//! expression may be narrower in PostgreSQL than the column that it is read as; that is widened
//! here.

use std::marker::PhantomData;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Column as _, ColumnIndex, Row as _, TypeInfo, ValueRef};

use super::{Db, Open};
use crate::store::StoreError;

/// What is bound to a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Integer(Option<i64>),
    Text(Option<String>),
    Boolean(Option<bool>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(Some(value.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(Some(value))
    }
}

impl From<Option<bool>> for Value {
    fn from(value: Option<bool>) -> Self {
        Self::Boolean(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

/// A statement with what is bound to it.
#[derive(Clone, Debug)]
pub(crate) struct Query<'q> {
    pub(super) sql: &'q str,
    values: Vec<Value>,
}

/// A statement whose rows are wanted.
pub(crate) fn query(sql: &str) -> Query<'_> {
    Query {
        sql,
        values: Vec::new(),
    }
}

/// A statement of whose rows the first column is wanted.
pub(crate) fn query_scalar<T>(sql: &str) -> Scalar<'_, T> {
    Scalar {
        query: query(sql),
        wanted: PhantomData,
    }
}

/// A statement of whose rows the first two columns are wanted.
pub(crate) fn query_as<T>(sql: &str) -> Scalar<'_, T> {
    query_scalar(sql)
}

/// A statement that writes many rows, some hundred at a time: each goes over the wire and back, and
/// no other writer waits for as many answers as there are rows. `{rows}` in it is where their
/// values stand.
pub(crate) fn query_rows<const COLUMNS: usize>(
    sql: &str,
    rows: impl IntoIterator<Item = [Value; COLUMNS]>,
) -> Rows<'_, COLUMNS> {
    Rows {
        sql,
        rows: rows.into_iter().collect(),
    }
}

/// See [`query_rows`].
pub(crate) struct Rows<'q, const COLUMNS: usize> {
    sql: &'q str,
    rows: Vec<[Value; COLUMNS]>,
}

impl<const COLUMNS: usize> Rows<'_, COLUMNS> {
    /// How many values one statement has at most.
    const VALUES_MAX: usize = 2048;

    /// Writes all of them, if what is begun is committed; answers how many were written.
    pub(crate) async fn execute(self, open: &mut Open) -> Result<u64, StoreError> {
        let mut written = 0;
        for rows in self.rows.chunks(Self::VALUES_MAX / COLUMNS) {
            let sql = self.sql.replace("{rows}", &places(rows.len(), COLUMNS));
            let values = rows.iter().flatten();
            let query = values.fold(query(&sql), |query, value| query.bind(value.clone()));
            written += query.execute(&mut *open).await?.rows_affected();
        }
        Ok(written)
    }
}

/// `($1, $2), ($3, $4)`: where the values of so many rows stand.
fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let places: Vec<String> = (1..=columns)
            .map(|column| format!("${}", row * columns + column))
            .collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    rows.join(", ")
}

/// On what a statement runs.
pub(crate) enum On<'c> {
    /// A connection of its own; a write is one by itself.
    Db(&'c Db),
    /// What is begun.
    Open(&'c mut Open),
}

impl<'c> From<&'c Db> for On<'c> {
    fn from(db: &'c Db) -> Self {
        Self::Db(db)
    }
}

impl<'c> From<&'c mut Open> for On<'c> {
    fn from(open: &'c mut Open) -> Self {
        Self::Open(open)
    }
}

/// What a statement did.
#[derive(Default)]
pub(crate) struct Done {
    pub(super) rows: Vec<Row>,
    pub(super) rows_affected: u64,
}

impl Done {
    /// How many rows it wrote.
    pub(crate) fn rows_affected(&self) -> u64 {
        self.rows_affected
    }
}

/// Which of the two is wanted of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Count,
    Rows,
}

impl Query<'_> {
    /// Binds the next value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it; answers how many rows it wrote.
    pub(crate) async fn execute<'c>(self, on: impl Into<On<'c>>) -> Result<Done, StoreError> {
        self.run(on.into(), Wanted::Count).await
    }

    /// All rows.
    pub(crate) async fn fetch_all<'c>(self, on: impl Into<On<'c>>) -> Result<Vec<Row>, StoreError> {
        Ok(self.run(on.into(), Wanted::Rows).await?.rows)
    }

    /// The first row, if there is one.
    pub(crate) async fn fetch_optional<'c>(
        self,
        on: impl Into<On<'c>>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    /// The first row.
    pub(crate) async fn fetch_one<'c>(self, on: impl Into<On<'c>>) -> Result<Row, StoreError> {
        let row = self.fetch_optional(on).await?;
        row.ok_or(StoreError::Database(sqlx::Error::RowNotFound))
    }

    async fn run(self, on: On<'_>, wanted: Wanted) -> Result<Done, StoreError> {
        // On the heap: the future of whoever asks, and of who asks that, has room for it.
        match on {
            On::Db(db) => Box::pin(db.run(self, wanted)).await,
            On::Open(open) => Box::pin(open.run(self, wanted)).await,
        }
    }

    /// Whether it writes.
    pub(super) fn is_write(&self) -> bool {
        let mut verbs = ["INSERT", "UPDATE", "DELETE"].iter();
        verbs.any(|verb| self.sql.starts_with(verb))
    }

    pub(super) fn for_sqlite<'a>(self) -> Result<SqliteArguments<'a>, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in self.values {
            let added = match value {
                Value::Integer(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Boolean(value) => arguments.add(value),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }

    pub(super) fn for_postgres(self) -> Result<PgArguments, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for value in self.values {
            let added = match value {
                Value::Integer(value) => arguments.add(value),
                // PostgreSQL has no text with a zero in it. What is parsed again has none; what an
                // endpoint or a member said for people may.
                Value::Text(value) => arguments.add(value.map(|text| match text.contains('\0') {
                    true => text.replace('\0', "\u{fffd}"),
                    false => text,
                })),
                Value::Boolean(value) => arguments.add(value),
            };
            added.map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }
}

/// A statement of which single values are wanted.
pub(crate) struct Scalar<'q, T> {
    query: Query<'q>,
    wanted: PhantomData<fn() -> T>,
}

impl<T: FromRow> Scalar<'_, T> {
    /// Binds the next value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// The values of all rows.
    pub(crate) async fn fetch_all<'c>(self, on: impl Into<On<'c>>) -> Result<Vec<T>, StoreError> {
        let rows = self.query.fetch_all(on).await?;
        let values: Result<_, sqlx::Error> = rows.iter().map(T::from_row).collect();
        Ok(values?)
    }

    /// The value of the first row, if there is one.
    pub(crate) async fn fetch_optional<'c>(
        self,
        on: impl Into<On<'c>>,
    ) -> Result<Option<T>, StoreError> {
        let row = self.query.fetch_optional(on).await?;
        Ok(row.as_ref().map(T::from_row).transpose()?)
    }

    /// The value of the first row.
    pub(crate) async fn fetch_one<'c>(self, on: impl Into<On<'c>>) -> Result<T, StoreError> {
        let row = self.query.fetch_one(on).await?;
        Ok(T::from_row(&row)?)
    }
}

/// A row of either database.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A column's value, by name or place.
    pub(crate) fn try_get<'r, T, I>(&'r self, at: I) -> Result<T, sqlx::Error>
    where
        T: Column<'r>,
        I: At,
    {
        T::read(self, at)
    }

    fn is_null<I: At>(&self, at: I) -> Result<bool, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get_raw(at)?.is_null(),
            Self::Postgres(row) => row.try_get_raw(at)?.is_null(),
        })
    }
}

/// By what a column is found.
pub(crate) trait At: ColumnIndex<SqliteRow> + ColumnIndex<PgRow> + Copy {}

impl<I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow> + Copy> At for I {}

/// What is read of a column.
pub(crate) trait Column<'r>: Sized {
    fn read<I: At>(row: &'r Row, at: I) -> Result<Self, sqlx::Error>;
}

impl Column<'_> for i64 {
    fn read<I: At>(row: &Row, at: I) -> Result<Self, sqlx::Error> {
        match row {
            Row::Sqlite(row) => row.try_get(at),
            // A number that stands in a statement is of 32 bits.
            Row::Postgres(row) if row.try_column(at)?.type_info().name() == "INT4" => {
                row.try_get::<i32, _>(at).map(Self::from)
            }
            Row::Postgres(row) => row.try_get(at),
        }
    }
}

impl Column<'_> for u32 {
    fn read<I: At>(row: &Row, at: I) -> Result<Self, sqlx::Error> {
        let value = i64::read(row, at)?;
        value
            .try_into()
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

impl Column<'_> for bool {
    fn read<I: At>(row: &Row, at: I) -> Result<Self, sqlx::Error> {
        match row {
            Row::Sqlite(row) => row.try_get(at),
            Row::Postgres(row) => row.try_get(at),
        }
    }
}

impl Column<'_> for String {
    fn read<I: At>(row: &Row, at: I) -> Result<Self, sqlx::Error> {
        match row {
            Row::Sqlite(row) => row.try_get(at),
            Row::Postgres(row) => row.try_get(at),
        }
    }
}

impl<'r> Column<'r> for &'r str {
    fn read<I: At>(row: &'r Row, at: I) -> Result<Self, sqlx::Error> {
        match row {
            Row::Sqlite(row) => row.try_get(at),
            Row::Postgres(row) => row.try_get(at),
        }
    }
}

impl<'r, T: Column<'r>> Column<'r> for Option<T> {
    fn read<I: At>(row: &'r Row, at: I) -> Result<Self, sqlx::Error> {
        match row.is_null(at)? {
            true => Ok(None),
            false => T::read(row, at).map(Some),
        }
    }
}

/// What is read of a whole row.
pub(crate) trait FromRow: Sized {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error>;
}

impl<T: for<'r> Column<'r>> FromRow for T {
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        row.try_get(0)
    }
}

impl<A, B> FromRow for (A, B)
where
    A: for<'r> Column<'r>,
    B: for<'r> Column<'r>,
{
    fn from_row(row: &Row) -> Result<Self, sqlx::Error> {
        Ok((row.try_get(0)?, row.try_get(1)?))
    }
}
