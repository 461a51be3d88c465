//! What a hostile member does to the storage tree itself, below the app: none of it takes anything
//! from anybody that the app can give.
//!
//! The actions are what a patched node sends. Storage checks signatures of entries, and takes
//! everything else (inner nodes, parents, deletions of what has no owner) from whoever names it.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use calimero_storage::action::Action;
use calimero_storage::address::Id;
use calimero_storage::entities::{ChildInfo, SignatureData, StorageType};
use medsync_app::layout::{Kind, Shard};
use medsync_tests::circle::{CONTEXT, Consent, enrolled};
use medsync_tests::replica::{Delta, Replica};
use serde_json::{Value, json};

fn view(replica: &Replica, method: &str) -> Value {
    replica.view(method, &json!({})).expect("an answer")
}

fn record(version: u32) -> Value {
    json!({ "record": {
        "record": format!("0x{}", "05".repeat(32)), "version": version,
        "resource_type": "Observation",
        "classes": [], "codes": [], "labels": [], "authors": [], "data_date": null,
        "payload": "AAAA", "key_for_patient": "AAAA", "key_for_custodian": "AAAA",
    } })
}

/// The last entry of a delta that stands in this kind's tree.
fn entry_of(delta: &Delta, kind: Kind) -> Action {
    let is_of_kind = |action: &&Action| {
        let (Action::Add { ancestors, .. } | Action::Update { ancestors, .. }) = action else {
            return false;
        };
        ancestors.iter().any(|a| a.id() == kind.id())
            && ancestors
                .first()
                .is_some_and(|a| kind.shard_named(a.id()).is_some())
    };
    delta.0.iter().rev().find(is_of_kind).expect("one").clone()
}

/// Later than whatever was written meanwhile.
const SECOND_NS: u64 = 1_000_000_000;

/// Unsigned and for nobody: what storage deletes on anybody's word.
fn delete(id: Id, like: &Action) -> Delta {
    let (Action::Add { metadata, .. } | Action::Update { metadata, .. }) = like else {
        panic!("an entry is added");
    };
    let mut metadata = metadata.clone();
    metadata.storage_type = StorageType::Public;
    Delta(vec![Action::DeleteRef {
        id,
        deleted_at: metadata.updated_at() + SECOND_NS,
        metadata,
    }])
}

#[test]
fn hostile_member_plants_the_custodians_stamp_and_it_is_none() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let (_, put) = custodian.call("put_record", &record(1)).unwrap();
    patient.apply(&put);
    let before = view(&patient, "records");
    let mut ghost = entry_of(&put, Kind::Records);
    let Action::Add {
        id,
        data,
        ancestors,
        metadata,
    } = &mut ghost
    else {
        panic!("an entry is added");
    };
    // The forged entry is nobody's; the metadata that is kept comes with an ancestor of its name.
    *id = Id::new([0x11; 32]);
    let end = data.len() - 32;
    data[end..].copy_from_slice(&[0x11; 32]);
    let version = data
        .windows(4)
        .position(|bytes| bytes == 1u32.to_le_bytes())
        .expect("the version");
    data[version..version + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut stamped = metadata.clone();
    stamped.storage_type = StorageType::User {
        owner: custodian.key().public_key(),
        signature_data: Some(SignatureData {
            signature: [7; 64],
            nonce: metadata.updated_at(),
            signer: None,
        }),
    };
    metadata.storage_type = StorageType::Public;
    let shard = ancestors[0].clone();
    ancestors.insert(0, ChildInfo::new(*id, [0; 32], stamped));
    ancestors.insert(0, shard);
    patient.apply(&Delta(vec![ghost.clone()]));
    custodian.apply(&Delta(vec![ghost]));
    let after = view(&patient, "records");
    assert_eq!(after["records"], before["records"]);
    assert_eq!(
        after["ignored"], 1,
        "the forged entry got in and is ignored"
    );
    custodian
        .call("put_record", &record(2))
        .expect("the next version");
}

#[test]
fn hostile_member_deletes_the_root_and_everything_goes_on() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    custodian.apply(&granted);
    let like = entry_of(&granted, Kind::Consents);
    // Calimero's own name for the one entry below the root.
    let root = patient.with_storage(Id::root);
    for id in [root, Id::new([118; 32])] {
        patient.apply(&delete(id, &like));
        custodian.apply(&delete(id, &like));
    }
    assert_eq!(
        view(&patient, "consents")["consents"][0]["state"],
        "in_force"
    );
    let (_, revoked) = patient
        .call("revoke", &consent.revoke_arguments())
        .expect("revoking is never kept out");
    custodian.apply(&revoked);
    for replica in [&patient, &custodian] {
        assert_eq!(view(replica, "consents")["consents"][0]["state"], "revoked");
    }
}

