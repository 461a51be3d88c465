//! Requests, releases and erasures between a custodian's desk and a recipient, under faults.
//!
//! The exchange of these tests takes no release that its log does not name, as the app does; what
//! is checked besides is the circle's log: no key is ever out there without its entry.

mod answers;
mod ended;
pub(super) mod hostile;
mod judged;
mod parts;
mod passing;
mod preview;
pub(super) mod records;

use std::path::PathBuf;
use std::sync::Arc;

use medsync::access::recipient::{Opened, Recipient};
use medsync::access::{Desk, LOG_ENTRIES_MAX, Rests, Turns};
use medsync::audit;
use medsync::daemon;
use medsync::pipeline::Pipeline;
use medsync::pipeline::ingest::{self, Readings};
use medsync::seams::{random_bytes, system_random};
use medsync::source::EntryKind;
use medsync::store::circles::CircleRow;
use medsync_protocol::audit::{Body, DenialReason, EntryDigest, EntryKind as Kind, Requested};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::SignedGrant;
use medsync_protocol::ids::{ContextId, ContextKind, MemberId, RecordId, UnixSeconds};
use medsync_protocol::seal::SealSecret;
use medsync_protocol::signature::SecretKey;

use super::circle::{CONTEXT, FakeCircle, FakeCircles, OTHER, custodian_author};
use super::faults::{Fault, Faults, Plan};
use super::writes::party::invitation;
use super::{START, World, anchorer, consent_to, patient, row, run, world};
use records::{add_record, add_record_of, resource};

pub(super) const EXCHANGE: ContextId = OTHER;
pub(super) const RECORDS: u8 = 3;

/// The recipient: one key for everything that is signed.
pub(super) fn researcher() -> SecretKey {
    SecretKey::from_scalar(&[2; 32]).expect("a scalar")
}

pub(super) struct Study {
    pub(super) world: World,
    pub(super) desk: Desk,
    pub(super) recipient: Recipient,
    pub(super) exchange: FakeCircle,
    pub(super) signed: SignedGrant,
    _home: tempfile::TempDir,
}

impl Study {
    /// A circle with a consent and records, and an exchange whose recipient the consent is to.
    pub(super) async fn begin(plans: Vec<Plan>) -> Self {
        let recipient = researcher().public_key();
        let consent = consent_to(recipient, &patient(), 1, CONTEXT, anchorer());
        Self::begin_with(plans, consent).await
    }

    /// The same with a consent of one's choice.
    async fn begin_with(
        plans: Vec<Plan>,
        (consent, signed): (medsync::source::Consent, SignedGrant),
    ) -> Self {
        let mut world = world(plans).await;
        world.pipeline.batch.consents_max = 64;
        let exchange = FakeCircle::new(EXCHANGE, world.faults.clone(), researcher().public_key());
        exchange.add_enrolment(researcher().public_key());
        let theirs = exchange.with_faults(Faults::default());
        world.pipeline.circles =
            Arc::new(FakeCircles(vec![world.circle.clone(), exchange.clone()]));
        world
            .pipeline
            .store
            .enter_circle(&exchange_row())
            .await
            .expect("entered");
        world.circle.add_consent(consent);
        for number in 0..RECORDS {
            add_record(&world, number).await;
        }
        let home = tempfile::tempdir().expect("a folder");
        let store = crate::shared::opened(home.path()).await.expect("a store");
        let theirs_row = exchange_row_of_recipient();
        store.enter_circle(&theirs_row).await.expect("entered");
        let recipient = Recipient {
            pipeline: Pipeline {
                store,
                circles: Arc::new(FakeCircles(vec![theirs])),
                readings: Readings::default(),
                ..world.pipeline.clone()
            },
            author: researcher(),
            home: home.path().to_owned(),
            turns: Turns::default(),
        };
        Self {
            desk: Desk {
                pipeline: world.pipeline.clone(),
                author: custodian_author(),
                turns: Turns::default(),
                rests: Rests::default(),
                log_entries_max: LOG_ENTRIES_MAX,
            },
            world,
            recipient,
            exchange,
            signed,
            _home: home,
        }
    }

    /// The patient's own side of the circle, with a store that lives as long as its folder.
    async fn patients(&self) -> (Pipeline, tempfile::TempDir) {
        let home = tempfile::tempdir().expect("a folder");
        let store = crate::shared::opened(home.path()).await.expect("a store");
        let invitation = serde_json::to_string(&invitation()).expect("JSON");
        let theirs = CircleRow {
            member: MemberId([2; 32]),
            invitation: Some(invitation),
            ..row()
        };
        store.enter_circle(&theirs).await.expect("entered");
        let patients = Pipeline {
            store,
            circles: Arc::new(FakeCircles(vec![self.world.circle.clone()])),
            readings: Readings::default(),
            ..self.world.pipeline.clone()
        };
        (patients, home)
    }

