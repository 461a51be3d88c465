//! Rows of the store that cannot be read: each hinders what it is about, and nothing else.

use medsync::daemon;
use medsync::fsck::{Discrepancy, rebuild};
use medsync::pipeline::ingest::unreadable_fact;
use medsync::pipeline::{ingest, tickets};
use medsync::source::StageReport;

use super::access::records::add_record;
use super::circle::{CONTEXT, FakeCircle, OTHER};
use super::kept::spoil;
use super::restored::found;
use super::{World, anchorer, consent, consent_of, patient, revocation_of, round, world};

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
        "UPDATE record_keys SET custodian_secret = 'x' WHERE rowid = 1",
    )
    .await;
    let names = found(&world).await;
    let is_named = |one: &Discrepancy| matches!(one, Discrepancy::NoKeys { records: 1, .. });
    assert!(names.iter().any(is_named), "{names:?}");
}
