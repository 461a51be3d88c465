//! Sealed records, their bounds and pages.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::BTreeSet;

use medsync_app::limits::{PAGE_LEN_MAX, PAYLOAD_BYTES_MAX, SHARD_LEN_MAX};
use medsync_protocol::ids::{RecordId, Sha256Digest, to_base64};
use medsync_protocol::seal;
use medsync_tests::circle::{CONTEXT, enrolled, open, record_arguments};
use medsync_tests::replica::refused;
use serde_json::{Value, json};

fn id(first: u8, last: u8) -> [u8; 32] {
    let mut id = [0; 32];
    id[0] = first;
    id[31] = last;
    id
}

#[test]
fn a_record_comes_back_as_it_was_put_and_only_in_versions() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let (put, delta) = custodian
        .call("put_record", &record_arguments(id(1, 1), 1, b"one"))
        .unwrap();
    assert_eq!(put["existing"], false);
    patient.apply(&delta);
    assert_eq!(patient.root_hash, custodian.root_hash);
    let again = custodian
        .call("put_record", &record_arguments(id(1, 1), 1, b"one"))
        .unwrap()
        .0;
    assert_eq!(
        (&again["existing"], &again["key"]),
        (&json!(true), &put["key"])
    );
    // Another content of the same version, a gap, and a first version that is not 1.
    refused(
        custodian.call("put_record", &record_arguments(id(1, 1), 1, b"two")),
        "record_version",
    );
    refused(
        custodian.call("put_record", &record_arguments(id(1, 1), 3, b"two")),
        "record_version",
    );
    refused(
        custodian.call("put_record", &record_arguments(id(2, 1), 0, b"two")),
        "record_version",
    );
    let (_, delta) = custodian
        .call("put_record", &record_arguments(id(1, 1), 2, b"two"))
        .unwrap();
    patient.apply(&delta);

    let name = RecordId(id(1, 1)).to_string();
    let latest = patient.view("record", &json!({ "record": name })).unwrap();
    assert_eq!(latest["payload"], to_base64(b"two"));
    let first = patient
        .view("record", &json!({ "record": name, "version": 1 }))
        .unwrap();
    assert_eq!(first["payload"], to_base64(b"one"));
    let given = &record_arguments(id(1, 1), 1, b"one")["record"];
    for field in [
        "record",
        "classes",
        "codes",
        "labels",
        "authors",
        "data_date",
    ] {
        assert_eq!(first["record"][field], given[field], "{field}");
    }
    let list = patient.view("records", &json!({})).unwrap();
    assert_eq!(list["records"].as_array().unwrap().len(), 1);
    assert_eq!(list["records"][0]["version"], 2);
    let none = patient
        .view("records", &json!({ "resource_type": "Patient" }))
        .unwrap();
    assert!(none["records"].as_array().unwrap().is_empty());
    let unknown = json!({ "record": name, "version": 3 });
    assert_eq!(
        patient.view("record", &unknown).unwrap_err().error,
        "unknown_record"
    );
}

#[test]
fn a_part_goes_by_its_digest_and_is_the_custodians_alone() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let part = vec![7; PAYLOAD_BYTES_MAX];
    let arguments = json!({ "part": to_base64(&part) });
    refused(patient.call("put_part", &arguments), "not_the_custodian");
    let (written, delta) = custodian.call("put_part", &arguments).unwrap();
    patient.apply(&delta);
    let name = json!({ "digest": Sha256Digest::of(&part) });
    for replica in [&custodian, &patient] {
        let shown = replica.view("part", &name).unwrap();
        assert_eq!(shown["payload"], to_base64(&part));
    }
    let (again, _) = custodian.call("put_part", &arguments).unwrap();
    assert_eq!(
        (again["key"].clone(), again["existing"].clone()),
        (written["key"].clone(), json!(true))
    );
    let absent = json!({ "digest": Sha256Digest::of(b"another") });
    assert_eq!(
        custodian.view("part", &absent).unwrap()["payload"],
        json!(null)
    );
    let long = json!({ "part": to_base64(&vec![7; PAYLOAD_BYTES_MAX + 1]) });
    refused(custodian.call("put_part", &long), "too_large");
    refused(
        custodian.call("put_part", &json!({ "part": "?" })),
        "malformed",
    );
}

