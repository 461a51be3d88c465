//! A verifier's configuration: a file of whoever checks receipts.

use std::path::Path;

use medsync_protocol::consent::Registry;
use medsync_protocol::ids::{Anchorer, ChainId, ClassHash, ContractAddress};
use medsync_protocol::verifier::{BLOCK_AGE_S_MAX, Beliefs};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{CONFIG_BYTES_MAX, ConfigError, parse, save};
use crate::files;

/// What a verifier believes: never what a receipt says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierConfig {
    /// The endpoints; all of them are asked, and all have to agree.
    pub rpc: Vec<Url>,
    /// The chain.
    pub chain_id: ChainId,
    /// The `ConsentRegistry`.
    pub registry: ContractAddress,
    /// Its class.
    pub class_hash: ClassHash,
    /// The custodians whose word on who their patients are is accepted.
    pub custodians: Vec<Anchorer>,
    /// How old an endpoint's newest block may be for a verdict about now, in seconds.
    #[serde(default = "block_age_s_max")]
    pub block_age_s_max: u64,
}

/// Starknet makes a block within seconds; an hour leaves room for clocks and outages.
#[must_use]
pub const fn block_age_s_max() -> u64 {
    BLOCK_AGE_S_MAX
}

impl VerifierConfig {
    /// All of it but the endpoints.
    #[must_use]
    pub fn beliefs(&self) -> Beliefs {
        Beliefs {
            registry: Registry {
                chain_id: self.chain_id,
                registry: self.registry,
            },
            class_hash: self.class_hash,
            custodians: self.custodians.clone(),
            block_age_s_max: self.block_age_s_max,
        }
    }

    /// Reads a verifier's configuration.
    ///
    /// # Errors
    /// A file that is absent or wrong, or names no endpoint.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &files::read_bounded(path, CONFIG_BYTES_MAX)?)
    }

    /// Reads the bytes of a file; errors name it.
    ///
    /// # Errors
    /// As [`VerifierConfig::load`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = parse(path, bytes)?;
        if config.rpc.is_empty() {
            let why = "rpc names at least one endpoint".into();
            return Err(ConfigError::Malformed {
                path: path.to_owned(),
                why,
            });
        }
        Ok(config)
    }

    /// Writes a verifier's configuration.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        save(path, self)
    }
}
