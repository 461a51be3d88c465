//! The store's layout, made by the same steps in either database.

use sqlx::migrate::MigrateError;

use super::{Db, Pool};
use crate::store::StoreError;

impl Db {
    /// Brings the layout up to date.
    pub(crate) async fn lay_out(&self) -> Result<(), StoreError> {
        let steps = sqlx::migrate!("./migrations");
        let laid_out = match &self.pool {
            Pool::Sqlite(pool) => steps.run(pool).await,
            Pool::Postgres(pool) => steps.run(pool).await,
        };
        laid_out.map_err(|error| match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => {
                StoreError::OtherLayout(error)
            }
            other => StoreError::Migration(other),
        })
    }
}
