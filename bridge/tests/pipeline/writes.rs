//! The store's part of the fault table: a custodian's day, in which every write fails once in each
//! way. Whoever died starts again over the same store.
//!
//! A write that is neither part of that day nor named below fails the test: it has no row. Of what
//! is named below the simulation fails what has to do with batches, revocations and their circles.

use std::collections::BTreeSet;
use std::path::Path;

use medsync::pipeline::watch::watch_round;
use medsync::source::{EntryKind, Pool};
use medsync_protocol::audit::{Body, EntryKind as Kind};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContractAddress, UnixSeconds};
use medsync_protocol::ticket::PoolNonce;

use super::access::{RECORDS, Study, researcher};
use super::circle::CONTEXT;
use super::faults::{Fault, Plan};
use super::restored::found_but_evidence;
use super::{SETTLED_S, START, anchorer, consent_to, patient, registry, revocation_of, run};

/// Writes that are no part of that day, by what they begin with: what a command writes, which a
/// person runs again; and what is written on worse days, which the next round writes again.
const OTHERS: [&str; 38] = [
    // Commands, and a recipient's daemon.
    "DELETE FROM reply_keys",
    "INSERT INTO circles",
    "INSERT INTO grants",
    "INSERT INTO outbox",
    "INSERT INTO reply_keys",
    "UPDATE circles SET alarm = NULL",
    "UPDATE circles SET recipient_key",
    "UPDATE erased SET logged_at",
    "UPDATE grants",
    "UPDATE pools",
    "UPDATE records SET written_at",
    "erase_records",
    "plan_record",
    "was_restored",
    // An endpoint that takes something back, or a chain that drops blocks.
    "DELETE FROM revoked_elsewhere",
    "UPDATE revocations SET is_settled",
    "UPDATE revocations SET state = 'waiting', revoked_at",
    "UPDATE tickets SET replaced_at",
    "batch_lost",
    "forget_batch",
    "place_is",
    // A circle or an exchange that is stopped, refuses, or loses something.
    "INSERT INTO carry_waits",
    "UPDATE circles SET alarm = $2",
    "UPDATE circles SET suspected_at = $2",
    "UPDATE circles SET suspected_at = NULL",
    "UPDATE consents SET tell_failures",
    "UPDATE outbox SET asked_at",
    "UPDATE placed_tickets SET put_again_at = $2",
    "UPDATE placed_tickets SET put_again_at = NULL",
    "UPDATE releases SET rests_until",
    "UPDATE requests SET hindrance",
    "dissolve_batch",
    "stay_erased",
    // A key that is changed, a member who is admitted, a large record, another's records.
    "INSERT INTO carried_parts",
    "INSERT INTO key_changes",
    "INSERT INTO let_in",
    "INSERT INTO seen_versions",
    "UPDATE key_changes",
];

/// What came of a day.
struct Day {
    study: Study,
    /// The releases that were opened.
    files: usize,
}

/// A consent is anchored, asked for, released, promised a reward, revoked and erased; another is
/// revoked past everybody; a node loses its revocations once.
async fn day(plans: Vec<Plan>) -> Day {
    let mut study = Study::begin(Vec::new()).await;
    let store = &study.world.pipeline.store;
    let pool = Pool {
        contract: ContractAddress::from_felt(Felt::from(61)),
        funder: ContractAddress::from_felt(Felt::from(62)),
        nonce: PoolNonce::from_felt(Felt::from(63)),
        recipient: researcher().public_key(),
        claim_end: UnixSeconds(1_000_000),
        label: "asthma".into(),
    };
    let chain_id = registry().chain_id;
    store.keep_pool(chain_id, &pool).await.expect("kept");
    let issued = store.issue_from(pool.id(chain_id), Some(9), UnixSeconds(START));
    issued.await.expect("a pool that is kept");
    let recipient = researcher().public_key();
    let (second, signed_second) = consent_to(recipient, &patient(), 2, CONTEXT, anchorer());
    study.world.circle.add_consent(second);
    study.world.circle.add_enrolment(patient().public_key());
    study.world.faults.plan(plans);
    study.world.restart().await;
    settle(&mut study).await;
    let request = study.ask("HRESCH", |_| ()).await;
    settle(&mut study).await;
    let files = study.open(request).await;
    let second = signed_second.secrets.handle();
    study.world.chain.grow(3 * START);
    let at = UnixSeconds(START);
    study.world.chain.revoke_past_everybody(second, at);
    settle(&mut study).await;
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    settle(&mut study).await;
    study.world.circle.forget(EntryKind::Revocation);
    settle(&mut study).await;
    assert!(files.iter().all(|file| !file.exists()));
    let files = files.len();
    Day { study, files }
}

