//! The operator's token: who can read the file in the party's home may ask.

use std::fmt;
use std::path::Path;

use rand::Rng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// The token's name in a home folder: 64 digits and a line's end, for its owner alone.
pub const TOKEN_FILE: &str = "operator.token";
const TOKEN_BYTES: usize = 32;
const TOKEN_FILE_BYTES_MAX: u64 = 128;

/// What an operator shows. It is printed nowhere.
pub struct OperatorToken(Zeroizing<String>);

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorToken")
    }
}

impl OperatorToken {
    /// The token of a home, made now if there is none. Whoever removes the file has another made
    /// with the next start.
    ///
    /// # Errors
    /// A file that others can read, that holds no token, or that cannot be written.
    pub fn of(home: &Path, random: &mut impl Rng) -> Result<Self, FileError> {
        let file = home.join(TOKEN_FILE);
        if !file.exists() {
            let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
            random.fill_bytes(&mut *bytes);
            let text = Zeroizing::new(format!("{}\n", hex::encode(*bytes)));
            files::write_new_secret(&file, text.as_bytes())?;
        }
        let bytes = Zeroizing::new(files::read_secret(&file, TOKEN_FILE_BYTES_MAX)?);
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        let is_token = hex::decode(text).is_ok_and(|token| token.len() == TOKEN_BYTES);
        if !is_token {
            return Err(FileError::Malformed {
                path: file,
                why: "it holds no token: remove it, and the next start makes one".into(),
            });
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    pub(super) fn is(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::system_random;

    #[test]
    fn hostile_token_file_is_not_believed() {
        let home = tempfile::tempdir().expect("a folder");
        let of_home = |home: &Path| OperatorToken::of(home, &mut system_random());
        let token = of_home(home.path()).expect("made");
        let again = of_home(home.path()).expect("read");
        assert!(token.is(&again.0));
        assert_eq!(format!("{token:?}"), "OperatorToken");
        let file = home.path().join(TOKEN_FILE);
        for text in ["", "00", &"z".repeat(64), &"00".repeat(33)] {
            std::fs::write(&file, text).expect("written");
            assert!(of_home(home.path()).is_err(), "{text:?}");
        }
    }
}
