//! A recipient's day: it asks by a command, opens what was released, and erases it when told to.

use std::sync::Arc;

use medsync::keys::ResearcherKeys;
use medsync::pipeline::{Pipeline, ingest};
use medsync::seams::Clock;
use medsync::{asking, daemon};
use medsync_client::wire::NewRequest;
use medsync_protocol::audit::{Body, EntryDigest, EntryKind as Kind};
use medsync_protocol::codes::Code;
use medsync_protocol::seal::SealSecret;

use super::super::access::{
    EXCHANGE, RECORDS, Study, at_rest, exchange_row_of_recipient, files_of, holds, researcher,
};
use super::super::circle::FakeCircles;
use super::super::faults::{Faults, Plan};
use super::super::{World, revocation_of};
use super::party::beside;
use super::{Day, again, anchored_in};

/// What came of it.
pub(super) struct Recipient {
    study: Study,
    home: World,
    /// The releases that were opened.
    files: usize,
    /// What they were sealed to.
    key: String,
}

impl Day for Recipient {
    const NAME: &'static str = "a recipient's day";

    async fn live(plans: Vec<Plan>) -> Self {
        let mut study = Study::begin(Vec::new()).await;
        let mut home = beside(&study.world).await;
        home.circle = study.exchange.with_faults(home.faults.clone());
        home.pipeline.circles = Arc::new(FakeCircles(vec![home.circle.clone()]));
        home.pipeline.revoke_account = None;
        let row = exchange_row_of_recipient();
        let entered = home.pipeline.store.enter_circle(&row).await;
        entered.expect("entered");
        study.recipient.home = home.home.path().to_owned();
        home.faults.plan(plans);
        settle(&mut study, &mut home).await;
        ask(&study, &mut home).await;
        settle(&mut study, &mut home).await;
        let files = study.open(request(&study)).await;
        let key = reply_key(&study, &home).await.expect("it is not erased");
        let query = "SELECT secret FROM reply_keys WHERE public = $1";
        let key = at_rest(home.home.path(), query, &key.public_key().to_string()).await;
        let revocation = revocation_of(&study.signed);
        study.world.circle.add_revocation(revocation);
        settle(&mut study, &mut home).await;
        assert!(files.iter().all(|file| !file.exists()), "they are erased");
        let files = files.len();
        Self {
            study,
            home,
            files,
            key,
        }
    }

    fn faults(&self) -> &Faults {
        &self.home.faults
    }

    fn parties(&self) -> Vec<&Pipeline> {
        vec![&self.home.pipeline, &self.study.world.pipeline]
    }

    async fn check(&self, plan: &str) {
        let study = &self.study;
        let roots = anchored_in(&study.world, study.signed.commitment);
        assert_eq!(roots.len(), 1, "{plan}: the consent is anchored once");
        assert_eq!(self.files, usize::from(RECORDS), "{plan}: all were opened");
        let released = study.exchange.released();
        assert_eq!(released.len(), usize::from(RECORDS), "{plan}: each once");
        let key = reply_key(study, &self.home).await;
        assert!(key.is_none(), "{plan}: what lies there opens no more");
        let kept = files_of(self.home.home.path());
        assert!(
            !holds(&kept, self.key.as_bytes()),
            "{plan}: nor in its journal"
        );
        assert!(study.open(request(study)).await.is_empty(), "{plan}");
        for log in [
            study.exchange.log_entries(),
            study.world.circle.log_entries(),
        ] {
            let erased = log.iter().filter(|entry| entry.entry.kind == Kind::Erased);
            assert_eq!(erased.count(), 1, "{plan}: it is said once");
        }
    }
}

fn keys() -> ResearcherKeys {
    ResearcherKeys {
        recipient: researcher(),
        recovery: researcher(),
        login: researcher(),
        author: researcher(),
        seal: SealSecret::from_bytes([2; 32]),
    }
}

/// Asks for everything of the one patient.
async fn ask(study: &Study, home: &mut World) {
    let new = NewRequest {
        patient: study.exchange.shared_receipts()[0].patient,
        purposes: vec![Code::new("act", "HRESCH")],
        classes: vec![Code::new("types", "Observation")],
        understood: Vec::new(),
        reason: "a study".into(),
        break_glass: false,
    };
    again(home, async |home| {
        let (pipeline, now) = (&home.pipeline, home.clock.now());
        let row = pipeline.store.circle(EXCHANGE).await?;
        let kept_in = (&pipeline.store, &*pipeline.circles);
        Ok(asking::ask(kept_in, &row, &keys(), new.clone(), now).await?)
    })
    .await;
}

/// The one request.
fn request(study: &Study) -> EntryDigest {
    let log = study.exchange.log_entries();
    let asked: Vec<_> = log
        .iter()
        .filter(|entry| entry.entry.kind == Kind::Requested)
        .collect();
    assert_eq!(asked.len(), 1, "it is asked once");
    asked[0].digest()
}

/// What the answer is sealed to.
async fn reply_key(study: &Study, home: &World) -> Option<SealSecret> {
    let store = &home.pipeline.store;
    let asked = store.entry(request(study)).await.expect("the store");
    let Some(Body::Requested(asked)) = asked.map(|entry| entry.body) else {
        panic!("it was asked here");
    };
    let key = store.reply_key(asked.reply_key).await;
    key.expect("the store")
}

/// Rounds on both sides until nothing is left to do.
async fn settle(study: &mut Study, home: &mut World) {
    for _ in 0..5 {
        study.custodians_round().await;
        study.recipient.pipeline = home.pipeline.clone();
        // Failures are what the daemon would log.
        let _ = ingest::ingest_all(&home.pipeline).await;
        let _ = study.recipient.erase_all().await;
        let _ = daemon::publish_log(&home.pipeline).await;
        if home.faults.revive() {
            home.restart().await;
        }
        study.recipient.pipeline = home.pipeline.clone();
        study.no_key_without_entry();
    }
}
