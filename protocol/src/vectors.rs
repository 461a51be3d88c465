//! The golden vectors: every rule of this crate against an independent implementation.
//!
//! The same check runs natively and in WebAssembly. It fails for a kind of vector that it does not
//! know, for a kind that is missing, and for a field that it does not read.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::anchor::{AnchorHead, LeafCount};
use crate::audit::{Entry, EntryDigest, EntryKind, Seq};
use crate::codes::{Code, CodeSet, SortedSet};
use crate::consent::{Commitment, Opening, Registry};
use crate::felt::{Felt, parse};
use crate::ids::{
    AddressBytes, Anchorer, AuthorId, ChainId, ContextId, ContractAddress, MemberId, Nonce,
    RecordId, Salt, SealKey, Sha256Digest, UnixSeconds,
};
use crate::messages::{
    Enrolment, LoginNonce, RotationNumber, device_message, login_message, rotate_message,
};
use crate::secrets::{
    ConsentSecrets, Counter, DeviceNumber, Handle, RevocationSecret, SecretHash, Seed,
};
use crate::signature::{Message, PublicKey, SecretKey, Signature, SignatureHalf};
use crate::terms::{Provision, ProvisionKind, TERMS_VERSION, Terms};
use crate::ticket::{PoolId, PoolNonce, Ticket, claim_message};
use crate::tree::{Leaf, Proof, Root, Sibling, Tree};

/// Why the vectors do not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// The file is no vector file.
    #[error("the vector file cannot be read: {0}")]
    File(String),
    /// A kind of vector that this crate does not know.
    #[error("the vectors have a kind that nothing here consumes: {0}")]
    UnknownKind(String),
    /// A kind that should be there and is not, or is empty.
    #[error("the vectors have no {0}")]
    MissingKind(&'static str),
    /// A vector that does not hold.
    #[error("vector {kind}[{index}] does not hold: {reason}")]
    Broken {
        /// Its kind.
        kind: &'static str,
        /// Its place.
        index: usize,
        /// What differs.
        reason: String,
    },
}

type Checked = Result<(), String>;
type Check = fn(Value) -> Checked;

const KINDS: [(&str, Check); 16] = [
    ("derive", |v| derive(read(v)?)),
    ("handle", |v| handle(read(v)?)),
    ("terms", |v| terms(read(v)?)),
    ("consent", |v| consent(read(v)?)),
    ("enrol", |v| enrol(read(v)?)),
    ("device", |v| device(read(v)?)),
    ("rotate", |v| rotate(read(v)?)),
    ("login", |v| login(read(v)?)),
    ("audit_entry", |v| audit_entry(read(v)?)),
    ("audit_head", |v| audit_head(read(v)?)),
    ("pool", |v| pool(read(v)?)),
    ("ticket", |v| ticket(read(v)?)),
    ("claim", |v| claim(read(v)?)),
    ("next_head", |v| next_head(read(v)?)),
    ("tree", |v| tree(read(v)?)),
    ("bad_signature", |v| bad_signature(read(v)?)),
];

