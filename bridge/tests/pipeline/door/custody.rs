//! What a hospital's people do over the API, and what is brought that others signed.

use std::sync::Arc;
use std::time::Duration;

use medsync::access::{BROUGHT_ENTRIES_MAX, brought_fact};
use medsync::api::{Api, Bounds};
use medsync::invitation::Invitation;
use medsync::pipeline::ingest::ingest_all;
use medsync::store::StoreError;
use medsync_client::wire::{
    ExpectedRecipient, Import, ImportState, Imported, LoginAs, NewCircle, NewErasure,
    NewInvitation, NewLogEntry, NewPool,
};
use medsync_client::{Client, ClientError};
use medsync_protocol::audit::{Body, RecordRef, Seq};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContextId, ContractAddress, MemberId, RecordId};
use medsync_protocol::signature::{PublicKey, SecretKey};
use medsync_protocol::ticket::PoolNonce;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::super::access::hostile::{said_by, said_elsewhere};
use super::super::access::researcher;
use super::super::circle::{CONTEXT, CUSTODIAN, FakeCircle, FakeCircles, enrolled};
use super::super::custodian::{FakeGroups, OPENED, custodian};
use super::super::faults::Fault;
use super::super::tickets::pool;
use super::super::{World, patient, world};
use super::{BOUNDS, Door, staff};

/// A hospital with one circle, and its door.
async fn hospital() -> (World, FakeGroups, Door) {
    let mut world = world(Vec::new()).await;
    open_circles(&mut world);
    let groups = FakeGroups::default();
    let door = Door::of_hospital(&world, &groups).await;
    (world, groups, door)
}

/// What is opened there is empty.
fn open_circles(world: &mut World) {
    let opened = |number| {
        let context = ContextId([number; 32]);
        let circle = FakeCircle::new(context, world.faults.clone(), patient().public_key());
        circle.enrol_nobody();
        circle
    };
    let circles = [world.circle.clone()].into_iter();
    let circles = circles.chain((OPENED..OPENED + 4).map(opened));
    world.pipeline.circles = Arc::new(FakeCircles(circles.collect()));
}

async fn works_here(door: &Door) -> Client {
    door.logged_in(LoginAs::staff("ward"), &staff()).await
}

fn circle(label: &str) -> NewCircle {
    NewCircle {
        label: label.into(),
        hours: 72,
        recipient: None,
    }
}

fn exchange_with(key: PublicKey) -> NewCircle {
    NewCircle {
        recipient: Some(key),
        ..circle("a study")
    }
}

/// Why something was refused, and how.
fn refused<T>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer.err() {
        Some(ClientError::Problem(problem)) => (problem.status, problem.detail),
        Some(error) => panic!("{error}"),
        None => panic!("it was not refused"),
    }
}

fn bundle(count: usize, padding: usize) -> Vec<u8> {
    let resource = |number: usize| {
        let text = "x".repeat(padding);
        json!({ "resource": {
            "resourceType": "Observation", "id": number.to_string(), "status": "final",
            "note": [{ "text": text }],
        }})
    };
    let mut entries: Vec<Value> = (0..count).map(resource).collect();
    entries.push(json!({ "resource": { "id": "of no type" } }));
    let bundle = json!({ "resourceType": "Bundle", "type": "collection", "entry": entries });
    bundle.to_string().into_bytes()
}

