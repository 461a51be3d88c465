//! A Starknet endpoint between a program and a devnet that does what bad endpoints do: one fault at
//! a time, for as long as it is told to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::devnet::Devnet;

/// The method by which an account's call is sent.
const SENDS: &str = "starknet_addInvokeTransaction";
/// The largest request that is passed on.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Longer than any answer that is read.
const HUGE_BYTES: usize = 9 << 20;
/// How long one side may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often an endpoint that stalls looks whether it still does.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What is wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes connections and never answers.
    Stalls,
    /// It answers with HTTP status 500.
    Fails,
    /// It answers in turn with broken JSON, HTML, more than anybody reads, and the answer to the
    /// question before.
    TalksNonsense,
    /// It does what it is asked, and answers after so long.
    Lags(Duration),
    /// Its newest block is the one of this number.
    IsBehind(u64),
    /// It passes a transaction on and loses the answer: what failed took effect.
    LosesAnswers,
}

/// The endpoint. It serves until the test ends.
pub struct Endpoint {
    rpc: String,
    shared: Arc<Shared>,
}

struct Shared {
    behind: SocketAddr,
    fault: Mutex<Option<Fault>>,
    /// Read while devnet is asked.
    open: RwLock<()>,
    /// How much nonsense was talked.
    nonsense: AtomicUsize,
    /// What devnet answered last.
    last: Mutex<Vec<u8>>,
}

impl Shared {
    fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoint {
    /// An endpoint before a devnet, with which nothing is wrong yet.
    ///
    /// # Errors
    /// No free port.
    pub fn before(devnet: &Devnet) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let rpc = format!("http://{}/rpc", listener.local_addr()?);
        let shared = Arc::new(Shared {
            behind: devnet
                .rpc()
                .trim_start_matches("http://")
                .trim_end_matches("/rpc")
                .parse()?,
            fault: Mutex::default(),
            open: RwLock::default(),
            nonsense: AtomicUsize::default(),
            last: Mutex::default(),
        });
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&ours);
                // What goes wrong on one connection is seen by who asked.
                std::thread::spawn(move || shared.serve(client).ok());
            }
        });
        Ok(Self { rpc, shared })
    }

    /// Its address.
    #[must_use]
    pub fn rpc(&self) -> &str {
        &self.rpc
    }

    /// From now on this is wrong with it, or nothing.
    pub fn set(&self, fault: Option<Fault>) {
        let current = self.shared.fault.lock();
        *current.unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Does something while it passes nothing on; requests wait meanwhile.
    pub fn closed_while<T>(&self, act: impl FnOnce() -> T) -> T {
        let _closed = self.shared.open.write();
        act()
    }
}

impl Shared {
    /// One request and its answer; both sides close then.
    fn serve(&self, mut client: TcpStream) -> anyhow::Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(PATIENCE))?;
        let body = read_body(&mut client)?;
        let sends = String::from_utf8_lossy(&body).contains(SENDS);
        let answer = match self.fault() {
            None => self.pass_on(&body)?,
            Some(Fault::Stalls) => {
                let began = Instant::now();
                while self.fault() == Some(Fault::Stalls) && began.elapsed() < PATIENCE {
                    std::thread::sleep(POLL_INTERVAL);
                }
                Vec::new()
            }
            Some(Fault::Fails) => http("500 Internal Server Error", b""),
            Some(Fault::TalksNonsense) => self.nonsense(),
            Some(Fault::Lags(delay)) => {
                let answer = self.pass_on(&body)?;
                std::thread::sleep(delay);
                answer
            }
            Some(Fault::IsBehind(number)) => self.pass_on(&as_of(&body, number)?)?,
            Some(Fault::LosesAnswers) => {
                let answer = self.pass_on(&body)?;
                if sends { Vec::new() } else { answer }
            }
        };
        client.write_all(&answer)?;
        client.shutdown(Shutdown::Both)?;
        Ok(())
    }

    /// Asks devnet.
    fn pass_on(&self, body: &[u8]) -> anyhow::Result<Vec<u8>> {
        let _open = self.open.read();
        let mut devnet = TcpStream::connect(self.behind)?;
        devnet.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "POST /rpc HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        devnet.write_all(head.as_bytes())?;
        devnet.write_all(body)?;
        let mut answer = Vec::new();
        devnet.read_to_end(&mut answer)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone_from(&answer);
        Ok(answer)
    }

    fn nonsense(&self) -> Vec<u8> {
        match self.nonsense.fetch_add(1, Ordering::SeqCst) % 4 {
            0 => http("200 OK", br#"{"jsonrpc":"2.0","id":1,"result":"0x"#),
            1 => http("200 OK", b"<html><body>Be right back.</body></html>"),
            2 => http("200 OK", &vec![b' '; HUGE_BYTES]),
            _ => {
                let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                last.clone()
            }
        }
    }
}

/// A whole answer.
fn http(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.0 {status}\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The same question, about the block of a number where it was about the newest.
fn as_of(body: &[u8], number: u64) -> anyhow::Result<Vec<u8>> {
    let mut question: Value = serde_json::from_slice(body)?;
    if let Some(block) = question["params"].get_mut("block_id")
        && (*block == "latest" || *block == "pre_confirmed")
    {
        *block = json!({"block_number": number});
    }
    Ok(serde_json::to_vec(&question)?)
}

/// The body of a request that says how long it is.
fn read_body(client: &mut TcpStream) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("no length")?.trim().parse()?;
            if bytes.len() - at - 4 >= length {
                return Ok(bytes.split_off(at + 4));
            }
        }
        let read = client.read(&mut chunk)?;
        anyhow::ensure!(read > 0 && bytes.len() < REQUEST_BYTES_MAX, "no request");
        bytes.extend_from_slice(&chunk[..read]);
    }
}
