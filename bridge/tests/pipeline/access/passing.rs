//! What changes between an answer and what it leads to.

use medsync::daemon;
use medsync::seams::{Clock, system_random};
use medsync::source::Circle;
use medsync::store::access::RequestState;
use medsync_protocol::audit::{Body, DenialReason, EntryKind as Kind, RecordRef};
use medsync_protocol::ids::{RecordId, Sha256Digest, UnixSeconds};
use medsync_protocol::signature::SecretKey;

use super::super::circle::{CONTEXT, custodian_author};
use super::super::faults::{Fault, Plan};
use super::super::keys::change;
use super::super::{START, anchorer, consent_to, patient};
use super::records::{add_described, add_record, first_version, observation, resource};
use super::{RECORDS, Study, researcher};

/// How long a release that was hindered rests, in seconds, and a little.
const REST_S: u64 = 11;

/// A study whose release is in the logs, and whose keys so many calls do not bring out.
async fn logged_and_not_handed_over(calls: u32) -> Study {
    let silent = (1..=calls).map(|call| Plan {
        operation: "put_release",
        call,
        fault: Fault::Failed,
    });
    let mut study = Study::begin(silent.collect()).await;
    study.settle().await;
    study.ask("HRESCH", |_| ()).await;
    study.custodians_round().await;
    assert!(study.kinds().contains(&Kind::Released));
    assert!(study.exchange.released().is_empty());
    study
}

/// The log says what is released; one word of an endpoint does not make it untrue for good.
#[tokio::test]
async fn hostile_endpoint_says_revoked_at_the_handing_over_and_it_is_handed_over_later() {
    let mut study = logged_and_not_handed_over(u32::from(RECORDS)).await;
    let handle = study.signed.secrets.handle();
    let chain = study.world.chain.clone();
    chain.revoke_past_everybody(handle, UnixSeconds(START));
    for _ in 0..4 {
        study.world.clock.advance(REST_S);
        study.settle().await;
        assert!(study.exchange.released().is_empty(), "it is denied");
    }
    chain.forget_revocation(handle);
    study.world.clock.advance(REST_S);
    study.settle().await;
    assert_eq!(study.exchange.released().len(), usize::from(RECORDS));
    let released = study
        .kinds()
        .into_iter()
        .filter(|kind| *kind == Kind::Released);
    assert_eq!(released.count(), 1);
}

/// Two lies hours apart, between which something else hinders it, are no more than one.
#[tokio::test]
async fn hostile_endpoint_says_revoked_twice_and_it_is_handed_over_all_the_same() {
    const FAILURES: u32 = 64;
    let mut study = logged_and_not_handed_over(FAILURES).await;
    let handle = study.signed.secrets.handle();
    let chain = study.world.chain.clone();
    chain.grow(3 * START);
    for _ in 0..2 {
        study.world.clock.advance(REST_S);
        chain.revoke_past_everybody(handle, UnixSeconds(START));
        study.custodians_round().await;
        chain.forget_revocation(handle);
        for _ in 0..8 {
            study.world.clock.advance(10 * 60);
            study.custodians_round().await;
        }
    }
    assert!(study.exchange.released().is_empty());
    for _ in 0..2 * FAILURES {
        study.world.clock.advance(REST_S);
        study.custodians_round().await;
    }
    study.settle().await;
    assert_eq!(study.exchange.released().len(), usize::from(RECORDS));
}

/// A key leaves on a consent that its entry names, or not at all: the end of another would order
/// nothing erased.
#[tokio::test]
async fn what_another_consent_permits_is_not_handed_over_on_an_entry_of_before() {
    let mut study = logged_and_not_handed_over(u32::from(RECORDS)).await;
    let next = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    let changed = change(&patient(), &next, 0, &patient());
    let circle = study.world.circle.clone();
    circle.change_key(&changed, 1).await.expect("taken");
    let recipient = researcher().public_key();
    let another = consent_to(recipient, &next, 2, CONTEXT, anchorer());
    circle.add_consent(another.0);
    for _ in 0..4 {
        study.world.clock.advance(REST_S);
        study.settle().await;
    }
    assert!(study.exchange.released().is_empty());
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let released = study.exchange.released();
    assert_eq!(
        released.len(),
        usize::from(RECORDS),
        "on a request of its own"
    );
}

