//! Random sequences of all calls by many parties, with time moving, against a naive model: whoever
//! receives something, the model says so, and everything else is refused for the model's reason.
//!
//! Seeds of failures are kept in `failures.txt` beside this and are played again first. Each case
//! has a contract and tokens of its own on one devnet, of which the second token takes a fee.
mod books;
mod steps;

use std::cell::Cell;
use std::collections::BTreeMap;

use medsync::chain::{Call, PoolCall, Promise, Quota};
use medsync_protocol::claim::Claim;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContractAddress, Salt, Sha256Digest, UnixSeconds};
use medsync_protocol::ticket::{PoolId, PoolNonce, Ticket};
use medsync_tests::hand::{Hand, TokenDouble};
use medsync_tests::seeds::seeded;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use self::books::{
    FEE_TOKEN, HURRIED, Model, ModelPool, OWNERS, PATIENTS, PAYEES, TOKENS, arrives, deposit,
    funder, payee,
};
use self::steps::{Attempt, Step, Twist, step};
use super::world::{
    Anchored, CUSTODIAN, FUNDER, OTHER_CUSTODIAN, OTHER_FUNDER, RELAYER, STRANGER, World, fresh,
    secrets,
};

/// How many sequences are played, and with `scripts/test --full`.
const CASES: u32 = 16;
const CASES_FULL: u32 = 200;
const STEPS_MAX: usize = 24;
const FAILURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewards/failures.txt");

const HOUR_S: u64 = 3_600;
const MINTED: u128 = 1_000_000;
const CUSTODIANS: [usize; 2] = [CUSTODIAN, OTHER_CUSTODIAN];
const FUNDERS: [usize; 2] = [FUNDER, OTHER_FUNDER];

/// One sequence on the chain beside its model.
struct Case<'a> {
    world: World,
    tokens: [TokenDouble<'a>; TOKENS],
    model: Model,
    /// When the case began.
    start: u64,
    number: u64,
    tickets: BTreeMap<(usize, usize, usize), Anchored>,
    pools: Vec<PoolId>,
}

struct Stage {
    world: World,
    hand: Hand,
    token_class: Felt,
    pool_class: Felt,
    cases: Cell<u64>,
}

impl Stage {
    async fn set() -> Self {
        use medsync::chain::Chain;
        let world = World::start().await;
        let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
        let token_class = TokenDouble::declare(&hand).await.expect("declared");
        let pool_class = world.chain.class_hash_at(world.pools).await;
        let pool_class = pool_class.expect("an answer").expect("a contract");
        Self {
            world,
            hand,
            token_class,
            pool_class: pool_class.felt(),
            cases: Cell::new(0),
        }
    }

    async fn play(&self, steps: &[Step]) {
        self.cases.set(self.cases.get() + 1);
        let mut case = self.case(self.cases.get()).await;
        for step in steps {
            let mut step = step.clone();
            step.pick(case.pools.len());
            case.take(&step).await;
            case.check_books().await;
        }
        case.check_everything().await;
    }

    async fn case(&self, number: u64) -> Case<'_> {
        let judge = self.world.registry.felt();
        let pools = self
            .hand
            .deploy(self.pool_class, number.into(), &[judge])
            .await;
        let world = self.world.with_pools(pools.expect("deployed"));
        let token = |index: u64| async move {
            let salt = number * TOKENS as u64 + index;
            let token = TokenDouble::deploy(&self.hand, self.token_class, salt).await;
            token.expect("deployed")
        };
        let tokens = [token(0).await, token(1).await];
        tokens[FEE_TOKEN].behave("TAKES A FEE").await.expect("told");
        let mut model = Model::default();
        for (index, token) in tokens.iter().enumerate() {
            for (who, account) in FUNDERS.into_iter().enumerate() {
                token
                    .mint(world.address(account), MINTED)
                    .await
                    .expect("minted");
                model.balances.insert((funder(who), index), MINTED);
            }
        }
        let start = world.now().await;
        // In the middle of an hour, so that no step comes near a bound.
        world.wait_until(start + HOUR_S / 2);
        Case {
            world,
            tokens,
            model,
            start,
            number,
            tickets: BTreeMap::new(),
            pools: Vec::new(),
        }
    }
}

