//! The party's own node as a process beside this one: started, kept running, and ended with it.
//!
//! The node ends when its standard input does, so that it does not outlive a `medsync` that was
//! killed. One that dies, or does not come up, is started again after a rest; the daemon waits for
//! it like for any node that does not answer.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
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

/// Runs a node until `stop` becomes true; `heard` is told of each process that answers.
///
/// Its log goes where this process's goes.
pub async fn keep_running(
    run: &NodeRun,
    api: &Url,
    mut stop: watch::Receiver<bool>,
    heard: impl Fn(u32, &Ready),
) {
    let mut rest = Duration::ZERO;
    while !*stop.borrow() {
        let started = Instant::now();
        if let Err(error) = run_once(run, api, &mut stop, &heard).await {
            tracing::warn!(%error, "the node does not run; it is started again");
        }
        rest = rest_after(rest, started.elapsed());
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

/// Runs a node once; comes back when it ended after it had answered, or was told to stop.
async fn run_once(
    run: &NodeRun,
    api: &Url,
    stop: &mut watch::Receiver<bool>,
    heard: &impl Fn(u32, &Ready),
) -> Result<(), NodeError> {
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
        _ = stop.wait_for(|stop| *stop) => return Ok(end(process, input).await?),
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
            Ok(())
        }
        _ = stop.wait_for(|stop| *stop) => Ok(end(process, input).await?),
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
}
