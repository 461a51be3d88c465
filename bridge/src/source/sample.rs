//! Values of the app's interface for tests: whole, and true to each other.

use medsync_protocol::audit::{self, Body, EntryDigest, RecordRef, Seq, head_leaf};
use medsync_protocol::codes::Code;
use medsync_protocol::consent::{Commitment, Grant, Opening, Registry, SignedGrant};
use medsync_protocol::device::Admission;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    AddressBytes, Anchorer, AuthorId, ChainId, ContextId, ContractAddress, MemberId, Nonce,
    RecordId, Salt, SealKey, Sha256Digest, UnixSeconds, to_base64,
};
use medsync_protocol::keychange::KeyChange;
use medsync_protocol::messages::{Enrolment, RotationNumber, device_message, rotate_message};
use medsync_protocol::receipt::{BlockHash, BlockNumber, TransactionHash};
use medsync_protocol::secrets::{Counter, DeviceNumber, Seed};
use medsync_protocol::signature::{PublicKey, SecretKey, Signature};
use medsync_protocol::terms::{Provision, ProvisionKind, TERMS_VERSION, Terms};
use medsync_protocol::ticket::{PoolNonce, Ticket};
use medsync_protocol::tree::Tree;
use serde_json::{Value, json};

use super::abi::{AnchorInput, CircleInput, RecordInput};
use super::model::{
    Consent, Device, Head, LogEntry, NewRelease, PlacedTicket, Pool, SignedKeyChange,
};
use super::names::Cursor;

pub(super) const CONTEXT: ContextId = ContextId([2; 32]);

pub(super) fn felt(value: u64) -> Felt {
    Felt::from(value)
}

pub(super) fn key(byte: u8) -> String {
    format!("0x{}", hex::encode([byte; 32]))
}

pub(super) fn cursor() -> Cursor {
    "consent.1.x".parse().expect("a cursor")
}

pub(super) fn patient() -> SecretKey {
    SecretKey::from_scalar(&[3; 32]).expect("a scalar")
}

pub(super) fn registry() -> Registry {
    Registry {
        chain_id: ChainId::from_felt(felt(5)),
        registry: ContractAddress::from_felt(felt(6)),
    }
}

pub(super) fn anchorer() -> Anchorer {
    Anchorer::from_felt(felt(7))
}

pub(super) fn circle_input() -> CircleInput {
    CircleInput {
        kind: "circle".into(),
        invitation_key: PublicKey::from_felt(felt(1)),
        custodian_address: anchorer(),
        author_key: PublicKey::from_felt(felt(2)),
        seal_key: SealKey([8; 32]),
        chain_id: registry().chain_id,
        registry: registry().registry,
    }
}

pub(super) fn enrolment() -> Enrolment {
    let public = patient().public_key();
    Enrolment {
        member: MemberId([9; 32]),
        party_key: public,
        recovery_key: public,
        login_key: public,
        author_key: public,
        seal_key: SealKey([8; 32]),
    }
}

pub(super) fn terms() -> Terms {
    Terms {
        version: TERMS_VERSION,
        nonce: Nonce([1; 32]),
        context: CONTEXT,
        custodian_member: MemberId([3; 32]),
        custodian_address: AddressBytes::of(anchorer()),
        policy_uri: "https://example.org/policy".into(),
        policy_sha256: Sha256Digest([5; 32]),
        provision: Provision::everything(ProvisionKind::Permit),
        exceptions: Vec::new(),
    }
}

pub(super) fn granted() -> SignedGrant {
    let grant = Grant {
        terms: terms().digest().expect("sound terms"),
        anchorer: anchorer(),
        grantee: PublicKey::from_felt(felt(11)),
        not_before: UnixSeconds(1),
        not_after: UnixSeconds(0),
    };
    let seed = Seed::from_bytes(&[1; 32]).expect("a felt");
    grant
        .sign(registry(), &patient(), &seed, DeviceNumber(0), Counter(0))
        .expect("a sound opening")
}

pub(super) fn opening() -> Opening {
    granted().opening
}

pub(super) fn signature() -> Signature {
    granted().signature
}

pub(super) fn circle_view() -> Value {
    let enrolled = json!({ "key": key(1), "enrolment": enrolment(), "recorded_at": 10 });
    json!({
        "context": CONTEXT,
        "custodian_member": MemberId([3; 32]),
        "custodian": circle_input(),
        "enrolments": [enrolled],
        "patient": enrolled,
        "keys": [enrolment().party_key],
        "devices": [device_view()],
        "frozen": false,
        "ignored": 0,
        "counts": {
            "enrolments": 1, "consents": 2, "revocations": 3, "anchors": 4, "log": 6,
            "heads": 7, "records": 5, "receipts": 8, "releases": 9,
        },
        "consents_digest": key(11),
        "now": 20,
    })
}

