//! The one username and password that opens this node's API.
//!
//! Invariant: the credential is the root key of the node's authentication store before the API
//! listens. Calimero makes the first caller of `/auth/token` its administrator while no root key
//! exists, so a node that listened without one would belong to whoever came first.

use std::fmt;

use camino::Utf8Path;
use mero_auth::config::{AuthConfig, StorageConfig};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The authentication method of Calimero that a username and password use.
const METHOD: &str = "user_password";

/// Random bytes in a password. Calimero stores a plain SHA-256 of the credential, which no
/// dictionary can reach at this size.
const PASSWORD_BYTES: usize = 32;

/// Why the credential cannot be made or used.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// The system gave no randomness.
    #[error("no randomness from the system: {0}")]
    Random(getrandom::Error),
    /// The authentication store cannot be opened.
    #[error("cannot open the authentication store: {0:#}")]
    Store(eyre::Report),
    /// The store belongs to another credential.
    #[error(
        "the credential file is not the one this node was made with; restore it, or remove the \
         `auth` folder in the home to let the node accept the new one ({0})"
    )]
    Mismatch(mero_auth::AuthError),
}

/// A username and password; `{"username": …, "password": …}` in the credential file.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    username: String,
    password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// A new random credential.
    ///
    /// The username must not parse as a Calimero public key: if it did, the node would take it
    /// for the caller's identity and refuse group calls that it signs with its own. A hyphen is
    /// not in the base58 alphabet, so it never parses.
    pub fn random() -> Result<Self, CredentialError> {
        let mut bytes = [0; 8 + PASSWORD_BYTES];
        getrandom::fill(&mut bytes).map_err(CredentialError::Random)?;
        let (name, password) = bytes.split_at(8);
        Ok(Self {
            username: format!("medsync-{}", hex::encode(name)),
            password: hex::encode(password),
        })
    }

    /// Makes this credential the root key of the store, or checks that it is one already.
    ///
    /// The store is closed again on return, because the node opens it itself.
    pub async fn ensure_root_key(&self, store: &Utf8Path) -> Result<(), CredentialError> {
        let app = mero_auth::embedded::build_app(auth_config(store))
            .await
            .map_err(CredentialError::Store)?;
        let data = serde_json::json!({ "username": self.username, "password": self.password });
        app.auth_service()
            .authenticate_with_data(METHOD, data)
            .await
            .map(|_| ())
            .map_err(CredentialError::Mismatch)
    }
}

/// Calimero's authentication with its defaults: tokens of an hour, refreshable for thirty days,
/// by username and password alone.
pub fn auth_config(store: &Utf8Path) -> AuthConfig {
    let mut config = mero_auth::embedded::default_config();
    config.storage = StorageConfig::RocksDB {
        path: store.as_std_path().to_owned(),
    };
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_differ_and_do_not_print_their_password() -> Result<(), CredentialError> {
        let (one, two) = (Credential::random()?, Credential::random()?);
        assert_ne!(one.password, two.password);
        assert_eq!(one.password.len(), 2 * PASSWORD_BYTES);
        assert!(!format!("{one:?}").contains(&one.password));
        Ok(())
    }

    #[tokio::test]
    async fn the_first_credential_takes_the_store_and_keeps_it()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let store = camino::Utf8PathBuf::try_from(dir.path().join("auth"))?;
        let (owner, stranger) = (Credential::random()?, Credential::random()?);
        owner.ensure_root_key(&store).await?;
        owner.ensure_root_key(&store).await?;
        assert!(matches!(
            stranger.ensure_root_key(&store).await,
            Err(CredentialError::Mismatch(_))
        ));
        Ok(())
    }
}
