//! A consent: its opening, its commitment, the signature that makes it one, and its leaf.

use serde::{Deserialize, Serialize};

use crate::felt::{Felt, felt_newtype};
use crate::hash::{Tag, tagged};
use crate::ids::{Anchorer, ChainId, ContractAddress, Salt, Sha256Digest, UnixSeconds};
use crate::secrets::{ConsentSecrets, Counter, DeviceNumber, Handle, Seed};
use crate::signature::{Message, PublicKey, SecretKey, Signature};
use crate::tree::Leaf;

const CONSENT: Tag = Tag::new("MEDSYNC_CONSENT_V1");
const GRANT: Tag = Tag::new("MEDSYNC_GRANT_V1");
const SIGNED: Tag = Tag::new("MEDSYNC_SIGNED_V1");

felt_newtype! {
    /// What a consent is called: the salted commitment to everything that it says.
    Commitment
}

/// Where a consent is anchored: signatures are bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// The chain.
    pub chain_id: ChainId,
    /// The `ConsentRegistry` on it.
    pub registry: ContractAddress,
}

/// What the commitment hides besides terms and anchorer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The key of the patient who signs.
    pub patient_key: PublicKey,
    /// The recipient's key; never zero.
    pub grantee: PublicKey,
    /// The first second of validity.
    pub not_before: UnixSeconds,
    /// The first second that is no longer valid; 0 is open-ended.
    pub not_after: UnixSeconds,
    /// Opened by the revocation.
    pub handle: Handle,
    /// Makes the commitment tell nothing.
    pub salt: Salt,
}

/// Why an opening cannot be a consent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum OpeningError {
    /// There is no recipient.
    #[error("the grantee is the recipient's Stark public key, never 0")]
    NoGrantee,
    /// The validity ends before it starts.
    #[error("not_after is 0 or later than not_before")]
    NeverValid,
}

impl Opening {
    /// Whether this can be a consent's opening at all.
    ///
    /// # Errors
    /// See [`OpeningError`].
    pub fn check(&self) -> Result<(), OpeningError> {
        if self.grantee.is_zero() {
            return Err(OpeningError::NoGrantee);
        }
        if self.not_after != UnixSeconds(0) && self.not_after <= self.not_before {
            return Err(OpeningError::NeverValid);
        }
        Ok(())
    }

    /// Whether the validity has begun and not ended at `at`.
    #[must_use]
    pub fn is_current(&self, at: UnixSeconds) -> bool {
        !self.is_early(at) && !self.is_over(at)
    }

    /// Whether its first second is yet to come.
    #[must_use]
    pub fn is_early(&self, at: UnixSeconds) -> bool {
        at < self.not_before
    }

    /// Whether its last second has passed.
    #[must_use]
    pub fn is_over(&self, at: UnixSeconds) -> bool {
        self.not_after != UnixSeconds(0) && at >= self.not_after
    }
}

impl Commitment {
    /// The commitment to terms, anchorer and opening.
    #[must_use]
    pub fn of(terms: Sha256Digest, anchorer: Anchorer, opening: &Opening) -> Self {
        let rest = [
            anchorer.felt(),
            opening.patient_key.felt(),
            opening.grantee.felt(),
            opening.not_before.felt(),
            opening.not_after.felt(),
            opening.handle.felt(),
            opening.salt.felt(),
        ];
        Self::from_felt(tagged(CONSENT, &[&terms.halves(), &rest]))
    }

    /// What the patient signs to grant this consent.
    #[must_use]
    pub fn grant_message(self, registry: Registry) -> Message {
        let parts: [Felt; 3] = [
            registry.chain_id.felt(),
            registry.registry.felt(),
            self.felt(),
        ];
        Message::from_felt(tagged(GRANT, &[&parts]))
    }

    /// The leaf by which the signed consent is anchored.
    #[must_use]
    pub fn leaf(self, signature: &Signature) -> Leaf {
        let parts = [self.felt(), signature.r.felt(), signature.s.felt()];
        Leaf::from_felt(tagged(SIGNED, &[&parts]))
    }
}