impl Case<'_> {
    fn at(&self, hour: u64) -> UnixSeconds {
        UnixSeconds(self.start + hour * HOUR_S)
    }

    fn owner(&self, number: usize) -> ContractAddress {
        match number {
            _ if number < PAYEES => fresh(self.number * 100 + number as u64),
            _ if number < PAYEES + 2 => self.world.address(CUSTODIANS[number - PAYEES]),
            _ if number < PAYEES + 4 => self.world.address(FUNDERS[number - PAYEES - 2]),
            _ => self.world.address([RELAYER, STRANGER][number - PAYEES - 4]),
        }
    }

    /// A pool that may not be there.
    fn pool(&self, number: usize) -> PoolId {
        let unknown = PoolId::from_felt(Felt::from(404));
        self.pools.get(number).copied().unwrap_or(unknown)
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Open { .. } => self.open(step).await,
            Step::TopUp { .. } => self.top_up(step).await,
            Step::Claim(what) => {
                let Some(claim) = self.claim(*what) else {
                    return;
                };
                let expected = self.model.claim(*what);
                let found = self
                    .world
                    .pool(RELAYER, PoolCall::Claim(Box::new(claim)))
                    .await;
                assert_eq!(found.map(drop), expected, "{what:?}");
            }
            Step::ClaimMany(all) => {
                let claims: Vec<(Attempt, Claim)> = all
                    .iter()
                    .filter_map(|what| Some((*what, self.claim(*what)?)))
                    .collect();
                if claims.is_empty() {
                    return;
                }
                let calls = claims.iter().map(|(_, claim)| claim.clone()).collect();
                let sent = self.world.pool(RELAYER, PoolCall::ClaimMany(calls)).await;
                let events = self
                    .world
                    .events(sent.expect("it never reverts as a whole"));
                assert_eq!(events.len(), claims.len());
                for ((what, _), event) in claims.iter().zip(events) {
                    let expected = self.model.claim(*what);
                    let found = match event.name {
                        "Claimed" => Ok(()),
                        _ => Err(event.data[0]),
                    };
                    let name = |name: &str| Felt::from_bytes_be_slice(name.as_bytes());
                    assert_eq!(found, expected.map_err(name), "{what:?}");
                }
            }
            Step::Revoke { patient } => {
                let secrets = self.secrets(*patient);
                let call = Call::Revoke {
                    registry: self.world.registry,
                    openings: vec![(secrets.secret.clone(), secrets.claim_key.public_key())],
                };
                self.world.send(STRANGER, &call).await.expect("revoked");
                self.model.revoked.insert(*patient);
            }
            Step::Withdraw { owner, token } => self.withdraw(*owner, *token).await,
            Step::Refund { pool } => {
                let call = PoolCall::Refund(self.pool(*pool));
                let found = self.world.pool(STRANGER, call).await.map(drop);
                let expected = match self.model.pools.get(*pool) {
                    None => Err("POOL_UNKNOWN"),
                    Some(pool) if pool.is_over => Err("POOL_ENDED"),
                    Some(pool) if self.model.hour < pool.refund_time => Err("REFUND_TOO_EARLY"),
                    Some(_) => {
                        self.model.end(*pool);
                        Ok(())
                    }
                };
                assert_eq!(found, expected);
            }
            Step::Close { pool, funder } => {
                let call = PoolCall::Close(self.pool(*pool));
                let found = self.world.pool(FUNDERS[*funder], call).await.map(drop);
                let expected = match self.model.pools.get(*pool) {
                    None => Err("POOL_UNKNOWN"),
                    Some(pool) if pool.is_over => Err("POOL_ENDED"),
                    Some(pool) if pool.funder != *funder => Err("NOT_THE_FUNDER"),
                    Some(pool) if pool.claims_left() != 0 => Err("CLAIMS_LEFT"),
                    Some(_) => {
                        self.model.end(*pool);
                        Ok(())
                    }
                };
                assert_eq!(found, expected);
            }
            Step::Wait { hours } => {
                self.model.hour += hours;
                self.world
                    .wait_until(self.at(self.model.hour).0 + HOUR_S / 2);
            }
        }
    }

    fn secrets(&self, patient: usize) -> medsync_protocol::secrets::ConsentSecrets {
        secrets(self.number * 100 + patient as u64)
    }

    /// The claim of an attempt, if its ticket was ever issued.
    fn claim(&self, what: Attempt) -> Option<Claim> {
        let ticket = self
            .tickets
            .get(&(what.pool, what.custodian, what.patient))?;
        let mut claim = self.world.claim(ticket, self.owner(payee(what.payee)));
        match what.twist {
            Twist::Nothing => {}
            Twist::OtherPayee => claim.pay_to = self.owner(payee((what.payee + 1) % PAYEES)),
            Twist::OtherCustodian => {
                claim.anchorer = self.world.anchorer(CUSTODIANS[1 - what.custodian]);
            }
            Twist::OtherPool => {
                let other = self
                    .model
                    .pool_of(what)
                    .filter(|other| *other != what.pool)?;
                claim.pool = self.pool(other);
            }
        }
        Some(claim)
    }

    fn quotas(&self, claims: [u64; 2]) -> Vec<Quota> {
        let all = CUSTODIANS.into_iter().zip(claims);
        let some = all.filter(|(_, claims)| *claims > 0);
        some.map(|(account, claims)| Quota {
            anchorer: self.world.anchorer(account),
            claims,
        })
        .collect()
    }

    async fn open(&mut self, step: &Step) {
        let Step::Open {
            funder: who,
            token,
            reward,
            share,
            quotas,
            spare,
            hours: [claim_hours, refund_hours],
        } = *step
        else {
            return;
        };
        // The program itself sends no promise to nobody.
        if quotas == [0, 0] || self.pools.len() == 3 {
            return;
        }
        let needed = u128::from(quotas[0] + quotas[1]) * (reward + share);
        // So that a fee leaves enough, in most cases.
        let needed = if token == FEE_TOKEN {
            needed + needed / 8
        } else {
            needed
        };
        let amount = deposit(needed, spare);
        let claim_end = self.model.hour + claim_hours;
        let nonce = self.pools.len() as u64;
        let call = PoolCall::Open {
            nonce: PoolNonce::from_felt(nonce.into()),
            promise: Promise {
                token: self.tokens[token].address,
                reward,
                custodian_share: share,
                claim_end: self.at(claim_end),
                refund_time: self.at(claim_end + refund_hours),
                label: Sha256Digest([1; 32]),
            },
            quotas: self.quotas(quotas),
            deposit: amount,
        };
        let found = self.world.pool(FUNDERS[who], call).await.map(drop);
        let is_funded =
            arrives(token, amount) >= u128::from(quotas[0] + quotas[1]) * (reward + share);
        let expected = match (reward, is_funded) {
            (0, _) => Err("REWARD_ZERO"),
            (_, false) => Err("NOT_FUNDED"),
            _ => Ok(()),
        };
        assert_eq!(found, expected, "{step:?}");
        if expected.is_err() {
            return;
        }
        let escrow = self.model.take(funder(who), token, amount);
        self.model.pools.push(ModelPool {
            funder: who,
            token,
            reward,
            share,
            opened: self.model.hour,
            claim_end,
            refund_time: claim_end + refund_hours,
            quotas: quotas.map(|promised| (promised, 0)),
            escrow,
            is_over: false,
        });
        self.pools
            .push(self.world.pool_id(self.world.pools, FUNDERS[who], nonce));
        self.issue(self.pools.len() - 1).await;
    }

    /// Both custodians promise a reward to every patient.
    async fn issue(&mut self, pool: usize) {
        for (number, account) in CUSTODIANS.into_iter().enumerate() {
            let ticket = |patient: usize| Ticket {
                pool_id: self.pools[pool],
                anchorer: self.world.anchorer(account),
                handle: self.secrets(patient).handle(),
                claim_until: match patient {
                    HURRIED => self.at(self.model.hour + 1),
                    _ => self.at(1_000),
                },
                salt: Salt::from_felt(patient.into()),
            };
            let tickets: Vec<Ticket> = (0..PATIENTS).map(ticket).collect();
            let proofs = self.world.anchor(account, &tickets).await;
            for (patient, (ticket, proof)) in tickets.into_iter().zip(proofs).enumerate() {
                let secrets = self.secrets(patient);
                let anchored = Anchored {
                    secrets,
                    ticket,
                    proof,
                };
                self.tickets.insert((pool, number, patient), anchored);
            }
        }
    }

    async fn top_up(&mut self, step: &Step) {
        let Step::TopUp {
            pool: number,
            funder: who,
            custodian,
            claims,
            spare,
        } = *step
        else {
            return;
        };
        if claims == 0 {
            return;
        }
        let (price, token) = match self.model.pools.get(number) {
            Some(pool) => (pool.price(), pool.token),
            None => (1, 0),
        };
        let amount = deposit(u128::from(claims) * price, spare);
        let mut quotas = [0, 0];
        quotas[custodian] = claims;
        let call = PoolCall::TopUp {
            pool: self.pool(number),
            token: self.tokens[token].address,
            quotas: self.quotas(quotas),
            deposit: amount,
        };
        let found = self.world.pool(FUNDERS[who], call).await.map(drop);
        let hour = self.model.hour;
        let expected = match self.model.pools.get(number) {
            None => Err("POOL_UNKNOWN"),
            Some(pool) if pool.is_over => Err("POOL_ENDED"),
            Some(pool) if pool.funder != who => Err("NOT_THE_FUNDER"),
            Some(pool) if hour >= pool.claim_end => Err("CLAIM_END_REACHED"),
            Some(pool) => {
                let promised = u128::from(pool.claims_left() + claims) * price;
                let enough = pool.escrow + arrives(token, amount) >= promised;
                if enough { Ok(()) } else { Err("NOT_FUNDED") }
            }
        };
        assert_eq!(found, expected, "{step:?}");
        if expected.is_ok() {
            let received = self.model.take(funder(who), token, amount);
            let pool = &mut self.model.pools[number];
            pool.escrow += received;
            pool.quotas[custodian].0 += claims;
        }
    }

    async fn withdraw(&mut self, owner: usize, token: usize) {
        let call = PoolCall::WithdrawFor {
            owner: self.owner(owner),
            token: self.tokens[token].address,
        };
        let found = self.world.pool(STRANGER, call).await.map(drop);
        let due = self
            .model
            .accrued
            .remove(&(owner, token))
            .unwrap_or_default();
        if due == 0 {
            assert_eq!(found, Err("NOTHING_ACCRUED"));
            return;
        }
        assert_eq!(found, Ok(()));
        self.model.held[token] -= due;
        *self.model.balances.entry((owner, token)).or_default() += arrives(token, due);
        self.model
            .totals
            .entry((owner, token))
            .or_default()
            .withdrawn += due;
    }

    /// The contract holds what the model says, and never less than it owes.
    async fn check_books(&self) {
        for (number, token) in self.tokens.iter().enumerate() {
            let owed = self.world.chain.owed(self.world.pools, token.address).await;
            let held = self.world.balance(self.world.pools, token.address).await;
            assert_eq!(owed.expect("an amount"), self.model.owed(number));
            assert_eq!(held, self.model.held[number]);
            assert!(held >= self.model.owed(number));
        }
    }

    async fn check_everything(&self) {
        for (number, model) in self.model.pools.iter().enumerate() {
            let state = self.world.state(self.pools[number]).await;
            let found = (state.claims_left, state.escrow, state.ended_at.is_some());
            assert_eq!(found, (model.claims_left(), model.escrow, model.is_over));
            for used in self.world.used(self.pools[number]).await {
                let is_its = |account: &usize| self.world.anchorer(*account) == used.anchorer;
                let whose = CUSTODIANS.iter().position(is_its).expect("a custodian");
                assert_eq!((used.promised, used.claimed), model.quotas[whose]);
            }
        }
        for owner in 0..OWNERS {
            for (number, token) in self.tokens.iter().enumerate() {
                let (of, key) = (self.owner(owner), (owner, number));
                let kept = |map: &BTreeMap<_, u128>| map.get(&key).copied().unwrap_or_default();
                let accrued = self.world.accrued(of, token.address).await;
                assert_eq!(accrued, kept(&self.model.accrued));
                let balance = self.world.balance(of, token.address).await;
                assert_eq!(balance, kept(&self.model.balances));
                let totals = self.world.totals(of, token.address).await;
                assert_eq!(
                    totals,
                    self.model.totals.get(&key).copied().unwrap_or_default()
                );
            }
        }
    }
}

#[test]
fn whatever_is_called_nobody_receives_what_the_model_does_not_say() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stage = runtime.block_on(Stage::set());
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    let mut runner = TestRunner::new(seeded(ProptestConfig {
        cases: if is_full { CASES_FULL } else { CASES },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(FAILURES))),
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    }));
    let steps = prop::collection::vec(step(), 1..STEPS_MAX);
    let outcome = runner.run(&steps, |steps| {
        runtime.block_on(stage.play(&steps));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
