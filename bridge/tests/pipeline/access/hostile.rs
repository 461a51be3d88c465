//! What a hostile party, or a backup that was restored, does to requests, releases and erasures.

use medsync::access::{break_glass_code, brought_fact};
use medsync::audit;
use medsync::pipeline::ingest::{self, Readings};
use medsync::seams::{random_bytes, system_random};
use medsync::source::{Circle, LogEntry, SignedKeyChange};
use medsync::status::all_circles;
use medsync::store::records::RecordRow;
use medsync::views;
use medsync_protocol::audit::{
    Body, CONSENTS_LEN_MAX, DenialReason, EntryDigest, EntryKind as Kind, ErasureReason, RecordRef,
    Requested,
};
use medsync_protocol::codes::CodeSet;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{RecordId, SealKey, Sha256Digest, UnixSeconds};
use medsync_protocol::keychange::KeyChange;
use medsync_protocol::messages::{RotationNumber, rotate_message};
use medsync_protocol::seal::{RecordVersion, SealSecret};
use medsync_protocol::signature::{PublicKey, SecretKey};

use super::super::circle::{CONTEXT, Refuses, custodian_author, recovery};
use super::super::{START, World, anchorer, consent_to, patient, revocation_of, row, world};
use super::{EXCHANGE, RECORDS, Study, exchange_row, researcher};

const NOW: UnixSeconds = UnixSeconds(START);

fn record_row(number: u8, version: u32) -> RecordRow {
    RecordRow {
        record: RecordId([number; 32]),
        version: RecordVersion(version),
        payload: Sha256Digest([9; 32]),
        secret: SealSecret::from_bytes(random_bytes(&mut system_random())),
        is_written: true,
    }
}

/// An entry of the custodian's that this store did not write.
pub(crate) async fn said_elsewhere(says: Body) -> LogEntry {
    said_by(&custodian_author(), says).await
}

/// The first entry of an author's, by a store of its own.
pub(crate) async fn said_by(author: &SecretKey, says: Body) -> LogEntry {
    let folder = tempfile::tempdir().expect("a folder");
    let store = crate::shared::opened(folder.path()).await.expect("a store");
    let mut random = system_random();
    audit::append(&store, CONTEXT, author, &says, NOW, &mut random)
        .await
        .expect("kept")
}

#[tokio::test]
async fn hostile_reply_key_to_which_nothing_can_be_sealed_is_denied_and_stops_nobody() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    study
        .ask("HRESCH", |requested| requested.reply_key = SealKey([0; 32]))
        .await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::Malformed));
    assert_eq!(study.kinds(), [Kind::Requested, Kind::Denied]);
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS));
}

#[tokio::test]
async fn hostile_order_for_a_release_that_is_not_known_is_not_said_to_be_done() {
    let study = Study::begin(Vec::new()).await;
    let store = &study.recipient.pipeline.store;
    let says = Body::EraseOrdered {
        release: EntryDigest::from_felt(Felt::from(5)),
        reason: ErasureReason::Revoked,
    };
    let (author, mut random) = (custodian_author(), system_random());
    audit::append(store, EXCHANGE, &author, &says, NOW, &mut random)
        .await
        .expect("kept");
    study.recipient.erase_all().await.expect("erased");
    let next = store
        .log_next(EXCHANGE, researcher().public_key())
        .await
        .expect("the store");
    assert_eq!(next.seq.0, 0, "nothing was acknowledged");
}

#[tokio::test]
async fn hostile_backup_brings_no_reply_key_back() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let store = study.recipient.pipeline.store.clone();
    let Some(Body::Requested(requested)) = store
        .entry(request)
        .await
        .expect("the store")
        .map(|e| e.body)
    else {
        panic!("the request is kept");
    };
    let reply = store.reply_key(requested.reply_key).await;
    let reply = reply.expect("the store").expect("its key");
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    study.settle().await;
    store.keep_reply_key(&reply).await.expect("restored");
    study.recipient.erase_all().await.expect("erased");
    let left = store.reply_key(requested.reply_key).await;
    assert!(left.expect("the store").is_none());
    let kinds = study.exchange.log_entries().into_iter();
    let said = kinds.filter(|entry| entry.entry.kind == Kind::Erased);
    assert_eq!(said.count(), 1, "said once");
}

