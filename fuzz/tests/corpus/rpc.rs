//! What an endpoint answers to each read, in the order of the read's requests.

use serde_json::{Value, json};
use starknet::core::utils::starknet_keccak;

use super::examples::Example;

/// An example of each read, and of a refusal.
pub fn all() -> Vec<Example> {
    let felts = |list: &[&str]| json!(list);
    vec![
        read("tip", []),
        read("class", [json!("0x5")]),
        read("head", [felts(&["0x3"])]),
        read("anchored", [felts(&["0x384"])]),
        read("facts", [json!("0x5"), felts(&["0x384", "0x0", "0x3e8"])]),
        read("revoked", [felts(&["0x384"]), felts(&["0x0"])]),
        read("ticket", [felts(&["0x384"]), felts(&["0x385"])]),
        read("pool", [felts(&POOL)]),
        read("quotas", [felts(&["0x1", "0x7", "0x5", "0x2"])]),
        read("balance", [felts(&["0x5", "0x0"])]),
        read("history", [events("Claimed", &["0x1", "0x7", "0x9"])]),
        read("roots", [events("BatchAnchored", &["0x1", "0xb"])]),
        read("nonce", [json!("0x7")]),
        written(
            "status",
            &[result(&chain()), result(&receipt()), result(&block())],
        ),
        refused(),
    ]
}

/// A pool with four claims left of five.
const POOL: [&str; 12] = [
    "0x1", "0x2", "0x5", "0x0", "0x64", "0xc8", "0x12c", "0x5", "0x4", "0x14", "0x0", "0x0",
];

fn chain() -> Value {
    json!(format!("0x{}", hex::encode("SN_SEPOLIA")))
}

fn result(of: &Value) -> Value {
    json!({ "result": of })
}

/// A read at the newest block.
fn read<const N: usize>(name: &str, answers: [Value; N]) -> Example {
    let first = [chain(), block()];
    let results: Vec<Value> = first.iter().chain(&answers).map(result).collect();
    written(name, &results)
}

/// The read's name and the answers in lines, with the numbers of the requests.
fn written(name: &str, answers: &[Value]) -> Example {
    let mut lines = vec![name.to_owned()];
    for (before, answer) in answers.iter().enumerate() {
        let mut answer = answer.clone();
        answer["jsonrpc"] = json!("2.0");
        answer["id"] = json!(before + 1);
        lines.push(answer.to_string());
    }
    ("rpc", name.to_owned(), lines.join("\n").into_bytes())
}

/// A call that the contract refuses, in the nested words of an execution.
fn refused() -> Example {
    let words = json!({
        "class_hash": "0x5",
        "contract_address": "0x1",
        "selector": "0x2",
        "error": "0x416c7265616479416e63686f726564",
    });
    let error = json!({
        "code": 40,
        "message": "Contract error",
        "data": { "revert_error": words },
    });
    let error = json!({ "error": error });
    let (target, _, bytes) = written("head", &[result(&chain()), result(&block()), error]);
    (target, "refused".to_owned(), bytes)
}

fn block() -> Value {
    let price = json!({"price_in_fri": "0x1", "price_in_wei": "0x1"});
    json!({
        "status": "ACCEPTED_ON_L2",
        "block_hash": "0xb10c7",
        "parent_hash": "0x1",
        "block_number": 7,
        "new_root": "0x1",
        "timestamp": 1_000,
        "sequencer_address": "0x1",
        "l1_gas_price": price,
        "l2_gas_price": price,
        "l1_data_gas_price": price,
        "l1_da_mode": "BLOB",
        "starknet_version": "0.14.1",
        "event_commitment": "0x1",
        "transaction_commitment": "0x1",
        "receipt_commitment": "0x1",
        "state_diff_commitment": "0x1",
        "event_count": 0,
        "transaction_count": 0,
        "state_diff_length": 0,
        "transactions": [],
    })
}

fn receipt() -> Value {
    json!({
        "type": "INVOKE",
        "transaction_hash": "0x1",
        "actual_fee": {"amount": "0x1", "unit": "FRI"},
        "finality_status": "ACCEPTED_ON_L2",
        "messages_sent": [],
        "events": [],
        "execution_resources": {"l1_gas": 0, "l1_data_gas": 1, "l2_gas": 1},
        "execution_status": "REVERTED",
        "revert_reason": "Error in contract: 'AlreadyAnchored'",
        "block_hash": "0xb10c7",
        "block_number": 7,
    })
}

/// A page with one event of this name.
fn events(name: &str, keys: &[&str]) -> Value {
    let name = format!("{:#x}", starknet_keccak(name.as_bytes()));
    let mut named = vec![name.as_str()];
    named.extend(keys);
    let event = json!({
        "from_address": "0x1",
        "keys": named,
        "data": ["0x8", "0x384"],
        "block_hash": "0xb10c7",
        "block_number": 7,
        "transaction_hash": "0x2",
        "transaction_index": 0,
        "event_index": 0,
    });
    json!({ "events": [event] })
}
