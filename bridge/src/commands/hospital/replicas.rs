//! `medsync hospital move-store`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::super::{Home, print_json};
use crate::at_rest::HomeSecret;
use crate::config::{CONFIG_FILE, Config};
use crate::files;
use crate::lease::{Only, alone};
use crate::store::{PostgresUrl, Store};

/// Move the home's store into an empty PostgreSQL database and say so in its configuration, with
/// `medsync up` stopped. Run it again if it was cut off. The file `medsync.db` takes no writes from
/// then on, and is read no more.
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
        // An endpoint's address may hold a key: who could not read it before cannot afterwards.
        let is_private = std::fs::metadata(&config_path)?.permissions().mode() & 0o077 == 0;
        if Config::load(home)?.store.is_some() {
            bail!("this home's store is on PostgreSQL already");
        }
        Config::checked(&config_path, moved.as_bytes())?;
        let store = Store::open_left(home, &HomeSecret::of(home)?).await?;
        let _daemon = alone((&store, home), Only::Daemon).await?;
        let _records = alone((&store, home), Only::Records).await?;
        store.move_to_shared(&url).await?;
        // Behind the move, which is all or nothing: a home that says so has its store there.
        files::write_whole(&config_path, moved.as_bytes(), is_private)?;
        print_json(&serde_json::json!({ "home": home, "store": "PostgreSQL" }))
    }
}