#[tokio::test]
async fn hostile_backup_brings_no_erased_record_back() {
    let world: World = world(Vec::new()).await;
    let store = &world.pipeline.store;
    let (what, local_key) = (record_row(1, 1), Sha256Digest([1; 32]));
    store
        .plan_record(CONTEXT, local_key, &what)
        .await
        .expect("restored");
    let erased = RecordRef {
        record: what.record,
        version: 1,
    };
    let says = Body::Erased {
        order: None,
        said_by: None,
        records: vec![erased],
    };
    let entry = said_elsewhere(says).await;
    world.circle.append_log(&entry).await.expect("taken");
    // A custodian's home: what it said before counts for itself.
    assert_eq!(row().member, row().custodian_member);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    let secret = store.record_secret(CONTEXT, erased).await;
    assert!(secret.expect("the store").is_none());
    assert!(
        store
            .was_erased(CONTEXT, local_key)
            .await
            .expect("the store")
    );
}

#[tokio::test]
async fn hostile_entry_that_is_refused_for_ever_does_not_stop_the_desk() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let (author, mut random) = (patient(), system_random());
    let says = Body::Erased {
        order: None,
        said_by: None,
        records: Vec::new(),
    };
    let store = &study.world.pipeline.store;
    audit::append(store, CONTEXT, &author, &says, NOW, &mut random)
        .await
        .expect("kept");
    study
        .world
        .circle
        .refuse(Refuses::LogOf(author.public_key()));
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS));
}

#[tokio::test]
async fn hostile_circle_that_lost_a_version_does_not_bring_the_one_before_it_back() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let (store, local_key) = (&study.world.pipeline.store, Sha256Digest([0; 32]));
    store
        .plan_record(CONTEXT, local_key, &record_row(0, 2))
        .await
        .expect("kept");
    store
        .record_written(CONTEXT, local_key, NOW)
        .await
        .expect("kept");
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS) - 1);
}

#[tokio::test]
async fn hostile_break_glass_is_only_where_the_patient_allows_it_and_says_its_reason() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let glass = CodeSet::collect([break_glass_code()]).expect("one");
    let purposes = glass.clone();
    let breaks = move |requested: &mut Requested| {
        requested.purposes = purposes;
        requested.break_glass = true;
        requested.reason = "unconscious, allergies unknown".into();
    };
    study.ask("HRESCH", breaks.clone()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
    assert!(!study.kinds().contains(&Kind::BreakGlass));
    // The patient allows it.
    let grantee = researcher().public_key();
    let (mut consent, _) = consent_to(grantee, &patient(), 2, CONTEXT, anchorer());
    consent.terms.provision.purposes = glass;
    let (consent, _) = super::resigned(&consent);
    study.world.circle.add_consent(consent);
    study.settle().await;
    let request = study.ask("HRESCH", breaks).await;
    study.settle().await;
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS));
    let log = study.world.circle.log_entries();
    let broke = log.iter().find_map(|entry| match entry.body {
        Body::BreakGlass { request, .. } => Some(request),
        _ => None,
    });
    let asked = log.iter().find(|entry| Some(entry.digest()) == broke);
    let Some(Body::Requested(asked)) = asked.map(|entry| &entry.body) else {
        panic!("the circle's log says who asked, and why");
    };
    assert_eq!(asked.reason, "unconscious, allergies unknown");
    let place = |kind| log.iter().position(|entry| entry.entry.kind == kind);
    assert!(place(Kind::BreakGlass) < place(Kind::Released));
    // The patient is alerted: who, and why.
    let (patients, _home) = study.patients().await;
    ingest::ingest_all(&patients).await.expect("read");
    let custodian = custodian_author().public_key();
    let alerts = audit::broken_glass(&patients.store, CONTEXT, custodian).await;
    let alerts = alerts.expect("the store");
    let [alert] = alerts.as_slice() else {
        panic!("one alert: {alerts:?}");
    };
    assert_eq!(alert.recipient, Some(grantee));
    assert_eq!(alert.reason.as_deref(), Some(asked.reason.as_str()));
    // Whoever stops the circle then takes that back no more than anything else.
    let row = patients.store.circle(CONTEXT).await.expect("entered");
    let stopped = Err("a reader whom nobody invited".to_owned());
    let shown = views::circle::circle(&patients.store, &row, stopped).await;
    assert_eq!(shown.expect("the store").broken_glass, alerts);
}