/// Checks a whole vector file; answers how many vectors of each kind hold.
///
/// # Errors
/// The first vector that does not hold, or a kind that is unknown or missing.
pub fn check(json: &[u8]) -> Result<Vec<(&'static str, usize)>, VectorError> {
    let mut file: Map<String, Value> =
        serde_json::from_slice(json).map_err(|e| VectorError::File(e.to_string()))?;
    if file.remove("protocol") != Some(Value::from("medsync/v1")) {
        return Err(VectorError::File("its protocol is not medsync/v1".into()));
    }
    file.remove("seed");
    let mut counts = Vec::with_capacity(KINDS.len());
    for (kind, check) in KINDS {
        let vectors = match file.remove(kind) {
            Some(Value::Array(vectors)) if !vectors.is_empty() => vectors,
            _ => return Err(VectorError::MissingKind(kind)),
        };
        counts.push((kind, vectors.len()));
        for (index, vector) in vectors.into_iter().enumerate() {
            check(vector).map_err(|reason| VectorError::Broken {
                kind,
                index,
                reason,
            })?;
        }
    }
    match file.keys().next() {
        Some(kind) => Err(VectorError::UnknownKind(kind.clone())),
        None => Ok(counts),
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn same<T: PartialEq + core::fmt::Debug>(what: &str, ours: T, theirs: T) -> Checked {
    if ours == theirs {
        Ok(())
    } else {
        Err(format!("{what}: {ours:?}, expected {theirs:?}"))
    }
}

fn ensure(what: &str, holds: bool) -> Checked {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// A felt of a secret, which its own type never parses from JSON.
#[derive(Deserialize)]
#[serde(transparent)]
struct Hidden(String);

impl Hidden {
    fn seed(&self) -> Result<Seed, String> {
        Seed::parse(&self.0).map_err(|e| e.to_string())
    }

    fn key(&self) -> Result<SecretKey, String> {
        let felt = parse(&self.0).map_err(|e| e.to_string())?;
        SecretKey::from_scalar(&felt.to_bytes_be()).map_err(|e| e.to_string())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Derive {
    seed: Hidden,
    device: u32,
    counter: u64,
    salt: Salt,
    secret: String,
    claim_secret_key: String,
    claim_key: PublicKey,
}

fn derive(v: Derive) -> Checked {
    let seed = v.seed.seed()?;
    let ours = ConsentSecrets::derive(&seed, DeviceNumber(v.device), Counter(v.counter));
    same("salt", ours.salt, v.salt)?;
    same("secret", ours.secret.reveal_text(), v.secret)?;
    same(
        "claim_secret_key",
        ours.claim_key.reveal_text(),
        v.claim_secret_key,
    )?;
    same("claim_key", ours.claim_key.public_key(), v.claim_key)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HandleVector {
    secret: String,
    secret_hash: SecretHash,
    claim_key: PublicKey,
    handle: Handle,
}

fn handle(v: HandleVector) -> Checked {
    let secret = RevocationSecret::parse(&v.secret).map_err(|e| e.to_string())?;
    same("secret_hash", secret.hash(), v.secret_hash)?;
    same("handle", Handle::of(v.secret_hash, v.claim_key), v.handle)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermsVector {
    terms: TermsInput,
    borsh: String,
    sha256: Sha256Digest,
}

/// Terms as a person might write them: sets in any order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermsInput {
    nonce: Nonce,
    context: ContextId,
    custodian_member: MemberId,
    custodian_address: AddressBytes,
    policy_uri: String,
    policy_sha256: Sha256Digest,
    provision: ProvisionInput,
    exceptions: Vec<ProvisionInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvisionInput {
    kind: ProvisionKind,
    #[serde(default)]
    purposes: Vec<Code>,
    #[serde(default)]
    classes: Vec<Code>,
    #[serde(default)]
    codes: Vec<Code>,
    #[serde(default)]
    labels: Vec<Code>,
    #[serde(default)]
    authors: Vec<AuthorId>,
    #[serde(default)]
    records: Vec<RecordId>,
    #[serde(default)]
    data_period: Option<(u64, u64)>,
    #[serde(default)]
    obligations: Vec<Code>,
}

impl ProvisionInput {
    fn sorted(self) -> Result<Provision, String> {
        let codes = |codes| CodeSet::collect(codes).map_err(|e| e.to_string());
        Ok(Provision {
            kind: self.kind,
            purposes: codes(self.purposes)?,
            classes: codes(self.classes)?,
            codes: codes(self.codes)?,
            labels: codes(self.labels)?,
            authors: SortedSet::collect(self.authors).map_err(|e| e.to_string())?,
            records: SortedSet::collect(self.records).map_err(|e| e.to_string())?,
            data_period: self.data_period,
            obligations: codes(self.obligations)?,
        })
    }
}

fn terms(v: TermsVector) -> Checked {
    let input = v.terms;
    let ours = Terms {
        version: TERMS_VERSION,
        nonce: input.nonce,
        context: input.context,
        custodian_member: input.custodian_member,
        custodian_address: input.custodian_address,
        policy_uri: input.policy_uri,
        policy_sha256: input.policy_sha256,
        provision: input.provision.sorted()?,
        exceptions: input
            .exceptions
            .into_iter()
            .map(ProvisionInput::sorted)
            .collect::<Result<_, _>>()?,
    };
    let bytes = ours.encode().map_err(|e| e.to_string())?;
    same("borsh", format!("0x{}", hex::encode(&bytes)), v.borsh)?;
    same("sha256", Sha256Digest::of(&bytes), v.sha256)?;
    same("decoded", Terms::decode(&bytes), Ok(ours))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Consent {
    terms_sha256: Sha256Digest,
    anchorer: Anchorer,
    patient_secret_key: Hidden,
    patient_key: PublicKey,
    grantee: PublicKey,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
    handle: Handle,
    salt: Salt,
    commitment: Commitment,
    chain_id: ChainId,
    registry: ContractAddress,
    grant_message: Message,
    signature: Signature,
    leaf: Leaf,
}

fn consent(v: Consent) -> Checked {
    let opening = Opening {
        patient_key: v.patient_key,
        grantee: v.grantee,
        not_before: v.not_before,
        not_after: v.not_after,
        handle: v.handle,
        salt: v.salt,
    };
    opening.check().map_err(|e| e.to_string())?;
    let commitment = Commitment::of(v.terms_sha256, v.anchorer, &opening);
    same("commitment", commitment, v.commitment)?;
    let registry = Registry {
        chain_id: v.chain_id,
        registry: v.registry,
    };
    let message = commitment.grant_message(registry);
    same("grant_message", message, v.grant_message)?;
    let secret = v.patient_secret_key.key()?;
    same("patient_key", secret.public_key(), v.patient_key)?;
    same("signature", secret.sign(message), Ok(v.signature))?;
    ensure(
        "the signature verifies",
        v.patient_key.verifies(message, &v.signature),
    )?;
    same("leaf", commitment.leaf(&v.signature), v.leaf)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrol {
    context: ContextId,
    member: MemberId,
    party_key: PublicKey,
    recovery_key: PublicKey,
    login_key: PublicKey,
    author_key: PublicKey,
    seal_key: SealKey,
    invitation_key: PublicKey,
    message: Message,
}

fn enrol(v: Enrol) -> Checked {
    let enrolment = Enrolment {
        member: v.member,
        party_key: v.party_key,
        recovery_key: v.recovery_key,
        login_key: v.login_key,
        author_key: v.author_key,
        seal_key: v.seal_key,
    };
    same("message", enrolment.message(v.context), v.message)?;
    // The vector has no signature; its invitation's key must at least be a key that refuses one.
    let none = Signature {
        r: half(Felt::ONE),
        s: half(Felt::ONE),
    };
    ensure(
        "an unsigned enrolment",
        !enrolment.is_signed(v.context, v.invitation_key, &none),
    )
}

fn half(felt: Felt) -> SignatureHalf {
    SignatureHalf::from_felt(felt)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Device {
    context: ContextId,
    member: MemberId,
    device: u32,
    message: Message,
}

fn device(v: Device) -> Checked {
    same(
        "message",
        device_message(v.context, v.member, DeviceNumber(v.device)),
        v.message,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    context: ContextId,
    old_key: PublicKey,
    new_key: PublicKey,
    seq: u64,
    message: Message,
}

fn rotate(v: Rotate) -> Checked {
    let ours = rotate_message(v.context, v.old_key, v.new_key, RotationNumber(v.seq));
    same("message", ours, v.message)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    origin_sha256: Sha256Digest,
    nonce: LoginNonce,
    expires: UnixSeconds,
    message: Message,
}

fn login(v: Login) -> Checked {
    same(
        "message",
        login_message(v.origin_sha256, v.nonce, v.expires),
        v.message,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditEntry {
    context: ContextId,
    author_key: PublicKey,
    seq: u64,
    prev: EntryDigest,
    kind: EntryKind,
    subject_sha256: Sha256Digest,
    at_seconds: UnixSeconds,
    salt: Salt,
    digest: EntryDigest,
    signature: Signature,
}

fn audit_entry(v: AuditEntry) -> Checked {
    let entry = Entry {
        context: v.context,
        author_key: v.author_key,
        seq: Seq(v.seq),
        prev: v.prev,
        kind: v.kind,
        subject: v.subject_sha256,
        at: v.at_seconds,
        salt: v.salt,
    };
    same("digest", entry.digest(), v.digest)?;
    ensure(
        "the signature verifies",
        v.author_key
            .verifies(entry.digest().message(), &v.signature),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditHead {
    context: ContextId,
    author_key: PublicKey,
    seq: u64,
    digest: EntryDigest,
    salt: Salt,
    leaf: Leaf,
}

fn audit_head(v: AuditHead) -> Checked {
    let ours = crate::audit::head_leaf(v.context, v.author_key, Seq(v.seq), v.digest, v.salt);
    same("leaf", ours, v.leaf)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pool {
    chain_id: ChainId,
    pool_contract: ContractAddress,
    funder: ContractAddress,
    nonce: u64,
    pool_id: PoolId,
}

fn pool(v: Pool) -> Checked {
    let nonce = PoolNonce::from_felt(Felt::from(v.nonce));
    same(
        "pool_id",
        PoolId::of(v.chain_id, v.pool_contract, v.funder, nonce),
        v.pool_id,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketVector {
    pool_id: PoolId,
    anchorer: Anchorer,
    handle: Handle,
    claim_until: UnixSeconds,
    salt: Salt,
    leaf: Leaf,
}

fn ticket(v: TicketVector) -> Checked {
    let ours = Ticket {
        pool_id: v.pool_id,
        anchorer: v.anchorer,
        handle: v.handle,
        claim_until: v.claim_until,
        salt: v.salt,
    };
    same("leaf", ours.leaf(), v.leaf)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    chain_id: ChainId,
    pool_contract: ContractAddress,
    pool_id: PoolId,
    secret_hash: SecretHash,
    claim_key: PublicKey,
    handle: Handle,
    pay_to: ContractAddress,
    message: Message,
    signature: Signature,
}

fn claim(v: Claim) -> Checked {
    same("handle", Handle::of(v.secret_hash, v.claim_key), v.handle)?;
    let ours = claim_message(v.chain_id, v.pool_contract, v.pool_id, v.handle, v.pay_to);
    same("message", ours, v.message)?;
    ensure(
        "the signature verifies",
        v.claim_key.verifies(ours, &v.signature),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NextHead {
    head: AnchorHead,
    root: Root,
    leaf_count: u64,
    next: AnchorHead,
}

fn next_head(v: NextHead) -> Checked {
    same("next", v.head.next(v.root, LeafCount(v.leaf_count)), v.next)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TreeVector {
    leaves: Vec<Leaf>,
    root: Root,
    index: u64,
    siblings: Vec<Sibling>,
}

fn tree(v: TreeVector) -> Checked {
    let ours = Tree::build(&v.leaves).map_err(|e| e.to_string())?;
    same("root", ours.root(), v.root)?;
    let theirs = Proof {
        index: v.index,
        siblings: v.siblings,
    };
    let at = usize::try_from(v.index).map_err(|e| e.to_string())?;
    let leaf = v
        .leaves
        .get(at)
        .copied()
        .ok_or("the index is outside of the leaves")?;
    ensure("the proof holds", theirs.includes(leaf, v.root))?;
    same("proof", ours.proof(v.index), Some(theirs))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BadSignature {
    why: String,
    message: Message,
    key: PublicKey,
    r: SignatureHalf,
    s: SignatureHalf,
}

fn bad_signature(v: BadSignature) -> Checked {
    let signature = Signature { r: v.r, s: v.s };
    ensure(&v.why, !v.key.verifies(v.message, &signature))
}
