//! A verifier: what it believes, which receipts it accepts, and what one comes to by what was read
//! of the chain. The daemon's `verify` and the verifier page run this and nothing beside it.
//!
//! Everything but two values is checked without asking anybody. The two values are read from every
//! endpoint that the verifier names, at one block each; all have to come to the same verdict. How
//! they are read, this module does not know.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::consent::Registry;
use crate::ids::{Anchorer, ChainId, ClassHash, ContractAddress};
use crate::receipt::{Receipt, ReceiptError};

pub use hearing::{Check, CheckName, Hearing, NoVerdict, Offline, Report, Seen};
pub use question::{Question, QuestionError};

mod hearing;
mod question;
#[cfg(test)]
mod tests;

/// How old an endpoint's newest block may be for a verdict about now, in seconds, if nothing else
/// is said. Starknet makes a block within seconds; an hour leaves room for clocks and outages.
pub const BLOCK_AGE_S_MAX: u64 = 60 * 60;
/// The largest configuration, in bytes of JSON.
pub const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// What a verifier believes: never what a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beliefs {
    /// The chain, and the `ConsentRegistry` on it.
    pub registry: Registry,
    /// The registry's class.
    pub class_hash: ClassHash,
    /// The custodians whose word on who their patients are is accepted.
    pub custodians: Vec<Anchorer>,
    /// How old an endpoint's newest block may be for a verdict about now, in seconds.
    pub block_age_s_max: u64,
}

/// A verifier's configuration as JSON, with the endpoints that it asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The endpoints; all of them are asked, and all have to agree.
    pub rpc: Vec<String>,
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

fn block_age_s_max() -> u64 {
    BLOCK_AGE_S_MAX
}

/// Why a file is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum ConfigError {
    /// More bytes than a configuration may have.
    #[error("a verifier's configuration has at most {CONFIG_BYTES_MAX} bytes, this has {0}")]
    TooLong(usize),
    /// Not JSON, or with fields missing, unknown, doubled or malformed.
    #[error("this is no verifier's configuration: {0}")]
    Malformed(String),
    /// It names nobody to ask.
    #[error("rpc names at least one endpoint")]
    NoEndpoint,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        if json.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLong(json.len()));
        }
        let config: Self = serde_json::from_slice(json)
            .map_err(|error| ConfigError::Malformed(format!("{error}")))?;
        if config.rpc.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        Ok(config)
    }

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
}

/// Why a verifier does not look at a receipt at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum Refusal {
    /// The file is no receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The receipt speaks of another chain or contract than the verifier believes in.
    #[error(
        "the receipt is for chain {} and registry {}; this verifier accepts chain {} and \
         registry {}",
        .found.chain_id, .found.registry, .own.chain_id, .own.registry
    )]
    OtherRegistry {
        /// The receipt's.
        found: Box<Registry>,
        /// The verifier's.
        own: Box<Registry>,
    },
    /// The receipt is of a custodian that the verifier does not accept.
    #[error("the receipt is anchored by {0}, whom this verifier does not list as a custodian")]
    OtherCustodian(Anchorer),
}

impl Beliefs {
    /// Reads a receipt and refuses one that this verifier does not accept at all.
    ///
    /// # Errors
    /// A file that is no receipt; another chain, registry or custodian.
    pub fn accept(&self, json: &[u8]) -> Result<Receipt, Refusal> {
        let receipt = Receipt::parse(json)?;
        if receipt.registry != self.registry {
            return Err(Refusal::OtherRegistry {
                found: Box::new(receipt.registry),
                own: Box::new(self.registry),
            });
        }
        if !self.custodians.contains(&receipt.anchorer) {
            return Err(Refusal::OtherCustodian(receipt.anchorer));
        }
        Ok(receipt)
    }

    /// Whether an endpoint serves the chain that is believed in.
    ///
    /// # Errors
    /// [`NoVerdict::OtherChain`].
    pub fn check_chain(&self, found: ChainId) -> Result<(), NoVerdict> {
        let expected = self.registry.chain_id;
        if found == expected {
            Ok(())
        } else {
            Err(NoVerdict::OtherChain { expected, found })
        }
    }

    /// Whether the registry is of the class that is believed in.
    ///
    /// # Errors
    /// [`NoVerdict::OtherClass`].
    pub fn check_class(&self, found: ClassHash) -> Result<(), NoVerdict> {
        if found == self.class_hash {
            return Ok(());
        }
        Err(NoVerdict::OtherClass {
            contract: self.registry.registry,
            expected: self.class_hash,
            found,
        })
    }
}
