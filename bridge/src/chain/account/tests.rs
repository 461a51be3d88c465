//! Preparing under a cap, and sending what may be there already.

use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::secrets::RevocationSecret;
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Root;
use serde_json::{Value, json};

use super::*;
use crate::chain::fake::{Answer, Fake, felt};
use crate::chain::{Class, Fri, Gas, GasBound, REVOCATIONS_MAX, RegistryRevert};

const SENDER: u64 = 0xacc;

fn account(fake: &Fake, cap: u128) -> RpcAccount {
    let key = AccountKey::parse("0x1234567").expect("a key");
    let address = ContractAddress::from_felt(felt(SENDER));
    let account = RpcAccount::new(Arc::new(fake.chain()), address, key);
    account.with_fees(FeePolicy {
        margin_percent: 50,
        cap: Fri(cap),
    })
}

fn anchor() -> Call {
    Call::Anchor {
        registry: ContractAddress::from_felt(felt(3)),
        expected_head: AnchorHead::START,
        root: Root::from_felt(felt(11)),
        leaf_count: LeafCount(16),
    }
}

fn revoke(count: usize) -> Call {
    let secret = RevocationSecret::parse("0x5ec7e7").expect("a felt");
    Call::Revoke {
        registry: ContractAddress::from_felt(felt(3)),
        openings: vec![(secret, PublicKey::from_felt(felt(7))); count],
    }
}

/// 1,000 L2 gas at 3 fri, 100 data gas at 5: with the margin, 1,500 at 5 and 150 at 8.
fn estimate() -> Answer {
    Answer::Result(json!([{
        "l1_gas_consumed": "0x0",
        "l1_gas_price": "0x9",
        "l2_gas_consumed": "0x3e8",
        "l2_gas_price": "0x3",
        "l1_data_gas_consumed": "0x64",
        "l1_data_gas_price": "0x5",
        "overall_fee": "0xdac",
        "unit": "FRI",
    }]))
}

async fn estimating() -> Fake {
    Fake::with_tip(|_, _| estimate()).await
}

async fn prepared() -> Prepared {
    let fake = estimating().await;
    let prepared = account(&fake, 10_000)
        .prepare(&anchor(), AccountNonce(4))
        .await;
    prepared.expect("a transaction")
}

