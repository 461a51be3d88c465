//! Members whom the patient admits: the guard lets in whom the patient's present key signed, and
//! nobody else.

use std::collections::BTreeSet;

use medsync::audit;
use medsync::daemon;
use medsync::guard::{self, GuardError};
use medsync::members::{self, MemberError, NextKey, NotAdmitted};
use medsync::pipeline::ingest;
use medsync::seams::{Clock, system_random};
use medsync::source::{Circle, CircleState, DISPUTED, Device, EntryKind, NO_MEMBER};
use medsync::store::circles::CircleRow;
use medsync::store::log::LogFilter;
use medsync_protocol::audit::Body;
use medsync_protocol::consent::Commitment;
use medsync_protocol::device::{Admission, DeviceRole};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::MemberId;
use medsync_protocol::keychange::ChangedBy;
use medsync_protocol::messages::device_message;
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::SecretKey;

use super::circle::{CONTEXT, Refuses, recovery};
use super::faults::{Fault, Plan};
use super::{World, patient, run, world};

pub(super) const PHONE: MemberId = MemberId([77; 32]);
/// Another member.
const AUNT: MemberId = MemberId([79; 32]);
/// The first number of a relative, and of a guardian.
const RELATIVE: u32 = (1 << 24) + 1;
const GUARDIAN: u32 = (2 << 24) + 1;

/// The patient's next key.
fn next() -> SecretKey {
    SecretKey::from_scalar(&[4; 32]).expect("a scalar")
}

pub(super) fn admission(member: MemberId, device: u32, signer: &SecretKey) -> Device {
    let admission = Admission {
        member,
        device: DeviceNumber(device),
        admitted_by: signer.public_key(),
    };
    let message = device_message(CONTEXT, member, admission.device);
    Device {
        admission,
        author_key: None,
        signature: signer.sign(message).expect("signable"),
    }
}

/// Enters the circle, and once more when no admission can be on its way any more; answers why not,
/// if not.
async fn alarm(world: &World) -> Option<String> {
    if is_suspect(world).await {
        world.clock.advance(60);
        assert!(!is_suspect(world).await, "it is settled by now");
    }
    enter(world).await.err().map(|error| match error {
        GuardError::Alarm { why, .. } => why,
        other => panic!("{other}"),
    })
}

async fn is_suspect(world: &World) -> bool {
    matches!(enter(world).await, Err(GuardError::Suspect { .. }))
}

async fn enter(world: &World) -> Result<(), GuardError> {
    let store = &world.pipeline.store;
    let row = store.circle(CONTEXT).await.expect("a row");
    let now = world.clock.now();
    let entered = guard::enter(&*world.pipeline.circles, store, &row, now).await;
    entered.map(|_| ())
}

async fn enrolled() -> World {
    enrolled_with(Vec::new()).await
}

async fn enrolled_with(plans: Vec<Plan>) -> World {
    let mut world = world(plans).await;
    world.circle.add_enrolment(patient().public_key());
    // The daemon has seen who the patient is before anybody else comes.
    world.circle.add_consent(super::consent(1).0);
    run(&mut world).await;
    world
}

#[tokio::test]
async fn whom_the_patient_admitted_comes_in() {
    let world = enrolled().await;
    world.circle.add_device(admission(PHONE, 1, &patient()));
    world.circle.add_to_group(PHONE);
    assert_eq!(alarm(&world).await, None);
    let state = world.circle.circle().await.expect("a state");
    assert_eq!(state.devices[0].admission.device.role(), DeviceRole::Own);
}

