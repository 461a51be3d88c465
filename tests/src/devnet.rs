//! A real Starknet for tests, demo and measurements: starknet-devnet on a free port.
//!
//! It ends when it is dropped. Unlike a real chain, devnet forgets everything when it is killed,
//! so that [`Devnet::kill_and_restart`] carries its history over, block times included.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

/// The version that is installed by `scripts/setup`.
const VERSION: &str = "0.10.1";
/// How long devnet may take to answer for the first time, on a machine that is busy building.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often something is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How many ports are tried: another program can take a free one first.
const PORTS_TRIED: u32 = 5;
/// Where the history of a killed devnet is kept for the next.
const HISTORY: &str = "history.json";

/// An account that devnet has from the start, with plenty of STRK.
#[derive(Clone, Debug)]
pub struct DevnetAccount {
    /// Its address, in the canonical spelling.
    pub address: String,
    /// Its private key; the same on every machine, worth nothing anywhere else.
    pub private_key: String,
}

/// When a block is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// After every transaction.
    OnTransaction,
    /// When [`Devnet::close_block`] says so; until then, transactions are pre-confirmed.
    OnDemand,
    /// Each time so many seconds have passed; until then, transactions are pre-confirmed.
    EachSeconds(u32),
}

/// A running devnet.
#[derive(Debug)]
pub struct Devnet {
    process: Child,
    port: u16,
    rpc: String,
    folder: PathBuf,
    blocks: Blocks,
    accounts: Vec<DevnetAccount>,
}

impl Drop for Devnet {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

impl Devnet {
    /// Starts a devnet with the accounts of seed 0; its log and history go into `folder`.
    ///
    /// # Errors
    /// A devnet that is not installed, or does not come up; the text says which and what to do.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_making(Blocks::OnTransaction, folder)
    }

    /// Starts a devnet as [`Devnet::start`] does, whose blocks close as told.
    ///
    /// # Errors
    /// As [`Devnet::start`].
    pub fn start_making(blocks: Blocks, folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.to_owned();
        fs::create_dir_all(&folder)?;
        for _ in 1..PORTS_TRIED {
            if let Ok(devnet) = Self::start_at(free_port()?, blocks, folder.clone()) {
                return Ok(devnet);
            }
        }
        Self::start_at(free_port()?, blocks, folder)
    }

    fn start_at(port: u16, blocks: Blocks, folder: PathBuf) -> anyhow::Result<Self> {
        let mut process = spawn(port, blocks, &folder, None)?;
        if let Err(error) = wait_until_up(&mut process, port, &folder) {
            kill(&mut process);
            return Err(error);
        }
        let mut devnet = Self {
            process,
            port,
            rpc: format!("http://127.0.0.1:{port}/rpc"),
            folder,
            blocks,
            accounts: Vec::new(),
        };
        devnet.accounts = accounts(&devnet.ask("devnet_getPredeployedAccounts", &json!({}))?)?;
        Ok(devnet)
    }

    /// The address of its JSON-RPC.
    #[must_use]
    pub fn rpc(&self) -> &str {
        &self.rpc
    }

    /// The accounts that it has from the start.
    #[must_use]
    pub fn accounts(&self) -> &[DevnetAccount] {
        &self.accounts
    }

    /// Asks a method of its JSON-RPC, its own `devnet_…` ones included.
    ///
    /// # Errors
    /// A devnet that is gone, or that refuses.
    pub fn ask(&self, method: &str, params: &Value) -> anyhow::Result<Value> {
        ask(self.port, method, params)
    }

    /// The time of its newest block, in unix seconds.
    ///
    /// # Errors
    /// As [`Devnet::ask`].
    pub fn time(&self) -> anyhow::Result<u64> {
        let latest = json!({"block_id": "latest"});
        let header = self.ask("starknet_getBlockWithTxHashes", &latest)?;
        let time = header["timestamp"].as_u64();
        time.context("a block has a timestamp")
    }

    /// The number of its newest block.
    ///
    /// # Errors
    /// As [`Devnet::ask`].
    pub fn number(&self) -> anyhow::Result<u64> {
        let number = self.ask("starknet_blockNumber", &json!({}))?;
        number.as_u64().context("a block has a number")
    }

