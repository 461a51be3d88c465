//! A command that is run again, after its answer was lost or it was killed, does nothing twice.

use medsync::chain::{Account, Call, ChainError, PoolCall, Quota};
use medsync_protocol::felt::Felt;
use medsync_tests::devnet::Blocks;

use super::world::{CLAIMS, CUSTODIAN, FUNDER, PRICE, World, strk};

#[tokio::test]
async fn what_is_under_way_is_not_sent_again_under_the_settled_nonce() {
    let world = World::start_making(Blocks::OnDemand).await;
    let account = world.account(FUNDER);
    let open = PoolCall::Open {
        nonce: medsync_protocol::ticket::PoolNonce::from_felt(Felt::ONE),
        promise: world.promise(strk()).await,
        quotas: world.quotas(),
        deposit: u128::from(2 * CLAIMS) * PRICE,
    };
    let contract = world.pools;
    let call = |call| Call::Pool { contract, call };
    let nonce = account.settled_nonce().await.expect("a nonce");
    let prepared = account
        .prepare(&call(open), nonce)
        .await
        .expect("a transaction");
    account.send(&prepared).await.expect("sent");
    world.devnet.close_block().expect("a block");
    let pool = world.pool_id(contract, FUNDER, 1);
    let promised = world.used(pool).await[0].promised;

    // Whoever dies right after sending has read and sent under one nonce; so does the next run.
    let top_up = PoolCall::TopUp {
        pool,
        token: strk(),
        quotas: vec![Quota {
            anchorer: world.anchorer(CUSTODIAN),
            claims: 1,
        }],
        deposit: PRICE,
    };
    let nonce = account.settled_nonce().await.expect("a nonce");
    let sent = account
        .prepare(&call(top_up.clone()), nonce)
        .await
        .expect("a transaction");
    account.send(&sent).await.expect("sent");
    assert_eq!(
        world.used(pool).await[0].promised,
        promised,
        "it is in no block"
    );
    assert_eq!(account.settled_nonce().await.expect("a nonce"), nonce);
    let again = account.land(&call(top_up.clone()), nonce, |_| ()).await;
    let error = again.expect_err("the first is under way");
    assert!(matches!(error, ChainError::NonceTaken { .. }), "{error:?}");
    world.devnet.close_block().expect("a block");
    assert_eq!(world.used(pool).await[0].promised, promised + 1);
    // Now it is seen to be there; and under the old nonce nothing lands any more.
    let late = account.land(&call(top_up), nonce, |_| ()).await;
    let error = late.expect_err("the nonce is used");
    assert!(matches!(error, ChainError::NonceTaken { .. }), "{error:?}");
    assert_eq!(
        account.settled_nonce().await.expect("a nonce"),
        nonce.next()
    );
}

#[tokio::test]
async fn what_lands_is_waited_for_and_what_reverts_is_said() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let account = world.account(FUNDER);
    let contract = world.pools;
    let nonce = account.settled_nonce().await.expect("a nonce");
    let close = Call::Pool {
        contract,
        call: PoolCall::Close(pool),
    };
    match account.land(&close, nonce, |_| ()).await {
        Err(ChainError::WouldRevert(reason)) => {
            assert_eq!(reason.pool().map(|known| known.name), Some("CLAIMS_LEFT"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        account.settled_nonce().await.expect("a nonce"),
        nonce,
        "nothing was sent"
    );
    let end = world.state(pool).await.promise.refund_time.0;
    world.wait_until(end);
    let refund = Call::Pool {
        contract,
        call: PoolCall::Refund(pool),
    };
    let landed = account.land(&refund, nonce, |_| ()).await.expect("landed");
    assert!(landed.block.time.0 >= end);
    assert!(world.state(pool).await.ended_at.is_some());
}