#[tokio::test]
async fn a_member_that_comes_before_its_admission_is_waited_for_outside() {
    let mut world = enrolled().await;
    world.circle.add_to_group(PHONE);
    let (consent, signed) = super::consent(2);
    world.circle.add_consent(consent);
    world.circle.add_revocation(super::revocation_of(&signed));
    assert!(is_suspect(&world).await);
    super::round(&world).await;
    // Nothing is read but revocations, and nobody is alarmed.
    let store = &world.pipeline.store;
    let opening = store.opening_of(signed.commitment).await;
    assert_eq!(opening.expect("the store"), None);
    let revocation = store.revocation(signed.opening.handle).await;
    assert!(revocation.expect("the store").is_some());
    world.circle.add_device(admission(PHONE, 1, &patient()));
    assert_eq!(alarm(&world).await, None);
    run(&mut world).await;
    let opening = world.pipeline.store.opening_of(signed.commitment).await;
    assert!(opening.expect("the store").is_some());
}

#[tokio::test]
async fn hostile_hospital_admits_somebody_itself_and_the_circle_stops() {
    let stranger = SecretKey::from_scalar(&[66; 32].map(|byte: u8| byte % 8)).expect("a scalar");
    let mut renumbered = admission(PHONE, 1, &patient());
    renumbered.admission.device = DeviceNumber(GUARDIAN);
    // Nobody becomes the device that enrolled, whoever signs it.
    let first = admission(PHONE, 0, &patient());
    let mut renamed = admission(PHONE, 1, &stranger);
    renamed.admission.admitted_by = patient().public_key();
    let other_member = admission(MemberId([78; 32]), 1, &patient());
    for forged in [
        admission(PHONE, 1, &stranger),
        renamed,
        renumbered,
        first,
        other_member,
    ] {
        let world = enrolled().await;
        world.circle.add_device(forged);
        world.circle.add_to_group(PHONE);
        let why = alarm(&world).await.expect("an alarm");
        assert!(why.contains("readers"), "{why}");
    }
}

/// Whoever was invited to enrol knows who the patient is.
#[tokio::test]
async fn hostile_hospital_enrols_another_in_a_patients_place_and_nobody_it_admits_comes_in() {
    let world = enrolled().await;
    world.circle.add_device(admission(PHONE, 1, &patient()));
    let state = world.circle.circle().await.expect("a state");
    let enrolment = state.only().expect("the patient").enrolment;
    let store = &world.pipeline.store;
    let history = store.key_history(CONTEXT, &enrolment).await;
    let history = history.expect("the store");
    let patients = |member| CircleRow {
        member,
        ..super::row()
    };
    let own = guard::admitted(&patients(enrolment.member), &state, &history);
    assert_eq!(own, BTreeSet::from([PHONE]));
    let others = guard::admitted(&patients(AUNT), &state, &history);
    assert_eq!(others, BTreeSet::new());
}

#[tokio::test]
async fn hostile_member_drops_an_admission_and_the_circle_stops() {
    let world = enrolled().await;
    world.circle.add_device(admission(PHONE, 1, &patient()));
    world.circle.add_to_group(PHONE);
    assert_eq!(alarm(&world).await, None);
    world.circle.forget(EntryKind::Device);
    assert!(alarm(&world).await.is_some());
}

#[tokio::test]
async fn hostile_thief_admits_with_a_stolen_key_until_the_recovery_key_says_otherwise() {
    // So does any other change: the present key alone admits.
    for signer in [recovery(), patient()] {
        let world = enrolled().await;
        world.circle.add_device(admission(PHONE, 1, &patient()));
        world.circle.add_to_group(PHONE);
        assert_eq!(alarm(&world).await, None);
        let change = super::keys::change(&patient(), &next(), 0, &signer);
        world.circle.change_key(&change, 1).await.expect("taken");
        ingest::ingest_all(&world.pipeline).await.expect("read");
        let why = alarm(&world).await.expect("an alarm");
        assert!(why.contains(&PHONE.to_string()), "{why}");
        // What the old key signs afterwards lets nobody in either.
        world.circle.add_device(admission(PHONE, 2, &patient()));
        assert!(resume(&world).await.is_err());
        world.circle.add_device(admission(PHONE, 1, &next()));
        resume(&world)
            .await
            .expect("it is again what the patient says");
        assert_eq!(alarm(&world).await, None);
    }
}

async fn resume(world: &World) -> Result<(), GuardError> {
    let store = &world.pipeline.store;
    let row = store.circle(CONTEXT).await.expect("a row");
    guard::resume(&*world.pipeline.circles, store, &row).await
}

