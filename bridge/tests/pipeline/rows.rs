//! Rows of the store that cannot be read: each hinders what it is about, and nothing else.

use medsync::daemon;
use medsync::fsck::{Discrepancy, rebuild};
use medsync::pipeline::ingest::unreadable_fact;
use medsync::pipeline::{ingest, tickets};
use medsync::source::StageReport;

use super::access::records::add_record;
use super::circle::{CONTEXT, FakeCircle, OTHER, Refuses};
use super::faults::Fault;
use super::kept::spoil;
use super::restored::found;
use super::writes::anchored_in;
use super::{
    CONSENTS, SETTLED_S, World, anchorer, consent, consent_of, fill, patient, revocation_of, round,
    run, world,
};

/// Longer than anything waits that was told once.
const LATER_S: u64 = 2 * 60 * 60;

async fn rounds(world: &World, count: u32) {
    for _ in 0..count {
        round(world).await;
    }
}

fn is_told(circle: &FakeCircle) -> bool {
    let reports = circle.reports();
    let mut stages = reports.iter().map(|report| report.stage);
    stages.any(|stage| matches!(stage, StageReport::Anchored { .. }))
}

/// What comes after the reading in the daemon's lane.
async fn publish(world: &World) {
    let pipeline = &world.pipeline;
    let revocations = daemon::publish_revocations(pipeline).await;
    revocations.expect("one that cannot be brought is put off");
    let keys = daemon::publish_key_changes(pipeline).await;
    keys.expect("one context keeps no other out");
    let log = daemon::publish_log(pipeline).await;
    log.expect("one context keeps no other out");
    let tickets = tickets::bring_back(pipeline).await;
    tickets.expect("one circle keeps no other out");
}

#[tokio::test]
async fn hostile_disk_spoils_what_is_known_of_a_circle_and_the_others_go_on() {
    for (named, statement) in [
        ("label", "UPDATE circles SET label = 'x'"),
        ("invitation", "UPDATE circles SET invitation = 'x'"),
        ("digest", "UPDATE seen SET digest = 'x'"),
        (
            "key",
            "INSERT INTO key_changes (context, seq, old_key, new_key, changed_by, signature, \
             seen_at) SELECT context, 0, 'x', 'x', 'old', 'x', 0 FROM circles",
        ),
    ] {
        let world = world(Vec::new()).await;
        world.enter_other().await;
        world.circle.add_consent(consent(0).0);
        ingest::ingest_all(&world.pipeline).await.expect("read");
        spoil(&world, &format!("{statement} WHERE context = '{CONTEXT}'")).await;
        // What changes is read again.
        world.circle.add_consent(consent(2).0);
        let (granted, signed) = consent_of(&patient(), 1, OTHER, anchorer());
        world.other.add_consent(granted);
        world.other.add_revocation(revocation_of(&signed));
        let read = ingest::ingest_all(&world.pipeline).await;
        assert_eq!(read.expect("the other").failed, 1, "{named}");
        publish(&world).await;
        rounds(&world, 6).await;
        assert_eq!(world.chain.revoked(), [signed.secrets.handle()], "{named}");
        assert!(is_told(&world.other), "{named}: it goes on");
        let hindrance = unreadable_fact(&CONTEXT.to_string());
        let hindrance = world.pipeline.store.fact(&hindrance).await;
        let hindrance = hindrance.expect("the store").unwrap_or_default();
        assert!(hindrance.contains(named), "{named}: {hindrance}");
        // A rebuild runs, and what it cannot make anew is still named.
        for _ in 0..2 {
            let names = found(&world).await;
            let is_named = matches!(&names[..], [Discrepancy::UnreadableCircle { circle, why }]
                if *circle == CONTEXT.to_string() && why.contains(named));
            assert!(is_named && !names[0].is_mended(), "{named}: {names:?}");
            rebuild(&world.pipeline, &names).await.expect("rebuilt");
        }
    }
}

#[tokio::test]
async fn hostile_disk_spoils_the_key_of_a_record_and_it_is_named_with_those_that_are_missing() {
    let world = world(Vec::new()).await;
    for number in [1, 2] {
        add_record(&world, number).await;
    }
    ingest::ingest_all(&world.pipeline).await.expect("read");
    spoil(
        &world,
        "UPDATE record_keys SET custodian_secret = 'x' \
         WHERE record = (SELECT MIN(record) FROM record_keys)",
    )
    .await;
    let names = found(&world).await;
    let is_named = |one: &Discrepancy| matches!(one, Discrepancy::NoKeys { records: 1, .. });
    assert!(names.iter().any(is_named), "{names:?}");
}

