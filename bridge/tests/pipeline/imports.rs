//! Imports into circles that are full, and of homes that were restored.

use medsync::config::Role;
use medsync::import::{Imported, import};
use medsync_protocol::audit::RecordRef;
use medsync_protocol::ids::{RecordId, UnixSeconds};

use super::circle::{CONTEXT, Refuses};
use super::writes::party::party;
use super::{START, World, patient, world};

/// Imports one Observation of this id and status.
async fn imported(world: &World, id: &str, status: &str, are_new: bool) -> Imported {
    let bundle = serde_json::json!({
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": {"resourceType": "Observation", "id": id, "status": status}}],
    });
    let file = world.home.path().join("bundle.json");
    std::fs::write(&file, bundle.to_string()).expect("written");
    let party = party(world, Role::Custodian);
    let report = import(&party, CONTEXT, &file, are_new, &|_, _| ()).await;
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
    store
        .stay_erased(CONTEXT, &[unknown], now)
        .await
        .expect("noted");
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

/// All versions of a record share a place, which has an end.
#[tokio::test]
async fn a_version_that_finds_no_room_is_written_under_another_name() {
    let world = world(Vec::new()).await;
    world.circle.add_enrolment(patient().public_key());
    assert_eq!(
        imported(&world, "1", "final", false).await,
        Imported::Written
    );
    let first = world.circle.all_records().swap_remove(0);
    world.circle.refuse(Refuses::LaterVersions);
    assert_eq!(
        imported(&world, "1", "amended", false).await,
        Imported::Written
    );
    let [_, second] = world.circle.all_records().try_into().expect("two records");
    let second: medsync::source::Record = second;
    assert_ne!(second.record, first.record);
    let keyed = world.pipeline.store.keyed_records(CONTEXT).await;
    let keyed = keyed.expect("the store");
    let is_current = |record| keyed[&RecordRef { record, version: 1 }];
    assert!(!is_current(first.record) && is_current(second.record));
    assert_eq!(
        imported(&world, "1", "amended", false).await,
        Imported::Unchanged
    );
}