#[test]
fn hostile_member_takes_shards_off_their_kind_and_hides_nothing() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    custodian.apply(&granted);
    let like = entry_of(&granted, Kind::Consents);
    for kind in [Kind::Consents, Kind::Revocations] {
        for shard in kind.all_shards() {
            custodian.apply(&delete(kind.shard_id(shard), &like));
        }
    }
    assert_eq!(
        view(&custodian, "consents")["consents"][0]["state"],
        "in_force"
    );
    let (_, revoked) = patient.call("revoke", &consent.revoke_arguments()).unwrap();
    custodian.apply(&revoked);
    let kinds: Vec<String> = view(&custodian, "changes")["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap().to_owned())
        .collect();
    assert!(kinds.contains(&"revocation".to_owned()), "{kinds:?}");
    assert_eq!(view(&custodian, "circle")["counts"]["revocations"], 1);
    assert_eq!(
        view(&custodian, "consents")["consents"][0]["state"],
        "revoked"
    );
}

#[test]
fn hostile_member_moves_an_entry_and_it_is_still_read() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    custodian.apply(&granted);
    let (_, revoked) = patient.call("revoke", &consent.revoke_arguments()).unwrap();
    custodian.apply(&revoked);
    // The signed action again, under other parents: the signature does not cover them. First out of
    // all shards, then into one where it does not belong.
    for place in ["kind", "shard"] {
        let mut moved = entry_of(&revoked, Kind::Revocations);
        let Action::Add { ancestors, .. } = &mut moved else {
            panic!("an entry is added");
        };
        let shard = ancestors.remove(0);
        if place == "shard" {
            let own = Kind::Revocations.shard_named(shard.id()).expect("a shard");
            let id = Kind::Revocations.shard_id(Shard((own.0 + 1) % 64));
            let other = ChildInfo::new(id, shard.merkle_hash(), shard.metadata.clone());
            ancestors.insert(0, other);
        }
        custodian.apply(&Delta(vec![moved]));
        for entry in view(&custodian, "changes")["entries"].as_array().unwrap() {
            let arguments = json!({ "kind": entry["kind"], "key": entry["key"] });
            let shown = custodian.view("entry", &arguments).expect("an answer");
            assert_eq!(shown["valid"], true, "{place}: {shown}");
        }
    }
    assert_eq!(
        view(&custodian, "consents")["consents"][0]["state"],
        "revoked"
    );
}

#[test]
fn hostile_member_fills_a_shard_and_others_have_room() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    let mut elsewhere = patient.join(67);
    let (_, model) = elsewhere
        .call("revoke", &consent.revoke_arguments())
        .unwrap();
    drop(granted);
    // More than one member's share, and stamped with the patient's name.
    let ghosts: Vec<Action> = (0..600u16)
        .map(|tag| ghost_of(&model, &patient, tag))
        .collect();
    patient.apply(&Delta(ghosts));
    assert!(view(&patient, "circle")["counts"]["revocations"].as_u64() > Some(256));
    patient
        .call("revoke", &consent.revoke_arguments())
        .expect("revoking is never kept out");
    assert_eq!(
        view(&patient, "consents")["consents"][0]["state"],
        "revoked"
    );
}

/// An entry of nobody's in the name of `owner`, which opens nothing.
fn ghost_of(model: &Delta, owner: &Replica, tag: u16) -> Action {
    let mut ghost = entry_of(model, Kind::Revocations);
    let Action::Add {
        id,
        data,
        ancestors,
        metadata,
    } = &mut ghost
    else {
        panic!("an entry is added");
    };
    let mut name = [0x22; 32];
    name[..2].copy_from_slice(&tag.to_be_bytes());
    *id = Id::new(name);
    data.truncate(4);
    let mut stamped = metadata.clone();
    stamped.storage_type = StorageType::User {
        owner: owner.key().public_key(),
        signature_data: None,
    };
    metadata.storage_type = StorageType::Public;
    let shard = ancestors[0].clone();
    ancestors.insert(0, ChildInfo::new(*id, [0; 32], stamped));
    ancestors.insert(0, shard);
    ghost
}
