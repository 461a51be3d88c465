//! Opening pools, and promising more in them.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use medsync_protocol::ids::{ContractAddress, Sha256Digest, UnixSeconds};
use medsync_protocol::ticket::{PoolId, PoolNonce, claim_until};
use serde_json::json;

use super::Payer;
use crate::chain::{Account as _, PoolCall, Promise, Quota};
use crate::commands::print_json;

/// Open a pool.
#[derive(Debug, clap::Args)]
pub struct Open {
    #[command(flatten)]
    payer: Payer,
    /// A number of the account's choice; running the command again with it opens no second pool.
    #[arg(long)]
    nonce: PoolNonce,
    /// The ERC-20 that pays.
    #[arg(long)]
    token: ContractAddress,
    /// What a claim pays to the patient, in the token's smallest unit.
    #[arg(long)]
    reward: u128,
    /// What it pays to the custodian beside that.
    #[arg(long, default_value_t = 0)]
    custodian_share: u128,
    /// When claiming ends, in unix seconds; tickets end with the day before.
    #[arg(long)]
    claim_end: u64,
    /// When what is left goes back, in unix seconds; not before the claim end.
    #[arg(long)]
    refund_time: u64,
    /// The text by which people know the pool. Its SHA-256 is public, and every claim names its
    /// pool: add something that nobody guesses, or the text is as good as public too.
    #[arg(long)]
    label: String,
    /// How many claims a custodian may promise, as ADDRESS=CLAIMS; may be named several times.
    #[arg(long = "quota", required = true, value_parser = quota)]
    quotas: Vec<Quota>,
    /// What is deposited; what pays for every promised claim if it is not said. More for a token
    /// that takes a fee.
    #[arg(long)]
    deposit: Option<u128>,
}

/// Promise more in a pool.
#[derive(Debug, clap::Args)]
pub struct TopUp {
    #[command(flatten)]
    payer: Payer,
    /// The pool.
    pool: PoolId,
    /// How many claims a custodian is promised then in all, as ADDRESS=CLAIMS.
    #[arg(long = "quota", required = true, value_parser = quota)]
    quotas: Vec<Quota>,
    /// What is deposited: what the claims that are added take, less what the pool has to spare. An
    /// endpoint that says otherwise moves no more than this.
    #[arg(long)]
    deposit: u128,
}

/// Reads ADDRESS=CLAIMS.
fn quota(text: &str) -> Result<Quota, String> {
    let (anchorer, claims) = text.split_once('=').ok_or("a quota is ADDRESS=CLAIMS")?;
    let anchorer = anchorer
        .parse()
        .map_err(|error: medsync_protocol::felt::FeltError| error.to_string())?;
    let claims = claims.parse().map_err(|_| "CLAIMS is a number")?;
    Ok(Quota { anchorer, claims })
}

/// Each custodian is named once: what is wanted is compared with what there is.
fn check_distinct(quotas: &[Quota]) -> anyhow::Result<()> {
    let whom: BTreeSet<_> = quotas.iter().map(|quota| quota.anchorer).collect();
    ensure!(
        whom.len() == quotas.len(),
        "each custodian is named once, with what it is promised in all"
    );
    Ok(())
}

/// What all claims of these quotas take.
fn price(quotas: &[Quota], promise: &Promise) -> anyhow::Result<u128> {
    let claims: u128 = quotas.iter().map(|quota| u128::from(quota.claims)).sum();
    let each = promise.reward.checked_add(promise.custodian_share);
    let price = each.and_then(|each| each.checked_mul(claims));
    price.context("what is promised is beyond 2^128 of the token's smallest unit")
}