#[tokio::test]
async fn a_prepared_transaction_is_priced_signed_and_not_sent() {
    let fake = estimating().await;
    let account = account(&fake, 10_000);
    let prepared = account
        .prepare(&anchor(), AccountNonce(4))
        .await
        .expect("a transaction");
    let bound = |amount, price| GasBound {
        amount: Gas(amount),
        price: Fri(price),
    };
    assert_eq!(prepared.fees.l2_gas, bound(1_500, 5));
    assert_eq!(prepared.fees.l1_data_gas, bound(150, 8));
    assert_eq!(prepared.fees.total().expect("a sum"), Fri(8_700));
    assert_eq!(prepared.nonce, AccountNonce(4));
    let again = account
        .prepare(&anchor(), AccountNonce(4))
        .await
        .expect("a transaction");
    assert_eq!(again, prepared);
    let payload: Value = serde_json::from_str(&prepared.payload).expect("JSON");
    assert_eq!(payload["nonce"], json!("0x4"));
    let asked = fake.asked.lock().expect("not poisoned");
    assert!(
        asked
            .iter()
            .all(|(method, _)| method == "starknet_estimateFee"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_transaction_above_the_cap_waits() {
    let fake = estimating().await;
    let error = account(&fake, 8_699)
        .prepare(&anchor(), AccountNonce(4))
        .await
        .expect_err("too dear");
    assert!(
        matches!(
            error,
            ChainError::FeeAboveCap {
                needed: Fri(8_700),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_retry());
}

#[tokio::test]
async fn a_call_that_would_revert_says_why() {
    let error = |message: &'static str| {
        let nested = json!({
            "contract_address": "0x3", "class_hash": "0x5", "selector": "0x1", "error": message,
        });
        json!({"transaction_index": 0, "execution_error": nested})
    };
    let fake = Fake::with_tip(move |_, _| {
        Answer::Error(41, error("0x484541445f4d49534d41544348 ('HEAD_MISMATCH')"))
    })
    .await;
    let answer = account(&fake, 10_000)
        .prepare(&anchor(), AccountNonce(4))
        .await;
    match answer.expect_err("a stale head") {
        ChainError::WouldRevert(reason) => {
            assert_eq!(reason.registry(), Some(RegistryRevert::HeadMismatch));
        }
        other => panic!("{other:?}"),
    }
    let fake = Fake::with_tip(move |_, _| Answer::Error(41, error("invalid signature"))).await;
    let answer = account(&fake, 10_000)
        .prepare(&anchor(), AccountNonce(4))
        .await;
    let error = answer.expect_err("another key");
    assert!(
        matches!(error, ChainError::AccountRefuses { .. }),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Fatal);
}

#[tokio::test]
async fn a_revocation_opens_one_to_sixty_four_handles() {
    let fake = estimating().await;
    let account = account(&fake, 10_000);
    for count in [0, REVOCATIONS_MAX + 1] {
        let error = account
            .prepare(&revoke(count), AccountNonce(0))
            .await
            .expect_err("no call");
        assert!(matches!(error, ChainError::Count { .. }), "{error:?}");
    }
    for count in [1, 2, REVOCATIONS_MAX] {
        let prepared = account.prepare(&revoke(count), AccountNonce(0)).await;
        let prepared = prepared.expect("a transaction");
        assert!(!format!("{prepared:?}").contains("5ec7e7"));
        assert_eq!(prepared.payload.matches("0x5ec7e7").count(), count);
    }
}

/// How an endpoint answers a sending.
type Sending = fn(&Prepared) -> Answer;

/// Sends a prepared transaction to an endpoint that answers the sending, the question for its
/// receipt and the question for the nonce as given.
async fn sent(
    prepared: Prepared,
    sending: Sending,
    is_known: bool,
    nonce: &'static str,
) -> Result<Sent, ChainError> {
    let transaction = prepared.clone();
    let fake = Fake::with_tip(move |method, _| match method {
        "starknet_addInvokeTransaction" => sending(&transaction),
        "starknet_getNonce" => Answer::Result(json!(nonce)),
        "starknet_getTransactionStatus" if is_known => {
            Answer::Result(json!({"finality_status": "RECEIVED"}))
        }
        _ => Answer::Error(29, Value::Null),
    })
    .await;
    account(&fake, 10_000).send(&prepared).await
}

fn taken(prepared: &Prepared) -> Answer {
    Answer::Result(json!({"transaction_hash": prepared.hash.to_string()}))
}

fn bad_nonce(_: &Prepared) -> Answer {
    Answer::Error(52, json!("a nonce"))
}

#[tokio::test]
async fn sending_twice_is_recognized() {
    let prepared = prepared().await;
    let first = sent(prepared.clone(), taken, false, "0x4").await;
    assert_eq!(first.expect("sent"), Sent::Accepted);
    let duplicate = |_: &Prepared| Answer::Error(59, Value::Null);
    let waiting = sent(prepared.clone(), duplicate, false, "0x4").await;
    assert_eq!(waiting.expect("there"), Sent::AlreadyThere);
    let landed = sent(prepared, bad_nonce, true, "0x5").await;
    assert_eq!(landed.expect("there"), Sent::AlreadyThere);
}

#[tokio::test]
async fn a_nonce_is_taken_by_another_or_ahead() {
    let prepared = prepared().await;
    let error = sent(prepared.clone(), bad_nonce, false, "0x5")
        .await
        .expect_err("taken");
    assert!(matches!(error, ChainError::NonceTaken { .. }), "{error:?}");
    assert_eq!(error.class(), Class::FailBatch);
    let error = sent(prepared, bad_nonce, false, "0x3")
        .await
        .expect_err("ahead");
    assert!(
        matches!(error, ChainError::NonceAhead { .. }) && error.is_retry(),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_paid_says_so() {
    let cases: [(Sending, Class); 4] = [
        (|_| Answer::Error(54, Value::Null), Class::Retry),
        (|_| Answer::Error(53, Value::Null), Class::FailBatch),
        (
            |_| Answer::Error(55, json!("invalid signature")),
            Class::Fatal,
        ),
        (|_| Answer::Status("503 Service Unavailable"), Class::Retry),
    ];
    for (sending, class) in cases {
        let error = sent(prepared().await, sending, false, "0x4")
            .await
            .expect_err("refused");
        assert_eq!(error.class(), class, "{error:?}");
    }
}

#[tokio::test]
async fn a_transaction_that_was_changed_is_not_sent() {
    let nothing_is_sent = |_: &Prepared| panic!("it must not be sent");
    let good = prepared().await;
    let foreign = good.payload.replace("\"0xacc\"", "\"0xacd\"");
    let later = Prepared {
        nonce: AccountNonce(5),
        ..good.clone()
    };
    for payload in [String::new(), "{}".into(), foreign] {
        let changed = Prepared {
            payload,
            ..good.clone()
        };
        let error = sent(changed, nothing_is_sent, false, "0x4")
            .await
            .expect_err("changed");
        assert!(matches!(error, ChainError::Payload(_)), "{error:?}");
    }
    let error = sent(later, nothing_is_sent, false, "0x4")
        .await
        .expect_err("changed");
    assert!(matches!(error, ChainError::Payload(_)), "{error:?}");
    let other = |_: &Prepared| Answer::Result(json!({"transaction_hash": "0x1"}));
    let error = sent(good, other, false, "0x4")
        .await
        .expect_err("another hash");
    assert!(matches!(error, ChainError::Payload(_)), "{error:?}");
}
