//! Log entries: into their contexts, into batches, and kept whatever becomes of them.

use medsync::audit::{self, AuditError};
use medsync::daemon;
use medsync::seams::system_random;
use medsync::source::{Circle, EntryKind, LogEntry};
use medsync::store::Store;
use medsync::store::log::LogFilter;
use medsync_protocol::audit::{Body, Seq};
use medsync_protocol::consent::Commitment;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::UnixSeconds;

use super::circle::{CONTEXT, Refuses, custodian_author};
use super::faults::{Fault, Plan};
use super::{START, World, patient, run, world};

const NOW: UnixSeconds = UnixSeconds(START);

fn says(number: u64) -> Body {
    Body::Granted {
        consent: Commitment::from_felt(Felt::from(number)),
    }
}

async fn append(store: &Store, number: u64) -> LogEntry {
    audit::append(
        store,
        CONTEXT,
        &patient(),
        &says(number),
        NOW,
        &mut system_random(),
    )
    .await
    .expect("kept")
}

async fn kept(world: &World) -> Vec<LogEntry> {
    let log = world
        .pipeline
        .store
        .log(CONTEXT, &LogFilter::default())
        .await;
    log.expect("the store")
}

/// Rounds of the lanes and of the publisher until nothing is left to do.
async fn run_with_log(world: &mut World) {
    for _ in 0..4 {
        // A failure is what the daemon would log.
        let _ = daemon::publish_log(&world.pipeline).await;
        if world.faults.revive() {
            world.restart().await;
        }
        run(world).await;
    }
}

#[tokio::test]
async fn entries_are_published_anchored_and_each_number_is_used_once() {
    let mut world = world(Vec::new()).await;
    for number in 0..5 {
        append(&world.pipeline.store, number).await;
    }
    run_with_log(&mut world).await;
    let (entries, heads) = (world.circle.log_entries(), world.circle.heads());
    assert_eq!(entries, kept(&world).await);
    assert_eq!(heads.len(), 1);
    assert_eq!(heads[0].seq, Seq(4));
    assert!(heads[0].is_included(CONTEXT));
    assert_eq!(world.chain.anchored(), [heads[0].root]);
    let there = entries.iter().map(LogEntry::digest).collect();
    let anchored = [(heads[0].root, NOW)].into();
    let whose = (CONTEXT, patient().public_key());
    let report = audit::check(whose, &entries, Some(&there), &heads, &anchored);
    assert_eq!((report.sound, report.faults.len()), (5, 0));
    assert_eq!(report.anchored, Some((Seq(4), NOW)));
    // Without news there is no further batch; with news there is one.
    run_with_log(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 1);
    append(&world.pipeline.store, 9).await;
    run_with_log(&mut world).await;
    assert_eq!(world.chain.anchored().len(), 2);
    assert_eq!(world.circle.heads()[1].seq, Seq(5));
}

#[tokio::test]
async fn writers_at_once_never_share_a_number() {
    let world = world(Vec::new()).await;
    let writers = (0..8).map(|number| {
        let store = world.pipeline.store.clone();
        tokio::spawn(async move { append(&store, number).await.entry.seq })
    });
    let mut numbers = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        numbers.push(writer.await.expect("it ran"));
    }
    numbers.sort();
    assert_eq!(numbers, (0..8).map(Seq).collect::<Vec<_>>());
    let (log, whose) = (kept(&world).await, (CONTEXT, patient().public_key()));
    let report = audit::check(whose, &log, None, &[], &Default::default());
    assert_eq!((report.sound, report.faults.len()), (8, 0));
}

