//! Claims that patients signed, and whoever sends them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use medsync_protocol::ids::{ChainId, ContractAddress, UnixSeconds};
use medsync_protocol::ticket::claim_message;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Payer, Pools};
use crate::chain::{CLAIMS_MAX, Chain as _, Claim, PoolCall};
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

    fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = files::read_bounded(path, CLAIM_BYTES_MAX)?;
        let claim: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no signed claim", path.display()))?;
        ensure!(
            claim.format == CLAIM_FORMAT,
            "{} is of format {}, not {CLAIM_FORMAT}",
            path.display(),
            claim.format
        );
        let SignedClaim {
            chain_id,
            contract,
            claim: ref signed,
            ..
        } = claim;
        let proof = &signed.proof;
        proof.check().with_context(|| path.display().to_string())?;
        let (pool, handle, pay_to) = (signed.pool, signed.handle(), signed.pay_to);
        let message = claim_message(chain_id, contract, pool, handle, pay_to);
        // A copy that pays to somebody else must not stand for the patient's own.
        ensure!(
            signed.claim_key.verifies(message, &signed.signature),
            "{} is not signed by its claim key; ask the patient for the file again",
            path.display()
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
        let mut due = Vec::new();
        let mut handles = BTreeSet::new();
        for file in &self.claims {
            let signed = SignedClaim::read(file)?;
            let here = (pools.deployed.chain_id, pools.contract());
            ensure!(
                (signed.chain_id, signed.contract) == here,
                "{} is for {} on {}",
                file.display(),
                signed.contract,
                signed.chain_id
            );
            let claim = signed.claim;
            if handles.insert((claim.pool, claim.handle())) {
                due.push(claim);
            }
        }
        let all = due.clone();
        let mut waiting = Vec::new();
        for claim in due {
            if claimed_at(&pools, &claim).await?.is_none() {
                waiting.push(claim);
            }
        }
        if !waiting.is_empty() {
            let call = match <[Claim; 1]>::try_from(waiting) {
                Ok([one]) => PoolCall::Claim(Box::new(one)),
                Err(many) => PoolCall::ClaimMany(many),
            };
            pools.land((&account, nonce), call).await?;
        }
        let mut refused = 0;
        for claim in &all {
            let at = claimed_at(&pools, claim).await?;
            refused += usize::from(at.is_none());
            print_json(&json!({
                "pool": claim.pool,
                "handle": claim.handle(),
                "claimed_at": at,
            }))?;
        }
        ensure!(
            refused == 0,
            "{refused} claims were passed over: `medsync rewards history` says why"
        );
        Ok(())
    }
}

async fn claimed_at(pools: &Pools, claim: &Claim) -> anyhow::Result<Option<UnixSeconds>> {
    let (registry, contract) = (pools.deployed.registry, pools.contract());
    let times = pools
        .chain
        .ticket_times(registry, contract, claim.pool, claim.handle());
    Ok(times.await?.0.claimed_at)
}
