//! The party's own node as a process beside this one: started, kept running, and ended with it.
//!
//! The node ends when its standard input does, so that it does not outlive a `medsync` that was
//! killed. One that dies, or does not come up, is started again after a rest, and so is one that
//! lives and is silent about a circle; the daemon waits for it like for any node that does not
//! answer.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::config::NodeRun;

/// How long a node may take until it answers: one with thousands of contexts takes a while.
const START_WAIT: Duration = Duration::from_secs(300);
/// How long it may take to end; it itself lets open work end for ten seconds.
const STOP_WAIT: Duration = Duration::from_secs(15);
/// How long a node that died rests; doubles up to the other.
const REST: Duration = Duration::from_millis(500);
const REST_MAX: Duration = Duration::from_secs(30);
/// How long a node has run if its death is not the next of a row.
const STEADY: Duration = Duration::from_secs(60);
/// How long it may be silent about a circle, from the first question that ran out of time to the
/// last; doubles up to the other, since whoever writes into a circle might make it slow for ever.
const SILENT: Duration = Duration::from_secs(60);
const SILENT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked whether it is.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a node says of itself once it answers.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    /// The base address of its API.
    pub api: Url,
    /// Where other nodes reach it, with its identity.
    pub swarm: String,
}

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
enum NodeError {
    /// The program could not be started, or waited for.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It did not say that it answers.
    #[error("it did not come up within {} s", START_WAIT.as_secs())]
    Silent,
    /// It ended before it answered.
    #[error("it ended before it answered; its log says why")]
    Ended,
    /// It said something else.
    #[error("it said {0:?} in the place of its addresses")]
    Babble(String),
    /// It answers elsewhere.
    #[error("it answers at {found}, and the configuration says {expected}")]
    Elsewhere { found: Url, expected: Url },
}

/// How a node's process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By itself, or because everything ends.
    InOrder,
    /// Because it was silent for too long.
    Silent,
}

/// Runs a node until `stop` becomes true. `silent_since` tells for how long a process that began at
/// a time is silent by now; `heard` is told of each process that answers.
///
/// Its log goes where this process's goes.
pub async fn keep_running(
    run: &NodeRun,
    api: &Url,
    mut stop: watch::Receiver<bool>,
    silent_since: impl Fn(Instant) -> Duration,
    heard: impl Fn(u32, &Ready),
) {
    let (mut rest, mut patience) = (Duration::ZERO, SILENT);
    while !*stop.borrow() {
        let started = Instant::now();
        let is_silent = || silent_since(started) >= patience;
        let ended = run_once(run, api, &mut stop, is_silent, &heard).await;
        let ran = started.elapsed();
        match ended {
            Ok(Ended::InOrder) => {}
            Ok(Ended::Silent) => patience = patience_after(patience, ran),
            Err(error) => tracing::warn!(%error, "the node does not run; it is started again"),
        }
        rest = rest_after(rest, ran);
        // Both ends of the wait mean the same: look at the flag.
        let _ = timeout(rest, stop.wait_for(|stop| *stop)).await;
    }
}

/// How long a node rests that ran for so long, after it rested `last` before.
fn rest_after(last: Duration, ran: Duration) -> Duration {
    if ran >= STEADY {
        return REST;
    }
    (last * 2).clamp(REST, REST_MAX)
}

/// How long a node may be silent that was silent for `last`, after it ran for so long.
fn patience_after(last: Duration, ran: Duration) -> Duration {
    let was_well = ran.saturating_sub(last);
    if was_well >= SILENT_MAX {
        return SILENT;
    }
    (last * 2).min(SILENT_MAX)
}

