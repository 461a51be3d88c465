//! The secrets of one consent, all derived from the patient's seed.
//!
//! From the seed alone (it is in the recovery file) every consent can be found again by its salt
//! and revoked. A handle can be opened only by whoever knows the secret behind it.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use starknet_types_core::felt::NonZeroFelt;

use crate::felt::{Felt, felt_newtype, secret_newtype};
use crate::hash::{Tag, tagged};
use crate::ids::Salt;
use crate::signature::{ORDER, PublicKey, SecretKey};

const DERIVE_SALT: Tag = Tag::new("MEDSYNC_DERIVE_SALT_V1");
const DERIVE_SECRET: Tag = Tag::new("MEDSYNC_DERIVE_SECRET_V1");
const DERIVE_CLAIM: Tag = Tag::new("MEDSYNC_DERIVE_CLAIM_V1");
const SECRET: Tag = Tag::new("MEDSYNC_SECRET_V1");
const REVOKE: Tag = Tag::new("MEDSYNC_REVOKE_V1");

secret_newtype! {
    /// A uniform random felt of the patient, from which every consent's secrets follow.
    Seed
}
secret_newtype! {
    /// What opens a consent's handle, and so revokes it.
    RevocationSecret
}
felt_newtype! {
    /// The hash of a revocation secret, which a claim shows in its place.
    SecretHash
}
felt_newtype! {
    /// What stands for a consent on chain: revoked by opening it, claimed once by showing it.
    Handle
}

/// The number of a patient's device; each counts its own consents.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct DeviceNumber(pub u32);

/// How many consents a device has made (skipped values included).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter(pub u64);

/// The secrets of one consent.
#[derive(Clone, Debug)]
pub struct ConsentSecrets {
    /// The commitment's salt; public to whoever holds the receipt.
    pub salt: Salt,
    /// Opens the handle.
    pub secret: RevocationSecret,
    /// Signs the claim of a reward.
    pub claim_key: SecretKey,
}

impl ConsentSecrets {
    /// The secrets of a device's consent number `counter`.
    #[must_use]
    pub fn derive(seed: &Seed, device: DeviceNumber, counter: Counter) -> Self {
        let place = [Felt::from(device.0), Felt::from(counter.0)];
        Self::from_salt(
            seed,
            Salt::from_felt(tagged(DERIVE_SALT, &[&[seed.reveal()], &place])),
        )
    }

    /// The secrets of the consent that has this salt, as recovery finds them.
    #[must_use]
    pub fn from_salt(seed: &Seed, salt: Salt) -> Self {
        let parts = [seed.reveal(), salt.felt()];
        let secret = tagged(DERIVE_SECRET, &[&parts]);
        let claim =
            tagged(DERIVE_CLAIM, &[&parts]).mod_floor(&NonZeroFelt::from_felt_unchecked(ORDER));
        Self {
            salt,
            secret: RevocationSecret(secret.to_bytes_be()),
            // Zero has odds of 2^-251; such a claim key would sign nothing and harm nobody.
            claim_key: SecretKey(claim.to_bytes_be()),
        }
    }

    /// The handle that these secrets open.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::of(self.secret.hash(), self.claim_key.public_key())
    }
}

impl RevocationSecret {
    /// The hash under which the secret enters its handle.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        SecretHash::from_felt(tagged(SECRET, &[&[self.reveal()]]))
    }
}

impl Handle {
    /// The handle of a hashed secret and a claim key.
    #[must_use]
    pub fn of(secret: SecretHash, claim_key: PublicKey) -> Self {
        Self::from_felt(tagged(REVOKE, &[&[secret.felt(), claim_key.felt()]]))
    }
}
