//! The log on replicas: chains of signed entries, pages, heads, and what hostile members make of
//! them.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::signature::{Signature, SignatureHalf};
use medsync_tests::circle::{
    CONTEXT, HOSPITAL, Logged, PATIENT_AUTHOR, RESEARCHER, enrolled, public_key, secret_key,
};
use medsync_tests::replica::{Replica, refused};
use serde_json::{Value, json};

fn page(replica: &Replica, author: u8, from: u64) -> Value {
    let arguments = json!({ "author_key": public_key(author), "from": from, "limit": 100 });
    replica.view("log_page", &arguments).expect("a page")
}

fn numbers(page: &Value) -> Vec<u64> {
    let entries = page["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["entry"]["seq"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_log_is_written_by_number_and_read_in_pages() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let log = Logged::chain(CONTEXT, HOSPITAL, 150);
    for entry in &log {
        let (_, delta) = custodian.call("append_log", &entry.arguments()).unwrap();
        patient.apply(&delta);
    }
    assert_eq!(custodian.root_hash, patient.root_hash);
    let first = page(&patient, HOSPITAL, 0);
    assert_eq!(numbers(&first), (0..100).collect::<Vec<_>>());
    assert_eq!(first["next"], 100);
    let last = page(&patient, HOSPITAL, 100);
    assert_eq!(numbers(&last), (100..150).collect::<Vec<_>>());
    assert_eq!(last["next"], Value::Null);
    assert_eq!(
        last["entries"][49]["digest"],
        json!(log[149].entry.digest())
    );
    // Another's log begins by itself, and either may be written down by anybody.
    let own = Logged::chain(CONTEXT, PATIENT_AUTHOR, 2);
    for entry in &own {
        custodian.call("append_log", &entry.arguments()).unwrap();
    }
    assert_eq!(numbers(&page(&custodian, PATIENT_AUTHOR, 0)), [0, 1]);
    let (again, _) = custodian.call("append_log", &own[0].arguments()).unwrap();
    assert_eq!(again["existing"], true);
}

#[test]
fn hostile_entries_are_refused_by_name() {
    let (mut custodian, _) = enrolled(CONTEXT);
    let log = Logged::chain(CONTEXT, HOSPITAL, 3);
    custodian.call("append_log", &log[0].arguments()).unwrap();
    let stranger = Logged::chain(CONTEXT, RESEARCHER, 1);
    refused(
        custodian.call("append_log", &stranger[0].arguments()),
        "not_an_author",
    );
    refused(
        custodian.call("append_log", &log[2].arguments()),
        "log_order",
    );
    let other = Logged::after(None, CONTEXT, HOSPITAL, 9);
    refused(custodian.call("append_log", &other.arguments()), "log_fork");
    let elsewhere = Logged::chain(ContextId([9; 32]), HOSPITAL, 1);
    refused(
        custodian.call("append_log", &elsewhere[0].arguments()),
        "log_signature",
    );
    let mut forged = log[1].clone();
    forged.signature = secret_key(RESEARCHER)
        .sign(forged.entry.digest().message())
        .unwrap();
    refused(
        custodian.call("append_log", &forged.arguments()),
        "log_signature",
    );
    let mut kind = log[1].arguments();
    kind["entry"]["kind"] = json!("DENIED");
    refused(custodian.call("append_log", &kind), "log_kind");
    let mut body = log[1].arguments();
    body["entry"]["body"] = json!("AAAA");
    refused(custodian.call("append_log", &body), "body");
    let mut backdated = log[1].arguments();
    backdated["entry"]["at"] = json!(1);
    refused(custodian.call("append_log", &backdated), "log_signature");
    // The author itself signs a time that lies before the entry before.
    let mut backdated = log[1].clone();
    backdated.entry.at = UnixSeconds(log[0].entry.at.0 - 1);
    let digest = backdated.entry.digest();
    backdated.signature = secret_key(HOSPITAL).sign(digest.message()).unwrap();
    refused(
        custodian.call("append_log", &backdated.arguments()),
        "log_backdated",
    );
    assert_eq!(numbers(&page(&custodian, HOSPITAL, 0)), [0]);
    custodian.call("append_log", &log[1].arguments()).unwrap();
}

#[test]
fn hostile_custodian_forks_its_log_and_both_entries_are_shown() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    // Two nodes under one key, each of which believes in its own second entry.
    let mut other_self = custodian.join(101);
    let first = Logged::after(None, CONTEXT, HOSPITAL, 1);
    let sides = [2, 3].map(|salt| Logged::after(Some(&first), CONTEXT, HOSPITAL, salt));
    let (_, delta) = custodian.call("append_log", &first.arguments()).unwrap();
    other_self.apply(&delta);
    patient.apply(&delta);
    let (_, one) = custodian.call("append_log", &sides[0].arguments()).unwrap();
    let (_, two) = other_self
        .call("append_log", &sides[1].arguments())
        .unwrap();
    patient.apply(&two);
    patient.apply(&one);
    let page = page(&patient, HOSPITAL, 0);
    assert_eq!(numbers(&page), [0, 1, 1]);
    let digests: Vec<&Value> = page["entries"].as_array().unwrap()[1..]
        .iter()
        .map(|entry| &entry["digest"])
        .collect();
    for side in &sides {
        assert!(digests.contains(&&json!(side.entry.digest())));
    }
}

#[test]
fn hostile_twin_of_a_signature_is_the_same_entry() {
    let (mut custodian, _) = enrolled(CONTEXT);
    let entry = Logged::after(None, CONTEXT, HOSPITAL, 1);
    custodian.call("append_log", &entry.arguments()).unwrap();
    let order = Felt::from_hex_unchecked(
        "0x800000000000010ffffffffffffffffb781126dcae7b2321e66a241adc64d2f",
    );
    let mut twin = entry.clone();
    twin.signature = Signature {
        r: entry.signature.r,
        s: SignatureHalf::from_felt(order - entry.signature.s.felt()),
    };
    // Either the twin is out of range and no signature at all, or it is the same entry again.
    match custodian.call("append_log", &twin.arguments()) {
        Ok((written, _)) => assert_eq!(written["existing"], true),
        Err(refusal) => assert_eq!(refusal.error, "log_signature"),
    }
    assert_eq!(numbers(&page(&custodian, HOSPITAL, 0)), [0]);
}

#[test]
fn a_head_counts_by_its_path_and_names_an_entry_that_is_here() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let log = Logged::chain(CONTEXT, HOSPITAL, 2);
    let (_, delta) = custodian.call("append_log", &log[0].arguments()).unwrap();
    patient.apply(&delta);
    let head = log[0].head_arguments();
    let (written, delta) = custodian.call("record_head", &head).unwrap();
    patient.apply(&delta);
    let entry = json!({ "kind": "head", "key": written["key"] });
    let shown = patient.view("entry", &entry).unwrap();
    assert_eq!(shown["head"]["head"], head["head"]);
    let (again, _) = custodian.call("record_head", &head).unwrap();
    assert_eq!(again["existing"], true);

    refused(
        custodian.call("record_head", &log[1].head_arguments()),
        "unknown_log_entry",
    );
    let mut astray = head.clone();
    astray["head"]["root"] = json!("0x1");
    refused(custodian.call("record_head", &astray), "not_included");
    let mut long = head.clone();
    long["head"]["siblings"] = json!(vec!["0x1"; 33]);
    refused(custodian.call("record_head", &long), "too_large");
}
