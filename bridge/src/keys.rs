//! The keys of each party, and the sealed file from which a patient recovers.
//!
//! A patient's keys and seed live in one file that is sealed by a passphrase: Argon2id (RFC 9106,
//! 64 MiB, 3 passes) makes the key, ChaCha20-Poly1305 seals. The recovery file is the same file,
//! kept elsewhere: with it alone every consent can be revoked. The keys of a custodian, of a
//! researcher and of accounts are sealed by the home's secret, so that a daemon opens them alone.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use medsync_protocol::ids::{parse_base64, to_base64};
use medsync_protocol::messages::Enrolment;
use medsync_protocol::seal::SealSecret;
use medsync_protocol::secrets::Seed;
use medsync_protocol::signature::SecretKey;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::at_rest::{AtRestError, HomeSecret, Place};
use crate::files::{self, FileError};
use crate::seams::{random_bytes, random_felt, random_key};

const SEALED_FORMAT: &str = "medsync/patient-keys/v1";
const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;
/// The shortest passphrase, in characters.
pub const PASSPHRASE_CHARS_MIN: usize = 12;
const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;

/// Why keys could not be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The home's secret does not open the file, or is not there.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// The file is no key file.
    #[error("{0} is no key file of MedSync")]
    Malformed(String),
    /// The passphrase is too short to protect anything.
    #[error("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters")]
    ShortPassphrase,
    /// The passphrase does not open the file, or the file was changed.
    #[error("this passphrase does not open {0}, or the file was changed")]
    Closed(String),
    /// The key derivation refused its parameters.
    #[error("the key derivation failed: {0}")]
    Derivation(String),
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

/// A custodian's keys.
#[derive(Clone, Debug)]
pub struct CustodianKeys {
    /// Signs log entries.
    pub author: SecretKey,
    /// Opens what is sealed to the custodian.
    pub seal: SealSecret,
}

/// A researcher's keys.
#[derive(Clone, Debug)]
pub struct ResearcherKeys {
    /// Its public half is the `grantee` of consents.
    pub recipient: SecretKey,
    /// Replaces `recipient` when it is lost.
    pub recovery: SecretKey,
    /// Signs logins.
    pub login: SecretKey,
    /// Signs log entries.
    pub author: SecretKey,
    /// What is sealed to the recipient besides releases, which have keys of their own.
    pub seal: SealSecret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    keys: Vec<String>,
    seal: String,
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.seed.zeroize();
        self.keys.zeroize();
        self.seal.zeroize();
    }
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

fn seal_text(secret: &SealSecret) -> String {
    format!("0x{}", hex::encode(secret.reveal()))
}

impl Plain {
    fn key(&self, at: usize) -> Option<SecretKey> {
        let felt = medsync_protocol::felt::parse(self.keys.get(at)?).ok()?;
        SecretKey::from_scalar(&felt.to_bytes_be()).ok()
    }

