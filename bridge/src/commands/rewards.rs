//! `medsync rewards`: pools on the chain, for whoever funds them, relays claims or looks. It needs
//! no home.
//!
//! A command reads what is there and the account's nonce as of one block, and sends under that
//! nonce: a transaction that is under way uses it up, so that whoever runs a command again, after a
//! crash or a lost answer, finds it done or does it, and not twice.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Subcommand;
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::ticket::PoolId;
use serde_json::json;
use url::Url;

use self::claim::Relay;
use self::fund::{Open, TopUp};
use self::look::{History, list, status, totals};
use super::print_json;
use crate::chain::{
    AccountKey, AccountNonce, Artifact, BlockAt, Call, Chain as _, ChainError, Contract,
    Deployment, Landed, PoolCall, PoolSaid, PoolState, QuotaUse, RpcAccount, RpcChain, Seen,
};

mod claim;
mod fund;
mod look;

/// What is done with reward pools on the chain.
#[derive(Debug, Subcommand)]
pub enum Rewards {
    /// Open a pool: the deposit is taken and pays for every claim that is promised.
    Open(Box<Open>),
    /// Promise more claims in a pool; says how many are promised in all.
    TopUp(TopUp),
    /// Show a pool, and what became of each custodian's quota.
    Status {
        /// Where the contract is.
        #[command(flatten)]
        place: Place,
        /// The pool.
        pool: PoolId,
    },
    /// List the pools that somebody opened, a line each.
    List {
        /// Where the contract is.
        #[command(flatten)]
        place: Place,
        /// Who opened them.
        #[arg(long)]
        funder: ContractAddress,
    },
    /// End a pool whose refund time has come: what is left accrues to the funder.
    Refund(End),
    /// End a pool in which no promised claim is left; for its funder.
    Close(End),
    /// Send claims that patients signed, and pay the gas: up to 64 files at once.
    Claim(Relay),
    /// Pay out what accrued to somebody, whoever asks.
    Withdraw(Withdraw),
    /// Print what happened, a line each, oldest first; the oldest 10,000 events at most.
    History(History),
    /// Print what somebody ever moved in a token, and what is still due.
    Totals {
        /// Where the contract is.
        #[command(flatten)]
        place: Place,
        /// Whose.
        #[arg(long)]
        party: ContractAddress,
        /// The token.
        #[arg(long)]
        token: ContractAddress,
    },
}

/// Where the contract is.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The Starknet RPC endpoint.
    #[arg(long, env = "MEDSYNC_RPC")]
    rpc: Url,
    /// The deployment file that `medsync deploy` wrote.
    #[arg(long)]
    deployment: PathBuf,
}

/// Who pays the gas.
#[derive(Clone, Debug, clap::Args)]
struct Payer {
    #[command(flatten)]
    place: Place,
    /// The account's address.
    #[arg(long)]
    account: ContractAddress,
    /// The file with its private key, readable by its owner alone.
    #[arg(long)]
    key_file: PathBuf,
}

/// End a pool.
#[derive(Debug, clap::Args)]
pub struct End {
    #[command(flatten)]
    payer: Payer,
    /// The pool.
    pool: PoolId,
}

/// Pay out.
#[derive(Debug, clap::Args)]
pub struct Withdraw {
    #[command(flatten)]
    payer: Payer,
    /// To whom.
    #[arg(long)]
    owner: ContractAddress,
    /// The token.
    #[arg(long)]
    token: ContractAddress,
}

/// The contract, and the chain that it is on.
struct Pools {
    chain: Arc<RpcChain>,
    deployed: Deployment,
    /// The block as of which it is read what is there.
    read_at: BlockAt,
}

impl Place {
    /// The contract of the deployment file, if it is of the class that was reviewed and judges by
    /// a registry that was. A file alone is not believed: whoever wrote it might have the deposit.
    async fn open(&self) -> anyhow::Result<Pools> {
        let deployed = Deployment::read(&self.deployment)?;
        let chain = Arc::new(RpcChain::new(&self.rpc, deployed.chain_id)?);
        let registry = Artifact::tracked_class(Contract::Registry)?;
        chain.check_class(deployed.registry, registry).await?;
        chain
            .check_pools(deployed.reward_pool, deployed.registry)
            .await?;
        let read_at = chain.tip().await?;
        Ok(Pools {
            chain,
            deployed,
            read_at,
        })
    }
}

