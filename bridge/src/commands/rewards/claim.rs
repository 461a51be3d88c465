//! Claims that patients signed, and whoever sends them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use medsync_protocol::ids::{ChainId, ContractAddress, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::{PoolId, claim_message};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Payer, Pools};
use crate::chain::{CLAIMS_MAX, Chain as _, Claim, Landed, PoolCall, PoolSaid, Seen};
use crate::commands::print_json;
use crate::files;

/// What the format of a signed claim is called.
const CLAIM_FORMAT: &str = "medsync/claim/v1";
/// The largest file with a signed claim.
const CLAIM_BYTES_MAX: u64 = 64 * 1024;

/// Send claims.
#[derive(Debug, clap::Args)]
pub struct Relay {
    #[command(flatten)]
    payer: Payer,
    /// Files that `medsync patient claim` wrote.
    #[arg(required = true)]
    claims: Vec<PathBuf>,
}

/// A claim as a patient hands it to whoever sends it. It holds no secret: nobody but the claim key
/// can change where it pays to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedClaim {
    format: String,
    chain_id: ChainId,
    contract: ContractAddress,
    claim: Claim,
}

impl SignedClaim {
    /// A claim for a contract on a chain.
    #[must_use]
    pub fn new(chain_id: ChainId, contract: ContractAddress, claim: Claim) -> Self {
        Self {
            format: CLAIM_FORMAT.into(),
            chain_id,
            contract,
            claim,
        }
    }

    /// The claim of a file, if it is for these pools and signed by its claim key: a copy that pays
    /// to somebody else must not stand for the patient's own.
    fn read_for(pools: &Pools, path: &Path) -> anyhow::Result<Claim> {
        let bytes = files::read_bounded(path, CLAIM_BYTES_MAX)?;
        let Self {
            format,
            chain_id,
            contract,
            claim,
        } = serde_json::from_slice(&bytes).context("it is no signed claim")?;
        ensure!(
            format == CLAIM_FORMAT,
            "it is of format {format}, not {CLAIM_FORMAT}"
        );
        ensure!(
            (chain_id, contract) == (pools.deployed.chain_id, pools.contract()),
            "it is for {contract} on {chain_id}"
        );
        claim.proof.check()?;
        let message = claim_message(chain_id, contract, claim.pool, claim.handle(), claim.pay_to);
        ensure!(
            claim.claim_key.verifies(message, &claim.signature),
            "it is not signed by its claim key; ask the patient for the file again"
        );
        Ok(claim)
    }
}

impl Relay {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.claims.len() <= CLAIMS_MAX,
            "at most {CLAIMS_MAX} claims are sent at once"
        );
        let (pools, account, nonce) = self.payer.open().await?;
        let (mut claims, mut unpaid) = (Vec::<Claim>::new(), 0);
        for file in &self.claims {
            match SignedClaim::read_for(&pools, file) {
                Ok(claim) if claims.iter().any(|known| name_of(known) == name_of(&claim)) => {}
                Ok(claim) => claims.push(claim),
                // It costs the others nothing.
                Err(error) => {
                    unpaid += 1;
                    print_json(&json!({ "file": file, "refused": format!("{error:#}") }))?;
                }
            }
        }
        let mut waiting = Vec::new();
        for claim in &claims {
            if claimed_at(&pools, claim).await?.is_none() {
                waiting.push(claim.clone());
            }
        }
        let mut reasons = BTreeMap::new();
        if !waiting.is_empty() {
            let call = match (self.claims.as_slice(), waiting.as_slice()) {
                // One that cannot be spent is refused before it costs gas.
                ([_], [one]) => PoolCall::Claim(Box::new(one.clone())),
                _ => PoolCall::ClaimMany(waiting.clone()),
            };
            let landed = pools.land((&account, nonce), call).await?;
            reasons = passed_over(&pools, landed, &waiting).await?;
        }
        for claim in &claims {
            let at = claimed_at(&pools, claim).await?;
            unpaid += usize::from(at.is_none());
            print_json(&json!({
                "pool": claim.pool,
                "handle": claim.handle(),
                "claimed_at": at,
                "passed_over": reasons.get(&name_of(claim)),
            }))?;
        }
        ensure!(
            unpaid == 0,
            "{unpaid} of {} files were not paid for; the lines above say why",
            self.claims.len()
        );
        Ok(())
    }
}

/// What a claim uses up.
fn name_of(claim: &Claim) -> (PoolId, Handle) {
    (claim.pool, claim.handle())
}

/// Why a transaction passed over claims, by the contract's name of each reason.
async fn passed_over(
    pools: &Pools,
    landed: Landed,
    sent: &[Claim],
) -> anyhow::Result<BTreeMap<(PoolId, Handle), String>> {
    let mut reasons = BTreeMap::new();
    let theirs: BTreeSet<PoolId> = sent.iter().map(|claim| claim.pool).collect();
    for pool in theirs {
        let seen = Seen::PassedOver(pool);
        let history = pools
            .chain
            .pool_history(pools.contract(), landed.block.number, seen);
        for event in history.await?.events {
            let is_ours = event.transaction == landed.hash;
            if let (true, PoolSaid::Skipped { handle, reason, .. }) = (is_ours, event.says) {
                reasons.insert((pool, handle), reason);
            }
        }
    }
    Ok(reasons)
}

async fn claimed_at(pools: &Pools, claim: &Claim) -> anyhow::Result<Option<UnixSeconds>> {
    let (registry, contract) = (pools.deployed.registry, pools.contract());
    let (pool, handle) = name_of(claim);
    let times = pools.chain.ticket_times(registry, contract, pool, handle);
    Ok(times.await?.0.claimed_at)
}
