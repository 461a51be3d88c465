//! What a node's owner may choose, in one TOML file that flags and the environment override.
//!
//! Invariant: a `Settings` that passed [`Settings::check`] names loopback peers only and has a
//! sync interval above zero. Secrets are never in it; see `credential` and `home`.

use std::path::PathBuf;

use clap::Args;
use multiaddr::{Multiaddr, Protocol};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Calimero's own default ports, so that tools for `merod` find this node too.
const DEFAULT_API_PORT: u16 = 2528;
const DEFAULT_SWARM_PORT: u16 = 2428;

/// Writes reach connected members at once by gossip; the interval bounds how long a missed one
/// stays unseen. Idle work grows with the number of contexts divided by it.
const DEFAULT_SYNC_INTERVAL_S: u64 = 5;

const DEFAULT_LOG: &str = "warn,medsync_node=info";

/// Why a setting is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The config file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not valid TOML, or has a key that is not known.
    #[error("{path} is not a valid config: {source}")]
    Parse {
        /// The config file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// A peer elsewhere: this node never leaves the machine.
    #[error("peer {0} is not on loopback: use merod to reach other machines")]
    PeerNotLoopback(Multiaddr),
    /// A peer without its identity could be anyone.
    #[error("peer {0} does not end in /p2p/PEER_ID")]
    PeerWithoutId(Multiaddr),
    /// An interval of zero would spin.
    #[error("sync_interval_s must be at least 1")]
    ZeroSyncInterval,
}

/// The config file. Every key has a default; an unknown key is an error.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// TCP port of the HTTP API on 127.0.0.1; 0 picks a free one at each start.
    pub api_port: u16,
    /// TCP port of the peer-to-peer swarm on 127.0.0.1; 0 picks a free one at each start.
    pub swarm_port: u16,
    /// Nodes to dial at start, each `/ip4/127.0.0.1/tcp/PORT/p2p/PEER_ID`.
    pub peers: Vec<Multiaddr>,
    /// Log directives, as `tracing` reads them. Arguments of calls stay silent whatever it says.
    pub log: String,
    /// Seconds between two comparisons of one context with a peer.
    pub sync_interval_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_port: DEFAULT_API_PORT,
            swarm_port: DEFAULT_SWARM_PORT,
            peers: Vec::new(),
            log: DEFAULT_LOG.to_owned(),
            sync_interval_s: DEFAULT_SYNC_INTERVAL_S,
        }
    }
}

/// The same keys as flags and environment variables; what is absent leaves the file's value.
#[derive(Clone, Debug, Default, Args)]
pub struct Overrides {
    /// Port of the HTTP API on 127.0.0.1 (default 2528; 0 picks a free one and prints it).
    #[arg(long, env = "MEDSYNC_NODE_API_PORT", value_name = "PORT")]
    api_port: Option<u16>,
    /// Port of the swarm on 127.0.0.1 (default 2428; 0 picks a free one and prints it).
    #[arg(long, env = "MEDSYNC_NODE_SWARM_PORT", value_name = "PORT")]
    swarm_port: Option<u16>,
    /// A node to dial at start, /ip4/127.0.0.1/tcp/PORT/p2p/PEER_ID; may be repeated.
    #[arg(
        long = "peer",
        env = "MEDSYNC_NODE_PEERS",
        value_name = "MULTIADDR",
        value_delimiter = ','
    )]
    peers: Vec<Multiaddr>,
    /// Log directives (default "warn,medsync_node=info"); arguments of calls are never logged.
    #[arg(long, env = "MEDSYNC_NODE_LOG", value_name = "DIRECTIVES")]
    log: Option<String>,
    /// Seconds between two comparisons of one context with a peer (default 5).
    #[arg(long, env = "MEDSYNC_NODE_SYNC_INTERVAL_S", value_name = "SECONDS")]
    sync_interval_s: Option<u64>,
}

