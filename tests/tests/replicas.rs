//! The circle on two and three replicas: enrolling, granting, revoking, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use medsync_protocol::ids::{ContextId, MemberId};
use medsync_protocol::terms::Terms;
use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, INVITATION, PATIENT, Plan, enrol_arguments, enrolled, enrolment,
    registry, secret_key, terms,
};
use medsync_tests::replica::{Replica, refused};
use serde_json::{Value, json};

fn consents(replica: &Replica) -> Vec<Value> {
    let page = replica.view("consents", &json!({})).expect("a page");
    assert_eq!(page["next"], Value::Null);
    page["consents"].as_array().expect("a list").clone()
}

fn states(replica: &Replica) -> Vec<String> {
    let mut states: Vec<String> = consents(replica)
        .iter()
        .map(|c| {
            format!(
                "{} {}",
                c["commitment"].as_str().unwrap(),
                c["state"].as_str().unwrap()
            )
        })
        .collect();
    states.sort();
    states
}

fn circle(replica: &Replica) -> Value {
    replica
        .view("circle", &json!({}))
        .expect("the circle is whole")
}

#[test]
fn a_consent_is_granted_and_seen_by_everybody() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (answer, delta) = patient.call("grant", &consent.grant_arguments()).unwrap();
    assert_eq!(answer["commitment"], consent.name());
    assert_eq!(answer["existing"], false);
    custodian.apply(&delta);
    assert_eq!(patient.root_hash, custodian.root_hash);
    assert_eq!(consents(&custodian), consents(&patient));
    let shown = &consents(&custodian)[0];
    assert_eq!(shown["state"], "in_force");
    assert_eq!(shown["key"], answer["key"]);
    let arguments = consent.grant_arguments();
    for part in ["terms", "opening", "signature"] {
        assert_eq!(shown[part], arguments[part]);
    }
}

#[test]
fn the_same_again_is_done_already() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    for (method, arguments) in [
        ("grant", consent.grant_arguments()),
        ("revoke", consent.revoke_arguments()),
    ] {
        let (first, _) = patient.call(method, &arguments).unwrap();
        let (again, _) = patient.call(method, &arguments).unwrap();
        assert_eq!(
            (&first["existing"], &again["existing"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(first["key"], again["key"]);
    }
    let enrol = enrol_arguments(&enrolment(patient.member(), PATIENT), CONTEXT, INVITATION);
    assert_eq!(patient.call("enrol", &enrol).unwrap().0["existing"], true);
    assert_eq!(circle(&patient)["counts"]["consents"], 1);
}

#[test]
fn a_revocation_wins_though_it_arrives_first() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    let (_, revoked) = patient.call("revoke", &consent.revoke_arguments()).unwrap();
    custodian.apply(&revoked);
    custodian.apply(&granted);
    assert_eq!(consents(&custodian)[0]["state"], "revoked");
    assert_eq!(custodian.root_hash, patient.root_hash);
    // There is no way back: the consent's name is taken, and its handle is spent.
    let (again, _) = custodian.call("grant", &consent.grant_arguments()).unwrap();
    assert_eq!(again["existing"], true);
    assert_eq!(consents(&custodian)[0]["state"], "revoked");
}

#[test]
fn a_handle_that_was_revoked_before_any_grant_is_spent() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, delta) = custodian
        .call("revoke", &consent.revoke_arguments())
        .unwrap();
    patient.apply(&delta);
    refused(
        patient.call("grant", &consent.grant_arguments()),
        "handle_revoked",
    );
}

/// One thing wrong with the terms.
fn with(custodian: &Replica, change: impl Fn(&mut Terms)) -> Value {
    let mut terms = terms(custodian.member(), CONTEXT, 1);
    change(&mut terms);
    Plan::sound(1).sign(&terms).grant_arguments()
}

#[test]
fn hostile_grant_that_is_not_the_patients_is_refused() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let right = terms(custodian.member(), CONTEXT, 1);
    // The hospital signs under its own key, and then under the patient's name.
    let hospital = Plan {
        signer: HOSPITAL,
        ..Plan::sound(1)
    }
    .sign(&right)
    .grant_arguments();
    refused(patient.call("grant", &hospital), "foreign_key");
    let mut posing = Plan::sound(1).sign(&right).grant_arguments();
    posing["signature"] = hospital["signature"].clone();
    refused(patient.call("grant", &posing), "grant_signature");
    // A sound signature of the patient over another consent.
    let mut other = Plan::sound(2).sign(&right).grant_arguments();
    other["signature"] = Plan::sound(1).sign(&right).grant_arguments()["signature"].clone();
    refused(patient.call("grant", &other), "grant_signature");
}

#[test]
fn a_grant_whose_parts_do_not_match_is_refused() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let sound = with(&custodian, |_| {});
    let mut swapped = sound.clone();
    swapped["terms"] = with(&custodian, |t| t.policy_uri.push('x'))["terms"].clone();
    refused(patient.call("grant", &swapped), "grant_signature");
    let context = with(&custodian, |t| t.context = ContextId([8; 32]));
    refused(patient.call("grant", &context), "other_context");
    let member = with(&custodian, |t| t.custodian_member = MemberId([8; 32]));
    refused(patient.call("grant", &member), "other_custodian");
    let anchorer = with(&custodian, |t| t.custodian_address.0[31] ^= 1);
    refused(patient.call("grant", &anchorer), "other_anchorer");
    for (field, value, error) in [
        ("grantee", json!("0x0"), "opening"),
        ("not_after", json!(1), "opening"),
        ("handle", json!("0x07"), "malformed"),
        ("salt", json!("7"), "malformed"),
        ("not_before", json!(2), "grant_signature"),
        ("salt", json!("0x7"), "grant_signature"),
    ] {
        let mut altered = sound.clone();
        altered["opening"][field] = value;
        refused(patient.call("grant", &altered), error);
    }
    for (terms, error) in [
        ("", "terms"),
        ("!", "malformed"),
        ("AQ==", "terms"),
        ("Ag==", "terms"),
    ] {
        let mut altered = sound.clone();
        altered["terms"] = terms.into();
        refused(patient.call("grant", &altered), error);
    }
    let mut long = sound.clone();
    long["terms"] = "A".repeat(22_000).into();
    refused(patient.call("grant", &long), "too_large");
    patient.call("grant", &sound).expect("the sound one passes");
}

