//! What a hostile member does to the entries of others on the storage layer's own apply path:
//! deleting and overwriting them, taking their place, and bringing them into another context.
//!
//! Storage drops what the owner of an entry did not sign. What it takes (the place of an entry that
//! has not arrived yet, and whatever a writer does to its own) holds until the next honest call.

use calimero_storage::action::Action;
use calimero_storage::address::Id;
use calimero_storage::entities::{ChildInfo, Metadata, SignatureData, StorageType};
use medsync_protocol::ids::ContextId;
use medsync_protocol::messages::{RotationNumber, rotate_message};
use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, Logged, PATIENT, RESEARCHER, change_key_arguments, enrolled,
    public_key, secret_key,
};
use medsync_tests::replica::{Delta, Replica};
use serde_json::{Value, json};

mod occupied;

/// Later than whatever was written meanwhile.
const SECOND_NS: u64 = 1_000_000_000;
/// What `Replica::sign` fills in for its own member.
const UNSIGNED: [u8; 64] = [0; 64];
/// The patient's next key.
const NEXT: u8 = 30;

fn view(replica: &Replica, method: &str) -> Value {
    replica.view(method, &json!({})).expect("an answer")
}

fn log_len(replica: &Replica, author: u8) -> usize {
    let page = json!({ "author_key": public_key(author), "from": 0, "limit": 9 });
    let page = replica.view("log_page", &page).expect("a page");
    page["entries"].as_array().expect("a list").len()
}

fn states(replica: &Replica) -> Vec<String> {
    let page = view(replica, "consents");
    let consents = page["consents"].as_array().expect("a list").iter();
    let mut states: Vec<String> = consents
        .map(|consent| consent["state"].as_str().expect("a text").to_owned())
        .collect();
    states.sort();
    states
}

/// Everything that a reader sees: each entry with its digest, consents and the log.
fn shown(replica: &Replica) -> Value {
    let log = json!({ "author_key": public_key(HOSPITAL), "from": 0, "limit": 9 });
    json!({
        "changes": view(replica, "changes"),
        "consents": view(replica, "consents"),
        "log": replica.view("log_page", &log).expect("a page"),
    })
}

fn is_valid(replica: &Replica, kind: &str, key: &Value) -> bool {
    let arguments = json!({ "kind": kind, "key": key });
    let entry = replica.view("entry", &arguments).expect("an answer");
    entry["valid"] == true
}

/// The one entry of a delta, as its writer signed it.
fn entry_of(delta: &Delta) -> Action {
    let is_entry = |action: &&Action| {
        let Action::Add { metadata, .. } = action else {
            return false;
        };
        matches!(metadata.storage_type, StorageType::User { .. })
    };
    delta.0.iter().find(is_entry).expect("an entry").clone()
}

fn metadata_of(action: &mut Action) -> &mut Metadata {
    match action {
        Action::Add { metadata, .. }
        | Action::Update { metadata, .. }
        | Action::DeleteRef { metadata, .. } => metadata,
        Action::Compare { .. } => panic!("nothing is compared here"),
    }
}

/// An entry's deletion; its stamp is still the writer's.
fn delete_of(entry: &Action) -> Action {
    let metadata = metadata_of(&mut entry.clone()).clone();
    Action::DeleteRef {
        id: entry.id(),
        deleted_at: metadata.updated_at() + SECOND_NS,
        metadata,
    }
}

/// Other content for an entry: of a revocation another handle, of a consent other terms, of a log
/// entry another author.
fn overwrite_of(entry: &Action) -> Action {
    let Action::Add {
        id,
        mut data,
        ancestors,
        mut metadata,
    } = entry.clone()
    else {
        panic!("an entry is added");
    };
    data[8] ^= 1;
    let later = metadata.updated_at() + SECOND_NS;
    metadata.set_updated_at(later);
    Action::Update {
        id,
        data,
        ancestors,
        metadata,
    }
}

