//! Opening pools, and promising more in them.

use medsync::chain::{PoolCall, Promise, Quota, QuotaUse, Seen};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::BlockNumber;
use medsync_protocol::ticket::{PoolId, PoolNonce};
use medsync_tests::hand::Hand;

use super::world::{
    CLAIMS, CUSTODIAN, DAY_S, FUNDER, OTHER_CUSTODIAN, OTHER_FUNDER, PRICE, REWARD, SHARE,
    STRANGER, World, amount, assert_names, strk,
};

const COST: u128 = 2 * CLAIMS as u128 * PRICE;
const TEN_YEARS_S: u64 = 315_360_000;

struct Opening {
    promise: Promise,
    quotas: Vec<Quota>,
    deposit: u128,
}

impl Opening {
    async fn sound(world: &World) -> Self {
        Self {
            promise: world.promise(strk()).await,
            quotas: world.quotas(),
            deposit: COST,
        }
    }

    fn call(self) -> PoolCall {
        PoolCall::Open {
            nonce: PoolNonce::from_felt(Felt::from(77)),
            promise: self.promise,
            quotas: self.quotas,
            deposit: self.deposit,
        }
    }
}

#[tokio::test]
async fn a_pool_holds_and_says_what_it_promises() {
    let world = World::start().await;
    let promise = world.promise(strk()).await;
    let before = world.balance(world.pools, strk()).await;
    let call = PoolCall::Open {
        nonce: PoolNonce::from_felt(Felt::ONE),
        promise,
        quotas: world.quotas(),
        deposit: COST + 5,
    };
    let sent = world.pool(FUNDER, call).await.expect("opened");
    let pool = world.pool_id(world.pools, FUNDER, 1);
    let state = world.state(pool).await;
    assert_eq!(state.funder, world.address(FUNDER));
    assert_eq!(state.promise, promise);
    assert_eq!(state.claims_left, 2 * CLAIMS);
    assert_eq!((state.escrow, state.ended_at), (COST + 5, None));
    let used = |number| QuotaUse {
        anchorer: world.anchorer(number),
        promised: CLAIMS,
        claimed: 0,
    };
    assert_eq!(
        world.used(pool).await,
        [used(CUSTODIAN), used(OTHER_CUSTODIAN)]
    );
    assert_eq!(world.balance(world.pools, strk()).await, before + COST + 5);
    let totals = world.totals(world.address(FUNDER), strk()).await;
    assert_eq!(totals.deposited, COST + 5);
    let funder = world.address(FUNDER);
    let listed = world.chain.pools_of(world.pools, funder, 0).await;
    assert_eq!(listed.expect("a list"), [pool]);
    let registry = world.chain.registry_of(world.pools).await;
    assert_eq!(registry.expect("an address"), world.registry);

    let [opened, first, second] = world.events(sent).try_into().expect("three events");
    let keys = [pool.felt(), funder.felt()];
    assert_eq!((opened.name, &opened.keys[..]), ("PoolOpened", &keys[..]));
    let half = Felt::from(0xabab_abab_abab_abab_abab_abab_abab_abab_u128);
    let mut said = vec![Felt::ONE, strk().felt(), REWARD.into(), SHARE.into()];
    said.extend([
        promise.claim_end.felt(),
        promise.refund_time.felt(),
        half,
        half,
    ]);
    said.extend(amount(COST + 5));
    assert_eq!(opened.data, said);
    for (event, custodian) in [(first, CUSTODIAN), (second, OTHER_CUSTODIAN)] {
        assert_eq!(event.name, "QuotaPromised");
        assert_eq!(event.keys, [pool.felt(), world.address(custodian).felt()]);
        assert_eq!(event.data, [Felt::from(CLAIMS)]);
    }
}