pub(super) fn consent_view() -> Value {
    let SignedGrant {
        opening,
        commitment,
        signature,
        ..
    } = granted();
    json!({
        "key": key(1),
        "commitment": commitment,
        "terms": to_base64(&terms().encode().expect("sound terms")),
        "opening": opening,
        "signature": signature,
        "state": "revoked",
        "recorded_at": 10,
        "revoked_at": 12,
        "anchors": [anchor_view(commitment, &signature)],
    })
}

/// A consent that its circle says to be anchored.
pub(crate) fn consent() -> Consent {
    let view = serde_json::from_value(consent_view()).expect("the mirror takes it");
    super::convert::consent(CONTEXT, &view).expect("a sound view")
}

fn anchor_view(commitment: Commitment, signature: &Signature) -> Value {
    let leaf = commitment.leaf(signature);
    let tree = Tree::build(&[leaf, leaf]).expect("two leaves");
    let proof = tree.proof(1).expect("two leaves");
    json!({
        "key": key(2),
        "root": tree.root(),
        "index": proof.index,
        "siblings": proof.siblings,
        "anchorer": anchorer(),
        "stage": "anchored",
        "sealed_at": 13,
        "submitted_at": 14,
        "transaction_hash": "0x1",
        "block_number": 15,
        "block_hash": "0x2",
        "block_time": 16,
    })
}

pub(super) fn anchor_input() -> AnchorInput {
    let SignedGrant {
        opening,
        commitment,
        signature,
        ..
    } = granted();
    let leaf = commitment.leaf(&signature);
    let tree = Tree::build(&[leaf, leaf]).expect("two leaves");
    let proof = tree.proof(0).expect("two leaves");
    AnchorInput {
        commitment,
        handle: opening.handle,
        root: tree.root(),
        index: proof.index,
        siblings: proof.siblings,
        anchorer: anchorer(),
        stage: "anchored".into(),
        transaction_hash: Some(TransactionHash::from_felt(felt(1))),
        block_number: Some(BlockNumber(15)),
        block_hash: Some(BlockHash::from_felt(felt(2))),
        block_time: Some(UnixSeconds(16)),
    }
}

pub(super) fn payload() -> Vec<u8> {
    vec![0; 3]
}

pub(super) fn record_input() -> RecordInput {
    let concepts = vec![vec![Code::new("s", "c")]];
    RecordInput {
        record: RecordId([1; 32]),
        version: 1,
        resource_type: "Observation".into(),
        classes: concepts.clone(),
        codes: concepts.clone(),
        labels: concepts,
        authors: vec![AuthorId([4; 32])],
        data_date: Some(UnixSeconds(9)),
        payload: to_base64(&payload()),
        key_for_patient: "AA==".into(),
        key_for_custodian: "AQ==".into(),
    }
}

pub(super) fn record_view() -> Value {
    let concepts = json!([[{ "system": "s", "code": "c" }]]);
    json!({
        "key": key(1),
        "record": RecordId([1; 32]),
        "version": 1,
        "resource_type": "Observation",
        "classes": concepts,
        "codes": concepts,
        "labels": concepts,
        "authors": [AuthorId([4; 32])],
        "data_date": 9,
        "payload_sha256": Sha256Digest::of(&payload()),
        "payload_bytes": 3,
        "key_for_patient": "AA==",
        "key_for_custodian": "AQ==",
        "recorded_at": 10,
    })
}

pub(super) fn revocation_view() -> Value {
    let SignedGrant {
        opening, secrets, ..
    } = granted();
    json!({
        "key": key(1),
        "handle": opening.handle,
        "secret": secrets.secret.reveal_text(),
        "claim_key": secrets.claim_key.public_key(),
        "recorded_at": 12,
    })
}

pub(super) fn log_entry() -> LogEntry {
    let body = Body::Granted {
        consent: granted().commitment,
    };
    let entry = audit::Entry {
        context: CONTEXT,
        author_key: patient().public_key(),
        seq: Seq(0),
        prev: EntryDigest::from_felt(felt(0)),
        kind: body.kind(),
        subject: body.subject().expect("sound"),
        at: UnixSeconds(17),
        salt: Salt::from_felt(felt(18)),
    };
    LogEntry {
        entry,
        signature: patient().sign(entry.digest().message()).expect("signable"),
        body,
    }
}

pub(super) fn head() -> Head {
    let LogEntry { entry, .. } = log_entry();
    let salt = Salt::from_felt(felt(19));
    let leaf = head_leaf(CONTEXT, entry.author_key, entry.seq, entry.digest(), salt);
    let tree = Tree::build(&[leaf, leaf]).expect("two leaves");
    Head {
        author_key: entry.author_key,
        seq: entry.seq,
        digest: entry.digest(),
        salt,
        root: tree.root(),
        proof: tree.proof(1).expect("two leaves"),
    }
}

