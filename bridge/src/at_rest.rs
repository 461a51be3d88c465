//! What lies in a home is sealed: private columns of the store, and key files.
//!
//! A home has a secret of 32 random bytes in a file outside of it, so that a home or a backup that
//! is stolen opens nothing. Two keys are derived from it with HKDF-SHA256. Under the one
//! XChaCha20-Poly1305 seals, with a random nonce, bound to what the value is and to whose: a value
//! that was moved elsewhere does not open. Under the other, what has to be found again by its
//! content gets a name that tells nothing of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use medsync_protocol::ids::{Sha256Digest, parse_base64, to_base64};
use rand_core::{CryptoRng, Rng};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::seams::{random_bytes, system_random};

/// Names the file of a home's secret, where it is not beside the home.
pub const SECRET_FILE_VARIABLE: &str = "MEDSYNC_SECRET_FILE";
const SECRET_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// The secret in hexadecimal, and a line's end.
const FILE_BYTES_MAX: u64 = 2 * SECRET_BYTES as u64 + 2;
const DOMAIN: &str = "medsync/at-rest/v1";

/// Why nothing was sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum AtRestError {
    /// There is no secret where one should be, or others may read it.
    #[error("the home's secret, without which nothing in it opens, is not to be had")]
    File(#[from] FileError),
    /// The file holds something else.
    #[error("{0} is no secret of a home: that is 64 hexadecimal digits")]
    Malformed(PathBuf),
    /// The home's folder has no name that the secret's could follow.
    #[error("{0} names no folder; say where its secret is in {SECRET_FILE_VARIABLE}")]
    Nameless(PathBuf),
    /// The value was sealed with another secret, or was changed or moved.
    #[error(
        "{0} does not open: the secret is another home's, or somebody changed what was sealed; if \
         the secret lies elsewhere, name its file in {SECRET_FILE_VARIABLE}"
    )]
    Closed(&'static str),
    /// The value is too long for the cipher.
    #[error("{0} cannot be sealed")]
    TooLong(&'static str),
}

/// What a value is, and whose: it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What it is, in words.
    pub what: &'static str,
    /// Whose, by a name that no other value of the kind has.
    pub of: &'a str,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        // No name of a kind holds a zero byte.
        format!("{DOMAIN}\0{}\0{}", self.what, self.of).into_bytes()
    }
}

/// The secret of a home.
#[derive(Clone)]
pub struct HomeSecret {
    cipher: XChaCha20Poly1305,
    names: Hkdf<Sha256>,
}

impl std::fmt::Debug for HomeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HomeSecret(..)")
    }
}

impl HomeSecret {
    /// The secret of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SECRET_BYTES]) -> Self {
        let extracted = Hkdf::<Sha256>::new(Some(DOMAIN.as_bytes()), bytes);
        let [sealing, naming] = ["sealing", "naming"].map(|purpose| {
            let mut key = Zeroizing::new([0; SECRET_BYTES]);
            let derived = extracted.expand(purpose.as_bytes(), key.as_mut_slice());
            derived.expect("the length of one hash is never too long");
            key
        });
        Self {
            cipher: XChaCha20Poly1305::new(sealing.as_slice().into()),
            names: Hkdf::new(None, naming.as_slice()),
        }
    }

    /// A name for a value, the same each time, which tells nothing of it without the secret.
    #[must_use]
    pub fn name_of(&self, what: &'static str, value: &[u8]) -> Sha256Digest {
        let mut name = [0; SECRET_BYTES];
        let place = Place { what, of: "" }.bytes();
        let derived = self.names.expand_multi_info(&[&place, value], &mut name);
        derived.expect("the length of one hash is never too long");
        Sha256Digest(name)
    }

    /// The secret of a home that is set up.
    ///
    /// # Errors
    /// A file that is not there, is none, or can be read by others.
    pub fn of(home: &Path) -> Result<Self, AtRestError> {
        let path = file_of(home)?;
        let text = Zeroizing::new(files::read_secret(&path, FILE_BYTES_MAX)?);
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        hex::decode_to_slice(text.trim_ascii(), bytes.as_mut())
            .map_err(|_| AtRestError::Malformed(path))?;
        Ok(Self::from_bytes(&bytes))
    }

    /// The same for a home that is being set up: made where there is none yet.
    ///
    /// # Errors
    /// As [`HomeSecret::of`], and a file that cannot be written.
    pub fn of_new(home: &Path, rng: &mut impl CryptoRng) -> Result<Self, AtRestError> {
        let path = file_of(home)?;
        if !path.exists() {
            let bytes = Zeroizing::new(random_bytes(rng));
            let text = Zeroizing::new(hex::encode(bytes.as_slice()));
            files::write_new_secret(&path, text.as_bytes())?;
        }
        Self::of(home)
    }

    /// Seals a value into a text.
    ///
    /// # Errors
    /// A value of more than 256 GiB.
    pub fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<String, AtRestError> {
        let mut nonce = [0; NONCE_BYTES];
        system_random().fill_bytes(&mut nonce);
        let aad = place.bytes();
        let message = Payload {
            msg: value,
            aad: &aad,
        };
        let sealed = self.cipher.encrypt(XNonce::from_slice(&nonce), message);
        let sealed = sealed.map_err(|_| AtRestError::TooLong(place.what))?;
        Ok(to_base64(&[&nonce[..], &sealed].concat()))
    }

    /// Opens what [`HomeSecret::seal`] made.
    ///
    /// # Errors
    /// [`AtRestError::Closed`].
    pub fn open(&self, place: Place<'_>, text: &str) -> Result<Zeroizing<Vec<u8>>, AtRestError> {
        let closed = || AtRestError::Closed(place.what);
        let bytes = parse_base64(text).map_err(|_| closed())?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(closed)?;
        let aad = place.bytes();
        let message = Payload {
            msg: sealed,
            aad: &aad,
        };
        let opened = self.cipher.decrypt(XNonce::from_slice(nonce), message);
        opened.map(Zeroizing::new).map_err(|_| closed())
    }
}

