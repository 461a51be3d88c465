//! Entries in the place of others', and copies that stand for others'.

use medsync_app::layout::Kind;
use medsync_app::limits::SHARD_LEN_MAX;
use medsync_protocol::ids::{Sha256Digest, to_base64};
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_tests::circle::{
    CONTEXT, Consent, Logged, PATIENT, PATIENT_AUTHOR, change_key_arguments, enrolled, public_key,
};
use medsync_tests::replica::{Replica, refused};
use serde_json::{Value, json};

use super::{
    NEXT, delete_of, entry_of, is_valid, log_len, overwrite_of, signed, spoiled, states, view,
};

/// What honest members write, in this order, with the kind of its entry.
fn calls(consent: &Consent) -> [(&'static str, &'static str, Value); 4] {
    let change = change_key_arguments(CONTEXT, [PATIENT, NEXT], 0, PATIENT);
    let entry = Logged::after(None, CONTEXT, PATIENT_AUTHOR, 1);
    [
        ("grant", "consent", consent.grant_arguments()),
        ("revoke", "revocation", consent.revoke_arguments()),
        ("append_log", "log", entry.arguments()),
        ("change_key", "key_change", change),
    ]
}

/// Each of [`calls`] has its effect, once it was made.
fn check_effect(replica: &Replica, method: &str) {
    let state = if method == "grant" {
        "in_force"
    } else {
        "revoked"
    };
    assert_eq!(states(replica), [state], "{method}");
    let has_entry = ["append_log", "change_key"].contains(&method);
    let entries = log_len(replica, PATIENT_AUTHOR);
    assert_eq!(entries, usize::from(has_entry), "{method}");
    let keys = view(replica, "circle")["keys"].clone();
    let key = if method == "change_key" {
        NEXT
    } else {
        PATIENT
    };
    let keys = keys.as_array().expect("a list");
    assert_eq!(keys.last(), Some(&json!(public_key(key))), "{method}");
}

#[test]
fn hostile_occupation_of_the_place_of_a_foreseen_entry_keeps_nothing_out() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let forger = custodian.join(66);
    let consent = Consent::sound(&custodian, 1);
    for (method, _, arguments) in calls(&consent) {
        let before = states(&patient);
        // What the entry will say is known, its id is not: these stand where it belongs.
        let (_, model) = patient.join(67).call(method, &arguments).expect("sound");
        for tag in 0..8 {
            let planted = signed(spoiled(&entry_of(&model), tag), &forger);
            custodian.apply(&planted);
            patient.apply(&planted);
        }
        // What was planted counts as nothing, a revocation's place too.
        for replica in [&custodian, &patient] {
            assert_eq!(states(replica), before, "{method}");
        }
        let (written, honest) = patient.call(method, &arguments).expect("there is room");
        assert_eq!(written["existing"], false, "{method}");
        custodian.apply(&honest);
        for replica in [&custodian, &patient] {
            check_effect(replica, method);
        }
    }
}

/// Whoever hears of an entry first can be faster to a node that has not heard of it yet: storage
/// keeps to the stamp that came first.
#[test]
fn hostile_occupation_of_the_place_of_an_entry_on_its_way_ends_with_the_next_call() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let forger = custodian.join(66);
    let consent = Consent::sound(&custodian, 1);
    for (method, kind, arguments) in calls(&consent) {
        let (written, honest) = patient.call(method, &arguments).expect("sound");
        let planted = signed(overwrite_of(&entry_of(&honest)), &forger);
        custodian.apply(&planted);
        custodian.apply(&honest);
        // Where the entry was first, it stays.
        patient.apply(&planted);
        assert!(is_valid(&patient, kind, &written["key"]), "{method}");
        check_effect(&patient, method);
        // Where it was not, it is kept out, and the place holds nothing that counts.
        assert!(!is_valid(&custodian, kind, &written["key"]), "{method}");
        // Who granted or revoked writes it down once more, as long as it has no place in a batch
        // or the chain does not have it; who changed a key, for a while.
        if ["grant", "revoke", "change_key"].contains(&method) {
            let mut copied = arguments.clone();
            copied["copies"] = json!(2);
            for existing in [false, true] {
                let (copy, delta) = patient.call(method, &copied).expect("there is room");
                assert_eq!(copy["existing"], existing, "{method}");
                custodian.apply(&delta);
            }
            check_effect(&custodian, method);
            continue;
        }
        // Whoever brings it in again there needs no such place.
        let (again, anew) = custodian.call(method, &arguments).expect("there is room");
        assert_eq!(again["existing"], false, "{method}");
        assert_ne!(again["key"], written["key"], "{method}");
        patient.apply(&anew);
        for replica in [&custodian, &patient] {
            check_effect(replica, method);
        }
    }
}

