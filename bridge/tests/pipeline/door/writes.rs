//! What a patient signed or opened elsewhere comes in by the door, once, whatever fails.

use medsync_client::wire::{ConsentState, LoginAs, NewConsent, NewRevocation};
use medsync_client::{Client, ClientError};
use medsync_protocol::consent::SignedGrant;
use medsync_protocol::ids::to_base64;

use super::super::circle::{CONTEXT, OTHER, Refuses};
use super::super::faults::{Fault, Plan};
use super::super::signed::consent;
use super::super::{World, patient, round, world};
use super::{Door, staff};

fn brought(number: u64) -> (NewConsent, SignedGrant) {
    let (consent, signed) = consent(number);
    let new = NewConsent {
        terms: to_base64(&consent.terms_bytes),
        opening: consent.opening,
        signature: consent.signature,
    };
    (new, signed)
}

fn opening(signed: &SignedGrant) -> NewRevocation {
    NewRevocation {
        secret: signed.secrets.secret.reveal_text(),
        claim_key: signed.secrets.claim_key.public_key(),
    }
}

fn status<T>(answer: Result<T, ClientError>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(ClientError::Problem(problem)) => problem.status,
        Err(error) => panic!("{error}"),
    }
}

async fn patients(door: &Door) -> Client {
    door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await
}

/// A world whose circle's calls go wrong as planned.
async fn failing(operation: &'static str, call: u32, fault: Fault) -> (World, Door) {
    let plan = Plan {
        operation,
        call,
        fault,
    };
    let world = world(vec![plan]).await;
    let door = Door::over(&world.pipeline).await;
    (world, door)
}

#[tokio::test]
async fn a_consent_that_was_signed_elsewhere_is_recorded_once_whatever_fails() {
    for fault in [Fault::Failed, Fault::FailedButTookEffect] {
        let (world, door) = failing("grant", 1, fault).await;
        let client = patients(&door).await;
        let (new, signed) = brought(0);
        assert_eq!(status(client.grant(CONTEXT, &new).await), 503, "{fault:?}");
        let recorded = client.grant(CONTEXT, &new).await.expect("recorded");
        assert_eq!(recorded.consent, signed.commitment);
        assert_eq!(recorded.was_there, fault == Fault::FailedButTookEffect);
        assert!(
            client
                .grant(CONTEXT, &new)
                .await
                .expect("the same")
                .was_there
        );
        let consents = client.consents(CONTEXT, None).await.expect("read").consents;
        assert_eq!(consents.len(), 1, "{fault:?}");
        assert_eq!(consents[0].state, ConsentState::InForce);
        while !round(&world).await {}
        assert_eq!(world.chain.anchored().len(), 1);
    }
}

#[tokio::test]
async fn a_revocation_is_kept_before_anything_else_and_reaches_the_chain() {
    for fault in [Fault::Failed, Fault::FailedButTookEffect] {
        let (world, door) = failing("revoke", 1, fault).await;
        let client = patients(&door).await;
        let (new, signed) = brought(0);
        client.grant(CONTEXT, &new).await.expect("recorded");
        let kept = client
            .revoke(CONTEXT, &opening(&signed))
            .await
            .expect("kept");
        assert_eq!(kept.handle, signed.secrets.handle());
        assert!(kept.hindrance.is_some(), "{fault:?}");
        let consents = client.consents(CONTEXT, None).await.expect("read").consents;
        assert_eq!(
            consents[0].state,
            ConsentState::Revoked,
            "it is denied at once"
        );
        for _ in 0..8 {
            round(&world).await;
            medsync::daemon::publish_revocations(&world.pipeline)
                .await
                .expect("brought");
        }
        assert_eq!(world.circle.revocations(), 1, "{fault:?}");
        assert_eq!(world.chain.revoked(), [signed.secrets.handle()]);
        let again = client
            .revoke(CONTEXT, &opening(&signed))
            .await
            .expect("kept");
        assert_eq!(again.hindrance, None);
    }
}