    /// Rounds of every lane on both sides until nothing is left to do.
    pub(super) async fn settle(&mut self) {
        for _ in 0..6 {
            self.custodians_round().await;
            ingest::ingest_all(&self.recipient.pipeline)
                .await
                .expect("read");
            self.recipient.erase_all().await.expect("erased");
            daemon::publish_log(&self.recipient.pipeline)
                .await
                .expect("published");
            self.no_key_without_entry();
        }
    }

    /// Rounds of the custodian's lanes until nothing is left to do, and one of its desk.
    pub(super) async fn custodians_round(&mut self) {
        run(&mut self.world).await;
        // Failures are what the daemon would log.
        let _ = daemon::publish_log(&self.world.pipeline).await;
        self.desk.pipeline = self.world.pipeline.clone();
        let _ = self.desk.round().await;
        if self.world.faults.revive() {
            self.world.restart().await;
        }
    }

    /// No key is out there whose release the circle's log does not name.
    pub(super) fn no_key_without_entry(&self) {
        let log = self.world.circle.log_entries();
        for release in self.exchange.released() {
            let named = log.iter().any(|entry| {
                entry.digest() == release.logged_as
                    && entry.is_signed()
                    && matches!(&entry.body, Body::Released { records, .. }
                        if records.contains(&release.what))
            });
            assert!(named, "a key without its entry: {release:?}");
        }
    }

    pub(super) async fn ask(
        &self,
        purpose: &str,
        change: impl FnOnce(&mut Requested),
    ) -> EntryDigest {
        let store = &self.recipient.pipeline.store;
        let reply = SealSecret::from_bytes(random_bytes(&mut system_random()));
        store.keep_reply_key(&reply).await.expect("kept");
        let receipts = self.exchange.shared_receipts();
        let mut requested = Requested {
            asked_by: None,
            recipient: researcher().public_key(),
            patient: receipts[0].patient,
            purposes: CodeSet::collect([Code::new("act", purpose)]).expect("one"),
            classes: CodeSet::collect([Code::new("types", "Observation")]).expect("one"),
            understood: CodeSet::default(),
            reason: "a study".into(),
            break_glass: false,
            reply_key: reply.public_key(),
        };
        change(&mut requested);
        let (author, now) = (researcher(), UnixSeconds(START));
        let says = Body::Requested(requested);
        let mut random = system_random();
        let entry = audit::append(store, EXCHANGE, &author, &says, now, &mut random);
        let entry = entry.await.expect("kept");
        daemon::publish_log(&self.recipient.pipeline)
            .await
            .expect("published");
        entry.digest()
    }

    fn kinds(&self) -> Vec<Kind> {
        let log = self.world.circle.log_entries();
        log.iter().map(|entry| entry.entry.kind).collect()
    }

    /// Why the last request was denied.
    fn denial(&self) -> Option<DenialReason> {
        let log = self.exchange.log_entries();
        log.iter().rev().find_map(|entry| match entry.body {
            Body::Denied { reason, .. } => Some(reason),
            _ => None,
        })
    }

    pub(super) async fn open(&self, request: EntryDigest) -> Vec<PathBuf> {
        let opened = self
            .recipient
            .open(&exchange_row_of_recipient(), request)
            .await;
        opened
            .expect("read")
            .into_iter()
            .filter_map(|(_, opened)| match opened {
                Opened::File(file) => Some(file),
                Opened::Not(_) => None,
            })
            .collect()
    }
}

pub(super) fn exchange_row() -> CircleRow {
    CircleRow {
        kind: ContextKind::Exchange,
        context: EXCHANGE,
        recipient_key: Some(researcher().public_key()),
        ..row()
    }
}

pub(super) fn exchange_row_of_recipient() -> CircleRow {
    CircleRow {
        member: MemberId([2; 32]),
        recipient_key: None,
        ..exchange_row()
    }
}

#[tokio::test]
async fn a_release_holds_exactly_what_is_covered_and_opens_for_its_request_alone() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    assert_eq!(study.exchange.shared_receipts().len(), 1);
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let expected = [Kind::Requested, Kind::Permitted, Kind::Released];
    assert_eq!(study.kinds(), expected);
    let files = study.open(request).await;
    assert_eq!(files.len(), usize::from(RECORDS));
    let mut opened: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("there"))
        .collect();
    opened.sort();
    assert_eq!(opened, (0..RECORDS).map(resource).collect::<Vec<_>>());
    // Another request has another key, and what was released on the first is not its own.
    let again = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.exchange.released().len(), 2 * usize::from(RECORDS));
    assert_eq!(study.open(again).await.len(), usize::from(RECORDS));
}

