//! What a member with a patched node can put into the state, and that none of it counts.
//!
//! Entries are forged on the storage layer's own apply path: made from real ones, altered, and
//! signed by the forger's own member key.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use calimero_storage::action::Action;
use calimero_storage::address::Id;
use calimero_storage::entities::{SignatureData, StorageType};
use medsync_protocol::signature::{Signature, SignatureHalf};
use medsync_protocol::tree::Tree;
use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, INVITATION, Logged, PATIENT, Plan, admission_arguments,
    enrol_arguments, enrolled, enrolment, public_key, terms,
};
use medsync_tests::replica::{Delta, Replica};
use serde_json::{Value, json};

fn consents(replica: &Replica) -> Value {
    replica.view("consents", &json!({})).expect("a page")
}

/// The entries of a delta: what is stamped with an owner.
fn entries(delta: &Delta) -> Vec<&Action> {
    delta
        .0
        .iter()
        .filter(|action| data_of(action).is_some())
        .collect()
}

fn data_of(action: &Action) -> Option<&Vec<u8>> {
    match action {
        Action::Add { metadata, data, .. } | Action::Update { metadata, data, .. }
            if matches!(metadata.storage_type, StorageType::User { .. }) =>
        {
            Some(data)
        }
        _ => None,
    }
}

/// A copy of an entry's action under the forger's own stamp and a new id.
fn forge(by: &Replica, action: &Action, tag: u16, change: impl Fn(&mut Vec<u8>)) -> Action {
    let mut action = action.clone();
    if let Action::Add {
        id, data, metadata, ..
    }
    | Action::Update {
        id, data, metadata, ..
    } = &mut action
    {
        let mut new = *id.as_bytes();
        new[0] ^= 0xff;
        new[1..3].copy_from_slice(&tag.to_be_bytes());
        *id = Id::new(new);
        // An entry ends with its own id.
        let end = data.len() - 32;
        data[end..].copy_from_slice(&new);
        change(data);
        metadata.storage_type = StorageType::User {
            owner: by.key().public_key(),
            signature_data: Some(SignatureData {
                signature: [0; 64],
                nonce: metadata.updated_at(),
                signer: None,
            }),
        };
    }
    let mut signed = [action];
    by.sign(&mut signed);
    let [action] = signed;
    action
}

/// One real entry of every kind, by an honest member, as the forger's models.
fn models(custodian: &mut Replica, patient: &mut Replica) -> Vec<Delta> {
    let consent = Consent::sound(custodian, 1);
    let (_, granted) = patient
        .call("grant", &consent.grant_arguments())
        .expect("sound");
    let (_, revoked) = patient
        .call("revoke", &consent.revoke_arguments())
        .expect("sound");
    let record = json!({ "record": {
        "record": format!("0x{}", "05".repeat(32)), "version": 1, "resource_type": "Observation",
        "classes": [], "codes": [], "labels": [], "authors": [], "data_date": null,
        "payload": "AAAA", "key_for_patient": "AAAA", "key_for_custodian": "AAAA",
    } });
    let (_, put) = custodian.call("put_record", &record).expect("sound");
    let pool = json!({ "pool": {
        "contract": "0x1", "funder": "0x2", "nonce": "0x3", "recipient": "0x4",
        "claim_end": 5, "label": "a pool",
    } });
    let (_, pool) = custodian.call("put_pool", &pool).expect("sound");
    custodian.apply(&granted);
    custodian.apply(&revoked);
    patient.apply(&put);
    patient.apply(&pool);
    vec![granted, revoked, put, pool]
}

