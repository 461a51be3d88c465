//! Reward pools: which of them a hospital issues tickets from.

use medsync_client::wire::{AddedPool, NewPool};
use medsync_protocol::ids::{Sha256Digest, UnixSeconds};
use medsync_protocol::ticket::{PoolId, claim_until};

use super::{Custodian, Done, LABEL_BYTES_MAX, hindered, wrong};
use crate::chain::{ChainError, Promise, RpcChain};
use crate::source::Pool;

/// How many tickets of one pool may be out at most.
pub const QUOTA_MAX: u64 = 1 << 32;

impl Custodian {
    /// Issues tickets from a pool that is on the chain: one to each patient with a consent in force
    /// to its recipient.
    ///
    /// # Errors
    /// See [`CustodianError`](super::CustodianError).
    pub async fn add_pool(&self, new: NewPool) -> Done<AddedPool> {
        if new.label.is_empty() || new.label.len() > LABEL_BYTES_MAX {
            return wrong(format!("a pool's label has 1 to {LABEL_BYTES_MAX} bytes"));
        }
        if new
            .quota
            .is_some_and(|quota| !(1..=QUOTA_MAX).contains(&quota))
        {
            return wrong(format!("a quota is from 1 to {QUOTA_MAX}"));
        }
        let now = self.clock.now();
        let (promise, promised) = self.look(&new).await?;
        let quota = new.quota.unwrap_or(promised);
        if quota > promised {
            return hindered(format!(
                "the pool promises {promised} claims through this hospital, not {quota}"
            ));
        }
        if claim_until(UnixSeconds(0), promise.claim_end) <= now {
            return hindered(format!(
                "tickets end with the day before the claim end, {}, and it is {now}",
                promise.claim_end
            ));
        }
        let pool = Pool {
            contract: new.contract,
            funder: new.funder,
            nonce: new.nonce,
            recipient: new.recipient,
            claim_end: promise.claim_end,
            label: new.label,
        };
        let chain_id = self.chain.chain_id;
        let id = pool.id(chain_id);
        self.store.keep_pool(chain_id, &pool).await?;
        let known = self.store.pools().await?;
        if !known.iter().any(|row| row.id == id && row.pool == pool) {
            return hindered("this pool is known here with other terms; they cannot be changed");
        }
        self.store.issue_from(id, Some(quota), now).await?;
        Ok(AddedPool {
            pool: id,
            quota,
            token: promise.token,
            reward: promise.reward.to_string(),
            custodian_share: promise.custodian_share.to_string(),
        })
    }

    /// Issues no more tickets from a pool; those that are out stay good.
    ///
    /// # Errors
    /// See [`CustodianError`](super::CustodianError).
    pub async fn close_pool(&self, pool: PoolId) -> Done<()> {
        Ok(self.store.issue_from(pool, None, self.clock.now()).await?)
    }

    /// What the chain says of the pool: its promise, and how many claims it promised this hospital.
    async fn look(&self, new: &NewPool) -> Done<(Promise, u64)> {
        let mut seen = None;
        for chain in self.chain.endpoints()? {
            let says = self.look_by(&chain, new).await?;
            if *seen.get_or_insert(says) != says {
                return hindered("the endpoints say different things of this pool");
            }
        }
        seen.map_or_else(
            || hindered("rpc in the configuration names no endpoint"),
            Ok,
        )
    }

    async fn look_by(&self, chain: &RpcChain, new: &NewPool) -> Done<(Promise, u64)> {
        // One that only looks like a pool contract would answer everything below as it likes.
        let registry = self.chain.registry;
        if let Err(error) = chain.check_pools(new.contract, registry).await {
            return match error {
                ChainError::NoContract { .. }
                | ChainError::OtherClass { .. }
                | ChainError::OtherRegistry { .. } => wrong(error.to_string()),
                error => Err(error.into()),
            };
        }
        let id = PoolId::of(self.chain.chain_id, new.contract, new.funder, new.nonce);
        let Some(state) = chain.pool(new.contract, id).await? else {
            return wrong(format!(
                "{} has no pool {id}: check funder and nonce, and that it was opened",
                new.contract
            ));
        };
        if let Some(at) = state.ended_at {
            return hindered(format!("the pool ended at {at}"));
        }
        if state.promise.label != Sha256Digest::of(new.label.as_bytes()) {
            return wrong("the pool has another label; use the funder's own words");
        }
        let used = chain.quota(new.contract, id, self.anchorer).await?;
        if used.promised == 0 {
            return hindered("the pool promises nothing through this hospital");
        }
        Ok((state.promise, used.promised))
    }
}