#[tokio::test]
async fn what_cannot_be_promised_is_refused_by_name() {
    type Change = fn(&mut Opening, u64);
    let world = World::start().await;
    let now = world.now().await;
    let changes: [(&str, Change); 8] = [
        ("REWARD_ZERO", |o, _| o.promise.reward = 0),
        ("CLAIM_END_PAST", |o, now| {
            o.promise.claim_end = UnixSeconds(now - 1)
        }),
        ("REFUND_BEFORE_CLAIM_END", |o, _| {
            o.promise.refund_time = UnixSeconds(o.promise.claim_end.0 - 1);
        }),
        ("REFUND_TOO_LATE", |o, now| {
            o.promise.refund_time = UnixSeconds(now + TEN_YEARS_S + DAY_S);
        }),
        ("QUOTA_ZERO", |o, _| o.quotas[1].claims = 0),
        ("ANCHORER_ZERO", |o, _| {
            o.quotas[1].anchorer = Anchorer::from_felt(Felt::ZERO)
        }),
        ("NOT_FUNDED", |o, _| o.deposit -= 1),
        ("NOT_FUNDED", |o, _| o.quotas[0].claims = u64::MAX / 2),
    ];
    for (name, change) in changes {
        let mut opening = Opening::sound(&world).await;
        change(&mut opening, now);
        let refused = world.pool(FUNDER, opening.call()).await;
        assert_eq!(refused.expect_err("refused"), name);
    }
    let call = Opening::sound(&world).await.call();
    world.pool(FUNDER, call.clone()).await.expect("opened");
    assert_eq!(world.pool(FUNDER, call.clone()).await, Err("POOL_EXISTS"));
    // Another's pool of the same nonce is another pool.
    world.pool(OTHER_FUNDER, call).await.expect("opened");

    // What the program itself would not send: no quotas, too many, no token.
    let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
    let promise = world.promise(strk()).await;
    let felts = |count: u64, token: Felt| {
        let mut felts = vec![Felt::TWO, token, REWARD.into(), SHARE.into()];
        felts.extend([promise.claim_end.felt(), promise.refund_time.felt()]);
        felts.extend(amount(0));
        felts.push(Felt::from(count));
        felts.extend((0..count).flat_map(|number| [Felt::from(number + 1), Felt::ONE]));
        felts.extend(amount(0));
        felts
    };
    for (count, token, name) in [
        (0, strk().felt(), "QUOTAS_EMPTY"),
        (65, strk().felt(), "QUOTAS_TOO_MANY"),
        (1, Felt::ZERO, "TOKEN_ZERO"),
    ] {
        let refused = hand.invoke(world.pools, "open", felts(count, token)).await;
        assert_names(name, &refused.expect_err("refused"));
    }
    // No transaction comes from nobody; a call that is none does.
    let refused = hand
        .call(world.pools, "open", felts(1, strk().felt()))
        .await;
    assert_names("CALLER_ZERO", &refused.expect_err("refused"));
    // A contract that judges by nothing, or by what is no registry, is never deployed.
    let class = world.chain_class(world.pools).await;
    for (judge, name) in [
        (Felt::ZERO, "REGISTRY_ZERO"),
        (strk().felt(), "ENTRYPOINT_NOT_FOUND"),
    ] {
        let refused = hand.deploy(class, Felt::THREE, &[judge]).await;
        assert_names(name, &refused.expect_err("no registry"));
    }
}

impl World {
    async fn chain_class(&self, contract: ContractAddress) -> Felt {
        use medsync::chain::Chain;
        let class = self.chain.class_hash_at(contract).await;
        class.expect("an answer").expect("a contract").felt()
    }
}

