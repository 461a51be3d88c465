use super::*;
use medsync_protocol::consent::Registry;
use medsync_protocol::ids::ContractAddress;
use starknet::core::utils::get_selector_from_name;

/// A receipt as anybody may be given it.
const GENUINE: &[u8] = include_bytes!("../../../fuzz/corpus/receipt/genuine.json");

fn beliefs() -> Beliefs {
    let receipt = Receipt::parse(GENUINE).expect("it is genuine");
    Beliefs {
        registry: receipt.registry,
        class_hash: ClassHash::from_felt(Felt::THREE),
        custodians: vec![receipt.anchorer],
        block_age_s_max: 100,
    }
}

fn said(result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string()
}

fn refused(code: i64) -> String {
    let error = json!({ "code": code, "message": "no" });
    json!({ "jsonrpc": "2.0", "id": 1, "error": error }).to_string()
}

fn block() -> Value {
    json!({ "block_hash": "0x0A", "block_number": 7, "timestamp": 1_500, "transactions": [] })
}

fn ready() -> Reader {
    let mut reader = Reader::new(beliefs());
    let chain = json!(beliefs().registry.chain_id);
    for answer in [chain, block(), json!("0x03")] {
        assert!(reader.request().is_some());
        reader.answer(&said(&answer)).expect("as it should be");
    }
    assert_eq!(reader.request(), None);
    reader
}

#[test]
fn the_selector_is_that_of_the_contracts_function() {
    let selector = get_selector_from_name("receipt_times").expect("a name");
    assert_eq!(felt::to_text(&selector), RECEIPT_TIMES);
}

#[test]
fn two_values_are_read_at_the_block_that_was_named() {
    let reader = ready();
    let receipt = Receipt::parse(GENUINE).expect("it is genuine");
    let asked = reader.times_request(&receipt).expect("it is ready");
    let asked: Value = serde_json::from_str(&asked).expect("JSON");
    assert_eq!(asked["method"], CALL);
    assert_eq!(asked["params"]["block_id"]["block_hash"], "0xa");
    let seen = reader.times(&said(&json!(["0x384", "0x0", "0x5dc"])));
    let seen = seen.expect("three values");
    assert_eq!(seen.anchored_at, Some(UnixSeconds(900)));
    assert_eq!(seen.revoked_at, None);
    assert_eq!(seen.block.time, UnixSeconds(1_500));
}

#[test]
fn hostile_answers_are_errors_with_a_name() {
    let kind = |error: ReadError| json!(error)["kind"].as_str().map(ToOwned::to_owned);
    let times = |answer: &str| ready().times(answer).map_err(kind).expect_err("refused");
    for (answer, expected) in [
        (said(&json!(["0x1", "0x0"])), "malformed"),
        (said(&json!(["0x1", "0x0", "0x5dd"])), "contradiction"),
        (said(&json!(["0x5dd", "0x0", "0x5dc"])), "contradiction"),
        (said(&json!(["1", "0x0", "0x5dc"])), "malformed"),
        (
            said(&json!(["0x10000000000000000", "0x0", "0x5dc"])),
            "malformed",
        ),
        (said(&Value::Null), "malformed"),
        (refused(20), "no_contract"),
        (refused(21), "other_contract"),
        (refused(40), "refused"),
        ("<html>".into(), "malformed"),
    ] {
        assert_eq!(times(&answer).as_deref(), Some(expected), "{answer}");
    }
    let mut reader = Reader::new(beliefs());
    let other = reader.answer(&said(&json!("0x1")));
    assert_eq!(other.map_err(kind), Err(Some("no_verdict".into())));
    let mut reader = ready();
    reader.state = State::Block(beliefs().registry.chain_id);
    let pending = json!({ "block_number": 8, "timestamp": 1_501, "transactions": [] });
    let open = reader.answer(&said(&pending)).map_err(kind);
    assert_eq!(open, Err(Some("malformed".into())));
}

#[test]
fn nothing_is_asked_of_a_receipt_before_the_block_is_known() {
    let reader = Reader::new(Beliefs {
        registry: Registry {
            registry: ContractAddress::from_felt(Felt::ONE),
            ..beliefs().registry
        },
        ..beliefs()
    });
    let receipt = Receipt::parse(GENUINE).expect("it is genuine");
    let asked = reader.times_request(&receipt);
    assert!(matches!(asked, Err(ReadError::NotReady)));
}
