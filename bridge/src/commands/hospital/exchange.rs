//! Exchanges: for which recipient's key each is.

use anyhow::bail;
use medsync_protocol::ids::{ContextId, ContextKind};
use medsync_protocol::signature::PublicKey;
use serde_json::json;

use super::Open;
use crate::commands::{self, Home, print_json};
use crate::party::Party;
use crate::store::circles::CircleRow;

/// Open an exchange.
#[derive(Debug, clap::Args)]
pub struct Exchange {
    #[command(flatten)]
    open: Open,
    /// The key to which patients grant, as the recipient itself says it (`researcher show`): nobody
    /// else is served in the exchange.
    #[arg(long)]
    recipient: PublicKey,
}

/// Say for which key an exchange is.
#[derive(Debug, clap::Args)]
pub struct Recipient {
    #[command(flatten)]
    home: Home,
    /// The exchange.
    #[arg(long)]
    exchange: ContextId,
    /// The key, as the recipient itself says it.
    #[arg(long)]
    key: PublicKey,
}

impl Exchange {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        check_no_other(
            &Party::open(&self.open.home.home).await?,
            None,
            self.recipient,
        )
        .await?;
        let key = Some(self.recipient);
        self.open.run(ContextKind::Exchange, key).await
    }
}

impl Recipient {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        check_no_other(&party, Some(self.exchange), self.key).await?;
        party
            .store
            .expect_recipient(self.exchange, self.key)
            .await?;
        print_json(&json!({ "exchange": self.exchange, "recipient": self.key }))
    }
}

/// Lets a circle or an exchange go on; not a second exchange with one recipient.
pub(super) async fn resume(home: &Home, context: ContextId) -> anyhow::Result<()> {
    let party = Party::open(&home.home).await?;
    if let Some(key) = party.store.circle(context).await?.recipient_key {
        check_no_other(&party, Some(context), key).await?;
    }
    commands::resume(home, context).await
}

/// One recipient has one exchange that goes on: in a second one, somebody else would have its
/// receipts too.
async fn check_no_other(
    party: &Party,
    exchange: Option<ContextId>,
    key: PublicKey,
) -> anyhow::Result<()> {
    let rows = party.store.circles().await?;
    let is_other = |row: &&CircleRow| {
        row.recipient_key == Some(key)
            && row.alarm.is_none()
            && exchange.is_none_or(|own| own != row.context)
    };
    match rows.iter().find(is_other) {
        Some(other) => bail!(
            "{} is the exchange with {key} already; `medsync hospital invitation` writes its \
             invitation file again",
            other.context
        ),
        None => Ok(()),
    }
}
