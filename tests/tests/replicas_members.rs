//! Members whom the patient admits, and reward tickets, on replicas: whose word counts.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use medsync_protocol::device::DEVICES_MAX;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContextId, MemberId, Salt, UnixSeconds};
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::{PoolId, Ticket};
use medsync_protocol::tree::Tree;
use medsync_tests::circle::{
    CONTEXT, HOSPITAL, Logged, PATIENT, RECOVERY, admission_arguments, anchorer,
    change_key_arguments, enrolled, exchange, public_key,
};
use medsync_tests::replica::{Replica, refused};
use serde_json::{Value, json};

/// The patient's next key.
const NEXT: u8 = 30;
/// Signs the phone's log entries.
const PHONE_AUTHOR: u8 = 40;

fn admission(member: MemberId, device: u32, signer: u8, author: Option<u8>) -> Value {
    admission_arguments(CONTEXT, member, device, signer, author)
}

/// The members that a replica shows as admitted.
fn admitted(replica: &Replica) -> Vec<Value> {
    let circle = replica.view("circle", &json!({})).unwrap();
    let devices = circle["devices"].as_array().unwrap().clone();
    let counts = devices
        .into_iter()
        .filter(|device| device["admitted"] == true);
    counts
        .map(|device| device["device"]["member"].clone())
        .collect()
}

#[test]
fn an_admitted_member_signs_its_own_log_and_nobody_else_says_its_key() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let mut phone = custodian.join(103);
    let member = phone.member();
    let (_, delta) = patient
        .call("admit", &admission(member, 1, PATIENT, None))
        .unwrap();
    for replica in [&mut custodian, &mut phone] {
        replica.apply(&delta);
        assert_eq!(admitted(replica), [json!(member)]);
    }
    let with_author = admission(member, 1, PATIENT, Some(PHONE_AUTHOR));
    refused(custodian.call("admit", &with_author), "not_the_member");
    let entry = Logged::after(None, CONTEXT, PHONE_AUTHOR, 1);
    refused(
        phone.call("append_log", &entry.arguments()),
        "not_an_author",
    );
    let (_, delta) = phone.call("admit", &with_author).unwrap();
    let (again, _) = phone.call("admit", &with_author).unwrap();
    assert_eq!(again["existing"], true);
    patient.apply(&delta);
    let (_, delta) = phone.call("append_log", &entry.arguments()).unwrap();
    patient.apply(&delta);
    let page = json!({ "author_key": public_key(PHONE_AUTHOR), "from": 0, "limit": 9 });
    let log = patient.view("log_page", &page).unwrap();
    assert_eq!(log["entries"].as_array().unwrap().len(), 1);
    // The key of somebody else's log is taken.
    let stolen = admission(member, 1, PATIENT, Some(HOSPITAL));
    refused(phone.call("admit", &stolen), "malformed");
}

#[test]
fn hostile_relative_that_says_anothers_author_key_first_keeps_it_from_nothing() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let (mut phone, mut aunt) = (custodian.join(103), custodian.join(104));
    let mut admit = |member: &mut Replica, number| {
        let arguments = admission(member.member(), number, PATIENT, None);
        let (_, admitted) = patient.call("admit", &arguments).unwrap();
        member.apply(&admitted);
        let arguments = admission(member.member(), number, PATIENT, Some(PHONE_AUTHOR));
        let (_, says_so) = member.call("admit", &arguments).unwrap();
        patient.apply(&says_so);
        [admitted, says_so]
    };
    // It is not the relative's: it read it on the way, and is first.
    for delta in admit(&mut aunt, (1 << 24) + 1) {
        phone.apply(&delta);
    }
    admit(&mut phone, 1);
    let entry = Logged::after(None, CONTEXT, PHONE_AUTHOR, 1);
    let (_, delta) = phone.call("append_log", &entry.arguments()).unwrap();
    patient.apply(&delta);
    let page = json!({ "author_key": public_key(PHONE_AUTHOR), "from": 0, "limit": 9 });
    let log = patient.view("log_page", &page).unwrap();
    assert_eq!(log["entries"].as_array().unwrap().len(), 1);
    let circle = patient.view("circle", &json!({})).unwrap();
    let devices = circle["devices"].as_array().unwrap().iter();
    let key = json!(public_key(PHONE_AUTHOR));
    let say_so = devices.filter(|device| device["device"]["author_key"] == key);
    assert_eq!(say_so.count(), 2, "whoever reads it sees both");
}

