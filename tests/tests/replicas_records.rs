//! Sealed records, positions in batches, pages, and the walk over everything.

use std::collections::BTreeSet;

use medsync_app::limits::{PAGE_LEN_MAX, PAYLOAD_BYTES_MAX, SHARD_LEN_MAX};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{RecordId, to_base64};
use medsync_protocol::tree::{Leaf, Tree};
use medsync_tests::circle::{CONTEXT, Consent, anchorer, enrolled, open};
use medsync_tests::replica::{Refused, Replica};
use serde_json::{Value, json};

fn refused(answer: Result<(Value, impl Sized), Refused>, error: &str) {
    match answer {
        Ok((answer, _)) => panic!("expected {error}, got {answer}"),
        Err(refused) => assert_eq!(refused.error, error, "{}", refused.message),
    }
}

fn record(id: [u8; 32], version: u32, payload: &[u8]) -> Value {
    let coding = json!({ "system": "http://loinc.org", "code": "8480-6" });
    json!({ "record": {
        "record": RecordId(id).to_string(),
        "version": version,
        "resource_type": "Observation",
        "classes": [[coding]],
        "codes": [[coding, { "system": "http://snomed.info/sct", "code": "271649006" }]],
        "labels": [],
        "authors": [RecordId([6; 32]).to_string()],
        "data_date": 1_600_000_000,
        "payload": to_base64(payload),
        "key_for_patient": to_base64(b"sealed to the patient"),
        "key_for_custodian": to_base64(b"sealed to the custodian"),
    } })
}

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
        .call("put_record", &record(id(1, 1), 1, b"one"))
        .unwrap();
    assert_eq!(put["existing"], false);
    patient.apply(&delta);
    assert_eq!(patient.root_hash, custodian.root_hash);
    let again = custodian
        .call("put_record", &record(id(1, 1), 1, b"one"))
        .unwrap()
        .0;
    assert_eq!(
        (&again["existing"], &again["key"]),
        (&json!(true), &put["key"])
    );
    // Another content of the same version, a gap, and a first version that is not 1.
    refused(
        custodian.call("put_record", &record(id(1, 1), 1, b"two")),
        "record_version",
    );
    refused(
        custodian.call("put_record", &record(id(1, 1), 3, b"two")),
        "record_version",
    );
    refused(
        custodian.call("put_record", &record(id(2, 1), 0, b"two")),
        "record_version",
    );
    let (_, delta) = custodian
        .call("put_record", &record(id(1, 1), 2, b"two"))
        .unwrap();
    patient.apply(&delta);

    let name = RecordId(id(1, 1)).to_string();
    let latest = patient.view("record", &json!({ "record": name })).unwrap();
    assert_eq!(latest["payload"], to_base64(b"two"));
    let first = patient
        .view("record", &json!({ "record": name, "version": 1 }))
        .unwrap();
    assert_eq!(first["payload"], to_base64(b"one"));
    let given = &record(id(1, 1), 1, b"one")["record"];
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
fn a_record_is_bounded_and_the_custodians_alone() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    refused(
        patient.call("put_record", &record(id(1, 1), 1, b"x")),
        "not_the_custodian",
    );
    let largest = vec![7; PAYLOAD_BYTES_MAX];
    let (_, delta) = custodian
        .call("put_record", &record(id(1, 1), 1, &largest))
        .unwrap();
    patient.apply(&delta);
    let name = RecordId(id(1, 1)).to_string();
    let shown = patient.view("record", &json!({ "record": name })).unwrap();
    assert_eq!(shown["payload"], to_base64(&largest));
    let too_large = vec![7; PAYLOAD_BYTES_MAX + 1];
    refused(
        custodian.call("put_record", &record(id(2, 1), 1, &too_large)),
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
        let mut bad = record(id(3, 1), 1, b"x");
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
            .call("put_record", &record(id(first, 9), 1, b"x"))
            .unwrap();
    }
    let mut other = id(1, 9);
    other[1] = 1;
    let answer = custodian.call("put_record", &record(other, 1, b"x"));
    assert!(
        answer
            .as_ref()
            .is_err_and(|refused| refused.message.contains("fresh record id"))
    );
    refused(answer, "full");
    custodian
        .call("put_record", &record(id(1, 10), 1, b"x"))
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

/// A batch that holds a consent's leaf at place 1 of 16.
fn batch(consent: &Consent) -> (Tree, Value) {
    let mut leaves: Vec<Leaf> = (1..=16u64)
        .map(|n| Leaf::from_felt(Felt::from(n)))
        .collect();
    leaves[1] = consent.signed.commitment.leaf(&consent.signed.signature);
    let tree = Tree::build(&leaves).unwrap();
    let proof = tree.proof(1).unwrap();
    let anchor = json!({ "anchor": {
        "commitment": consent.name(),
        "handle": consent.signed.opening.handle.to_string(),
        "root": tree.root().to_string(),
        "index": proof.index,
        "siblings": proof.siblings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "anchorer": anchorer().to_string(),
        "stage": "sealed",
    } });
    (tree, anchor)
}

fn anchors(replica: &Replica) -> Value {
    replica.view("consents", &json!({})).unwrap()["consents"][0]["anchors"].clone()
}

