//! A party as a service manager runs it: `medsync up`, with the party's node if its home says how.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use medsync::config::{CONFIG_FILE, Config, NodeRun};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use url::Url;

use crate::medsync::program;
use crate::node::{SYNC_INTERVAL_S, command};

/// How long a node may take to answer, on a machine that is busy building.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running `medsync up`; it and its node are killed when it is dropped.
#[derive(Debug)]
pub struct Up {
    home: PathBuf,
    child: Child,
    /// How the node is run, if it is.
    run: Option<NodeRun>,
    /// The nodes that answered, the last of which runs.
    heard: Receiver<Ready>,
    node: Option<Ready>,
    said: Said,
}

/// What it said last of itself.
#[derive(Clone, Debug, Default)]
struct Said {
    door: Arc<Mutex<Option<Url>>>,
    leads: Arc<AtomicBool>,
}

/// A line that it prints.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Node(Ready),
    Door { api: Url },
    Turn { leads: bool },
}

/// The line that says that a node answers.
#[derive(Clone, Debug, Deserialize)]
struct Ready {
    process: u32,
    api: Url,
    swarm: String,
}

impl Up {
    /// Starts the party of a home, and waits until its node answers if it has one; the log goes to
    /// `daemon.log` there.
    ///
    /// # Errors
    /// A program that cannot be started, or a node that does not come up.
    pub fn start(home: &Path) -> anyhow::Result<Self> {
        let run = Config::load(home)?.node.run;
        let said = Said::default();
        let (child, heard) = spawn(home, None, &said)?;
        let mut up = Self {
            home: home.to_owned(),
            child,
            run,
            heard,
            node: None,
            said,
        };
        up.wait_for_node()?;
        Ok(up)
    }

    /// Whether it has not ended by itself.
    ///
    /// # Errors
    /// A system that does not say.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// The number of its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where its own API answers.
    ///
    /// # Errors
    /// A party without one.
    pub fn door(&self) -> anyhow::Result<Url> {
        let door = self.said.door.lock();
        let door = door.unwrap_or_else(PoisonError::into_inner);
        door.clone().context("it has no API")
    }