/// What a patient decides when granting; the secrets follow from seed, device and counter.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// SHA-256 of the terms' encoding.
    pub terms: Sha256Digest,
    /// The custodian's address, as in the terms.
    pub anchorer: Anchorer,
    /// The recipient.
    pub grantee: PublicKey,
    /// The first second of validity.
    pub not_before: UnixSeconds,
    /// The first second that is no longer valid; 0 is open-ended.
    pub not_after: UnixSeconds,
}

/// A consent as its patient signed it.
#[derive(Clone, Debug)]
pub struct SignedGrant {
    /// What the commitment hides.
    pub opening: Opening,
    /// The consent.
    pub commitment: Commitment,
    /// The patient's signature over the grant message.
    pub signature: Signature,
    /// What revokes and claims it.
    pub secrets: ConsentSecrets,
    /// The counter after the one that was used.
    pub next: Counter,
}

impl Grant {
    /// Signs the grant with the first counter, from `counter` on, whose message can be signed.
    ///
    /// # Errors
    /// See [`OpeningError`].
    pub fn sign(
        &self,
        registry: Registry,
        patient: &SecretKey,
        seed: &Seed,
        device: DeviceNumber,
        counter: Counter,
    ) -> Result<SignedGrant, OpeningError> {
        let mut next = counter;
        loop {
            let secrets = ConsentSecrets::derive(seed, device, next);
            let opening = Opening {
                patient_key: patient.public_key(),
                grantee: self.grantee,
                not_before: self.not_before,
                not_after: self.not_after,
                handle: secrets.handle(),
                salt: secrets.salt,
            };
            opening.check()?;
            let commitment = Commitment::of(self.terms, self.anchorer, &opening);
            next = Counter(next.0 + 1);
            if let Ok(signature) = patient.sign(commitment.grant_message(registry)) {
                return Ok(SignedGrant {
                    opening,
                    commitment,
                    signature,
                    secrets,
                    next,
                });
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn registry() -> Registry {
        Registry {
            chain_id: ChainId::named("SN_SEPOLIA").expect("a short string"),
            registry: ContractAddress::from_felt(Felt::from(77)),
        }
    }

    pub(crate) fn patient() -> SecretKey {
        SecretKey::from_scalar(&[3; 32]).expect("a scalar below the order")
    }

    pub(crate) fn grant(terms: Sha256Digest, anchorer: Anchorer) -> SignedGrant {
        let grant = Grant {
            terms,
            anchorer,
            grantee: SecretKey::from_scalar(&[4; 32])
                .expect("a scalar")
                .public_key(),
            not_before: UnixSeconds(1_000),
            not_after: UnixSeconds(2_000),
        };
        let seed = Seed::from_bytes(&[5; 32]).expect("a felt");
        grant
            .sign(registry(), &patient(), &seed, DeviceNumber(0), Counter(0))
            .expect("the opening is sound")
    }

    #[test]
    fn a_grant_is_signed_by_the_patient_over_this_registry_alone() {
        let granted = grant(Sha256Digest([1; 32]), Anchorer::from_felt(Felt::from(9)));
        let key = granted.opening.patient_key;
        let message = granted.commitment.grant_message(registry());
        assert!(key.verifies(message, &granted.signature));
        let mut other = registry();
        other.registry = ContractAddress::from_felt(Felt::from(78));
        assert!(!key.verifies(granted.commitment.grant_message(other), &granted.signature));
        assert_eq!(granted.next, Counter(1));
    }

    #[test]
    fn an_opening_without_meaning_is_refused() {
        let mut opening = grant(Sha256Digest([1; 32]), Anchorer::from_felt(Felt::ONE)).opening;
        assert_eq!(opening.check(), Ok(()));
        opening.not_after = opening.not_before;
        assert_eq!(opening.check(), Err(OpeningError::NeverValid));
        opening.not_after = UnixSeconds(0);
        assert_eq!(opening.check(), Ok(()));
        opening.grantee = PublicKey::from_felt(Felt::ZERO);
        assert_eq!(opening.check(), Err(OpeningError::NoGrantee));
    }

    #[test]
    fn validity_is_half_open() {
        let opening = grant(Sha256Digest([1; 32]), Anchorer::from_felt(Felt::ONE)).opening;
        let current = |at| opening.is_current(UnixSeconds(at));
        assert_eq!(
            [999, 1_000, 1_999, 2_000].map(current),
            [false, true, true, false]
        );
    }
}
