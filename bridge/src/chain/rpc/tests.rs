//! Endpoints that are down, slow, wrong, old, talkative or full of nonsense.

use medsync_protocol::felt::Felt;
use medsync_protocol::secrets::RevocationSecret;
use medsync_protocol::signature::PublicKey;
use serde_json::{Value, json};

use super::*;
use crate::chain::fake::{Answer, Fake, block, block_hash, chain_id, felt};
use crate::chain::{Class, RegistryRevert};

const REGISTRY: ContractAddress = ContractAddress::from_felt(Felt::THREE);

async fn facts(fake: &Fake) -> Result<Facts, ChainError> {
    let (anchorer, root) = (Anchorer::from_felt(felt(9)), Root::from_felt(felt(11)));
    let chain = fake.chain();
    chain
        .facts(REGISTRY, anchorer, root, Handle::from_felt(felt(13)))
        .await
}

/// A registry of class 5 whose `receipt_times` gives these felts.
async fn registry(times: Value) -> Fake {
    Fake::with_tip(move |method, _| match method {
        "starknet_getClassHashAt" => Answer::Result(json!("0x5")),
        _ => Answer::Result(times.clone()),
    })
    .await
}

async fn tip_of(answer: fn() -> Answer) -> ChainError {
    let fake = Fake::start(move |_, _| answer()).await;
    let error = fake.chain().tip().await.expect_err("no answer");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    error
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let url = format!("http://user:secret@127.0.0.1:{port}/secret");
    let chain = RpcChain::new(&url.parse().expect("a URL"), chain_id()).expect("an endpoint");
    let error = chain.tip().await.expect_err("nobody listens");
    assert!(matches!(error, ChainError::Unreachable(_)), "{error:?}");
    assert!(
        error.is_retry() && !error.to_string().contains("secret"),
        "{error}"
    );
}