/// Others' copies may be shown to this node alone, and be kept from the one that they should reach.
#[test]
fn hostile_copies_by_others_stand_for_none_of_ones_own() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    for (method, kind, arguments) in calls(&consent) {
        if method == "append_log" {
            continue;
        }
        let mut forger = patient.join(66);
        for copies in 1..=4 {
            let mut copied = arguments.clone();
            copied["copies"] = json!(copies);
            let (_, delta) = forger.call(method, &copied).expect("there is room");
            patient.apply(&delta);
        }
        let (_, existing) = called(&mut patient, method, &arguments, 1);
        assert!(existing, "{method}: one of anybody's is there");
        for expected in [false, false, true] {
            let (key, existing) = called(&mut patient, method, &arguments, 2);
            assert_eq!(existing, expected, "{method}");
            // Of the copies of a consent one is shown, the one that is there already.
            let is_shown = kind != "consent" || existing;
            assert!(!is_shown || is_valid(&patient, kind, &key), "{method}");
        }
    }
    // Of each copy that is not shown a reader is told which consent it is.
    let walked = patient
        .view("changes", &json!({ "limit": 100 }))
        .expect("a page");
    let entries = walked["entries"].as_array().expect("entries").iter();
    let consents = entries.filter(|entry| entry["kind"] == "consent");
    let views = consents.map(|entry| {
        let asked = json!({ "kind": "consent", "key": entry["key"] });
        patient.view("entry", &asked).expect("an answer")
    });
    let (shown, copies): (Vec<Value>, Vec<Value>) = views.partition(|view| view["valid"] == true);
    assert_eq!((shown.len(), copies.len()), (1, 5));
    for copy in copies {
        assert_eq!(copy["copy_of"], consent.name().as_str());
        assert_eq!(copy["consent"], json!(null));
    }
}

fn called(replica: &mut Replica, method: &str, arguments: &Value, copies: u32) -> (Value, bool) {
    let mut arguments = arguments.clone();
    arguments["copies"] = json!(copies);
    let (written, _) = replica.call(method, &arguments).expect("there is room");
    (written["key"].clone(), written["existing"] == true)
}

/// Parts of payloads alone have places that follow from their content. Whoever got hold of one can
/// be first there, and take it away later.
#[test]
fn hostile_member_in_the_place_of_a_part_is_not_taken_for_the_custodian() {
    let sealed = b"sealed";
    let part = json!({ "part": to_base64(sealed) });
    for is_deleted in [false, true] {
        let (mut custodian, _) = enrolled(CONTEXT);
        let forger = custodian.join(66);
        // The model is what the custodian would write.
        let (_, model) = custodian.join(101).call("put_part", &part).expect("sound");
        let planted = entry_of(&model);
        custodian.apply(&signed(planted.clone(), &forger));
        if is_deleted {
            custodian.apply(&signed(delete_of(&planted), &forger));
        }
        let name = json!({ "digest": Sha256Digest::of(sealed) });
        let shown = custodian.view("part", &name).expect("an answer");
        assert_eq!(shown["payload"].is_null(), is_deleted);
        refused(custodian.call("put_part", &part), "taken");
        // Under another key it has another place, which is the custodian's.
        let anew = json!({ "part": to_base64(b"sealed anew") });
        for existing in [false, true] {
            let (written, _) = custodian.call("put_part", &anew).expect("there is room");
            assert_eq!(written["existing"], existing);
        }
    }
}

/// What a member has yet to say finds a place, however often it was asked to write down again what
/// it has said.
#[test]
fn copies_take_up_no_more_than_half_of_a_members_room() {
    let (_, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&patient, 1);
    let own = consent.revoke_arguments();
    let claim_key = consent.signed.secrets.claim_key.public_key();
    let is_beside = |secret: &RevocationSecret| {
        let handle = Handle::of(secret.hash(), claim_key);
        let shard = |handle: Handle| Kind::Revocations.shard_of(&handle.to_bytes());
        shard(handle) == shard(consent.signed.opening.handle)
    };
    let secrets = (1_u64..).map(|number| RevocationSecret::parse(&format!("{number:#x}")));
    let mut beside = secrets
        .map(|secret| secret.expect("a felt"))
        .filter(is_beside);
    let mut arguments = |copies: u32| {
        let secret = beside.next().expect("no end").reveal_text();
        json!({ "secret": secret, "claim_key": own["claim_key"], "copies": copies })
    };
    let once = |patient: &mut Replica, arguments: &Value| patient.call("revoke", arguments);
    once(&mut patient, &own).expect("there is room");
    for _ in 1..SHARD_LEN_MAX / 2 {
        once(&mut patient, &arguments(1)).expect("there is room");
    }
    let mut again = own.clone();
    again["copies"] = json!(2);
    refused(once(&mut patient, &again), "full");
    for _ in SHARD_LEN_MAX / 2..SHARD_LEN_MAX {
        once(&mut patient, &arguments(2)).expect("there is room for what is new");
    }
    refused(once(&mut patient, &arguments(1)), "full");
}
