//! Consents that end between a request, its answer and its release.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use medsync::audit::append;
use medsync::daemon;
use medsync::pipeline::ingest::frozen_fact;
use medsync::pipeline::{ingest, watch};
use medsync::seams::system_random;
use medsync::source::Circle;
use medsync::store::releases::{ReleaseRow, ReleaseState};
use medsync_protocol::audit::{
    Body, DenialReason, EntryDigest, EntryKind as Kind, ErasureReason, RecordRef,
};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{AddressBytes, Anchorer, RecordId, UnixSeconds};
use medsync_protocol::signature::SecretKey;
use medsync_protocol::terms::{Provision, Terms};

use super::super::circle::{CONTEXT, custodian_author, recovery};
use super::super::devices::{PHONE, admission};
use super::super::faults::{Fault, Plan};
use super::super::keys::change;
use super::super::{
    SETTLED_S, START, anchorer, consent, consent_to, consent_until, patient, revocation_of,
    sign_terms,
};
use super::{EXCHANGE, RECORDS, Study, researcher};

const END: UnixSeconds = UnixSeconds(START + 100_000);

#[tokio::test]
async fn a_consent_that_is_over_permits_nothing_and_what_it_permitted_is_erased() {
    let recipient = researcher().public_key();
    let ending = consent_until(END, recipient, &patient(), CONTEXT, anchorer());
    let mut study = Study::begin_with(Vec::new(), ending).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let files = study.open(request).await;
    assert!(!files.is_empty());
    study.world.clock.0.store(END.0, Ordering::SeqCst);
    study.settle().await;
    assert!(files.iter().all(|file| !file.exists()));
    assert_eq!(study.kinds()[3..], [Kind::EraseOrdered, Kind::Erased]);
    let log = study.world.circle.log_entries();
    assert!(matches!(
        log[3].body,
        Body::EraseOrdered {
            reason: ErasureReason::Expired,
            ..
        }
    ));
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
}

#[tokio::test]
async fn what_is_revoked_between_permit_and_release_is_withdrawn() {
    let mut hits = 0;
    for call in 1..=12 {
        let silent = Plan {
            operation: "revoked_at",
            call,
            fault: Fault::Failed,
        };
        let mut study = Study::begin(vec![silent]).await;
        study.settle().await;
        study.ask("HRESCH", |_| ()).await;
        ingest::ingest_all(&study.world.pipeline)
            .await
            .expect("read");
        study.desk.round().await.expect("a round");
        if study.kinds() != [Kind::Requested, Kind::Permitted] {
            continue;
        }
        hits += 1;
        let revocation = revocation_of(&study.signed);
        study.world.circle.add_revocation(revocation);
        study.settle().await;
        assert_eq!(study.denial(), Some(DenialReason::Withdrawn));
        assert!(study.exchange.released().is_empty());
    }
    assert!(hits > 0, "no fault fell between permit and release");
}

#[tokio::test]
async fn what_is_revoked_between_the_entry_and_the_keys_is_not_handed_over() {
    let silent = (1..=u32::from(RECORDS)).map(|call| Plan {
        operation: "put_release",
        call,
        fault: Fault::Failed,
    });
    let mut study = Study::begin(silent.collect()).await;
    study.settle().await;
    study.ask("HRESCH", |_| ()).await;
    ingest::ingest_all(&study.world.pipeline)
        .await
        .expect("read");
    study.desk.round().await.expect("a round");
    assert_eq!(study.kinds().last(), Some(&Kind::Released));
    assert!(study.exchange.released().is_empty());
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    study.world.clock.0.fetch_add(60, Ordering::SeqCst);
    study.settle().await;
    assert!(study.exchange.released().is_empty());
    assert!(study.kinds().contains(&Kind::EraseOrdered));
}

#[tokio::test]
async fn a_record_that_cannot_be_handed_over_keeps_no_other_and_comes_later() {
    let silent = Plan {
        operation: "put_release",
        call: 1,
        fault: Fault::Failed,
    };
    let mut study = Study::begin(vec![silent]).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    ingest::ingest_all(&study.world.pipeline)
        .await
        .expect("read");
    study.desk.round().await.expect("a round");
    assert_eq!(study.exchange.released().len(), usize::from(RECORDS) - 1);
    study.settle().await;
    assert_eq!(study.open(request).await.len(), usize::from(RECORDS));
}