#[tokio::test]
async fn an_endpoint_that_is_slow_is_given_up() {
    let fake = Fake::start(|_, _| Answer::Silence).await;
    let timeout = Duration::from_millis(30);
    let error = fake.chain_within(timeout).tip().await.expect_err("silence");
    assert!(
        matches!(error, ChainError::Slow(after) if after == timeout),
        "{error:?}"
    );
    assert!(error.is_retry());
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_refused_at_every_read() {
    let fake = Fake::start(|method, _| match method {
        "starknet_chainId" => Answer::Result(json!("0x1")),
        _ => Answer::Result(block(7, 1_000)),
    })
    .await;
    let chain = fake.chain();
    let status = chain
        .status(TransactionHash::from_felt(felt(1)))
        .await
        .map(drop);
    let class = chain.class_hash_at(REGISTRY).await.map(drop);
    let tip = chain.tip().await.map(drop);
    let revoked = chain.revoked_at(REGISTRY, &[]).await.map(drop);
    for answer in [status, class, tip, revoked, facts(&fake).await.map(drop)] {
        let error = answer.expect_err("another chain");
        assert!(matches!(error, ChainError::OtherChain { .. }), "{error:?}");
        assert_eq!(error.class(), Class::Fatal);
    }
}

#[tokio::test]
async fn nonsense_is_malformed() {
    let deep = || Answer::Body("[".repeat(60_000).into_bytes());
    let to_another = || {
        let body = json!({"jsonrpc": "2.0", "id": 77, "result": chain_id().to_string()});
        Answer::Body(body.to_string().into_bytes())
    };
    let cases: [fn() -> Answer; 8] = [
        || Answer::Body(Vec::new()),
        || Answer::Body(b"<html>".to_vec()),
        || Answer::Body(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":".to_vec()),
        || Answer::Body(vec![0xff; 100]),
        || Answer::Result(json!({"result": "SN_SEPOLIA"})),
        || Answer::Result(json!("0xz")),
        deep,
        to_another,
    ];
    for answer in cases {
        let error = tip_of(answer).await;
        assert!(matches!(error, ChainError::Malformed { .. }), "{error:?}");
        assert!(error.is_retry());
    }
}

#[tokio::test]
async fn http_errors_and_redirects_are_not_followed() {
    let error = tip_of(|| Answer::Status("500 Internal Server Error")).await;
    assert!(matches!(error, ChainError::Status(500)), "{error:?}");
    const ELSEWHERE: &str = "307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/";
    let error = tip_of(|| Answer::Status(ELSEWHERE)).await;
    assert!(matches!(error, ChainError::Status(307)), "{error:?}");
    let error = tip_of(|| Answer::Status("429 Too Many Requests")).await;
    assert!(matches!(error, ChainError::RateLimited), "{error:?}");
    let error = tip_of(|| Answer::Body(vec![b' '; 65 * 1024])).await;
    assert!(matches!(error, ChainError::TooLong(_)), "{error:?}");
    let error = tip_of(|| Answer::Error(-32_603, json!("why"))).await;
    assert!(matches!(error, ChainError::Refused { .. }), "{error:?}");
    let error = tip_of(|| Answer::Error(32, Value::Null)).await;
    assert!(matches!(error, ChainError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn both_values_are_read_at_one_block_by_its_hash() {
    let fake = registry(json!(["0x384", "0x0", "0x3e8"])).await;
    let facts = facts(&fake).await.expect("facts");
    assert_eq!(facts.class_hash, ClassHash::from_felt(felt(5)));
    assert_eq!(facts.chain.anchored_at, Some(UnixSeconds(900)));
    assert_eq!(facts.chain.revoked_at, None);
    assert_eq!(facts.chain.block_time, facts.block.time);
    let asked = fake.asked.lock().expect("not poisoned");
    let at: Vec<_> = asked
        .iter()
        .map(|(_, params)| &params["block_id"])
        .collect();
    let hash = json!({"block_hash": block_hash(7)});
    assert_eq!(at, [&Value::Null, &json!("latest"), &hash, &hash]);
}

#[tokio::test]
async fn values_that_cannot_be_are_refused() {
    let above_u64 = json!(["0x0", "0x10000000000000000", "0x3e8"]);
    for times in [json!([]), json!(["0x0", "0x0", "0x3e8", "0x0"]), above_u64] {
        let error = facts(&registry(times).await).await.expect_err("malformed");
        assert!(matches!(error, ChainError::Malformed { .. }), "{error:?}");
    }
    // A call that saw another block than its hash names, and events after the block.
    for times in [
        ["0x0", "0x0", "0x3e9"],
        ["0x3e9", "0x0", "0x3e8"],
        ["0x0", "0x3e9", "0x3e8"],
    ] {
        let error = facts(&registry(json!(times)).await)
            .await
            .expect_err("impossible");
        assert!(matches!(error, ChainError::Contradiction(_)), "{error:?}");
        assert!(error.is_retry());
    }
}

#[tokio::test]
async fn an_open_block_is_not_a_tip() {
    let fake = Fake::start(|method, _| match method {
        "starknet_chainId" => Answer::Result(json!(chain_id().to_string())),
        _ => {
            let mut open = block(7, 1_000);
            for field in ["status", "block_hash", "parent_hash", "new_root"] {
                open.as_object_mut().expect("an object").remove(field);
            }
            Answer::Result(open)
        }
    })
    .await;
    let error = fake.chain().tip().await.expect_err("not closed");
    assert!(matches!(error, ChainError::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn an_address_without_the_registry_is_named() {
    let fake = Fake::with_tip(|_, _| Answer::Error(20, Value::Null)).await;
    assert_eq!(
        fake.chain()
            .class_hash_at(REGISTRY)
            .await
            .expect("an answer"),
        None
    );
    let error = facts(&fake).await.expect_err("no contract");
    assert!(
        matches!(error, ChainError::NoContract(at) if at == REGISTRY),
        "{error:?}"
    );
    let head = fake
        .chain()
        .head_of(REGISTRY, Anchorer::from_felt(felt(9)))
        .await;
    let error = head.expect_err("no contract");
    assert!(
        matches!(error, ChainError::NoContract(at) if at == REGISTRY),
        "{error:?}"
    );
    let fake = Fake::with_tip(|_, _| Answer::Error(21, Value::Null)).await;
    let revoked = fake
        .chain()
        .revoked_at(REGISTRY, &[Handle::from_felt(felt(1))])
        .await;
    let error = revoked.expect_err("another contract");
    assert!(
        matches!(error, ChainError::OtherContract(at, _) if at == REGISTRY),
        "{error:?}"
    );
}

#[tokio::test]
async fn many_handles_come_back_in_order() {
    let fake = Fake::with_tip(|_, params| {
        let handle = params["request"]["calldata"][0].clone();
        let is_even = handle
            .as_str()
            .is_some_and(|text| text.ends_with(['0', '2', '4']));
        Answer::Result(json!([if is_even { handle } else { json!("0x0") }]))
    })
    .await;
    let handles: Vec<_> = (1..=0x25).map(|n| Handle::from_felt(felt(n))).collect();
    let (times, block) = fake
        .chain()
        .revoked_at(REGISTRY, &handles)
        .await
        .expect("times");
    assert_eq!(block.number, BlockNumber(7));
    let expected = (1..=0x25u64).map(|n| [0, 2, 4].contains(&(n % 16)).then_some(UnixSeconds(n)));
    assert_eq!(times, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_tickets_times_are_read_at_one_block() {
    for (answer, expected) in [("0x0", None), ("0x3e0", Some(UnixSeconds(0x3e0)))] {
        let fake = Fake::with_tip(move |_, params| {
            assert_eq!(params["block_id"]["block_hash"], json!(block_hash(7)));
            match &params["request"]["calldata"] {
                handle if *handle == json!(["0x6"]) => Answer::Result(json!(["0x2"])),
                both => {
                    assert_eq!(*both, json!(["0x5", "0x6"]));
                    Answer::Result(json!([answer]))
                }
            }
        })
        .await;
        let (pool, handle) = (PoolId::from_felt(felt(5)), Handle::from_felt(felt(6)));
        let chain = fake.chain();
        let times = chain.ticket_times(REGISTRY, REGISTRY, pool, handle);
        let (times, block) = times.await.expect("an answer");
        assert_eq!((times.claimed_at, block.number), (expected, BlockNumber(7)));
        assert_eq!(times.revoked_at, Some(UnixSeconds(2)));
    }
    let fake = Fake::with_tip(|_, _| Answer::Error(20, Value::Null)).await;
    let pool = PoolId::from_felt(felt(5));
    let handle = Handle::from_felt(felt(6));
    let chain = fake.chain();
    let times = chain.ticket_times(REGISTRY, REGISTRY, pool, handle);
    let error = times.await.expect_err("no contract");
    assert!(
        matches!(error, ChainError::NoContract(at) if at == REGISTRY),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_became_of_a_transaction() {
    let transaction = TransactionHash::from_felt(felt(0x77));
    let status = |receipt: Answer, status: Answer| {
        let parts = std::sync::Mutex::new((Some(receipt), Some(status)));
        async move {
            let fake = Fake::with_tip(move |method, _| {
                let mut parts = parts.lock().expect("not poisoned");
                let part = match method {
                    "starknet_getTransactionReceipt" => parts.0.take(),
                    _ => parts.1.take(),
                };
                part.expect("asked once")
            })
            .await;
            fake.chain().status(transaction).await
        }
    };
    let absent = || Answer::Error(29, Value::Null);
    let found = |hash, execution| Answer::Result(receipt(hash, execution));
    let unknown = status(absent(), absent()).await;
    assert_eq!(unknown.expect("an answer"), TransactionStatus::Unknown);
    let received = Answer::Result(json!({"finality_status": "RECEIVED"}));
    let received = status(absent(), received).await.expect("an answer");
    assert_eq!(received, TransactionStatus::Received);
    let accepted = status(
        found("0x77", json!({"execution_status": "SUCCEEDED"})),
        absent(),
    )
    .await;
    let accepted = accepted.expect("an answer");
    assert!(matches!(accepted, TransactionStatus::Accepted { block } if block.number.0 == 7));
    let why = "0x484541445f4d49534d41544348 ('HEAD_MISMATCH')";
    let execution = json!({"execution_status": "REVERTED", "revert_reason": why});
    match status(found("0x77", execution), absent()).await {
        Ok(TransactionStatus::Reverted { reason, .. }) => {
            assert_eq!(reason.registry(), Some(RegistryRevert::HeadMismatch));
        }
        other => panic!("{other:?}"),
    }
    let other = status(
        found("0x78", json!({"execution_status": "SUCCEEDED"})),
        absent(),
    )
    .await;
    assert!(
        matches!(other, Err(ChainError::Contradiction(_))),
        "{other:?}"
    );
}

fn receipt(hash: &str, execution: Value) -> Value {
    let mut receipt = json!({
        "type": "INVOKE",
        "transaction_hash": hash,
        "actual_fee": {"amount": "0x1", "unit": "FRI"},
        "finality_status": "ACCEPTED_ON_L2",
        "messages_sent": [],
        "events": [],
        "execution_resources": {"l1_gas": 0, "l1_data_gas": 1, "l2_gas": 1},
        "block_hash": block_hash(7),
        "block_number": 7,
    });
    let execution = execution.as_object().expect("an object").clone();
    receipt
        .as_object_mut()
        .expect("an object")
        .extend(execution);
    receipt
}

/// An endpoint that says in which transaction a handle was opened, and what was in it.
async fn opening(calldata: Value) -> Option<(RevocationSecret, PublicKey)> {
    let handle = Handle::of(secret().hash(), claim_key());
    let fake = Fake::with_tip(move |method, _| {
        Answer::Result(match method {
            "starknet_getEvents" => json!({ "events": [{
                "from_address": "0x3",
                "keys": ["0x1", handle.to_string()],
                "data": ["0x7"],
                "block_hash": "0x1",
                "block_number": 1,
                "transaction_hash": "0x9",
                "transaction_index": 0,
                "event_index": 0,
            }] }),
            _ => json!({
                "type": "INVOKE",
                "version": "0x1",
                "transaction_hash": "0x9",
                "sender_address": "0x8",
                "calldata": calldata.clone(),
                "max_fee": "0x0",
                "signature": [],
                "nonce": "0x0",
            }),
        })
    })
    .await;
    let chain = fake.chain();
    chain.opening_of(REGISTRY, handle).await.expect("read")
}

fn secret() -> RevocationSecret {
    RevocationSecret::parse("0x1234").expect("a felt")
}

fn claim_key() -> PublicKey {
    PublicKey::from_felt(felt(77))
}

#[tokio::test]
async fn what_opened_a_handle_is_found_wherever_it_stands_and_hostile_words_are_not_believed() {
    let key = claim_key().to_string();
    let found = opening(json!(["0x1", "0x5", "0x1234", key, "0x6"])).await;
    assert!(found == Some((secret(), claim_key())));
    for other in [
        json!([]),
        json!(["0x1234"]),
        json!(["0x1234", "0x1"]),
        json!([key, "0x1234"]),
    ] {
        assert!(opening(other).await.is_none());
    }
}
