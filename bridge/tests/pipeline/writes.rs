//! The fault table: days in which every write to store, circles and chain fails once in each way.
//! Whoever died starts again over the same store; whoever ran a command that failed runs it again.
//!
//! A day has rows for what is written in it and in no day before it. A write that no day has fails
//! the test: it has no row.

mod claims;
mod custodian;
mod drops;
mod exchange;
mod hospital;
mod kept;
mod members;
pub(super) mod party;
mod patient;
mod recipient;
mod refusals;
mod replicas;
mod restored;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use medsync::daemon;
use medsync::pipeline::Pipeline;
use medsync::pipeline::tickets::bring_back;
use medsync::pipeline::watch::watch_round;
use medsync_protocol::consent::Commitment;
use medsync_protocol::tree::Root;
use tokio::sync::OnceCell;

use self::claims::Claims;
use self::custodian::Custodian;
use self::drops::Drops;
use self::exchange::Exchange;
use self::hospital::Hospital;
use self::kept::Kept;
use self::members::Members;
use self::patient::Patient;
use self::recipient::Recipient;
use self::refusals::Refusals;
use self::replicas::Replicas;
use self::restored::Restored;
use super::faults::{Fault, Faults, Plan};
use super::restored::found_but_evidence;
use super::{World, round};

/// How often a command that failed is run at most: one write fails.
const RUNS_MAX: u32 = 3;

/// A day of a party's, in which its writes go wrong as planned.
trait Day: Sized {
    /// What the day is called.
    const NAME: &'static str;

    /// Lives the day.
    async fn live(plans: Vec<Plan>) -> Self;

    /// Whose writes go wrong.
    fn faults(&self) -> &Faults;

    /// The parties whose store, circles and chain have to fit together in the evening.
    fn parties(&self) -> Vec<&Pipeline>;

    /// What else has to be true in the evening.
    async fn check(&self, plan: &str);
}

/// A day's writes, by name, and how often each is made.
type Writes = BTreeMap<&'static str, u32>;

/// A day, and in the evening what has to be true; answers what was written.
async fn evening<D: Day>(plans: Vec<Plan>, name: &str) -> Writes {
    let day = D::live(plans).await;
    let writes = all_writes();
    let made: Writes = day
        .faults()
        .all_calls()
        .into_iter()
        .filter(|(call, _)| is_write(call, &writes))
        .collect();
    day.check(name).await;
    for pipeline in day.parties() {
        let found = found_but_evidence(pipeline).await;
        assert_eq!(found, [], "{} {name}", D::NAME);
    }
    made
}

/// What every day writes when nothing goes wrong, in the order in which they take their rows.
async fn calm_days() -> &'static [(&'static str, Writes)] {
    static CALM: OnceCell<Vec<(&'static str, Writes)>> = OnceCell::const_new();
    async fn calm<D: Day>() -> (&'static str, Writes) {
        (D::NAME, evening::<D>(Vec::new(), "no fault").await)
    }
    let lived = CALM.get_or_init(|| async {
        vec![
            calm::<Custodian>().await,
            calm::<Restored>().await,
            calm::<Hospital>().await,
            calm::<Patient>().await,
            calm::<Recipient>().await,
            calm::<Drops>().await,
            calm::<Refusals>().await,
            calm::<Members>().await,
            calm::<Exchange>().await,
            calm::<Kept>().await,
            calm::<Claims>().await,
            calm::<Replicas>().await,
        ]
    });
    lived.await
}

/// The rows of a day: each write that no day before it has fails in each way.
async fn rows<D: Day>() {
    let days = calm_days().await.iter();
    let mut before: BTreeSet<&str> = BTreeSet::new();
    let mut own = Writes::new();
    for (name, writes) in days {
        if *name == D::NAME {
            own.clone_from(writes);
            break;
        }
        before.extend(writes.keys());
    }
    own.retain(|write, _| !before.contains(*write));
    assert!(!own.is_empty(), "{}: it has no rows", D::NAME);
    let mut rows = 0;
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    for (operation, calls) in own {
        let mut which: Vec<u32> = (1..=calls).collect();
        if !is_full {
            which.truncate(1);
        }
        for call in which {
            for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
                let plan = Plan {
                    operation,
                    call,
                    fault,
                };
                let name = format!("{plan:?}");
                let made = evening::<D>(vec![plan], &name).await;
                assert!(made.get(operation) >= Some(&call), "{name}");
                rows += 1;
            }
        }
    }
    println!("{}: {rows} rows of the fault table hold", D::NAME);
}

