//! Payloads that were cut: they arrive whole, or it is said what is missing.

use std::path::PathBuf;

use medsync::access::recipient::Opened;
use medsync::pipeline::ingest;
use medsync::store::releases::ReleaseState;
use medsync_protocol::audit::{EntryDigest, EntryKind as Kind};
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::seal::PAYLOAD_BYTES_MAX;

use super::super::circle::Refuses;
use super::super::faults::{Fault, Plan};
use super::super::{START, revocation_of};
use super::{RECORDS, Study, add_record_of, exchange_row_of_recipient};

/// More than twice and less than three times what one round carries for a release.
const PARTS: u32 = 40;
const PARTS_PER_ROUND: u32 = 16;

impl Study {
    /// One round of the desk; answers how many parts it carried.
    async fn parts_of_a_round(&self) -> u32 {
        let before = self.world.faults.calls("put_part");
        self.desk.round().await.expect("a round");
        self.world.faults.calls("put_part") - before
    }
}

/// A study that was asked for, among others, a record of [`PARTS`] parts.
async fn asked_for_a_large_record(large: &[u8]) -> (Study, EntryDigest) {
    let mut study = Study::begin(Vec::new()).await;
    add_record_of(&study.world, 9, large).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    ingest::ingest_all(&study.world.pipeline)
        .await
        .expect("read");
    (study, request)
}

#[tokio::test]
async fn a_large_record_is_carried_in_turns_and_holds_no_other_up() {
    let large = vec![7; PARTS as usize * PAYLOAD_BYTES_MAX - 1];
    let (mut study, request) = asked_for_a_large_record(&large).await;
    let others = usize::from(RECORDS);
    let last = PARTS - 2 * PARTS_PER_ROUND;
    // No time passes: a release that is under way does not rest.
    for (carried, released) in [
        (PARTS_PER_ROUND, others),
        (PARTS_PER_ROUND, others),
        (last, others + 1),
        (0, others + 1),
    ] {
        assert_eq!(study.parts_of_a_round().await, carried);
        assert_eq!(study.exchange.released().len(), released);
    }
    study.settle().await;
    let files = study.open(request).await;
    let read = |file: &PathBuf| std::fs::read(file).expect("there");
    assert!(files.iter().any(|file| read(file) == large));
}

#[tokio::test]
async fn what_is_revoked_while_it_is_carried_is_not_handed_over() {
    let large = vec![7; PARTS as usize * PAYLOAD_BYTES_MAX];
    let (mut study, _) = asked_for_a_large_record(&large).await;
    assert_eq!(study.parts_of_a_round().await, PARTS_PER_ROUND);
    let calls = study.world.faults.calls("put_part");
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    study.settle().await;
    assert_eq!(study.world.faults.calls("put_part"), calls);
    assert_eq!(study.exchange.released().len(), usize::from(RECORDS));
    assert!(study.kinds().contains(&Kind::EraseOrdered));
}

#[tokio::test]
async fn hostile_member_in_the_place_of_a_part_keeps_no_other_record_out() {
    let (mut study, request) = asked_for_a_large_record(&[7; 100_000]).await;
    study.exchange.refuse(Refuses::Parts);
    study.settle().await;
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS));
    // It is done with, and not tried for ever.
    let store = &study.world.pipeline.store;
    for (state, len) in [(ReleaseState::Logged, 0), (ReleaseState::Published, 1)] {
        let rows = store.releases_in(state, None, UnixSeconds(START), 9).await;
        assert_eq!(rows.expect("the store").len(), len, "{}", state.name());
    }
}

#[tokio::test]
async fn a_payload_that_was_cut_arrives_whole_whatever_fails() {
    let large: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
    for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
        let plan = Plan {
            operation: "put_part",
            // The circle has three parts, the second of the exchange fails.
            call: 6,
            fault,
        };
        let mut study = Study::begin(vec![plan]).await;
        add_record_of(&study.world, 9, &large).await;
        study.settle().await;
        let request = study.ask("HRESCH", |_| ()).await;
        study.settle().await;
        study.world.clock.advance(60);
        study.settle().await;
        assert!(study.world.faults.calls("put_part") >= 6);
        let files = study.open(request).await;
        assert_eq!(files.len(), usize::from(RECORDS) + 1, "{fault:?}");
        let read = |file: &PathBuf| std::fs::read(file).expect("there");
        assert!(files.iter().any(|file| read(file) == large), "{fault:?}");
    }
}

#[tokio::test]
async fn hostile_custodian_withholds_a_part_and_it_is_said() {
    let mut study = Study::begin(Vec::new()).await;
    add_record_of(&study.world, 9, &[7; 100_000]).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    study.exchange.lose_parts();
    let opened = study
        .recipient
        .open(&exchange_row_of_recipient(), request)
        .await
        .expect("read");
    let not =
        |(_, opened): &&(_, Opened)| matches!(opened, Opened::Not(why) if why.contains("part"));
    assert_eq!(opened.iter().filter(not).count(), 1);
}