/// Lists are read from any place, as much as a page has.
#[tokio::test]
async fn lists_are_paged_from_any_place() {
    let world = World::start().await;
    let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
    let mut pools = Vec::new();
    for nonce in 1..=3 {
        pools.push(world.open(nonce, strk()).await.expect("opened").felt());
    }
    // More quotas than a page has, in more events than a page has.
    for part in [0, 64] {
        let quotas = (0..64).map(|number| Quota {
            anchorer: Anchorer::from_felt(Felt::from(1_000 + part + number)),
            claims: 1,
        });
        let call = PoolCall::TopUp {
            pool: PoolId::from_felt(pools[0]),
            token: strk(),
            quotas: quotas.collect(),
            deposit: 64 * PRICE,
        };
        world.pool(FUNDER, call).await.expect("topped up");
    }
    let ask = async |name: &str, calldata: Vec<Felt>| {
        let answer = hand.call(world.pools, name, calldata).await;
        answer.expect("an answer")
    };
    let funder = world.address(FUNDER).felt();
    let [one, two, three] = [pools[0], pools[1], pools[2]];
    for (start, count, found) in [
        (0, 1_000, vec![one, two, three]),
        (1, 1, vec![two]),
        (2, 5, vec![three]),
        (0, 0, vec![]),
        (3, 1, vec![]),
        (9, 1, vec![]),
        (u64::MAX, u64::MAX, vec![]),
    ] {
        let expected = [vec![Felt::from(found.len())], found].concat();
        let place = [Felt::from(start), Felt::from(count)];
        assert_eq!(ask("pool_ids", place.to_vec()).await, expected);
        let of = [vec![funder], place.to_vec()].concat();
        assert_eq!(ask("pool_ids_of", of).await, expected);
    }
    let len = vec![Felt::THREE];
    assert_eq!(ask("pool_count", vec![]).await, len);
    assert_eq!(ask("pool_count_of", vec![funder]).await, len);
    let stranger = world.address(STRANGER).felt();
    assert_eq!(ask("pool_count_of", vec![stranger]).await, [Felt::ZERO]);
    assert_eq!(ask("quota_count", vec![one]).await, [Felt::from(130)]);
    let page = async |start: u64, count: u64| {
        let answer = ask("quotas", vec![one, start.into(), count.into()]).await;
        assert_eq!(Felt::from((answer.len() - 1) / 3), answer[0]);
        answer[1..].iter().step_by(3).copied().collect::<Vec<_>>()
    };
    let custodians = [CUSTODIAN, OTHER_CUSTODIAN].map(|number| world.anchorer(number).felt());
    let more = (1_000..1_128_u64).map(Felt::from);
    let all: Vec<Felt> = custodians.into_iter().chain(more).collect();
    assert_eq!(page(0, u64::MAX).await, all[..100]);
    assert_eq!(page(100, 100).await, all[100..]);
    assert_eq!(page(129, 2).await, all[129..]);
    // What reads them goes from page to page.
    let used = world.used(PoolId::from_felt(one)).await;
    let read: Vec<Felt> = used.iter().map(|used| used.anchorer.felt()).collect();
    assert_eq!(read, all);
    let of = Seen::Pool(PoolId::from_felt(one));
    let history = world.chain.pool_history(world.pools, BlockNumber(0), of);
    let history = history.await.expect("events");
    // Opened, two quotas, and twice: topped up, 64 quotas.
    assert_eq!((history.events.len(), history.is_cut), (133, false));
}

#[tokio::test]
async fn only_the_funder_promises_more_and_only_while_it_can_be_claimed() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let more = |pool: PoolId, claims: u64, deposit: u128| PoolCall::TopUp {
        pool,
        token: strk(),
        quotas: vec![Quota {
            anchorer: world.anchorer(CUSTODIAN),
            claims,
        }],
        deposit,
    };
    let refused = world.pool(STRANGER, more(pool, 1, PRICE)).await;
    assert_eq!(refused, Err("NOT_THE_FUNDER"));
    let refused = world.pool(FUNDER, more(pool, 1, PRICE - 1)).await;
    assert_eq!(refused, Err("NOT_FUNDED"));
    let unknown = PoolId::from_felt(Felt::from(404));
    let refused = world.pool(FUNDER, more(unknown, 1, PRICE)).await;
    assert_eq!(refused, Err("POOL_UNKNOWN"));

    let sent = world
        .pool(FUNDER, more(pool, 3, 3 * PRICE))
        .await
        .expect("topped up");
    let [topped_up, promised] = world.events(sent).try_into().expect("two events");
    assert_eq!(topped_up.name, "ToppedUp");
    assert_eq!(topped_up.keys, [pool.felt(), world.address(FUNDER).felt()]);
    assert_eq!(topped_up.data, amount(3 * PRICE));
    assert_eq!(
        (promised.name, &promised.data[..]),
        ("QuotaPromised", &[Felt::THREE][..])
    );
    let custodian = world.address(CUSTODIAN).felt();
    assert_eq!(promised.keys, [pool.felt(), custodian]);
    let state = world.state(pool).await;
    assert_eq!(state.claims_left, 2 * CLAIMS + 3);
    assert_eq!(state.escrow, COST + 3 * PRICE);
    let used = world.used(pool).await;
    assert_eq!((used.len(), used[0].promised), (2, CLAIMS + 3));
    world.check_solvent(strk()).await;

    world.wait_until(state.promise.claim_end.0);
    let refused = world.pool(FUNDER, more(pool, 1, PRICE)).await;
    assert_eq!(refused, Err("CLAIM_END_REACHED"));
    world.wait_until(state.promise.refund_time.0);
    world
        .pool(STRANGER, PoolCall::Refund(pool))
        .await
        .expect("refunded");
    let refused = world.pool(FUNDER, more(pool, 1, PRICE)).await;
    assert_eq!(refused, Err("POOL_ENDED"));
}
