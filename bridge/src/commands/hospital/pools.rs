//! Reward pools: which of them this hospital issues tickets from.

use anyhow::bail;
use clap::Subcommand;
use medsync_protocol::ids::{ContractAddress, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::{PoolId, PoolNonce};
use serde_json::json;

use crate::commands::{Home, print_json};
use crate::config::Role;
use crate::party::Party;
use crate::source::Pool;

/// The longest name of a pool, in bytes.
const LABEL_BYTES_MAX: usize = 128;

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

/// Issue tickets from a pool.
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
    /// When claiming ends, in unix seconds.
    #[arg(long)]
    claim_end: u64,
    /// How many tickets this hospital may have out: what the pool has funded for it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
    quota: u64,
    /// What the hospital calls it; its patients read this.
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
                let party = Party::open(&home.home).await?;
                let now = party.clock.now();
                party.store.issue_from(pool, None, now).await?;
                print_json(&json!({ "pool": pool, "issues": false }))
            }
            Self::List { home } => list(&home).await,
        }
    }
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
        if party.config.role != Role::Custodian {
            bail!("only a hospital issues tickets; this home is not one's");
        }
        if self.label.is_empty() || self.label.len() > LABEL_BYTES_MAX {
            bail!("a pool's label has 1 to {LABEL_BYTES_MAX} bytes");
        }
        let now = party.clock.now();
        if self.claim_end <= now.0 {
            bail!("claiming ended at {}, and it is {now}", self.claim_end);
        }
        let pool = Pool {
            contract: self.contract,
            funder: self.funder,
            nonce: self.nonce,
            recipient: self.recipient,
            claim_end: UnixSeconds(self.claim_end),
            label: self.label,
        };
        let chain_id = party.config.chain.chain_id;
        let id = pool.id(chain_id);
        party.store.keep_pool(chain_id, &pool).await?;
        let known = party.store.pools().await?;
        if !known.iter().any(|row| row.id == id && row.pool == pool) {
            bail!("this pool is known here with other terms; they cannot be changed");
        }
        party.store.issue_from(id, Some(self.quota), now).await?;
        print_json(&json!({ "pool": id, "quota": self.quota }))
    }
}

async fn list(home: &Home) -> anyhow::Result<()> {
    let party = Party::open(&home.home).await?;
    for row in party.store.pools().await? {
        print_json(&json!({
            "pool": row.id,
            "contract": row.pool.contract,
            "label": row.pool.label,
            "recipient": row.pool.recipient,
            "claim_end": row.pool.claim_end,
            "quota": row.quota,
            "tickets_out": row.live,
            "closed_at": row.closed_at,
        }))?;
    }
    Ok(())
}
