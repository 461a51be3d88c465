//! What a custodian answers without a consent: the patient's side sees it.

mod heard;
mod hidden;

use medsync::access::break_glass_code;
use medsync::audit::{self, Fault, Judged, answers_fact, check_answers, judge_all};
use medsync::guard::{self, GuardError};
use medsync::invitation::{Invitation, Parts};
use medsync::pipeline::watch::watch_round;
use medsync::pipeline::{Pipeline, ingest};
use medsync::seams::{Clock, system_random};
use medsync::source::{Circle, EntryKey, PageLimit, Revocation};
use medsync_protocol::audit::{
    Body, EntryDigest, EntryKind as Kind, ErasureReason, RecordRef, Requested,
};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::Commitment;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ClassHash, ContextKind, RecordId, SealKey, Sha256Digest, UnixSeconds};
use medsync_protocol::signature::SecretKey;

use super::super::circle::{CONTEXT, CUSTODIAN, custodian_author};
use super::super::keys::change;
use super::super::log::checked_of;
use super::super::{
    SETTLED_S, START, anchorer, consent, consent_to, patient, registry, revocation_of, row,
};
use super::{Study, researcher};

const MINUTE_S: u64 = 60;
/// How old a block may be here.
const BLOCK_AGE_S_MAX: u64 = 10 * MINUTE_S;

/// What is read on somebody's side, and judged.
async fn read_and_judged(pipeline: &Pipeline) -> String {
    ingest::ingest_all(pipeline).await.expect("read");
    let pipeline = Pipeline {
        block_age_s_max: BLOCK_AGE_S_MAX,
        ..pipeline.clone()
    };
    let judged = judge_all(&pipeline, &Judged::default()).await;
    judged.expect("judged");
    let why = pipeline.store.fact(&answers_fact(CONTEXT)).await;
    why.expect("the store").unwrap_or_default()
}

fn first_record() -> RecordRef {
    RecordRef {
        record: RecordId([0; 32]),
        version: 1,
    }
}

impl Study {
    /// A study in which a request was answered as it should be; its copy in the circle.
    async fn answered() -> (Self, EntryDigest, Requested) {
        let mut study = Self::begin(Vec::new()).await;
        study.settle().await;
        study.ask("HRESCH", |_| ()).await;
        study.settle().await;
        let log = study.world.circle.log_entries();
        let copy = log.iter().find_map(|entry| match &entry.body {
            Body::Requested(requested) => Some((entry.digest(), requested.clone())),
            _ => None,
        });
        let (digest, requested) = copy.expect("a copy");
        assert_eq!(study.faults().await, []);
        (study, digest, requested)
    }

    /// The custodian says something that its own software would not.
    async fn says(&self, body: Body, at: u64) -> EntryDigest {
        let (store, now) = (&self.world.pipeline.store, UnixSeconds(at));
        let (author, mut random) = (custodian_author(), system_random());
        let said = audit::append(store, CONTEXT, &author, &body, now, &mut random);
        let entry = said.await.expect("kept");
        audit::publish(store, &self.world.circle, now)
            .await
            .expect("published");
        entry.digest()
    }

    async fn releases(&self, request: EntryDigest, records: Vec<RecordRef>, at: u64) {
        let released = Body::Released {
            request,
            logged_as: None,
            records,
            based_on: vec![self.signed.commitment],
        };
        self.says(released, at).await;
    }

    async fn faults(&self) -> Vec<Fault> {
        self.faults_seen_by(&self.world.pipeline).await
    }

    /// The same by everything that was ever seen on somebody's side.
    async fn faults_seen_by(&self, pipeline: &Pipeline) -> Vec<Fault> {
        let pipeline = Pipeline {
            block_age_s_max: BLOCK_AGE_S_MAX,
            ..pipeline.clone()
        };
        let faults = check_answers(&pipeline, &self.world.circle);
        faults.await.expect("read")
    }

    /// The custodian says something that does no harm.
    async fn is_in_reach(&self, at: u64) {
        let says = Body::Erased {
            order: None,
            said_by: None,
            records: Vec::new(),
        };
        self.says(says, at).await;
    }
}

