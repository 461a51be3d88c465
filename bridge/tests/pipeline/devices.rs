//! Members whom the patient admits: the guard lets in whom the patient's key signed, and nobody
//! else.

use medsync::guard::{self, GuardError};
use medsync::pipeline::ingest;
use medsync::seams::Clock;
use medsync::source::{Circle, Device, EntryKind};
use medsync_protocol::device::{Admission, DeviceRole};
use medsync_protocol::ids::MemberId;
use medsync_protocol::messages::device_message;
use medsync_protocol::secrets::DeviceNumber;
use medsync_protocol::signature::SecretKey;

use super::circle::{CONTEXT, recovery};
use super::faults::{Fault, Plan};
use super::{World, patient, run, world};

const PHONE: MemberId = MemberId([77; 32]);

fn admission(member: MemberId, device: u32, signer: &SecretKey) -> Device {
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
    let mut world = world(Vec::new()).await;
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
    renumbered.admission.device = DeviceNumber(2 << 24);
    let mut renamed = admission(PHONE, 1, &stranger);
    renamed.admission.admitted_by = patient().public_key();
    let other_member = admission(MemberId([78; 32]), 1, &patient());
    for forged in [
        admission(PHONE, 1, &stranger),
        renamed,
        renumbered,
        other_member,
    ] {
        let world = enrolled().await;
        world.circle.add_device(forged);
        world.circle.add_to_group(PHONE);
        let why = alarm(&world).await.expect("an alarm");
        assert!(why.contains("readers"), "{why}");
    }
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
    let world = enrolled().await;
    world.circle.add_device(admission(PHONE, 1, &patient()));
    world.circle.add_to_group(PHONE);
    assert_eq!(alarm(&world).await, None);
    // A change by hand ends no admission; one by the recovery key does.
    let [second, third] = [4, 5].map(|byte| SecretKey::from_scalar(&[byte; 32]).expect("one"));
    for (change, is_in) in [
        (
            super::keys::change(&patient(), &second, 0, &patient()),
            true,
        ),
        (super::keys::change(&second, &third, 1, &recovery()), false),
    ] {
        world.circle.change_key(&change).await.expect("taken");
        ingest::ingest_all(&world.pipeline).await.expect("read");
        assert_eq!(alarm(&world).await.is_none(), is_in);
    }
    world.circle.add_device(admission(PHONE, 1, &third));
    let store = &world.pipeline.store;
    let row = store.circle(CONTEXT).await.expect("a row");
    guard::resume(&*world.pipeline.circles, store, &row)
        .await
        .expect("it is again what the patient says");
    assert_eq!(alarm(&world).await, None);
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
    let next = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    let change = super::keys::change(&patient(), &next, 0, &patient());
    world.circle.change_key(&change).await.expect("taken");
    world.circle.add_device(admission(PHONE, 1, &next));
    world.circle.add_to_group(PHONE);
    assert_eq!(alarm(&world).await, None);
}
