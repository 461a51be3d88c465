//! A circle with a custodian and a patient, for tests: keys, terms, signatures.

use medsync::source::Head;
use medsync_app::abi::{CircleInput, EnrolmentInput, KeyChangeInput, OpeningInput, SignatureInput};
use medsync_protocol::audit::{Body, Entry, EntryDigest, RecordRef, Seq, head_leaf};
use medsync_protocol::codes::{Code, CodeSet};
use medsync_protocol::consent::{Commitment, Grant, Registry, SignedGrant};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{
    AddressBytes, Anchorer, ChainId, ContextId, ContractAddress, MemberId, Nonce, RecordId, Salt,
    SealKey, Sha256Digest, UnixSeconds, to_base64,
};
use medsync_protocol::messages::{Enrolment, RotationNumber, device_message, rotate_message};
use medsync_protocol::secrets::{Counter, DeviceNumber, Seed};
use medsync_protocol::signature::{PublicKey, SecretKey, Signature};
use medsync_protocol::terms::{Provision, ProvisionKind, TERMS_VERSION, Terms};
use medsync_protocol::tree::Tree;
use serde_json::{Value, json};

use crate::replica::Replica;

/// The context of every test that needs only one.
pub const CONTEXT: ContextId = ContextId([7; 32]);

/// A Stark key of a number.
///
/// # Panics
/// Never: every such number is a scalar.
#[must_use]
pub fn secret_key(number: u8) -> SecretKey {
    let mut scalar = [0; 32];
    scalar[31] = number;
    scalar[15] = 1;
    SecretKey::from_scalar(&scalar).expect("a small scalar is one")
}

/// The public half of [`secret_key`].
#[must_use]
pub fn public_key(number: u8) -> PublicKey {
    secret_key(number).public_key()
}

/// The invitation's one-time key.
pub const INVITATION: u8 = 1;
/// The patient's key.
pub const PATIENT: u8 = 2;
/// The hospital's own key, which signs nothing that counts as the patient's.
pub const HOSPITAL: u8 = 3;
/// The patient's recovery key; see [`enrolment`].
pub const RECOVERY: u8 = 20;
/// A researcher's key.
pub const RESEARCHER: u8 = 4;

/// Where consents are anchored.
#[must_use]
pub fn registry() -> Registry {
    Registry {
        chain_id: ChainId::named("SN_SEPOLIA").expect("a short string"),
        registry: ContractAddress::from_felt(Felt::from(77)),
    }
}

/// Who anchors them.
#[must_use]
pub fn anchorer() -> Anchorer {
    Anchorer::from_felt(Felt::from(99))
}

/// The arguments of init.
#[must_use]
pub fn circle_input() -> CircleInput {
    CircleInput {
        kind: "circle".into(),
        invitation_key: public_key(INVITATION).to_string(),
        custodian_address: anchorer().to_string(),
        author_key: public_key(HOSPITAL).to_string(),
        seal_key: SealKey([9; 32]).to_string(),
        chain_id: registry().chain_id.to_string(),
        registry: registry().registry.to_string(),
    }
}

/// A custodian's replica of a circle after init.
///
/// # Panics
/// If init is refused.
#[must_use]
pub fn open(context: ContextId) -> Replica {
    open_as(context, "circle")
}

/// A custodian's replica of a circle or an exchange after init.
///
/// # Panics
/// If init is refused.
#[must_use]
pub fn open_as(context: ContextId, kind: &str) -> Replica {
    let mut custodian = Replica::new(101, context);
    let kind = kind.into();
    let circle = CircleInput {
        kind,
        ..circle_input()
    };
    custodian
        .call("init", &json!({ "circle": circle }))
        .expect("init is sound");
    custodian
}

/// What a patient enrols with.
#[must_use]
pub fn enrolment(member: MemberId, party: u8) -> Enrolment {
    Enrolment {
        member,
        party_key: public_key(party),
        recovery_key: public_key(RECOVERY),
        login_key: public_key(21),
        author_key: public_key(PATIENT_AUTHOR),
        seal_key: SealKey([23; 32]),
    }
}