#[tokio::test]
async fn hostile_release_for_what_nobody_consented_to_is_seen() {
    let (study, _, requested) = Study::answered().await;
    let marketing = Requested {
        purposes: CodeSet::collect([Code::new("act", "HMARKT")]).expect("one"),
        ..requested
    };
    let copy = study.says(Body::Requested(marketing), START).await;
    let permitted = Body::Permitted {
        request: copy,
        records: vec![first_record()],
        based_on: Vec::new(),
        obligations: CodeSet::default(),
    };
    study.says(permitted, START).await;
    study.releases(copy, vec![first_record()], START).await;
    let faults = study.faults().await;
    assert_eq!(faults.len(), 2, "{faults:?}");
    for fault in faults {
        let Fault::NotCovered { records, .. } = fault else {
            panic!("{fault:?}");
        };
        assert_eq!(records, [first_record()]);
    }
}

#[tokio::test]
async fn hostile_release_of_a_record_that_is_not_covered_or_not_here_is_seen() {
    let (study, copy, _) = Study::answered().await;
    let unknown = RecordRef {
        record: RecordId([77; 32]),
        version: 1,
    };
    let later = RecordRef {
        version: 2,
        ..first_record()
    };
    let mut named = vec![first_record(), unknown, later];
    named.sort_unstable();
    study.releases(copy, named, START).await;
    let faults = study.faults().await;
    let [Fault::NotCovered { records, .. }] = faults.as_slice() else {
        panic!("{faults:?}");
    };
    assert!(!records.contains(&first_record()));
    assert_eq!(records.len(), 2);
}

#[tokio::test]
async fn hostile_release_after_a_denial_is_seen() {
    let (mut study, ..) = Study::answered().await;
    study.ask("HMARKT", |_| ()).await;
    study.settle().await;
    let log = study.world.circle.log_entries();
    let denied = log.iter().find_map(|entry| match entry.body {
        Body::Denied { request, .. } => Some(request),
        _ => None,
    });
    assert_eq!(study.faults().await, []);
    let denied = denied.expect("denied");
    study.releases(denied, vec![first_record()], START).await;
    let faults = study.faults().await;
    assert!(matches!(
        faults.as_slice(),
        [Fault::NotPermitted { .. }, Fault::NotCovered { .. }]
    ));
}

#[tokio::test]
async fn hostile_release_of_what_was_said_to_be_erased_is_seen() {
    let (study, copy, _) = Study::answered().await;
    let erased = Body::Erased {
        order: None,
        said_by: None,
        records: vec![first_record()],
    };
    study.says(erased, START).await;
    assert_eq!(study.faults().await, []);
    study.releases(copy, vec![first_record()], START).await;
    assert_eq!(study.faults().await, [], "it was on its way");
    let at = START + 60 * MINUTE_S;
    study.releases(copy, vec![first_record()], at).await;
    let faults = study.faults().await;
    let [Fault::AfterErasure { records, .. }] = faults.as_slice() else {
        panic!("{faults:?}");
    };
    assert_eq!(records, &[first_record()]);
}

#[tokio::test]
async fn hostile_release_without_a_request_of_its_circle_is_seen() {
    let (study, ..) = Study::answered().await;
    let nothing = EntryDigest::from_felt(Felt::from(5));
    study.releases(nothing, vec![first_record()], START).await;
    let faults = study.faults().await;
    assert!(matches!(faults.as_slice(), [Fault::NotAsked { .. }]));
}

#[tokio::test]
async fn hostile_release_after_a_revocation_is_seen_but_for_what_was_on_its_way() {
    let (study, copy, _) = Study::answered().await;
    let store = &study.world.pipeline.store;
    let handle = study.signed.secrets.handle();
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    ingest::ingest_all(&study.world.pipeline)
        .await
        .expect("read");
    let kept = store.revocation(handle).await.expect("the store");
    let revoked_at = kept.expect("taken in").seen_at.0;
    for (after, is_fault) in [(MINUTE_S, false), (11 * MINUTE_S, true)] {
        let at = revoked_at + after;
        study.releases(copy, vec![first_record()], at).await;
        let faults = study.faults().await;
        assert_eq!(!faults.is_empty(), is_fault, "{after} s: {faults:?}");
    }
}

#[tokio::test]
async fn hostile_release_after_a_revocation_on_the_chain_alone_is_seen() {
    let (study, copy, _) = Study::answered().await;
    let (chain, handle) = (&study.world.chain, study.signed.secrets.handle());
    chain.revoke_past_everybody(handle, UnixSeconds(START));
    // A block may be so old, and the answer so long on its way.
    for minutes in [11, 21] {
        let at = START + minutes * MINUTE_S;
        study.releases(copy, vec![first_record()], at).await;
    }
    assert_eq!(study.faults().await, [], "nobody here knows of it");
    study.world.chain.grow(2 * START);
    for _ in 0..2 {
        watch_round(&study.world.pipeline).await.expect("asked");
        study.world.clock.advance(SETTLED_S);
    }
    let faults = study.faults().await;
    let [Fault::Unheard { .. }, Fault::NotCovered { records, .. }] = faults.as_slice() else {
        panic!("{faults:?}");
    };
    assert_eq!(records, &[first_record()]);
}