/// More releases than a round looks at.
const MANY: u64 = 140;

/// A release of long ago, in a state of one's choice.
async fn keep_old(study: &Study, number: u64, state: ReleaseState) {
    let store = &study.world.pipeline.store;
    let row = ReleaseRow {
        logged_as: EntryDigest::from_felt(Felt::from(number)),
        request: EntryDigest::from_felt(Felt::ONE),
        exchange: EXCHANGE,
        circle: CONTEXT,
        state,
        orders: None,
    };
    store.keep_release(&row).await.expect("kept");
    store
        .release_is(row.logged_as, state, None)
        .await
        .expect("kept");
}

#[tokio::test]
async fn orders_and_their_answers_come_however_much_was_released_before() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    for number in 0..MANY {
        keep_old(&study, 2 * number, ReleaseState::Published).await;
        keep_old(&study, 2 * number + 1, ReleaseState::Ordered).await;
    }
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let files = study.open(request).await;
    assert_eq!(files.len(), usize::from(RECORDS));
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    study.settle().await;
    study.settle().await;
    assert!(files.iter().all(|file| !file.exists()));
    assert_eq!(study.kinds()[3..], [Kind::EraseOrdered, Kind::Erased]);
}

#[tokio::test]
async fn releases_are_read_in_parts_in_one_order() {
    let study = Study::begin(Vec::new()).await;
    for number in 0..5 {
        keep_old(&study, number, ReleaseState::Published).await;
    }
    let store = &study.world.pipeline.store;
    let (mut names, mut after, now) = (Vec::new(), None, UnixSeconds(START));
    loop {
        let page = store
            .releases_in(ReleaseState::Published, after, now, 2)
            .await;
        let page = page.expect("the store");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.logged_as);
        names.extend(page.iter().map(|row| row.logged_as));
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 5);
}

#[tokio::test]
async fn how_far_a_large_record_is_holds_until_it_is_handed_over() {
    let study = Study::begin(Vec::new()).await;
    let store = &study.world.pipeline.store;
    let logged_as = EntryDigest::from_felt(Felt::ONE);
    let what = RecordRef {
        record: RecordId([1; 32]),
        version: 1,
    };
    for parts in [0, 16] {
        let kept = store.keep_carried_parts(logged_as, what, parts).await;
        kept.expect("kept");
        let carried = store.carried_parts(logged_as).await.expect("the store");
        assert_eq!(carried, BTreeMap::from([(what, parts)]));
    }
    store.keep_handed_over(logged_as, what).await.expect("kept");
    let carried = store.carried_parts(logged_as).await;
    assert!(carried.expect("the store").is_empty());
}

/// A clock that is behind the chain's, or was set back, sees a revocation before its time.
#[tokio::test]
async fn a_revocation_that_the_chain_alone_knows_counts_whatever_this_clock_says() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let handle = study.signed.secrets.handle();
    let later = UnixSeconds(START + 1_000_000);
    study.world.chain.revoke_past_everybody(handle, later);
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
    assert!(study.exchange.released().is_empty());
}

/// One answer of an endpoint is taken back; an erasure is not.
#[tokio::test]
async fn hostile_endpoint_says_revoked_once_and_nothing_is_erased() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let files = study.open(request).await;
    let handle = study.signed.secrets.handle();
    let watched = async |study: &mut Study| {
        let round = watch::watch_round(&study.world.pipeline).await;
        round.expect("asked");
        study.settle().await;
        study.kinds()
    };
    study.world.chain.grow(3 * START);
    for is_true in [false, true] {
        let at = UnixSeconds(START);
        study.world.chain.revoke_past_everybody(handle, at);
        let kinds = watched(&mut study).await;
        assert!(!kinds.contains(&Kind::EraseOrdered), "{kinds:?}");
        study.ask("HRESCH", |_| ()).await;
        study.settle().await;
        assert_eq!(study.denial(), Some(DenialReason::NoConsent));
        if !is_true {
            study.world.chain.forget_revocation(handle);
        }
        study.world.clock.advance(SETTLED_S);
        let kinds = watched(&mut study).await;
        assert_eq!(kinds.contains(&Kind::EraseOrdered), is_true, "{kinds:?}");
        assert!(files.iter().all(|file| file.exists() != is_true));
    }
}

