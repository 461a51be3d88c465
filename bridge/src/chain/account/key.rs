//! The key of a Starknet account. It is never printed and wiped when dropped.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use async_trait::async_trait;
use medsync_protocol::felt::Felt;
use medsync_protocol::signature::{Message, PublicKey, SecretKey, SignError};
use starknet::core::crypto::Signature;
use starknet::signers::{Signer, SignerInteractivityContext, VerifyingKey};
use zeroize::Zeroizing;

use crate::chain::ChainError;

/// A key file is one felt and some white space.
const FILE_BYTES_MAX: u64 = 256;

/// The secret key of a Starknet account.
#[derive(Clone, Debug)]
pub struct AccountKey(SecretKey);

impl AccountKey {
    /// Reads a key as Starknet's tools write it: hex with `0x`, leading zeros allowed.
    ///
    /// # Errors
    /// [`ChainError::Key`], which does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, ChainError> {
        let wrong = |error: &dyn std::fmt::Display| ChainError::Key(error.to_string());
        let digits = text.trim().strip_prefix("0x");
        let digits = digits.ok_or_else(|| wrong(&"it starts with 0x"))?;
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Err(wrong(&SignError::KeyOutOfRange));
        }
        let canonical = Zeroizing::new(format!("0x{}", digits.to_ascii_lowercase()));
        let secret = SecretKey::parse(&canonical).map_err(|error| wrong(&error))?;
        let bytes = Zeroizing::new(secret.reveal().to_bytes_be());
        let secret = SecretKey::from_scalar(&bytes).map_err(|error| wrong(&error))?;
        Ok(Self(secret))
    }

    /// The key as [`AccountKey::parse`] reads it.
    #[must_use]
    pub fn reveal_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.reveal_text())
    }

    /// Reads a key from a file that nobody but its owner may read.
    ///
    /// # Errors
    /// [`ChainError::Key`] for a file that others may read, or that holds no key.
    pub fn read(path: &Path) -> Result<Self, ChainError> {
        let wrong = |detail: &dyn std::fmt::Display| {
            ChainError::Key(format!("{}: {detail}", path.display()))
        };
        // The open file is checked, not the path, which could be exchanged in between.
        let file = File::open(path).map_err(|error| wrong(&error))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let metadata = file.metadata().map_err(|error| wrong(&error))?;
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(wrong(&format!(
                    "others may read it (mode {mode:o}); set it to 600"
                )));
            }
        }
        let mut text = Zeroizing::new(String::new());
        let mut file = file.take(FILE_BYTES_MAX);
        file.read_to_string(&mut text)
            .map_err(|error| wrong(&error))?;
        Self::parse(&text)
    }

    /// Reads a key from an environment variable.
    ///
    /// # Errors
    /// [`ChainError::Key`] if it is not set or holds no key.
    pub fn from_env(name: &str) -> Result<Self, ChainError> {
        let text = std::env::var(name)
            .map_err(|_| ChainError::Key(format!("the variable {name} is not set")))?;
        Self::parse(&Zeroizing::new(text))
    }

    /// The key that the account's contract knows.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }
}

#[async_trait]
impl Signer for AccountKey {
    type GetPublicKeyError = SignError;
    type SignError = SignError;

    async fn get_public_key(&self) -> Result<VerifyingKey, SignError> {
        Ok(VerifyingKey::from_scalar(self.public_key().felt()))
    }

    async fn sign_hash(&self, hash: &Felt) -> Result<Signature, SignError> {
        let signature = self.0.sign(Message::from_felt(*hash))?;
        Ok(Signature {
            r: signature.r.felt(),
            s: signature.s.felt(),
        })
    }

    fn is_interactive(&self, _context: SignerInteractivityContext<'_>) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0x00000000000000000000000000000000c1b3a5d7e9f1";

    #[test]
    fn a_key_is_never_printed() {
        let key = AccountKey::parse(KEY).expect("a key");
        assert!(!format!("{key:?}").contains("c1b3"));
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let order = "0x800000000000010ffffffffffffffffb781126dcae7b2321e66a241adc64d2f";
        for text in ["", "c1b3", "0x", "0x0", "0x00", "0xc1b3zz", order] {
            let error = AccountKey::parse(text).expect_err("no key").to_string();
            assert!(text.len() < 5 || !error.contains(text), "{error}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_key_file_belongs_to_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("account.key");
        std::fs::write(&path, format!("{KEY}\n")).expect("written");
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode));
        mode(0o640).expect("set");
        let error = AccountKey::read(&path).expect_err("too open");
        assert!(error.to_string().contains("mode 640"), "{error}");
        mode(0o600).expect("set");
        let key = AccountKey::read(&path).expect("a key");
        let same = AccountKey::parse(KEY).expect("a key");
        assert_eq!(key.public_key(), same.public_key());
        assert!(AccountKey::read(&folder.path().join("none")).is_err());
    }
}
