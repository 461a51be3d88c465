//! Tokens that do what no ERC-20 should.

use medsync::chain::PoolCall;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::ticket::{PoolId, PoolNonce};
use medsync_tests::hand::{Hand, TokenDouble};

use super::world::{
    CLAIMS, CUSTODIAN, DAY_S, FUNDER, OTHER_CUSTODIAN, PRICE, RELAYER, REWARD, STRANGER, World,
    amount, assert_names, felts_of, fresh, strk,
};

const COST: u128 = 2 * CLAIMS as u128 * PRICE;
const MINTED: u128 = 100 * COST;

/// A token's pool, from which something accrued to a fresh address.
struct Stage<'a> {
    world: &'a World,
    token: TokenDouble<'a>,
    pool: PoolId,
    payee: ContractAddress,
}

impl<'a> Stage<'a> {
    async fn set(world: &'a World, hand: &'a Hand, class: Felt, number: u64) -> Self {
        let token = TokenDouble::deploy(hand, class, number)
            .await
            .expect("deployed");
        token
            .mint(world.address(FUNDER), MINTED)
            .await
            .expect("minted");
        let pool = world.open(number, token.address).await.expect("opened");
        let (ticket, payee) = (world.ticket(pool, number).await, fresh(number));
        let claim = PoolCall::Claim(Box::new(world.claim(&ticket, payee)));
        world.pool(RELAYER, claim).await.expect("claimed");
        Self {
            world,
            token,
            pool,
            payee,
        }
    }

    async fn behave(&self, manner: &str) {
        self.token.behave(manner).await.expect("told");
    }

    async fn withdraw(&self) -> Result<(), &'static str> {
        let call = PoolCall::WithdrawFor {
            owner: self.payee,
            token: self.token.address,
        };
        self.world.pool(STRANGER, call).await.map(drop)
    }

    async fn open_another(&self, nonce: u64) -> Result<PoolId, &'static str> {
        self.world.open(nonce, self.token.address).await
    }

    async fn accrued(&self) -> u128 {
        self.world.accrued(self.payee, self.token.address).await
    }
}

#[tokio::test]
async fn hostile_token_harms_nobody_but_those_who_hold_it() {
    let world = World::start().await;
    let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
    let class = TokenDouble::declare(&hand).await.expect("declared");
    // A pool of real money stands beside all that follows.
    let real = world.open(1, strk()).await.expect("opened");
    let held = world.balance(world.pools, strk()).await;

    let manners = [
        ("SAYS NO", Some("TOKEN_REFUSED"), Some("TOKEN_REFUSED")),
        ("BABBLES", Some("TOKEN_ANSWER"), Some("TOKEN_ANSWER")),
        ("LIES", Some("TOKEN_PAID_OTHERWISE"), Some("NOT_FUNDED")),
        ("TAKES MORE", Some("TOKEN_PAID_OTHERWISE"), None),
        (
            "ROBS",
            Some("TOKEN_PAID_OTHERWISE"),
            Some("TOKEN_LOST_BALANCE"),
        ),
        ("SAYS NOTHING", None, None),
        ("TAKES A FEE", None, Some("NOT_FUNDED")),
    ];
    for (number, (manner, out, deposit)) in (10..).step_by(10).zip(manners) {
        let stage = Stage::set(&world, &hand, class, number).await;
        if manner == "ROBS" {
            // So that there is something to take.
            stage.token.mint(stage.payee, 1).await.expect("minted");
        }
        stage.behave(manner).await;
        let opened = stage.open_another(number + 1).await;
        assert_eq!(opened.err(), deposit, "{manner}: deposit");
        let withdrawn = stage.withdraw().await;
        assert_eq!(withdrawn.err(), out, "{manner}: payment");
        if out.is_some() {
            // Nothing is lost: once the token behaves, it is paid.
            assert_eq!(stage.accrued().await, REWARD, "{manner}");
            stage.behave("").await;
            stage.withdraw().await.expect("paid");
        }
        assert_eq!(stage.accrued().await, 0, "{manner}");
        stage.behave("").await;
        world.check_solvent(stage.token.address).await;
    }

    assert_eq!(world.balance(world.pools, strk()).await, held);
    let ticket = world
        .ticket_of(OTHER_CUSTODIAN, real, 1, world.now().await + DAY_S)
        .await;
    let claim = PoolCall::Claim(Box::new(world.claim(&ticket, fresh(1))));
    world.pool(RELAYER, claim).await.expect("claimed");
    let call = PoolCall::WithdrawFor {
        owner: fresh(1),
        token: strk(),
    };
    world.pool(RELAYER, call).await.expect("paid");
    assert_eq!(world.balance(fresh(1), strk()).await, REWARD);
}

