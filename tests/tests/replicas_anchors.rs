//! Positions in batches, news from the chain, and the walk over everything.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use medsync_protocol::felt::Felt;
use medsync_protocol::tree::{Leaf, Tree};
use medsync_tests::circle::{CONTEXT, Consent, anchorer, enrolled, record_arguments};
use medsync_tests::replica::{Replica, refused};
use serde_json::{Value, json};

/// A batch that holds a consent's leaf at place 1 of 16.
fn batch(consent: &Consent) -> Value {
    let mut leaves: Vec<Leaf> = (1..=16u64)
        .map(|n| Leaf::from_felt(Felt::from(n)))
        .collect();
    leaves[1] = consent.signed.commitment.leaf(&consent.signed.signature);
    let tree = Tree::build(&leaves).unwrap();
    let proof = tree.proof(1).unwrap();
    json!({ "anchor": {
        "commitment": consent.name(),
        "handle": consent.signed.opening.handle.to_string(),
        "root": tree.root().to_string(),
        "index": proof.index,
        "siblings": proof.siblings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "anchorer": anchorer().to_string(),
        "stage": "sealed",
    } })
}

fn anchors(replica: &Replica) -> Value {
    replica.view("consents", &json!({})).unwrap()["consents"][0]["anchors"].clone()
}

#[test]
fn a_consents_way_onto_the_chain_is_seen_by_both() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    let mut anchor = batch(&consent);
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
    let anchor = batch(&consent);
    let unrelated = batch(&Consent::sound(&custodian, 2));
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
fn the_walk_meets_every_entry_once() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    for number in 1..=5 {
        let consent = Consent::sound(&custodian, number);
        let (_, delta) = patient.call("grant", &consent.grant_arguments()).unwrap();
        custodian.apply(&delta);
    }
    let first = Consent::sound(&custodian, 1);
    let (_, delta) = patient.call("revoke", &first.revoke_arguments()).unwrap();
    custodian.apply(&delta);
    custodian.call("record_anchor", &batch(&first)).unwrap();
    custodian
        .call("put_record", &record_arguments([5; 32], 1, b"x"))
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
                return entries;
            }
        }
    };
    let entries = walk(100);
    let kinds: Vec<&str> = entries
        .iter()
        .map(|e| e["kind"].as_str().unwrap())
        .collect();
    let mut expected = vec!["circle", "revocation", "enrolment"];
    expected.extend(["consent"; 5]);
    expected.extend(["anchor", "record"]);
    assert_eq!(kinds, expected);
    for limit in 1..5 {
        assert_eq!(walk(limit), entries);
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
}