/// Runs a node once; comes back when it ended after it had answered, is silent, or was told to
/// stop.
async fn run_once(
    run: &NodeRun,
    api: &Url,
    stop: &mut watch::Receiver<bool>,
    is_silent: impl Fn() -> bool,
    heard: &impl Fn(u32, &Ready),
) -> Result<Ended, NodeError> {
    let mut process = Command::new(&run.program)
        .args(["run", "--until-input-ends", "--home"])
        .arg(&run.home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    // Held until the node is to end: to wait for a process closes what it has.
    let input = process.stdin.take();
    let stdout = process.stdout.take().ok_or(NodeError::Ended)?;
    let mut lines = BufReader::new(stdout).lines();
    let ready = tokio::select! {
        ready = timeout(START_WAIT, ready_line(&mut lines)) => {
            ready.map_err(|_| NodeError::Silent)?
        }
        _ = stop.wait_for(|stop| *stop) => {
            end(process, input).await?;
            return Ok(Ended::InOrder);
        }
    }?;
    if ready.api != *api {
        return Err(NodeError::Elsewhere {
            found: ready.api,
            expected: api.clone(),
        });
    }
    heard(process.id().unwrap_or_default(), &ready);
    tokio::select! {
        status = process.wait() => {
            tracing::warn!(status = %status?, "the node ended; it is started again");
            Ok(Ended::InOrder)
        }
        () = until(is_silent) => {
            tracing::warn!("the node does not answer about a circle; it is started again");
            end(process, input).await?;
            Ok(Ended::Silent)
        }
        _ = stop.wait_for(|stop| *stop) => {
            end(process, input).await?;
            Ok(Ended::InOrder)
        }
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(LOOK_INTERVAL).await;
    }
}

async fn ready_line(
    lines: &mut tokio::io::Lines<BufReader<ChildStdout>>,
) -> Result<Ready, NodeError> {
    let line = lines.next_line().await?.ok_or(NodeError::Ended)?;
    serde_json::from_str(&line).map_err(|_| NodeError::Babble(line))
}

/// Ends a node in order: it closes its database.
async fn end(mut process: Child, input: Option<ChildStdin>) -> std::io::Result<()> {
    drop(input);
    match timeout(STOP_WAIT, process.wait()).await {
        Ok(ended) => ended.map(drop),
        Err(_) => process.kill().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_node_that_keeps_dying_rests_ever_longer() {
        let mut rest = Duration::ZERO;
        let mut rests = Vec::new();
        for _ in 0..8 {
            rest = rest_after(rest, Duration::ZERO);
            rests.push(rest.as_millis());
        }
        assert_eq!(
            rests,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        );
        assert_eq!(rest_after(rest, STEADY), REST);
    }

    #[test]
    fn hostile_circle_that_is_always_slow_has_the_node_started_again_ever_more_seldom() {
        let mut patience = SILENT;
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(patience.as_secs());
            patience = patience_after(patience, patience);
        }
        assert_eq!(waits[..4], [60, 120, 240, 480]);
        assert_eq!(waits[11], SILENT_MAX.as_secs());
        assert_eq!(patience_after(SILENT_MAX, SILENT_MAX), SILENT_MAX);
        assert_eq!(patience_after(SILENT_MAX, SILENT_MAX * 2), SILENT);
    }

    /// A program in the place of a node: it says that it answers, and notes when its input ends.
    fn stand_in(folder: &Path) -> anyhow::Result<NodeRun> {
        let program = folder.join("node");
        let says = format!(r#"{{"api":"{API}","swarm":"/ip4/127.0.0.1"}}"#);
        let script = format!("#!/bin/sh\necho '{says}'\ncat\n");
        std::fs::write(&program, script)?;
        std::fs::set_permissions(&program, Permissions::from_mode(0o700))?;
        Ok(NodeRun {
            program,
            home: folder.to_owned(),
        })
    }

    const API: &str = "http://127.0.0.1:1/";

    #[tokio::test]
    async fn a_node_that_lives_and_is_silent_is_started_again() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let run = stand_in(folder.path())?;
        let (stop, stopped) = watch::channel(false);
        let processes = Mutex::new(Vec::new());
        let count = || processes.lock().expect("a list").len();
        // The first is silent at once, the next never.
        let silent_since = |_| match count() {
            1 => SILENT,
            _ => Duration::ZERO,
        };
        keep_running(&run, &API.parse()?, stopped, silent_since, |process, _| {
            let mut processes = processes.lock().expect("a list");
            processes.push(process);
            if processes.len() == 2 {
                stop.send_replace(true);
            }
        })
        .await;
        let processes = processes.into_inner()?;
        assert_eq!(processes.len(), 2);
        assert_ne!(processes[0], processes[1]);
        Ok(())
    }
}