    /// Whether it said last that it leads the replicas of its home.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.said.leads.load(Ordering::SeqCst)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// A process that is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let number = Pid::from_raw(self.process().try_into()?).context("it has a number")?;
        Ok(kill_process(number, signal)?)
    }

    /// Where the node's API answers.
    ///
    /// # Errors
    /// A party without a node.
    pub fn api(&self) -> anyhow::Result<&str> {
        Ok(self.node()?.api.as_str())
    }

    /// Where other nodes reach the node, with its identity.
    ///
    /// # Errors
    /// A party without a node.
    pub fn swarm(&self) -> anyhow::Result<&str> {
        Ok(&self.node()?.swarm)
    }

    /// The file with the username and password of the node's API.
    ///
    /// # Errors
    /// A party without a node.
    pub fn credential(&self) -> anyhow::Result<PathBuf> {
        let run = self.run.as_ref().context("it runs no node")?;
        Ok(run.home.join("credential.json"))
    }

    /// Kills it, and its node with it, and starts it again.
    ///
    /// # Errors
    /// A program that cannot be started, a node that does not come back.
    pub fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.restart_with_rpc(None)
    }

    /// The same, with another Starknet endpoint than the configured ones.
    ///
    /// # Errors
    /// As [`Up::kill_and_restart`].
    pub fn restart_with_rpc(&mut self, rpc: Option<&str>) -> anyhow::Result<()> {
        self.kill();
        (self.child, self.heard) = spawn(&self.home, rpc, &self.said)?;
        self.wait_for_node()
    }

    /// Kills the node alone, and waits until it is there again by itself.
    ///
    /// # Errors
    /// A party without a node, or a node that does not come back.
    pub fn kill_node(&mut self) -> anyhow::Result<()> {
        self.hear();
        kill(self.node()?.process)?;
        self.wait_for_node()
    }

    /// Does something while the node is dead and cannot come back.
    ///
    /// # Errors
    /// What was done; a node that does not come back.
    pub fn without_node<T>(
        &mut self,
        act: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let home = &self.run.as_ref().context("it runs no node")?.home;
        let (settings, hidden) = (home.join("config.toml"), home.join("hidden.toml"));
        std::fs::rename(&settings, &hidden)?;
        self.hear();
        kill(self.node()?.process)?;
        let done = act();
        std::fs::rename(&hidden, &settings)?;
        self.wait_for_node()?;
        done
    }

    fn node(&self) -> anyhow::Result<&Ready> {
        self.node.as_ref().context("it runs no node")
    }

    fn wait_for_node(&mut self) -> anyhow::Result<()> {
        if self.run.is_none() {
            return Ok(());
        }
        match self.heard.recv_timeout(PATIENCE) {
            Ok(node) => self.node = Some(node),
            Err(RecvTimeoutError::Disconnected) => bail!("medsync up ended; see its daemon.log"),
            Err(RecvTimeoutError::Timeout) => bail!("no node within {} s", PATIENCE.as_secs()),
        }
        Ok(())
    }

    /// A node that ended by itself was followed by another.
    fn hear(&mut self) {
        self.node = self.heard.try_iter().last().or(self.node.take());
    }

    fn kill(&mut self) {
        self.hear();
        self.said.leads.store(false, Ordering::SeqCst);
        // A child that is gone already needs no kill; its node ends with its input, or now.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(node) = self.node.take() {
            let _ = kill(node.process);
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a process that is not a child of this one, and waits until it is gone.
fn kill(process: u32) -> anyhow::Result<()> {
    let number = Pid::from_raw(process.try_into()?).context("a process has a number")?;
    match kill_process(number, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    for _ in 0..PATIENCE.as_millis() / POLL_INTERVAL.as_millis() {
        if is_gone(number) {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    bail!("process {process} does not end")
}

/// Also if nobody has asked yet how it ended.
fn is_gone(process: Pid) -> bool {
    let file = format!("/proc/{}/stat", process.as_raw_nonzero());
    let stat = std::fs::read_to_string(file).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    state.is_empty() || state.starts_with('Z')
}

fn spawn(home: &Path, rpc: Option<&str>, said: &Said) -> anyhow::Result<(Child, Receiver<Ready>)> {
    said.leads.store(false, Ordering::SeqCst);
    let log = File::options()
        .create(true)
        .append(true)
        .open(home.join("daemon.log"))?;
    // A write beyond a limit on the size of files fails then, as on a full disk, instead of ending
    // the process.
    const UNSIGNALLED: &str = "trap '' XFSZ; exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", UNSIGNALLED])
        .arg(program("medsync")?)
        .args(["up", "--config"])
        .arg(home.join(CONFIG_FILE))
        .envs(rpc.map(|rpc| ("MEDSYNC__CHAIN__RPC", format!("[\"{rpc}\"]"))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let heard = listen(child.stdout.take().context("a pipe")?, said.clone());
    Ok((child, heard))
}

/// Reads what it prints in a thread, because a pipe cannot be waited for shortly.
fn listen(stdout: ChildStdout, said: Said) -> Receiver<Ready> {
    let (sender, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        for line in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
            match line {
                // Nobody may be waiting any more.
                Line::Node(ready) => drop(sender.send(ready)),
                Line::Door { api } => {
                    let mut door = said.door.lock().unwrap_or_else(PoisonError::into_inner);
                    *door = Some(api);
                }
                Line::Turn { leads } => said.leads.store(leads, Ordering::SeqCst),
            }
        }
    });
    heard
}

/// A node's home, as `medsync-node init` says.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeHome {
    /// The folder.
    pub home: String,
    /// Where the API will answer.
    pub api: String,
    /// Where other nodes will reach it.
    pub swarm: String,
    /// The file with the username and password of its API.
    pub credential: String,
}

impl NodeHome {
    /// What the set-up of a party has to be told.
    #[must_use]
    pub fn arguments(&self) -> [&str; 6] {
        [
            "--node-api",
            &self.api,
            "--node-credential",
            &self.credential,
            "--node-home",
            &self.home,
        ]
    }
}

/// Makes a home of `medsync-node` at two ports that are free now.
///
/// # Errors
/// A program that is not built, or that refuses.
pub fn node_home(home: &Path, peer: Option<&str>) -> anyhow::Result<NodeHome> {
    let held =
        [0, 0].map(|port| std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)));
    let mut ports = Vec::new();
    for listener in held {
        ports.push(listener?.local_addr()?.port().to_string());
    }
    let made = command("init", home)?
        .args(["--api-port", &ports[0], "--swarm-port", &ports[1]])
        .args(["--sync-interval-s", SYNC_INTERVAL_S])
        .args(peer.iter().flat_map(|peer| ["--peer", peer]))
        .output()?;
    let why = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "medsync-node init: {}", why.trim());
    serde_json::from_slice(&made.stdout).context("medsync-node init says where the node will be")
}
