//! A Starknet endpoint between a program and a devnet that takes what it is sent and loses the
//! answer: what failed, and took effect.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;

use crate::devnet::Devnet;

/// The method by which an account's call is sent.
const SENDS: &str = "starknet_addInvokeTransaction";
/// The largest request that is passed on.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// How long one side may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// The endpoint. It serves until the test ends.
pub struct Lossy {
    rpc: String,
    loses: Arc<AtomicBool>,
}

impl Lossy {
    /// An endpoint before a devnet, which loses nothing yet.
    ///
    /// # Errors
    /// No free port.
    pub fn before(devnet: &Devnet) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let rpc = format!("http://{}/rpc", listener.local_addr()?);
        let behind: SocketAddr = devnet
            .rpc()
            .trim_start_matches("http://")
            .trim_end_matches("/rpc")
            .parse()?;
        let loses = Arc::new(AtomicBool::new(false));
        let ours = Arc::clone(&loses);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let loses = Arc::clone(&ours);
                // What goes wrong on one connection is seen by who asked.
                std::thread::spawn(move || pass_on(client, behind, &loses).ok());
            }
        });
        Ok(Self { rpc, loses })
    }

    /// Its address.
    #[must_use]
    pub fn rpc(&self) -> &str {
        &self.rpc
    }

    /// From now on the answer to whoever sends a transaction is lost, or is not any more.
    pub fn lose(&self, loses: bool) {
        self.loses.store(loses, Ordering::SeqCst);
    }
}

/// One request and its answer; both sides close then.
fn pass_on(mut client: TcpStream, behind: SocketAddr, loses: &AtomicBool) -> anyhow::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let body = read_body(&mut client)?;
    let mut devnet = TcpStream::connect(behind)?;
    devnet.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST /rpc HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    devnet.write_all(head.as_bytes())?;
    devnet.write_all(&body)?;
    let mut answer = Vec::new();
    devnet.read_to_end(&mut answer)?;
    let sends = String::from_utf8_lossy(&body).contains(SENDS);
    if !(sends && loses.load(Ordering::SeqCst)) {
        client.write_all(&answer)?;
    }
    client.shutdown(Shutdown::Both)?;
    Ok(())
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
