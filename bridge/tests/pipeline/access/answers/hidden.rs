//! What a custodian takes away, so that nothing is seen.

use medsync::audit::logs_fact;
use medsync::source::{EntryKind, Head};
use medsync_protocol::tree::Root;
use std::sync::Arc;
use tokio::sync::OnceCell;

use super::*;

/// Longer than entries are on their way.
const ON_THE_WAY_S: u64 = 60;

#[tokio::test]
async fn hostile_hospital_leaves_a_number_of_its_log_out_and_the_patients_side_says_so() {
    let (study, ..) = Study::answered().await;
    let (circle, clock) = (&study.world.circle, &study.world.clock);
    let whole = circle.log_entries();
    let own = custodian_author().public_key();
    let first = whole.iter().position(|entry| entry.entry.author_key == own);
    circle.forget(EntryKind::Log);
    for (at, entry) in whole.iter().enumerate() {
        if Some(at) != first {
            circle.append_log(entry).await.expect("taken");
        }
    }
    // A home that never saw what is left out.
    let (patients, _home) = study.patients().await;
    let judged = Judged::default();
    let said = async |after: u64| {
        clock.advance(after);
        ingest::ingest_all(&patients).await.expect("read");
        judge_all(&patients, &judged).await.expect("judged");
        let said = patients.store.fact(&logs_fact(CONTEXT)).await;
        said.expect("the store").unwrap_or_default()
    };
    assert_eq!(said(0).await, "", "it may be on its way");
    assert_eq!(said(60 * ON_THE_WAY_S).await, "", "this machine slept");
    assert!(said(ON_THE_WAY_S).await.contains("custodian is broken"));
    let left_out = first.and_then(|at| whole.get(at)).expect("an entry");
    circle.append_log(left_out).await.expect("taken");
    assert_eq!(said(ON_THE_WAY_S).await, "");
}

#[tokio::test]
async fn hostile_hospital_takes_away_what_its_circle_says_of_itself_and_the_patients_side_stops() {
    let (study, ..) = Study::answered().await;
    let (patients, _home) = study.patients().await;
    let enter = async |at: u64| {
        let row = patients.store.circle(CONTEXT).await.expect("a row");
        guard::enter(&*patients.circles, &patients.store, &row, UnixSeconds(at)).await
    };
    assert!(enter(START).await.is_ok());
    study.world.circle.be_undescribed(true);
    assert!(matches!(
        enter(START).await,
        Err(GuardError::Suspect { .. })
    ));
    study.world.circle.be_undescribed(false);
    assert!(enter(START).await.is_ok(), "a node that caught up");
    study.world.circle.be_undescribed(true);
    assert!(matches!(
        enter(START).await,
        Err(GuardError::Suspect { .. })
    ));
    let Err(GuardError::Alarm { why, .. }) = enter(START + ON_THE_WAY_S).await else {
        panic!("it goes on");
    };
    assert!(why.contains("took away"), "{why}");
}

/// Made-up places of entries that never were stand before the real one in every order.
#[tokio::test]
async fn hostile_flood_of_made_up_places_hides_no_tail_that_was_cut() {
    let (study, ..) = Study::answered().await;
    let (circle, clock) = (&study.world.circle, &study.world.clock);
    let real = circle.heads().pop().expect("a place");
    let whole = circle.log_entries();
    circle.forget(EntryKind::Log);
    for entry in whole.iter().filter(|entry| entry.entry.seq < real.seq) {
        circle.append_log(entry).await.expect("taken");
    }
    let (patients, _home) = study.patients().await;
    let patients = Pipeline {
        chain_is_right: Arc::new(OnceCell::new_with(Some(()))),
        ..patients
    };
    ingest::ingest_all(&patients).await.expect("read");
    for number in 1..=100 {
        let mut made_up = Head {
            digest: EntryDigest::from_felt(Felt::from(number)),
            ..real.clone()
        };
        made_up.proof.siblings.clear();
        made_up.proof.index = 0;
        made_up.root = Root::from_felt(made_up.leaf(CONTEXT).felt());
        assert!(made_up.is_included(CONTEXT));
        let kept = patients.store.keep_head(CONTEXT, &made_up, clock.now());
        kept.await.expect("kept");
    }
    let judged = Judged::default();
    let mut looks = 0;
    loop {
        clock.advance(ON_THE_WAY_S);
        ingest::ingest_all(&patients).await.expect("read");
        judge_all(&patients, &judged).await.expect("judged");
        let said = patients.store.fact(&logs_fact(CONTEXT)).await;
        let said = said.expect("the store").unwrap_or_default();
        looks += 1;
        if said.contains("custodian is broken") {
            break;
        }
        assert!(looks < 16, "nothing is said: {said}");
    }
}
