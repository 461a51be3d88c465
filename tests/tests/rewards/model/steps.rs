//! What may be called, in any order.

use proptest::prelude::*;

use super::books::{OWNERS, PATIENTS, PAYEES, TOKENS};

/// How a claim differs from what was promised and signed.
#[derive(Clone, Copy, Debug)]
pub enum Twist {
    Nothing,
    OtherPayee,
    OtherCustodian,
    /// Another pool's, if there is one.
    OtherPool,
}

#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub pool: usize,
    pub custodian: usize,
    pub patient: usize,
    pub payee: usize,
    pub twist: Twist,
}

#[derive(Clone, Debug)]
pub enum Step {
    Open {
        funder: usize,
        token: usize,
        reward: u128,
        share: u128,
        quotas: [u64; 2],
        /// What the deposit has more than what is promised.
        spare: i128,
        /// Hours until claiming ends, and from then until the refund.
        hours: [u64; 2],
    },
    TopUp {
        pool: usize,
        funder: usize,
        custodian: usize,
        claims: u64,
        spare: i128,
    },
    Claim(Attempt),
    ClaimMany(Vec<Attempt>),
    Revoke {
        patient: usize,
    },
    Withdraw {
        owner: usize,
        token: usize,
    },
    Refund {
        pool: usize,
    },
    Close {
        pool: usize,
        funder: usize,
    },
    Wait {
        hours: u64,
    },
}

/// A pool by its number among those that there are, or one that there is not.
pub const ANY_POOL: std::ops::Range<usize> = 0..8;
pub const NO_POOL: usize = 7;

pub fn attempt() -> impl Strategy<Value = Attempt> {
    let twist = prop_oneof![
        6 => Just(Twist::Nothing),
        1 => Just(Twist::OtherPayee),
        1 => Just(Twist::OtherCustodian),
        1 => Just(Twist::OtherPool),
    ];
    (ANY_POOL, 0..2usize, 0..PATIENTS, 0..PAYEES, twist).prop_map(
        |(pool, custodian, patient, payee, twist)| Attempt {
            pool,
            custodian,
            patient,
            payee,
            twist,
        },
    )
}

pub fn step() -> impl Strategy<Value = Step> {
    let spare = prop_oneof![3 => Just(0i128), 2 => 0..30i128, 1 => -3..0i128];
    let open = (
        (0..2usize, 0..TOKENS, 0..40u128, 0..9u128),
        ([0..4u64, 0..4u64], spare.clone(), [1..4u64, 0..3u64]),
    )
        .prop_map(
            |((funder, token, reward, share), (quotas, spare, hours))| Step::Open {
                funder,
                token,
                reward,
                share,
                quotas,
                spare,
                hours,
            },
        );
    let top_up = (ANY_POOL, 0..2usize, 0..2usize, 0..3u64, spare).prop_map(
        |(pool, funder, custodian, claims, spare)| Step::TopUp {
            pool,
            funder,
            custodian,
            claims,
            spare,
        },
    );
    prop_oneof![
        4 => open,
        2 => top_up,
        8 => attempt().prop_map(Step::Claim),
        3 => prop::collection::vec(attempt(), 1..5).prop_map(Step::ClaimMany),
        1 => (0..PATIENTS).prop_map(|patient| Step::Revoke { patient }),
        4 => (0..OWNERS, 0..TOKENS).prop_map(|(owner, token)| Step::Withdraw { owner, token }),
        2 => ANY_POOL.prop_map(|pool| Step::Refund { pool }),
        1 => (ANY_POOL, 0..2usize).prop_map(|(pool, funder)| Step::Close { pool, funder }),
        2 => (1..3u64).prop_map(|hours| Step::Wait { hours }),
    ]
}

impl Step {
    /// Chooses pools among those that there are.
    pub fn pick(&mut self, count: usize) {
        let pick = |pool: &mut usize| {
            if *pool != NO_POOL && count > 0 {
                *pool %= count;
            }
        };
        match self {
            Self::TopUp { pool, .. } | Self::Refund { pool } | Self::Close { pool, .. } => {
                pick(pool);
            }
            Self::Claim(what) => pick(&mut what.pool),
            Self::ClaimMany(all) => all.iter_mut().for_each(|what| pick(&mut what.pool)),
            Self::Open { .. } | Self::Revoke { .. } | Self::Withdraw { .. } | Self::Wait { .. } => {
            }
        }
    }
}