    fn seal(&self) -> Option<SealSecret> {
        medsync_protocol::ids::parse_bytes32(&self.seal)
            .ok()
            .map(SealSecret::from_bytes)
    }
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
    pub fn seal(&self, passphrase: &str, rng: &mut impl CryptoRng) -> Result<Vec<u8>, KeyError> {
        if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
            return Err(KeyError::ShortPassphrase);
        }
        let plain = Plain {
            seed: Some(self.seed.reveal_text()),
            keys: [&self.patient, &self.recovery, &self.login, &self.author]
                .map(SecretKey::reveal_text)
                .to_vec(),
            seal: seal_text(&self.seal),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&plain).map_err(malformed("the keys"))?);
        let salt = random_bytes(rng);
        let cipher = cipher(passphrase, &salt, ARGON2_MEMORY_KIB, ARGON2_PASSES)?;
        let message = Payload {
            msg: plain.as_slice(),
            aad: SEALED_FORMAT.as_bytes(),
        };
        // The salt, and so the key, is fresh for each file: a nonce of zero is used once.
        let sealed = cipher
            .encrypt(&Nonce::default(), message)
            .map_err(|_| KeyError::Derivation("the cipher refused".into()))?;
        let file = Sealed {
            format: SEALED_FORMAT.into(),
            kdf: "argon2id".into(),
            memory_kib: ARGON2_MEMORY_KIB,
            passes: ARGON2_PASSES,
            salt: to_base64(&salt),
            sealed: to_base64(&sealed),
        };
        serde_json::to_vec_pretty(&file).map_err(malformed("the keys"))
    }

    /// Opens a sealed file.
    ///
    /// # Errors
    /// A file that is none of ours, and one that the passphrase does not open.
    pub fn open(path: &Path, passphrase: &str) -> Result<Self, KeyError> {
        let bytes = files::read_bounded(path, KEY_FILE_BYTES_MAX)?;
        Self::open_bytes(&path.display().to_string(), &bytes, passphrase)
    }

    /// Opens the bytes of a sealed file; errors call it by `name`.
    ///
    /// # Errors
    /// As [`PatientKeys::open`].
    pub fn open_bytes(name: &str, bytes: &[u8], passphrase: &str) -> Result<Self, KeyError> {
        let name = name.to_owned();
        let file: Sealed = serde_json::from_slice(bytes).map_err(malformed(&name))?;
        // Parameters from a file are bounded, so that a hostile file cannot exhaust memory.
        let sound = file.format == SEALED_FORMAT
            && file.kdf == "argon2id"
            && file.memory_kib <= 4 * ARGON2_MEMORY_KIB
            && file.passes <= 4 * ARGON2_PASSES;
        let (Ok(salt), Ok(sealed), true) =
            (parse_base64(&file.salt), parse_base64(&file.sealed), sound)
        else {
            return Err(KeyError::Malformed(name));
        };
        let cipher = cipher(passphrase, &salt, file.memory_kib, file.passes)?;
        let message = Payload {
            msg: sealed.as_slice(),
            aad: SEALED_FORMAT.as_bytes(),
        };
        let plain = cipher
            .decrypt(&Nonce::default(), message)
            .map_err(|_| KeyError::Closed(name.clone()))?;
        let plain = Zeroizing::new(plain);
        let plain: Plain = serde_json::from_slice(&plain).map_err(malformed(&name))?;
        Self::read(&plain).ok_or(KeyError::Malformed(name))
    }

    /// Whether the patient who enrolled so is the one with these keys. The patient's own key may
    /// have changed since, and each of the patient's homes has a log of its own.
    #[must_use]
    pub fn are_of(&self, enrolment: &Enrolment) -> bool {
        enrolment.recovery_key == self.recovery.public_key()
            && enrolment.login_key == self.login.public_key()
            && enrolment.seal_key == self.seal.public_key()
    }

    fn read(plain: &Plain) -> Option<Self> {
        Some(Self {
            seed: Seed::parse(plain.seed.as_deref()?).ok()?,
            patient: plain.key(0)?,
            recovery: plain.key(1)?,
            login: plain.key(2)?,
            author: plain.key(3)?,
            seal: plain.seal()?,
        })
    }
}