/// The arguments of enrol, signed by a key.
///
/// # Panics
/// With odds of 2^-55.
#[must_use]
pub fn enrol_arguments(enrolment: &Enrolment, context: ContextId, signer: u8) -> Value {
    let signature = secret_key(signer)
        .sign(enrolment.message(context))
        .expect("signable");
    json!({
        "enrolment": EnrolmentInput {
            member: enrolment.member.to_string(),
            party_key: enrolment.party_key.to_string(),
            recovery_key: enrolment.recovery_key.to_string(),
            login_key: enrolment.login_key.to_string(),
            author_key: enrolment.author_key.to_string(),
            seal_key: enrolment.seal_key.to_string(),
        },
        "signature": signature_input(&signature),
    })
}

/// The arguments of `change_key` from one key to another, signed by a third.
///
/// # Panics
/// With odds of 2^-55.
#[must_use]
pub fn change_key_arguments(context: ContextId, keys: [u8; 2], seq: u64, signer: u8) -> Value {
    let [old_key, new_key] = keys.map(public_key);
    let message = rotate_message(context, old_key, new_key, RotationNumber(seq));
    let signature = secret_key(signer).sign(message).expect("signable");
    json!({
        "change": KeyChangeInput {
            old_key: old_key.to_string(),
            new_key: new_key.to_string(),
            seq,
            signature: signature_input(&signature),
        },
    })
}

/// The arguments of `admit` for a member under a device number, signed by a key, with the key that
/// signs the member's log entries if the member itself says so.
///
/// # Panics
/// With odds of 2^-55.
#[must_use]
pub fn admission_arguments(
    context: ContextId,
    member: MemberId,
    device: u32,
    signer: u8,
    author: Option<u8>,
) -> Value {
    let message = device_message(context, member, DeviceNumber(device));
    let signature = secret_key(signer).sign(message).expect("signable");
    json!({
        "device": {
            "member": member,
            "device": device,
            "admitted_by": public_key(signer),
            "author_key": author.map(public_key),
        },
        "signature": signature_input(&signature),
    })
}

/// A signature as the app takes it.
#[must_use]
pub fn signature_input(signature: &Signature) -> SignatureInput {
    SignatureInput {
        r: signature.r.to_string(),
        s: signature.s.to_string(),
    }
}

/// A custodian and a patient who enrolled, both up to date.
///
/// # Panics
/// If anything is refused.
#[must_use]
pub fn enrolled(context: ContextId) -> (Replica, Replica) {
    enrol_into(open(context), PATIENT)
}

/// A custodian and a recipient of an exchange, both up to date.
///
/// # Panics
/// If anything is refused.
#[must_use]
pub fn exchange(context: ContextId) -> (Replica, Replica) {
    enrol_into(open_as(context, "exchange"), RESEARCHER)
}

fn enrol_into(mut custodian: Replica, party: u8) -> (Replica, Replica) {
    let context = custodian.context();
    let mut other = custodian.join(102);
    let arguments = enrol_arguments(&enrolment(other.member(), party), context, INVITATION);
    let (_, delta) = other
        .call("enrol", &arguments)
        .expect("the enrolment is sound");
    custodian.apply(&delta);
    (custodian, other)
}

/// Terms of this circle, each number another.
///
/// # Panics
/// Never.
#[must_use]
pub fn terms(custodian: MemberId, context: ContextId, number: u8) -> Terms {
    let mut provision = Provision::everything(ProvisionKind::Permit);
    provision.purposes = CodeSet::collect([Code::new("act", "HRESCH")]).expect("one code");
    Terms {
        version: TERMS_VERSION,
        nonce: Nonce([number; 32]),
        context,
        custodian_member: custodian,
        custodian_address: AddressBytes::of(anchorer()),
        policy_uri: "https://example.org/policy".into(),
        policy_sha256: Sha256Digest([5; 32]),
        provision,
        exceptions: Vec::new(),
    }
}