/// The whole report of an import, once it is over.
async fn over(client: &Client, began: &Import) -> Import {
    for _ in 0..1_000 {
        let report = client.import_report(CONTEXT, &began.import, None).await;
        let report = report.expect("it is remembered");
        if report.state != ImportState::Running {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it goes on and on");
}

#[tokio::test]
async fn a_circle_is_opened_with_its_invitation_which_is_the_same_until_it_was_used() {
    let (world, groups, door) = hospital().await;
    let client = works_here(&door).await;
    let opened = client.open(&circle("bed 7")).await.expect("open");
    assert_eq!(opened.context, ContextId([OPENED; 32]));
    let row = world.pipeline.store.circle(opened.context).await;
    let row = row.expect("it is entered");
    assert_eq!((row.label.as_str(), row.member), ("bed 7", CUSTODIAN));
    let file = Invitation::of_text(&opened.invitation.to_string()).expect("an invitation");
    assert_eq!(file.says.context, opened.context);
    assert!(
        !format!("{opened:?}").contains("one_time"),
        "it is not logged"
    );
    let hours = NewInvitation { hours: 1 };
    let again = client.invite(opened.context, hours).await.expect("again");
    assert_eq!(again, opened);
    assert!(file.one_time_key().is_ok());
    // Whoever comes after the patient is let in by another, which enrols nobody.
    let enrolled = enrolled(patient().public_key()).enrolment;
    let store = &world.pipeline.store;
    let pinned = store.pin_party(opened.context, &enrolled, enrolled.party_key);
    pinned.await.expect("the patient is known");
    let later = client.invite(opened.context, hours).await.expect("another");
    let later = Invitation::of_text(&later.invitation.to_string()).expect("an invitation");
    assert!(later.one_time_key().is_err());
    // This home has the circle of the test without an invitation.
    assert_eq!(refused(client.invite(CONTEXT, hours).await).0, 409);
    let second = client.open(&circle("bed 8")).await.expect("open");
    assert_eq!(groups.made(), (1, 2, 3), "one namespace");
    assert_ne!(second.context, opened.context);
}

#[tokio::test]
async fn a_circle_whose_row_is_not_written_is_not_there_and_one_that_was_is() {
    for (fault, is_there) in [(Fault::Failed, 0), (Fault::FailedButTookEffect, 1)] {
        let mut world = world(Vec::new()).await;
        // From here on its store's writes go wrong as planned.
        world.restart().await;
        open_circles(&mut world);
        let door = Door::of_hospital(&world, &FakeGroups::default()).await;
        let client = works_here(&door).await;
        client.open(&circle("bed 6")).await.expect("open");
        world.faults.plan_next_write(fault);
        assert_eq!(refused(client.open(&circle("bed 7")).await).0, 503);
        let kept = world.pipeline.store.circles().await.expect("the store");
        assert_eq!(kept.len(), 2 + is_there, "{fault:?}");
        // Whoever was not answered finds it, with its invitation.
        for row in kept.iter().filter(|row| row.context != CONTEXT) {
            let again = client.invite(row.context, NewInvitation { hours: 1 });
            assert_eq!(again.await.expect("an invitation").context, row.context);
        }
        client.open(&circle("bed 7")).await.expect("open");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_words_before_anything_is_done() {
    let (world, groups, door) = hospital().await;
    let client = works_here(&door).await;
    let operator = door.client().with_token(&door.token());
    for (new, words) in [
        (circle(""), "a label"),
        (circle(&"x".repeat(129)), "a label"),
        (
            NewCircle {
                hours: 0,
                ..circle("a")
            },
            "hours",
        ),
        (
            NewCircle {
                hours: 721,
                ..circle("a")
            },
            "hours",
        ),
    ] {
        let (status, why) = refused(client.open(&new).await);
        assert!(status == 400 && why.contains(words), "{status}: {why}");
    }
    let key = researcher().public_key();
    let exchange = client.open(&exchange_with(key)).await.expect("open");
    let (status, why) = refused(client.open(&exchange_with(key)).await);
    assert!(
        status == 409 && why.contains("is the exchange with"),
        "{why}"
    );
    let expected = ExpectedRecipient { key };
    let same = operator.expect_recipient(exchange.context, expected);
    same.await.expect("it is for this key already");
    let made = groups.made();
    groups.is_down(true);
    assert_eq!(refused(client.open(&circle("bed 7")).await).0, 503);
    assert_eq!(world.pipeline.store.circles().await.expect("rows").len(), 2);
    groups.is_down(false);
    assert_eq!(groups.made(), made);
    let erasures = [(None, false), (Some(RecordId([1; 32])), true)];
    for (record, all) in erasures {
        let nothing = operator.erase(CONTEXT, &NewErasure { record, all }).await;
        assert_eq!(refused(nothing).0, 400);
    }
    let pool = pool();
    let asked = NewPool {
        contract: pool.contract,
        funder: ContractAddress::from_felt(Felt::ONE),
        nonce: PoolNonce::from_felt(Felt::ONE),
        recipient: pool.recipient,
        quota: Some(0),
        label: "thanks".into(),
    };
    assert_eq!(refused(operator.add_pool(&asked).await).0, 400);
}

#[tokio::test]
async fn a_stranger_is_removed_and_the_patient_only_if_they_left() {
    let (world, groups, door) = hospital().await;
    world.circle.add_enrolment(patient().public_key());
    ingest_all(&world.pipeline).await.expect("read");
    let client = door.client().with_token(&door.token());
    let row = world.pipeline.store.circle(CONTEXT).await.expect("a row");
    let enrolled = row.patient_member.expect("the patient");
    let stranger = MemberId([0x55; 32]);
    assert_eq!(
        refused(client.remove(CONTEXT, CUSTODIAN, true).await).0,
        400
    );
    assert_eq!(
        refused(client.remove(CONTEXT, enrolled, false).await).0,
        409
    );
    client.remove(CONTEXT, stranger, false).await.expect("out");
    client.remove(CONTEXT, enrolled, true).await.expect("out");
    assert_eq!(groups.removed(), [stranger, enrolled]);
    let staffs = works_here(&door).await;
    assert_eq!(
        refused(staffs.remove(CONTEXT, stranger, false).await).0,
        403
    );
}

#[tokio::test]
async fn a_bundle_is_imported_with_a_report_of_each_resource_and_once() {
    let (world, _groups, door) = hospital().await;
    world.circle.add_enrolment(patient().public_key());
    let client = works_here(&door).await;
    // Longer than any other body may be.
    let bytes = bundle(3, 40 * 1024);
    assert!(bytes.len() > 64 * 1024);
    for expected in [Imported::Written, Imported::Unchanged] {
        let began = client.import(CONTEXT, bytes.clone(), false).await;
        let report = over(&client, &began.expect("it goes on")).await;
        assert_eq!(
            (report.state, report.done, report.total),
            (ImportState::Done, 4, 4)
        );
        let (refused, others): (Vec<_>, Vec<_>) = report
            .lines
            .iter()
            .map(|line| &line.outcome)
            .partition(|outcome| matches!(outcome, Imported::Refused(_)));
        assert_eq!(refused.len(), 1, "one has no type");
        assert!(
            others.iter().all(|outcome| **outcome == expected),
            "{others:?}"
        );
    }
    assert_eq!(world.circle.all_records().len(), 3);
    let record = world.circle.all_records()[0].record;
    let sealed = client.record(CONTEXT, record, None).await.expect("it");
    assert!(sealed.payload.is_some() && sealed.record.record == record);
    let absent = client.record(CONTEXT, RecordId([9; 32]), None).await;
    assert_eq!(refused(absent).0, 404);
    let operator = door.client().with_token(&door.token());
    let erasure = NewErasure {
        record: Some(record),
        all: false,
    };
    let erased = operator.erase(CONTEXT, &erasure).await.expect("erased");
    assert_eq!((erased.keys_destroyed, erased.logged), (1, 1));
    let again = operator.erase(CONTEXT, &erasure).await.expect("the same");
    assert_eq!((again.keys_destroyed, again.logged), (0, 0));
    let unknown = NewErasure {
        record: Some(RecordId([9; 32])),
        all: false,
    };
    assert_eq!(refused(operator.erase(CONTEXT, &unknown).await).0, 404);
    // Who may not erase does not say either that nothing was erased.
    let back = client.import(CONTEXT, bytes, true).await;
    assert_eq!(refused(back).0, 403);
}

#[tokio::test]
async fn what_is_no_bundle_and_whose_it_is_not_is_refused() {
    let (world, _groups, door) = hospital().await;
    let client = works_here(&door).await;
    let (status, why) = refused(client.import(CONTEXT, b"{}".to_vec(), false).await);
    assert!(status == 400 && why.contains("Bundle"), "{status}: {why}");
    assert_eq!(
        refused(client.import_report(CONTEXT, "0", None).await).0,
        404
    );
    world.circle.add_enrolment(patient().public_key());
    ingest_all(&world.pipeline).await.expect("read");
    let patients = door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await;
    assert_eq!(
        refused(patients.import(CONTEXT, bundle(1, 0), false).await).0,
        403
    );
    // Nobody else's large body is heard.
    let large = patients.import(CONTEXT, bundle(1, 70 * 1024), false).await;
    assert_eq!(refused(large).0, 413);
    assert!(world.circle.all_records().is_empty());
}

/// The node fails in the middle: what was looked at is said, and the same bundle goes on there.
#[tokio::test]
async fn an_import_that_fails_says_how_far_it_came_and_goes_on_when_it_is_begun_again() {
    let (world, _groups, door) = hospital().await;
    world.circle.add_enrolment(patient().public_key());
    let client = works_here(&door).await;
    for fault in [Fault::Failed, Fault::FailedButTookEffect] {
        world.faults.plan_next("put_record", fault);
        let began = client.import(CONTEXT, bundle(3, 0), false).await;
        let report = over(&client, &began.expect("it goes on")).await;
        assert_eq!(report.state, ImportState::Failed, "{fault:?}");
        assert!(report.done < report.total, "{fault:?}");
    }
    let began = client.import(CONTEXT, bundle(3, 0), false).await;
    let report = over(&client, &began.expect("it goes on")).await;
    assert_eq!(report.state, ImportState::Done);
    assert_eq!(world.circle.all_records().len(), 3, "each once");
}

#[tokio::test]
async fn an_entry_that_its_author_signed_elsewhere_comes_in_once() {
    let (world, _groups, door) = hospital().await;
    let says = Body::Erased {
        order: None,
        said_by: None,
        records: vec![RecordRef {
            record: RecordId([7; 32]),
            version: 1,
        }],
    };
    let entry = said_elsewhere(says.clone()).await;
    let new = NewLogEntry {
        entry: entry.entry,
        says,
        signature: entry.signature,
    };
    let client = works_here(&door).await;
    world
        .faults
        .plan_next("append_log", Fault::FailedButTookEffect);
    assert_eq!(refused(client.say(CONTEXT, &new).await).0, 503);
    assert!(client.say(CONTEXT, &new).await.expect("there").was_there);
    assert_eq!(world.circle.log_entries().len(), 1);
    let mut of_another = new.clone();
    of_another.entry.context = ContextId([9; 32]);
    assert_eq!(refused(client.say(CONTEXT, &of_another).await).0, 400);
    let mut saying_else = new;
    saying_else.says = Body::Erased {
        order: None,
        said_by: None,
        records: Vec::new(),
    };
    assert_eq!(refused(client.say(CONTEXT, &saying_else).await).0, 400);
}

/// The custodian's node writes for who enrolled, by the key of the enrolment, up to half of the
/// room: the other half is for what the custodian has to say.
#[tokio::test]
async fn hostile_patient_leaves_the_hospital_the_room_of_its_log() {
    let (world, _groups, door) = hospital().await;
    world.circle.add_enrolment(patient().public_key());
    ingest_all(&world.pipeline).await.expect("read");
    let patients = door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await;
    let says = Body::Erased {
        order: None,
        said_by: None,
        records: Vec::new(),
    };
    let new = async |author: &SecretKey| {
        let entry = said_by(author, says.clone()).await;
        NewLogEntry {
            entry: entry.entry,
            says: says.clone(),
            signature: entry.signature,
        }
    };
    let store = &world.pipeline.store;
    let (status, why) = refused(patients.say(CONTEXT, &new(&researcher()).await).await);
    assert!(
        status == 409 && why.contains("no others"),
        "{status}: {why}"
    );
    assert_eq!(
        store.fact(&brought_fact(CONTEXT)).await.expect("read"),
        None
    );
    let mut late = new(&patient()).await;
    late.entry.seq = Seq(BROUGHT_ENTRIES_MAX);
    let (status, why) = refused(patients.say(CONTEXT, &late).await);
    assert!(
        status == 409 && why.contains("no more room"),
        "{status}: {why}"
    );
    assert!(world.circle.log_entries().is_empty());
    let own = patients.say(CONTEXT, &new(&patient()).await).await;
    assert!(!own.expect("taken").was_there);
    // From then on the custodian counts on the other half.
    let is_kept = store.fact(&brought_fact(CONTEXT)).await.expect("read");
    assert!(is_kept.is_some());
}

/// A node that takes its time: a few wait for it, more are told at once that nothing was begun, and
/// everybody else is answered.
#[tokio::test]
async fn hostile_staff_fills_the_office_and_keeps_nobody_else_waiting() {
    const WAITING_MAX: usize = 8;
    const ASKED: usize = WAITING_MAX + 4;
    const BUSY: usize = ASKED - WAITING_MAX - 1;
    let (world, groups, _door) = hospital().await;
    let bounds = Bounds {
        connections_max: 64,
        ..BOUNDS
    };
    let office = custodian(&world, &groups);
    let has = |api: Api| api.with_custodian(office);
    let door = Door::with(None, &world.pipeline, (None, bounds), has).await;
    let client = Arc::new(works_here(&door).await);
    let held = Arc::clone(&groups.held).write_owned().await;
    let mut asked = JoinSet::new();
    for number in 0..ASKED {
        let client = Arc::clone(&client);
        asked.spawn(async move { client.open(&circle(&format!("bed {number}"))).await });
    }
    // One is at the node, and some wait for it: the first that are heard of were told.
    for _ in 0..BUSY {
        let answer = asked.join_next().await.expect("more").expect("no panic");
        let (status, why) = refused(answer);
        assert_eq!(status, 503, "{why}");
        assert!(why.contains("nothing was begun"), "{why}");
    }
    client.status().await.expect("everybody else is answered");
    assert_eq!(groups.made().1, 0);
    drop(held);
    while let Some(answer) = asked.join_next().await {
        answer.expect("no panic").expect("open");
    }
    assert_eq!(usize::from(groups.made().1), ASKED - BUSY);
}

/// The daemon did not look yet.
#[tokio::test]
async fn an_invitation_that_was_just_used_is_given_out_without_its_key() {
    let (world, groups, door) = hospital().await;
    let client = door.client().with_token(&door.token());
    let opened = client.open(&circle("bed 7")).await.expect("open");
    let circle = FakeCircle::new(opened.context, world.faults.clone(), patient().public_key());
    circle.add_enrolment(patient().public_key());
    let mut world = world;
    world.pipeline.circles = Arc::new(FakeCircles(vec![world.circle.clone(), circle]));
    let door = Door::of_hospital(&world, &groups).await;
    let client = door.client().with_token(&door.token());
    let hours = NewInvitation { hours: 1 };
    let given = client.invite(opened.context, hours).await.expect("another");
    let given = Invitation::of_text(&given.invitation.to_string()).expect("an invitation");
    assert!(given.one_time_key().is_err());
    let enrolled = enrolled(patient().public_key()).enrolment.member;
    let removed = client.remove(opened.context, enrolled, false).await;
    assert_eq!(refused(removed).0, 409);
    assert!(groups.removed().is_empty());
}

/// The home of a patient or a recipient opens no circles.
#[tokio::test]
async fn what_is_a_hospitals_is_refused_elsewhere() {
    let world = world(Vec::new()).await;
    let door = Door::over(&world.pipeline).await;
    let client = works_here(&door).await;
    let (status, why) = refused(client.open(&circle("bed 7")).await);
    assert!(status == 409 && why.contains("not one's"), "{why}");
    let kept = world.pipeline.store.circle(ContextId([OPENED; 32])).await;
    assert!(matches!(kept, Err(StoreError::Absent { .. })));
}