impl Open {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        check_distinct(&self.quotas)?;
        let (pools, account, nonce) = self.payer.open().await?;
        let promise = Promise {
            token: self.token,
            reward: self.reward,
            custodian_share: self.custodian_share,
            claim_end: UnixSeconds(self.claim_end),
            refund_time: UnixSeconds(self.refund_time),
            label: Sha256Digest::of(self.label.as_bytes()),
        };
        let chain_id = pools.deployed.chain_id;
        let pool = PoolId::of(chain_id, pools.contract(), account.address(), self.nonce);
        if let Some(state) = pools.chain.pool(pools.contract(), pool).await? {
            ensure!(
                state.promise == promise,
                "this account has pool {pool} under this nonce with other terms; they cannot be \
                 changed, another nonce opens another pool"
            );
            if let Some(at) = state.ended_at {
                return print_json(&json!({ "pool": pool, "state": "had ended", "at": at }));
            }
            let known = pools.quotas(pool).await?;
            let is_promised = |wanted: &Quota| {
                let mut known = known.iter();
                known.any(|it| it.anchorer == wanted.anchorer && it.promised >= wanted.claims)
            };
            ensure!(
                self.quotas.iter().all(is_promised),
                "pool {pool} is open and promises less; `medsync rewards top-up` promises more"
            );
            return print_json(&json!({ "pool": pool, "state": "was open" }));
        }
        ensure!(
            claim_until(UnixSeconds(0), promise.claim_end) > pools.read_at.time,
            "tickets end with the day before the claim end, which is over: name a later claim end"
        );
        let deposit = match self.deposit {
            Some(deposit) => deposit,
            None => price(&self.quotas, &promise)?,
        };
        let call = PoolCall::Open {
            nonce: self.nonce,
            promise,
            quotas: self.quotas,
            deposit,
        };
        let landed = pools.land((&account, nonce), call).await?;
        print_json(&json!({
            "pool": pool,
            "state": "opened",
            "deposit": deposit.to_string(),
            "transaction": landed.hash,
        }))
    }
}

impl TopUp {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        check_distinct(&self.quotas)?;
        let (pools, account, nonce) = self.payer.open().await?;
        let state = pools.pool(self.pool).await?;
        let known = pools.quotas(self.pool).await?;
        let mut missing = Vec::new();
        for wanted in &self.quotas {
            let used = known.iter().find(|used| used.anchorer == wanted.anchorer);
            let promised = used.map_or(0, |used| used.promised);
            if promised > wanted.claims {
                bail!(
                    "{} is promised {promised} claims; a promise is never taken back",
                    wanted.anchorer
                );
            }
            if wanted.claims > promised {
                missing.push(Quota {
                    claims: wanted.claims - promised,
                    ..*wanted
                });
            }
        }
        if missing.is_empty() {
            return print_json(&json!({ "pool": self.pool, "state": "was promised" }));
        }
        let call = PoolCall::TopUp {
            pool: self.pool,
            token: state.promise.token,
            quotas: missing,
            deposit: self.deposit,
        };
        let landed = pools.land((&account, nonce), call).await?;
        print_json(&json!({
            "pool": self.pool,
            "state": "topped up",
            "deposit": self.deposit.to_string(),
            "transaction": landed.hash,
        }))
    }
}

#[cfg(test)]
mod tests {
    use medsync_protocol::ids::Anchorer;

    use super::*;

    #[test]
    fn a_quota_names_whom_and_how_many() {
        let read = quota("0x5=3").expect("one");
        assert_eq!((read.anchorer.to_string(), read.claims), ("0x5".into(), 3));
        for wrong in ["0x5", "=3", "0x5=", "0x5=-1", "5=3", "0x05=3"] {
            assert!(quota(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_custodian_is_named_once() {
        let of = |text| quota(text).expect("one");
        assert!(check_distinct(&[of("0x5=3"), of("0x6=3")]).is_ok());
        assert!(check_distinct(&[of("0x5=3"), of("0x5=4")]).is_err());
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let promise = Promise {
            token: ContractAddress::from_felt(medsync_protocol::felt::Felt::ONE),
            reward: u128::MAX / 2,
            custodian_share: 1,
            claim_end: UnixSeconds(1),
            refund_time: UnixSeconds(1),
            label: Sha256Digest([0; 32]),
        };
        let claims = |claims| {
            [Quota {
                anchorer: Anchorer::from_felt(medsync_protocol::felt::Felt::ONE),
                claims,
            }]
        };
        assert!(price(&claims(3), &promise).is_err());
        assert_eq!(
            price(&claims(1), &promise).expect("fits"),
            u128::MAX / 2 + 1
        );
    }
}