#[tokio::test]
async fn the_custodian_lets_in_whom_the_patient_admits_whatever_fails() {
    for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
        let plan = Plan {
            operation: "add_member",
            call: 1,
            fault,
        };
        let mut world = world(vec![plan]).await;
        world.circle.add_enrolment(patient().public_key());
        world.circle.add_device(admission(PHONE, 1, &patient()));
        let stranger = SecretKey::from_scalar(&[2; 32]).expect("a scalar");
        let other = MemberId([78; 32]);
        world.circle.add_device(admission(other, 2, &stranger));
        run(&mut world).await;
        // What failed is looked at again with the next walk.
        world.circle.add_consent(super::consent(1).0);
        run(&mut world).await;
        let members = world.circle.pin().await.expect("a pin").members;
        assert!(members.contains(&PHONE), "{fault:?}");
        assert!(!members.contains(&other), "{fault:?}");
    }
}

#[tokio::test]
async fn hostile_patient_admits_without_end_and_is_heeded_so_far() {
    let mut world = enrolled().await;
    for number in 100..=170 {
        let member = MemberId([number; 32]);
        let device = admission(member, number.into(), &patient());
        world.circle.add_device(device);
    }
    run(&mut world).await;
    assert_eq!(world.faults.calls("add_member"), 64);
}

#[tokio::test]
async fn hostile_reader_that_comes_and_goes_is_not_forgotten() {
    let world = enrolled().await;
    let stranger = MemberId([78; 32]);
    world.circle.add_to_group(stranger);
    assert!(is_suspect(&world).await);
    world.clock.advance(10);
    world.circle.remove_from_group(stranger);
    let why = alarm(&world).await.expect("an alarm");
    assert!(why.contains("came and went"), "{why}");
}

#[tokio::test]
async fn a_member_whom_the_next_key_admitted_comes_in_though_the_change_was_not_read_yet() {
    let world = enrolled().await;
    let change = super::keys::change(&patient(), &next(), 0, &patient());
    world.circle.change_key(&change, 1).await.expect("taken");
    world.circle.add_device(admission(PHONE, 1, &next()));
    world.circle.add_to_group(PHONE);
    assert_eq!(alarm(&world).await, None);
}

#[tokio::test]
async fn an_admission_that_comes_after_the_change_of_its_key_is_waited_for() {
    let world = enrolled().await;
    world.circle.add_device(admission(PHONE, 1, &patient()));
    world.circle.add_to_group(PHONE);
    assert_eq!(alarm(&world).await, None);
    let change = super::keys::change(&patient(), &next(), 0, &patient());
    world.circle.change_key(&change, 1).await.expect("taken");
    assert!(is_suspect(&world).await);
    world.circle.add_device(admission(PHONE, 1, &next()));
    assert_eq!(alarm(&world).await, None);
}

async fn state(world: &World) -> CircleState {
    world.circle.circle().await.expect("a state")
}

/// The key is changed as the command does it, with whom the next one admits.
async fn change_key(
    world: &World,
    by: ChangedBy,
    admits: Vec<Device>,
) -> Result<Vec<NotAdmitted>, MemberError> {
    let signer = match by {
        ChangedBy::Old => patient(),
        ChangedBy::Recovery => recovery(),
    };
    let next_key = NextKey {
        change: super::keys::change(&patient(), &next(), 0, &signer),
        by,
        admits,
    };
    let enrolment = state(world).await.only().expect("the patient").enrolment;
    let (store, now) = (&world.pipeline.store, world.clock.now());
    members::change_key(&world.circle, store, &enrolment, &next_key, now).await
}