/// One that is sealed is taken apart. One that is placed is not: its circles have the paths, and
/// its root and the number of its leaves are enough to send it.
#[tokio::test]
async fn hostile_disk_spoils_a_batch_on_its_way_and_each_consent_is_anchored_once() {
    for (state, fails) in [("sealed", "record_anchor"), ("placed", "prepare")] {
        for leaves in ["x", "[\"0x1\"]"] {
            let mut world = world(Vec::new()).await;
            fill(&world.circle);
            ingest::ingest_all(&world.pipeline).await.expect("read");
            world.faults.plan_next(fails, Fault::Failed);
            let moved = world.pipeline.batch_round().await;
            moved.expect_err("it goes no further");
            let statement = format!("UPDATE batches SET leaves = '{leaves}' WHERE state =");
            spoil(&world, &format!("{statement} '{state}'")).await;
            world.restart().await;
            let names = found(&world).await;
            let is_named = matches!(names[..], [Discrepancy::BrokenBatch { batch: 1, .. }]);
            assert!(is_named, "{state} {leaves}: {names:?}");
            run(&mut world).await;
            check_anchored(&world, state);
            let names = found(&world).await;
            assert_eq!(names.is_empty(), state == "sealed", "{leaves}: {names:?}");
            rebuild(&world.pipeline, &names).await.expect("rebuilt");
            world.restart().await;
            run(&mut world).await;
            assert_eq!(found(&world).await, [], "{state} {leaves}: it is mended");
            check_anchored(&world, state);
        }
    }
}

/// Its transaction may land at any time: it is not taken apart.
#[tokio::test]
async fn hostile_disk_spoils_a_batch_that_is_out_and_a_rebuild_leaves_it_alone() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    world.chain.get_stuck();
    rounds(&world, 4).await;
    spoil(&world, "UPDATE batches SET leaves = 'x' WHERE id = 1").await;
    world.restart().await;
    let names = found(&world).await;
    let is_named = |one: &Discrepancy| matches!(one, Discrepancy::BrokenBatch { batch: 1, .. });
    assert!(names.iter().any(is_named), "{names:?}");
    rebuild(&world.pipeline, &names).await.expect("rebuilt");
    world.restart().await;
    world.clock.advance(SETTLED_S);
    rounds(&world, 2).await;
    world.chain.go_on(true);
    run(&mut world).await;
    check_anchored(&world, "out");
}

/// Each consent is anchored once, and its circle was told.
fn check_anchored(world: &World, why: &str) {
    let reports = world.circle.reports();
    for number in 0..CONSENTS {
        let commitment = consent(number).0.commitment;
        let roots = anchored_in(world, commitment);
        assert_eq!(roots.len(), 1, "{why}: {number} is anchored once");
        let mut own = reports.iter().filter(|told| told.commitment == commitment);
        let is_told = own.any(|told| matches!(told.stage, StageReport::Anchored { .. }));
        assert!(is_told, "{why}: the circle of {number} knows its block");
    }
    assert_eq!(world.chain.anchored().len(), 2, "{why}: no batch more");
}

/// Nobody shows the paths of the first batch either, for a while.
#[tokio::test]
async fn hostile_disk_spoils_a_batch_that_was_not_told_and_keeps_no_other_from_hearing() {
    let mut world = world(Vec::new()).await;
    world.pipeline.batch.consents_max = 1;
    world.enter_other().await;
    for circle in [&world.circle, &world.other] {
        circle.refuse(Refuses::Blocks);
    }
    world.circle.add_consent(consent(0).0);
    rounds(&world, 4).await;
    let (granted, _) = consent_of(&patient(), 1, OTHER, anchorer());
    world.other.add_consent(granted);
    rounds(&world, 4).await;
    assert_eq!(world.chain.anchored().len(), 2);
    spoil(&world, "UPDATE batches SET leaves = 'x' WHERE id = 1").await;
    world.restart().await;
    let shown = world.circle.lose_reports();
    for circle in [&world.circle, &world.other] {
        circle.refuse(Refuses::Nothing);
    }
    world.clock.advance(LATER_S);
    rounds(&world, 3).await;
    assert!(is_told(&world.other), "another batch is told");
    assert!(!is_told(&world.circle), "its path is not known");
    world.circle.hear_reports(shown);
    world.clock.advance(LATER_S);
    run(&mut world).await;
    assert!(is_told(&world.circle), "its circle shows the path");
    assert_eq!(world.chain.anchored().len(), 2, "nothing is sent again");
}
