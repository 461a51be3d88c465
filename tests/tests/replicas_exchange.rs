//! The exchange on replicas: receipts, and releases that only a log entry brings about.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use medsync_protocol::audit::{Body, DenialReason, EntryDigest, RecordRef};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContextId, RecordId, to_base64};
use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, Logged, PATIENT_AUTHOR, enrolled, exchange, record_arguments,
    release_arguments,
};
use medsync_tests::replica::{Delta, Replica, refused};
use serde_json::{Value, json};

const CIRCLE: ContextId = ContextId([3; 32]);

fn what(number: u8) -> RecordRef {
    RecordRef {
        record: RecordId([number; 32]),
        version: 1,
    }
}

/// What the custodian says when it releases these records.
fn released(records: &[RecordRef]) -> Body {
    Body::Released {
        request: EntryDigest::from_felt(Felt::from(11)),
        logged_as: Some(EntryDigest::from_felt(Felt::from(12))),
        records: records.to_vec(),
        based_on: Vec::new(),
    }
}

fn release(entry: &Logged, record: RecordRef) -> Value {
    release_arguments(entry, CIRCLE, record)
}

fn receipt(patient: u8) -> Value {
    json!({ "receipt": {
        "patient": format!("0x{}", hex(patient)),
        "receipt": to_base64(b"{}"),
    } })
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn releases(replica: &Replica) -> Value {
    replica.view("releases", &json!({})).expect("a page")
}

/// Calls and hands on what came of it.
fn spread(by: &mut Replica, to: &mut Replica, method: &str, arguments: &Value) -> (Value, Delta) {
    let (answer, delta) = by.call(method, arguments).expect("sound");
    to.apply(&delta);
    (answer, delta)
}

#[test]
fn what_the_log_names_is_released_once_with_its_payload() {
    let (mut custodian, mut recipient) = exchange(CONTEXT);
    let entry = Logged::saying(None, CONTEXT, HOSPITAL, released(&[what(1), what(2)]));
    spread(
        &mut custodian,
        &mut recipient,
        "append_log",
        &entry.arguments(),
    );
    let arguments = release(&entry, what(1));
    let (written, _) = spread(&mut custodian, &mut recipient, "put_release", &arguments);
    // Sealing is random: a second try seals otherwise, and is the same release.
    let mut again = release(&entry, what(1));
    again["release"]["sealed_key"] = json!(to_base64(b"another sealed key"));
    let (again, _) = custodian.call("put_release", &again).unwrap();
    assert_eq!(again["existing"], true);
    assert_eq!(again["key"], written["key"]);
    let page = releases(&recipient);
    assert_eq!(page["releases"].as_array().unwrap().len(), 1);
    assert_eq!(page["releases"][0]["logged_as"], "0xc");
    assert_eq!(page["releases"][0]["request"], "0xb");
    let full = recipient
        .view("release", &json!({ "key": written["key"] }))
        .unwrap();
    assert_eq!(full["payload"], to_base64(b"sealed"));
}

#[test]
fn hostile_release_without_its_log_entry_is_refused_by_name() {
    let (mut custodian, mut recipient) = exchange(CONTEXT);
    let entry = Logged::saying(None, CONTEXT, HOSPITAL, released(&[what(1)]));
    refused(
        custodian.call("put_release", &release(&entry, what(1))),
        "not_logged",
    );
    spread(
        &mut custodian,
        &mut recipient,
        "append_log",
        &entry.arguments(),
    );
    // More than the entry names, another version of it, another number.
    refused(
        custodian.call("put_release", &release(&entry, what(2))),
        "not_logged",
    );
    let newer = RecordRef {
        version: 2,
        ..what(1)
    };
    refused(
        custodian.call("put_release", &release(&entry, newer)),
        "not_logged",
    );
    let mut number = release(&entry, what(1));
    number["release"]["entry_seq"] = json!(1);
    refused(custodian.call("put_release", &number), "not_logged");
    // On a denial, or on an entry that no circle has.
    let denied = Body::Denied {
        request: EntryDigest::from_felt(Felt::from(11)),
        reason: DenialReason::Denied,
        based_on: Vec::new(),
    };
    let denied = Logged::saying(Some(&entry), CONTEXT, HOSPITAL, denied);
    spread(
        &mut custodian,
        &mut recipient,
        "append_log",
        &denied.arguments(),
    );
    refused(
        custodian.call("put_release", &release(&denied, what(1))),
        "not_logged",
    );
    let Body::Released { request, .. } = released(&[]) else {
        panic!("it is a release")
    };
    let nowhere = Body::Released {
        request,
        logged_as: None,
        records: vec![what(1)],
        based_on: Vec::new(),
    };
    let nowhere = Logged::saying(Some(&denied), CONTEXT, HOSPITAL, nowhere);
    spread(
        &mut custodian,
        &mut recipient,
        "append_log",
        &nowhere.arguments(),
    );
    refused(
        custodian.call("put_release", &release(&nowhere, what(1))),
        "not_logged",
    );
    // The recipient's own entry releases nothing, and the recipient itself neither.
    let own = Logged::saying(None, CONTEXT, PATIENT_AUTHOR, released(&[what(1)]));
    spread(
        &mut custodian,
        &mut recipient,
        "append_log",
        &own.arguments(),
    );
    refused(
        custodian.call("put_release", &release(&own, what(1))),
        "not_logged",
    );
    refused(
        recipient.call("put_release", &release(&entry, what(1))),
        "not_the_custodian",
    );
    refused(
        recipient.call("put_receipt", &receipt(1)),
        "not_the_custodian",
    );
    assert_eq!(releases(&custodian)["releases"], json!([]));
}

#[test]
fn hostile_release_that_comes_before_its_entry_or_from_elsewhere_is_not_shown() {
    // A patched node of the custodian's puts a release into the state whose entry nobody has:
    // here, one whose entry was left out on the way.
    let (mut custodian, mut recipient) = exchange(CONTEXT);
    let entry = Logged::saying(None, CONTEXT, HOSPITAL, released(&[what(1)]));
    let (_, logged) = custodian.call("append_log", &entry.arguments()).unwrap();
    let (written, put) = custodian
        .call("put_release", &release(&entry, what(1)))
        .unwrap();
    recipient.apply(&put);
    let page = releases(&recipient);
    assert_eq!(
        (page["releases"].as_array().unwrap().len(), &page["ignored"]),
        (0, &json!(1))
    );
    refused(
        recipient
            .view("release", &json!({ "key": written["key"] }))
            .map(|answer| (answer, ())),
        "not_logged",
    );
    recipient.apply(&logged);
    assert_eq!(
        releases(&recipient)["releases"].as_array().unwrap().len(),
        1
    );

    // The same custodian's release of another exchange, replayed here.
    let other = ContextId([8; 32]);
    let (mut there, _) = exchange(other);
    let elsewhere = Logged::saying(None, other, HOSPITAL, released(&[what(1)]));
    there.call("append_log", &elsewhere.arguments()).unwrap();
    let (_, replayed) = there
        .call("put_release", &release(&elsewhere, what(1)))
        .unwrap();
    recipient.apply(&replayed);
    assert_eq!(
        releases(&recipient)["releases"].as_array().unwrap().len(),
        1
    );
    let (_, replayed) = there.call("put_receipt", &receipt(1)).unwrap();
    recipient.apply(&replayed);
    let page = recipient.view("receipts", &json!({})).unwrap();
    assert_eq!(
        (&page["receipts"], &page["ignored"]),
        (&json!([]), &json!(1))
    );
}

#[test]
fn receipts_are_the_custodians_word_on_whose_they_are() {
    let (mut custodian, mut recipient) = exchange(CONTEXT);
    spread(&mut custodian, &mut recipient, "put_receipt", &receipt(1));
    let (again, _) = custodian.call("put_receipt", &receipt(1)).unwrap();
    assert_eq!(again["existing"], true);
    spread(&mut custodian, &mut recipient, "put_receipt", &receipt(2));
    let page = recipient.view("receipts", &json!({})).unwrap();
    let patients: Vec<&Value> = page["receipts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|receipt| &receipt["patient"])
        .collect();
    assert_eq!(patients.len(), 2);
    assert_ne!(patients[0], patients[1]);
}

#[test]
fn each_kind_of_context_takes_its_own_calls_alone() {
    let (mut custodian, _) = exchange(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    refused(
        custodian.call("grant", &consent.grant_arguments()),
        "other_kind",
    );
    let record = record_arguments([5; 32], 1, b"x");
    refused(custodian.call("put_record", &record), "other_kind");
    for reads in ["consents", "records"] {
        refused(
            custodian.view(reads, &json!({})).map(|answer| (answer, ())),
            "other_kind",
        );
    }
    // A revocation counts everywhere.
    custodian
        .call("revoke", &consent.revoke_arguments())
        .unwrap();
    let (mut custodian, _) = enrolled(CONTEXT);
    let entry = Logged::saying(None, CONTEXT, HOSPITAL, released(&[what(1)]));
    custodian.call("append_log", &entry.arguments()).unwrap();
    refused(
        custodian.call("put_release", &release(&entry, what(1))),
        "other_kind",
    );
    refused(custodian.call("put_receipt", &receipt(1)), "other_kind");
}