/// Where the secret of a home lies: beside it, under its name, or where the environment says.
///
/// # Errors
/// A home without a name.
pub fn file_of(home: &Path) -> Result<PathBuf, AtRestError> {
    if let Some(path) = std::env::var_os(SECRET_FILE_VARIABLE) {
        return Ok(path.into());
    }
    // A home may be named by a dot.
    let absolute = home.canonicalize().unwrap_or_else(|_| home.to_owned());
    let name = absolute.file_name();
    let mut name: OsString = name
        .ok_or_else(|| AtRestError::Nameless(home.to_owned()))?
        .to_owned();
    name.push(".secret");
    Ok(absolute.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place {
        what: "a key",
        of: "one",
    };

    #[test]
    fn a_value_opens_in_its_place_with_its_secret_alone() {
        let secret = HomeSecret::from_bytes(&[1; 32]);
        let sealed = secret.seal(HERE, b"value").expect("short");
        assert_ne!(sealed, secret.seal(HERE, b"value").expect("short"));
        assert_eq!(*secret.open(HERE, &sealed).expect("the place"), b"value");
        let other = HomeSecret::from_bytes(&[2; 32]);
        assert!(other.open(HERE, &sealed).is_err());
        let elsewhere = [
            Place {
                what: "a thing",
                ..HERE
            },
            Place { of: "two", ..HERE },
        ];
        for place in elsewhere {
            assert!(secret.open(place, &sealed).is_err());
        }
        for changed in ["", "AAAA", &sealed[4..], "no base64"] {
            assert!(secret.open(HERE, changed).is_err(), "{changed}");
        }
    }

    #[test]
    fn a_name_is_the_same_each_time_and_another_homes_is_not() {
        let [one, two] = [[1; 32], [2; 32]].map(|bytes| HomeSecret::from_bytes(&bytes));
        let name = one.name_of("a thing", b"value");
        assert_eq!(name, one.name_of("a thing", b"value"));
        assert_ne!(name, one.name_of("a thing", b"other"));
        assert_ne!(name, one.name_of("a key", b"value"));
        assert_ne!(name, two.name_of("a thing", b"value"));
    }

    #[test]
    fn a_home_has_one_secret_outside_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("hospital");
        std::fs::create_dir(&home).expect("a home");
        assert!(matches!(HomeSecret::of(&home), Err(AtRestError::File(_))));
        let mut random = system_random();
        let made = HomeSecret::of_new(&home, &mut random).expect("made");
        let sealed = made.seal(HERE, b"value").expect("short");
        let same = HomeSecret::of_new(&home, &mut random).expect("read");
        assert_eq!(*same.open(HERE, &sealed).expect("the same"), b"value");
        let file = folder.path().join("hospital.secret");
        assert_eq!(file_of(&home).expect("a name"), file);
        assert_eq!(std::fs::read_dir(&home).expect("the home").count(), 0);
        files::write_whole(&file, b"short", true).expect("written");
        assert!(matches!(
            HomeSecret::of(&home),
            Err(AtRestError::Malformed(_))
        ));
    }
}
