//! `medsync up`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{print_json, researcher};
use crate::api::{self, Announced, Announcement, Api, Bounds, Origins, Pages, Tokens};
use crate::config::{CONFIG_FILE, Role};
use crate::custodian::Custodian;
use crate::daemon::{self, Ended};
use crate::lease::{Lease, Only};
use crate::node_process;
use crate::party::{Party, PartyError};
use crate::seams::system_random;
use crate::store::HomeLock;

/// How long a lane of the leader may fail before another replica may lead: the first time, and at
/// most, since it doubles with each.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long the one that led lets the others go first.
const OTHERS_FIRST: Duration = Duration::from_secs(15);

/// How long what was asked of the API may go on after the daemon ended.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

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
        let door = Door::open(&party).await?;
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
        let (run, api) = (party.config.node.run.clone(), party.config.node.api.clone());
        let asked = Arc::clone(&party.node);
        let node = async |stop| {
            let Some(run) = run else { return };
            let silent_since = |began| asked.silence().longest(began);
            node_process::keep_running(&run, &api, stop, silent_since, |process, ready| {
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
        // On the heap: the future of every command has room for it.
        let mut daemon = Box::pin(in_turn(party, stopped.clone(), say));
        let daemon = async {
            let Some(door) = door else {
                return daemon.await;
            };
            say(json!({ "api": door.address }));
            let api = Arc::clone(&door.api);
            let ended = tokio::select! {
                // Without a daemon there is nothing to ask about.
                ended = &mut daemon => ended,
                () = door.answer(stopped) => daemon.await,
            };
            // It needs the node, which is ended next.
            api.settled(SETTLE_WAIT).await;
            ended
        };
        node_last(node, daemon).await?;
        say(json!({ "medsync": "stopped" }));
        Ok(())
    }
}

/// Runs the daemon: where replicas share the store, only while it is this one's turn. One that lost
/// its turn cuts its rounds off, and whoever has it does them again.
async fn in_turn(
    party: Party,
    mut stop: watch::Receiver<bool>,
    say: impl Fn(serde_json::Value) -> Option<()>,
) -> Result<(), PartyError> {
    if !party.store.is_shared() {
        daemon::run(party, stop, None).await?;
        return Ok(());
    }
    let mut lease = Lease::new(&party.store, Only::Daemon);
    let mut patience = PATIENCE;
    loop {
        say(json!({ "leads": false }));
        let store = tokio::select! {
            store = lease.won() => store,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        say(json!({ "leads": true }));
        let leader = Party {
            store,
            ..party.clone()
        };
        let held = lease.held();
        let ended = tokio::select! {
            biased;
            () = lease.kept() => None,
            ended = held.during(daemon::run(leader, stop.clone(), Some(patience))) => ended,
        };
        let Some(ended) = ended else {
            tracing::warn!("the lease could not be kept: this replica leads no more");
            continue;
        };
        lease.release().await;
        if ended? == Ended::Stopped {
            return Ok(());
        }
        tracing::warn!("a lane failed for too long: another replica may lead");
        // What fails wherever it is done does not cut off everything else again and again.
        patience = (patience * 2).min(PATIENCE_MAX);
        // If nobody else leads then, it does again. A stop is seen above.
        let _ = timeout(OTHERS_FIRST, stop.wait_for(|stop| *stop)).await;
    }
}

/// The HTTP API, before anybody comes in.
struct Door {
    listener: TcpListener,
    address: String,
    _announcement: Announcement,
    api: Arc<Api>,
    bounds: Bounds,
    tls: Option<TlsAcceptor>,
}

impl Door {
    async fn open(party: &Party) -> anyhow::Result<Option<Self>> {
        let Some(config) = &party.config.api else {
            return Ok(None);
        };
        let listen = config.listen;
        let tokens = Tokens::of(&party.home, &mut system_random())?;
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("the API cannot listen at {listen}"))?;
        let listens = listener.local_addr()?;
        let origins = Origins::of(listens, config);
        let staff = config.staff.clone();
        let bounds = Bounds::of(config);
        let mut api = Api::new(party.pipeline()?, tokens, staff, origins, bounds);
        match party.config.role {
            Role::Custodian => api = api.with_custodian(Custodian::of(party)?),
            Role::Recipient => api = api.with_recipient(researcher::keys(party)?),
            Role::Patient => {}
        }
        if let Some(folder) = &config.portal {
            api = api.with_pages(Pages::of(folder)?);
        }
        let tls = config.tls.as_ref().map(api::acceptor).transpose()?;
        // By TLS it is known by the name of its certificate alone.
        let address = match (&tls, &config.origin) {
            (Some(_), Some(origin)) => origin.clone(),
            _ => format!("http://{listens}"),
        };
        let announced = Announced {
            address: address.parse()?,
            listens,
        };
        let announcement = announced.announce(&party.home);
        Ok(Some(Self {
            address,
            _announcement: announcement.context("api.json in the home cannot be written")?,
            listener,
            api: Arc::new(api),
            bounds,
            tls,
        }))
    }

    async fn answer(self, stop: watch::Receiver<bool>) {
        let router = api::router(&self.api);
        let watched = api::watch_circles(&self.api, stop.clone());
        let served = api::serve(self.listener, router, self.bounds, self.tls, stop);
        tokio::join!(watched, served);
    }
}

/// Runs both until the daemon ends, and then tells the node to stop: the rounds that come to their
/// end still need it.
async fn node_last<T>(
    node: impl AsyncFnOnce(watch::Receiver<bool>),
    daemon: impl Future<Output = T>,
) -> T {
    let (end_node, node_stops) = watch::channel(false);
    let daemon = async {
        let ended = daemon.await;
        end_node.send_replace(true);
        ended
    };
    let ((), ended) = tokio::join!(node(node_stops), daemon);
    ended
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn the_node_ends_after_the_rounds_of_the_daemon() {
        let ended = RefCell::new(Vec::new());
        let node = async |mut stop: watch::Receiver<bool>| {
            assert!(stop.wait_for(|stop| *stop).await.is_ok());
            ended.borrow_mut().push("node");
        };
        let daemon = async {
            for _ in 0..100 {
                yield_now().await;
            }
            ended.borrow_mut().push("daemon");
            "why it ended"
        };
        assert_eq!(node_last(node, daemon).await, "why it ended");
        assert_eq!(ended.into_inner(), ["daemon", "node"]);
    }
}