impl CustodianKeys {
    /// Makes keys and writes them to a new file.
    ///
    /// # Errors
    /// A file that is there already, or that cannot be written.
    pub fn create(
        path: &Path,
        secret: &HomeSecret,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, KeyError> {
        let keys = Self {
            author: random_key(rng),
            seal: SealSecret::from_bytes(random_bytes(rng)),
        };
        write(path, secret, &[&keys.author], &keys.seal)?;
        Ok(keys)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// A file that is none of ours, that others may read, or that the secret does not open.
    pub fn read(path: &Path, secret: &HomeSecret) -> Result<Self, KeyError> {
        let bytes = read_sealed(path, secret)?;
        Self::parse(&path.display().to_string(), &bytes)
    }

    /// Reads what a key file holds; errors call it by `name`.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, KeyError> {
        let ([author], seal) = parse_plain(name, bytes)?;
        Ok(Self { author, seal })
    }
}

impl ResearcherKeys {
    /// Makes keys and writes them to a new file.
    ///
    /// # Errors
    /// A file that is there already, or that cannot be written.
    pub fn create(
        path: &Path,
        secret: &HomeSecret,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, KeyError> {
        let keys = Self {
            recipient: random_key(rng),
            recovery: random_key(rng),
            login: random_key(rng),
            author: random_key(rng),
            seal: SealSecret::from_bytes(random_bytes(rng)),
        };
        let all = [&keys.recipient, &keys.recovery, &keys.login, &keys.author];
        write(path, secret, &all, &keys.seal)?;
        Ok(keys)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// As [`CustodianKeys::read`].
    pub fn read(path: &Path, secret: &HomeSecret) -> Result<Self, KeyError> {
        let bytes = read_sealed(path, secret)?;
        Self::parse(&path.display().to_string(), &bytes)
    }

    /// Reads what a key file holds; errors call it by `name`.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, KeyError> {
        let ([recipient, recovery, login, author], seal) = parse_plain(name, bytes)?;
        Ok(Self {
            recipient,
            recovery,
            login,
            author,
            seal,
        })
    }
}

/// Keys that `read` finds, or that `create` makes where there are none: an interrupted set-up goes
/// on with the keys that it made.
///
/// # Errors
/// A file that is none of ours, or that cannot be read or written.
pub fn read_or_create<T>(
    path: &Path,
    read: impl FnOnce(&Path) -> Result<T, KeyError>,
    create: impl FnOnce(&Path) -> Result<T, KeyError>,
) -> Result<T, KeyError> {
    if path.exists() {
        read(path)
    } else {
        create(path)
    }
}

/// Keys are bound to their file's name: one does not take another's place.
fn place(path: &Path) -> Place<'_> {
    let name = path.file_name().and_then(|name| name.to_str());
    Place {
        what: "a key file",
        of: name.unwrap_or_default(),
    }
}

/// Seals a secret of the home into a new file.
///
/// # Errors
/// A file that is there already, or that cannot be written.
pub fn write_sealed(path: &Path, secret: &HomeSecret, value: &[u8]) -> Result<(), KeyError> {
    let sealed = secret.seal(place(path), value)?;
    Ok(files::write_new_secret(path, sealed.as_bytes())?)
}

/// Opens what [`write_sealed`] wrote.
///
/// # Errors
/// A file that others may read, or that the secret does not open.
pub fn read_sealed(path: &Path, secret: &HomeSecret) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let sealed = files::read_secret(path, KEY_FILE_BYTES_MAX)?;
    let opened = secret.open(place(path), &String::from_utf8_lossy(&sealed))?;
    Ok(opened)
}

fn write(
    path: &Path,
    secret: &HomeSecret,
    keys: &[&SecretKey],
    seal: &SealSecret,
) -> Result<(), KeyError> {
    let plain = Plain {
        seed: None,
        keys: keys.iter().map(|key| key.reveal_text()).collect(),
        seal: seal_text(seal),
    };
    let bytes = Zeroizing::new(serde_json::to_vec(&plain).map_err(malformed("the keys"))?);
    write_sealed(path, secret, &bytes)
}

fn parse_plain<const N: usize>(
    name: &str,
    bytes: &[u8],
) -> Result<([SecretKey; N], SealSecret), KeyError> {
    let plain: Plain = serde_json::from_slice(bytes).map_err(malformed(name))?;
    // Keys of another role would be taken for these in silence.
    if plain.keys.len() != N || plain.seed.is_some() {
        return Err(KeyError::Malformed(name.to_owned()));
    }
    let keys: Option<Vec<SecretKey>> = (0..N).map(|at| plain.key(at)).collect();
    keys.and_then(|keys| keys.try_into().ok())
        .zip(plain.seal())
        .ok_or_else(|| KeyError::Malformed(name.to_owned()))
}

