//! `medsync hospital move-store`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::super::{Home, print_json};
use crate::config::{CONFIG_FILE, Config};
use crate::lease::Only;
use crate::party::Party;
use crate::store::PostgresUrl;

/// Copy the home's store into an empty PostgreSQL database and say so in its configuration, with
/// `medsync up` stopped. The file `medsync.db` stays as it was and is read no more.
#[derive(Debug, clap::Args)]
pub struct MoveStore {
    #[command(flatten)]
    home: Home,
    /// A file that holds the database's URL, for its owner alone.
    #[arg(long, value_name = "FILE")]
    postgres: PathBuf,
}

impl MoveStore {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let home = &self.home.home;
        let url = PostgresUrl::read(&self.postgres)?;
        let file = std::path::absolute(&self.postgres)?;
        let config_path = home.join(CONFIG_FILE);
        // Before anything is copied: what is written afterwards has to be a configuration.
        let named = toml::Value::String(file.to_string_lossy().into_owned());
        let table = format!("\n[store]\npostgres = {named}\n");
        let text = std::fs::read_to_string(&config_path)
            .with_context(|| format!("{} is not read", config_path.display()))?;
        let moved = format!("{}\n{table}", text.trim_end());
        Config::checked(&config_path, moved.as_bytes())?;
        let mut party = Party::open(home).await?;
        if party.store.is_shared() {
            bail!("this home's store is on PostgreSQL already");
        }
        let _daemon = party.alone(Only::Daemon).await?;
        let _records = party.alone(Only::Records).await?;
        party.store.copy_to_shared(&url).await?;
        // Behind the copy, which is all or nothing: a home that says so has its store there.
        let mut config = std::fs::File::options().append(true).open(&config_path)?;
        config.write_all(table.as_bytes())?;
        config.sync_all()?;
        print_json(&serde_json::json!({ "home": home, "store": "PostgreSQL" }))
    }
}
