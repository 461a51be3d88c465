//! Reward tickets and the claim that spends one.

use crate::felt::{Felt, felt_newtype};
use crate::hash::{Tag, tagged};
use crate::ids::{Anchorer, ChainId, ContractAddress, Salt, UnixSeconds};
use crate::secrets::Handle;
use crate::signature::Message;
use crate::tree::Leaf;

const POOL: Tag = Tag::new("MEDSYNC_POOL_V1");
const TICKET: Tag = Tag::new("MEDSYNC_TICKET_V1");
const CLAIM: Tag = Tag::new("MEDSYNC_CLAIM_V1");
const DAY_SECONDS: u64 = 24 * 60 * 60;

felt_newtype! {
    /// A reward pool.
    PoolId
}
felt_newtype! {
    /// A number that a funder chooses, so that one funder can open many pools.
    PoolNonce
}

impl PoolId {
    /// The pool that a funder opens with a nonce at a pool contract.
    #[must_use]
    pub fn of(
        chain_id: ChainId,
        pool_contract: ContractAddress,
        funder: ContractAddress,
        nonce: PoolNonce,
    ) -> Self {
        let parts = [
            chain_id.felt(),
            pool_contract.felt(),
            funder.felt(),
            nonce.felt(),
        ];
        Self::from_felt(tagged(POOL, &[&parts]))
    }
}

/// A promise of one reward, anchored as a leaf beside the consents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The pool that pays.
    pub pool_id: PoolId,
    /// The custodian that promises, within its quota.
    pub anchorer: Anchorer,
    /// The consent's handle, which the claim uses up.
    pub handle: Handle,
    /// The first second at which the claim comes too late.
    pub claim_until: UnixSeconds,
    /// Makes the leaf tell nothing.
    pub salt: Salt,
}

impl Ticket {
    /// The leaf by which the ticket is anchored.
    #[must_use]
    pub fn leaf(&self) -> Leaf {
        let parts = [
            self.pool_id.felt(),
            self.anchorer.felt(),
            self.handle.felt(),
            self.claim_until.felt(),
            self.salt.felt(),
        ];
        Leaf::from_felt(tagged(TICKET, &[&parts]))
    }
}

/// The end of claiming for a consent in a pool: the earlier of both ends, rounded down to a day
/// so that it tells little about the consent. `not_after` 0 is open-ended.
#[must_use]
pub fn claim_until(not_after: UnixSeconds, claim_end: UnixSeconds) -> UnixSeconds {
    let end = match not_after {
        UnixSeconds(0) => claim_end,
        not_after => not_after.min(claim_end),
    };
    UnixSeconds(end.0 - end.0 % DAY_SECONDS)
}

/// What the claim key signs to send a reward to `pay_to`.
#[must_use]
pub fn claim_message(
    chain_id: ChainId,
    pool_contract: ContractAddress,
    pool_id: PoolId,
    handle: Handle,
    pay_to: ContractAddress,
) -> Message {
    let parts: [Felt; 5] = [
        chain_id.felt(),
        pool_contract.felt(),
        pool_id.felt(),
        handle.felt(),
        pay_to.felt(),
    ];
    Message::from_felt(tagged(CLAIM, &[&parts]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claiming_ends_with_the_day_of_the_earlier_end() {
        let until = |a, b| claim_until(UnixSeconds(a), UnixSeconds(b)).0;
        assert_eq!(until(0, 3 * DAY_SECONDS + 5), 3 * DAY_SECONDS);
        assert_eq!(until(2 * DAY_SECONDS + 1, 3 * DAY_SECONDS), 2 * DAY_SECONDS);
        assert_eq!(until(9 * DAY_SECONDS, 3 * DAY_SECONDS), 3 * DAY_SECONDS);
    }
}