#[tokio::test]
async fn hostile_custodian_is_alarmed_about_on_the_patients_side() {
    let (study, copy, _) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    let store = &patients.store;
    assert_eq!(read_and_judged(&patients).await, "");
    let nothing = EntryDigest::from_felt(Felt::from(5));
    study.releases(nothing, vec![first_record()], START).await;
    study.releases(copy, vec![first_record()], START).await;
    let why = read_and_judged(&patients).await;
    assert!(why.starts_with("1 answers"), "{why}");
    let kinds = study.kinds();
    assert!(kinds.contains(&Kind::Released));
    // Stopping the circle then takes nothing back.
    store
        .raise_alarm(CONTEXT, "a reader was added")
        .await
        .expect("raised");
    let mut row = store.circle(CONTEXT).await.expect("a row");
    row.invitation = Some(serde_json::to_string(&invitation()).expect("JSON"));
    let report = checked_of(&patients, &row).await;
    assert!(!report.was_read);
    assert_eq!(report.found_before, Some(why));
    assert_eq!(report.exit_code(), 2);
}

/// What the patient joined by.
fn invitation() -> Invitation {
    Invitation::without_key(Parts {
        kind: ContextKind::Circle,
        group_invitation: serde_json::json!({}),
        group: row().group,
        context: CONTEXT,
        peer: String::new(),
        wasm_sha256: Sha256Digest([0; 32]),
        invitation_key: patient().public_key(),
        custodian_member: CUSTODIAN,
        custodian_address: anchorer(),
        author_key: custodian_author().public_key(),
        seal_key: SealKey([9; 32]),
        registry: registry(),
        class_hash: ClassHash::from_felt(Felt::ONE),
        expires_at: UnixSeconds(START),
    })
}

