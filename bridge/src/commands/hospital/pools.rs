//! Reward pools: which of them this hospital issues tickets from.

use clap::Subcommand;
use medsync_client::wire::NewPool;
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::{PoolId, PoolNonce};
use serde_json::json;

use super::Office;
use crate::commands::{Home, print_json};
use crate::custodian::QUOTA_MAX;

/// What a hospital does with reward pools.
#[derive(Debug, Subcommand)]
pub enum Pools {
    /// Issue tickets from a pool: one to each patient with a consent in force to its recipient.
    Add(Add),
    /// Issue no more tickets from a pool; those that are out stay good.
    Close {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// The pool.
        pool: PoolId,
    },
    /// List the pools, a line each.
    List {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
    },
}

/// Issue tickets from a pool that is on the chain.
#[derive(Debug, clap::Args)]
pub struct Add {
    #[command(flatten)]
    home: Home,
    /// The contract that holds the pool.
    #[arg(long)]
    contract: ContractAddress,
    /// Who funds it.
    #[arg(long)]
    funder: ContractAddress,
    /// The funder's number for it.
    #[arg(long)]
    nonce: PoolNonce,
    /// To which recipient a consent is rewarded.
    #[arg(long)]
    recipient: PublicKey,
    /// How many tickets this hospital may have out; everything that the pool promised it if it is
    /// not said.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=QUOTA_MAX))]
    quota: Option<u64>,
    /// The text by which people know the pool, which its funder chose; patients read this.
    #[arg(long)]
    label: String,
}

impl Pools {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add(add) => add.run().await,
            Self::Close { home, pool } => {
                Office::of(&home.home).await?.close_pool(pool).await?;
                print_json(&json!({ "pool": pool, "issues": false }))
            }
            Self::List { home } => {
                for pool in Office::of(&home.home).await?.pools().await? {
                    print_json(&pool)?;
                }
                Ok(())
            }
        }
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let new = NewPool {
            contract: self.contract,
            funder: self.funder,
            nonce: self.nonce,
            recipient: self.recipient,
            quota: self.quota,
            label: self.label,
        };
        print_json(&Office::of(&self.home.home).await?.add_pool(new).await?)
    }
}
