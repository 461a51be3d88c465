//! Imports into circles that are full, and of homes that were restored.

use medsync::access::{Desk, LOG_ENTRIES_MAX, Rests, Turns};
use medsync::custodian::Progress;
use medsync::fhir::parse_bundle;
use medsync::source::Circle;
use medsync_client::wire::{ImportLine, Imported};
use medsync_protocol::audit::{Body, RecordRef};
use medsync_protocol::ids::{MemberId, RecordId, UnixSeconds};

use super::access::hostile::said_elsewhere;
use super::circle::{CONTEXT, Refuses, custodian_author};
use super::custodian::{FakeGroups, custodian, import};
use super::{START, World, patient, world};

/// Imports one Observation of this id and status.
async fn imported(world: &World, id: &str, status: &str, are_new: bool) -> Imported {
    let bundle = serde_json::json!({
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": {"resourceType": "Observation", "id": id, "status": status}}],
    });
    let report = import(world, &bundle.to_string(), are_new).await;
    let mut lines = report.expect("a bundle");
    lines.pop().expect("a line").outcome
}

/// What was imported and erased after the backup has no name in it.
#[tokio::test]
async fn what_may_have_been_erased_is_imported_only_if_somebody_says_that_it_was_not() {
    let world = world(Vec::new()).await;
    world.circle.add_enrolment(patient().public_key());
    let (store, now) = (&world.pipeline.store, UnixSeconds(START));
    assert_eq!(
        imported(&world, "1", "final", false).await,
        Imported::Written
    );
    let unknown = RecordRef {
        record: RecordId([77; 32]),
        version: 1,
    };
    // No daemon has read what the own log says since.
    let says = Body::Erased {
        order: None,
        said_by: None,
        records: vec![unknown],
    };
    let entry = said_elsewhere(says).await;
    world.circle.append_log(&entry).await.expect("taken");
    assert_eq!(
        imported(&world, "2", "final", false).await,
        Imported::Written
    );
    store.was_restored(now).await.expect("noted");
    let refused = imported(&world, "3", "final", false).await;
    let Imported::Refused(why) = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("--not-erased"), "{why}");
    assert_eq!(
        imported(&world, "1", "amended", false).await,
        Imported::Written,
        "it is known"
    );
    assert_eq!(
        imported(&world, "3", "final", true).await,
        Imported::Written
    );
    assert_eq!(
        imported(&world, "3", "final", false).await,
        Imported::Unchanged
    );
}

/// Another reader comes in as soon as something is there.
struct Followed<'a>(&'a World);

impl Progress for Followed<'_> {
    fn begins(&self, _: u64) {}

    fn looked_at(&self, _: ImportLine) {
        self.0.circle.add_to_group(MemberId([0x66; 32]));
    }
}

#[tokio::test]
async fn hostile_stranger_that_comes_in_the_middle_of_an_import_reads_no_more_of_it() {
    let world = world(Vec::new()).await;
    world.circle.add_enrolment(patient().public_key());
    let resource = |id: u32| {
        let id = id.to_string();
        let of_one =
            serde_json::json!({"resourceType": "Observation", "id": id, "status": "final"});
        serde_json::json!({ "resource": of_one })
    };
    let bundle = serde_json::json!({
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [resource(1), resource(2), resource(3)],
    });
    let bundle = parse_bundle(bundle.to_string().as_bytes()).expect("a bundle");
    let custodian = custodian(&world, &FakeGroups::default());
    let followed = Followed(&world);
    let stopped = custodian.import(CONTEXT, bundle, false, &followed);
    let why = stopped.await.expect_err("it stops").to_string();
    assert!(why.contains("circle"), "{why}");
    assert_eq!(world.circle.all_records().len(), 1);
}

/// Whoever erased died before the log said so: nobody has to erase again.
#[tokio::test]
async fn what_was_erased_and_not_said_is_said_by_the_daemon_once() {
    let world = world(Vec::new()).await;
    world.circle.add_enrolment(patient().public_key());
    let written = imported(&world, "1", "final", false).await;
    assert_eq!(written, Imported::Written);
    let store = &world.pipeline.store;
    let gone = store.erase_records(CONTEXT, None, UnixSeconds(START)).await;
    assert_eq!(gone.expect("erased"), 1);
    assert!(world.circle.log_entries().is_empty());
    let desk = Desk {
        pipeline: world.pipeline.clone(),
        author: custodian_author(),
        turns: Turns::default(),
        rests: Rests::default(),
        log_entries_max: LOG_ENTRIES_MAX,
    };
    for _ in 0..3 {
        desk.round().await.expect("a round");
    }
    let said = world.circle.log_entries();
    let record = world.circle.all_records()[0].record;
    assert_eq!(said.len(), 1);
    let Body::Erased { records, .. } = &said[0].body else {
        panic!("{:?}", said[0].body);
    };
    assert_eq!(records, &[RecordRef { record, version: 1 }]);
}

/// What was written after the backup has a version that this home has no key to.
#[tokio::test]
async fn a_version_that_another_home_wrote_is_followed_by_the_next() {
    let world = world(Vec::new()).await;
    world.circle.add_enrolment(patient().public_key());
    assert_eq!(
        imported(&world, "1", "final", false).await,
        Imported::Written
    );
    let mut second = world.circle.all_records().swap_remove(0);
    second.version.0 = 2;
    second.key.0 = [202; 32];
    second.key_for_custodian = Vec::new();
    let what = RecordRef {
        record: second.record,
        version: 3,
    };
    world.circle.add_record(second, Vec::new());
    for _ in 0..2 {
        let outcome = imported(&world, "1", "amended", false).await;
        assert!(!matches!(outcome, Imported::Refused(_)), "{outcome:?}");
    }
    let all = world.circle.all_records();
    assert_eq!(all.len(), 3);
    let store = &world.pipeline.store;
    let secret = store.record_secret(CONTEXT, what).await.expect("the store");
    assert!(secret.is_some());
    assert_eq!(all[2].version.0, 3);
}

/// All versions of a record share a place, which has an end. Whoever has the resource erased, by
/// either name, has all of it erased.
#[tokio::test]
async fn a_version_that_finds_no_room_is_written_under_another_name() {
    for by_first in [true, false] {
        let world = world(Vec::new()).await;
        world.circle.add_enrolment(patient().public_key());
        let outcome = imported(&world, "1", "final", false).await;
        assert_eq!(outcome, Imported::Written);
        let first = world.circle.all_records().swap_remove(0);
        world.circle.refuse(Refuses::LaterVersions);
        for expected in [Imported::Written, Imported::Unchanged] {
            assert_eq!(imported(&world, "1", "amended", false).await, expected);
        }
        let second = world.circle.all_records().swap_remove(1);
        assert_ne!(second.record, first.record);
        let (store, now) = (&world.pipeline.store, UnixSeconds(START));
        let keyed = store.keyed_records(CONTEXT).await.expect("the store");
        let is_current = |record| keyed[&RecordRef { record, version: 1 }];
        assert!(!is_current(first.record) && is_current(second.record));
        let named = if by_first { &first } else { &second };
        let gone = store.erase_records(CONTEXT, Some(named.record), now).await;
        assert_eq!(
            gone.expect("erased"),
            3,
            "one of a version that found no room"
        );
        let again = imported(&world, "1", "amended", false).await;
        assert!(matches!(again, Imported::Refused(_)), "{again:?}");
    }
}
