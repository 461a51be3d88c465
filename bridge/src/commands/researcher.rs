//! `medsync researcher`: keys. To verify, a researcher needs `medsync verify` and nothing else.

use clap::Subcommand;
use medsync_protocol::ids::Anchorer;
use url::Url;

use super::{Home, print_json};
use crate::chain::Deployment;
use crate::config::{VerifierConfig, block_age_s_max};
use crate::files::{self, FileError};
use crate::keys::{ResearcherKeys, read_or_create};
use crate::seams::system_random;

const KEY_FILE: &str = "researcher-keys.json";
const VERIFIER_FILE: &str = "verifier.toml";

/// What a researcher does.
#[derive(Debug, Subcommand)]
pub enum Researcher {
    /// Make keys; prints the public key to which patients grant.
    Init {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// What `medsync deploy` wrote.
        #[arg(long)]
        deployment: std::path::PathBuf,
        /// A Starknet RPC endpoint; may be named several times, all have to agree.
        #[arg(long, required = true)]
        rpc: Vec<Url>,
        /// A custodian that is accepted (its Starknet address); may be named several times.
        #[arg(long, required = true)]
        custodian: Vec<Anchorer>,
    },
    /// Print the public keys.
    Show {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
    },
}

impl Researcher {
    /// Does what was asked.
    ///
    /// # Errors
    /// Keys that are there already or not at all.
    pub fn run(self) -> anyhow::Result<()> {
        let keys = match self {
            Self::Init {
                home,
                deployment,
                rpc,
                custodian,
            } => {
                let deployment = Deployment::read(&deployment)?;
                files::private_folder(&home.home)?;
                let config = home.home.join(VERIFIER_FILE);
                if config.exists() {
                    return Err(FileError::Exists { path: config }.into());
                }
                let keys =
                    read_or_create(&home.home.join(KEY_FILE), ResearcherKeys::read, |path| {
                        ResearcherKeys::create(path, &mut system_random())
                    })?;
                VerifierConfig {
                    rpc,
                    chain_id: deployment.chain_id,
                    registry: deployment.registry,
                    class_hash: deployment.class_hash,
                    custodians: custodian,
                    block_age_s_max: block_age_s_max(),
                }
                .save(&config)?;
                keys
            }
            Self::Show { home } => ResearcherKeys::read(&home.home.join(KEY_FILE))?,
        };
        print_json(&serde_json::json!({
            "grantee": keys.recipient.public_key(),
            "seal_key": keys.seal.public_key(),
        }))
    }
}
