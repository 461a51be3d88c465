//! `medsync deploy`: an operator's one-time act, with an account that does nothing else.

use std::path::PathBuf;

use anyhow::Context;
use medsync_protocol::ids::ContractAddress;
use url::Url;

use crate::chain::{AccountKey, deploy};
use crate::files;

/// Declare and deploy ConsentRegistry and RewardPool; a second run finds the first one's.
#[derive(Debug, clap::Args)]
pub struct Deploy {
    /// The Starknet RPC endpoint.
    #[arg(long)]
    rpc: Url,
    /// The address of the account that pays.
    #[arg(long)]
    account: ContractAddress,
    /// The file with its private key, readable by its owner alone.
    #[arg(long)]
    key_file: PathBuf,
    /// Where scripts/build-contracts wrote the classes.
    #[arg(long, default_value = "target/contracts")]
    artifacts: PathBuf,
    /// Where to write what was deployed; parties and verifiers are configured with it.
    #[arg(long)]
    out: PathBuf,
}

impl Deploy {
    /// Deploys and writes the deployment file.
    ///
    /// # Errors
    /// A chain that refuses, an artifact that is not the one that was reviewed.
    pub async fn run(self) -> anyhow::Result<()> {
        let key = AccountKey::read(&self.key_file)?;
        let deployment = deploy(&self.rpc, self.account, key, &self.artifacts).await?;
        let json = serde_json::to_vec_pretty(&deployment)?;
        files::write_whole(&self.out, &json, false).context("the deployment file")?;
        println!(
            "registry {} of class {}\nreward pools {} of class {}",
            deployment.registry,
            deployment.class_hash,
            deployment.reward_pool,
            deployment.reward_pool_class
        );
        Ok(())
    }
}