/// The same entry under another id (its own for tag 0), with a byte wrong just before its time: in
/// a signature, or in a revocation's claim key.
fn spoiled(entry: &Action, tag: u8) -> Action {
    let Action::Add {
        id,
        mut data,
        ancestors,
        metadata,
    } = entry.clone()
    else {
        panic!("an entry is added");
    };
    let mut name = *id.as_bytes();
    name[0] ^= tag;
    // An entry ends with its time and its own id.
    let end = data.len() - 32;
    data[end..].copy_from_slice(&name);
    data[end - 8 - 1] ^= 1;
    Action::Add {
        id: Id::new(name),
        data,
        ancestors,
        metadata,
    }
}

/// An action under a stamp, signed if that is the member's own.
fn stamped(mut action: Action, by: &Replica, stamp: StorageType) -> Action {
    metadata_of(&mut action).storage_type = stamp;
    let mut signed = [action];
    by.sign(&mut signed);
    let [action] = signed;
    action
}

fn signed(action: Action, by: &Replica) -> Delta {
    let stamp = StorageType::User {
        owner: by.key().public_key(),
        signature_data: Some(SignatureData {
            signature: UNSIGNED,
            nonce: 0,
            signer: None,
        }),
    };
    Delta(vec![stamped(action, by, stamp)])
}

/// A deed under every stamp with which somebody can send it who is not the entry's owner: nobody's,
/// a frozen one, the forger's own, and the owner's with no, a false and the forger's signature.
fn forgeries(forger: &Replica, deed: &Action) -> Vec<Delta> {
    let owned = metadata_of(&mut deed.clone()).storage_type.clone();
    let StorageType::User { owner, .. } = owned else {
        panic!("an entry has an owner");
    };
    let owners = |signature: Option<[u8; 64]>| StorageType::User {
        owner,
        signature_data: signature.map(|signature| SignatureData {
            signature,
            nonce: u64::MAX,
            signer: None,
        }),
    };
    let own = signed(deed.clone(), forger);
    let mut posing = own.clone();
    if let StorageType::User { owner: claimed, .. } =
        &mut metadata_of(&mut posing.0[0]).storage_type
    {
        *claimed = owner;
    }
    let others = [
        StorageType::Public,
        StorageType::Frozen,
        owners(None),
        owners(Some(UNSIGNED)),
        owners(Some([7; 64])),
    ];
    let others = others.map(|stamp| Delta(vec![stamped(deed.clone(), forger, stamp)]));
    [own, posing].into_iter().chain(others).collect()
}

/// A circle with a consent, a revoked one and a log entry, on the nodes of its custodian, its
/// patient and a reader.
struct Scene {
    replicas: [Replica; 3],
    forger: Replica,
    /// A consent, a revocation and a log entry.
    entries: [Action; 3],
}

impl Scene {
    fn new() -> Self {
        let (mut custodian, mut patient) = enrolled(CONTEXT);
        let (kept, spent) = (Consent::sound(&custodian, 1), Consent::sound(&custodian, 2));
        let entry = Logged::after(None, CONTEXT, HOSPITAL, 1);
        let (_, granted) = patient
            .call("grant", &kept.grant_arguments())
            .expect("sound");
        let (_, over) = patient
            .call("grant", &spent.grant_arguments())
            .expect("sound");
        let (_, revoked) = patient
            .call("revoke", &spent.revoke_arguments())
            .expect("sound");
        let (_, logged) = custodian
            .call("append_log", &entry.arguments())
            .expect("sound");
        for delta in [&granted, &over, &revoked] {
            custodian.apply(delta);
        }
        patient.apply(&logged);
        let (reader, forger) = (custodian.join(67), custodian.join(66));
        Self {
            replicas: [custodian, patient, reader],
            forger,
            entries: [&granted, &revoked, &logged].map(entry_of),
        }
    }

    /// Lets everybody hear all forgeries of a deed to each entry: nobody sees a difference.
    fn withstands(mut self, deed: fn(&Action) -> Action) {
        let before: Vec<Value> = self.replicas.iter().map(shown).collect();
        assert!(before.iter().all(|shown| *shown == before[0]));
        for entry in &self.entries {
            for forged in forgeries(&self.forger, &deed(entry)) {
                for (replica, before) in self.replicas.iter_mut().zip(&before) {
                    replica.apply(&forged);
                    assert_eq!(shown(replica), *before, "{forged:?}");
                }
            }
        }
        for replica in &self.replicas {
            assert_eq!(states(replica), ["in_force", "revoked"]);
            assert_eq!(log_len(replica, HOSPITAL), 1);
        }
    }
}