#[test]
fn hostile_admissions_are_refused_and_do_not_count_where_they_are_written() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let phone = custodian.join(103).member();
    let mut renumbered = admission(phone, 1, PATIENT, None);
    renumbered["device"]["device"] = json!(2);
    let mut renamed = admission(phone, 1, HOSPITAL, None);
    renamed["device"]["admitted_by"] = json!(public_key(PATIENT));
    let elsewhere = admission_arguments(ContextId([8; 32]), phone, 1, PATIENT, None);
    for forged in [renumbered, renamed, elsewhere] {
        refused(custodian.call("admit", &forged), "admission_signature");
    }
    refused(
        custodian.call("admit", &admission(phone, 1, HOSPITAL, None)),
        "foreign_key",
    );
    for taken in [patient.member(), custodian.member()] {
        let again = admission(taken, 1, PATIENT, None);
        refused(patient.call("admit", &again), "malformed");
    }
    refused(
        patient.call("admit", &admission(phone, 0, PATIENT, None)),
        "malformed",
    );
    // The patient's own node may write ahead whom its next key admits; until then it is nobody.
    let (_, delta) = patient
        .call("admit", &admission(phone, 1, NEXT, None))
        .unwrap();
    custodian.apply(&delta);
    assert!(admitted(&custodian).is_empty());
    for number in 2..=DEVICES_MAX as u32 + 1 {
        let member = MemberId([number as u8; 32]);
        patient
            .call("admit", &admission(member, number, PATIENT, None))
            .unwrap();
    }
    let one_more = admission(MemberId([99; 32]), 99, PATIENT, None);
    refused(patient.call("admit", &one_more), "too_large");
    let (mut custodian, _) = exchange(CONTEXT);
    let other = admission(phone, 1, PATIENT, None);
    refused(custodian.call("admit", &other), "other_kind");
}

#[test]
fn hostile_thief_that_admitted_somebody_is_overruled_by_the_recovery_key() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let [thief, phone] = [103, 104].map(|seed| custodian.join(seed).member());
    let mut deltas = Vec::new();
    for (member, number) in [(thief, 1), (phone, 2)] {
        deltas.push(
            patient
                .call("admit", &admission(member, number, PATIENT, None))
                .unwrap()
                .1,
        );
    }
    // Written ahead by the next key, so that the phone is never out.
    deltas.push(
        patient
            .call("admit", &admission(phone, 2, NEXT, None))
            .unwrap()
            .1,
    );
    let change = change_key_arguments(CONTEXT, [PATIENT, NEXT], 0, RECOVERY);
    deltas.push(patient.call("change_key", &change).unwrap().1);
    for delta in &deltas {
        custodian.apply(delta);
    }
    for replica in [&custodian, &patient] {
        assert_eq!(admitted(replica), [json!(phone)]);
    }
    refused(
        patient.call("admit", &admission(thief, 1, PATIENT, None)),
        "old_key",
    );
}

#[test]
fn a_change_by_hand_ends_what_the_old_key_admitted_but_for_whom_the_next_one_names() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    let [phone, aunt] = [103, 104].map(|seed| custodian.join(seed).member());
    let mut deltas = Vec::new();
    for (member, number, key) in [
        (phone, 1, PATIENT),
        (aunt, (1 << 24) + 1, PATIENT),
        (phone, 1, NEXT),
    ] {
        let arguments = admission(member, number, key, None);
        deltas.push(patient.call("admit", &arguments).unwrap().1);
    }
    for delta in &deltas {
        custodian.apply(delta);
    }
    assert_eq!(admitted(&custodian).len(), 2);
    let change = change_key_arguments(CONTEXT, [PATIENT, NEXT], 0, PATIENT);
    let (_, delta) = patient.call("change_key", &change).unwrap();
    custodian.apply(&delta);
    for replica in [&custodian, &patient] {
        assert_eq!(admitted(replica), [json!(phone)]);
    }
    refused(
        patient.call("admit", &admission(aunt, (1 << 24) + 1, PATIENT, None)),
        "old_key",
    );
}