#[tokio::test]
async fn hostile_second_enrolment_vanishes_and_nothing_is_released_all_the_same() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    study.world.circle.enrol_again(researcher().public_key());
    // An enrolment is an entry too.
    study.world.circle.add_consent(consent(9).0);
    study.settle().await;
    study.world.circle.enrol_instead(patient().public_key());
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
    assert!(study.exchange.released().is_empty());
}

/// The second enrolment is for ever; changes of a key that contradict each other are not.
#[tokio::test]
async fn hostile_thief_freezes_the_circle_and_the_recovery_key_ends_it() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let [thief, next] = [6, 4].map(|number| SecretKey::from_scalar(&[number; 32]));
    let (thief, next) = (thief.expect("a scalar"), next.expect("a scalar"));
    for (new, signer) in [(&thief, patient()), (&next, patient()), (&next, recovery())] {
        let is_recovery = signer.public_key() == recovery().public_key();
        let change = change(&patient(), new, 0, &signer);
        study
            .world
            .circle
            .change_key(&change, 1)
            .await
            .expect("taken");
        if !is_recovery && new.public_key() == thief.public_key() {
            continue;
        }
        let consent = consent_to(researcher().public_key(), new, 2, CONTEXT, anchorer());
        study.world.circle.add_consent(consent.0);
        study.settle().await;
        study.ask("HRESCH", |_| ()).await;
        study.settle().await;
        let released = study.exchange.released().len();
        let expected = usize::from(RECORDS) * usize::from(is_recovery);
        assert_eq!(released, expected, "{:?}", study.denial());
    }
    let fact = study.world.pipeline.store.fact(&frozen_fact(CONTEXT)).await;
    assert_eq!(fact.expect("the store"), None);
}

/// What is released on it could not be ordered erased.
#[tokio::test]
async fn hostile_consent_that_was_not_taken_in_permits_nothing() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let recipient = researcher().public_key();
    let (consent, _) = consent_to(recipient, &patient(), 2, CONTEXT, anchorer());
    let of_another = Terms {
        custodian_address: AddressBytes::of(Anchorer::from_felt(Felt::from(7))),
        provision: Provision {
            purposes: CodeSet::collect([Code::new("act", "TREAT")]).expect("one"),
            ..consent.terms.provision.clone()
        },
        ..consent.terms
    };
    let (consent, _) = sign_terms(recipient, &patient(), 2, of_another);
    study.world.circle.add_consent(consent);
    study.ask("TREAT", |_| ()).await;
    study.settle().await;
    assert_eq!(study.denial(), Some(DenialReason::NoConsent));
    assert!(study.exchange.released().is_empty());
}

#[tokio::test]
async fn an_answer_that_came_before_its_exchange_was_stopped_is_copied() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    ingest::ingest_all(&study.world.pipeline)
        .await
        .expect("read");
    study.desk.round().await.expect("ordered");
    let theirs = &study.recipient.pipeline;
    ingest::ingest_all(theirs).await.expect("read");
    study.recipient.erase_all().await.expect("erased");
    daemon::publish_log(theirs).await.expect("published");
    ingest::ingest_all(&study.world.pipeline)
        .await
        .expect("read");
    let store = &study.world.pipeline.store;
    let stopped = store.raise_alarm(EXCHANGE, "a reader was added").await;
    stopped.expect("raised");
    study.desk.round().await.expect("a round");
    assert_eq!(study.kinds()[3..], [Kind::EraseOrdered, Kind::Erased]);
}

#[tokio::test]
async fn an_order_that_its_exchange_does_not_take_rests_and_comes_later() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let store = study.world.pipeline.store.clone();
    let stopped = store.raise_alarm(EXCHANGE, "a reader was added").await;
    stopped.expect("raised");
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    ingest::ingest_all(&study.world.pipeline)
        .await
        .expect("read");
    let mut asked = Vec::new();
    for _ in 0..3 {
        study.desk.round().await.expect("a round");
        asked.push(study.world.faults.calls("pin"));
    }
    assert_eq!(study.kinds().last(), Some(&Kind::EraseOrdered));
    assert_eq!(asked[0], asked[2], "it rests");
    store.clear_alarm(EXCHANGE).await.expect("cleared");
    study.world.clock.advance(60);
    study.settle().await;
    assert_eq!(study.kinds()[3..], [Kind::EraseOrdered, Kind::Erased]);
}

