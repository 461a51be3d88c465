//! The keys of each party, in files. A patient's are sealed by a passphrase
//! ([`medsync_protocol::keys`]); those of a custodian, of a researcher and of accounts by the
//! home's secret, so that a daemon opens them alone.

use std::path::Path;

use medsync_protocol::keys::{KEY_FILE_BYTES_MAX, KeysError, PatientKeys, PlainKeys};
use medsync_protocol::seal::SealSecret;
use medsync_protocol::signature::SecretKey;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::at_rest::{AtRestError, HomeSecret, Place};
use crate::files::{self, FileError};
use crate::seams::{random_bytes, random_key};

/// Why keys could not be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The home's secret does not open the file, or is not there.
    #[error(transparent)]
    AtRest(#[from] AtRestError),
    /// The file holds no such keys, or does not open.
    #[error("{name}: {error}")]
    Keys {
        /// The file.
        name: String,
        /// Why.
        error: KeysError,
    },
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

/// Opens the sealed file of a patient's keys.
///
/// # Errors
/// A file that is none of ours, and one that the passphrase does not open.
pub fn open_patient_keys(path: &Path, passphrase: &str) -> Result<PatientKeys, KeyError> {
    let bytes = files::read_bounded(path, KEY_FILE_BYTES_MAX as u64)?;
    let name = path.display().to_string();
    PatientKeys::open(&bytes, passphrase).map_err(named(&name))
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
    /// [`KeyError::Keys`].
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
    /// [`KeyError::Keys`].
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
    let sealed = files::read_secret(path, KEY_FILE_BYTES_MAX as u64)?;
    let opened = secret.open(place(path), &String::from_utf8_lossy(&sealed))?;
    Ok(opened)
}

fn write(
    path: &Path,
    secret: &HomeSecret,
    keys: &[&SecretKey],
    seal: &SealSecret,
) -> Result<(), KeyError> {
    let plain = PlainKeys::of(keys, seal).to_json();
    let plain = plain.map_err(named(&path.display().to_string()))?;
    write_sealed(path, secret, &plain)
}

fn parse_plain<const N: usize>(
    name: &str,
    bytes: &[u8],
) -> Result<([SecretKey; N], SealSecret), KeyError> {
    let plain = PlainKeys::parse(bytes);
    let keys = plain.and_then(|plain| plain.without_seed());
    keys.map_err(named(name))
}

fn named(name: &str) -> impl FnOnce(KeysError) -> KeyError + '_ {
    move |error| KeyError::Keys {
        name: name.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::system_random;

    const PASSPHRASE: &str = "a long enough passphrase";

    #[test]
    fn a_patients_file_opens_with_its_passphrase_and_errors_name_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recovery");
        let keys = PatientKeys::generate(&mut system_random());
        let sealed = keys.seal(PASSPHRASE, &mut system_random()).expect("sealed");
        files::write_whole(&path, &sealed, true).expect("written");
        let opened = open_patient_keys(&path, PASSPHRASE).expect("the passphrase");
        assert_eq!((opened.seed, opened.patient), (keys.seed, keys.patient));
        for (bytes, why) in [
            (&sealed[..], KeysError::Closed),
            (b"{}", KeysError::Malformed),
        ] {
            files::write_whole(&path, bytes, true).expect("written");
            let wrong = open_patient_keys(&path, "another long passphrase");
            let error = wrong.expect_err("it does not open");
            assert!(error.to_string().contains("recovery"), "{error}");
            assert!(matches!(error, KeyError::Keys { error, .. } if error == why));
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
            Err(KeyError::Keys {
                error: KeysError::Malformed,
                ..
            })
        ));
        assert!(matches!(
            ResearcherKeys::read(&custodians, &secret),
            Err(KeyError::Keys {
                error: KeysError::Malformed,
                ..
            })
        ));
    }
}