#[tokio::test]
async fn hostile_requests_are_denied_and_logged() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    study.ask("HMARKT", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
    assert_eq!(study.kinds(), [Kind::Requested, Kind::Denied]);
    type Change = fn(&mut Requested);
    let changes: [Change; 5] = [
        |requested| requested.patient.0 = [1; 32],
        |requested| requested.classes = CodeSet::default(),
        |requested| requested.purposes = CodeSet::default(),
        |requested| requested.recipient = patient().public_key(),
        // To break the glass is to ask for that purpose, and to say why.
        |requested| requested.break_glass = true,
    ];
    for change in changes {
        study.ask("HRESCH", change).await;
        study.settle().await;
        assert_eq!(study.denial(), Some(DenialReason::Malformed));
    }
    // The patient hears of all but those about nobody or in another's name.
    assert_eq!(study.kinds(), [Kind::Requested, Kind::Denied].repeat(4));
    let class = CodeSet::collect([Code::new("types", "Condition")]).expect("one");
    study
        .ask("HRESCH", |requested| requested.classes = class)
        .await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
    assert!(study.exchange.released().is_empty());
}

#[tokio::test]
async fn hostile_node_hides_a_revocation_that_the_chain_knows_and_nothing_is_released() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let handle = study.signed.secrets.handle();
    study
        .world
        .chain
        .revoke_past_everybody(handle, UnixSeconds(START));
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
    assert!(study.exchange.released().is_empty());
}

#[tokio::test]
async fn hostile_endpoint_does_not_answer_and_nothing_is_released() {
    let silence: Vec<Plan> = (1..=200)
        .map(|call| Plan {
            operation: "revoked_at",
            call,
            fault: Fault::Failed,
        })
        .collect();
    let mut study = Study::begin(silence).await;
    study.settle().await;
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert!(study.exchange.released().is_empty());
    assert_eq!(
        study.kinds(),
        [Kind::Requested],
        "it is asked again, not denied"
    );
}

#[tokio::test]
async fn hostile_endpoint_serves_an_old_block_and_nothing_is_released() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    // Whatever was revoked since then does not show in it.
    let age_s = START - study.world.chain.time().0;
    study.world.pipeline.block_age_s_max = age_s - 1;
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert!(study.exchange.released().is_empty());
    assert_eq!(study.kinds(), [Kind::Requested], "it is asked again");
    // As soon as its blocks are of now, what they say is believed.
    study.world.chain.grow(2 * START);
    study.settle().await;
    assert_eq!(study.exchange.released().len(), usize::from(RECORDS));
}

#[tokio::test]
async fn hostile_member_drops_the_consents_and_a_denial_stays_in_force() {
    let mut study = Study::begin(Vec::new()).await;
    let (mut deny, _) = consent_to(
        researcher().public_key(),
        &patient(),
        2,
        CONTEXT,
        anchorer(),
    );
    deny.terms.provision.kind = medsync_protocol::terms::ProvisionKind::Deny;
    let (deny, _) = resigned(&deny);
    study.world.circle.add_consent(deny);
    study.settle().await;
    study.world.circle.forget(EntryKind::Consent);
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::Denied));
    assert!(study.exchange.released().is_empty());
}

/// A consent with other terms than it had, signed anew.
fn resigned(consent: &medsync::source::Consent) -> (medsync::source::Consent, SignedGrant) {
    super::sign_terms(
        researcher().public_key(),
        &patient(),
        2,
        consent.terms.clone(),
    )
}

#[tokio::test]
async fn what_was_released_is_erased_after_the_revocation_and_that_is_said_in_the_circle() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let files = study.open(request).await;
    assert!(files.iter().all(|file| file.exists()));
    study
        .world
        .circle
        .add_revocation(super::revocation_of(&study.signed));
    study.settle().await;
    assert!(
        files.iter().all(|file| !file.exists()),
        "the files are gone"
    );
    assert!(
        study.open(request).await.is_empty(),
        "and nothing opens any more"
    );
    let kinds = study.kinds();
    assert_eq!(kinds[3..], [Kind::EraseOrdered, Kind::Erased]);
    let log = study.world.circle.log_entries();
    let Some(Body::Erased {
        said_by: Some(said_by),
        ..
    }) = log.last().map(|entry| entry.body.clone())
    else {
        panic!("the acknowledgement names the recipient's own entry");
    };
    let theirs = study.exchange.log_entries();
    let own = theirs.iter().find(|entry| entry.digest() == said_by);
    assert_eq!(
        own.map(|own| own.entry.author_key),
        Some(researcher().public_key())
    );
    // Not a trace of the reply key is left in the recipient's store or its journal.
    let asked = study
        .recipient
        .pipeline
        .store
        .entry(request)
        .await
        .expect("the store");
    assert!(asked.is_some());
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
}