/// A custodian that died between a release's entry and its note ends it all the same.
#[tokio::test]
async fn a_release_that_was_logged_and_not_noted_is_taken_over_and_ordered_erased() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let request = study.ask("HMARKT", |_| ()).await;
    study.settle().await;
    let log = study.world.circle.log_entries();
    let copy = log.iter().find(|entry| entry.entry.kind == Kind::Requested);
    let released = Body::Released {
        request: copy.expect("a copy").digest(),
        logged_as: None,
        records: vec![RecordRef {
            record: RecordId([0; 32]),
            version: 1,
        }],
        based_on: vec![study.signed.commitment],
    };
    let (store, now) = (study.world.pipeline.store.clone(), UnixSeconds(START));
    let (author, mut random) = (custodian_author(), system_random());
    let logged = append(&store, CONTEXT, &author, &released, now, &mut random).await;
    let logged = logged.expect("kept").digest();
    study.settle().await;
    let rows = store.releases_for(request).await.expect("the store");
    assert_eq!(
        rows.iter().map(|row| row.logged_as).collect::<Vec<_>>(),
        [logged]
    );
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    study.settle().await;
    let ordered =
        study.world.circle.log_entries().into_iter().any(
            |entry| matches!(entry.body, Body::EraseOrdered { release, .. } if release == logged),
        );
    assert!(ordered);
}

/// What a thief granted the thief alone can revoke. The recovery key replaces the stolen key, or
/// the one that the thief changed.
#[tokio::test]
async fn hostile_thief_granted_and_what_was_released_on_it_is_erased_with_its_key() {
    for seq in [0, 1] {
        let mut study = Study::begin(Vec::new()).await;
        study.settle().await;
        let [thiefs, next] = [6, 4].map(|number| SecretKey::from_scalar(&[number; 32]));
        let (thiefs, next) = (thiefs.expect("a scalar"), next.expect("a scalar"));
        let circle = study.world.circle.clone();
        let stolen = change(&patient(), &thiefs, 0, &patient());
        circle.change_key(&stolen, 1).await.expect("taken");
        let granted = consent_to(researcher().public_key(), &thiefs, 2, CONTEXT, anchorer());
        circle.add_consent(granted.0);
        study.settle().await;
        let request = study.ask("HRESCH", |_| ()).await;
        study.settle().await;
        let files = study.open(request).await;
        assert_eq!(files.len(), usize::from(RECORDS));
        assert!(!study.kinds().contains(&Kind::EraseOrdered));
        let replaced = if seq == 0 { patient() } else { thiefs };
        let overruled = change(&replaced, &next, seq, &recovery());
        circle.change_key(&overruled, 1).await.expect("taken");
        study.settle().await;
        let kinds = study.kinds();
        assert_eq!(kinds[kinds.len() - 2..], [Kind::EraseOrdered, Kind::Erased]);
        assert!(files.iter().all(|file| !file.exists()));
    }
}

/// A thief that admitted a reader stops the circle when it is overruled; the order stands in the
/// exchange all the same.
#[tokio::test]
async fn hostile_thief_stops_the_circle_and_what_it_had_released_is_erased_all_the_same() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let circle = study.world.circle.clone();
    circle.add_to_group(PHONE);
    circle.add_device(admission(PHONE, 1, &patient()));
    study.settle().await;
    let request = study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let files = study.open(request).await;
    assert_eq!(files.len(), usize::from(RECORDS));
    let next = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    let overruled = change(&patient(), &next, 0, &recovery());
    circle.change_key(&overruled, 1).await.expect("taken");
    study.settle().await;
    study.world.clock.0.fetch_add(120, Ordering::SeqCst);
    study.settle().await;
    let row = study.world.pipeline.store.circle(CONTEXT).await;
    assert!(row.expect("a row").alarm.is_some(), "it is stopped");
    let log = study.exchange.log_entries();
    let ordered = log.iter().any(|entry| {
        let reason = ErasureReason::Overruled;
        matches!(entry.body, Body::EraseOrdered { reason: said, .. } if said == reason)
    });
    assert!(ordered);
    assert!(files.iter().all(|file| !file.exists()));
}
