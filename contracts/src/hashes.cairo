//! Every hash of protocol v1, by the names of its table.
//!
//! `H` is `poseidon_hash_span`. Each definition begins with a tag of its own, so that no digest
//! can stand for one of another kind. A 32-byte value is a `u256` and enters as two felts, high
//! half first. A change of any rule is a new tag.

use core::poseidon::poseidon_hash_span;
use crate::types::{Deployment, Opening, Signature};

/// The order of the Stark curve.
pub const CURVE_ORDER: u256 = 0x800000000000010ffffffffffffffffb781126dcae7b2321e66a241adc64d2f;

// Secrets of one consent.

/// The salt of a device's consent number `counter`; a counter whose grant message cannot be
/// signed is skipped by the patient.
pub fn consent_salt(seed: felt252, device: felt252, counter: felt252) -> felt252 {
    hash(array!['MEDSYNC_DERIVE_SALT_V1', seed, device, counter])
}

/// What the patient opens to revoke, derived so that the recovery file alone revokes everything.
pub fn consent_secret(seed: felt252, salt: felt252) -> felt252 {
    hash(array!['MEDSYNC_DERIVE_SECRET_V1', seed, salt])
}

/// The scalar that signs claims. Zero, which does not occur in practice, is no key.
pub fn claim_secret_key(seed: felt252, salt: felt252) -> Option<felt252> {
    let digest: u256 = hash(array!['MEDSYNC_DERIVE_CLAIM_V1', seed, salt]).into();
    let scalar: felt252 = (digest % CURVE_ORDER).try_into()?;
    if scalar == 0 {
        return Option::None;
    }
    Option::Some(scalar)
}

/// Lets a claimant show that it knows the handle's opening without giving the secret away.
pub fn secret_hash(secret: felt252) -> felt252 {
    hash(array!['MEDSYNC_SECRET_V1', secret])
}

/// The handle under which a consent is revoked.
pub fn revocation_handle(secret_hashed: felt252, claim_key: felt252) -> felt252 {
    hash(array!['MEDSYNC_REVOKE_V1', secret_hashed, claim_key])
}

// Consents.

/// The commitment `C` to a consent held by the custodian `anchorer`.
pub fn consent_commitment(terms_sha256: u256, anchorer: felt252, opening: Opening) -> felt252 {
    hash(
        array![
            'MEDSYNC_CONSENT_V1',
            terms_sha256.high.into(),
            terms_sha256.low.into(),
            anchorer,
            opening.patient_key,
            opening.grantee,
            opening.not_before.into(),
            opening.not_after.into(),
            opening.handle,
            opening.salt,
        ],
    )
}

/// The message `G` that the patient signs to grant.
pub fn grant_message(deployment: Deployment, commitment: felt252) -> felt252 {
    hash(array!['MEDSYNC_GRANT_V1', deployment.chain_id, deployment.registry, commitment])
}

/// The leaf `L` of a consent: what is anchored was signed already.
pub fn signed_leaf(commitment: felt252, signature: Signature) -> felt252 {
    hash(array!['MEDSYNC_SIGNED_V1', commitment, signature.r, signature.s])
}

// People and devices.

/// The keys that a party brings into a context.
#[derive(Copy, Drop)]
pub struct PartyKeys {
    /// The `patient_key`, or a recipient's `grantee`.
    pub party_key: felt252,
    pub recovery_key: felt252,
    pub login_key: felt252,
    pub author_key: felt252,
    /// The X25519 key to which record keys are sealed.
    pub seal_key: u256,
}

/// What the invitation's one-time key signs to bind a member to its keys.
pub fn enrol_message(context: u256, member: u256, keys: PartyKeys) -> felt252 {
    hash(
        array![
            'MEDSYNC_ENROL_V1',
            context.high.into(),
            context.low.into(),
            member.high.into(),
            member.low.into(),
            keys.party_key,
            keys.recovery_key,
            keys.login_key,
            keys.author_key,
            keys.seal_key.high.into(),
            keys.seal_key.low.into(),
        ],
    )
}

