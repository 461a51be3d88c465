//! Exchanges: for which recipient's key each is.

use medsync_client::wire::ExpectedRecipient;
use medsync_protocol::ids::ContextId;
use medsync_protocol::signature::PublicKey;
use serde_json::json;

use super::{Office, Open};
use crate::commands::{Home, print_json};

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
        self.open.run(Some(self.recipient)).await
    }
}

impl Recipient {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (office, key) = (Office::of(&self.home.home).await?, self.key);
        let expected = ExpectedRecipient { key };
        office.expect_recipient(self.exchange, expected).await?;
        print_json(&json!({ "exchange": self.exchange, "recipient": key }))
    }
}