#[test]
fn hostile_entries_that_cannot_be_read_are_ignored_and_counted() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let forger = custodian.join(66);
    let models = models(&mut custodian, &mut patient);
    let before = (
        consents(&patient),
        patient.view("records", &json!({})).unwrap(),
    );
    let mut tag = 0;
    for delta in &models {
        for entry in entries(delta) {
            for change in [
                (|data: &mut Vec<u8>| data.clear()) as fn(&mut Vec<u8>),
                |data| data.truncate(7),
                |data| data[..4].fill(0xff),
                |data| data[4..].fill(0xff),
                |data| data[8] ^= 0xff,
                |data| data.insert(4, 0),
            ] {
                tag += 1;
                patient.apply(&Delta(vec![forge(&forger, entry, tag, change)]));
            }
        }
    }
    let after = (
        consents(&patient),
        patient.view("records", &json!({})).unwrap(),
    );
    assert_eq!(after.0["consents"], before.0["consents"]);
    assert_eq!(after.1["records"], before.1["records"]);
    assert_eq!(after.0["ignored"], 6);
    assert_eq!(after.1["ignored"], 6);
    for entry in patient.view("changes", &json!({})).unwrap()["entries"]
        .as_array()
        .unwrap()
    {
        let arguments = json!({ "kind": entry["kind"], "key": entry["key"] });
        patient
            .view("entry", &arguments)
            .expect("every entry has an answer");
    }
    // Honest writes go on beside them.
    let second = Consent::sound(&custodian, 2);
    patient.call("grant", &second.grant_arguments()).unwrap();
    patient.call("revoke", &second.revoke_arguments()).unwrap();
}

#[test]
fn hostile_consent_that_was_forged_into_the_state_does_not_count() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let mut forger = custodian.join(66);
    // The forger's node believes that the hospital's key is the patient's: it enrolled it itself.
    let mut imagined = custodian.join(66);
    let right = terms(custodian.member(), CONTEXT, 1);
    let forged = Plan {
        signer: HOSPITAL,
        ..Plan::sound(1)
    }
    .sign(&right);
    let honest = Consent::sound(&custodian, 2);
    let (_, granted) = patient.call("grant", &honest.grant_arguments()).unwrap();
    custodian.apply(&granted);
    forger.apply(&granted);
    let entry = entries(&granted)[0];
    let signature = honest.signed.signature;
    for (tag, change) in [
        // Another signature, another grantee, another end, another salt: one felt at a time.
        (
            1,
            [signature.s.to_bytes(), forged.signed.signature.s.to_bytes()],
        ),
        (
            2,
            [
                honest.signed.opening.grantee.to_bytes(),
                forged.signed.opening.patient_key.to_bytes(),
            ],
        ),
        (
            3,
            [
                honest.signed.opening.salt.to_bytes(),
                forged.signed.opening.salt.to_bytes(),
            ],
        ),
        (
            4,
            [
                honest.signed.opening.patient_key.to_bytes(),
                forged.signed.opening.patient_key.to_bytes(),
            ],
        ),
    ] {
        let [from, to] = change;
        let alter = |data: &mut Vec<u8>| {
            let at = data
                .windows(32)
                .position(|bytes| bytes == from)
                .expect("it is in there");
            data[at..at + 32].copy_from_slice(&to);
        };
        patient.apply(&Delta(vec![forge(&forger, entry, tag, alter)]));
    }
    let page = consents(&patient);
    assert_eq!(page["consents"].as_array().unwrap().len(), 1);
    assert_eq!(page["consents"][0]["commitment"], honest.name());
    assert_eq!(page["ignored"], 4);
    assert!(imagined.call("grant", &forged.grant_arguments()).is_err());
}

