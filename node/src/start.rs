//! How a Calimero node is assembled from a home and its settings, and how it stops.
//!
//! Invariants: nothing listens before the credential is the root key of the authentication
//! store; every listening address is 127.0.0.1; no host outside the peers given is ever asked
//! for anything (no mDNS, bootstrap list, relay, rendezvous or reachability probes). A node that
//! was killed starts again from the same home by the same path.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::pin;
use std::thread;
use std::time::Duration;

use calimero_blobstore::config::BlobStoreConfig;
use calimero_context::config::ContextConfig;
use calimero_context_config::client_config::{ClientConfig, ClientSigner, LocalConfig};
use calimero_network_primitives::config::{
    AutonatConfig, BootstrapConfig, BootstrapNodes, DiscoveryConfig, NetworkConfig, RelayConfig,
    RendezvousConfig, SwarmConfig,
};
use calimero_node::sync::SyncConfig;
use calimero_node::{NodeConfig, NodeMode, SpecializedNodeConfig};
use calimero_node_primitives::DagCompactionConfig;
use calimero_runtime::logic::VMLimits;
use calimero_server::admin::service::AdminConfig;
use calimero_server::config::{AuthMode, ServerConfig};
use calimero_server::jsonrpc::JsonRpcConfig;
use calimero_server::sse::SseConfig;
use calimero_server::ws::WsConfig;
use calimero_store::config::StoreConfig;
use libp2p::identity::Keypair;
use multiaddr::{Multiaddr, Protocol};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::info;

use crate::config::Settings;
use crate::credential::{CredentialError, auth_config};
use crate::home::{Home, HomeError};
use crate::ready::{Ready, swarm_address, until_healthy};

/// Calimero has no switch for reachability probes; without candidates and a day apart they are
/// silent, and a node on loopback has no address that a probe could confirm.
const NO_PROBES: AutonatConfig = AutonatConfig::new(0, Duration::from_secs(24 * 60 * 60));

/// Calimero subscribes every node to this topic; its value is merod's, MedSync does not use it.
const INVITE_TOPIC: &str = "mero_specialized_node_invites";

/// Why a node did not start, or stopped by itself.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another program listens there.
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Port {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// See [`HomeError`].
    #[error(transparent)]
    Home(#[from] HomeError),
    /// See [`CredentialError`].
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// Calimero's own error.
    #[error("the node failed: {0:#}")]
    Node(eyre::Report),
}

/// The two ports of a node, both non-zero.
#[derive(Clone, Copy)]
struct Ports {
    api: u16,
    swarm: u16,
}

impl Ports {
    /// Checks that both ports are free, picking where 0 was asked for. Calimero binds them a
    /// moment later; whoever takes one in between makes the start fail, never share it.
    fn claim(settings: &Settings) -> Result<Self, StartError> {
        let bind = |port| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .map_err(|source| StartError::Port { port, source })
        };
        let actual = |listener: &TcpListener| {
            listener
                .local_addr()
                .map(|address| address.port())
                .map_err(|source| StartError::Port { port: 0, source })
        };
        // Both are held until both are known, so that two free ones are two.
        let (api, swarm) = (bind(settings.api_port)?, bind(settings.swarm_port)?);
        Ok(Self {
            api: actual(&api)?,
            swarm: actual(&swarm)?,
        })
    }
}

/// Runs the node until SIGINT or SIGTERM, or until standard input ends if that is asked for;
/// `announce` is called once, when its API answers.
///
/// Must be awaited inside a multi-thread runtime. Dropping the node's future closes the channel
/// that its actors wait on, and they stop with the runtime.
pub async fn run(
    home: &Home,
    settings: &Settings,
    until_input_ends: bool,
    announce: impl FnOnce(&Ready),
) -> Result<(), StartError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    calimero_utils_actix::init_global_runtime().map_err(StartError::Node)?;

    home.read_credential()?
        .ensure_root_key(&home.auth_store())
        .await?;
    let identity = home.identity()?;
    let peer = identity.public().to_peer_id();
    let ports = Ports::claim(settings)?;

    let mut node = pin!(calimero_node::start(node_config(
        home, settings, identity, ports
    )));
    let serve = async {
        tokio::select! {
            ended = &mut node => return ended,
            () = until_healthy(ports.api) => {}
        }
        announce(&Ready::new(ports.api, ports.swarm, peer));
        node.await
    };
    tokio::select! {
        ended = serve => ended.map_err(StartError::Node),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        () = input_ends(), if until_input_ends => Ok(()),
    }
    .inspect(|()| info!("stopping"))
}

/// Comes back when standard input ends; what it holds is of no interest. It is read in a thread
/// that nobody waits for: the runtime would wait for its own.
async fn input_ends() {
    let (sender, receiver) = oneshot::channel::<()>();
    thread::spawn(move || {
        // An input that cannot be read has ended, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(sender);
    });
    let _ = receiver.await;
}

fn node_config(home: &Home, settings: &Settings, identity: Keypair, ports: Ports) -> NodeConfig {
    NodeConfig {
        home: home.root().to_owned(),
        network: network(identity.clone(), settings, ports.swarm),
        sync: sync(Duration::from_secs(settings.sync_interval_s)),
        datastore: StoreConfig::new(home.data_store()),
        blobstore: BlobStoreConfig::new(home.blob_store()),
        context: ContextConfig {
            client: ClientConfig {
                signer: ClientSigner {
                    local: LocalConfig {
                        protocols: BTreeMap::new(),
                    },
                },
            },
            migration_v2: true,
        },
        server: server(home, identity.clone(), ports.api),
        identity,
        gc_interval_secs: None,
        dag_compaction: DagCompactionConfig::default(),
        mode: NodeMode::Standard,
        specialized_node: SpecializedNodeConfig {
            invite_topic: INVITE_TOPIC.to_owned(),
            accept_mock_tee: false,
        },
        vm_limits: VMLimits::default(),
    }
}

fn network(identity: Keypair, settings: &Settings, port: u16) -> NetworkConfig {
    NetworkConfig::new(
        identity,
        SwarmConfig::new(vec![swarm_address(port)]),
        BootstrapConfig::new(BootstrapNodes::new(settings.peers.clone())),
        DiscoveryConfig::new(
            false,
            false,
            Vec::new(),
            RendezvousConfig::new(0),
            RelayConfig::new(0),
            NO_PROBES,
        ),
    )
}

/// One interval serves as both of Calimero's: how often it looks for contexts that are due, and
/// how long a context rests between two comparisons.
fn sync(interval: Duration) -> SyncConfig {
    SyncConfig {
        interval,
        frequency: interval,
        ..SyncConfig::default()
    }
}

fn server(home: &Home, identity: Keypair, port: u16) -> ServerConfig {
    ServerConfig::with_auth(
        vec![Multiaddr::from(Ipv4Addr::LOCALHOST).with(Protocol::Tcp(port))],
        identity,
        Some(AdminConfig::new(true)),
        Some(JsonRpcConfig::new(true)),
        Some(WsConfig::new(true)),
        Some(SseConfig::new(true)),
        AuthMode::Embedded,
        Some(auth_config(&home.auth_store())),
    )
}
