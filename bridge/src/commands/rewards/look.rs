//! What a pool contract says: pools, totals, and what happened.

use anyhow::{bail, ensure};
use medsync_protocol::ids::{Anchorer, ContractAddress};
use medsync_protocol::receipt::BlockNumber;
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;
use serde_json::{Value, json};

use super::{Place, Pools};
use crate::chain::Seen;
use crate::commands::print_json;

/// The most pools that are listed.
const LISTED_MAX: u64 = 10_000;

/// Print what happened.
#[derive(Debug, clap::Args)]
pub struct History {
    #[command(flatten)]
    place: Place,
    /// The first block that is looked at; that of the deployment file if it is not said. A file
    /// that was written when the contract was there already names a later one than its first.
    #[arg(long)]
    from_block: Option<u64>,
    #[command(flatten)]
    of: Of,
}

/// Of whom.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Of {
    /// Everything in a pool, but for claims that were passed over.
    #[arg(long)]
    pool: Option<PoolId>,
    /// Claims in a pool that were passed over, and why. Anybody can make such claims.
    #[arg(long)]
    passed_over: Option<PoolId>,
    /// What a handle was paid.
    #[arg(long)]
    handle: Option<Handle>,
    /// What a custodian's tickets were paid.
    #[arg(long)]
    custodian: Option<Anchorer>,
    /// What was paid out to somebody.
    #[arg(long)]
    owner: Option<ContractAddress>,
}

pub(super) async fn status(pools: &Pools, pool: PoolId) -> anyhow::Result<Value> {
    let state = pools.pool(pool).await?;
    let quotas = pools.quotas(pool).await?;
    let quotas: Vec<Value> = quotas
        .iter()
        .map(|quota| {
            json!({
                "custodian": quota.anchorer,
                "promised": quota.promised,
                "claimed": quota.claimed,
            })
        })
        .collect();
    let promise = &state.promise;
    Ok(json!({
        "pool": pool,
        "contract": pools.contract(),
        "funder": state.funder,
        "token": promise.token,
        "reward": promise.reward.to_string(),
        "custodian_share": promise.custodian_share.to_string(),
        "claim_end": promise.claim_end,
        "refund_time": promise.refund_time,
        "label_sha256": promise.label,
        "claims_left": state.claims_left,
        "escrow": state.escrow.to_string(),
        "ended_at": state.ended_at,
        "quotas": quotas,
    }))
}

pub(super) async fn list(place: &Place, funder: ContractAddress) -> anyhow::Result<()> {
    let pools = place.open().await?;
    let (mut shown, mut unread) = (0, 0);
    while shown < LISTED_MAX {
        let page = pools
            .chain
            .pools_of(pools.contract(), funder, shown)
            .await?;
        if page.is_empty() {
            ensure!(
                unread == 0,
                "{unread} pools could not be read; their lines say why"
            );
            return Ok(());
        }
        for pool in page {
            // What a hostile token made unreadable hides no other pool.
            let said = status(&pools, pool).await.unwrap_or_else(|error| {
                unread += 1;
                json!({ "pool": pool, "unknown": format!("{error:#}") })
            });
            print_json(&said)?;
            shown += 1;
        }
    }
    bail!("this funder has more than {LISTED_MAX} pools")
}

pub(super) async fn totals(
    place: &Place,
    party: ContractAddress,
    token: ContractAddress,
) -> anyhow::Result<()> {
    let pools = place.open().await?;
    let contract = pools.contract();
    let totals = pools.chain.totals(contract, party, token).await?;
    let accrued = pools.chain.accrued(contract, party, token).await?;
    print_json(&json!({
        "party": party,
        "token": token,
        "deposited": totals.deposited.to_string(),
        "refunded": totals.refunded.to_string(),
        "withdrawn": totals.withdrawn.to_string(),
        "accrued": accrued.to_string(),
    }))
}

impl History {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let pools = self.place.open().await?;
        let of = match self.of {
            Of { pool: Some(it), .. } => Seen::Pool(it),
            Of {
                passed_over: Some(it),
                ..
            } => Seen::PassedOver(it),
            Of {
                handle: Some(it), ..
            } => Seen::Handle(it),
            Of {
                custodian: Some(it),
                ..
            } => Seen::Custodian(it),
            Of {
                owner: Some(it), ..
            } => Seen::Owner(it),
            _ => bail!("name a pool, a handle, a custodian or an owner"),
        };
        let from = self.from_block.map(BlockNumber);
        let from = from.unwrap_or(pools.deployed.block.number);
        let history = pools.chain.pool_history(pools.contract(), from, of).await?;
        for event in &history.events {
            print_json(event)?;
        }
        if let (true, Some(last)) = (history.is_cut, history.events.last()) {
            bail!(
                "there is more: go on with --from-block {}, whose events come again",
                last.block.0
            );
        }
        Ok(())
    }
}