pub(super) fn log_view() -> Value {
    let entry = log_entry();
    let said = super::convert::log_to_abi(&entry).expect("sound");
    json!({ "key": key(3), "entry": said, "digest": entry.digest(), "recorded_at": 18 })
}

pub(super) fn head_view() -> Value {
    let said = super::convert::head_to_abi(&head());
    json!({ "key": key(4), "head": said, "recorded_at": 19 })
}

pub(super) fn key_change() -> SignedKeyChange {
    let change = KeyChange {
        old_key: patient().public_key(),
        new_key: PublicKey::from_felt(felt(33)),
        seq: 0,
    };
    let (old, new, seq) = (change.old_key, change.new_key, RotationNumber(0));
    let message = rotate_message(CONTEXT, old, new, seq);
    SignedKeyChange {
        change,
        signature: patient().sign(message).expect("signable"),
    }
}

pub(super) fn key_change_view() -> Value {
    let said = super::convert::key_change_to_abi(&key_change());
    json!({ "key": key(8), "change": said, "by": "recovery", "recorded_at": 22 })
}

pub(super) fn device() -> Device {
    let admission = Admission {
        member: MemberId([7; 32]),
        device: DeviceNumber(1),
        admitted_by: patient().public_key(),
    };
    let message = device_message(CONTEXT, admission.member, admission.device);
    Device {
        admission,
        author_key: Some(PublicKey::from_felt(felt(34))),
        signature: patient().sign(message).expect("signable"),
    }
}

pub(super) fn device_view() -> Value {
    let device = device();
    json!({
        "key": key(9),
        "device": super::convert::device_to_abi(&device),
        "signature": device.signature,
        "role": "own",
        "admitted": true,
        "recorded_at": 23,
    })
}

pub(super) fn pool() -> Pool {
    Pool {
        contract: ContractAddress::from_felt(felt(41)),
        funder: ContractAddress::from_felt(felt(42)),
        nonce: PoolNonce::from_felt(felt(43)),
        recipient: PublicKey::from_felt(felt(44)),
        claim_end: UnixSeconds(45),
        label: "asthma".into(),
    }
}

pub(super) fn pool_view() -> Value {
    let said = super::convert::pool_to_abi(&pool());
    json!({ "key": key(10), "pool": said, "recorded_at": 24 })
}

pub(super) fn ticket() -> PlacedTicket {
    let ticket = Ticket {
        pool_id: pool().id(registry().chain_id),
        anchorer: anchorer(),
        handle: opening().handle,
        claim_until: UnixSeconds(45),
        salt: Salt::from_felt(felt(46)),
    };
    let tree = Tree::build(&[ticket.leaf(), ticket.leaf()]).expect("two leaves");
    PlacedTicket {
        ticket,
        root: tree.root(),
        proof: tree.proof(1).expect("two leaves"),
    }
}

pub(super) fn ticket_view() -> Value {
    let said = super::convert::ticket_to_abi(&ticket());
    json!({ "key": key(11), "ticket": said, "recorded_at": 25 })
}

pub(super) fn receipt_view() -> Value {
    json!({ "key": key(5), "patient": key(6), "receipt": "AA==", "recorded_at": 20 })
}

pub(super) fn release() -> NewRelease {
    let entry = log_entry();
    NewRelease {
        entry_seq: entry.entry.seq,
        entry: entry.digest(),
        circle: CONTEXT,
        what: RecordRef {
            record: RecordId([1; 32]),
            version: 1,
        },
        resource_type: "Observation".into(),
        payload: payload(),
        sealed_key: vec![1],
    }
}

pub(super) fn release_view() -> Value {
    let release = release();
    json!({
        "key": key(7),
        "entry": release.entry,
        "logged_as": "0x1",
        "request": "0x2",
        "circle": CONTEXT,
        "record": release.what.record,
        "version": 1,
        "resource_type": "Observation",
        "payload_sha256": Sha256Digest::of(&payload()),
        "sealed_key": "AA==",
        "recorded_at": 21,
    })
}

/// An entry of no kind: every kind's body is in it.
pub(super) fn entry_view() -> Value {
    json!({
        "kind": "consent",
        "key": key(1),
        "owner": MemberId([9; 32]),
        "valid": true,
        "copy_of": granted().commitment,
        "enrolment": { "key": key(1), "enrolment": enrolment(), "recorded_at": 10 },
        "key_change": key_change_view(),
        "device": device_view(),
        "consent": consent_view(),
        "revocation": revocation_view(),
        "anchored": consent_view(),
        "log": log_view(),
        "head": head_view(),
        "record": record_view(),
        "pool": pool_view(),
        "ticket": ticket_view(),
        "receipt": receipt_view(),
        "release": release_view(),
    })
}