#[tokio::test]
async fn hostile_recipient_floods_requests_and_the_patients_log_keeps_its_room() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    for _ in 0..80 {
        study.ask("HMARKT", |_| ()).await;
    }
    for _ in 0..6 {
        study.settle().await;
    }
    assert_eq!(study.denial(), Some(DenialReason::TooMany));
    let asked = study.kinds().into_iter();
    let asked = asked.filter(|kind| *kind == Kind::Requested);
    assert_eq!(
        asked.count(),
        33,
        "the patient hears of the first that is too many"
    );
    let answers = study.exchange.log_entries().into_iter();
    let denied = answers.filter(|entry| entry.entry.kind == Kind::Denied);
    assert_eq!(
        denied.count(),
        65,
        "33 answers that the patient hears too, and 32 words on what is too many"
    );
    // A day later it may ask again.
    study.world.clock.advance(24 * 60 * 60);
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS));
}

/// What the hospital's node wrote for a recipient is counted with what it says itself.
#[tokio::test]
async fn hostile_recipient_whose_entries_the_hospital_wrote_finds_half_of_the_room() {
    const ASKED: usize = 24;
    for (is_brought, all_are_answered) in [(false, true), (true, false)] {
        let mut study = Study::begin(Vec::new()).await;
        study.desk.log_entries_max = 2 * (1_024 + 40);
        let store = &study.world.pipeline.store;
        if is_brought {
            let fact = brought_fact(EXCHANGE);
            store.state_fact(&fact, "true").await.expect("kept");
        }
        study.settle().await;
        for _ in 0..ASKED {
            study.ask("HRESCH", |_| ()).await;
            study.settle().await;
        }
        let log = study.exchange.log_entries().into_iter();
        let released = log.filter(|entry| entry.entry.kind == Kind::Released);
        let released = released.count();
        assert_eq!(released == ASKED, all_are_answered, "{released}");
    }
}

/// What was released before can be ordered erased, however much is asked for.
#[tokio::test]
async fn hostile_recipient_fills_the_log_and_orders_to_erase_find_room() {
    const ASKED: usize = 24;
    let mut study = Study::begin(Vec::new()).await;
    study.desk.log_entries_max = 1_024 + 40;
    study.settle().await;
    let mut requests = Vec::new();
    for _ in 0..ASKED {
        requests.push(study.ask("HRESCH", |_| ()).await);
        study.settle().await;
    }
    let released = |study: &Study| {
        let log = study.exchange.log_entries();
        let released = log
            .iter()
            .filter(|entry| entry.entry.kind == Kind::Released);
        released.count()
    };
    let before = released(&study);
    assert!(before > 0 && before < ASKED, "{before}");
    let circles = all_circles(&study.world.pipeline.store)
        .await
        .expect("the store");
    let alarms: Vec<_> = circles
        .iter()
        .filter_map(|circle| circle.alarm.clone())
        .collect();
    assert!(
        alarms.iter().any(|why| why.contains("nearly full")),
        "{alarms:?}"
    );
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    study.settle().await;
    let orders = study.exchange.log_entries();
    let orders = orders
        .iter()
        .filter(|entry| entry.entry.kind == Kind::EraseOrdered);
    assert_eq!(
        orders.count(),
        before,
        "each of them, and none was released since"
    );
    assert_eq!(released(&study), before);
    for request in requests {
        assert!(study.open(request).await.is_empty());
    }
}

#[tokio::test]
async fn hostile_heap_of_consents_is_answered_on_as_many_as_an_entry_names() {
    let mut study = Study::begin(Vec::new()).await;
    for number in 2..CONSENTS_LEN_MAX as u64 + 8 {
        let recipient = researcher().public_key();
        let (consent, _) = consent_to(recipient, &patient(), number, CONTEXT, anchorer());
        study.world.circle.add_consent(consent);
    }
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS));
    for entry in study.world.circle.log_entries() {
        if let Body::Permitted { based_on, .. } | Body::Released { based_on, .. } = entry.body {
            assert_eq!(based_on.len(), CONSENTS_LEN_MAX);
        }
    }
}