#[tokio::test]
async fn an_orderly_change_takes_everybody_along_but_for_those_who_go() {
    let world = enrolled().await;
    for (member, number) in [(PHONE, 1), (AUNT, RELATIVE)] {
        let device = admission(member, number, &patient());
        world.circle.add_device(device);
        world.circle.add_to_group(member);
    }
    assert_eq!(alarm(&world).await, None);
    let known = state(&world).await;
    let mut staying = members::admitted_by(&known, patient().public_key());
    assert_eq!(staying, BTreeSet::from([PHONE, AUNT]));
    staying.remove(&AUNT);
    let own_key = patient().public_key();
    let admits = members::admit_anew(&known, &staying, own_key, &next()).expect("signed");
    let left = change_key(&world, ChangedBy::Old, admits).await;
    assert!(left.expect("changed").is_empty());
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let why = alarm(&world).await.expect("an alarm");
    assert!(why.contains(&AUNT.to_string()), "{why}");
    assert!(!why.contains(&PHONE.to_string()), "{why}");
    world.circle.remove_from_group(AUNT);
    resume(&world).await.expect("whoever had to go is gone");
    let now = state(&world).await;
    let stays = now.admission_of(PHONE).expect("it stays");
    assert_eq!(stays.device, DeviceNumber(1));
    assert_eq!(now.admission_of(AUNT), None);
    let nobody = BTreeSet::from([MemberId([80; 32])]);
    let never = members::admit_anew(&now, &nobody, next().public_key(), &next());
    assert!(matches!(never, Err(MemberError::NeverAdmitted(_))));
}

#[tokio::test]
async fn hostile_node_refuses_an_admission_and_the_key_changes_all_the_same() {
    for by in [ChangedBy::Old, ChangedBy::Recovery] {
        let world = enrolled().await;
        world.circle.refuse(Refuses::AdmissionOf(PHONE));
        let members = [(PHONE, 1), (AUNT, RELATIVE)];
        let admits = members.map(|(member, number)| admission(member, number, &next()));
        let admits = admits.to_vec();
        let left = change_key(&world, by, admits).await.expect("changed");
        let left: Vec<MemberId> = left.iter().map(|l| l.device.admission.member).collect();
        assert_eq!(left, [PHONE]);
        assert_eq!(world.circle.key_changes().len(), 1);
        let now = state(&world).await;
        assert!(now.admission_of(AUNT).is_some());
        assert_eq!(now.admission_of(PHONE), None);
    }
}

#[tokio::test]
async fn an_orderly_change_waits_for_its_node_and_a_stolen_key_does_not() {
    for by in [ChangedBy::Old, ChangedBy::Recovery] {
        let plan = Plan {
            operation: "admit",
            call: 1,
            fault: Fault::Failed,
        };
        let world = enrolled_with(vec![plan]).await;
        let admits = || vec![admission(PHONE, 1, &next())];
        let changed = change_key(&world, by, admits()).await;
        let is_orderly = by == ChangedBy::Old;
        assert_eq!(changed.is_err(), is_orderly);
        assert_eq!(world.circle.key_changes().is_empty(), is_orderly);
        let store = &world.pipeline.store;
        let unpublished = store.contexts_with_unpublished_key_changes().await;
        assert!(unpublished.expect("the store").is_empty());
        let again = change_key(&world, by, admits()).await.expect("changed");
        assert!(again.is_empty());
        assert!(state(&world).await.admission_of(PHONE).is_some());
    }
}

#[tokio::test]
async fn hostile_copy_of_an_admission_brings_nobody_back_whom_the_custodian_removed() {
    let mut world = enrolled().await;
    let is_in = async |world: &World| {
        let pin = world.circle.pin().await.expect("a pin");
        pin.members.contains(&PHONE)
    };
    let first = admission(PHONE, 1, &patient());
    world.circle.add_device(first);
    run(&mut world).await;
    assert!(is_in(&world).await);
    world.circle.remove_from_group(PHONE);
    world.circle.add_device(Device {
        author_key: Some(next().public_key()),
        ..first
    });
    run(&mut world).await;
    assert!(!is_in(&world).await);
    // The patient admits it anew.
    let anew = admission(PHONE, RELATIVE, &patient());
    world.circle.add_device(anew);
    run(&mut world).await;
    assert!(is_in(&world).await);
}

