//! Consents as a patient signed them.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use medsync::source::{Consent, ConsentState, EntryKey};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{Grant, SignedGrant};
use medsync_protocol::ids::{AddressBytes, Anchorer, ContextId, Nonce, Sha256Digest, UnixSeconds};
use medsync_protocol::secrets::{Counter, DeviceNumber, Seed};
use medsync_protocol::signature::{PublicKey, SecretKey};
use medsync_protocol::terms::{Provision, ProvisionKind, TERMS_VERSION, Terms};

use super::circle::{CONTEXT, CUSTODIAN};
use super::{anchorer, patient, registry};

/// The patient's consents, each signed once: simulations ask for the same few over and over.
pub(super) fn consent(number: u64) -> (Consent, SignedGrant) {
    static SIGNED: LazyLock<Mutex<HashMap<u64, (Consent, SignedGrant)>>> =
        LazyLock::new(Mutex::default);
    let mut signed = SIGNED.lock().expect("the tests");
    let made = || consent_of(&patient(), number, CONTEXT, anchorer());
    signed.entry(number).or_insert_with(made).clone()
}

/// A consent that `patient` signed, for a circle and a custodian of one's choice.
pub(super) fn consent_of(
    patient: &SecretKey,
    number: u64,
    context: ContextId,
    anchorer: Anchorer,
) -> (Consent, SignedGrant) {
    consent_to(patient.public_key(), patient, number, context, anchorer)
}

/// The same, to a recipient of one's choice.
pub(super) fn consent_to(
    grantee: PublicKey,
    patient: &SecretKey,
    number: u64,
    context: ContextId,
    anchorer: Anchorer,
) -> (Consent, SignedGrant) {
    let purposes = CodeSet::collect([Code::new("act", "HRESCH")]).expect("short");
    let terms = Terms {
        version: TERMS_VERSION,
        nonce: Nonce([number as u8; 32]),
        context,
        custodian_member: CUSTODIAN,
        custodian_address: AddressBytes::of(anchorer),
        policy_uri: "https://example.org".into(),
        policy_sha256: Sha256Digest([0; 32]),
        provision: Provision {
            purposes,
            ..Provision::everything(ProvisionKind::Permit)
        },
        exceptions: Vec::new(),
    };
    sign_terms(grantee, patient, number, terms)
}

/// The first consent to a recipient, with an end.
pub(super) fn consent_until(
    not_after: UnixSeconds,
    grantee: PublicKey,
    patient: &SecretKey,
    context: ContextId,
    anchorer: Anchorer,
) -> (Consent, SignedGrant) {
    let (consent, _) = consent_to(grantee, patient, 1, context, anchorer);
    sign_until(not_after, grantee, patient, 1, consent.terms)
}

/// A consent with these terms.
pub(super) fn sign_terms(
    grantee: PublicKey,
    patient: &SecretKey,
    number: u64,
    terms: Terms,
) -> (Consent, SignedGrant) {
    sign_until(UnixSeconds(0), grantee, patient, number, terms)
}

/// The same, with an end.
pub(super) fn sign_until(
    not_after: UnixSeconds,
    grantee: PublicKey,
    patient: &SecretKey,
    number: u64,
    terms: Terms,
) -> (Consent, SignedGrant) {
    let times = (UnixSeconds(0), not_after);
    sign_between(times, grantee, patient, number, terms)
}

/// The same, with a beginning too.
pub(super) fn sign_between(
    (not_before, not_after): (UnixSeconds, UnixSeconds),
    grantee: PublicKey,
    patient: &SecretKey,
    number: u64,
    terms: Terms,
) -> (Consent, SignedGrant) {
    let grant = Grant {
        terms: terms.digest().expect("sound"),
        anchorer: Anchorer::from_bytes(&terms.custodian_address.0).expect("an address"),
        grantee,
        not_before,
        not_after,
    };
    let seed = Seed::from_bytes(&[5; 32]).expect("a felt");
    let signed = grant
        .sign(registry(), patient, &seed, DeviceNumber(0), Counter(number))
        .expect("sound");
    let consent = Consent {
        key: EntryKey([number as u8; 32]),
        commitment: signed.commitment,
        terms_bytes: terms.encode().expect("sound"),
        terms,
        opening: signed.opening,
        signature: signed.signature,
        state: ConsentState::InForce,
        recorded_at: UnixSeconds(10),
        revoked_at: None,
        anchors: Vec::new(),
    };
    (consent, signed)
}