/// A consent and all that belongs to it.
#[derive(Clone)]
pub struct Consent {
    /// The terms' borsh.
    pub terms: Vec<u8>,
    /// What the patient signed, with the secrets.
    pub signed: SignedGrant,
}

/// How a test's consent differs from a sound one.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Who signs.
    pub signer: u8,
    /// Which consent: terms' nonce and secrets follow from it.
    pub number: u8,
    /// First second.
    pub not_before: u64,
    /// First second after, or 0.
    pub not_after: u64,
}

impl Plan {
    /// A sound consent, open-ended, of this number.
    #[must_use]
    pub const fn sound(number: u8) -> Self {
        Self {
            signer: PATIENT,
            number,
            not_before: 1,
            not_after: 0,
        }
    }

    /// Signs it over these terms.
    ///
    /// # Panics
    /// If the plan makes no opening at all.
    #[must_use]
    pub fn sign(&self, terms: &Terms) -> Consent {
        let bytes = terms.encode().expect("the terms are sound");
        let grant = Grant {
            terms: Sha256Digest::of(&bytes),
            anchorer: Anchorer::from_bytes(&terms.custodian_address.0).expect("an address"),
            grantee: public_key(RESEARCHER),
            not_before: UnixSeconds(self.not_before),
            not_after: UnixSeconds(self.not_after),
        };
        let mut seed = [0; 32];
        seed[31] = self.number;
        seed[30] = 1;
        let seed = Seed::from_bytes(&seed).expect("a felt");
        let signer = secret_key(self.signer);
        let signed = grant
            .sign(registry(), &signer, &seed, DeviceNumber(0), Counter(0))
            .expect("the opening is sound");
        Consent {
            terms: bytes,
            signed,
        }
    }
}

impl Consent {
    /// A sound consent of the circle that this custodian opened.
    #[must_use]
    pub fn sound(custodian: &Replica, number: u8) -> Self {
        let terms = terms(custodian.member(), custodian.context(), number);
        Plan::sound(number).sign(&terms)
    }

    /// The arguments of grant.
    #[must_use]
    pub fn grant_arguments(&self) -> Value {
        let opening = &self.signed.opening;
        json!({
            "terms": to_base64(&self.terms),
            "opening": OpeningInput {
                patient_key: opening.patient_key.to_string(),
                grantee: opening.grantee.to_string(),
                not_before: opening.not_before.0,
                not_after: opening.not_after.0,
                handle: opening.handle.to_string(),
                salt: opening.salt.to_string(),
            },
            "signature": signature_input(&self.signed.signature),
        })
    }

    /// The arguments of revoke.
    #[must_use]
    pub fn revoke_arguments(&self) -> Value {
        let secrets = &self.signed.secrets;
        json!({
            "secret": secrets.secret.reveal_text(),
            "claim_key": secrets.claim_key.public_key().to_string(),
            "handle": self.signed.opening.handle.to_string(),
        })
    }

    /// The consent's name.
    #[must_use]
    pub fn name(&self) -> String {
        self.signed.commitment.to_string()
    }
}

/// The patient's key for log entries; see [`enrolment`].
pub const PATIENT_AUTHOR: u8 = 22;

/// A log entry of a context, by an author's number, with where it stands in that author's log.
#[derive(Clone, Debug)]
pub struct Logged {
    /// What is signed.
    pub entry: Entry,
    /// What it says.
    pub body: Body,
    /// Whose signature; the author's, unless a test forges.
    pub signature: Signature,
}

impl Logged {
    /// A sound entry after `before`, which says that a consent was granted.
    ///
    /// # Panics
    /// With odds of 2^-55.
    #[must_use]
    pub fn after(before: Option<&Self>, context: ContextId, author: u8, salt: u64) -> Self {
        let (seq, prev) = before.map_or((0, EntryDigest::from_felt(Felt::ZERO)), |before| {
            (before.entry.seq.0 + 1, before.entry.digest())
        });
        let body = Body::Granted {
            consent: Commitment::from_felt(Felt::from(seq + 1)),
        };
        let entry = Entry {
            context,
            author_key: public_key(author),
            seq: Seq(seq),
            prev,
            kind: body.kind(),
            subject: body.subject().expect("sound"),
            at: UnixSeconds(1_000 + seq),
            salt: Salt::from_felt(Felt::from(salt)),
        };
        let signed = secret_key(author).sign(entry.digest().message());
        Self {
            entry,
            body,
            signature: signed.expect("signable"),
        }
    }

