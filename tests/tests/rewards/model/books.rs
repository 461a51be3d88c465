//! The naive model: pools, who is owed what, and why a call is refused.

use std::collections::{BTreeMap, BTreeSet};

use medsync::chain::Totals;

use super::steps::{Attempt, Twist};

/// How many custodians and funders there are.
pub const CUSTODIANS: usize = 2;
pub const FUNDERS: usize = 2;
pub const PATIENTS: usize = 4;
/// The ticket of this patient is over an hour after its pool was opened.
pub const HURRIED: usize = 3;
pub const PAYEES: usize = 3;
pub const TOKENS: usize = 2;
/// The token of this number keeps a tenth of whatever is transferred.
pub const FEE_TOKEN: usize = 1;

/// Who calls for others, and is owed nothing ever.
pub const CALLERS: usize = 2;

/// Owners by number: payees, custodians, funders, callers.
pub const OWNERS: usize = PAYEES + CUSTODIANS + FUNDERS + CALLERS;

pub fn payee(number: usize) -> usize {
    number
}

pub fn custodian(number: usize) -> usize {
    PAYEES + number
}

pub fn funder(number: usize) -> usize {
    PAYEES + CUSTODIANS + number
}

/// Times are in hours since the case began.
pub struct ModelPool {
    pub funder: usize,
    pub token: usize,
    pub reward: u128,
    pub share: u128,
    pub opened: u64,
    pub claim_end: u64,
    pub refund_time: u64,
    /// Promised and claimed, a custodian.
    pub quotas: [(u64, u64); 2],
    /// What it received and did not give away.
    pub escrow: u128,
    pub is_over: bool,
}

impl ModelPool {
    pub fn price(&self) -> u128 {
        self.reward + self.share
    }

    pub fn claims_left(&self) -> u64 {
        let left = |(promised, claimed)| promised - claimed;
        if self.is_over {
            0
        } else {
            self.quotas.into_iter().map(left).sum()
        }
    }
}

#[derive(Default)]
pub struct Model {
    pub hour: u64,
    pub pools: Vec<ModelPool>,
    /// (pool, patient)
    pub claimed: BTreeSet<(usize, usize)>,
    pub revoked: BTreeSet<usize>,
    /// (owner, token)
    pub accrued: BTreeMap<(usize, usize), u128>,
    pub balances: BTreeMap<(usize, usize), u128>,
    pub totals: BTreeMap<(usize, usize), Totals>,
    /// What the contract has of each token.
    pub held: [u128; TOKENS],
}

/// What arrives of a transfer.
pub fn arrives(token: usize, amount: u128) -> u128 {
    if token == FEE_TOKEN {
        amount - amount / 10
    } else {
        amount
    }
}

/// A deposit that leaves `spare` more than what is needed, if the token takes nothing of it.
pub fn deposit(needed: u128, spare: i128) -> u128 {
    needed.saturating_add_signed(spare)
}

impl Model {
    pub fn take(&mut self, owner: usize, token: usize, amount: u128) -> u128 {
        let received = arrives(token, amount);
        *self.balances.entry((owner, token)).or_default() -= amount;
        self.held[token] += received;
        self.totals.entry((owner, token)).or_default().deposited += received;
        received
    }

    pub fn claim(&mut self, what: Attempt) -> Result<(), &'static str> {
        let Some(number) = self.pool_of(what) else {
            return Err("POOL_UNKNOWN");
        };
        let is_promised = !matches!(what.twist, Twist::OtherPool | Twist::OtherCustodian);
        let named = match what.twist {
            Twist::OtherCustodian => 1 - what.custodian,
            _ => what.custodian,
        };
        let until = match what.patient {
            HURRIED => self.pools[what.pool].opened + 1,
            _ => u64::MAX,
        };
        let pool = &mut self.pools[number];
        let quota = &mut pool.quotas[named];
        if pool.is_over {
            return Err("POOL_ENDED");
        }
        if self.hour >= pool.claim_end {
            return Err("CLAIM_END_REACHED");
        }
        if self.hour >= until {
            return Err("TICKET_EXPIRED");
        }
        if quota.0 == quota.1 {
            return Err("QUOTA_EXHAUSTED");
        }
        if self.claimed.contains(&(number, what.patient)) {
            return Err("ALREADY_CLAIMED");
        }
        if !is_promised {
            return Err("UNKNOWN_ANCHOR");
        }
        if self.revoked.contains(&what.patient) {
            return Err("REVOKED");
        }
        if matches!(what.twist, Twist::OtherPayee) {
            return Err("BAD_SIGNATURE");
        }
        quota.1 += 1;
        pool.escrow -= pool.price();
        self.claimed.insert((number, what.patient));
        let (token, reward, share) = (pool.token, pool.reward, pool.share);
        *self.accrued.entry((payee(what.payee), token)).or_default() += reward;
        *self.accrued.entry((custodian(named), token)).or_default() += share;
        Ok(())
    }

    /// The pool that a claim names; another than its ticket's if it is twisted so.
    pub fn pool_of(&self, what: Attempt) -> Option<usize> {
        let count = self.pools.len();
        match what.twist {
            Twist::OtherPool if what.pool < count => Some((what.pool + 1) % count),
            _ => (what.pool < count).then_some(what.pool),
        }
    }

    pub fn end(&mut self, number: usize) {
        let pool = &mut self.pools[number];
        let (owner, token, amount) = (funder(pool.funder), pool.token, pool.escrow);
        pool.escrow = 0;
        pool.is_over = true;
        *self.accrued.entry((owner, token)).or_default() += amount;
        self.totals.entry((owner, token)).or_default().refunded += amount;
    }

    /// All that is promised or accrued.
    pub fn owed(&self, token: usize) -> u128 {
        let of_token = |pool: &&ModelPool| pool.token == token;
        let escrow = self.pools.iter().filter(of_token).map(|pool| pool.escrow);
        let accrued = self.accrued.iter().filter(|((_, t), _)| *t == token);
        escrow.chain(accrued.map(|(_, amount)| *amount)).sum()
    }
}