#[test]
fn hostile_admissions_that_ended_use_up_no_number_and_no_place() {
    let (custodian, mut patient) = enrolled(CONTEXT);
    let phone = custodian.join(103).member();
    // A thief of the key admits somebody under the phone's number, on a node of its own.
    let mut thief = custodian.join(66);
    let stranger = MemberId([88; 32]);
    let (_, stolen) = thief
        .call("admit", &admission(stranger, 1, PATIENT, None))
        .unwrap();
    patient
        .call("admit", &admission(phone, 1, PATIENT, None))
        .unwrap();
    patient.apply(&stolen);
    for number in 2..DEVICES_MAX as u32 {
        let member = MemberId([number as u8; 32]);
        patient
            .call("admit", &admission(member, number, PATIENT, None))
            .unwrap();
    }
    let one_more = admission(MemberId([99; 32]), 99, PATIENT, None);
    refused(patient.call("admit", &one_more), "too_large");
    // Written ahead the phone keeps its number, and so do as many as there can be.
    patient
        .call("admit", &admission(phone, 1, NEXT, None))
        .unwrap();
    let change = change_key_arguments(CONTEXT, [PATIENT, NEXT], 0, RECOVERY);
    patient.call("change_key", &change).unwrap();
    for number in 2..=DEVICES_MAX as u32 {
        let member = MemberId([100 + number as u8; 32]);
        patient
            .call("admit", &admission(member, number, NEXT, None))
            .unwrap();
    }
    assert_eq!(admitted(&patient).len(), DEVICES_MAX);
    assert!(!admitted(&patient).contains(&json!(stranger)));
}

fn pool() -> Value {
    json!({ "pool": {
        "contract": "0x7001", "funder": "0x7002", "nonce": "0x1", "recipient": "0x9",
        "claim_end": 1_000_000, "label": "asthma",
    } })
}

fn ticket(number: u64) -> Value {
    let ticket = Ticket {
        pool_id: PoolId::from_felt(Felt::from(50)),
        anchorer: anchorer(),
        handle: Handle::from_felt(Felt::from(number)),
        claim_until: UnixSeconds(86_400),
        salt: Salt::from_felt(Felt::from(51)),
    };
    let tree = Tree::build(&[ticket.leaf(), ticket.leaf()]).unwrap();
    let proof = tree.proof(1).unwrap();
    json!({ "ticket": {
        "pool_id": ticket.pool_id, "anchorer": ticket.anchorer, "handle": ticket.handle,
        "claim_until": 86_400, "salt": ticket.salt, "root": tree.root(),
        "index": proof.index, "siblings": proof.siblings,
    } })
}

/// How many entries of a kind count.
fn counting(replica: &Replica, kind: &str) -> usize {
    let page = replica.view("changes", &json!({ "limit": 100 })).unwrap();
    let entries = page["entries"].as_array().unwrap().clone();
    let of_kind = entries.into_iter().filter(|entry| entry["kind"] == kind);
    let counts = of_kind.filter(|entry| {
        let asked = json!({ "kind": kind, "key": entry["key"] });
        replica.view("entry", &asked).unwrap()["valid"] == true
    });
    counts.count()
}

#[test]
fn pools_and_tickets_are_the_custodians_word_and_lead_to_their_root() {
    let (mut custodian, mut patient) = enrolled(CONTEXT);
    for (method, arguments, kind) in [
        ("put_pool", pool(), "pool"),
        ("put_ticket", ticket(3), "ticket"),
    ] {
        refused(patient.call(method, &arguments), "not_the_custodian");
        let (_, delta) = custodian.call(method, &arguments).unwrap();
        let (again, _) = custodian.call(method, &arguments).unwrap();
        assert_eq!(again["existing"], true);
        patient.apply(&delta);
        assert_eq!(counting(&patient, kind), 1);
    }
    let mut stray = ticket(4);
    stray["ticket"]["salt"] = json!("0x1");
    refused(custodian.call("put_ticket", &stray), "not_included");
    let mut others = ticket(4);
    others["ticket"]["anchorer"] = json!("0x1");
    refused(custodian.call("put_ticket", &others), "other_anchorer");
    let mut long = pool();
    long["pool"]["label"] = json!("x".repeat(129));
    refused(custodian.call("put_pool", &long), "too_large");
}
