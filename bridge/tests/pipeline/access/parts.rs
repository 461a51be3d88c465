//! Payloads that were cut: they arrive whole, or it is said what is missing.

use std::path::PathBuf;

use medsync::access::recipient::Opened;

use super::super::faults::{Fault, Plan};
use super::{RECORDS, Study, add_record_of, exchange_row_of_recipient};

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