#[test]
fn a_record_is_bounded_and_the_custodians_alone() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    refused(
        patient.call("put_record", &record_arguments(id(1, 1), 1, b"x")),
        "not_the_custodian",
    );
    assert_eq!(
        PAYLOAD_BYTES_MAX,
        seal::PAYLOAD_BYTES_MAX + seal::PAYLOAD_OVERHEAD_BYTES
    );
    let largest = vec![7; PAYLOAD_BYTES_MAX];
    let (_, delta) = custodian
        .call("put_record", &record_arguments(id(1, 1), 1, &largest))
        .unwrap();
    patient.apply(&delta);
    let name = RecordId(id(1, 1)).to_string();
    let shown = patient.view("record", &json!({ "record": name })).unwrap();
    assert_eq!(shown["payload"], to_base64(&largest));
    let too_large = vec![7; PAYLOAD_BYTES_MAX + 1];
    refused(
        custodian.call("put_record", &record_arguments(id(2, 1), 1, &too_large)),
        "too_large",
    );
    for (field, value, error) in [
        ("resource_type", json!(""), "malformed"),
        ("resource_type", json!("x".repeat(65)), "too_large"),
        (
            "authors",
            json!(vec![RecordId([6; 32]).to_string(); 65]),
            "too_large",
        ),
        ("authors", json!(["0x07"]), "malformed"),
        ("codes", json!([[]]), "malformed"),
        (
            "codes",
            json!([[{ "system": "s", "code": "c".repeat(257) }]]),
            "too_large",
        ),
        (
            "codes",
            json!(vec![vec![json!({ "system": "s", "code": "c" }); 17]]),
            "too_large",
        ),
        (
            "labels",
            json!(vec![vec![json!({ "system": "s", "code": "c" })]; 65]),
            "too_large",
        ),
        (
            "classes",
            json!(vec![
                vec![
                    json!({ "system": "s".repeat(256), "code": "c".repeat(256) });
                    2
                ];
                64
            ]),
            "too_large",
        ),
        ("key_for_patient", json!("A".repeat(10_000)), "too_large"),
        ("payload", json!("not base64"), "malformed"),
        ("record", json!("0x07"), "malformed"),
    ] {
        let mut bad = record_arguments(id(3, 1), 1, b"x");
        bad["record"][field] = value;
        refused(custodian.call("put_record", &bad), error);
    }
}

#[test]
fn a_full_shard_says_so_and_others_go_on() {
    let mut custodian = open(CONTEXT);
    let full = u8::try_from(SHARD_LEN_MAX - 1).unwrap();
    for first in 0..=full {
        custodian
            .call("put_record", &record_arguments(id(first, 9), 1, b"x"))
            .unwrap();
    }
    let mut other = id(1, 9);
    other[1] = 1;
    let answer = custodian.call("put_record", &record_arguments(other, 1, b"x"));
    assert!(
        answer
            .as_ref()
            .is_err_and(|refused| refused.message.contains("fresh record id"))
    );
    refused(answer, "full");
    custodian
        .call("put_record", &record_arguments(id(1, 10), 1, b"x"))
        .unwrap();

    // Pages of any size see every record once.
    for limit in [1, 7, PAGE_LEN_MAX] {
        let mut seen = BTreeSet::new();
        let mut cursor = Value::Null;
        loop {
            let page = custodian.view("records", &json!({ "cursor": cursor, "limit": limit }));
            let page = page.unwrap();
            assert_eq!(page["ignored"], 0);
            for record in page["records"].as_array().unwrap() {
                assert!(seen.insert(record["record"].to_string()));
            }
            cursor = page["next"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!(seen.len(), SHARD_LEN_MAX + 1);
    }
}

#[test]
fn a_page_that_is_none_is_refused() {
    let custodian = open(CONTEXT);
    for method in ["consents", "records", "changes"] {
        for (arguments, error) in [
            (json!({ "limit": 0 }), "malformed"),
            (json!({ "limit": PAGE_LEN_MAX + 1 }), "too_large"),
            (json!({ "cursor": "here" }), "malformed"),
            (json!({ "cursor": "x".repeat(1_000) }), "malformed"),
        ] {
            assert_eq!(custodian.view(method, &arguments).unwrap_err().error, error);
        }
    }
}