#[test]
fn a_consents_way_onto_the_chain_is_seen_by_both() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    let (_, mut anchor) = batch(&consent);
    refused(custodian.call("record_anchor", &anchor), "unknown_consent");
    custodian.apply(&granted);
    assert_eq!(anchors(&custodian), json!([]));

    let (sealed, first) = custodian.call("record_anchor", &anchor).unwrap();
    assert_eq!(anchors(&custodian)[0]["stage"], "sealed");
    anchor["anchor"]["stage"] = "submitted".into();
    refused(custodian.call("record_anchor", &anchor), "stage_needs");
    anchor["anchor"]["transaction_hash"] = "0xabc".into();
    let (submitted, second) = custodian.call("record_anchor", &anchor).unwrap();
    assert_eq!(sealed["key"], submitted["key"]);
    anchor["anchor"]["stage"] = "anchored".into();
    refused(custodian.call("record_anchor", &anchor), "stage_needs");
    anchor["anchor"]["block_number"] = 12.into();
    anchor["anchor"]["block_hash"] = "0xdef".into();
    anchor["anchor"]["block_time"] = 1_700_000_000.into();
    let (anchored, third) = custodian.call("record_anchor", &anchor).unwrap();
    assert_eq!(anchored["existing"], false);
    let again = custodian.call("record_anchor", &anchor).unwrap().0;
    assert_eq!(
        (&again["existing"], &again["key"]),
        (&json!(true), &sealed["key"])
    );

    // The news may overtake the position.
    patient.apply(&third);
    assert_eq!(anchors(&patient), json!([]));
    patient.apply(&second);
    patient.apply(&first);
    assert_eq!(patient.root_hash, custodian.root_hash);
    for replica in [&patient, &custodian] {
        let shown = &anchors(replica)[0];
        assert_eq!(shown["stage"], "anchored");
        for field in ["root", "index", "siblings", "anchorer", "transaction_hash"] {
            assert_eq!(shown[field], anchor["anchor"][field], "{field}");
        }
        for field in ["block_number", "block_hash", "block_time"] {
            assert_eq!(shown[field], anchor["anchor"][field], "{field}");
        }
    }
}

#[test]
fn a_position_that_does_not_lead_to_the_root_is_refused() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    custodian.apply(&granted);
    let (_, anchor) = batch(&consent);
    let (_, unrelated) = batch(&Consent::sound(&custodian, 2));
    let mut extra = anchor["anchor"]["siblings"].as_array().unwrap().clone();
    extra.push("0x0".into());
    for (field, value, error) in [
        ("index", json!(2), "not_included"),
        ("index", json!(16), "proof"),
        ("siblings", json!(extra), "not_included"),
        ("siblings", json!(vec!["0x0"; 33]), "too_large"),
        ("siblings", json!([]), "proof"),
        ("root", unrelated["anchor"]["root"].clone(), "not_included"),
        ("anchorer", json!("0x7"), "other_anchorer"),
        (
            "commitment",
            unrelated["anchor"]["commitment"].clone(),
            "unknown_consent",
        ),
        ("handle", json!("0x7"), "unknown_consent"),
        ("stage", json!("done"), "malformed"),
    ] {
        let mut bad = anchor.clone();
        bad["anchor"][field] = value;
        refused(custodian.call("record_anchor", &bad), error);
    }
    // A third member may write a position, which proves itself, but not what the chain says.
    let mut delegate = custodian.join(103);
    let mut news = anchor.clone();
    news["anchor"]["stage"] = "submitted".into();
    news["anchor"]["transaction_hash"] = "0xabc".into();
    refused(delegate.call("record_anchor", &news), "not_a_witness");
    delegate.call("record_anchor", &anchor).unwrap();
    assert_eq!(anchors(&delegate)[0]["stage"], "sealed");
}

#[test]
fn the_walk_meets_every_entry_once_and_its_digest_moves_with_any_change() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    for number in 1..=5 {
        let consent = Consent::sound(&custodian, number);
        let (_, delta) = patient.call("grant", &consent.grant_arguments()).unwrap();
        custodian.apply(&delta);
    }
    let first = Consent::sound(&custodian, 1);
    let (_, delta) = patient.call("revoke", &first.revoke_arguments()).unwrap();
    custodian.apply(&delta);
    custodian.call("record_anchor", &batch(&first).1).unwrap();
    custodian
        .call("put_record", &record(id(1, 1), 1, b"x"))
        .unwrap();

    let walk = |limit: u32| {
        let mut entries = Vec::new();
        let mut cursor = Value::Null;
        loop {
            let page = custodian.view("changes", &json!({ "cursor": cursor, "limit": limit }));
            let page = page.unwrap();
            entries.extend(page["entries"].as_array().unwrap().iter().cloned());
            cursor = page["next"].clone();
            if cursor.is_null() {
                return (entries, page["digest"].clone());
            }
        }
    };
    let (entries, digest) = walk(100);
    let kinds: Vec<&str> = entries
        .iter()
        .map(|e| e["kind"].as_str().unwrap())
        .collect();
    let mut expected = vec!["circle", "enrolment"];
    expected.extend(["consent"; 5]);
    expected.extend(["revocation", "anchor", "record"]);
    assert_eq!(kinds, expected);
    for limit in 1..5 {
        assert_eq!(walk(limit), (entries.clone(), digest.clone()));
    }
    for entry in &entries {
        let arguments = json!({ "kind": entry["kind"], "key": entry["key"] });
        let shown = custodian.view("entry", &arguments).unwrap();
        assert_eq!(shown["valid"], true, "{shown}");
        let other = if entry["kind"] == "record" {
            "consent"
        } else {
            "record"
        };
        let wrong = json!({ "kind": other, "key": entry["key"] });
        assert_eq!(
            custodian.view("entry", &wrong).unwrap_err().error,
            "unknown_entry"
        );
    }
    // The patient has not heard of the last two.
    let behind = patient.view("changes", &json!({})).unwrap();
    assert_eq!(
        behind["entries"].as_array().unwrap().len(),
        entries.len() - 2
    );
    assert_ne!(behind["digest"], digest);
}
