//! Log entries: into their contexts, into batches, and kept whatever becomes of them.

use std::sync::Arc;

use clap::Parser;
use medsync::at_rest::HomeSecret;
use medsync::audit::{self, AuditError, Fault as Broken, Report};
use medsync::commands::Cli;
use medsync::config::{
    BatchConfig, ChainConfig, Config, NodeConfig, RetentionConfig, Role, block_age_s_max,
};
use medsync::daemon;
use medsync::files;
use medsync::pipeline::{Pipeline, ingest};
use medsync::seams::system_random;
use medsync::source::{Circle, EntryKind, LogEntry};
use medsync::store::Store;
use medsync::store::circles::CircleRow;
use medsync::store::log::LogFilter;
use medsync_protocol::audit::{Body, Seq};
use medsync_protocol::consent::Commitment;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ClassHash, UnixSeconds};
use tokio::sync::OnceCell;

use super::access::{files_of, holds};
use super::circle::{CONTEXT, FakeCircles, Refuses, custodian_author};
use super::faults::{Fault, Faults, Plan};
use super::{START, World, patient, registry, row, run, world};

const NOW: UnixSeconds = UnixSeconds(START);
/// No fault.
const NONE: &[Broken] = &[];

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

/// Before the next walk, so that its circle is as it was at the last one; and what is back under
/// another key is not asked for again and again.
#[tokio::test]
async fn hostile_node_loses_a_log_twice_and_it_is_brought_back_once_each() {
    const HOUR_S: u64 = 60 * 60;
    let mut world = world(Vec::new()).await;
    world.circle.add_enrolment(patient().public_key());
    append(&world.pipeline.store, 1).await;
    run_with_log(&mut world).await;
    world.circle.forget(EntryKind::Log);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    daemon::publish_log(&world.pipeline)
        .await
        .expect("published");
    assert_eq!(world.circle.log_entries().len(), 1);
    world.circle.forget(EntryKind::Log);
    world.clock.advance(HOUR_S);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let store = &world.pipeline.store;
    let waits = async || {
        store
            .contexts_with_unpublished_entries()
            .await
            .expect("the store")
    };
    assert_eq!(waits().await, [CONTEXT]);
    daemon::publish_log(&world.pipeline)
        .await
        .expect("published");
    assert_eq!(world.circle.log_entries().len(), 1);
    for _ in 0..2 {
        world.clock.advance(HOUR_S);
        ingest::ingest_all(&world.pipeline).await.expect("read");
        assert_eq!(waits().await, []);
    }
}

#[tokio::test]
async fn what_a_log_says_lies_sealed() {
    let world = world(Vec::new()).await;
    let said = append(&world.pipeline.store, 1).await;
    let files = files_of(world.home.path());
    assert!(holds(&files, said.digest().to_string().as_bytes()));
    // Of what is guessed at, the digest says whether it is right.
    assert!(!holds(&files, said.entry.subject.to_string().as_bytes()));
}

