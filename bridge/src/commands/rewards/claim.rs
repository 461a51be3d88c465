//! Claims that patients signed, and whoever sends them.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use medsync_protocol::claim::{CLAIM_BYTES_MAX, Claim, SignedClaim};
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;
use serde_json::json;

use super::{Payer, Pools};
use crate::chain::{CLAIMS_MAX, Chain as _, ChainError, Landed, PoolCall, PoolSaid, Seen};
use crate::commands::print_json;
use crate::files;

/// Send claims.
#[derive(Debug, clap::Args)]
pub struct Relay {
    #[command(flatten)]
    payer: Payer,
    /// Files that `medsync patient claim` wrote.
    #[arg(required = true)]
    claims: Vec<PathBuf>,
}

/// The claim of a file, if it is for these pools and signed.
fn read_for(pools: &Pools, path: &Path) -> anyhow::Result<Claim> {
    let signed = SignedClaim::parse(&files::read_bounded(path, CLAIM_BYTES_MAX as u64)?)?;
    Ok(signed.claim_for(pools.deployed.chain_id, pools.contract())?)
}

impl Relay {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.claims.len() <= CLAIMS_MAX,
            "at most {CLAIMS_MAX} claims are sent at once"
        );
        let (pools, account, nonce) = self.payer.open().await?;
        let (mut sent, mut unpaid) = (Vec::<(&Path, Claim)>::new(), 0);
        for file in &self.claims {
            match look_at(&pools, file, &sent).await {
                Ok(Found::Paid(claim, at)) => say_paid(file, &claim, at)?,
                Ok(Found::Due(claim)) => sent.push((file, claim)),
                Ok(Found::Again) => {}
                // It costs the others nothing, and no gas.
                Err(error) => {
                    unpaid += 1;
                    say_refused(file, &format!("{error:#}"))?;
                }
            }
        }
        if !sent.is_empty() {
            let mut claims: Vec<Claim> = sent.iter().map(|(_, claim)| claim.clone()).collect();
            let call = match claims.len() {
                1 => PoolCall::Claim(Box::new(claims.remove(0))),
                _ => PoolCall::ClaimMany(claims),
            };
            let landed = pools.land((&account, nonce), call).await?;
            for (file, claim) in &sent {
                match claimed_at(&pools, claim).await? {
                    Some(at) => say_paid(file, claim, at)?,
                    None => {
                        unpaid += 1;
                        let reason = passed_over(&pools, landed, claim).await.ok().flatten();
                        let reason = reason.unwrap_or_else(|| "it was passed over".into());
                        say_refused(file, &reason)?;
                    }
                }
            }
        }
        ensure!(
            unpaid == 0,
            "{unpaid} of {} files were not paid for; the lines above say why",
            self.claims.len()
        );
        Ok(())
    }
}

/// What a file is found to be.
enum Found {
    /// Its handle was paid in this pool, since this time.
    Paid(Claim, UnixSeconds),
    /// The contract would take it.
    Due(Claim),
    /// A file before it is the same.
    Again,
}

/// Looks at a file, after these.
async fn look_at(pools: &Pools, file: &Path, before: &[(&Path, Claim)]) -> anyhow::Result<Found> {
    let claim = read_for(pools, file)?;
    if let Some(at) = claimed_at(pools, &claim).await? {
        return Ok(Found::Paid(claim, at));
    }
    if before.iter().any(|(_, known)| *known == claim) {
        return Ok(Found::Again);
    }
    // What the claim key did not sign, a copy may have otherwise: only what the contract would take
    // stands for its handle.
    let refuses = pools.chain.refuses_claim(pools.contract(), &claim);
    if let Some(reason) = refuses.await? {
        return Err(ChainError::WouldRevert(reason).into());
    }
    let spends_the_same = |(_, known): &(&Path, Claim)| name_of(known) == name_of(&claim);
    ensure!(
        !before.iter().any(spends_the_same),
        "a file before it spends the same ticket"
    );
    Ok(Found::Due(claim))
}

fn say_paid(file: &Path, claim: &Claim, at: UnixSeconds) -> anyhow::Result<()> {
    print_json(&json!({
        "file": file.display().to_string(),
        "pool": claim.pool,
        "handle": claim.handle(),
        "claimed_at": at,
    }))
}

fn say_refused(file: &Path, why: &str) -> anyhow::Result<()> {
    print_json(&json!({ "file": file.display().to_string(), "refused": why }))
}

/// What a claim uses up.
fn name_of(claim: &Claim) -> (PoolId, Handle) {
    (claim.pool, claim.handle())
}

/// Why a transaction passed over a claim, by the contract's name of the reason.
async fn passed_over(
    pools: &Pools,
    landed: Landed,
    claim: &Claim,
) -> Result<Option<String>, ChainError> {
    let (from, of) = (landed.block.number, Seen::PassedOver(claim.pool));
    let history = pools.chain.pool_history(pools.contract(), from, of).await?;
    let mut of_ours = history
        .events
        .into_iter()
        .filter(|event| event.transaction == landed.hash);
    Ok(of_ours.find_map(|event| match event.says {
        PoolSaid::Skipped { handle, reason, .. } if handle == claim.handle() => Some(reason),
        _ => None,
    }))
}

async fn claimed_at(pools: &Pools, claim: &Claim) -> anyhow::Result<Option<UnixSeconds>> {
    let (registry, contract) = (pools.deployed.registry, pools.contract());
    let (pool, handle) = name_of(claim);
    let times = pools.chain.ticket_times(registry, contract, pool, handle);
    Ok(times.await?.0.claimed_at)
}
