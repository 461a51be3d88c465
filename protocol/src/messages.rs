//! What people and their devices sign besides grants.

use serde::{Deserialize, Serialize};

use crate::felt::{Felt, felt_newtype};
use crate::hash::{Tag, tagged};
use crate::ids::{ContextId, MemberId, SealKey, Sha256Digest, UnixSeconds};
use crate::secrets::DeviceNumber;
use crate::signature::{Message, PublicKey, Signature};

const ENROL: Tag = Tag::new("MEDSYNC_ENROL_V1");
const DEVICE: Tag = Tag::new("MEDSYNC_DEVICE_V1");
const ROTATE: Tag = Tag::new("MEDSYNC_ROTATE_V1");
const LOGIN: Tag = Tag::new("MEDSYNC_LOGIN_V1");

felt_newtype! {
    /// A server's challenge.
    LoginNonce
}

/// The keys that a party brings into a context: a patient into a circle, a recipient into an
/// exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The member key of the party's node.
    pub member: MemberId,
    /// `patient_key` or `grantee`.
    pub party_key: PublicKey,
    /// Signs key changes when `party_key` is lost.
    pub recovery_key: PublicKey,
    /// Signs logins.
    pub login_key: PublicKey,
    /// Signs log entries.
    pub author_key: PublicKey,
    /// Records are sealed to it.
    pub seal_key: SealKey,
}

impl Enrolment {
    /// What the invitation's one-time key signs.
    #[must_use]
    pub fn message(&self, context: ContextId) -> Message {
        let keys = [
            self.party_key.felt(),
            self.recovery_key.felt(),
            self.login_key.felt(),
            self.author_key.felt(),
        ];
        Message::from_felt(tagged(
            ENROL,
            &[
                &context.halves(),
                &self.member.halves(),
                &keys,
                &self.seal_key.halves(),
            ],
        ))
    }

    /// Whether the invitation's key signed this enrolment into this context.
    #[must_use]
    pub fn is_signed(&self, context: ContextId, invited: PublicKey, signature: &Signature) -> bool {
        invited.verifies(self.message(context), signature)
    }
}

/// What `patient_key` signs to admit another device.
#[must_use]
pub fn device_message(context: ContextId, member: MemberId, device: DeviceNumber) -> Message {
    Message::from_felt(tagged(
        DEVICE,
        &[&context.halves(), &member.halves(), &[Felt::from(device.0)]],
    ))
}

/// What the old or the recovery key signs to replace a key; `seq` counts the changes.
#[must_use]
pub fn rotate_message(
    context: ContextId,
    old_key: PublicKey,
    new_key: PublicKey,
    seq: RotationNumber,
) -> Message {
    let parts = [old_key.felt(), new_key.felt(), Felt::from(seq.0)];
    Message::from_felt(tagged(ROTATE, &[&context.halves(), &parts]))
}

/// The number of a key change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RotationNumber(pub u64);

/// What a login key signs; `origin` is the SHA-256 of the ASCII origin.
#[must_use]
pub fn login_message(origin: Sha256Digest, nonce: LoginNonce, expires: UnixSeconds) -> Message {
    Message::from_felt(tagged(
        LOGIN,
        &[&origin.halves(), &[nonce.felt(), expires.felt()]],
    ))
}
