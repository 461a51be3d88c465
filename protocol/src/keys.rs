//! The keys of a patient, and the sealed file from which a patient recovers; and how the keys of
//! any party are written before something seals them.
//!
//! A patient's keys and seed live in one file that is sealed by a passphrase: Argon2id (RFC 9106,
//! 64 MiB, 3 passes) makes the key, ChaCha20-Poly1305 seals. The recovery file is the same file,
//! kept elsewhere: with it alone every consent can be revoked.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::ids::{parse_base64, parse_bytes32, to_base64};
use crate::messages::Enrolment;
use crate::random::{random_bytes, random_felt, random_key};
use crate::seal::SealSecret;
use crate::secrets::Seed;
use crate::signature::SecretKey;

const SEALED_FORMAT: &str = "medsync/patient-keys/v1";
/// The largest file of keys, in bytes.
pub const KEY_FILE_BYTES_MAX: usize = 16 * 1024;
/// The shortest passphrase, in characters.
pub const PASSPHRASE_CHARS_MIN: usize = 12;
const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;

/// Why keys could not be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum KeysError {
    /// It is no file of keys.
    #[error("it is no key file of MedSync")]
    Malformed,
    /// The passphrase is too short to protect anything.
    #[error("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters")]
    ShortPassphrase,
    /// The passphrase does not open the file, or the file was changed.
    #[error("this passphrase does not open it, or it was changed")]
    Closed,
    /// The key derivation refused its parameters.
    #[error("the key derivation failed: {0}")]
    Derivation(String),
}

/// Keys as they are written, before something seals them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainKeys {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    keys: Vec<String>,
    seal: String,
}

impl Drop for PlainKeys {
    fn drop(&mut self) {
        self.seed.zeroize();
        self.keys.zeroize();
        self.seal.zeroize();
    }
}

impl PlainKeys {
    /// The keys of whoever has no seed, in their order.
    #[must_use]
    pub fn of(keys: &[&SecretKey], seal: &SealSecret) -> Self {
        Self {
            seed: None,
            keys: keys.iter().map(|key| key.reveal_text()).collect(),
            seal: format!("0x{}", hex::encode(seal.reveal())),
        }
    }

    /// The bytes to be sealed.
    ///
    /// # Errors
    /// None in fact: texts are JSON.
    pub fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, KeysError> {
        let json = serde_json::to_vec(self).map_err(|_| KeysError::Malformed)?;
        Ok(Zeroizing::new(json))
    }

    /// Reads such bytes. A parser's own error may quote a secret, so that it is not passed on.
    ///
    /// # Errors
    /// [`KeysError::Malformed`].
    pub fn parse(json: &[u8]) -> Result<Self, KeysError> {
        serde_json::from_slice(json).map_err(|_| KeysError::Malformed)
    }

    /// The keys of whoever has so many and no seed: those of another role would be taken for these
    /// in silence.
    ///
    /// # Errors
    /// [`KeysError::Malformed`].
    pub fn without_seed<const N: usize>(&self) -> Result<([SecretKey; N], SealSecret), KeysError> {
        match self.seed {
            None => self.all().ok_or(KeysError::Malformed),
            Some(_) => Err(KeysError::Malformed),
        }
    }

    fn all<const N: usize>(&self) -> Option<([SecretKey; N], SealSecret)> {
        let keys: Option<Vec<SecretKey>> = self.keys.iter().map(|text| key(text)).collect();
        let seal = parse_bytes32(&self.seal).ok().map(SealSecret::from_bytes)?;
        Some((keys?.try_into().ok()?, seal))
    }
}

fn key(text: &str) -> Option<SecretKey> {
    let felt = crate::felt::parse(text).ok()?;
    SecretKey::from_scalar(&felt.to_bytes_be()).ok()
}

/// All that a patient signs and opens with.
#[derive(Clone, Debug)]
pub struct PatientKeys {
    /// Every consent's secrets follow from it.
    pub seed: Seed,
    /// Signs grants, devices and key changes, nothing else.
    pub patient: SecretKey,
    /// Replaces `patient` when it is lost.
    pub recovery: SecretKey,
    /// Signs logins.
    pub login: SecretKey,
    /// Signs log entries.
    pub author: SecretKey,
    /// Opens records.
    pub seal: SealSecret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    format: String,
    kdf: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
    sealed: String,
}