    /// Closes a block now.
    ///
    /// # Errors
    /// As [`Devnet::ask`].
    pub fn close_block(&self) -> anyhow::Result<()> {
        self.ask("devnet_createBlock", &json!({})).map(drop)
    }

    /// Moves its clock to a time, in unix seconds, and closes a block at it.
    ///
    /// # Errors
    /// As [`Devnet::ask`].
    pub fn close_block_at(&self, unix_seconds: u64) -> anyhow::Result<()> {
        let params = json!({"time": unix_seconds, "generate_block": true});
        self.ask("devnet_setTime", &params).map(drop)
    }

    /// Takes the newest blocks away, from one of this number on, as a reorganisation does.
    ///
    /// # Errors
    /// As [`Devnet::ask`].
    pub fn abort_blocks(&self, from: u64) -> anyhow::Result<()> {
        let params = json!({"starting_block_id": {"block_number": from}});
        self.ask("devnet_abortBlocks", &params).map(drop)
    }

    /// Kills it without a warning and starts it again, at the same address and with the same
    /// chain.
    ///
    /// # Errors
    /// A devnet that does not come back; one whose blocks close otherwise than on each transaction
    /// is not carried over.
    pub fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        ensure!(
            self.blocks == Blocks::OnTransaction,
            "its transactions may be in no block"
        );
        let history = self.history()?;
        fs::write(
            self.folder.join(HISTORY),
            serde_json::to_vec(&history.events)?,
        )?;
        kill(&mut self.process);
        self.process = spawn(
            self.port,
            self.blocks,
            &self.folder,
            Some(history.start_time),
        )?;
        wait_until_up(&mut self.process, self.port, &self.folder)?;
        // Replaying the history left the clock at the last block, which may be ahead of ours.
        let time = unix_seconds()?.max(self.time()?);
        let params = json!({"time": time, "generate_block": false});
        self.ask("devnet_setTime", &params).map(drop)
    }

    /// What was done, with the time of each block before the request that made it: devnet itself
    /// would make the blocks anew with the time of the restart.
    fn history(&self) -> anyhow::Result<History> {
        let events = self.ask("devnet_dump", &json!({}))?;
        let events = events.as_array().context("devnet_dump gives a list")?;
        let blocks = blocks_of(events)?;
        let tip = self.number()?;
        ensure!(
            tip == blocks.len() as u64,
            "devnet has {tip} blocks and a history of {}",
            blocks.len()
        );
        let mut timed = Vec::new();
        for (number, event) in (1..).zip(blocks) {
            let time = self.time_of(number)?;
            if event["method"] == "devnet_setTime" {
                timed.push(set_time(time, true));
            } else {
                timed.push(set_time(time, false));
                timed.push(event.clone());
            }
        }
        Ok(History {
            start_time: self.time_of(0)?,
            events: timed,
        })
    }

    /// The time of a block, in unix seconds.
    ///
    /// # Errors
    /// As [`Devnet::ask`].
    pub fn time_of(&self, block: u64) -> anyhow::Result<u64> {
        let params = json!({"block_id": {"block_number": block}});
        let header = self.ask("starknet_getBlockWithTxHashes", &params)?;
        header["timestamp"]
            .as_u64()
            .context("a block has a timestamp")
    }
}

struct History {
    start_time: u64,
    events: Vec<Value>,
}

/// Of what was done, what made each block that is there, from the first on.
fn blocks_of(events: &[Value]) -> anyhow::Result<Vec<&Value>> {
    let mut blocks = Vec::new();
    for event in events {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("devnet_abortBlocks") => {
                let from = params["starting_block_id"]["block_number"].as_u64();
                let from = usize::try_from(from.context("blocks are aborted by their number")?)?;
                // The first is number 1.
                blocks.truncate(from.saturating_sub(1));
            }
            Some("devnet_setTime") if params["generate_block"].as_bool() != Some(true) => {}
            _ => blocks.push(event),
        }
    }
    Ok(blocks)
}

