//! Key changes: kept whatever becomes of them, and what is anchored of whom.

use medsync::daemon;
use medsync::pipeline::ingest;
use medsync::source::{
    Change, ChangeDigest, Circle, EntryKey, EntryKind, SignedKeyChange, StateHash, consents_digest,
};
use medsync::store::seen::Walked;
use medsync_protocol::ids::MemberId;
use medsync_protocol::keychange::{ChangedBy, KeyChange};
use medsync_protocol::messages::{RotationNumber, rotate_message};
use medsync_protocol::signature::{PublicKey, SecretKey};

use super::circle::{CONTEXT, recovery};
use super::faults::{Fault, Plan};
use super::{World, consent, patient, run, world};

fn next(number: u8) -> SecretKey {
    SecretKey::from_scalar(&[number; 32]).expect("a scalar")
}

pub(super) fn change(
    old: &SecretKey,
    new: &SecretKey,
    seq: u64,
    signer: &SecretKey,
) -> SignedKeyChange {
    let change = KeyChange {
        old_key: old.public_key(),
        new_key: new.public_key(),
        seq,
    };
    let message = rotate_message(CONTEXT, change.old_key, change.new_key, RotationNumber(seq));
    SignedKeyChange {
        change,
        signature: signer.sign(message).expect("signable"),
    }
}

async fn history(world: &World) -> (Vec<PublicKey>, bool) {
    let state = world.circle.circle().await.expect("a state");
    let enrolled = state.only().expect("the patient").enrolment;
    let history = world.pipeline.store.key_history(CONTEXT, &enrolled).await;
    let history = history.expect("the store");
    (history.keys, history.is_frozen)
}

async fn round(world: &mut World) {
    for _ in 0..4 {
        // A failure is what the daemon would log.
        let _ = ingest::ingest_all(&world.pipeline).await;
        let _ = daemon::publish_key_changes(&world.pipeline).await;
        if world.faults.revive() {
            world.restart().await;
        }
    }
}

fn published(world: &World) -> Vec<SignedKeyChange> {
    world.circle.key_changes()
}

#[tokio::test]
async fn hostile_member_drops_a_key_change_and_it_holds_and_comes_back() {
    let mut world = world(Vec::new()).await;
    let new = next(4);
    let change = change(&patient(), &new, 0, &patient());
    world.circle.change_key(&change, 1).await.expect("taken");
    round(&mut world).await;
    let keys = vec![patient().public_key(), new.public_key()];
    assert_eq!(history(&world).await, (keys.clone(), false));
    world.circle.forget(EntryKind::KeyChange);
    assert!(published(&world).is_empty());
    assert_eq!(history(&world).await, (keys, false));
    round(&mut world).await;
    assert_eq!(published(&world), [change]);
}

#[tokio::test]
async fn a_change_made_here_is_published_through_every_fault() {
    for fault in [Fault::Failed, Fault::FailedButTookEffect, Fault::Died] {
        let mut world = world(vec![Plan {
            operation: "change_key",
            call: 1,
            fault,
        }])
        .await;
        let (new, now) = (next(4), world.pipeline.clock.now());
        let change = change(&patient(), &new, 0, &patient());
        let kept = world
            .pipeline
            .store
            .keep_key_change(CONTEXT, (&change, ChangedBy::Old), false, now)
            .await;
        assert!(kept.expect("the store"));
        round(&mut world).await;
        assert_eq!(published(&world), [change], "{fault:?}");
        let left = world
            .pipeline
            .store
            .contexts_with_unpublished_key_changes()
            .await;
        assert!(left.expect("the store").is_empty(), "{fault:?}");
    }
}

/// A thief who was let in may have kept it from the custodian's node, and nothing here shows that.
#[tokio::test]
async fn a_key_change_is_written_down_again_for_a_while() {
    let mut world = world(Vec::new()).await;
    let change = change(&patient(), &next(4), 0, &recovery());
    world.circle.change_key(&change, 1).await.expect("taken");
    round(&mut world).await;
    let patients = world.without_accounts();
    let soon = [(0, 1), (600, 2), (600, 3), (600, 3), (600, 4)];
    for (after, copies) in soon.into_iter().chain([(1 << 20, 4), (1 << 20, 4)]) {
        world.clock.advance(after);
        for _ in 0..8 {
            daemon::copy_unheard(&patients).await.expect("asked");
        }
        assert_eq!(
            published(&world),
            vec![change; copies],
            "after {after} s more"
        );
    }
    assert_eq!(history(&world).await.0.len(), 2);
}

/// Its copies would fill the room of the member who is to write the recovery key's word.
#[tokio::test]
async fn hostile_thief_has_none_of_its_changes_written_again() {
    let mut world = world(Vec::new()).await;
    let change = change(&patient(), &next(4), 0, &patient());
    world.circle.change_key(&change, 1).await.expect("taken");
    round(&mut world).await;
    let patients = world.without_accounts();
    for _ in 0..8 {
        world.clock.advance(1 << 20);
        daemon::copy_unheard(&patients).await.expect("asked");
    }
    assert_eq!(published(&world), [change]);
}

#[tokio::test]
async fn hostile_thief_floods_changes_and_the_recovery_key_is_still_heard() {
    let mut world = world(Vec::new()).await;
    let (new, now) = (next(4), world.pipeline.clock.now());
    for number in 0..6u32 {
        let mut scalar = [1; 32];
        scalar[28..].copy_from_slice(&number.to_be_bytes());
        let other = SecretKey::from_scalar(&scalar)
            .expect("a scalar")
            .public_key();
        let flood = SignedKeyChange {
            change: KeyChange {
                old_key: patient().public_key(),
                new_key: other,
                seq: 0,
            },
            ..change(&patient(), &new, 0, &patient())
        };
        let kept = world
            .pipeline
            .store
            .keep_key_change(CONTEXT, (&flood, ChangedBy::Old), true, now)
            .await;
        assert_eq!(kept.expect("the store"), number < 2);
    }
    let recovered = change(&patient(), &new, 0, &recovery());
    world.circle.change_key(&recovered, 1).await.expect("taken");
    round(&mut world).await;
    let keys = vec![patient().public_key(), new.public_key()];
    assert_eq!(history(&world).await, (keys, false));
}

