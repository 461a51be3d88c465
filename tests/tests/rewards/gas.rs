//! What each call costs, as a devnet charges it, against what is tracked: a change of a contract
//! shows in the change of a figure. `MEDSYNC_BLESS=1` writes the figures anew.

use std::collections::BTreeMap;
use std::fs;

use medsync::chain::{Call, PoolCall, Quota};
use medsync_protocol::anchor::LeafCount;
use medsync_protocol::felt::Felt;
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::ticket::PoolNonce;
use medsync_protocol::tree::Root;
use serde_json::json;

use super::world::{
    CLAIMS, CUSTODIAN, FUNDER, PRICE, RELAYER, STRANGER, World, fresh, secrets, strk,
};

const TRACKED: &str = concat!(env!("MEDSYNC_ROOT"), "/contracts/artifacts/gas.json");

/// L2 gas of transactions, by the name of the call.
#[derive(Default)]
struct Costs(BTreeMap<&'static str, u64>);

impl Costs {
    fn note(&mut self, world: &World, name: &'static str, sent: TransactionHash) {
        let params = json!({ "transaction_hash": sent });
        let receipt = world.devnet.ask("starknet_getTransactionReceipt", &params);
        let receipt = receipt.expect("a receipt");
        let gas = receipt["execution_resources"]["l2_gas"].as_u64();
        self.0.insert(name, gas.expect("an amount"));
    }
}

#[tokio::test]
async fn each_call_costs_what_is_tracked() {
    let world = World::start().await;
    let mut costs = Costs::default();
    // The first transaction of an account costs more, and so does a token's first balance.
    let pool = world.open(1, strk()).await.expect("opened");
    let ticket = world.ticket(pool, 1).await;
    let claim = PoolCall::Claim(Box::new(world.claim(&ticket, fresh(1))));
    world.pool(RELAYER, claim).await.expect("claimed");
    let revoke = |number| {
        let secrets = secrets(number);
        Call::Revoke {
            registry: world.registry,
            openings: vec![(secrets.secret.clone(), secrets.claim_key.public_key())],
        }
    };
    world.send(STRANGER, &revoke(100)).await.expect("revoked");

    let sent = world.send(STRANGER, &revoke(101)).await.expect("revoked");
    costs.note(&world, "revoke", sent);
    let anchor = Call::Anchor {
        registry: world.registry,
        expected_head: world.head_of(CUSTODIAN).await,
        root: Root::from_felt(Felt::from(11)),
        leaf_count: LeafCount(16),
    };
    let sent = world.send(CUSTODIAN, &anchor).await.expect("anchored");
    costs.note(&world, "anchor", sent);

    let open = PoolCall::Open {
        nonce: PoolNonce::from_felt(Felt::TWO),
        promise: world.promise(strk()).await,
        quotas: world.quotas(),
        deposit: u128::from(2 * CLAIMS) * PRICE,
    };
    let sent = world.pool(FUNDER, open).await.expect("opened");
    costs.note(&world, "open, two quotas", sent);
    let pool = world.pool_id(world.pools, FUNDER, 2);
    let top_up = PoolCall::TopUp {
        pool,
        token: strk(),
        quotas: vec![Quota {
            anchorer: world.anchorer(CUSTODIAN),
            claims: 9,
        }],
        deposit: 9 * PRICE,
    };
    let sent = world.pool(FUNDER, top_up).await.expect("topped up");
    costs.note(&world, "top_up, one quota", sent);
    let mut claims = Vec::new();
    for number in 2..11 {
        let ticket = world.ticket(pool, number).await;
        claims.push(world.claim(&ticket, fresh(number)));
    }
    let many = claims.split_off(1);
    let claim = PoolCall::Claim(Box::new(claims.remove(0)));
    let sent = world.pool(RELAYER, claim).await.expect("claimed");
    costs.note(&world, "claim, a batch of 16", sent);
    let sent = world
        .pool(RELAYER, PoolCall::ClaimMany(many))
        .await
        .expect("claimed");
    assert!(
        world
            .events(sent)
            .iter()
            .all(|event| event.name == "Claimed")
    );
    costs.note(&world, "claim_many, eight of batches of 16", sent);
    let withdraw = PoolCall::WithdrawFor {
        owner: fresh(2),
        token: strk(),
    };
    let sent = world.pool(RELAYER, withdraw).await.expect("paid");
    costs.note(&world, "withdraw_for", sent);
    let open = PoolCall::Open {
        nonce: PoolNonce::from_felt(Felt::THREE),
        promise: world.promise(strk()).await,
        quotas: vec![Quota {
            anchorer: world.anchorer(CUSTODIAN),
            claims: 1,
        }],
        deposit: PRICE,
    };
    world.pool(FUNDER, open).await.expect("opened");
    let claimed_out = world.pool_id(world.pools, FUNDER, 3);
    let ticket = world.ticket(claimed_out, 20).await;
    let claim = PoolCall::Claim(Box::new(world.claim(&ticket, fresh(20))));
    world.pool(RELAYER, claim).await.expect("claimed");
    let sent = world.pool(FUNDER, PoolCall::Close(claimed_out)).await;
    costs.note(&world, "close", sent.expect("closed"));
    world.wait_until(world.state(pool).await.promise.refund_time.0);
    let sent = world
        .pool(STRANGER, PoolCall::Refund(pool))
        .await
        .expect("refunded");
    costs.note(&world, "refund", sent);

    let text = serde_json::to_string_pretty(&json!({ "l2_gas": costs.0 })).expect("JSON") + "\n";
    if std::env::var_os("MEDSYNC_BLESS").is_some() {
        fs::write(TRACKED, &text).expect("written");
    }
    let tracked = fs::read_to_string(TRACKED).expect("contracts/artifacts/gas.json");
    assert_eq!(text, tracked, "MEDSYNC_BLESS=1 writes what it costs now");
}