/// Who stops the circle does not stop the patient.
#[tokio::test]
async fn a_revocation_is_taken_though_an_alarm_stops_the_circle() {
    let world = world(Vec::new()).await;
    let door = Door::over(&world.pipeline).await;
    let client = patients(&door).await;
    let (new, signed) = brought(0);
    client.grant(CONTEXT, &new).await.expect("recorded");
    while !round(&world).await {}
    let raised = world.pipeline.store.raise_alarm(CONTEXT, "a reader");
    raised.await.expect("raised");
    assert_eq!(status(client.grant(CONTEXT, &new).await), 409);
    let kept = client
        .revoke(CONTEXT, &opening(&signed))
        .await
        .expect("kept");
    assert_eq!(kept.hindrance, None);
    assert_eq!(world.circle.revocations(), 1);
}

/// Nor does who keeps the circle from being read, before its consent was taken in here.
#[tokio::test]
async fn hostile_custodian_hides_the_consents_and_a_revocation_is_taken() {
    let world = world(Vec::new()).await;
    let door = Door::over(&world.pipeline).await;
    let client = patients(&door).await;
    let (new, signed) = brought(0);
    client.grant(CONTEXT, &new).await.expect("recorded");
    world.circle.refuse(Refuses::Consents);
    let kept = client
        .revoke(CONTEXT, &opening(&signed))
        .await
        .expect("kept");
    assert_eq!(kept.hindrance, None);
    while !round(&world).await {}
    assert_eq!(world.chain.revoked(), [signed.secrets.handle()]);
    // What opens nothing that is known is kept so often, and then no more.
    let mut statuses = Vec::new();
    for number in 100..200 {
        let (_, other) = brought(number);
        statuses.push(status(client.revoke(CONTEXT, &opening(&other)).await));
    }
    assert!(statuses.contains(&503) && statuses.iter().filter(|it| **it == 200).count() <= 64);
}

#[tokio::test]
async fn hostile_writes_that_prove_nothing_leave_nothing_behind() {
    let world = world(Vec::new()).await;
    world.enter_other().await;
    let door = Door::over(&world.pipeline).await;
    let client = patients(&door).await;
    let (new, signed) = brought(0);
    let (_, other) = brought(1);
    // It opens a handle, and of no consent here.
    assert_eq!(status(client.revoke(CONTEXT, &opening(&signed)).await), 404);
    let broken = NewConsent {
        terms: "%".into(),
        ..new.clone()
    };
    assert_eq!(status(client.grant(CONTEXT, &broken).await), 400);
    let crossed = NewRevocation {
        secret: other.secrets.secret.reveal_text(),
        ..opening(&signed)
    };
    for forged in [
        NewConsent {
            signature: other.signature,
            ..new.clone()
        },
        NewConsent {
            opening: other.opening,
            ..new.clone()
        },
    ] {
        assert_eq!(status(client.grant(CONTEXT, &forged).await), 400);
    }
    assert!(
        client
            .consents(CONTEXT, None)
            .await
            .expect("read")
            .consents
            .is_empty()
    );
    client.grant(CONTEXT, &new).await.expect("recorded");
    assert_eq!(status(client.revoke(CONTEXT, &crossed).await), 404);
    // What opens a handle of this circle opens none of another.
    while !round(&world).await {}
    let works_here = door.logged_in(LoginAs::staff("ward"), &staff()).await;
    assert_eq!(
        status(works_here.revoke(OTHER, &opening(&signed)).await),
        404
    );
    assert_eq!(status(works_here.grant(OTHER, &new).await), 400);
    let none = NewRevocation {
        secret: "0x".into(),
        ..opening(&signed)
    };
    assert_eq!(status(client.revoke(CONTEXT, &none).await), 400);
    for outside in [
        client.grant(OTHER, &new).await.err(),
        client.revoke(OTHER, &opening(&signed)).await.err(),
    ] {
        assert_eq!(status::<()>(Err(outside.expect("refused"))), 403);
    }
    let kept = world
        .pipeline
        .store
        .revocation(signed.secrets.handle())
        .await;
    assert!(kept.expect("the store").is_none());
    assert_eq!(world.circle.revocations(), 0);
}