impl PatientKeys {
    /// Fresh keys.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self {
            // Unwrap safety: a random felt is a felt.
            #[expect(clippy::unwrap_used)]
            seed: Seed::from_bytes(&random_felt(rng).to_bytes_be()).unwrap(),
            patient: random_key(rng),
            recovery: random_key(rng),
            login: random_key(rng),
            author: random_key(rng),
            seal: SealSecret::from_bytes(random_bytes(rng)),
        }
    }

    /// Seals the keys by a passphrase into the bytes of a file.
    ///
    /// # Errors
    /// A passphrase that is too short.
    pub fn seal(&self, passphrase: &str, rng: &mut impl CryptoRng) -> Result<Vec<u8>, KeysError> {
        if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
            return Err(KeysError::ShortPassphrase);
        }
        let keys = [&self.patient, &self.recovery, &self.login, &self.author];
        let mut plain = PlainKeys::of(&keys, &self.seal);
        plain.seed = Some(self.seed.reveal_text());
        let plain = plain.to_json()?;
        let salt = random_bytes(rng);
        let cipher = cipher(passphrase, &salt, ARGON2_MEMORY_KIB, ARGON2_PASSES)?;
        let message = Payload {
            msg: plain.as_slice(),
            aad: SEALED_FORMAT.as_bytes(),
        };
        // The salt, and so the key, is fresh for each file: a nonce of zero is used once.
        let sealed = cipher
            .encrypt(&Nonce::default(), message)
            .map_err(|_| KeysError::Derivation("the cipher refused".into()))?;
        let file = Sealed {
            format: SEALED_FORMAT.into(),
            kdf: "argon2id".into(),
            memory_kib: ARGON2_MEMORY_KIB,
            passes: ARGON2_PASSES,
            salt: to_base64(&salt),
            sealed: to_base64(&sealed),
        };
        serde_json::to_vec_pretty(&file).map_err(|_| KeysError::Malformed)
    }

    /// Opens the bytes of a sealed file.
    ///
    /// # Errors
    /// Bytes that are none of ours, and those that the passphrase does not open.
    pub fn open(bytes: &[u8], passphrase: &str) -> Result<Self, KeysError> {
        if bytes.len() > KEY_FILE_BYTES_MAX {
            return Err(KeysError::Malformed);
        }
        let file: Sealed = serde_json::from_slice(bytes).map_err(|_| KeysError::Malformed)?;
        // Parameters from a file are bounded, so that a hostile file cannot exhaust memory.
        let sound = file.format == SEALED_FORMAT
            && file.kdf == "argon2id"
            && file.memory_kib <= 4 * ARGON2_MEMORY_KIB
            && file.passes <= 4 * ARGON2_PASSES;
        let (Ok(salt), Ok(sealed), true) =
            (parse_base64(&file.salt), parse_base64(&file.sealed), sound)
        else {
            return Err(KeysError::Malformed);
        };
        let cipher = cipher(passphrase, &salt, file.memory_kib, file.passes)?;
        let message = Payload {
            msg: sealed.as_slice(),
            aad: SEALED_FORMAT.as_bytes(),
        };
        let plain = cipher
            .decrypt(&Nonce::default(), message)
            .map_err(|_| KeysError::Closed)?;
        let plain = PlainKeys::parse(&Zeroizing::new(plain))?;
        Self::read(&plain).ok_or(KeysError::Malformed)
    }

    /// Whether the patient who enrolled so is the one with these keys. The patient's own key may
    /// have changed since, and each of the patient's homes has a log of its own.
    #[must_use]
    pub fn are_of(&self, enrolment: &Enrolment) -> bool {
        enrolment.recovery_key == self.recovery.public_key()
            && enrolment.login_key == self.login.public_key()
            && enrolment.seal_key == self.seal.public_key()
    }

    fn read(plain: &PlainKeys) -> Option<Self> {
        let ([patient, recovery, login, author], seal) = plain.all()?;
        Some(Self {
            seed: Seed::parse(plain.seed.as_deref()?).ok()?,
            patient,
            recovery,
            login,
            author,
            seal,
        })
    }
}

fn cipher(
    passphrase: &str,
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
) -> Result<ChaCha20Poly1305, KeysError> {
    let failed = |error: argon2::Error| KeysError::Derivation(error.to_string());
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut())
        .map_err(failed)?;
    Ok(ChaCha20Poly1305::new(key.as_ref().into()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::ChaCha8Rng;

    use super::*;
    use crate::ids::{MemberId, SealKey};

    const PASSPHRASE: &str = "a long enough passphrase";

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(7)
    }

    #[test]
    fn sealed_keys_open_with_their_passphrase_alone() {
        let keys = PatientKeys::generate(&mut rng());
        assert_eq!(
            keys.seal("short", &mut rng()).err(),
            Some(KeysError::ShortPassphrase)
        );
        let sealed = keys.seal(PASSPHRASE, &mut rng()).expect("sealed");
        assert!(!String::from_utf8_lossy(&sealed).contains(&keys.seed.reveal_text()[2..]));
        let opened = PatientKeys::open(&sealed, PASSPHRASE).expect("the passphrase");
        assert_eq!((opened.seed, opened.patient), (keys.seed, keys.patient));
        for (bytes, passphrase, why) in [
            (&sealed[..], "another long passphrase", KeysError::Closed),
            (b"{}", PASSPHRASE, KeysError::Malformed),
            (
                &[b' '; KEY_FILE_BYTES_MAX + 1],
                PASSPHRASE,
                KeysError::Malformed,
            ),
        ] {
            assert_eq!(PatientKeys::open(bytes, passphrase).err(), Some(why));
        }
    }

    #[test]
    fn hostile_circle_of_another_patient_is_told_by_its_enrolment() {
        let keys = PatientKeys::generate(&mut rng());
        let own = Enrolment {
            member: MemberId([1; 32]),
            party_key: keys.patient.public_key(),
            recovery_key: keys.recovery.public_key(),
            login_key: keys.login.public_key(),
            author_key: keys.author.public_key(),
            seal_key: keys.seal.public_key(),
        };
        assert!(keys.are_of(&own));
        let second_home = PatientKeys {
            patient: random_key(&mut rng()),
            author: random_key(&mut rng()),
            ..keys.clone()
        };
        assert!(second_home.are_of(&own));
        let other = random_key(&mut rng()).public_key();
        for foreign in [
            Enrolment {
                recovery_key: other,
                ..own
            },
            Enrolment {
                login_key: other,
                ..own
            },
            Enrolment {
                seal_key: SealKey([9; 32]),
                ..own
            },
        ] {
            assert!(!keys.are_of(&foreign));
        }
    }
}