#[test]
fn hostile_delete_of_a_signed_entry_is_dropped_everywhere() {
    Scene::new().withstands(delete_of);
}

#[test]
fn hostile_overwrite_of_a_signed_entry_is_dropped_everywhere() {
    Scene::new().withstands(overwrite_of);
}

#[test]
fn hostile_overwrite_by_adding_a_signed_entry_anew_is_dropped_everywhere() {
    Scene::new().withstands(|entry| spoiled(entry, 0));
}

#[test]
fn hostile_replay_from_another_context_of_the_same_hospital_counts_for_nothing() {
    let entries = Scene::new().entries;
    // The same hospital and the same patient, under the same keys: storage takes the entries.
    let other = ContextId([8; 32]);
    let (mut custodian, mut patient) = enrolled(other);
    let consent = Consent::sound(&custodian, 9);
    let (_, granted) = patient
        .call("grant", &consent.grant_arguments())
        .expect("sound");
    custodian.apply(&granted);
    let before = view(&patient, "consents")["consents"].clone();
    for entry in entries {
        let mut moved = entry.clone();
        if let Action::Add { ancestors, .. } = &mut moved {
            // Shard and kind go by the same ids here; above them is the other context.
            ancestors.truncate(2);
        }
        for delta in [Delta(vec![entry]), Delta(vec![moved])] {
            custodian.apply(&delta);
            patient.apply(&delta);
        }
    }
    for replica in [&custodian, &patient] {
        let page = view(replica, "consents");
        assert_eq!(page["consents"], before);
        assert_eq!(page["ignored"], 1);
        assert_eq!(states(replica), ["in_force"]);
        assert_eq!(log_len(replica, HOSPITAL), 0);
        // They did arrive.
        let counts = &view(replica, "circle")["counts"];
        assert_eq!(counts["consents"], 2);
        assert_eq!(counts["revocations"], 1);
        assert_eq!(counts["log"], 1);
    }
    let own = Logged::after(None, other, HOSPITAL, 1);
    custodian
        .call("append_log", &own.arguments())
        .expect("the log begins here");
    assert_eq!(log_len(&custodian, HOSPITAL), 1);
    let (_, revoked) = patient
        .call("revoke", &consent.revoke_arguments())
        .expect("sound");
    custodian.apply(&revoked);
    assert_eq!(states(&custodian), ["revoked"]);
}

#[test]
fn hostile_forged_key_change_as_a_storage_action_changes_no_key() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let forger = custodian.join(66);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient
        .call("grant", &consent.grant_arguments())
        .expect("sound");
    custodian.apply(&granted);
    // The model is a sound change that the patient's node forgets again.
    let arguments = change_key_arguments(CONTEXT, [PATIENT, NEXT], 0, PATIENT);
    let (_, model) = patient
        .join(102)
        .call("change_key", &arguments)
        .expect("sound");
    let model = entry_of(&model);
    let (old_key, new_key) = (public_key(PATIENT), public_key(NEXT));
    let message = rotate_message(CONTEXT, old_key, new_key, RotationNumber(0));
    let mut forged = vec![spoiled(&model, 1)];
    for (tag, signer) in [(2, NEXT), (3, HOSPITAL), (4, RESEARCHER)] {
        let signature = secret_key(signer).sign(message).expect("signable");
        let mut action = spoiled(&model, tag);
        let Action::Add { data, .. } = &mut action else {
            panic!("an entry is added");
        };
        // After the signature come the time and the entry's own id.
        let end = data.len() - 32 - 8;
        data[end - 64..end - 32].copy_from_slice(&signature.r.to_bytes());
        data[end - 32..end].copy_from_slice(&signature.s.to_bytes());
        forged.push(action);
    }
    for action in &forged {
        // Under the forger's own stamp, and in its place under the patient's and under nobody's.
        for delta in forgeries(&forger, action) {
            custodian.apply(&delta);
            patient.apply(&delta);
        }
    }
    let nobodys = stamped(spoiled(&model, 5), &forger, StorageType::Public);
    let nobodys = Delta(vec![nobodys]);
    custodian.apply(&nobodys);
    patient.apply(&nobodys);
    for replica in [&custodian, &patient] {
        let circle = view(replica, "circle");
        assert_eq!(circle["keys"], json!([old_key]));
        assert_eq!(circle["frozen"], false);
        assert_eq!(states(replica), ["in_force"]);
        for action in &forged {
            let key = json!(format!("0x{}", hex::encode(action.id().as_bytes())));
            assert!(!is_valid(replica, "key_change", &key));
        }
    }
    let (written, changed) = patient.call("change_key", &arguments).expect("sound");
    assert_eq!(written["existing"], false);
    custodian.apply(&changed);
    for replica in [&custodian, &patient] {
        assert_eq!(view(replica, "circle")["keys"], json!([old_key, new_key]));
        assert_eq!(states(replica), ["old_key"]);
    }
}

