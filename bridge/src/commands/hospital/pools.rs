//! Reward pools: which of them this hospital issues tickets from.

use anyhow::{Context, bail};
use clap::Subcommand;
use medsync_protocol::ids::{Anchorer, ContractAddress, Sha256Digest, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::{PoolId, PoolNonce, claim_until};
use serde_json::json;

use crate::chain::Promise;
use crate::commands::{Home, print_json};
use crate::config::Role;
use crate::party::Party;
use crate::source::Pool;
use crate::views;

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
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 32))]
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
        let (promise, promised) = self.look(&party).await?;
        let quota = self.quota.unwrap_or(promised);
        if quota > promised {
            bail!("the pool promises {promised} claims through this hospital, not {quota}");
        }
        if claim_until(UnixSeconds(0), promise.claim_end) <= now {
            bail!(
                "tickets end with the day before the claim end, {}, and it is {now}",
                promise.claim_end
            );
        }
        let pool = Pool {
            contract: self.contract,
            funder: self.funder,
            nonce: self.nonce,
            recipient: self.recipient,
            claim_end: promise.claim_end,
            label: self.label,
        };
        let chain_id = party.config.chain.chain_id;
        let id = pool.id(chain_id);
        party.store.keep_pool(chain_id, &pool).await?;
        let known = party.store.pools().await?;
        if !known.iter().any(|row| row.id == id && row.pool == pool) {
            bail!("this pool is known here with other terms; they cannot be changed");
        }
        party.store.issue_from(id, Some(quota), now).await?;
        print_json(&json!({
            "pool": id,
            "quota": quota,
            "token": promise.token,
            "reward": promise.reward.to_string(),
            "custodian_share": promise.custodian_share.to_string(),
        }))
    }

    /// What the chain says of the pool: its promise, and how many claims it promised this hospital.
    async fn look(&self, party: &Party) -> anyhow::Result<(Promise, u64)> {
        let believed = &party.config.chain;
        let chain = believed.first_endpoint()?;
        // One that only looks like a pool contract would answer everything below as it likes.
        chain.check_pools(self.contract, believed.registry).await?;
        let id = PoolId::of(believed.chain_id, self.contract, self.funder, self.nonce);
        let Some(state) = chain.pool(self.contract, id).await? else {
            bail!(
                "{} has no pool {id}: check funder and nonce, and that it was opened",
                self.contract
            );
        };
        if let Some(at) = state.ended_at {
            bail!("the pool ended at {at}");
        }
        if state.promise.label != Sha256Digest::of(self.label.as_bytes()) {
            bail!("the pool has another label; use the funder's own words");
        }
        let own = party.config.anchor_account.as_ref();
        let own = own
            .context("the configuration has no anchor_account")?
            .address;
        let own = Anchorer::from_felt(own.felt());
        let used = chain.quota(self.contract, id, own).await?;
        if used.promised == 0 {
            bail!("the pool promises nothing through this hospital");
        }
        Ok((state.promise, used.promised))
    }
}

async fn list(home: &Home) -> anyhow::Result<()> {
    let party = Party::open(&home.home).await?;
    for row in party.store.pools().await? {
        print_json(&views::anchoring::pool(row))?;
    }
    Ok(())
}
