//! Transactions that are out for rows of the store.

use std::fmt::{self, Debug, Formatter};

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::TransactionHash;

use super::db::Row;
use super::{Private, Store, StoreError, read, unsigned};

/// A transaction that was sent, or is just about to be.
#[derive(Clone)]
pub struct Out {
    /// What is sent again, as it was prepared; it may carry secrets.
    pub intent: String,
    /// Its hash.
    pub transaction: TransactionHash,
    /// When it was first sent.
    pub sent_at: UnixSeconds,
}

impl Debug for Out {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out")
            .field("transaction", &self.transaction)
            .field("sent_at", &self.sent_at)
            .finish_non_exhaustive()
    }
}

impl Out {
    /// That of a row, whose intent was sealed under its `key`.
    pub(super) fn of(
        store: &Store,
        row: &Row,
        (sealed, key): (Private, &str),
    ) -> Result<Option<Self>, StoreError> {
        let Some(transaction) = row.try_get::<Option<String>, _>("transaction_hash")? else {
            return Ok(None);
        };
        let intent: Option<&str> = row.try_get("intent")?;
        let intent = intent.map(|intent| sealed.read(store, key, intent));
        let sent_at: Option<i64> = row.try_get("sent_at")?;
        Ok(Some(Self {
            intent: intent.transpose()?.unwrap_or_default(),
            transaction: read("a transaction hash", &transaction)?,
            sent_at: UnixSeconds(unsigned(sent_at.unwrap_or_default())),
        }))
    }
}