/// No other member undoes a revocation. Whoever wrote it down can: storage lets each writer delete
/// and overwrite its own. Then it does not stand any more, until somebody revokes again, under
/// whose stamp it is out of the first one's reach.
#[test]
fn hostile_unrevoke_by_overwrite_or_delete_holds_until_somebody_revokes_again() {
    for deed in [delete_of as fn(&Action) -> Action, overwrite_of] {
        let (mut custodian, mut patient) = enrolled(CONTEXT);
        let forger = custodian.join(66);
        let consent = Consent::sound(&custodian, 1);
        let (_, granted) = patient
            .call("grant", &consent.grant_arguments())
            .expect("sound");
        custodian.apply(&granted);
        let revoke = consent.revoke_arguments();
        let (_, revoked) = custodian.call("revoke", &revoke).expect("sound");
        patient.apply(&revoked);
        for forged in forgeries(&forger, &deed(&entry_of(&revoked))) {
            custodian.apply(&forged);
            patient.apply(&forged);
        }
        for replica in [&custodian, &patient] {
            assert_eq!(states(replica), ["revoked"]);
        }
        // The custodian takes its own entry back.
        let undone = signed(deed(&entry_of(&revoked)), &custodian);
        custodian.apply(&undone);
        patient.apply(&undone);
        for replica in [&custodian, &patient] {
            assert_eq!(states(replica), ["in_force"]);
        }
        // The patient, who kept it, brings it in again, and there it stays.
        let (again, anew) = patient.call("revoke", &revoke).expect("never kept out");
        assert_eq!(again["existing"], false);
        custodian.apply(&anew);
        let mut more = forgeries(&custodian, &deed(&entry_of(&anew)));
        more.extend([undone, revoked]);
        for delta in &more {
            custodian.apply(delta);
            patient.apply(delta);
        }
        for replica in [&custodian, &patient] {
            assert_eq!(states(replica), ["revoked"]);
            assert!(is_valid(replica, "revocation", &again["key"]));
        }
    }
}

/// Of these names about every second is no point of the curve, and so no key: the runtime stops a
/// call that checks a signature under one.
#[test]
fn hostile_stamp_of_a_key_that_is_none_stops_no_reading() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient
        .call("grant", &consent.grant_arguments())
        .expect("sound");
    custodian.apply(&granted);
    for byte in 0..8 {
        let mut copy = entry_of(&granted);
        let Action::Add {
            id,
            data,
            ancestors,
            metadata,
        } = &mut copy
        else {
            panic!("an entry is added");
        };
        *id = Id::new([0x40 + byte; 32]);
        let end = data.len() - 32;
        data[end..].copy_from_slice(id.as_bytes());
        // The metadata that is kept comes with an ancestor of the entry's own name.
        let mut stamped = metadata.clone();
        stamped.storage_type = StorageType::User {
            owner: [byte; 32].into(),
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
        let delta = Delta(vec![copy]);
        custodian.apply(&delta);
        patient.apply(&delta);
    }
    for replica in [&custodian, &patient] {
        assert_eq!(states(replica), ["in_force"]);
    }
    let (_, revoked) = patient
        .call("revoke", &consent.revoke_arguments())
        .expect("sound");
    custodian.apply(&revoked);
    for replica in [&custodian, &patient] {
        assert_eq!(states(replica), ["revoked"]);
    }
}