#[tokio::test]
async fn hostile_device_whose_admission_ended_neither_reads_nor_writes() {
    let world = enrolled().await;
    let home = tempfile::tempdir().expect("a folder");
    let store = crate::shared::opened(home.path()).await.expect("a store");
    let row = CircleRow {
        member: PHONE,
        device: DeviceNumber(1),
        ..super::row()
    };
    store.enter_circle(&row).await.expect("entered");
    let author = SecretKey::from_scalar(&[2; 32]).expect("a scalar");
    world.circle.add_device(Device {
        author_key: Some(author.public_key()),
        ..admission(PHONE, 1, &patient())
    });
    let enter = async || {
        let row = store.circle(CONTEXT).await.expect("a row");
        let now = world.clock.now();
        let entered = guard::enter(&*world.pipeline.circles, &store, &row, now).await;
        entered.map(|_| ())
    };
    let is_out = async || {
        let state = state(&world).await;
        let enrolment = state.only().expect("the patient").enrolment;
        let history = store.key_history(CONTEXT, &enrolment).await;
        guard::is_out(&row, &state, &history.expect("the store"))
    };
    let name = async || {
        let state = state(&world).await;
        let mut authors = state.authors();
        let named = authors.find(|(key, _)| *key == author.public_key());
        named.expect("its log stays").1
    };
    world.circle.add_to_group(PHONE);
    enter().await.expect("it is admitted");
    assert!(!is_out().await);
    assert_eq!(name().await, "patient");
    let left = change_key(&world, ChangedBy::Recovery, Vec::new()).await;
    assert!(left.expect("changed").is_empty());
    assert!(matches!(enter().await, Err(GuardError::Suspect { .. })));
    world.clock.advance(60);
    let Err(GuardError::Alarm { why, .. }) = enter().await else {
        panic!("it is out");
    };
    assert_eq!(why, guard::ADMISSION_ENDED);
    assert!(is_out().await);
    assert_eq!(name().await, NO_MEMBER);
}

#[tokio::test]
async fn hostile_relative_that_says_anothers_author_key_is_seen() {
    let world = enrolled().await;
    let author = SecretKey::from_scalar(&[2; 32]).expect("a scalar");
    let says_so = |member, number| Device {
        author_key: Some(author.public_key()),
        ..admission(member, number, &patient())
    };
    let name = async || {
        let state = state(&world).await;
        let mut authors = state.authors();
        let named = authors.find(|(key, _)| *key == author.public_key());
        named.expect("its log stays").1
    };
    world.circle.add_device(says_so(PHONE, 1));
    assert_eq!(name().await, "patient");
    world
        .circle
        .add_device(says_so(MemberId([78; 32]), RELATIVE));
    assert_eq!(name().await, DISPUTED);
}

#[tokio::test]
async fn of_several_admissions_the_one_by_the_latest_key_counts_that_allows_least() {
    let world = enrolled().await;
    for number in [1, GUARDIAN, RELATIVE] {
        let device = admission(PHONE, number, &patient());
        world.circle.add_device(device);
    }
    let role = |found: Option<Admission>| found.map(|admission| admission.device.role());
    let relative = Some(DeviceRole::Relative);
    assert_eq!(role(state(&world).await.admission_of(PHONE)), relative);
    let left = change_key(&world, ChangedBy::Old, Vec::new()).await;
    assert!(left.expect("changed").is_empty());
    let ended = state(&world).await;
    assert_eq!(role(ended.admission_of(PHONE)), None);
    let last = |state: &CircleState, key: &SecretKey| {
        role(state.last_admission_of(PHONE, key.public_key()))
    };
    assert_eq!(last(&ended, &next()), relative);
    assert_eq!(ended.admitted().count(), 0);
    world.circle.add_device(admission(PHONE, GUARDIAN, &next()));
    let now = state(&world).await;
    let guardian = Some(DeviceRole::Guardian);
    assert_eq!(role(now.admission_of(PHONE)), guardian);
    assert_eq!(last(&now, &next()), guardian);
    // Whoever changed the key may be a thief: what the one before it said is told apart.
    assert_eq!(last(&now, &patient()), relative);
    assert_eq!(now.admitted().count(), 1);
}

