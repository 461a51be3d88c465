//! An exchange that does not take everything at once, and a record that is carried in turns.

use medsync::pipeline::{Pipeline, ingest};
use medsync_protocol::audit::EntryKind as Kind;
use medsync_protocol::seal::PAYLOAD_BYTES_MAX;

use super::super::access::records::add_record_of;
use super::super::access::{RECORDS, Study};
use super::super::faults::{Fault, Faults, Plan};
use super::super::revocation_of;
use super::{Day, anchored_in};

/// More parts than a round carries of a release.
const PARTS: usize = 17;
/// Longer than anything rests, in seconds.
const REST_S: u64 = 60;

/// What came of it.
pub(super) struct Exchange {
    study: Study,
    /// The releases that were opened.
    files: usize,
}

impl Day for Exchange {
    const NAME: &'static str = "a day with a slow exchange";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut study = Study::begin(Vec::new()).await;
        let large = vec![7; PARTS * PAYLOAD_BYTES_MAX - 1];
        add_record_of(&study.world, 9, &large).await;
        study.world.faults.plan(plans);
        study.world.restart().await;
        // A receipt that is not taken at once.
        study.world.faults.plan_next("put_receipt", Fault::Failed);
        settle(&mut study).await;
        // A request that cannot be answered at once.
        let request = study.ask("HRESCH", |_| ()).await;
        study.world.faults.plan_next("records", Fault::Failed);
        settle(&mut study).await;
        let files = study.open(request).await;
        // An order that is not taken at once.
        let revocation = revocation_of(&study.signed);
        study.world.circle.add_revocation(revocation);
        let read = ingest::ingest_all(&study.world.pipeline).await;
        read.expect("nothing of it goes wrong");
        study.world.faults.plan_next("append_log", Fault::Failed);
        settle(&mut study).await;
        assert!(files.iter().all(|file| !file.exists()), "they are erased");
        let files = files.len();
        Self { study, files }
    }

    fn faults(&self) -> &Faults {
        &self.study.world.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.study.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let study = &self.study;
        let roots = anchored_in(&study.world, study.signed.commitment);
        assert_eq!(roots.len(), 1, "{plan}: the consent is anchored once");
        assert_eq!(study.exchange.shared_receipts().len(), 1, "{plan}");
        let records = usize::from(RECORDS) + 1;
        assert_eq!(self.files, records, "{plan}: all were opened");
        assert_eq!(study.exchange.released().len(), records, "{plan}: once");
        let log = study.world.circle.log_entries();
        let kinds: Vec<Kind> = log.iter().map(|entry| entry.entry.kind).collect();
        let expected = [
            Kind::Requested,
            Kind::Permitted,
            Kind::Released,
            Kind::EraseOrdered,
            Kind::Erased,
        ];
        assert_eq!(kinds, expected, "{plan}: each is said once");
    }
}

/// Rounds on both sides, with time for what rests.
async fn settle(study: &mut Study) {
    for _ in 0..2 {
        study.settle().await;
        study.world.clock.advance(REST_S);
    }
}