#[tokio::test]
async fn hostile_hospital_pushes_code_and_the_patients_side_stops_for_good() {
    let (study, ..) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    let store = &patients.store;
    for (is_pushed, stops) in [(false, false), (true, true), (false, true)] {
        study.world.circle.push_code(is_pushed);
        let row = store.circle(CONTEXT).await.expect("a row");
        let entered = guard::enter(&*patients.circles, store, &row, UnixSeconds(START)).await;
        let why = match entered {
            Err(GuardError::Alarm { why, .. }) => why,
            Ok(_) => String::new(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(why.contains("replaced the code"), stops, "{why}");
    }
}

/// By an invitation key of its own it would enrol a patient of its own making.
#[tokio::test]
async fn hostile_hospital_describes_its_circle_anew_and_the_patients_side_stops() {
    let (study, ..) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    let row = patients.store.circle(CONTEXT).await.expect("a row");
    let now = UnixSeconds(START);
    let entered = guard::enter(&*patients.circles, &patients.store, &row, now).await;
    entered.expect("it is as the invitation says");
    let other = Some(researcher().public_key());
    study.world.circle.describe_anew(other);
    let entered = guard::enter(&*patients.circles, &patients.store, &row, now).await;
    let Err(GuardError::Alarm { why, .. }) = entered else {
        panic!("it was entered");
    };
    assert!(why.contains("what the invitation says"), "{why}");
    let resumed = guard::resume(&*patients.circles, &patients.store, &row).await;
    assert!(matches!(resumed, Err(GuardError::Alarm { .. })));
}

/// The secret is everybody's once it was published.
#[tokio::test]
async fn hostile_copy_of_a_revocation_with_an_earlier_time_accuses_nobody() {
    let (study, ..) = Study::answered().await;
    let circle = &study.world.circle;
    let told = revocation_of(&study.signed);
    let copied = Revocation {
        recorded_at: UnixSeconds(0),
        ..told.clone()
    };
    circle.add_revocation(told);
    circle.add_revocation(copied);
    // The app shows the earliest time that anybody wrote down.
    let recipient = researcher().public_key();
    let (mut consent, _) = consent_to(recipient, &patient(), 1, CONTEXT, anchorer());
    assert_eq!(consent.commitment, study.signed.commitment);
    consent.revoked_at = Some(UnixSeconds(0));
    circle.add_consent(consent);
    let pipeline = &study.world.pipeline;
    ingest::ingest_all(pipeline).await.expect("read");
    assert_eq!(study.faults().await, []);
}

#[tokio::test]
async fn hostile_hospital_freezes_the_circle_and_hides_no_release() {
    let (study, copy, _) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    let nothing = EntryDigest::from_felt(Felt::from(5));
    let now = study.world.clock.now().0;
    study.releases(nothing, vec![first_record()], now).await;
    let before = read_and_judged(&patients).await;
    assert!(before.starts_with("1 "), "{before}");
    study.world.circle.enrol_again(researcher().public_key());
    // An enrolment is an entry too.
    study.world.circle.add_consent(consent(9).0);
    let since = read_and_judged(&patients).await;
    assert_eq!(since, before, "what was found stays");
    // What was on its way when the circle froze arrives much later.
    study.world.clock.advance(60 * MINUTE_S);
    study.releases(copy, vec![first_record()], now).await;
    assert_eq!(read_and_judged(&patients).await, before);
    study.is_in_reach(study.world.clock.now().0).await;
    assert_eq!(read_and_judged(&patients).await, before);
    study.world.clock.advance(11 * MINUTE_S);
    let now = study.world.clock.now().0;
    study.releases(copy, vec![first_record()], now).await;
    assert_eq!(
        read_and_judged(&patients).await,
        before,
        "it is no more than unproven"
    );
    let faults = study.faults_seen_by(&patients).await;
    let unproven = |fault: &&Fault| matches!(fault, Fault::Unproven { .. });
    assert_eq!(faults.iter().filter(unproven).count(), 1, "{faults:?}");
}

#[tokio::test]
async fn hostile_hospital_freezes_the_circle_in_the_walk_that_shows_a_release() {
    let (study, copy, requested) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    ingest::ingest_all(&patients).await.expect("read");
    assert_eq!(study.faults_seen_by(&patients).await, []);
    let marketing = Requested {
        purposes: CodeSet::collect([Code::new("act", "HMARKT")]).expect("one"),
        ..requested
    };
    let asked = study.says(Body::Requested(marketing), START).await;
    study.releases(asked, vec![first_record()], START).await;
    study.releases(copy, vec![first_record()], START).await;
    study.world.circle.enrol_again(researcher().public_key());
    ingest::ingest_all(&patients).await.expect("read");
    let faults = study.faults_seen_by(&patients).await;
    // What was covered when it was released is not held against anybody.
    assert!(
        matches!(
            faults.as_slice(),
            [Fault::NotPermitted { .. }, Fault::NotCovered { .. }]
        ),
        "{faults:?}"
    );
}

#[tokio::test]
async fn hostile_release_that_names_no_consent_or_another_is_seen() {
    let (study, copy, _) = Study::answered().await;
    let another = Commitment::from_felt(Felt::from(5));
    for based_on in [Vec::new(), vec![another]] {
        let before = study.faults().await.len();
        let released = Body::Released {
            request: copy,
            logged_as: None,
            records: vec![first_record()],
            based_on,
        };
        study.says(released, START).await;
        let faults = study.faults().await;
        assert_eq!(faults.len(), before + 1, "{faults:?}");
        assert!(matches!(faults[before], Fault::NotCovered { .. }));
    }
}

#[tokio::test]
async fn hostile_release_of_a_class_that_nobody_asked_for_is_seen() {
    let (study, _, requested) = Study::answered().await;
    let of_another = Requested {
        classes: CodeSet::collect([Code::new("types", "Condition")]).expect("one"),
        ..requested
    };
    let copy = study.says(Body::Requested(of_another), START).await;
    let permitted = Body::Permitted {
        request: copy,
        records: vec![first_record()],
        based_on: vec![study.signed.commitment],
        obligations: CodeSet::default(),
    };
    study.says(permitted, START).await;
    let faults = study.faults().await;
    assert!(
        matches!(faults.as_slice(), [Fault::NotCovered { .. }]),
        "{faults:?}"
    );
}

#[tokio::test]
async fn hostile_custodian_that_orders_no_erasure_is_seen() {
    let (study, ..) = Study::answered().await;
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    let pipeline = &study.world.pipeline;
    ingest::ingest_all(pipeline).await.expect("read");
    let ended_at = study.world.clock.now().0;
    study.world.clock.advance(48 * 60 * MINUTE_S);
    assert_eq!(study.faults().await, [], "nothing was heard since");
    for (hours, is_fault) in [(1, false), (24, false), (26, true)] {
        // Whatever else it says shows that it was there.
        study.is_in_reach(ended_at + hours * 60 * MINUTE_S).await;
        let faults = study.faults().await;
        let not_ordered = matches!(faults.as_slice(), [Fault::Unproven { .. }]);
        assert_eq!(not_ordered, is_fault, "{faults:?}");
    }
    // By then the chain had said so for long.
    let (store, now) = (&pipeline.store, study.world.clock.now());
    let handle = study.signed.secrets.handle();
    let landed = store
        .revocation_landed(handle, UnixSeconds(ended_at), now)
        .await;
    landed.expect("noted");
    store.settle_revocation(handle).await.expect("noted");
    let faults = study.faults().await;
    assert!(
        matches!(faults.as_slice(), [Fault::NotOrdered { .. }]),
        "{faults:?}"
    );
    let log = study.world.circle.log_entries();
    let released = log.iter().find(|entry| entry.entry.kind == Kind::Released);
    let ordered = Body::EraseOrdered {
        release: released.expect("a release").digest(),
        reason: ErasureReason::Revoked,
    };
    study.says(ordered, START).await;
    assert_eq!(study.faults().await, []);
}

/// Of two descriptions of one version the smaller key is shown: a custodian could make what it
/// released look covered.
#[tokio::test]
async fn hostile_second_description_of_a_record_is_alarmed_about() {
    let (study, ..) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    ingest::ingest_all(&patients).await.expect("read");
    let (store, fact) = (&patients.store, ingest::rewritten_fact(CONTEXT));
    assert_eq!(store.fact(&fact).await.expect("the store"), None);
    let page = study.world.circle.records(None, PageLimit::MAX, None).await;
    let mut again = page.expect("records").records.swap_remove(0);
    again.key = EntryKey([0; 32]);
    study.world.circle.add_record(again, Vec::new());
    ingest::ingest_all(&patients).await.expect("read");
    let why = store.fact(&fact).await.expect("the store");
    assert!(why.is_some_and(|why| why.contains("twice")));
}

#[tokio::test]
async fn hostile_hospital_breaks_the_glass_without_a_word_and_is_seen() {
    let (study, _, requested) = Study::answered().await;
    let silent = Requested {
        purposes: CodeSet::collect([break_glass_code()]).expect("one"),
        ..requested
    };
    let copy = study.says(Body::Requested(silent), START).await;
    let permitted = Body::Permitted {
        request: copy,
        records: vec![first_record()],
        based_on: Vec::new(),
        obligations: CodeSet::default(),
    };
    study.says(permitted, START).await;
    let faults = study.faults().await;
    let silent = |fault: &&Fault| matches!(fault, Fault::SilentGlass { .. });
    assert_eq!(faults.iter().filter(silent).count(), 1, "{faults:?}");
}

#[tokio::test]
async fn hostile_release_of_a_time_to_come_is_seen() {
    let (study, copy, _) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    let later = study.world.clock.now().0 + 60 * MINUTE_S;
    study.releases(copy, vec![first_record()], later).await;
    ingest::ingest_all(&patients).await.expect("read");
    let faults = study.faults_seen_by(&patients).await;
    let postdated = |fault: &Fault| matches!(fault, Fault::Postdated { .. });
    assert!(faults.iter().any(postdated), "{faults:?}");
}

/// When a key was changed is what this side saw, whatever a log says, and a further change does not
/// move it.
#[tokio::test]
async fn hostile_release_on_a_consent_of_a_replaced_key_is_seen_and_stays_seen() {
    let (study, copy, _) = Study::answered().await;
    let [next, last] = [4, 7].map(|number| SecretKey::from_scalar(&[number; 32]));
    let (next, last) = (next.expect("a scalar"), last.expect("a scalar"));
    let first = change(&patient(), &next, 0, &patient());
    study
        .world
        .circle
        .change_key(&first, 1)
        .await
        .expect("taken");
    let pipeline = &study.world.pipeline;
    ingest::ingest_all(pipeline).await.expect("read");
    assert_eq!(study.faults().await, []);
    study.is_in_reach(study.world.clock.now().0 + 1).await;
    study.world.clock.advance(20 * MINUTE_S);
    let now = study.world.clock.now().0;
    study.releases(copy, vec![first_record()], now).await;
    let second = change(&next, &last, 1, &next);
    study
        .world
        .circle
        .change_key(&second, 1)
        .await
        .expect("taken");
    ingest::ingest_all(pipeline).await.expect("read");
    let faults = study.faults().await;
    assert!(
        matches!(faults.as_slice(), [Fault::Unproven { .. }]),
        "{faults:?}"
    );
}
