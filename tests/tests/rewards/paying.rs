//! What accrued is paid out, and what is left goes back.

use medsync::chain::{PoolCall, PoolSaid, Quota, Seen, Totals};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::BlockNumber;
use medsync_protocol::ticket::PoolNonce;

use super::world::{
    CLAIMS, CUSTODIAN, FUNDER, OTHER_FUNDER, PRICE, RELAYER, REWARD, SHARE, STRANGER, World,
    amount, fresh, strk,
};

const COST: u128 = 2 * CLAIMS as u128 * PRICE;

#[tokio::test]
async fn what_is_left_goes_back_after_the_refund_time_and_the_balances_add_up() {
    let world = World::start().await;
    let before = world.balance(world.pools, strk()).await;
    let pool = world.open(1, strk()).await.expect("opened");
    let refund_time = world.state(pool).await.promise.refund_time.0;
    let ticket = world.ticket(pool, 1).await;
    let claim = PoolCall::Claim(Box::new(world.claim(&ticket, fresh(1))));
    world.pool(RELAYER, claim).await.expect("claimed");

    world.wait_until(refund_time - 3_600);
    assert_eq!(
        world.pool(FUNDER, PoolCall::Refund(pool)).await,
        Err("REFUND_TOO_EARLY")
    );
    assert_eq!(
        world.pool(FUNDER, PoolCall::Close(pool)).await,
        Err("CLAIMS_LEFT")
    );
    world.wait_until(refund_time);
    // Anyone may ask; it accrues to the funder.
    let sent = world
        .pool(STRANGER, PoolCall::Refund(pool))
        .await
        .expect("refunded");
    let [ended] = world.events(sent).try_into().expect("one event");
    assert_eq!(ended.name, "PoolEnded");
    let funder = world.address(FUNDER);
    assert_eq!(ended.keys, [pool.felt(), funder.felt()]);
    let mut said = amount(COST - PRICE).to_vec();
    said.push(Felt::from(2 * CLAIMS - 1));
    assert_eq!(ended.data, said);
    let state = world.state(pool).await;
    assert_eq!((state.claims_left, state.escrow), (0, 0));
    assert!(state.ended_at.is_some_and(|at| at.0 >= refund_time));
    for call in [PoolCall::Refund(pool), PoolCall::Close(pool)] {
        assert_eq!(world.pool(FUNDER, call).await, Err("POOL_ENDED"));
    }

    let owners = [
        (fresh(1), REWARD),
        (world.address(CUSTODIAN), SHARE),
        (funder, COST - PRICE),
    ];
    for (owner, due) in owners {
        assert_eq!(world.accrued(owner, strk()).await, due);
        let call = PoolCall::WithdrawFor {
            owner,
            token: strk(),
        };
        let sent = world.pool(STRANGER, call).await.expect("paid");
        let [paid] = world.events(sent).try_into().expect("one event");
        assert_eq!((paid.name, &paid.data[..]), ("Withdrawn", &amount(due)[..]));
        assert_eq!(paid.keys, [owner.felt(), strk().felt()]);
        assert_eq!(world.accrued(owner, strk()).await, 0);
        assert_eq!(world.totals(owner, strk()).await.withdrawn, due);
    }
    let totals = Totals {
        deposited: COST,
        refunded: COST - PRICE,
        withdrawn: COST - PRICE,
    };
    assert_eq!(world.totals(funder, strk()).await, totals);
    assert_eq!(world.balance(world.pools, strk()).await, before);
    world.check_solvent(strk()).await;

    let history = async |of| {
        let history = world
            .chain
            .pool_history(world.pools, BlockNumber(0), of)
            .await;
        let history = history.expect("events");
        assert!(!history.is_cut);
        history
            .events
            .into_iter()
            .map(|event| event.says)
            .collect::<Vec<_>>()
    };
    let of_pool = history(Seen::Pool(pool)).await;
    assert!(matches!(
        of_pool.as_slice(),
        [
            PoolSaid::Opened { received: COST, .. },
            PoolSaid::Promised { claims: CLAIMS, .. },
            PoolSaid::Promised { claims: CLAIMS, .. },
            PoolSaid::Claimed { .. },
            PoolSaid::Ended { .. },
        ]
    ));
    let handle = ticket.ticket.handle;
    let claimed = history(Seen::Handle(handle)).await;
    assert_eq!(claimed, of_pool[3..4]);
    assert_eq!(
        history(Seen::Custodian(world.anchorer(CUSTODIAN))).await,
        claimed
    );
    let paid = PoolSaid::Withdrawn {
        owner: fresh(1),
        token: strk(),
        amount: REWARD,
    };
    assert_eq!(history(Seen::Owner(fresh(1))).await, [paid]);
    assert_eq!(history(Seen::Owner(fresh(2))).await, []);
}

#[tokio::test]
async fn a_funder_closes_a_pool_in_which_nothing_is_left_to_claim() {
    let world = World::start().await;
    let mut promise = world.promise(strk()).await;
    // Nobody has to wait: back at the very second at which claiming ends, and no custodian's share.
    promise.refund_time = promise.claim_end;
    promise.custodian_share = 0;
    let call = PoolCall::Open {
        nonce: PoolNonce::from_felt(Felt::ONE),
        promise,
        quotas: vec![Quota {
            anchorer: world.anchorer(CUSTODIAN),
            claims: 1,
        }],
        deposit: REWARD + 3,
    };
    world.pool(FUNDER, call.clone()).await.expect("opened");
    let pool = world.pool_id(world.pools, FUNDER, 1);
    let ticket = world.ticket(pool, 1).await;
    let claim = PoolCall::Claim(Box::new(world.claim(&ticket, fresh(1))));
    world.pool(RELAYER, claim).await.expect("claimed");
    assert_eq!(world.accrued(world.address(CUSTODIAN), strk()).await, 0);
    assert_eq!(
        world.pool(STRANGER, PoolCall::Close(pool)).await,
        Err("NOT_THE_FUNDER")
    );
    let sent = world.pool(FUNDER, PoolCall::Close(pool)).await;
    let events = world.events(sent.expect("closed"));
    let [ended] = events.try_into().expect("one event");
    let funder = world.address(FUNDER).felt();
    assert_eq!(
        (ended.name, ended.keys),
        ("PoolEnded", vec![pool.felt(), funder])
    );
    assert_eq!(ended.data, [amount(3).to_vec(), vec![Felt::ZERO]].concat());
    assert_eq!(world.accrued(world.address(FUNDER), strk()).await, 3);

    // Another, at whose claim end both are over at once.
    world.pool(OTHER_FUNDER, call).await.expect("opened");
    let other = world.pool_id(world.pools, OTHER_FUNDER, 1);
    let UnixSeconds(end) = promise.claim_end;
    world.wait_until(end);
    world
        .pool(STRANGER, PoolCall::Refund(other))
        .await
        .expect("refunded");
    assert_eq!(
        world.accrued(world.address(OTHER_FUNDER), strk()).await,
        REWARD + 3
    );
    world.check_solvent(strk()).await;
}
