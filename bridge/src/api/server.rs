//! Connections: so many at once, and of one address, each with a while to say what it wants.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use governor::{DefaultKeyedRateLimiter, RateLimiter};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::{locked, quota};
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
    /// How many requests a second all who are logged in, and all others, may make; twice as many at
    /// once.
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

/// From how many addresses or callers on those that did nothing lately are forgotten.
const SHARERS_KEPT: usize = 4_096;
/// Of the connections one in so many is for this machine alone.
const KEPT_FOR_THIS_MACHINE: usize = 8;
/// One address, and one caller, takes no more than this part of the connections and requests.
const SHARE_OF_ONE: usize = 4;

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

/// Who connects, as far as bounds go: of IPv6 a network of 256 (a /56), and nobody on this machine,
/// where a proxy speaks for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl Peer {
    /// Of whom a request is.
    pub(super) fn of(request: &Request) -> Option<Self> {
        request
            .extensions()
            .get::<Option<Self>>()
            .copied()
            .flatten()
    }

    /// Who connects from there.
    #[must_use]
    pub fn at(address: IpAddr) -> Option<Self> {
        match address.to_canonical() {
            local if local.is_loopback() => None,
            IpAddr::V6(address) => {
                let mut segments = address.segments();
                segments[3] &= 0xff00;
                segments[4..].fill(0);
                Some(Self(Ipv6Addr::from(segments).into()))
            }
            address => Some(Self(address)),
        }
    }
}

/// What each of those who share something, by address or by name, may do so often.
pub(super) struct Shares<K: Clone + Eq + Hash>(DefaultKeyedRateLimiter<K>);

impl<K: Clone + Eq + Hash> Shares<K> {
    /// Shares of so many a second, and so many at once.
    pub(super) fn of(a_second: u32, at_once: u32) -> Self {
        let share = |of_all: u32| of_all.div_ceil(SHARE_OF_ONE as u32);
        Self(RateLimiter::keyed(quota(share(a_second), share(at_once))))
    }

    /// Whether one of them has more of it, of which this is some.
    pub(super) fn has(&self, whose: &K) -> bool {
        if self.0.len() > SHARERS_KEPT {
            self.0.retain_recent();
        }
        self.0.check_key(whose).is_ok()
    }
}

/// Who has connections.
struct Room {
    /// For everybody.
    all: Arc<Semaphore>,
    /// For whoever is not on this machine: an operator and a proxy always find some more.
    far: Arc<Semaphore>,
    /// How many each peer has, and may have.
    counts: Counts,
    each_max: usize,
    /// How often a peer connects: to agree on TLS costs more than to ask.
    connects: Shares<Peer>,
}

type Counts = Arc<Mutex<HashMap<Peer, usize>>>;

/// A connection's place among all, and among those of its peer.
struct Place {
    _all: OwnedSemaphorePermit,
    far: Option<(Peer, OwnedSemaphorePermit)>,
    counts: Counts,
}

impl Room {
    fn of(bounds: Bounds) -> Self {
        let (max, a_second) = (bounds.connections_max, bounds.requests_a_second);
        Self {
            all: Arc::new(Semaphore::new(max)),
            far: Arc::new(Semaphore::new(max - max / KEPT_FOR_THIS_MACHINE)),
            counts: Counts::default(),
            each_max: max.div_ceil(SHARE_OF_ONE),
            connects: Shares::of(a_second, a_second),
        }
    }

    /// Nothing if there is none.
    fn take(&self, peer: Option<Peer>) -> Option<Place> {
        let far = match peer {
            None => None,
            Some(peer) if !self.connects.has(&peer) => return None,
            Some(peer) => Some((peer, Arc::clone(&self.far).try_acquire_owned().ok()?)),
        };
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        if let Some(peer) = peer {
            let mut counts = locked(&self.counts);
            let count = counts.entry(peer).or_default();
            if *count >= self.each_max {
                return None;
            }
            *count += 1;
        }
        Some(Place {
            _all: all,
            far,
            counts: Arc::clone(&self.counts),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((peer, _)) = &self.far else { return };
        let mut counts = locked(&self.counts);
        if let Some(count) = counts.get_mut(peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(peer);
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
    let room = Room::of(bounds);
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
        let peer = Peer::at(address.ip());
        if let Some(place) = room.take(peer) {
            let spoken = (router.clone(), peer, bounds);
            connections.spawn(greet(stream, spoken, place, tls.clone(), stop.clone()));
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // What does not end by then is cut off with the set.
    let _ = timeout(bounds.answers_within, ended).await;
}

/// What is spoken with whom, within which bounds.
type Spoken = (Router, Option<Peer>, Bounds);

/// By TLS, if there is a certificate; who takes long to agree on it is no client.
async fn greet(
    stream: TcpStream,
    spoken: Spoken,
    _place: Place,
    tls: Option<TlsAcceptor>,
    stop: watch::Receiver<bool>,
) {
    let Some(tls) = tls else {
        return converse(stream, spoken, stop).await;
    };
    let (.., bounds) = spoken;
    if let Ok(Ok(stream)) = timeout(bounds.heads_within, tls.accept(stream)).await {
        converse(stream, spoken, stop).await;
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (router, peer, bounds): Spoken,
    mut stop: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    // A layer would make every connection a router of its own.
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
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
    use crate::config::ApiConfig;

    fn peer(address: &str) -> Option<Peer> {
        Peer::at(address.parse().expect("an address"))
    }

    fn room(connections_max: usize, requests_a_second: u32) -> Room {
        let listen = "127.0.0.1:0".parse().expect("an address");
        Room::of(Bounds {
            connections_max,
            requests_a_second,
            ..Bounds::of(&ApiConfig::at(listen))
        })
    }

    #[test]
    fn a_network_is_one_peer_and_this_machine_is_none() {
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(peer(local), None, "{local}");
        }
        assert_eq!(peer("2001:db8:1:200::1"), peer("2001:db8:1:2ff:ffff::9"));
        assert_ne!(peer("2001:db8:1:200::1"), peer("2001:db8:1:300::1"));
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }

    #[test]
    fn hostile_address_takes_no_more_than_its_share_of_the_connections() {
        let room = room(8, 1_000);
        let take = |address| room.take(peer(address));
        let taken = [take("192.0.2.1"), take("192.0.2.1"), take("192.0.2.2")];
        assert!(taken.iter().all(Option::is_some));
        assert!(take("192.0.2.1").is_none(), "a third one of the same");
        drop(taken);
        assert!(locked(&room.counts).is_empty());
        assert!(take("192.0.2.1").is_some());
    }

    #[test]
    fn hostile_crowd_leaves_this_machine_its_connections() {
        let room = room(8, 1_000);
        let crowd: Vec<_> = (0..8)
            .filter_map(|number| room.take(peer(&format!("192.0.2.{number}"))))
            .collect();
        assert_eq!(crowd.len(), 7);
        assert!(room.take(peer("127.0.0.1")).is_some(), "an operator");
        let proxied: Vec<_> = (0..8).filter_map(|_| room.take(None)).collect();
        assert_eq!(proxied.len(), 1, "no room");
    }

    #[test]
    fn hostile_address_that_connects_again_and_again_is_slowed_down() {
        let room = room(8, 40);
        let takes = |address| (0..20).filter_map(|_| room.take(peer(address))).count();
        assert!((10..15).contains(&takes("192.0.2.1")), "a quarter of 40");
        assert_eq!(takes("127.0.0.1"), 20);
    }
}