/// Whoever denies and dies before the exchange has it releases nothing on the permission of before,
/// noted or not.
#[tokio::test]
async fn what_was_denied_after_it_was_permitted_is_released_no_more() {
    for state in [RequestState::New, RequestState::Permitted] {
        let mut study = Study::begin(Vec::new()).await;
        study.settle().await;
        let request = study.ask("HRESCH", |_| ()).await;
        study.settle().await;
        let log = study.world.circle.log_entries();
        let copy = log.iter().find(|entry| entry.entry.kind == Kind::Requested);
        let store = study.world.pipeline.store.clone();
        let now = study.world.clock.now();
        let denied = Body::Denied {
            request: copy.expect("a copy").digest(),
            reason: DenialReason::Withdrawn,
            based_on: Vec::new(),
        };
        let (author, mut random) = (custodian_author(), system_random());
        let said = medsync::audit::append(&store, CONTEXT, &author, &denied, now, &mut random);
        said.await.expect("kept");
        daemon::publish_log(&study.world.pipeline)
            .await
            .expect("published");
        store.request_is(request, state, now).await.expect("noted");
        add_record(&study.world, RECORDS).await;
        study.settle().await;
        let kinds = study.kinds();
        let mut after = kinds.iter().skip_while(|kind| **kind != Kind::Denied);
        assert!(!after.any(|kind| *kind == Kind::Released), "{kinds:?}");
        assert_eq!(study.denial(), Some(DenialReason::Withdrawn));
        assert_eq!(study.exchange.released().len(), usize::from(RECORDS));
    }
}

/// A version that is to be written and is not there yet does not leave the one before as it was.
#[tokio::test]
async fn a_version_that_was_planned_withholds_the_one_before() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let (store, first) = (study.world.pipeline.store.clone(), first_version(0));
    let local_key = Sha256Digest(first.record.0);
    let row = store.record(CONTEXT, local_key).await.expect("the store");
    let mut planned = row.expect("planned");
    planned.version.0 += 1;
    store
        .plan_record(CONTEXT, local_key, &planned)
        .await
        .expect("kept");
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let named = |what: RecordRef| {
        let released = study.exchange.released();
        released.iter().any(|release| release.what == what)
    };
    assert!(!named(first));
    assert!(named(first_version(1)));
}

/// A resource whose record has no room for another version gets another name, and what has the name
/// of before is withheld.
#[tokio::test]
async fn a_record_whose_resource_has_another_name_now_is_withheld() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let (store, first) = (study.world.pipeline.store.clone(), first_version(0));
    let another = RecordRef {
        record: RecordId([200; 32]),
        version: 1,
    };
    let payload = resource(200);
    add_described(&study.world, another, observation(), payload.as_bytes()).await;
    let row = store.record(CONTEXT, Sha256Digest(another.record.0)).await;
    let row = row.expect("the store").expect("planned");
    let local_key = Sha256Digest(first.record.0);
    store
        .plan_record(CONTEXT, local_key, &row)
        .await
        .expect("kept");
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let released = study.exchange.released();
    let named = |what: RecordRef| released.iter().any(|release| release.what == what);
    assert!(!named(first));
    assert!(named(another));
}

/// A restored home has records in its circle that it cannot open.
#[tokio::test]
async fn a_record_without_a_key_is_named_in_no_release() {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    let mut stranger = study.world.circle.all_records().swap_remove(0);
    stranger.record = RecordId([201; 32]);
    stranger.attributes.record = Some(stranger.record);
    stranger.key.0 = [201; 32];
    study.world.circle.add_record(stranger.clone(), Vec::new());
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let log = study.world.circle.log_entries();
    let names_it = log.iter().any(|entry| match &entry.body {
        Body::Permitted { records, .. } | Body::Released { records, .. } => {
            records.iter().any(|what| what.record == stranger.record)
        }
        _ => false,
    });
    assert!(!names_it);
    assert_eq!(study.exchange.released().len(), usize::from(RECORDS));
}
