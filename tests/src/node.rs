//! A real Calimero node for tests, demo and measurements: `medsync-node` on free ports.
//!
//! Its home is made on the first start. It ends when it is dropped, as a power cut would end it;
//! started again, it has the same addresses, so that whoever knew them before still does.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::medsync::program;

/// How long a node may take to answer, on a machine that is busy building.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many seconds lie between two comparisons of one context with a peer. Writes travel at once
/// by gossip; a test waits for the ones that gossip missed.
pub(crate) const SYNC_INTERVAL_S: &str = "2";

/// How much of a log an error shows.
const LOG_LINES_SHOWN: usize = 5;

/// A running node.
#[derive(Debug)]
pub struct Node {
    process: Child,
    home: PathBuf,
    credential: PathBuf,
    ready: Ready,
}

/// The line that a node prints once it answers.
#[derive(Debug, Deserialize)]
struct Ready {
    api: String,
    swarm: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

impl Node {
    /// Starts a node whose home is `home`, made if it is not there; its log lies beside it.
    ///
    /// # Errors
    /// A program that is not built, or that does not come up; the text has the end of its log.
    pub fn start(home: &Path) -> anyhow::Result<Self> {
        Self::start_with(home, &[])
    }

    /// Starts a node that knows where another one is.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_with_peer(home: &Path, peer: &str) -> anyhow::Result<Self> {
        Self::start_with(home, &["--peer", peer])
    }

    /// Starts a node whose home is made with these flags of `medsync-node init` if it is not there.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_with(home: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        if !home.join("config.toml").exists() {
            let any_ports = ["--api-port", "0", "--swarm-port", "0"];
            let rare = ["--sync-interval-s", SYNC_INTERVAL_S];
            let is_named = flags.contains(&rare[0]);
            let made = command("init", home)?
                .args(any_ports)
                .args(rare.iter().filter(|_| !is_named))
                .args(flags)
                .output()?;
            if !made.status.success() {
                bail!(
                    "medsync-node init: {}",
                    String::from_utf8_lossy(&made.stderr).trim()
                );
            }
        }
        let (process, ready) = run(home, flags)?;
        let credential = home.join("credential.json");
        Ok(Self {
            process,
            home: home.to_owned(),
            credential,
            ready,
        })
    }

    /// The number of its process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The base address of its API.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.ready.api
    }

    /// Where other nodes reach it, with its identity.
    #[must_use]
    pub fn swarm(&self) -> &str {
        &self.ready.swarm
    }

    /// The file with the username and password of its API.
    #[must_use]
    pub fn credential(&self) -> &Path {
        &self.credential
    }

    /// Kills it without a warning and starts it again at the same addresses. It goes on with the
    /// peers of its home.
    ///
    /// # Errors
    /// A node that does not come back.
    pub fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.restart()
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    /// Starts it again after [`Node::kill`], at the same addresses.
    ///
    /// # Errors
    /// A node that does not come back.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.restart_with(&[])
    }

    /// The same with these flags of `medsync-node run` over what its home says.
    ///
    /// # Errors
    /// As [`Node::restart`].
    pub fn restart_with(&mut self, flags: &[&str]) -> anyhow::Result<()> {
        let api = self.ready.api.rsplit(':').next().unwrap_or_default();
        let swarm = self.ready.swarm.split('/').nth(4).unwrap_or_default();
        let same = ["--api-port", api, "--swarm-port", swarm];
        let (process, ready) = run(&self.home, &[&same[..], flags].concat())?;
        self.process = process;
        self.ready = ready;
        Ok(())
    }
}

/// A command of the node's program.
pub(crate) fn command(verb: &str, home: &Path) -> anyhow::Result<Command> {
    let path = match std::env::var_os("MEDSYNC_NODE") {
        Some(path) => PathBuf::from(path),
        None => program("medsync-node")?,
    };
    let mut command = Command::new(path);
    command
        .arg(verb)
        .arg("--home")
        .arg(home)
        .stdin(Stdio::null());
    Ok(command)
}

/// Runs a node and waits for its line.
fn run(home: &Path, flags: &[&str]) -> anyhow::Result<(Child, Ready)> {
    let log = home.with_extension("log");
    let stderr = OpenOptions::new().create(true).append(true).open(&log)?;
    let mut command = command("run", home)?;
    let mut process = command
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()?;
    let stdout = process
        .stdout
        .take()
        .context("a piped child has a stdout")?;
    let ready = ready_line(stdout)
        .and_then(|line| serde_json::from_str(&line).with_context(|| format!("it said {line}")));
    match ready {
        Ok(ready) => Ok((process, ready)),
        Err(error) => {
            kill(&mut process);
            Err(error.context(format!("the node did not come up: {}", end_of(&log))))
        }
    }
}

/// The ready line of a node, waited for in a thread because a pipe cannot be waited for shortly.
/// Calimero's authentication prints a line of its own before it.
fn ready_line(stdout: ChildStdout) -> anyhow::Result<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout).lines();
        // Nobody may be waiting any more. Reading on keeps the pipe open for whatever follows.
        let is_ready =
            |line: &io::Result<String>| line.as_ref().map_or(true, |l| l.starts_with('{'));
        let _ = sender.send(lines.find(is_ready));
        lines.for_each(drop);
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(Some(line)) => Ok(line?),
        Ok(None) => bail!("it ended"),
        Err(_) => bail!("it said nothing for {} s", PATIENCE.as_secs()),
    }
}

/// The end of a log, for an error.
fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

fn kill(process: &mut Child) {
    // A child that has ended already is what is wanted.
    let _ = process.kill();
    let _ = process.wait();
}
