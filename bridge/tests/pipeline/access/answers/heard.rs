//! From when a custodian must have heard that a consent ended.

use super::*;

/// Whoever is cut off revokes all the same, and so does a custodian answer.
#[tokio::test]
async fn an_answer_of_who_may_not_have_heard_is_shown_and_accuses_nobody() {
    let (study, copy, _) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    assert_eq!(read_and_judged(&patients).await, "");
    let revoked_at = study.world.clock.now().0;
    study.world.clock.advance(600 * MINUTE_S);
    let at = revoked_at + 60 * MINUTE_S;
    study.releases(copy, vec![first_record()], at).await;
    assert_eq!(read_and_judged(&patients).await, "");
    let faults = study.faults_seen_by(&patients).await;
    assert!(
        matches!(faults.as_slice(), [Fault::Unheard { .. }]),
        "{faults:?}"
    );
    // From its next word on it has heard.
    study.is_in_reach(study.world.clock.now().0).await;
    assert_eq!(read_and_judged(&patients).await, "");
    study.world.clock.advance(11 * MINUTE_S);
    let at = study.world.clock.now().0;
    study.releases(copy, vec![first_record()], at).await;
    let why = read_and_judged(&patients).await;
    assert!(
        why.starts_with("1 answers") && why.contains("no sign"),
        "{why}"
    );
}

/// What was said before a revocation shows nothing about who has heard of it.
#[tokio::test]
async fn what_was_said_before_and_arrives_after_shows_nothing() {
    let (study, copy, _) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    assert_eq!(read_and_judged(&patients).await, "");
    let revoked_at = study.world.clock.now().0;
    study.is_in_reach(revoked_at - MINUTE_S).await;
    study.world.clock.advance(MINUTE_S);
    assert_eq!(read_and_judged(&patients).await, "");
    study.world.clock.advance(20 * MINUTE_S);
    let at = study.world.clock.now().0 - 11 * MINUTE_S;
    study.releases(copy, vec![first_record()], at).await;
    assert_eq!(read_and_judged(&patients).await, "");
}

/// A release that says a time before the end and arrives long after it: in a batch of before, and
/// in one of after.
async fn dated_before(chain_grows_to: Option<u64>) -> String {
    let (mut study, copy, _) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    let before = study.world.clock.now().0;
    study.world.clock.advance(MINUTE_S);
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    assert_eq!(read_and_judged(&patients).await, "");
    study.world.clock.advance(30 * MINUTE_S);
    study.releases(copy, vec![first_record()], before).await;
    let said = read_and_judged(&patients).await;
    assert_eq!(said, "", "a batch may be on its way");
    study.world.clock.advance(61 * MINUTE_S);
    let said = read_and_judged(&patients).await;
    assert!(said.contains("no sign"), "it is in no batch: {said}");
    if let Some(time) = chain_grows_to {
        study.world.chain.grow(time);
    }
    study.custodians_round().await;
    read_and_judged(&patients).await
}

#[tokio::test]
async fn hostile_custodian_backdates_a_release_and_it_is_said() {
    let said = dated_before(Some(1 << 20)).await;
    assert!(said.contains("no sign"), "{said}");
}

#[tokio::test]
async fn what_a_batch_of_before_the_end_binds_was_said_in_time() {
    assert_eq!(dated_before(None).await, "");
}

/// An endpoint's one word on when a revocation landed accuses nobody.
#[tokio::test]
async fn hostile_endpoint_says_an_early_time_and_accuses_nobody() {
    let (study, copy, _) = Study::answered().await;
    let pipeline = &study.world.pipeline;
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    ingest::ingest_all(pipeline).await.expect("read");
    let (store, handle) = (&pipeline.store, study.signed.secrets.handle());
    let now = study.world.clock.now();
    let early = UnixSeconds(1);
    let landed = store.revocation_landed(handle, early, now).await;
    landed.expect("noted");
    study.releases(copy, vec![first_record()], now.0).await;
    assert!(!study.faults().await.iter().any(Fault::is_certain));
    store.settle_revocation(handle).await.expect("noted");
    assert!(study.faults().await.iter().any(Fault::is_certain));
}

/// A member who keeps a revocation from the custodian's node has nobody accused; that there were
/// answers after it is said all the same. What the custodian itself says it heard of binds it.
#[tokio::test]
async fn hostile_member_keeps_a_revocation_from_the_custodian_and_accuses_nobody() {
    let (study, copy, _) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    study
        .world
        .circle
        .add_revocation(revocation_of(&study.signed));
    assert_eq!(read_and_judged(&patients).await, "");
    study.world.clock.advance(MINUTE_S);
    study.is_in_reach(study.world.clock.now().0).await;
    assert_eq!(read_and_judged(&patients).await, "");
    study.world.clock.advance(11 * MINUTE_S);
    let at = study.world.clock.now().0;
    study.releases(copy, vec![first_record()], at).await;
    let why = read_and_judged(&patients).await;
    assert!(why.contains("no sign of having heard"), "{why}");
    let faults = study.faults_seen_by(&patients).await;
    assert!(!faults.iter().any(Fault::is_certain), "{faults:?}");
    let log = study.world.circle.log_entries();
    let mut released = log.iter().rev();
    let released = released.find(|entry| matches!(entry.body, Body::Released { .. }));
    let ordered = Body::EraseOrdered {
        release: released.expect("a release").digest(),
        reason: ErasureReason::Revoked,
    };
    study.says(ordered, at).await;
    assert!(
        read_and_judged(&patients).await.contains("no sign"),
        "it says so"
    );
    study.world.clock.advance(11 * MINUTE_S);
    let at = study.world.clock.now().0;
    study.releases(copy, vec![first_record()], at).await;
    let why = read_and_judged(&patients).await;
    assert!(why.contains("that no consent carries"), "{why}");
}

/// Who is down orders nothing, and has a day from when it is back.
#[tokio::test]
async fn a_custodian_that_was_down_for_long_is_not_accused_when_it_is_back() {
    let (study, ..) = Study::answered().await;
    let pipeline = &study.world.pipeline;
    let (handle, now) = (study.signed.secrets.handle(), study.world.clock.now());
    let landed = pipeline.store.revocation_landed(handle, now, now).await;
    landed.expect("noted");
    pipeline
        .store
        .settle_revocation(handle)
        .await
        .expect("noted");
    let revocation = revocation_of(&study.signed);
    study.world.circle.add_revocation(revocation);
    ingest::ingest_all(pipeline).await.expect("read");
    let ended_at = study.world.clock.now().0;
    study.world.clock.advance(120 * 60 * MINUTE_S);
    for hours in [48, 49, 71] {
        study.is_in_reach(ended_at + hours * 60 * MINUTE_S).await;
        assert_eq!(study.faults().await, [], "{hours} h");
    }
    study.is_in_reach(ended_at + 73 * 60 * MINUTE_S).await;
    assert_ne!(study.faults().await, []);
}