/// Rounds of every lane until everything that rests or settles has done so.
async fn settle(study: &mut Study) {
    for _ in 0..3 {
        study.settle().await;
        // A failure is what the daemon would log.
        let _ = watch_round(&study.world.pipeline).await;
        let _ = medsync::daemon::publish_revocations(&study.world.pipeline).await;
        if study.world.faults.revive() {
            study.world.restart().await;
        }
        study.world.clock.advance(SETTLED_S);
    }
    run(&mut study.world).await;
}

/// What has to be true in the evening.
fn check(day: &Day, plan: &str) {
    let (study, world) = (&day.study, &day.study.world);
    assert_eq!(day.files, usize::from(RECORDS), "{plan}: all were opened");
    let released = study.exchange.released();
    assert_eq!(released.len(), usize::from(RECORDS), "{plan}: each once");
    let anchored = world.chain.anchored();
    for consent in [1, 2] {
        let recipient = researcher().public_key();
        let (_, signed) = consent_to(recipient, &patient(), consent, CONTEXT, anchorer());
        let reports = world.circle.reports();
        let own = reports
            .iter()
            .filter(|told| told.commitment == signed.commitment);
        let roots: BTreeSet<_> = own.map(|told| told.root.felt().to_bytes_be()).collect();
        assert_eq!(roots.len(), 1, "{plan}: consent {consent} is in one batch");
        let in_chain = |root: &[u8; 32]| anchored.iter().any(|a| a.felt().to_bytes_be() == *root);
        assert!(roots.iter().all(in_chain), "{plan}: and that is anchored");
        let revoked = world.chain.revoked();
        assert!(revoked.contains(&signed.secrets.handle()), "{plan}");
    }
    let tickets = world.circle.tickets();
    assert_eq!(tickets.len(), 1, "{plan}: one ticket");
    assert_eq!(world.circle.revocations(), 1, "{plan}: it was brought back");
    let log = world.circle.log_entries();
    for (kind, expected) in [
        (Kind::Requested, 1),
        (Kind::Permitted, 1),
        (Kind::Released, 1),
        (Kind::EraseOrdered, 1),
        (Kind::Erased, 1),
    ] {
        let count = log.iter().filter(|entry| entry.entry.kind == kind).count();
        assert_eq!(count, expected, "{plan}: {kind:?} is said once");
    }
    let numbers: Vec<u64> = log.iter().map(|entry| entry.entry.seq.0).collect();
    let whole: Vec<u64> = (0..log.len() as u64).collect();
    assert_eq!(numbers, whole, "{plan}: the log has no gap and no fork");
    let said = log
        .iter()
        .any(|entry| matches!(entry.body, Body::Erased { order: Some(_), .. }));
    assert!(said, "{plan}: the recipient's answer is copied");
}

#[tokio::test]
async fn hostile_disk_every_write_of_a_day_fails_once_in_each_way() {
    let calm = day(Vec::new()).await;
    check(&calm, "no fault");
    assert_eq!(found_but_evidence(&calm.study.world).await, []);
    let mut writes: Vec<_> = calm.study.world.faults.all_calls().into_iter().collect();
    writes.retain(|(name, _)| is_write(name));
    writes.sort_unstable();
    let mut rows = 0;
    let is_full = std::env::var_os("MEDSYNC_FULL").is_some();
    for (operation, calls) in writes {
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
                let stormy = day(vec![plan]).await;
                assert!(stormy.study.world.faults.calls(operation) >= call, "{name}");
                check(&stormy, &name);
                assert_eq!(found_but_evidence(&stormy.study.world).await, [], "{name}");
                rows += 1;
            }
        }
    }
    println!("{rows} rows of the store's fault table hold");
}

/// Whether an operation is the store's: a statement, or a transaction by the name of its method.
fn is_write(name: &str) -> bool {
    all_writes().contains(name)
}

/// Every write in the store's source: statements that stand for themselves, and transactions.
fn all_writes() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut writes = BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("the store's source") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        for begun in shipped.split(".begin(\"").skip(1) {
            writes.extend(begun.split('"').next().map(str::to_owned));
        }
        for verb in ["INSERT ", "UPDATE ", "DELETE "] {
            for (at, _) in shipped.match_indices(&format!("\"{verb}")) {
                let rest = &shipped[at + 1..];
                let (literal, after) = rest.split_once('"').expect("an end");
                // What runs in a transaction is all of it or nothing.
                let runs_on = after
                    .split_once("&mut *")
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
fn unfolded(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start())
}

#[tokio::test]
async fn every_write_has_its_row() {
    let calm = day(Vec::new()).await;
    let made = calm.study.world.faults.all_calls();
    let mut without: Vec<String> = all_writes().into_iter().collect();
    without.retain(|write| {
        !made.contains_key(write.as_str()) && !OTHERS.iter().any(|begins| write.starts_with(begins))
    });
    assert!(without.is_empty(), "without a row: {without:#?}");
}