#[tokio::test]
async fn hostile_thief_of_a_changed_key_gets_nothing_anchored() {
    let mut world = world(Vec::new()).await;
    let change = change(&patient(), &next(4), 0, &patient());
    world.circle.change_key(&change, 1).await.expect("taken");
    round(&mut world).await;
    world.circle.add_consent(consent(1).0);
    run(&mut world).await;
    assert!(world.chain.anchored().is_empty());
}

#[tokio::test]
async fn hostile_reader_does_not_keep_the_recovery_key_out() {
    let mut world = world(Vec::new()).await;
    world.circle.add_enrolment(patient().public_key());
    run(&mut world).await;
    world.circle.add_to_group(MemberId([78; 32]));
    run(&mut world).await;
    world.clock.advance(60);
    run(&mut world).await;
    let store = &world.pipeline.store;
    let row = store.circle(CONTEXT).await.expect("a row");
    assert!(row.alarm.is_some());
    // Made here while it is stopped: it goes out. Made elsewhere: it comes in.
    let changes = [
        change(&patient(), &next(4), 0, &recovery()),
        change(&next(4), &next(5), 1, &recovery()),
    ];
    let now = world.pipeline.clock.now();
    let by = ChangedBy::Recovery;
    store
        .keep_key_change(CONTEXT, (&changes[0], by), false, now)
        .await
        .expect("kept");
    round(&mut world).await;
    assert_eq!(published(&world), changes[..1]);
    world
        .circle
        .change_key(&changes[1], 1)
        .await
        .expect("taken");
    round(&mut world).await;
    let keys = [patient(), next(4), next(5)].map(|key| key.public_key());
    assert_eq!(history(&world).await, (keys.to_vec(), false));
}

#[tokio::test]
async fn hostile_patient_that_signs_changes_of_no_place_fills_nothing() {
    let mut world = world(Vec::new()).await;
    world.circle.add_enrolment(patient().public_key());
    for seq in 1..70 {
        let change = change(&patient(), &next(4), seq, &patient());
        world.circle.change_key(&change, 1).await.expect("taken");
    }
    round(&mut world).await;
    let state = world.circle.circle().await.expect("a state");
    let enrolled = state.only().expect("the patient").enrolment;
    let kept = world.pipeline.store.key_changes(CONTEXT, &enrolled).await;
    assert!(kept.expect("the store").is_empty());
}

/// What a consent counts by may come later than it: what was seen and did not count is new again.
#[tokio::test]
async fn hostile_node_shows_a_key_change_after_the_consents_of_the_new_key() {
    let world = world(Vec::new()).await;
    let (store, now) = (&world.pipeline.store, world.pipeline.clock.now());
    let entry = |number| Change {
        kind: EntryKind::Consent,
        key: EntryKey([number; 32]),
        digest: ChangeDigest([number; 32]),
    };
    let (counts_not, counts) = (entry(1), entry(2));
    for (seen, content) in [(&counts_not, None), (&counts, Some("a commitment"))] {
        let noted = store.note_seen(CONTEXT, (seen, content), &[], now).await;
        noted.expect("noted");
    }
    let entries = [counts_not, counts];
    assert!(
        store
            .unseen(CONTEXT, &entries)
            .await
            .expect("read")
            .new
            .is_empty()
    );
    let change = change(&patient(), &next(4), 0, &patient());
    let kept = store.keep_key_change(CONTEXT, (&change, ChangedBy::Old), true, now);
    assert!(kept.await.expect("kept"));
    assert_eq!(
        store.unseen(CONTEXT, &entries).await.expect("read").new,
        [counts_not]
    );
}

/// One that the circle shows to be nothing may be something once more of it has arrived: until each
/// is kept, whoever decides reads them all.
#[tokio::test]
async fn hostile_placeholder_of_a_consent_is_not_taken_for_one_that_was_taken_in() {
    let world = world(Vec::new()).await;
    let (store, now) = (&world.pipeline.store, world.pipeline.clock.now());
    let entry = |kind, number| Change {
        kind,
        key: EntryKey([number; 32]),
        digest: ChangeDigest([number; 32]),
    };
    let entries = [
        entry(EntryKind::Revocation, 1),
        entry(EntryKind::Consent, 2),
        entry(EntryKind::Consent, 3),
        entry(EntryKind::Log, 4),
    ];
    let [revocation, consent, placeholder, _] = &entries;
    let known = async |seen: &[(&Change, Option<&str>)]| {
        for seen in seen {
            let noted = store.note_seen(CONTEXT, *seen, &[], now).await;
            noted.expect("noted");
        }
        let walk = Walked {
            entries: &entries,
            taken_in: Some(StateHash([1; 32])),
            is_thorough: false,
            carried: &[],
        };
        store.finish_walk(CONTEXT, walk, now).await.expect("noted");
        store.circle(CONTEXT).await.expect("a row").consents_digest
    };
    let kept = Some("what it says");
    assert_eq!(known(&[(revocation, kept), (consent, kept)]).await, None);
    assert_eq!(known(&[(placeholder, None)]).await, None);
    let all = Some(consents_digest(&entries));
    assert_eq!(known(&[(placeholder, kept)]).await, all);
    assert_ne!(all, Some(consents_digest(&entries[..2])));
}