#[tokio::test]
async fn hostile_author_forks_a_log_and_it_is_kept_and_told() {
    let mut world = world(Vec::new()).await;
    let first = append(&world.pipeline.store, 1).await;
    run_with_log(&mut world).await;
    // The same author signs another entry with the same number, elsewhere.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let other_store = crate::shared::opened(elsewhere.path())
        .await
        .expect("a store");
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
    let store = crate::shared::opened(restored.path())
        .await
        .expect("a store");
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

/// Three entries of the patient's that follow each other, in no store of the test.
async fn three() -> Vec<LogEntry> {
    let folder = tempfile::tempdir().expect("a folder");
    let store = crate::shared::opened(folder.path()).await.expect("a store");
    let mut entries = Vec::new();
    for number in 1..=3 {
        entries.push(append(&store, number).await);
    }
    entries
}

/// The same entry under a signature that is of another.
fn forged(entry: &LogEntry, other: &LogEntry) -> LogEntry {
    LogEntry {
        signature: other.signature,
        ..entry.clone()
    }
}

/// Checks the logs of the circle with the endpoint taken for the right one.
async fn checked(pipeline: &Pipeline) -> Report {
    checked_of(pipeline, &row()).await
}

/// The same of a circle as a store has it.
pub(super) async fn checked_of(pipeline: &Pipeline, row: &CircleRow) -> Report {
    let pipeline = Pipeline {
        chain_is_right: Arc::new(OnceCell::new_with(Some(()))),
        ..pipeline.clone()
    };
    audit::verify(&pipeline, row).await.expect("an answer")
}

/// What is wrong with the one log of a report, and what the command ends with.
fn faults(report: &Report) -> (u8, &[Broken]) {
    let [only] = report.logs.as_slice() else {
        panic!("one log: {report:?}");
    };
    assert_eq!(only.log.author_key, patient().public_key());
    (report.exit_code(), &only.log.faults)
}

async fn shows(world: &World, entries: &[&LogEntry]) {
    for entry in entries {
        world.circle.append_log(entry).await.expect("taken");
    }
}

#[tokio::test]
async fn a_log_that_is_whole_ends_the_check_with_0_anchored_or_not() {
    let mut world = world(Vec::new()).await;
    let nobodys = checked(&world.pipeline).await;
    assert_eq!((nobodys.exit_code(), nobodys.logs.len()), (0, 0));
    append(&world.pipeline.store, 1).await;
    daemon::publish_log(&world.pipeline)
        .await
        .expect("published");
    let report = checked(&world.pipeline).await;
    assert_eq!(faults(&report), (0, NONE));
    assert_eq!((report.logs[0].by, report.was_read), ("patient", true));
    assert_eq!(report.logs[0].log.anchored, None);
    run_with_log(&mut world).await;
    let report = checked(&world.pipeline).await;
    assert_eq!(faults(&report), (0, NONE));
    let anchored = report.logs[0].log.anchored;
    assert_eq!(anchored.map(|(seq, _)| seq), Some(Seq(0)));
}

#[tokio::test]
async fn hostile_gap_fork_and_false_signature_end_the_check_with_2_and_are_named() {
    let entries = three().await;
    let world_with_gap = world(Vec::new()).await;
    shows(&world_with_gap, &[&entries[0], &entries[2]]).await;
    let report = checked(&world_with_gap.pipeline).await;
    assert_eq!(faults(&report), (2, &[Broken::Missing { seq: Seq(1) }][..]));

    let forked = world(Vec::new()).await;
    let others = three().await;
    shows(&forked, &[&entries[0], &others[0]]).await;
    let report = checked(&forked.pipeline).await;
    let (code, found) = faults(&report);
    assert_eq!(code, 2);
    let [Broken::Fork { seq, digests }] = found else {
        panic!("{found:?}");
    };
    assert_eq!((*seq, digests.len()), (Seq(0), 2));

    let world = world(Vec::new()).await;
    let second = forged(&entries[1], &entries[0]);
    shows(&world, &[&entries[0], &second]).await;
    let kept = world.pipeline.store.keep_entry(&second, NOW).await;
    assert!(kept.expect("the store"));
    let report = checked(&world.pipeline).await;
    let false_one = Broken::BadSignature { seq: Seq(1) };
    assert_eq!(faults(&report), (2, &[false_one][..]));
}

#[tokio::test]
async fn hostile_tail_that_was_cut_ends_the_check_with_2_whoever_has_it() {
    let mut world = world(Vec::new()).await;
    append(&world.pipeline.store, 1).await;
    let last = append(&world.pipeline.store, 2).await;
    run_with_log(&mut world).await;
    let head = world.circle.heads()[0].clone();
    world.circle.forget(EntryKind::Log);
    // Whoever kept the entries says that they vanished.
    let report = checked(&world.pipeline).await;
    let (code, found) = faults(&report);
    let vanished = |fault: &Broken| matches!(fault, Broken::Vanished { .. });
    assert_eq!((code, found.len()), (2, 2));
    assert!(found.iter().all(vanished), "{found:?}");
    // Whoever never had them sees by the batch that they were there.
    let folder = tempfile::tempdir().expect("a folder");
    let store = crate::shared::opened(folder.path()).await.expect("a store");
    store.enter_circle(&row()).await.expect("entered");
    store.keep_head(CONTEXT, &head, NOW).await.expect("kept");
    let pipeline = Pipeline {
        store,
        ..world.pipeline.clone()
    };
    let report = checked(&pipeline).await;
    let gone = Broken::AnchoredAndGone {
        seq: Seq(1),
        digest: last.digest(),
    };
    assert_eq!(faults(&report), (2, &[gone][..]));
}

#[tokio::test]
async fn a_circle_that_cannot_be_read_ends_the_check_with_3_unless_what_was_kept_is_broken() {
    let mut world = world(Vec::new()).await;
    let entries = three().await;
    let store = world.pipeline.store.clone();
    for entry in &entries[..2] {
        store.keep_entry(entry, NOW).await.expect("kept");
    }
    let silent = (1..=2).map(|call| Plan {
        operation: "pin",
        call,
        fault: Fault::Failed,
    });
    let circle = world.circle.with_faults(Faults::planned(silent.collect()));
    world.pipeline.circles = Arc::new(FakeCircles(vec![circle]));
    let report = checked(&world.pipeline).await;
    assert_eq!(faults(&report), (3, NONE));
    assert_eq!((report.logs[0].by, report.was_read), ("unknown", false));
    let third = forged(&entries[2], &entries[0]);
    store.keep_entry(&third, NOW).await.expect("kept");
    let report = checked(&world.pipeline).await;
    assert!(!report.was_read);
    assert_eq!(faults(&report).0, 2, "a broken log is said first");
}

/// The home of somebody whose node and endpoint are both down.
async fn home_without_a_node() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join("home");
    files::private_folder(&home).expect("made");
    let credential = home.join("credential.json");
    let login = br#"{"username": "medsync", "password": "of no node"}"#;
    files::write_new_secret(&credential, login).expect("written");
    let config = Config {
        role: Role::Patient,
        node: NodeConfig {
            api: "http://127.0.0.1:9".parse().expect("an address"),
            credential,
            peer: None,
            app: home.join("app.wasm"),
            run: None,
        },
        chain: ChainConfig {
            rpc: vec!["http://127.0.0.1:9/rpc".parse().expect("an address")],
            chain_id: registry().chain_id,
            registry: registry().registry,
            class_hash: ClassHash::from_felt(Felt::ONE),
            block_age_s_max: block_age_s_max(),
        },
        anchor_account: None,
        revoke_account: None,
        claim_account: None,
        relay_after_s: 0,
        batch: BatchConfig::default(),
        retention: RetentionConfig::default(),
        store: None,
        api: None,
    };
    config.save(&home).expect("written");
    let secret = HomeSecret::of_new(&home, &mut system_random()).expect("a secret");
    let store = Store::open(&home, &secret).await.expect("a store");
    store.enter_circle(&row()).await.expect("entered");
    (folder, store)
}

#[tokio::test]
async fn the_command_ends_with_3_without_a_node_and_with_2_on_a_broken_log() {
    let (folder, store) = home_without_a_node().await;
    let home = folder.path().join("home");
    let home = home.to_str().expect("a path");
    let entries = three().await;
    let verify = async || {
        let line = ["medsync", "audit", "verify", "--home", home, "--json"];
        let command = Cli::try_parse_from(line).expect("a command");
        command.run().await.expect("an exit code")
    };
    store.keep_entry(&entries[0], NOW).await.expect("kept");
    assert_eq!(verify().await, 3);
    store.keep_entry(&entries[2], NOW).await.expect("kept");
    assert_eq!(verify().await, 2, "the second is missing");
}