fn set_time(time: u64, generate_block: bool) -> Value {
    json!({
        "jsonrpc": "2.0",
        "method": "devnet_setTime",
        "params": {"time": time, "generate_block": generate_block},
        "id": 1,
    })
}

/// Where devnet is: `MEDSYNC_DEVNET`, the cache of `scripts/setup`, or the path.
///
/// # Errors
/// A devnet that is not installed.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("MEDSYNC_DEVNET") {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "MEDSYNC_DEVNET names {}, which is no file; run scripts/setup",
            path.display()
        );
        return Ok(path);
    }
    let from = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = from("MEDSYNC_CACHE")
        .or_else(|| Some(from("XDG_CACHE_HOME")?.join("medsync")))
        .or_else(|| Some(from("HOME")?.join(".cache/medsync")));
    let cached = cache.map(|cache| cache.join(format!("starknet-devnet-{VERSION}/bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = cached.into_iter().chain(std::env::split_paths(&path));
    folders
        .map(|folder| folder.join("starknet-devnet"))
        .find(|program| program.is_file())
        .with_context(|| format!("starknet-devnet {VERSION} is not installed; run scripts/setup"))
}

fn spawn(
    port: u16,
    blocks: Blocks,
    folder: &Path,
    start_time: Option<u64>,
) -> anyhow::Result<Child> {
    let program = program()?;
    let log = fs::File::create(log_file(folder))?;
    let mut command = Command::new(&program);
    // Devnet takes options from variables with names as plain as TIMEOUT.
    command.env_clear();
    command.args(["--seed", "0", "--accounts", "10", "--host", "127.0.0.1"]);
    command.args(["--port", &port.to_string()]);
    let blocks = match blocks {
        Blocks::OnTransaction => "transaction".to_owned(),
        Blocks::OnDemand => "demand".to_owned(),
        Blocks::EachSeconds(seconds) => seconds.to_string(),
    };
    command.args(["--block-generation-on", &blocks]);
    // Real nodes answer about recent blocks by their hash; devnet only with an archive.
    command.args(["--state-archive-capacity", "full", "--dump-on", "request"]);
    command.arg("--dump-path").arg(folder.join(HISTORY));
    if let Some(time) = start_time {
        command.args(["--start-time", &time.to_string()]);
    }
    command
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log);
    command
        .spawn()
        .with_context(|| format!("{} cannot be started", program.display()))
}

fn wait_until_up(process: &mut Child, port: u16, folder: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        if let Some(status) = process.try_wait()? {
            let log = fs::read_to_string(log_file(folder)).unwrap_or_default();
            bail!("devnet ended with {status}: {}", log.trim());
        }
        match ask(port, "starknet_chainId", &json!({})) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => {
                return Err(error.context("devnet does not answer"));
            }
            Err(_) => std::thread::sleep(POLL_INTERVAL),
        }
    }
}

fn kill(process: &mut Child) {
    // Either fails only if the process has ended already.
    process.kill().ok();
    process.wait().ok();
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("devnet.log")
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn unix_seconds() -> anyhow::Result<u64> {
    Ok(SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs())
}

fn accounts(list: &Value) -> anyhow::Result<Vec<DevnetAccount>> {
    let text = |account: &Value, key: &str| -> anyhow::Result<String> {
        let text = account[key]
            .as_str()
            .with_context(|| format!("an account without {key}"))?;
        let digits = text.trim_start_matches("0x").trim_start_matches('0');
        Ok(format!("0x{digits}"))
    };
    let list = list.as_array().context("the accounts are a list")?;
    list.iter()
        .map(|account| {
            Ok(DevnetAccount {
                address: text(account, "address")?,
                private_key: text(account, "private_key")?,
            })
        })
        .collect()
}

/// One request over HTTP/1.0, whose answer ends with the connection.
fn ask(port: u16, method: &str, params: &Value) -> anyhow::Result<Value> {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let body = request.to_string();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /rpc HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .context("devnet answered without a body")?;
    let answer: Value = serde_json::from_str(body)?;
    if answer["error"].is_null() {
        return Ok(answer["result"].clone());
    }
    bail!("devnet refused {method}: {}", answer["error"]);
}