/// A parser's own error may quote a secret, so that it is not passed on.
fn malformed(name: &str) -> impl FnOnce(serde_json::Error) -> KeyError + '_ {
    move |_| KeyError::Malformed(name.to_owned())
}

fn cipher(
    passphrase: &str,
    salt: &[u8],
    memory_kib: u32,
    passes: u32,
) -> Result<ChaCha20Poly1305, KeyError> {
    let failed = |error: argon2::Error| KeyError::Derivation(error.to_string());
    let params = Params::new(memory_kib, passes, 1, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut())
        .map_err(failed)?;
    Ok(ChaCha20Poly1305::new(key.as_ref().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::system_random;
    use medsync_protocol::ids::{MemberId, SealKey};

    const PASSPHRASE: &str = "a long enough passphrase";

    #[test]
    fn sealed_keys_open_with_their_passphrase_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recovery");
        let keys = PatientKeys::generate(&mut system_random());
        assert!(matches!(
            keys.seal("short", &mut system_random()),
            Err(KeyError::ShortPassphrase)
        ));
        let sealed = keys.seal(PASSPHRASE, &mut system_random()).expect("sealed");
        assert!(!String::from_utf8_lossy(&sealed).contains(&keys.seed.reveal_text()[2..]));
        files::write_whole(&path, &sealed, true).expect("written");
        let opened = PatientKeys::open(&path, PASSPHRASE).expect("the passphrase");
        assert_eq!((opened.seed, opened.patient), (keys.seed, keys.patient));
        let wrong = PatientKeys::open(&path, "another long passphrase");
        assert!(matches!(wrong, Err(KeyError::Closed(_))));
        files::write_whole(&path, b"{}", true).expect("written");
        assert!(matches!(
            PatientKeys::open(&path, PASSPHRASE),
            Err(KeyError::Malformed(_))
        ));
    }

    #[test]
    fn hostile_circle_of_another_patient_is_told_by_its_enrolment() {
        let keys = PatientKeys::generate(&mut system_random());
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
            patient: random_key(&mut system_random()),
            author: random_key(&mut system_random()),
            ..keys.clone()
        };
        assert!(second_home.are_of(&own));
        let other = random_key(&mut system_random()).public_key();
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

    #[test]
    fn keys_open_with_the_homes_secret_alone_and_are_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let secret = HomeSecret::from_bytes(&[1; 32]);
        let random = &mut system_random();
        let keys = CustodianKeys::create(&path, &secret, random).expect("new keys");
        let read = CustodianKeys::read(&path, &secret).expect("the keys");
        assert_eq!(read.author, keys.author);
        assert!(CustodianKeys::create(&path, &secret, random).is_err());
        assert!(!format!("{keys:?}").contains("0x"));
        let sealed = std::fs::read_to_string(&path).expect("a text");
        assert!(!sealed.contains(&keys.author.reveal_text()[2..]));
        let other = HomeSecret::from_bytes(&[2; 32]);
        assert!(CustodianKeys::read(&path, &other).is_err());
        // Nor under another name.
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).expect("moved");
        assert!(CustodianKeys::read(&moved, &secret).is_err());
    }

    #[test]
    fn keys_of_another_role_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let (custodians, researchers) = (folder.path().join("c"), folder.path().join("r"));
        let secret = HomeSecret::from_bytes(&[1; 32]);
        let random = &mut system_random();
        CustodianKeys::create(&custodians, &secret, random).expect("new keys");
        ResearcherKeys::create(&researchers, &secret, random).expect("new keys");
        ResearcherKeys::read(&researchers, &secret).expect("the researcher's own");
        assert!(matches!(
            CustodianKeys::read(&researchers, &secret),
            Err(KeyError::Malformed(_))
        ));
        assert!(matches!(
            ResearcherKeys::read(&custodians, &secret),
            Err(KeyError::Malformed(_))
        ));
    }
}
