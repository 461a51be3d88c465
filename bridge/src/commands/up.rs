//! `medsync up`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::print_json;
use crate::config::CONFIG_FILE;
use crate::node_process;
use crate::party::Party;
use crate::store::HomeLock;

/// Run a party until Ctrl-C: its node, if its configuration says how, and its daemon. Prints a line
/// of JSON whenever the node answers, and the log on standard error.
#[derive(Debug, clap::Args)]
pub struct Up {
    /// The party's configuration, `medsync.toml` in its home.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Up {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// A home that cannot be opened, or lacks a key.
    pub async fn run(self) -> anyhow::Result<()> {
        let home = home_of(&self.config)?;
        let _alone = HomeLock::of_daemon(&home)?;
        let party = Party::open(&home).await?;
        let (stop, stopped) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            // Either way of asking is a reason to stop, and so is not being able to listen.
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            stop.send_replace(true);
        });
        // Nobody may be listening, and a full disk behind standard output hinders nothing.
        let say = |line| print_json(&line).ok();
        say(json!({ "medsync": "up", "home": home }));
        let (node, api) = (party.config.node.run.clone(), party.config.node.api.clone());
        // The node goes last: the rounds that come to their end still need it.
        let (end_node, node_stops) = watch::channel(false);
        let node = async move {
            let Some(run) = node else { return };
            node_process::keep_running(&run, &api, node_stops, |process, ready| {
                let line = json!({
                    "node": "answers",
                    "process": process,
                    "api": ready.api,
                    "swarm": ready.swarm,
                });
                say(line);
            })
            .await;
        };
        let daemon = async move {
            let ended = crate::daemon::run(party, stopped).await;
            end_node.send_replace(true);
            ended
        };
        let ((), ended) = tokio::join!(node, daemon);
        ended?;
        say(json!({ "medsync": "stopped" }));
        Ok(())
    }
}

/// The home whose configuration a file is.
fn home_of(config: &Path) -> anyhow::Result<PathBuf> {
    if config.file_name().is_none_or(|name| name != CONFIG_FILE) {
        bail!(
            "{} is not named {CONFIG_FILE}; name the one in the party's home",
            config.display()
        );
    }
    let folder = config
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    Ok(folder.unwrap_or(Path::new(".")).to_owned())
}
