//! What a hostile member does to the storage tree itself, below the app: none of it takes anything
//! from anybody that the app can give.
//!
//! The actions are what a patched node sends. Storage checks signatures of entries, and takes
//! everything else (inner nodes, parents, deletions of what has no owner) from whoever names it.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use calimero_storage::action::Action;
use calimero_storage::address::Id;
use calimero_storage::entities::{ChildInfo, SignatureData, StorageType};
use medsync::source::{Answer, consents_digest};
use medsync_app::layout::{Kind, Shard};
use medsync_tests::circle::{CONTEXT, Consent, HOSPITAL, Logged, enrolled};
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
fn hostile_member_takes_shards_branches_and_kinds_off_and_hides_nothing() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    custodian.apply(&granted);
    let like = entry_of(&granted, Kind::Consents);
    for kind in [Kind::Consents, Kind::Revocations] {
        for shard in kind.all_shards() {
            custodian.apply(&delete(kind.shard_id(shard), &like));
            custodian.apply(&delete(kind.branch_id(shard), &like));
        }
        custodian.apply(&delete(kind.id(), &like));
    }
    assert_eq!(
        view(&custodian, "consents")["consents"][0]["state"],
        "in_force"
    );
    let digest = |replica: &Replica| view(replica, "circle")["consents_digest"].clone();
    let before = digest(&custodian);
    assert_eq!(before, digest(&patient));
    let (_, revoked) = patient.call("revoke", &consent.revoke_arguments()).unwrap();
    custodian.apply(&revoked);
    assert_ne!(before, digest(&custodian));
    assert_eq!(digest(&custodian), digest(&patient));
    let walk = json!({ "result": { "output": view(&custodian, "changes") } }).to_string();
    let walk = Answer::read(CONTEXT, "changes", walk.as_bytes()).unwrap();
    let walked = consents_digest(&walk.changes().unwrap().entries);
    assert_eq!(digest(&custodian), walked.to_string());
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

/// Storage ends the whole delta that deletes what the node does not know. Nothing of it stays.
fn ends(replica: &mut Replica, actions: Vec<Action>) {
    let before = (replica.root_hash, view(replica, "changes"));
    let trap = replica.try_apply(&Delta(actions));
    let trap = trap.expect_err("storage ends such a delta");
    assert!(trap.contains("IndexNotFound"), "{trap}");
    assert_eq!((replica.root_hash, view(replica, "changes")), before);
}

/// What else its author says in such a delta is lost with it, sound or not, before the deletion or
/// after it: that is the author's own loss. A delta is one member's, so that nobody else loses
/// anything, and a node that ended one takes all others, from the same member too.
#[test]
fn hostile_member_deletes_what_is_not_there_and_loses_its_own_delta_alone() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    let like = entry_of(&granted, Kind::Consents);
    let (nowhere, on_its_way) = (Id::new([0x77; 32]), like.id());
    for unknown in [nowhere, on_its_way] {
        let deletion = delete(unknown, &like).0;
        ends(&mut custodian, deletion.clone());
        ends(&mut custodian, [deletion, granted.0.clone()].concat());
    }
    let after_good_ones = [granted.0.clone(), delete(nowhere, &like).0].concat();
    ends(&mut custodian, after_good_ones);
    // A deletion of what came with the same delta is another thing: without the writer's
    // signature it is skipped, and what came stays.
    let with_its_own = [granted.0.clone(), delete(on_its_way, &like).0].concat();
    let mut elsewhere = custodian.join(67);
    elsewhere.apply(&Delta(with_its_own));
    custodian.apply(&granted);
    for replica in [&custodian, &elsewhere] {
        let consents = view(replica, "consents");
        assert_eq!(consents["consents"][0]["state"], "in_force");
    }
    let entry = Logged::after(None, CONTEXT, HOSPITAL, 1);
    let (_, logged) = custodian.call("append_log", &entry.arguments()).unwrap();
    patient.apply(&logged);
    let (_, revoked) = patient.call("revoke", &consent.revoke_arguments()).unwrap();
    let with_revocation = [delete(nowhere, &like).0, revoked.0.clone()].concat();
    ends(&mut custodian, with_revocation);
    custodian.apply(&revoked);
    for replica in [&custodian, &patient] {
        assert_eq!(view(replica, "consents")["consents"][0]["state"], "revoked");
        assert_eq!(view(replica, "circle")["counts"]["log"], 1);
    }
    assert_eq!(custodian.root_hash, patient.root_hash);
}

/// Whoever sends rubbish to one node alone, and its deletion to all, is heard by that one: the
/// others end the deletion, and what both of them write meanwhile goes on as before. Which delta
/// waits for which is for the nodes to say, above this layer.
#[test]
fn hostile_member_deletes_what_one_node_knows_and_all_go_on() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    custodian.apply(&granted);
    let mut litter = entry_of(&granted, Kind::Consents);
    let Action::Add {
        id, data, metadata, ..
    } = &mut litter
    else {
        panic!("an entry is added");
    };
    *id = Id::new([0x33; 32]);
    let end = data.len() - 32;
    data[end..].copy_from_slice(id.as_bytes());
    metadata.storage_type = StorageType::Public;
    let deletion = delete(litter.id(), &litter);
    let litter = Delta(vec![litter]);
    custodian.apply(&litter);
    custodian.apply(&deletion);
    ends(&mut patient, deletion.0.clone());
    let entry = Logged::after(None, CONTEXT, HOSPITAL, 1);
    let (_, logged) = custodian.call("append_log", &entry.arguments()).unwrap();
    patient.apply(&logged);
    let (_, revoked) = patient.call("revoke", &consent.revoke_arguments()).unwrap();
    custodian.apply(&revoked);
    // When the rubbish comes after all, its deletion is taken too.
    patient.apply(&litter);
    patient.apply(&deletion);
    for replica in [&custodian, &patient] {
        assert_eq!(view(replica, "consents")["consents"][0]["state"], "revoked");
        let circle = view(replica, "circle");
        assert_eq!(circle["counts"]["consents"], 1);
        assert_eq!(circle["counts"]["log"], 1);
    }
}