#[test]
fn an_expired_grant_is_refused_and_a_future_one_waits() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let right = terms(custodian.member(), CONTEXT, 1);
    let over = Plan {
        not_after: 1_000,
        ..Plan::sound(1)
    }
    .sign(&right)
    .grant_arguments();
    refused(patient.call("grant", &over), "already_over");
    let later = Plan {
        not_before: u64::MAX / 4,
        ..Plan::sound(2)
    }
    .sign(&right);
    patient.call("grant", &later.grant_arguments()).unwrap();
    assert_eq!(consents(&patient)[0]["state"], "not_yet");
}

#[test]
fn a_handle_names_one_consent() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let first = Consent::sound(&custodian, 1);
    patient.call("grant", &first.grant_arguments()).unwrap();
    // The same secrets under other terms.
    let again = Plan::sound(1).sign(&terms(custodian.member(), CONTEXT, 2));
    refused(
        patient.call("grant", &again.grant_arguments()),
        "handle_used",
    );
}

#[test]
fn hostile_crafted_signature_of_the_vectors_is_an_ordinary_refusal() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let file = concat!(env!("MEDSYNC_ROOT"), "/tests/vectors/protocol-v1.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut tried = 0;
    for bad in vectors["bad_signature"].as_array().unwrap() {
        let sound = Consent::sound(&custodian, 1);
        let mut grant = sound.grant_arguments();
        grant["signature"] = json!({ "r": bad["r"], "s": bad["s"] });
        let answer = patient.call("grant", &grant);
        assert!(matches!(
            answer
                .map(|_| ())
                .map_err(|refused| refused.error)
                .as_ref()
                .map_err(String::as_str),
            Err("grant_signature" | "malformed")
        ));
        // And the whole crafted triple in the place of an enrolment's.
        let mut enrol = enrol_arguments(&enrolment(patient.member(), PATIENT), CONTEXT, INVITATION);
        enrol["signature"] = grant["signature"].clone();
        assert!(patient.call("enrol", &enrol).is_err());
        tried += 1;
    }
    assert!(tried > 3);
    assert!(consents(&patient).is_empty());
}

/// With r = -message / secret the sum of the equation is the point at infinity, whatever s is.
/// Older verifiers panic on it.
#[test]
fn hostile_signature_that_sums_to_infinity_is_an_ordinary_refusal() {
    use starknet_types_core::felt::{Felt, NonZeroFelt};
    let order = NonZeroFelt::from_felt_unchecked(Felt::from_hex_unchecked(
        "0x800000000000010ffffffffffffffffb781126dcae7b2321e66a241adc64d2f",
    ));
    let (custodian, mut patient) = enrolled(CONTEXT);
    let secret = secret_key(PATIENT).reveal().mod_inverse(&order).unwrap();
    for number in 1..9 {
        let consent = Consent::sound(&custodian, number);
        let message = consent.signed.commitment.grant_message(registry()).felt();
        let r = Felt::from(order) - message.mul_mod(&secret, &order);
        for s in ["0x1", "0x2", "0x7"] {
            let mut grant = consent.grant_arguments();
            grant["signature"] = json!({ "r": format!("{r:#x}"), "s": s });
            refused(patient.call("grant", &grant), "grant_signature");
        }
    }
    for zero in ["r", "s"] {
        let mut grant = Consent::sound(&custodian, 1).grant_arguments();
        grant["signature"][zero] = "0x0".into();
        refused(patient.call("grant", &grant), "grant_signature");
    }
}

#[test]
fn hostile_revocation_that_does_not_open_the_handle_is_refused_or_counts_for_nothing() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let (mine, other) = (Consent::sound(&custodian, 1), Consent::sound(&custodian, 2));
    patient.call("grant", &mine.grant_arguments()).unwrap();
    let mut wrong = mine.revoke_arguments();
    wrong["secret"] = other.revoke_arguments()["secret"].clone();
    refused(patient.call("revoke", &wrong), "does_not_open");
    // Without a handle to compare it opens some handle, and nothing goes by that one.
    wrong["handle"] = Value::Null;
    patient.call("revoke", &wrong).unwrap();
    assert_eq!(consents(&patient)[0]["state"], "in_force");
    for field in ["secret", "claim_key", "handle"] {
        let mut malformed = mine.revoke_arguments();
        malformed[field] = "0x00".into();
        let answer = patient.call("revoke", &malformed);
        let message = answer.map(|_| ()).unwrap_err().message;
        assert!(!message.contains(&mine.signed.secrets.secret.reveal_text()));
    }
}

#[test]
fn anybody_who_can_open_a_handle_revokes() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    custodian.apply(&granted);
    let (_, revoked) = custodian
        .call("revoke", &consent.revoke_arguments())
        .unwrap();
    patient.apply(&revoked);
    assert_eq!(states(&patient), [format!("{} revoked", consent.name())]);
    assert_eq!(states(&custodian), states(&patient));
}