/// The backup is older than the release: nothing but the logs says that it was made.
#[tokio::test]
async fn a_restored_custodian_orders_the_erasure_of_what_it_released_since() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let files = study.open(request).await;
    assert_eq!(files.len(), usize::from(RECORDS));
    let folder = tempfile::tempdir().expect("a folder");
    let store = crate::shared::opened(folder.path()).await.expect("a store");
    for entered in [row(), exchange_row()] {
        store.enter_circle(&entered).await.expect("entered");
    }
    study.world.pipeline.store = store;
    study.world.pipeline.readings = Readings::default();
    study.settle().await;
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    study.settle().await;
    assert!(files.iter().all(|file| !file.exists()));
    let kinds = study.kinds();
    for kind in [Kind::EraseOrdered, Kind::Erased] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

/// The first change of the recipient's key.
async fn change_key(study: &Study, [old, new]: [&SecretKey; 2], signer: &SecretKey) {
    let (old_key, new_key) = (old.public_key(), new.public_key());
    let message = rotate_message(EXCHANGE, old_key, new_key, RotationNumber(0));
    let signature = signer.sign(message).expect("signable");
    let change = KeyChange {
        old_key,
        new_key,
        seq: 0,
    };
    let change = SignedKeyChange { change, signature };
    study
        .exchange
        .change_key(&change, 1)
        .await
        .expect("changed");
}

#[tokio::test]
async fn a_stopped_exchange_takes_in_the_key_change_that_mends_it() {
    let mut study = Study::begin(Vec::new()).await;
    let [thief, next] = [4, 7].map(|scalar| SecretKey::from_scalar(&[scalar; 32]));
    let (thief, next) = (thief.expect("a scalar"), next.expect("a scalar"));
    let store = study.world.pipeline.store.clone();
    let alarm = async || store.circle(EXCHANGE).await.expect("a row").alarm;
    change_key(&study, [&researcher(), &thief], &researcher()).await;
    study.settle().await;
    assert!(alarm().await.is_some());
    change_key(&study, [&researcher(), &next], &recovery()).await;
    study.settle().await;
    let expected = store.expect_recipient(EXCHANGE, next.public_key()).await;
    expected.expect("an exchange");
    store.clear_alarm(EXCHANGE).await.expect("cleared");
    study.settle().await;
    assert_eq!(alarm().await, None);
}

/// Whoever is invited says its key itself: it could enrol with the key that patients grant to, or
/// change its own to that.
#[tokio::test]
async fn hostile_recipient_that_says_anothers_key_is_served_nothing() {
    let own = SecretKey::from_scalar(&[7; 32]).expect("a scalar");
    for changes_to_it in [false, true] {
        let mut study = Study::begin(Vec::new()).await;
        if changes_to_it {
            study.exchange.enrol_instead(own.public_key());
            change_key(&study, [&own, &researcher()], &own).await;
        }
        let store = study.world.pipeline.store.clone();
        let expect = async |key: PublicKey| {
            let expected = store.expect_recipient(EXCHANGE, key).await;
            expected.expect("an exchange");
        };
        expect(own.public_key()).await;
        study.settle().await;
        assert!(study.exchange.shared_receipts().is_empty());
        assert!(study.kinds().is_empty(), "nothing is asked of the patient");
        let alarm = store.circle(EXCHANGE).await.expect("a row").alarm;
        let alarm = alarm.expect("it is stopped");
        assert!(
            alarm.contains("the recipient says that its key is"),
            "{alarm}"
        );
        // It was the recipient's own after all.
        expect(researcher().public_key()).await;
        store.clear_alarm(EXCHANGE).await.expect("cleared");
        study.settle().await;
        assert_eq!(study.exchange.shared_receipts().len(), 1);
    }
}

/// What does not fit is the patient's to hand over, and keeps nothing else waiting.
#[tokio::test]
async fn hostile_patient_fills_an_exchange_and_its_revocation_is_carried_all_the_same() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let shared = study.exchange.shared_receipts()[0].patient;
    study.exchange.refuse(Refuses::ReceiptsOf(shared));
    let to = researcher().public_key();
    for number in 2..5 {
        let (consent, _) = consent_to(to, &patient(), number, CONTEXT, anchorer());
        study.world.circle.add_consent(consent);
    }
    study.settle().await;
    let tried = study.world.faults.calls("put_receipt");
    assert_eq!(tried, 1 + 3, "each once");
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    study.settle().await;
    assert_eq!(study.world.faults.calls("put_receipt"), tried);
    assert_eq!(study.exchange.revocations(), 1);
}