impl Payer {
    /// The contract, the account, and the nonce under which it sends what follows from what was
    /// there at the same block.
    async fn open(&self) -> anyhow::Result<(Pools, RpcAccount, AccountNonce)> {
        let key = AccountKey::read(&self.key_file)?;
        let pools = self.place.open().await?;
        let account = RpcAccount::new(Arc::clone(&pools.chain), self.account, key);
        let nonce = account.nonce_at(pools.read_at).await?;
        Ok((pools, account, nonce))
    }
}

impl Pools {
    fn contract(&self) -> ContractAddress {
        self.deployed.reward_pool
    }

    async fn pool(&self, pool: PoolId) -> anyhow::Result<PoolState> {
        let contract = self.contract();
        let state = self.chain.pool_at(contract, pool, self.read_at).await?;
        state.with_context(|| format!("there is no pool {pool} in {}", self.contract()))
    }

    async fn quotas(&self, pool: PoolId) -> anyhow::Result<Vec<QuotaUse>> {
        let contract = self.contract();
        Ok(self.chain.quotas_at(contract, pool, self.read_at).await?)
    }

    /// Sends a call and waits for it, with a word for who waits.
    async fn land(
        &self,
        (account, nonce): (&RpcAccount, AccountNonce),
        call: PoolCall,
    ) -> anyhow::Result<Landed> {
        let contract = self.contract();
        let spinner = indicatif::ProgressBar::new_spinner();
        let say = |hash: TransactionHash| {
            spinner.set_message(format!("transaction {hash} is under way"));
            spinner.enable_steady_tick(std::time::Duration::from_millis(200));
        };
        let landed = account
            .land(&Call::Pool { contract, call }, nonce, say)
            .await;
        spinner.finish_and_clear();
        landed.map_err(|error| match error {
            ChainError::NonceTaken { .. } => anyhow::Error::new(error)
                .context("another transaction of this account is under way; run this again"),
            error => error.into(),
        })
    }
}

impl Rewards {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Open(open) => open.run().await,
            Self::TopUp(top_up) => top_up.run().await,
            Self::Status { place, pool } => {
                let pools = place.open().await?;
                print_json(&status(&pools, pool).await?)
            }
            Self::List { place, funder } => list(&place, funder).await,
            Self::Refund(end) => end.run(PoolCall::Refund(end.pool)).await,
            Self::Close(end) => end.run(PoolCall::Close(end.pool)).await,
            Self::Claim(relay) => relay.run().await,
            Self::Withdraw(withdraw) => withdraw.run().await,
            Self::History(history) => history.run().await,
            Self::Totals {
                place,
                party,
                token,
            } => totals(&place, party, token).await,
        }
    }
}

impl End {
    async fn run(&self, call: PoolCall) -> anyhow::Result<()> {
        let (pools, account, nonce) = self.payer.open().await?;
        let state = pools.pool(self.pool).await?;
        if let Some(at) = state.ended_at {
            return print_json(&json!({ "pool": self.pool, "state": "had ended", "at": at }));
        }
        let landed = pools.land((&account, nonce), call).await?;
        print_json(&json!({
            "pool": self.pool,
            "state": "ended",
            "back_to": state.funder,
            "amount": state.escrow.to_string(),
            "transaction": landed.hash,
        }))
    }
}

/// What a transaction paid out to somebody.
async fn withdrawn(
    pools: &Pools,
    landed: Landed,
    owner: ContractAddress,
) -> Result<Option<u128>, ChainError> {
    let (from, of) = (landed.block.number, Seen::Owner(owner));
    let history = pools.chain.pool_history(pools.contract(), from, of).await?;
    Ok(history
        .events
        .into_iter()
        .find_map(|event| match event.says {
            PoolSaid::Withdrawn { amount, .. } if event.transaction == landed.hash => Some(amount),
            _ => None,
        }))
}

impl Withdraw {
    async fn run(self) -> anyhow::Result<()> {
        let (pools, account, nonce) = self.payer.open().await?;
        let (contract, owner, token) = (pools.contract(), self.owner, self.token);
        let due = pools.chain.accrued(contract, owner, token).await?;
        if due == 0 {
            let totals = pools.chain.totals(contract, owner, token).await?;
            return print_json(&json!({
                "owner": owner,
                "paid": "0",
                "paid_ever": totals.withdrawn.to_string(),
            }));
        }
        let landed = pools
            .land((&account, nonce), PoolCall::WithdrawFor { owner, token })
            .await?;
        // More may have accrued since it was read.
        let paid = withdrawn(&pools, landed, owner).await.ok().flatten();
        print_json(&json!({
            "owner": owner,
            "paid": paid.map(|paid| paid.to_string()),
            "transaction": landed.hash,
        }))
    }
}
