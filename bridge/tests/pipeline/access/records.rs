//! Records with their keys, as an import leaves them behind.

use medsync::seams::{random_bytes, system_random};
use medsync::source::{Circle, EntryKey, Record};
use medsync::store::records::RecordRow;
use medsync_protocol::audit::RecordRef;
use medsync_protocol::codes::Code;
use medsync_protocol::decide::{Attributes, Concept};
use medsync_protocol::ids::{RecordId, Sha256Digest, UnixSeconds};
use medsync_protocol::seal::{
    PAYLOAD_BYTES_MAX, RecordKey, RecordVersion, SealSecret, SealedFor, split,
};

use super::super::World;
use super::super::circle::CONTEXT;

pub(super) fn resource(number: u8) -> String {
    format!("{{\"resourceType\":\"Observation\",\"id\":\"{number}\"}}")
}

/// A value with one coding.
pub(super) fn concept(system: &str, code: &str) -> Concept {
    Concept(vec![Code::new(system, code)])
}

/// What is said of a plain Observation.
pub(super) fn observation() -> Attributes {
    Attributes {
        classes: vec![concept("types", "Observation")],
        ..Attributes::default()
    }
}

/// The first version of the record with a number.
pub(crate) fn first_version(number: u8) -> RecordRef {
    RecordRef {
        record: RecordId([number; 32]),
        version: 1,
    }
}

/// A sealed Observation whose custodian's key is in the store.
pub(crate) async fn add_record(world: &World, number: u8) {
    add_record_of(world, number, resource(number).as_bytes()).await;
}

/// The same with a payload of one's choice; one that is too large for an entry is cut.
pub(crate) async fn add_record_of(world: &World, number: u8, resource: &[u8]) {
    add_described(world, first_version(number), observation(), resource).await;
}

/// The same of a version and a description of one's choice.
pub(super) async fn add_described(
    world: &World,
    what: RecordRef,
    attributes: Attributes,
    resource: &[u8],
) {
    let mut random = system_random();
    let (record, version) = (what.record, RecordVersion(what.version));
    let secret = SealSecret::from_bytes(random_bytes(&mut random));
    let place = SealedFor {
        context: CONTEXT,
        record,
        version,
        reader: secret.public_key(),
        log: None,
    };
    let key = RecordKey::from_bytes(random_bytes(&mut random));
    let payload = if resource.len() > PAYLOAD_BYTES_MAX {
        let (list, parts) = split(&place, resource, &mut random).expect("it fits");
        for part in &parts {
            world.circle.put_part(part).await.expect("taken");
        }
        list.to_vec()
    } else {
        resource.to_vec()
    };
    let payload = key.encrypt(&place, &payload).expect("short");
    let key_for_custodian = key.seal(&place, &mut random).expect("sealed");
    let planned = RecordRow {
        record,
        version,
        payload: Sha256Digest::of(&payload),
        secret,
        is_written: true,
    };
    let store = &world.pipeline.store;
    let local_key = Sha256Digest(record.0);
    store
        .plan_record(CONTEXT, local_key, &planned)
        .await
        .expect("kept");
    store
        .record_written(CONTEXT, local_key, UnixSeconds(10))
        .await
        .expect("kept");
    let mut name = record.0;
    name[0] = what.version as u8;
    let described = Record {
        key: EntryKey(name),
        record,
        version,
        resource_type: "Observation".into(),
        attributes: Attributes {
            record: Some(record),
            ..attributes
        },
        payload_sha256: Sha256Digest::of(&payload),
        payload_bytes: payload.len() as u64,
        key_for_patient: Vec::new(),
        key_for_custodian,
        recorded_at: UnixSeconds(10),
    };
    world.circle.add_record(described, payload);
}