impl Settings {
    /// Parses the text of a config file; `path` is for the error alone.
    pub fn parse(text: &str, path: PathBuf) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|source| ConfigError::Parse { path, source })
    }

    /// The file that `init` writes: every key, with what it means.
    pub fn to_annotated_toml(&self) -> String {
        let peers: Vec<String> = self
            .peers
            .iter()
            .map(|peer| format!("\"{peer}\""))
            .collect();
        format!(
            "# Settings of one medsync-node. Flags and MEDSYNC_NODE_* variables override them.\n\n\
             # TCP ports on 127.0.0.1; 0 picks a free one at each start.\n\
             api_port = {}\nswarm_port = {}\n\n\
             # Nodes to dial at start, each /ip4/127.0.0.1/tcp/PORT/p2p/PEER_ID.\n\
             peers = [{}]\n\n\
             # Log directives. Arguments of calls stay silent whatever this says.\n\
             log = {}\n\n\
             # Seconds between two comparisons of one context with a peer. Writes travel at once\n\
             # by gossip; a longer interval costs less idle work with many contexts.\n\
             sync_interval_s = {}\n",
            self.api_port,
            self.swarm_port,
            peers.join(", "),
            toml::Value::String(self.log.clone()),
            self.sync_interval_s,
        )
    }

    /// These settings with what the command line or the environment says instead.
    pub fn with(mut self, overrides: Overrides) -> Self {
        self.api_port = overrides.api_port.unwrap_or(self.api_port);
        self.swarm_port = overrides.swarm_port.unwrap_or(self.swarm_port);
        self.log = overrides.log.unwrap_or(self.log);
        self.sync_interval_s = overrides.sync_interval_s.unwrap_or(self.sync_interval_s);
        if !overrides.peers.is_empty() {
            self.peers = overrides.peers;
        }
        self
    }

    /// Refuses what the types cannot: see [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.sync_interval_s == 0 {
            return Err(ConfigError::ZeroSyncInterval);
        }
        self.peers.iter().try_for_each(check_peer)
    }
}

fn check_peer(peer: &Multiaddr) -> Result<(), ConfigError> {
    let loopback = match peer.iter().next() {
        Some(Protocol::Ip4(host)) => host.is_loopback(),
        Some(Protocol::Ip6(host)) => host.is_loopback(),
        _ => false,
    };
    if !loopback {
        return Err(ConfigError::PeerNotLoopback(peer.clone()));
    }
    match peer.iter().last() {
        Some(Protocol::P2p(_)) => Ok(()),
        _ => Err(ConfigError::PeerWithoutId(peer.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str =
        "/ip4/127.0.0.1/tcp/2428/p2p/12D3KooWR5V4zmisVtVdGE6i8jfFwtgRNq5t8eDGxfckKuhXu7Eh";

    fn parse(text: &str) -> Result<Settings, ConfigError> {
        Settings::parse(text, PathBuf::from("config.toml"))
    }

    #[test]
    fn the_written_file_reads_back() -> Result<(), Box<dyn std::error::Error>> {
        let written = Settings {
            api_port: 0,
            peers: vec![PEER.parse()?, PEER.parse()?],
            log: "info,\"odd\"=debug".to_owned(),
            ..Settings::default()
        };
        let read = parse(&written.to_annotated_toml())?;
        assert_eq!(read.to_annotated_toml(), written.to_annotated_toml());
        assert_eq!(read.peers, written.peers);
        assert_eq!(read.log, written.log);
        Ok(())
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(matches!(
            parse("api_prot = 1"),
            Err(ConfigError::Parse { .. })
        ));
    }

    #[test]
    fn peers_are_named_and_on_this_machine() -> Result<(), Box<dyn std::error::Error>> {
        assert!(check_peer(&PEER.parse()?).is_ok());
        let elsewhere: Multiaddr = PEER.replace("127.0.0.1", "192.0.2.1").parse()?;
        assert!(matches!(
            check_peer(&elsewhere),
            Err(ConfigError::PeerNotLoopback(_))
        ));
        assert!(matches!(
            check_peer(&"/ip4/127.0.0.1/tcp/2428".parse()?),
            Err(ConfigError::PeerWithoutId(_))
        ));
        Ok(())
    }

    #[test]
    fn flags_override_the_file() {
        let merged = Settings::default().with(Overrides {
            api_port: Some(0),
            ..Overrides::default()
        });
        assert_eq!(merged.api_port, 0);
        assert_eq!(merged.swarm_port, DEFAULT_SWARM_PORT);
    }
}
