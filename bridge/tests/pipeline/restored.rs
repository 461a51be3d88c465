//! Backups and what becomes of a party that goes on from one; and `fsck`.

use std::collections::BTreeMap;

use medsync::audit::{AuditError, append, catch_up};
use medsync::backup::{BackupError, backup, restore};
use medsync::fsck::{Discrepancy, Progress, fsck};
use medsync::pipeline::Pipeline;
use medsync::pipeline::ingest::{self, Readings};
use medsync::pipeline::watch::watch_round;
use medsync::seams::system_random;
use medsync::source::EntryKind;
use medsync::store::batches::{BatchId, BatchRow};
use medsync_protocol::audit::Body;
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::Counter;

use super::circle::{CONTEXT, Refuses, custodian_author};
use super::writes::anchored_in;
use super::{
    CONSENTS, SETTLED_S, START, World, check, consent, fill, revocation_of, round, run, secret,
    world,
};

struct Silent;

impl Progress for Silent {
    fn at(&self, _: &'static str, _: usize, _: usize) {}
}

pub(super) async fn found(world: &World) -> Vec<Discrepancy> {
    found_by(&world.pipeline).await
}

async fn found_by(pipeline: &Pipeline) -> Vec<Discrepancy> {
    fsck(pipeline, &Silent).await.expect("looked")
}

/// What somebody did to a circle is said for ever; everything else has to fit together.
pub(super) async fn found_but_evidence(pipeline: &Pipeline) -> Vec<Discrepancy> {
    let mut found = found_by(pipeline).await;
    found.retain(|one| !matches!(one, Discrepancy::Evidence { .. }));
    found
}

/// A world in which everything is anchored, with a backup of when one consent was anchored, one was
/// taken in and one not yet granted.
async fn restored() -> (World, tempfile::TempDir) {
    let mut world = world(Vec::new()).await;
    world.pipeline.batch.consents_max = 1;
    world.circle.add_consent(consent(0).0);
    run(&mut world).await;
    world.pipeline.batch.consents_max = 2;
    world.circle.add_consent(consent(1).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let folder = tempfile::tempdir().expect("a folder");
    let (out, home) = (folder.path().join("backup"), folder.path().join("home"));
    let (store, now) = (&world.pipeline.store, UnixSeconds(START));
    backup(world.home.path(), store, &out, now)
        .await
        .expect("a backup");
    world.circle.add_consent(consent(2).0);
    world.circle.add_revocation(revocation_of(&consent(0).1));
    run(&mut world).await;
    restore(&out, &home, &secret(), now).await.expect("a home");
    world.pipeline.store = crate::shared::opened(&home).await.expect("a store");
    world.pipeline.readings = Readings::default();
    (world, folder)
}

#[tokio::test]
async fn a_custodian_that_was_restored_anchors_nothing_twice() {
    let (mut world, _folder) = restored().await;
    assert!(!found(&world).await.is_empty());
    let anchored = world.chain.anchored().len();
    run(&mut world).await;
    check(&world, "restored");
    assert_eq!(world.chain.anchored().len(), anchored);
    assert_eq!(found(&world).await, []);
}

#[tokio::test]
async fn a_batch_that_was_taken_over_and_is_dropped_is_sealed_anew() {
    let (mut world, _folder) = restored().await;
    run(&mut world).await;
    world.chain.forget_everything();
    world.chain.grow(2 * SETTLED_S);
    world.clock.advance(SETTLED_S);
    for _ in 0..2 {
        for _ in 0..4 {
            watch_round(&world.pipeline).await.expect("asked");
        }
        world.clock.advance(SETTLED_S);
    }
    run(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 2);
    assert_eq!(found(&world).await, []);
}

/// The home's machine was lost, and its node with it: nobody here has heard yet of what was
/// anchored since the backup.
#[tokio::test]
async fn a_restored_node_that_shows_no_places_anchors_nothing_twice() {
    let (mut world, _folder) = restored().await;
    let anchored = world.chain.anchored().len();
    let reports = world.circle.lose_reports();
    for _ in 0..4 {
        world.clock.advance(SETTLED_S);
        round(&world).await;
    }
    assert_eq!(world.chain.anchored().len(), anchored, "it waits");
    world.circle.hear_reports(reports);
    run(&mut world).await;
    check(&world, "heard");
    assert_eq!(world.chain.anchored().len(), anchored);
}

/// A member can have its circle looked up in every round of everybody's lane.
#[tokio::test]
async fn hostile_circle_that_does_not_answer_is_looked_up_ever_more_seldom() {
    let (world, _folder) = restored().await;
    world.circle.refuse(Refuses::Consents);
    world.clock.advance(60 * SETTLED_S);
    for _ in 0..8 {
        round(&world).await;
    }
    let before = world.faults.calls("consents");
    for _ in 0..100 {
        world.clock.advance(60);
        round(&world).await;
    }
    let asked = world.faults.calls("consents") - before;
    assert!((1..=8).contains(&asked), "{asked} times in 100 rounds");
}

/// Whoever knew of them is gone for good.
#[tokio::test]
async fn places_that_nobody_shows_are_waited_for_a_week() {
    let (mut world, _folder) = restored().await;
    let anchored = world.chain.anchored().len();
    drop(world.circle.lose_reports());
    round(&world).await;
    world.clock.advance(7 * 24 * 60 * 60);
    run(&mut world).await;
    assert!(world.chain.anchored().len() > anchored);
}

/// It is in no block yet when it is looked for.
#[tokio::test]
async fn a_batch_that_was_on_its_way_at_a_restore_is_anchored_once() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let folder = tempfile::tempdir().expect("a folder");
    let (out, home) = (folder.path().join("backup"), folder.path().join("home"));
    let (store, now) = (&world.pipeline.store, UnixSeconds(START));
    let made = backup(world.home.path(), store, &out, now).await;
    made.expect("a backup");
    world.chain.get_stuck();
    for _ in 0..4 {
        round(&world).await;
    }
    restore(&out, &home, &secret(), now).await.expect("a home");
    world.pipeline.store = crate::shared::opened(&home).await.expect("a store");
    world.pipeline.readings = Readings::default();
    for _ in 0..4 {
        round(&world).await;
    }
    world.chain.go_on(true);
    run(&mut world).await;
    for number in 0..CONSENTS {
        let roots = anchored_in(&world, consent(number).1.commitment);
        assert_eq!(roots.len(), 1, "consent {number} is anchored once");
    }
}

#[tokio::test]
async fn a_folder_that_is_no_whole_backup_makes_no_home() {
    let world = world(Vec::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (out, home) = (folder.path().join("backup"), folder.path().join("home"));
    let (store, now) = (&world.pipeline.store, UnixSeconds(START));
    std::fs::write(world.home.path().join("keys.json"), "{}").expect("written");
    std::fs::write(world.home.path().join(".draft"), "half a").expect("written");
    let made = backup(world.home.path(), store, &out, now)
        .await
        .expect("a backup");
    assert_eq!(
        made.files.keys().collect::<Vec<_>>(),
        ["keys.json", "medsync.db"]
    );
    let again = backup(world.home.path(), store, &out, now).await;
    assert!(
        matches!(again, Err(BackupError::NoBackup { .. })),
        "it is not empty"
    );
    let keys = out.join("keys.json");
    for (what, spoil) in [
        (
            "another content",
            Box::new(|| std::fs::write(&keys, "[]")) as Box<dyn Fn() -> _>,
        ),
        ("a missing file", Box::new(|| std::fs::remove_file(&keys))),
        (
            "no manifest",
            Box::new(|| std::fs::remove_file(out.join("backup.json"))),
        ),
    ] {
        spoil().expect("spoilt");
        assert!(
            restore(&out, &home, &secret(), now).await.is_err(),
            "{what}"
        );
        assert!(!home.exists(), "{what}");
    }
}

/// The marker comes first and the configuration last; what is under way lies in a draft.
#[tokio::test]
async fn a_restore_that_died_at_any_step_is_done_again() {
    let world = world(Vec::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (out, now) = (folder.path().join("backup"), UnixSeconds(START));
    for name in ["anchor-account.key", "keys.json", "medsync.toml"] {
        std::fs::write(world.home.path().join(name), name).expect("written");
    }
    let store = &world.pipeline.store;
    let made = backup(world.home.path(), store, &out, now).await;
    let steps = ["anchor-account.key", "keys.json", "medsync.db"];
    assert!(
        made.expect("a backup")
            .files
            .keys()
            .eq(steps.iter().chain(&["medsync.toml"]))
    );
    for done in 0..=steps.len() {
        let home = folder.path().join(format!("home-{done}"));
        std::fs::create_dir(&home).expect("a folder");
        let write = |name: &str, content: &[u8]| {
            std::fs::write(home.join(name), content).expect("written");
        };
        write("restoring", b"");
        for name in &steps[..done] {
            write(name, &std::fs::read(out.join(name)).expect("its content"));
        }
        write(".tmpAbCdEf", b"half a file");
        write("medsync.db-wal", b"of a store that was being opened");
        assert!(!home.join("medsync.toml").exists(), "it is no home yet");
        restore(&out, &home, &secret(), now).await.expect("a home");
        for name in ["anchor-account.key", "keys.json", "medsync.toml"] {
            let restored = std::fs::read(home.join(name)).expect("it is there");
            assert_eq!(restored, name.as_bytes(), "{done} steps");
        }
        crate::shared::opened(&home).await.expect("a sound store");
        for name in ["restoring", ".tmpAbCdEf"] {
            assert!(!home.join(name).exists(), "{name} after {done} steps");
        }
        let again = restore(&out, &home, &secret(), now).await;
        assert!(matches!(again, Err(BackupError::Config(_))), "it is whole");
    }
}

#[tokio::test]
async fn what_does_not_fit_together_is_named() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    assert_eq!(found(&world).await, []);
    // An entry that was not taken in.
    world.circle.add_consent(consent(9).0);
    let entries = BTreeMap::from([(EntryKind::Consent.name(), 1)]);
    let expected = Discrepancy::NotTakenIn {
        context: CONTEXT,
        entries,
    };
    assert!(expected.is_mended());
    assert_eq!(found(&world).await, [expected]);
    run(&mut world).await;
    // A revocation that is gone from its circle, until it was looked at.
    world.circle.forget(EntryKind::Revocation);
    let expected = Discrepancy::NotPublished {
        context: CONTEXT,
        revocations: 1,
    };
    assert_eq!(found(&world).await, [expected]);
    // A circle that is stopped.
    let store = &world.pipeline.store;
    store
        .raise_alarm(CONTEXT, "a reader was added")
        .await
        .expect("raised");
    let names = found(&world).await;
    assert!(matches!(names.as_slice(), [Discrepancy::NotEntered { .. }]));
    assert!(!names[0].is_mended());
    // A chain that has nothing of it.
    world.chain.forget_everything();
    let names = found(&world).await;
    let is_lost = |one: &&Discrepancy| matches!(one, Discrepancy::BatchNotOnChain { .. });
    assert_eq!(names.iter().filter(is_lost).count(), 3);
    let revocation = |one: &Discrepancy| matches!(one, Discrepancy::RevocationNotOnChain { .. });
    assert!(names.iter().any(revocation));
}

#[tokio::test]
async fn an_account_that_anchors_past_the_store_is_named() {
    let (world, _folder) = restored().await;
    let names = found(&world).await;
    let other = |one: &Discrepancy| matches!(one, Discrepancy::OtherHead { .. });
    assert!(names.iter().any(other), "{names:?}");
}

/// What was signed since the backup is read before anything is signed again.
#[tokio::test]
async fn a_home_that_was_restored_signs_nothing_before_it_read_its_own_log() {
    let (world, _folder) = restored().await;
    let (store, author) = (&world.pipeline.store, custodian_author());
    let (now, mut random) = (UnixSeconds(START), system_random());
    let says = Body::Erased {
        order: None,
        said_by: None,
        records: Vec::new(),
    };
    let refused = append(store, CONTEXT, &author, &says, now, &mut random).await;
    assert!(matches!(refused, Err(AuditError::Unread(CONTEXT))));
    let read = catch_up(store, &world.circle, &author, now).await;
    read.expect("read");
    let said = append(store, CONTEXT, &author, &says, now, &mut random).await;
    said.expect("signed");
}

#[tokio::test]
async fn a_patient_that_was_restored_spends_no_counter_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = crate::shared::opened(folder.path()).await.expect("a store");
    let mut spent = Vec::new();
    // The same backup, from before the first grant, is restored three times.
    for restored in 0..3 {
        let now = UnixSeconds(START + 10 * restored);
        store.was_restored(now).await.expect("noted");
        for number in 0..10 {
            let request = format!("{restored} {number}");
            let counter = store.spend_counter(CONTEXT, &request, now).await;
            let Counter(counter) = counter.expect("spent");
            assert!(!spent.contains(&counter), "{counter} was spent before");
            // As `medsync patient openings --restored-at` counts.
            assert_eq!(counter, (now.0 + number) * 16);
            spent.push(counter);
        }
        forget_grants(folder.path()).await;
    }
    let all = [0, 10, 20].map(|later| UnixSeconds(START + later));
    assert_eq!(store.restored_at().await.expect("read"), all);
}

/// The store goes back to before the first grant.
async fn forget_grants(home: &std::path::Path) {
    super::shared::write_past(home, "DELETE FROM grants").await;
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_done_again_and_no_old_journal_is_read() {
    let world = world(Vec::new()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (out, home) = (folder.path().join("backup"), folder.path().join("home"));
    let (store, now) = (&world.pipeline.store, UnixSeconds(START));
    backup(world.home.path(), store, &out, now)
        .await
        .expect("a backup");
    std::fs::create_dir(&home).expect("made");
    std::fs::write(home.join("medsync.db-wal"), "of another store").expect("written");
    let refused = restore(&out, &home, &secret(), now).await;
    assert!(matches!(refused, Err(BackupError::NotEmpty(_))));
    std::fs::write(home.join("restoring"), "").expect("written");
    restore(&out, &home, &secret(), now).await.expect("a home");
    assert!(!home.join("restoring").exists());
    let restored = crate::shared::opened(&home).await.expect("a store");
    assert_eq!(restored.circles().await.expect("circles").len(), 1);
}

#[tokio::test]
async fn hostile_member_names_a_block_and_it_is_not_believed() {
    let (mut world, _folder) = restored().await;
    world.circle.report_another_block();
    run(&mut world).await;
    check(&world, "restored");
    let batches = world.pipeline.store.anchored_batches(BatchId(0), 9).await;
    let batches = batches.expect("the store");
    let is_made_up = |batch: &BatchRow| batch.block.is_some_and(|(block, _)| block.number.0 == 77);
    assert!(!batches.iter().any(is_made_up));
}
