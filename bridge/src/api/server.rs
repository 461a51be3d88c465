//! Connections: so many at once, and of one address, each with a while to say what it wants.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::locked;
use crate::config::ApiConfig;

/// How long to wait after a connection could not be taken, as when files run out.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many connections are open at once; more are closed at once.
    pub connections_max: usize,
    /// How many requests a second all together may make; twice as many at once.
    pub requests_a_second: u32,
    /// How long a connection may take to say the head of its next request.
    pub heads_within: Duration,
    /// How long an answer may take.
    pub answers_within: Duration,
    /// How many listen to events at once; each has a connection.
    pub listeners_max: usize,
    /// How long a connection lives at most; a client opens another.
    pub lives_at_most: Duration,
}

/// One address takes no more than this part of the connections and of the requests.
pub(super) const SHARE_OF_ONE: usize = 4;

impl Bounds {
    /// As a configuration has them.
    #[must_use]
    pub const fn of(config: &ApiConfig) -> Self {
        Self {
            connections_max: config.connections_max as usize,
            listeners_max: config.listeners_max as usize,
            requests_a_second: config.requests_a_second,
            heads_within: Duration::from_secs(5),
            // Longer than an endpoint of the chain has.
            answers_within: Duration::from_secs(20),
            lives_at_most: Duration::from_secs(5 * 60),
        }
    }
}

/// Who connects, as far as bounds go: of IPv6 a network of one customer, and nobody on this
/// machine, where a proxy speaks for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(IpAddr);

impl Peer {
    fn of(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            local if local.is_loopback() => None,
            IpAddr::V6(address) => {
                let mut segments = address.segments();
                segments[4..].fill(0);
                Some(Self(Ipv6Addr::from(segments).into()))
            }
            address => Some(Self(address)),
        }
    }
}

/// How many connections each peer has.
type Counts = Arc<Mutex<HashMap<Peer, usize>>>;

/// A connection's place among all, and among those of its peer.
struct Place {
    _room: OwnedSemaphorePermit,
    peer: Option<Peer>,
    counts: Counts,
}

impl Place {
    /// Nothing if there is none.
    fn take(
        room: &Arc<Semaphore>,
        counts: &Counts,
        peer: Option<Peer>,
        max: usize,
    ) -> Option<Self> {
        let permit = Arc::clone(room).try_acquire_owned().ok()?;
        if let Some(peer) = peer {
            let mut counts = locked(counts);
            let count = counts.entry(peer).or_default();
            if *count >= max {
                return None;
            }
            *count += 1;
        }
        Some(Self {
            _room: permit,
            peer,
            counts: Arc::clone(counts),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut counts = locked(&self.counts);
        if let Some(count) = counts.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&peer);
            }
        }
    }
}

/// Answers until it is told to stop; what is being answered then has its time.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    let (room, counts) = (
        Arc::new(Semaphore::new(bounds.connections_max)),
        Counts::default(),
    );
    let each_max = bounds.connections_max.div_ceil(SHARE_OF_ONE);
    let mut connections = JoinSet::new();
    loop {
        let taken = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            taken = listener.accept() => taken,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, address)) = taken else {
            sleep(ACCEPT_REST).await;
            continue;
        };
        // One that finds no room is closed, and harms none of the others.
        let peer = Peer::of(address.ip());
        if let Some(place) = Place::take(&room, &counts, peer, each_max) {
            let router = router.clone().layer(Extension(peer));
            connections.spawn(greet(
                stream,
                router,
                bounds,
                place,
                tls.clone(),
                stop.clone(),
            ));
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // What does not end by then is cut off with the set.
    let _ = timeout(bounds.answers_within, ended).await;
}

/// By TLS, if there is a certificate; who takes long to agree on it is no client.
async fn greet(
    stream: TcpStream,
    router: Router,
    bounds: Bounds,
    _place: Place,
    tls: Option<TlsAcceptor>,
    stop: watch::Receiver<bool>,
) {
    let Some(tls) = tls else {
        return converse(stream, router, bounds, stop).await;
    };
    if let Ok(Ok(stream)) = timeout(bounds.heads_within, tls.accept(stream)).await {
        converse(stream, router, bounds, stop).await;
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.heads_within)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let is_over = async {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = sleep(bounds.lives_at_most) => {}
        }
    };
    tokio::select! {
        // How a client ends its connection is its own matter.
        _ = connection.as_mut() => return,
        () = is_over => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(bounds.answers_within, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Option<Peer> {
        Peer::of(address.parse().expect("an address"))
    }

    #[test]
    fn a_network_is_one_peer_and_this_machine_is_none() {
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(peer(local), None, "{local}");
        }
        assert_eq!(peer("2001:db8:1:2::1"), peer("2001:db8:1:2:ffff::9"));
        assert_ne!(peer("2001:db8:1:2::1"), peer("2001:db8:1:3::1"));
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }

    #[test]
    fn hostile_address_takes_no_more_than_its_share_of_the_connections() {
        let (room, counts) = (Arc::new(Semaphore::new(8)), Counts::default());
        let take = |address| Place::take(&room, &counts, peer(address), 2);
        let taken = [take("192.0.2.1"), take("192.0.2.1"), take("192.0.2.2")];
        assert!(taken.iter().all(Option::is_some));
        assert!(take("192.0.2.1").is_none(), "a third one of the same");
        let proxied: Vec<_> = (0..5).map(|_| take("127.0.0.1")).collect();
        assert!(
            proxied.iter().all(Option::is_some),
            "a proxy has all that is left"
        );
        assert!(take("192.0.2.3").is_none(), "no room");
        drop((taken, proxied));
        assert!(locked(&counts).is_empty());
        assert!(take("192.0.2.1").is_some());
    }
}
