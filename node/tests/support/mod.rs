//! The real program as a test sees it: a home in a temporary folder and a child process.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_medsync-node");

/// A folder that holds one home and its node's log.
pub struct Place(TempDir);

impl Place {
    /// A place with a fresh home, made by `init` with free ports.
    pub async fn with_home() -> Result<Self> {
        let place = Self::empty()?;
        let made = place.init().await?;
        ensure!(made.status.success(), "init failed: {made:?}");
        Ok(place)
    }

    /// A place without a home.
    pub fn empty() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// Runs `init` to its end.
    pub async fn init(&self) -> Result<Output> {
        let mut command = self.command("init");
        Ok(command
            .args(["--api-port", "0", "--swarm-port", "0"])
            .output()
            .await?)
    }

    /// Runs `run` to its end: for a node that must refuse to start.
    pub async fn run_to_the_end(&self, flags: &[&str]) -> Result<Output> {
        Ok(self.command("run").args(flags).output().await?)
    }

    /// Starts the node and waits for its ready line.
    pub async fn start(&self, flags: &[&str]) -> Result<Node> {
        let mut child = self
            .command("run")
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(File::create(self.log_path())?)
            .spawn()?;
        let stdout = child.stdout.take().context("the child has no stdout")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let line = line.with_context(|| {
            format!(
                "the node ended before it was ready: {}",
                self.log().unwrap_or_default()
            )
        })?;
        Ok(Node {
            child,
            ready: serde_json::from_str(&line)?,
            client: Client::new(),
        })
    }

    pub fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    /// The username and password of the home.
    pub fn credential(&self) -> Result<Value> {
        read_json(&self.home().join("credential.json"))
    }

    /// What the last node wrote to stderr.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.log_path())?)
    }

    fn log_path(&self) -> PathBuf {
        self.0.path().join("node.log")
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg(verb)
            .arg("--home")
            .arg(self.home())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// A running node that has said that it is ready.
pub struct Node {
    child: Child,
    ready: Value,
    client: Client,
}

impl Node {
    pub fn api(&self) -> &str {
        self.ready["api"].as_str().unwrap_or_default()
    }

    pub fn swarm(&self) -> &str {
        self.ready["swarm"].as_str().unwrap_or_default()
    }

    pub fn peer_id(&self) -> &str {
        self.ready["peer_id"].as_str().unwrap_or_default()
    }

    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the node has ended")
    }

    /// A request without a token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.api()))
    }

    /// Asks for a token.
    pub async fn log_in(&self, credential: &Value) -> Result<Response> {
        let body = json!({
            "auth_method": "user_password",
            "public_key": "medsync",
            "client_name": "medsync",
            "timestamp": 0,
            "permissions": null,
            "provider_data": credential,
        });
        Ok(self
            .request(Method::POST, "/auth/token")
            .json(&body)
            .send()
            .await?)
    }

    /// The access token of a credential that must be right.
    pub async fn token(&self, credential: &Value) -> Result<String> {
        let answer = self.log_in(credential).await?;
        ensure!(answer.status() == StatusCode::OK, "no token: {answer:?}");
        let body: Value = answer.json().await?;
        body["data"]["access_token"]
            .as_str()
            .map(str::to_owned)
            .context("no token in the answer")
    }

    /// Ends the node as a power cut would, and waits until it is gone.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks the node to stop, and waits until it has.
    pub async fn terminate(mut self) -> Result<ExitStatus> {
        let pid = self.pid()?.to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await?;
        ensure!(sent.success(), "cannot signal {pid}");
        Ok(self.child.wait().await?)
    }
}

/// A call of an app's method on a context that no node has.
pub fn call(argument: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "execute",
        "params": {
            "contextId": "11111111111111111111111111111111",
            "method": "set",
            "argsJson": { "key": argument },
        },
    })
}

/// A port of 127.0.0.1 that is in use for as long as the listener lives.
pub fn occupied_port() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port().to_string();
    Ok((listener, port))
}

pub fn read_json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}
