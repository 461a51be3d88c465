//! What the set-up of every party's home has in common.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde_json::json;
use url::Url;

use super::{Home, print_json};
use crate::at_rest::HomeSecret;
use crate::chain::{AccountKey, Deployment};
use crate::config::{
    ANCHOR_KEY_FILE, ApiConfig, CLAIM_KEY_FILE, ChainConfig, Config, NodeConfig, NodeRun,
    REVOKE_KEY_FILE, block_age_s_max,
};
use crate::keys::{read_sealed, write_sealed};

/// The program of the embedded node.
const NODE_PROGRAM: &str = "medsync-node";

/// What every party's home needs.
#[derive(Debug, clap::Args)]
pub struct InitParts {
    /// Where the party's node answers (`api` of medsync-node's first line).
    #[arg(long)]
    node_api: Url,
    /// The credential that medsync-node init made.
    #[arg(long)]
    node_credential: PathBuf,
    #[command(flatten)]
    pub(super) run: UpParts,
    /// The app's wasm.
    #[arg(long, default_value = "target/app/medsync_app.wasm")]
    app: PathBuf,
    /// A Starknet RPC endpoint; may be named several times, and they are asked in this order.
    #[arg(long, required = true)]
    rpc: Vec<Url>,
    /// What `medsync deploy` wrote.
    #[arg(long)]
    deployment: PathBuf,
}

/// What `medsync up` runs beside the daemon: the party's node, or somebody else does, and the HTTP
/// API, or there is none.
#[derive(Debug, clap::Args)]
pub struct UpParts {
    /// The home of the party's medsync-node: `medsync up` runs it.
    #[arg(long)]
    node_home: Option<PathBuf>,
    /// The program that runs it; the one beside medsync if it is not said.
    #[arg(long, requires = "node_home")]
    node_program: Option<PathBuf>,
    /// Where the HTTP API listens, such as 127.0.0.1:2628; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS")]
    api: Option<SocketAddr>,
    /// The folder of the portal, whose pages the API serves.
    #[arg(long, value_name = "FOLDER", requires = "api")]
    portal: Option<PathBuf>,
}

impl InitParts {
    /// The node's and the chain's part of a configuration.
    pub(super) fn config(&self, peer: Option<String>) -> anyhow::Result<(NodeConfig, ChainConfig)> {
        let deployment = Deployment::read(&self.deployment)?;
        let node = NodeConfig {
            api: self.node_api.clone(),
            credential: absolute(&self.node_credential)?,
            peer,
            app: absolute(&self.app)?,
            run: self.run.config()?,
        };
        Ok((node, chain(&deployment, &self.rpc)))
    }
}

impl UpParts {
    pub(super) fn api(&self) -> anyhow::Result<Option<ApiConfig>> {
        let Some(listen) = self.api else {
            return Ok(None);
        };
        if !listen.ip().is_loopback() {
            bail!("--api {listen}: the API listens on a loopback address, such as 127.0.0.1:2628");
        }
        let portal = self.portal.as_deref().map(absolute).transpose()?;
        Ok(Some(ApiConfig {
            portal,
            ..ApiConfig::at(listen)
        }))
    }

    pub(super) fn config(&self) -> anyhow::Result<Option<NodeRun>> {
        let Some(home) = &self.node_home else {
            return Ok(None);
        };
        let program = match &self.node_program {
            Some(program) => absolute(program)?,
            None => {
                let beside = std::env::current_exe()?.with_file_name(NODE_PROGRAM);
                if beside.is_file() {
                    beside
                } else {
                    NODE_PROGRAM.into()
                }
            }
        };
        Ok(Some(NodeRun {
            program,
            home: absolute(home)?,
        }))
    }
}

/// The chain's part of a configuration.
pub(super) fn chain(deployment: &Deployment, rpc: &[Url]) -> ChainConfig {
    ChainConfig {
        rpc: rpc.to_vec(),
        chain_id: deployment.chain_id,
        registry: deployment.registry,
        class_hash: deployment.class_hash,
        block_age_s_max: block_age_s_max(),
    }
}

/// Seals the key of an account into the home. The file that it came from is not needed any more.
pub(super) fn keep_account_key(
    (home, secret): (&Path, &HomeSecret),
    name: &str,
    file: &Path,
) -> anyhow::Result<()> {
    let key = AccountKey::read(file)?.reveal_text();
    let kept = home.join(name);
    if !kept.exists() {
        return Ok(write_sealed(&kept, secret, key.as_bytes())?);
    }
    // A set-up that was interrupted goes on with what it kept.
    if *read_sealed(&kept, secret)? != *key.as_bytes() {
        bail!(
            "{} holds another key and is not overwritten",
            kept.display()
        );
    }
    Ok(())
}

/// Which of a home's accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhichAccount {
    /// The one that anchors.
    Anchor,
    /// The one that revokes.
    Revoke,
    /// The one that sends claims.
    Claim,
}

/// Seal the key of an account into the home anew, after the account was given another: remove the
/// old file first. The daemon uses it from its next start.
#[derive(Debug, clap::Args)]
pub struct KeepAccountKey {
    #[command(flatten)]
    home: Home,
    /// Which account.
    #[arg(long, value_enum)]
    account: WhichAccount,
    /// The file with its private key.
    #[arg(long)]
    key: PathBuf,
}

impl KeepAccountKey {
    /// Seals it.
    ///
    /// # Errors
    /// A home that is not set up, a file that holds no key, an old key that is still there.
    pub fn run(&self) -> anyhow::Result<()> {
        let home = &self.home.home;
        let config = Config::load(home)?;
        let (account, name) = match self.account {
            WhichAccount::Anchor => (config.anchor_account, ANCHOR_KEY_FILE),
            WhichAccount::Revoke => (config.revoke_account, REVOKE_KEY_FILE),
            WhichAccount::Claim => (config.claim_account, CLAIM_KEY_FILE),
        };
        let account = account.context("the configuration of this home names no such account")?;
        keep_account_key((home, &HomeSecret::of(home)?), name, &self.key)?;
        print_json(&json!({ "account": account.address, "key": home.join(name) }))
    }
}

pub(super) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} is not there", path.display()))
}
