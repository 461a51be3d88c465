//! `medsync daemon`.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::Home;
use crate::party::Party;

/// Run a party's daemon until Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Daemon {
    #[command(flatten)]
    home: Home,
}

impl Daemon {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// A home that cannot be opened.
    pub async fn run(self) -> anyhow::Result<()> {
        let party = Party::open(&self.home.home).await?;
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
        println!("medsync daemon: running for {}", self.home.home.display());
        crate::daemon::run(party, stopped).await?;
        println!("medsync daemon: stopped");
        Ok(())
    }
}