#[test]
fn hostile_copy_with_the_twin_of_a_signature_takes_nobodys_place() {
    use starknet_types_core::felt::Felt;
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let mut forger = custodian.join(66);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    custodian.apply(&granted);
    let anchor = anchor_of(&consent);
    let (_, anchored) = custodian.call("record_anchor", &anchor).unwrap();
    patient.apply(&anchored);
    let before = consents(&patient);

    let order = Felt::from_hex_unchecked(
        "0x800000000000010ffffffffffffffffb781126dcae7b2321e66a241adc64d2f",
    );
    let s = consent.signed.signature.s;
    let twin = (order - s.felt()).to_bytes_be();
    let alter = |data: &mut Vec<u8>| {
        let at = data
            .windows(32)
            .position(|bytes| bytes == s.to_bytes())
            .expect("it is there");
        data[at..at + 32].copy_from_slice(&twin);
    };
    // Under both smaller and larger keys than the original's.
    for tag in 0..8 {
        let copy = Delta(vec![forge(&forger, entries(&granted)[0], tag, alter)]);
        patient.apply(&copy);
        forger.apply(&copy);
        assert_eq!(consents(&patient)["consents"], before["consents"]);
    }
    assert_eq!(consents(&patient)["ignored"], 8);

    // A batch of the twin alone proves itself, but no witness stands for it.
    forger.apply(&granted);
    let s = SignatureHalf::from_bytes(&twin).unwrap();
    let twin = Signature {
        r: consent.signed.signature.r,
        s,
    };
    let alone = Tree::build(&[consent.signed.commitment.leaf(&twin)]).unwrap();
    let mut false_batch = anchor;
    false_batch["anchor"]["root"] = alone.root().to_string().into();
    let (_, written) = forger.call("record_anchor", &false_batch).unwrap();
    patient.apply(&written);
    assert_eq!(consents(&patient)["consents"], before["consents"]);
}

/// What a second device or a guardian grants is not written by whoever enrolled.
#[test]
fn hostile_copies_of_a_consent_hide_no_position_of_what_another_member_granted() {
    // Keys are random, and the forged ones come before the sound one in about every second turn.
    for _ in 0..8 {
        let (mut custodian, mut patient) = enrolled(CONTEXT);
        let mut phone = custodian.join(103);
        let admission = admission_arguments(CONTEXT, phone.member(), 1, PATIENT, None);
        let (_, admitted) = patient.call("admit", &admission).unwrap();
        let forger = custodian.join(66);
        let consent = Consent::sound(&custodian, 1);
        phone.apply(&admitted);
        let (_, granted) = phone.call("grant", &consent.grant_arguments()).unwrap();
        for delta in [&admitted, &granted] {
            custodian.apply(delta);
        }
        let anchor = anchor_of(&consent);
        let (_, anchored) = custodian.call("record_anchor", &anchor).unwrap();
        for delta in [&granted, &anchored] {
            patient.apply(delta);
        }
        let before = consents(&patient)["consents"].clone();
        assert_eq!(before[0]["anchors"].as_array().unwrap().len(), 1);
        let spoil_signature = |data: &mut Vec<u8>| {
            let s = consent.signed.signature.s.to_bytes();
            let at = data.windows(32).position(|bytes| bytes == s);
            data[at.expect("it is there") + 31] ^= 1;
        };
        for tag in 0..8 {
            let copy = forge(&forger, entries(&granted)[0], tag, spoil_signature);
            patient.apply(&Delta(vec![copy]));
        }
        assert_eq!(consents(&patient)["consents"], before);
    }
}

/// That a consent is alone in a batch.
fn anchor_of(consent: &Consent) -> Value {
    let leaf = consent.signed.commitment.leaf(&consent.signed.signature);
    let tree = Tree::build(&[leaf]).unwrap();
    json!({ "anchor": {
        "commitment": consent.name(), "handle": consent.signed.opening.handle.to_string(),
        "root": tree.root().to_string(), "index": 0, "siblings": [],
        "anchorer": medsync_tests::circle::anchorer().to_string(), "stage": "sealed",
    } })
}

