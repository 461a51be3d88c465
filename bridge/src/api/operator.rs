//! Tokens in files of the home: who can read the operator's may ask everything, who can read that
//! of the metrics may read those.

use std::fmt;
use std::path::Path;

use rand::Rng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// The operator's token's name in a home folder: 64 digits and a line's end, for its owner alone.
pub const TOKEN_FILE: &str = "operator.token";
/// The same of the metrics' token, which its owner may let others read.
pub const METRICS_TOKEN_FILE: &str = "metrics.token";
const TOKEN_BYTES: usize = 32;
const TOKEN_FILE_BYTES_MAX: u64 = 128;

/// What an operator shows, and what reads the metrics. They are printed nowhere.
pub struct Tokens {
    operator: Zeroizing<String>,
    metrics: Zeroizing<String>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// The tokens of a home, made now if there are none. Whoever removes a file has another made
    /// with the next start.
    ///
    /// # Errors
    /// An operator's file that others can read; one that holds no token, or cannot be written.
    pub fn of(home: &Path, random: &mut impl Rng) -> Result<Self, FileError> {
        let (operator, metrics) = (home.join(TOKEN_FILE), home.join(METRICS_TOKEN_FILE));
        for file in [&operator, &metrics] {
            make(file, random)?;
        }
        let bytes = Zeroizing::new(files::read_secret(&operator, TOKEN_FILE_BYTES_MAX)?);
        let operator = token(&operator, &bytes)?;
        let bytes = Zeroizing::new(files::read_bounded(&metrics, TOKEN_FILE_BYTES_MAX)?);
        let metrics = token(&metrics, &bytes)?;
        Ok(Self { operator, metrics })
    }

    pub(super) fn is_operators(&self, shown: &str) -> bool {
        self.operator.as_bytes().ct_eq(shown.as_bytes()).into()
    }

    pub(super) fn is_of_metrics(&self, shown: &str) -> bool {
        self.metrics.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

fn make(file: &Path, random: &mut impl Rng) -> Result<(), FileError> {
    if file.exists() {
        return Ok(());
    }
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    random.fill_bytes(&mut *bytes);
    let text = Zeroizing::new(format!("{}\n", hex::encode(*bytes)));
    files::write_new_secret(file, text.as_bytes())
}

fn token(file: &Path, bytes: &[u8]) -> Result<Zeroizing<String>, FileError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
    if hex::decode(text).is_ok_and(|token| token.len() == TOKEN_BYTES) {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    Err(FileError::Malformed {
        path: file.to_owned(),
        why: "it holds no token: remove it, and the next start makes one".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::seams::system_random;

    #[test]
    fn hostile_token_file_is_not_believed() {
        let home = tempfile::tempdir().expect("a folder");
        let of_home = |home: &Path| Tokens::of(home, &mut system_random());
        let tokens = of_home(home.path()).expect("made");
        let again = of_home(home.path()).expect("read");
        assert!(tokens.is_operators(&again.operator) && tokens.is_of_metrics(&again.metrics));
        assert!(!tokens.is_operators(&again.metrics) && !tokens.is_of_metrics(&again.operator));
        assert_eq!(format!("{tokens:?}"), "Tokens");
        let others_read = |file: &Path| {
            let mode = std::fs::Permissions::from_mode(0o640);
            std::fs::set_permissions(file, mode).expect("allowed");
        };
        others_read(&home.path().join(METRICS_TOKEN_FILE));
        of_home(home.path()).expect("whoever measures may read it");
        let file = home.path().join(TOKEN_FILE);
        for text in ["", "00", &"z".repeat(64), &"00".repeat(33)] {
            std::fs::write(&file, text).expect("written");
            assert!(of_home(home.path()).is_err(), "{text:?}");
        }
        std::fs::remove_file(&file).expect("removed");
        of_home(home.path()).expect("made");
        others_read(&file);
        assert!(of_home(home.path()).is_err(), "others read it");
    }
}
