//! Opening a circle and enrolling in it.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use medsync_protocol::ids::ContextId;
use medsync_tests::circle::{
    CONTEXT, Consent, HOSPITAL, INVITATION, PATIENT, circle_input, enrol_arguments, enrolment, open,
};
use medsync_tests::replica::{Replica, refused};
use serde_json::{Value, json};

fn circle(replica: &Replica) -> Value {
    replica
        .view("circle", &json!({}))
        .expect("the circle is whole")
}

fn consents(replica: &Replica) -> Value {
    replica.view("consents", &json!({})).expect("a page")["consents"].clone()
}

#[test]
fn init_pins_the_circle_and_its_custodian() {
    let custodian = open(CONTEXT);
    let view = circle(&custodian);
    assert_eq!(view["custodian_member"], custodian.member().to_string());
    assert_eq!(view["context"], CONTEXT.to_string());
    assert_eq!(
        view["custodian"],
        serde_json::to_value(circle_input()).unwrap()
    );
    assert_eq!(view["patient"], Value::Null);
    assert_eq!(view["frozen"], false);
}

#[test]
fn init_with_a_wrong_argument_makes_no_circle() {
    let mut input = serde_json::to_value(circle_input()).unwrap();
    input["registry"] = "0x0".into();
    let nobody = Replica::new(101, CONTEXT);
    assert!(
        nobody
            .trap("init", &json!({ "circle": input }))
            .contains("registry: not zero")
    );
    input["registry"] = "0x01".into();
    assert!(
        nobody
            .trap("init", &json!({ "circle": input }))
            .contains("leading zeros")
    );
}

#[test]
fn hostile_second_different_enrolment_freezes_the_circle() {
    let mut custodian = open(CONTEXT);
    let mut patient = custodian.join(102);
    let mut thief = custodian.join(103);
    let mine = enrol_arguments(&enrolment(patient.member(), PATIENT), CONTEXT, INVITATION);
    let theirs = enrol_arguments(&enrolment(thief.member(), HOSPITAL), CONTEXT, INVITATION);
    let (_, first) = patient.call("enrol", &mine).unwrap();
    let consent = Consent::sound(&custodian, 1);
    let (_, granted) = patient.call("grant", &consent.grant_arguments()).unwrap();
    // The thief does not know of the first one yet.
    let (_, second) = thief.call("enrol", &theirs).unwrap();
    custodian.apply(&first);
    custodian.apply(&granted);
    assert_eq!(consents(&custodian)[0]["state"], "in_force");
    custodian.apply(&second);
    patient.apply(&second);
    assert_eq!(custodian.root_hash, patient.root_hash);
    for replica in [&custodian, &patient] {
        let view = circle(replica);
        assert_eq!(view["frozen"], true);
        assert_eq!(view["patient"], Value::Null);
        assert_eq!(view["enrolments"].as_array().unwrap().len(), 2);
        assert_eq!(consents(replica)[0]["state"], "frozen");
    }
    let other = Consent::sound(&custodian, 2);
    refused(patient.call("grant", &other.grant_arguments()), "frozen");
    // Revoking still works in a frozen circle, and still wins.
    patient.call("revoke", &consent.revoke_arguments()).unwrap();
    assert_eq!(consents(&patient)[0]["state"], "revoked");
}

#[test]
fn hostile_enrolment_that_does_not_fit_is_refused() {
    let mut custodian = open(CONTEXT);
    let mut patient = custodian.join(102);
    let mine = enrolment(patient.member(), PATIENT);
    let other_context = ContextId([8; 32]);
    let foreign = enrol_arguments(&mine, CONTEXT, HOSPITAL);
    refused(patient.call("enrol", &foreign), "enrolment_signature");
    let elsewhere = enrol_arguments(&mine, other_context, INVITATION);
    refused(patient.call("enrol", &elsewhere), "enrolment_signature");
    let own = enrol_arguments(&enrolment(custodian.member(), PATIENT), CONTEXT, INVITATION);
    refused(custodian.call("enrol", &own), "custodian_enrols");
    refused(
        custodian.call("enrol", &enrol_arguments(&mine, CONTEXT, INVITATION)),
        "not_the_member",
    );
    let mut altered = enrol_arguments(&mine, CONTEXT, INVITATION);
    altered["enrolment"]["login_key"] = altered["enrolment"]["party_key"].clone();
    refused(patient.call("enrol", &altered), "enrolment_signature");
    let consent = Consent::sound(&custodian, 1);
    refused(
        patient.call("grant", &consent.grant_arguments()),
        "not_enrolled",
    );
    patient
        .call("enrol", &enrol_arguments(&mine, CONTEXT, INVITATION))
        .unwrap();
    let second = enrol_arguments(&enrolment(patient.member(), HOSPITAL), CONTEXT, INVITATION);
    // Whoever finds the invitation used freezes the circle, and nobody un-freezes it.
    patient.call("enrol", &second).unwrap();
    assert_eq!(circle(&patient)["frozen"], true);
    let third = enrol_arguments(&enrolment(patient.member(), 30), CONTEXT, INVITATION);
    refused(patient.call("enrol", &third), "frozen");
}