#[test]
fn hostile_enrolment_that_was_forged_into_the_state_freezes_nothing() {
    let mut custodian = medsync_tests::circle::open(CONTEXT);
    let mut patient = custodian.join(102);
    let forger = custodian.join(66);
    let arguments = enrol_arguments(&enrolment(patient.member(), PATIENT), CONTEXT, INVITATION);
    let (_, enrolled) = patient.call("enrol", &arguments).unwrap();
    custodian.apply(&enrolled);
    let key = public_key(PATIENT).to_bytes();
    let other = public_key(HOSPITAL).to_bytes();
    let forged = forge(&forger, entries(&enrolled)[0], 1, |data| {
        let at = data
            .windows(32)
            .position(|bytes| bytes == key)
            .expect("it is in there");
        data[at..at + 32].copy_from_slice(&other);
    });
    custodian.apply(&Delta(vec![forged]));
    // The very same enrolment under another key and stamp is no second one either.
    custodian.apply(&Delta(vec![forge(
        &forger,
        entries(&enrolled)[0],
        2,
        |_| {},
    )]));
    let view = custodian.view("circle", &json!({})).unwrap();
    assert_eq!(view["frozen"], false);
    assert_eq!(view["ignored"], 2);
    assert_eq!(
        view["patient"]["enrolment"]["member"],
        patient.member().to_string()
    );
}

#[test]
fn hostile_record_under_another_stamp_is_ignored_and_a_false_stamp_is_dropped() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let forger = custodian.join(66);
    let models = models(&mut custodian, &mut patient);
    let before = patient.view("records", &json!({})).unwrap();
    let count = |replica: &Replica| {
        replica.view("circle", &json!({})).unwrap()["counts"]["records"].clone()
    };
    for entry in entries(&models[2]) {
        patient.apply(&Delta(vec![forge(&forger, entry, 1, |_| {})]));
        // The custodian's stamp with the forger's signature does not pass the merge.
        let mut posing = forge(&forger, entry, 2, |_| {});
        if let Action::Add { metadata, .. } | Action::Update { metadata, .. } = &mut posing
            && let StorageType::User { owner, .. } = &mut metadata.storage_type
        {
            *owner = custodian.key().public_key();
        }
        patient.apply(&Delta(vec![posing]));
    }
    let after = patient.view("records", &json!({})).unwrap();
    assert_eq!(after["records"], before["records"]);
    assert_eq!(after["ignored"], 1);
    assert_eq!(count(&patient), json!(2));
}

#[test]
fn hostile_rubbish_in_a_shard_does_not_stop_a_revocation() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let forger = custodian.join(66);
    let consent = Consent::sound(&custodian, 1);
    patient.call("grant", &consent.grant_arguments()).unwrap();
    // A real revocation of the same shard as the model; the forger then fills the shard.
    let mut elsewhere = patient.join(67);
    let (_, model) = elsewhere
        .call("revoke", &consent.revoke_arguments())
        .unwrap();
    let rubbish = (0..300)
        .map(|tag| forge(&forger, entries(&model)[0], tag, |data| data[4] ^= 1))
        .collect();
    patient.apply(&Delta(rubbish));
    patient
        .call("revoke", &consent.revoke_arguments())
        .expect("revoking is never kept out");
    assert_eq!(consents(&patient)["consents"][0]["state"], "revoked");
}

#[test]
fn hostile_copies_of_a_log_entry_use_up_nobody_elses_place() {
    // Keys are random, and the forged ones come before the sound one in about every second turn.
    for _ in 0..8 {
        let (custodian, mut patient) = enrolled(CONTEXT);
        let (forger, mut reader) = (custodian.join(66), custodian.join(67));
        // The custodian keeps its own entry back, and the patient brings it in.
        let entry = Logged::after(None, CONTEXT, HOSPITAL, 1);
        let (_, published) = patient.call("append_log", &entry.arguments()).unwrap();
        for tag in 0..8 {
            let spoil_signature = |data: &mut Vec<u8>| {
                // After it come the time and the entry's own id.
                let at = data.len() - 32 - 8 - 1;
                data[at] ^= 1;
            };
            let copy = forge(&forger, entries(&published)[0], tag, spoil_signature);
            reader.apply(&Delta(vec![copy]));
        }
        reader.apply(&published);
        let page = json!({ "author_key": public_key(HOSPITAL), "from": 0, "limit": 9 });
        let page = reader.view("log_page", &page).unwrap();
        assert_eq!(page["entries"].as_array().unwrap().len(), 1);
    }
}