#[tokio::test]
async fn erased_records_are_released_no_more_and_no_file_has_their_keys() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let store = study.world.pipeline.store.clone();
    let erased = RecordId([1; 32]);
    let what = medsync_protocol::audit::RecordRef {
        record: erased,
        version: 1,
    };
    let secret = store.record_secret(CONTEXT, what).await.expect("the store");
    let secret = secret.expect("it is there");
    let home = study.world.home.path();
    let sealed = sealed_key(home, erased).await;
    let before = files_of(home);
    assert!(
        holds(&before, sealed.as_bytes()),
        "the search finds what is there"
    );
    // Nobody who has the files alone has the key, erased or not.
    assert!(!holds(&before, secret.reveal()));
    assert!(!holds(&before, hex::encode(secret.reveal()).as_bytes()));
    let now = UnixSeconds(START);
    let gone = store
        .erase_records(CONTEXT, Some(erased), now)
        .await
        .expect("erased");
    assert_eq!(gone, 1);
    // The files as they are are also what a backup made from now on holds.
    assert!(!holds(&files_of(home), sealed.as_bytes()));
    assert!(
        store
            .record_secret(CONTEXT, what)
            .await
            .expect("the store")
            .is_none()
    );
    let unsaid = store
        .erased_records(CONTEXT, true)
        .await
        .expect("the store");
    assert_eq!(unsaid.len(), 1, "it is yet to be said in the log");
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let released = study.exchange.released();
    assert_eq!(released.len(), usize::from(RECORDS) - 1);
    assert!(released.iter().all(|release| release.what.record != erased));
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS) - 1);
    store
        .erase_records(CONTEXT, None, now)
        .await
        .expect("erased");
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
}

/// Every file of a folder.
pub(super) fn files_of(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.is_file())
        .map(|path| std::fs::read(path).expect("a file"))
        .collect()
}

/// Whether something stands in any of these files.
pub(super) fn holds(files: &[Vec<u8>], needle: &[u8]) -> bool {
    let has = |file: &Vec<u8>| file.windows(needle.len()).any(|part| part == needle);
    files.iter().any(has)
}

/// A record's key as it lies in a store.
pub(super) async fn sealed_key(home: &std::path::Path, record: RecordId) -> String {
    let query = "SELECT custodian_secret FROM record_keys WHERE record = $1";
    at_rest(home, query, &record.to_string()).await
}

/// A private value of a name as it lies in a store.
pub(super) async fn at_rest(home: &std::path::Path, query: &str, name: &str) -> String {
    super::shared::read_past(home, query, name).await
}

#[tokio::test]
async fn hostile_weather_everything_is_released_once_whatever_fails() {
    let mut calm = Study::begin(Vec::new()).await;
    calm.settle().await;
    calm.ask("HRESCH", |_| ()).await;
    calm.settle().await;
    let mut rows = 0;
    for (operation, has_effect) in [
        ("put_receipt", true),
        ("append_log", true),
        ("put_release", true),
        ("records", false),
        ("record", false),
        ("revoked_at", false),
    ] {
        let calls = calm.world.faults.calls(operation);
        assert!(
            calls > 0,
            "{operation} is never called; the table is out of date"
        );
        for call in 1..=calls {
            for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
                if fault == Fault::FailedButTookEffect && !has_effect {
                    continue;
                }
                let plan = Plan {
                    operation,
                    call,
                    fault,
                };
                let name = format!("{plan:?}");
                let mut study = Study::begin(vec![plan]).await;
                study.settle().await;
                let request = study.ask("HRESCH", |_| ()).await;
                study.settle().await;
                study.settle().await;
                assert_eq!(study.exchange.shared_receipts().len(), 1, "{name}");
                let files = study.open(request).await;
                assert_eq!(files.len(), usize::from(RECORDS), "{name}");
                let released = study.exchange.released();
                assert_eq!(released.len(), usize::from(RECORDS), "{name}: each once");
                rows += 1;
            }
        }
    }
    println!("{rows} rows of the fault table hold");
}
