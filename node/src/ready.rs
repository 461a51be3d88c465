//! When a node may be used, and how another program learns its addresses.
//!
//! Invariant: a [`Ready`] is announced only after the API answered a health request over HTTP;
//! a spawned task or a bound port is not enough.

use std::net::Ipv4Addr;
use std::time::Duration;

use libp2p::PeerId;
use multiaddr::{Multiaddr, Protocol};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

const POLL_EVERY: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

const HEALTH: &[u8] =
    b"GET /admin-api/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

/// The line that `run` prints once: where the node is, and who it is.
#[derive(Debug, Serialize)]
pub struct Ready {
    /// Base URL of the HTTP API.
    api: String,
    /// Address that other nodes dial, with the identity they will meet.
    swarm: Multiaddr,
    /// The node's peer-to-peer identity; it stays the same for the life of the home.
    peer_id: String,
}

impl Ready {
    /// The line for a node that listens on these ports of 127.0.0.1.
    pub fn new(api_port: u16, swarm_port: u16, peer: PeerId) -> Self {
        Self {
            api: format!("http://127.0.0.1:{api_port}"),
            swarm: swarm_address(swarm_port).with(Protocol::P2p(peer)),
            peer_id: peer.to_string(),
        }
    }

    /// Base URL of the HTTP API.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Address that other nodes dial.
    pub fn swarm(&self) -> &Multiaddr {
        &self.swarm
    }
}

/// The swarm's address on this machine, without an identity.
pub fn swarm_address(port: u16) -> Multiaddr {
    Multiaddr::from(Ipv4Addr::LOCALHOST).with(Protocol::Tcp(port))
}

/// Returns once the API on this port of 127.0.0.1 says that it is healthy.
pub async fn until_healthy(api_port: u16) {
    let mut tick = interval(POLL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Ok(Ok(true)) = timeout(ANSWER_WITHIN, is_healthy(api_port)).await {
            return;
        }
    }
}

async fn is_healthy(api_port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, api_port)).await?;
    stream.write_all(HEALTH).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}