    /// A sound entry after `before` that says what a test wants.
    ///
    /// # Panics
    /// With odds of 2^-55, or if the body is none.
    #[must_use]
    pub fn saying(before: Option<&Self>, context: ContextId, author: u8, body: Body) -> Self {
        let sound = Self::after(before, context, author, 7);
        let entry = Entry {
            kind: body.kind(),
            subject: body.subject().expect("a sound body"),
            ..sound.entry
        };
        let signed = secret_key(author).sign(entry.digest().message());
        Self {
            entry,
            body,
            signature: signed.expect("signable"),
        }
    }

    /// A sound log of this many entries.
    #[must_use]
    pub fn chain(context: ContextId, author: u8, len: usize) -> Vec<Self> {
        let mut log: Vec<Self> = Vec::with_capacity(len);
        for _ in 0..len {
            log.push(Self::after(log.last(), context, author, 0));
        }
        log
    }

    /// The arguments of append_log.
    #[must_use]
    pub fn arguments(&self) -> Value {
        json!({ "entry": {
            "author_key": self.entry.author_key,
            "seq": self.entry.seq,
            "prev": self.entry.prev,
            "kind": self.entry.kind.name(),
            "body": to_base64(&self.body.encode().expect("sound")),
            "at": self.entry.at,
            "salt": self.entry.salt,
            "signature": signature_input(&self.signature),
        } })
    }

    /// This entry as one of two leaves of a batch.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn head(&self) -> Head {
        let (entry, salt) = (&self.entry, Salt::from_felt(Felt::from(5)));
        let digest = entry.digest();
        let leaf = head_leaf(entry.context, entry.author_key, entry.seq, digest, salt);
        let tree = Tree::build(&[leaf, leaf]).expect("two leaves");
        Head {
            author_key: entry.author_key,
            seq: entry.seq,
            digest,
            salt,
            root: tree.root(),
            proof: tree.proof(1).expect("two leaves"),
        }
    }

    /// The arguments of record_head.
    #[must_use]
    pub fn head_arguments(&self) -> Value {
        let head = self.head();
        json!({ "head": {
            "author_key": head.author_key,
            "seq": head.seq,
            "digest": head.digest,
            "salt": head.salt,
            "root": head.root,
            "index": head.proof.index,
            "siblings": head.proof.siblings,
        } })
    }
}

/// The arguments of put_record: an Observation.
#[must_use]
pub fn record_arguments(id: [u8; 32], version: u32, payload: &[u8]) -> Value {
    let coding = json!({ "system": "http://loinc.org", "code": "8480-6" });
    json!({ "record": {
        "record": RecordId(id).to_string(),
        "version": version,
        "resource_type": "Observation",
        "classes": [[coding]],
        "codes": [[coding, { "system": "http://snomed.info/sct", "code": "271649006" }]],
        "labels": [],
        "authors": [RecordId([6; 32]).to_string()],
        "data_date": 1_600_000_000,
        "payload": to_base64(payload),
        "key_for_patient": to_base64(b"sealed to the patient"),
        "key_for_custodian": to_base64(b"sealed to the custodian"),
    } })
}

/// The arguments of put_release: a record of a circle, under an entry of the exchange's log.
#[must_use]
pub fn release_arguments(entry: &Logged, circle: ContextId, what: RecordRef) -> Value {
    json!({ "release": {
        "entry_seq": entry.entry.seq,
        "entry": entry.entry.digest(),
        "circle": circle,
        "record": what.record,
        "version": what.version,
        "resource_type": "Observation",
        "payload": to_base64(b"sealed"),
        "sealed_key": to_base64(b"a sealed key"),
    } })
}