#[tokio::test]
async fn hostile_thief_makes_no_more_of_a_member_who_is_kept() {
    let world = enrolled().await;
    let aunt = admission(AUNT, RELATIVE, &patient());
    world.circle.add_device(aunt);
    // With a key of its own, which took the place of the patient's.
    let left = change_key(&world, ChangedBy::Old, Vec::new()).await;
    assert!(left.expect("changed").is_empty());
    for (member, number) in [(AUNT, GUARDIAN), (PHONE, 1)] {
        let device = admission(member, number, &next());
        world.circle.add_device(device);
    }
    let (own_key, third) = (patient().public_key(), SecretKey::from_scalar(&[5; 32]));
    let third = third.expect("a scalar");
    let known = state(&world).await;
    let kept = members::admit_anew(&known, &BTreeSet::from([AUNT]), own_key, &third);
    let [kept] = kept.expect("signed")[..] else {
        panic!("one is kept");
    };
    assert_eq!(kept.admission.device, DeviceNumber(RELATIVE));
    let never = members::admit_anew(&known, &BTreeSet::from([PHONE]), own_key, &third);
    assert!(matches!(never, Err(MemberError::NeverAdmitted(_))));
}

#[tokio::test]
async fn what_is_read_of_a_stopped_circle_does_not_pass_for_all_of_it() {
    let world = enrolled().await;
    let store = &world.pipeline.store;
    let known = store.circle(CONTEXT).await.expect("a row").state_hash;
    assert!(known.is_some());
    world.circle.add_to_group(PHONE);
    world.circle.add_consent(super::consent(2).0);
    super::round(&world).await;
    let row = store.circle(CONTEXT).await.expect("a row");
    assert!(row.suspected_at.is_some());
    assert_eq!(row.state_hash, known);
    // It is not walked again and again either, as long as it is stopped and stays as it is.
    let walks = || world.faults.calls("changes");
    let before = walks();
    assert!(before > 0);
    super::round(&world).await;
    assert_eq!(walks(), before);
}

/// Whoever carried them would use up its own room in the shards that the relative chose.
#[tokio::test]
async fn hostile_relative_deletes_its_entries_and_nobody_carries_them() {
    let mut world = enrolled().await;
    let aunt = SecretKey::from_scalar(&[5; 32]).expect("a scalar");
    let admitted = Device {
        author_key: Some(aunt.public_key()),
        ..admission(AUNT, RELATIVE, &patient())
    };
    world.circle.add_device(admitted);
    world.circle.add_to_group(AUNT);
    let folder = tempfile::tempdir().expect("a folder");
    let hers = crate::shared::opened(folder.path()).await.expect("a store");
    let (now, mut random) = (world.clock.now(), system_random());
    let says = Body::Granted {
        consent: Commitment::from_felt(Felt::from(5)),
    };
    for (store, author) in [(&hers, &aunt), (&world.pipeline.store, &patient())] {
        audit::append(store, CONTEXT, author, &says, now, &mut random)
            .await
            .expect("kept");
        audit::publish(store, &world.circle, now)
            .await
            .expect("published");
    }
    run(&mut world).await;
    assert_eq!(world.circle.log_entries().len(), 2);
    world.circle.forget(EntryKind::Log);
    // Something else came meanwhile, by which the state is another one.
    world.circle.add_consent(super::consent(2).0);
    run(&mut world).await;
    daemon::publish_log(&world.pipeline)
        .await
        .expect("published");
    let back = world.circle.log_entries();
    let authors: Vec<_> = back.iter().map(|entry| entry.entry.author_key).collect();
    assert_eq!(authors, [patient().public_key()]);
    let filter = LogFilter::default();
    let kept = world.pipeline.store.log(CONTEXT, &filter).await;
    assert_eq!(
        kept.expect("the store").len(),
        2,
        "it is evidence all the same"
    );
}