#[tokio::test]
async fn hostile_disk_every_write_of_a_custodians_day_fails_once_in_each_way() {
    rows::<Custodian>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_of_a_hospitals_commands_fails_once_in_each_way() {
    rows::<Hospital>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_of_a_patients_day_fails_once_in_each_way() {
    rows::<Patient>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_of_a_recipients_day_fails_once_in_each_way() {
    rows::<Recipient>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_after_dropped_blocks_fails_once_in_each_way() {
    rows::<Drops>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_beside_a_refusing_circle_fails_once_in_each_way() {
    rows::<Refusals>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_about_members_fails_once_in_each_way() {
    rows::<Members>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_beside_a_slow_exchange_fails_once_in_each_way() {
    rows::<Exchange>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_of_a_restored_custodian_fails_once_in_each_way() {
    rows::<Restored>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_long_after_fails_once_in_each_way() {
    rows::<Kept>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_of_claims_fails_once_in_each_way() {
    rows::<Claims>().await;
}

#[tokio::test]
async fn hostile_disk_every_write_of_replicas_fails_once_in_each_way() {
    rows::<Replicas>().await;
}

#[tokio::test]
async fn every_write_has_its_row() {
    let mut without = all_writes();
    for (_, made) in calm_days().await {
        without.retain(|write| !made.contains_key(write.as_str()));
    }
    assert!(without.is_empty(), "without a row: {without:#?}");
}

/// Whether an operation is a write: the store's, which is a statement or a transaction by the name
/// of its method, or a method of a circle or an account. Every statement has to be one of those
/// that are found in the source.
fn is_write(name: &str, writes: &BTreeSet<String>) -> bool {
    let is_found = writes.contains(name);
    let mut verbs = ["INSERT ", "UPDATE ", "DELETE "].into_iter();
    let is_statement = verbs.any(|verb| name.starts_with(verb));
    assert!(is_found || !is_statement, "not in the source: {name}");
    is_found
}

/// Every write that the source has.
fn all_writes() -> BTreeSet<String> {
    let mut writes = store_writes();
    for (file, answers) in [
        ("source/mod.rs", &["Written>", "Granted>", "()>"][..]),
        ("chain/mod.rs", &["Sent, "]),
    ] {
        let found = methods_answering(file, answers);
        assert!(!found.is_empty(), "{file} has writes");
        writes.extend(found);
    }
    writes
}

/// The names of a file's asynchronous methods by what they answer.
fn methods_answering(file: &str, answers: &[&str]) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let text = std::fs::read_to_string(path).expect("text");
    let mut found = Vec::new();
    for method in text.split("    async fn ").skip(1) {
        let (name, rest) = method.split_once('(').expect("a method");
        let (_, answer) = rest.split_once("Result<").expect("an answer");
        if answers.iter().any(|wanted| answer.starts_with(wanted)) {
            found.push(name.to_owned());
        }
    }
    found
}

/// The files of a folder, and of those in it.
pub(super) fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of the source");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let files = paths.flat_map(|path| match path.is_dir() {
        true => files_in(&path),
        false => vec![path],
    });
    files.collect()
}

/// Every write in the store's source: statements that stand for themselves, and transactions.
fn store_writes() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut writes = BTreeSet::new();
    for file in files_in(&folder) {
        let text = std::fs::read_to_string(file).expect("text");
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        // Only where the store's layout is made, before there is anything to lose.
        let unnamed = shipped.matches(".begin()").count();
        assert!(
            unnamed <= 1,
            "a transaction without a name has no row: {unnamed}"
        );
        for begun in shipped.split(".begin(\"").skip(1) {
            writes.extend(begun.split('"').next().map(str::to_owned));
        }
        for verb in ["INSERT ", "UPDATE ", "DELETE "] {
            for (at, _) in shipped.match_indices(&format!("\"{verb}")) {
                let rest = &shipped[at + 1..];
                let (literal, after) = rest.split_once('"').expect("an end");
                // What runs in a transaction is all of it or nothing.
                let runs_on = after
                    .split_once("(&mut ")
                    .map_or(usize::MAX, |(x, _)| x.len());
                let alone = after
                    .split_once("(&self.db)")
                    .map_or(usize::MAX, |(x, _)| x.len());
                let in_parts = after
                    .split_once("(connection)")
                    .map_or(usize::MAX, |(x, _)| x.len());
                if alone < runs_on.min(in_parts) {
                    writes.insert(unfolded(literal));
                }
            }
        }
    }
    writes
}

/// A literal without the folds of its source.
pub(super) fn unfolded(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

/// A person runs a command until it succeeds; a process that died is started again.
async fn again<T>(world: &mut World, command: impl AsyncFn(&World) -> anyhow::Result<T>) -> T {
    let mut failed = Vec::new();
    for _ in 0..RUNS_MAX {
        let done = command(world).await;
        let has_died = world.faults.revive();
        if has_died {
            world.restart().await;
        }
        match done {
            Ok(done) if !has_died => return done,
            Ok(_) => {}
            Err(error) => failed.push(error),
        }
    }
    panic!("a command goes on failing: {failed:?}")
}

/// Rounds of a daemon's lanes; a process that died is started again. Errors are what it would log.
async fn rounds(world: &mut World, count: u32) {
    for _ in 0..count {
        let _ = round(world).await;
        let pipeline = &world.pipeline;
        let _ = daemon::publish_revocations(pipeline).await;
        let _ = daemon::publish_key_changes(pipeline).await;
        let _ = daemon::publish_log(pipeline).await;
        let _ = bring_back(pipeline).await;
        let _ = watch_round(pipeline).await;
        if world.faults.revive() {
            world.restart().await;
        }
    }
}

/// In which batches on chain a circle shows a consent.
pub(super) fn anchored_in(world: &World, consent: Commitment) -> BTreeSet<[u8; 32]> {
    let bytes = |root: Root| root.felt().to_bytes_be();
    let anchored: BTreeSet<_> = world.chain.anchored().into_iter().map(bytes).collect();
    let reports = [&world.circle, &world.other].map(super::circle::FakeCircle::reports);
    let own = reports.into_iter().flatten();
    let roots = own
        .filter(|told| told.commitment == consent)
        .map(|told| bytes(told.root));
    roots.filter(|root| anchored.contains(root)).collect()
}