#[tokio::test]
async fn hostile_token_calls_back_and_is_let_in_nowhere() {
    let world = World::start().await;
    let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
    let class = TokenDouble::declare(&hand).await.expect("declared");
    let stage = Stage::set(&world, &hand, class, 1).await;
    let token = stage.token.address;
    // Each of these would succeed if it came from outside.
    let next = world
        .ticket_of(OTHER_CUSTODIAN, stage.pool, 2, world.now().await + DAY_S)
        .await;
    let claim = felts_of(&world.claim(&next, fresh(2)));
    let promise = world.promise(token).await;
    let mut open = vec![Felt::from(9), token.felt(), REWARD.into(), Felt::ZERO];
    open.extend([promise.claim_end.felt(), promise.refund_time.felt()]);
    open.extend(amount(7));
    open.extend([Felt::ONE, world.address(CUSTODIAN).felt(), Felt::ONE]);
    open.extend(amount(REWARD));
    let custodian = vec![world.address(CUSTODIAN).felt(), token.felt()];
    let many = [vec![Felt::ONE], claim.clone()].concat();
    let calls: [(&str, Vec<Felt>); 4] = [
        ("withdraw_for", custodian),
        ("claim", claim),
        ("claim_many", many),
        ("open", open),
    ];
    stage.behave("CALLS BACK").await;
    for (name, calldata) in &calls {
        stage
            .token
            .call_back(world.pools, name, calldata)
            .await
            .expect("told");
        assert_eq!(stage.withdraw().await, Err("REENTERED"), "{name}, paid out");
        let opened = stage.open_another(5).await;
        assert_eq!(opened.err(), Some("REENTERED"), "{name}, deposited");
    }
    assert_eq!(stage.accrued().await, REWARD);
    // A pool whose time has come does not end in the middle either.
    world.wait_until(promise.refund_time.0 + DAY_S);
    let refund = [stage.pool.felt()];
    stage
        .token
        .call_back(world.pools, "refund", &refund)
        .await
        .expect("told");
    assert_eq!(stage.withdraw().await, Err("REENTERED"));
    stage.behave("").await;
    stage.withdraw().await.expect("paid");
    world
        .pool(STRANGER, PoolCall::Refund(stage.pool))
        .await
        .expect("refunded");
    world.check_solvent(token).await;
}

/// A token that funds a pool itself may promise more in it and close it, but not in the middle of
/// another call.
#[tokio::test]
async fn hostile_token_that_funds_a_pool_changes_nothing_in_it_while_it_is_called() {
    let world = World::start().await;
    let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
    let class = TokenDouble::declare(&hand).await.expect("declared");
    let stage = Stage::set(&world, &hand, class, 1).await;
    let token = &stage.token;
    token.mint(token.address, MINTED).await.expect("minted");
    let custodian = world.address(CUSTODIAN).felt();
    let more = |claims: u64| {
        let mut felts = vec![Felt::ONE, custodian, claims.into()];
        felts.extend(amount(u128::from(claims) * REWARD));
        felts
    };
    let promise = world.promise(token.address).await;
    let mut open = vec![Felt::from(9), token.address.felt()];
    open.extend([REWARD.into(), Felt::ZERO]);
    open.extend([promise.claim_end.felt(), promise.refund_time.felt()]);
    open.extend(amount(7));
    open.extend(more(1));
    token
        .call_now(world.pools, "open", &open)
        .await
        .expect("opened");
    let nonce = PoolNonce::from_felt(Felt::from(9));
    let chain_id = world.chain.expected_chain();
    let own = PoolId::of(chain_id, world.pools, token.address, nonce);
    let ticket = world.ticket(own, 3).await;
    let claim = PoolCall::Claim(Box::new(world.claim(&ticket, fresh(3))));
    world.pool(RELAYER, claim).await.expect("claimed");
    assert_eq!(world.state(own).await.claims_left, 0);

    stage.behave("CALLS BACK").await;
    let top_up = [vec![own.felt()], more(1)].concat();
    for (name, calldata) in [("top_up", top_up.as_slice()), ("close", &[own.felt()])] {
        token
            .call_back(world.pools, name, calldata)
            .await
            .expect("told");
        assert_eq!(stage.withdraw().await, Err("REENTERED"), "{name}, paid out");
        let opened = stage.open_another(5).await;
        assert_eq!(opened.err(), Some("REENTERED"), "{name}, deposited");
    }
    stage.behave("").await;
    // By itself each is let in, and refused or not as for any funder.
    let topped_up = token.call_now(world.pools, "top_up", &top_up).await;
    topped_up.expect("topped up");
    let closed = token.call_now(world.pools, "close", &[own.felt()]).await;
    assert_names("CLAIMS_LEFT", &closed.expect_err("a claim is left"));
    assert_eq!(stage.accrued().await, REWARD);
    stage.withdraw().await.expect("paid");
    world.check_solvent(token.address).await;
}

#[tokio::test]
async fn a_token_with_a_fee_pays_for_what_arrived_of_it() {
    let world = World::start().await;
    let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
    let class = TokenDouble::declare(&hand).await.expect("declared");
    let token = TokenDouble::deploy(&hand, class, 1)
        .await
        .expect("deployed");
    token
        .mint(world.address(FUNDER), MINTED)
        .await
        .expect("minted");
    token.behave("TAKES A FEE").await.expect("told");
    // A tenth of it reaches nobody.
    let call = PoolCall::Open {
        nonce: PoolNonce::from_felt(Felt::ONE),
        promise: world.promise(token.address).await,
        quotas: world.quotas(),
        deposit: 2 * COST,
    };
    world.pool(FUNDER, call).await.expect("opened");
    let pool = world.pool_id(world.pools, FUNDER, 1);
    let received = 2 * COST - 2 * COST / 10;
    assert_eq!(world.state(pool).await.escrow, received);
    let ticket = world.ticket(pool, 1).await;
    let claim = PoolCall::Claim(Box::new(world.claim(&ticket, fresh(1))));
    world.pool(RELAYER, claim).await.expect("claimed");
    let call = PoolCall::WithdrawFor {
        owner: fresh(1),
        token: token.address,
    };
    // On the way out the fee is the owner's loss alone.
    world.pool(RELAYER, call).await.expect("paid");
    assert_eq!(
        world.balance(fresh(1), token.address).await,
        REWARD - REWARD / 10
    );
    assert_eq!(
        world.balance(world.pools, token.address).await,
        received - REWARD
    );
    world.check_solvent(token.address).await;
}