/// What the patient signs to add a device.
pub fn device_message(context: u256, member: u256, device: felt252) -> felt252 {
    hash(
        array![
            'MEDSYNC_DEVICE_V1',
            context.high.into(),
            context.low.into(),
            member.high.into(),
            member.low.into(),
            device,
        ],
    )
}

/// What the old key or the recovery key signs to put `new_key` in the place of `old_key`.
pub fn rotate_message(
    context: u256, old_key: felt252, new_key: felt252, seq: felt252,
) -> felt252 {
    hash(
        array![
            'MEDSYNC_ROTATE_V1',
            context.high.into(),
            context.low.into(),
            old_key,
            new_key,
            seq,
        ],
    )
}

/// What a login key signs for one origin.
pub fn login_message(origin_sha256: u256, nonce: felt252, expires: u64) -> felt252 {
    hash(
        array![
            'MEDSYNC_LOGIN_V1',
            origin_sha256.high.into(),
            origin_sha256.low.into(),
            nonce,
            expires.into(),
        ],
    )
}

// The audit log.

/// One entry of an author's log.
#[derive(Copy, Drop)]
pub struct AuditEntry {
    pub context: u256,
    pub author_key: felt252,
    pub seq: felt252,
    /// The author's previous digest, or 0 at the first entry.
    pub prev: felt252,
    /// A short string, such as 'RELEASED'.
    pub kind: felt252,
    pub subject_sha256: u256,
    pub at: u64,
    pub salt: felt252,
}

/// The digest `E` of a log entry, which its author signs.
pub fn audit_entry(entry: AuditEntry) -> felt252 {
    hash(
        array![
            'MEDSYNC_AUDIT_V1',
            entry.context.high.into(),
            entry.context.low.into(),
            entry.author_key,
            entry.seq,
            entry.prev,
            entry.kind,
            entry.subject_sha256.high.into(),
            entry.subject_sha256.low.into(),
            entry.at.into(),
            entry.salt,
        ],
    )
}

/// The leaf `A` that anchors the end of an author's log.
pub fn audit_head(
    context: u256, author_key: felt252, seq: felt252, digest: felt252, salt: felt252,
) -> felt252 {
    hash(
        array![
            'MEDSYNC_AUDIT_HEAD_V1',
            context.high.into(),
            context.low.into(),
            author_key,
            seq,
            digest,
            salt,
        ],
    )
}

// Rewards.

/// The id of a funder's pool number `nonce`.
pub fn pool_id(
    chain_id: felt252, pool_contract: felt252, funder: felt252, nonce: felt252,
) -> felt252 {
    hash(array!['MEDSYNC_POOL_V1', chain_id, pool_contract, funder, nonce])
}

/// The leaf `T` that entitles a handle to one reward.
pub fn ticket_leaf(
    pool_id: felt252, anchorer: felt252, handle: felt252, claim_until: u64, salt: felt252,
) -> felt252 {
    hash(array!['MEDSYNC_TICKET_V1', pool_id, anchorer, handle, claim_until.into(), salt])
}

/// The message `M` that the claim key signs to say where a reward goes.
pub fn claim_message(
    chain_id: felt252,
    pool_contract: felt252,
    pool_id: felt252,
    handle: felt252,
    pay_to: felt252,
) -> felt252 {
    hash(array!['MEDSYNC_CLAIM_V1', chain_id, pool_contract, pool_id, handle, pay_to])
}

// Anchoring.

/// The head after a batch. An anchorer's first head is 0.
pub fn next_head(head: felt252, root: felt252, leaf_count: u64) -> felt252 {
    hash(array!['MEDSYNC_HEAD_V1', head, root, leaf_count.into()])
}

fn hash(elements: Array<felt252>) -> felt252 {
    poseidon_hash_span(elements.span())
}