#[tokio::test]
async fn hostile_weather_an_entry_is_published_once_whatever_fails() {
    for operation in ["append_log", "record_head"] {
        for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
            for call in 1..=2 {
                let plan = Plan {
                    operation,
                    call,
                    fault,
                };
                let name = format!("{plan:?}");
                let mut world = world(vec![plan]).await;
                append(&world.pipeline.store, 1).await;
                append(&world.pipeline.store, 2).await;
                run_with_log(&mut world).await;
                assert_eq!(world.circle.log_entries(), kept(&world).await, "{name}");
                let heads = world.circle.heads();
                assert_eq!(heads.last().map(|head| head.seq), Some(Seq(1)), "{name}");
                let anchored = world.chain.anchored();
                let is_anchored = heads.iter().all(|head| anchored.contains(&head.root));
                assert!(is_anchored, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn hostile_member_drops_the_log_and_it_is_brought_back() {
    let mut world = world(Vec::new()).await;
    append(&world.pipeline.store, 1).await;
    append(&world.pipeline.store, 2).await;
    run_with_log(&mut world).await;
    let before = world.circle.log_entries();
    world.circle.drop_entries();
    run_with_log(&mut world).await;
    assert_eq!(world.circle.log_entries(), before);
}

#[tokio::test]
async fn hostile_author_forks_a_log_and_it_is_kept_and_told() {
    let mut world = world(Vec::new()).await;
    let first = append(&world.pipeline.store, 1).await;
    run_with_log(&mut world).await;
    // The same author signs another entry with the same number, elsewhere.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let other_store = Store::open(elsewhere.path()).await.expect("a store");
    let other = append(&other_store, 2).await;
    assert_eq!(first.entry.seq, other.entry.seq);
    world
        .circle
        .append_log(&other)
        .await
        .expect("a patched node takes it");
    run_with_log(&mut world).await;
    let fact = world
        .pipeline
        .store
        .fact(&audit::forked_fact(CONTEXT))
        .await;
    let why = fact.expect("the store").expect("it is told");
    assert!(why.contains("number 0"), "{why}");
    assert_eq!(kept(&world).await.len(), 2);
}

#[tokio::test]
async fn a_restored_store_takes_over_what_it_signed_before() {
    let mut world = world(Vec::new()).await;
    append(&world.pipeline.store, 1).await;
    append(&world.pipeline.store, 2).await;
    run_with_log(&mut world).await;
    let restored = tempfile::tempdir().expect("a folder");
    let store = Store::open(restored.path()).await.expect("a store");
    audit::catch_up(&store, &world.circle, &patient(), NOW)
        .await
        .expect("read");
    assert_eq!(append(&store, 3).await.entry.seq, Seq(2));
}

#[tokio::test]
async fn what_is_not_in_its_context_does_not_count_as_logged() {
    let mut world = world(Vec::new()).await;
    let entry = append(&world.pipeline.store, 1).await;
    let read = audit::read_back(&world.circle, &entry).await;
    assert!(matches!(read, Err(AuditError::NotThere(_))));
    run_with_log(&mut world).await;
    audit::read_back(&world.circle, &entry)
        .await
        .expect("it is there");
}

#[tokio::test]
async fn hostile_circle_that_takes_no_head_keeps_no_other_waiting() {
    let mut world = world(Vec::new()).await;
    world.enter_other().await;
    for context in [CONTEXT, super::OTHER] {
        let (store, now) = (&world.pipeline.store, NOW);
        audit::append(
            store,
            context,
            &patient(),
            &says(1),
            now,
            &mut system_random(),
        )
        .await
        .expect("kept");
    }
    daemon::publish_log(&world.pipeline)
        .await
        .expect("published");
    world.other.refuse(Refuses::Everything);
    run_with_log(&mut world).await;
    let heads = world.circle.heads();
    let anchored = world.chain.anchored();
    assert!(heads.iter().any(|head| anchored.contains(&head.root)));
    assert!(world.other.heads().is_empty());
}

#[tokio::test]
async fn hostile_log_that_is_refused_keeps_no_other_author_out() {
    let mut world = world(Vec::new()).await;
    let other = custodian_author();
    for author in [&patient(), &other] {
        let (store, says) = (&world.pipeline.store, says(1));
        audit::append(store, CONTEXT, author, &says, NOW, &mut system_random())
            .await
            .expect("kept");
    }
    for refused in [patient().public_key(), other.public_key()] {
        world.circle.refuse(Refuses::LogOf(refused));
        world.circle.forget(EntryKind::Log);
        run_with_log(&mut world).await;
        let there = world.circle.log_entries();
        assert_eq!(there.len(), 1);
        assert_ne!(there[0].entry.author_key, refused);
    }
}
