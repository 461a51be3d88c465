//! Connections: so many at once, each with a while to say what it wants.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long to wait after a connection could not be taken, as when files run out.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many connections are open at once; more are closed at once.
    pub connections_max: usize,
    /// How long a connection may take to say the head of its next request.
    pub heads_within: Duration,
    /// How long an answer may take.
    pub answers_within: Duration,
    /// How many listen to events at once; each has a connection.
    pub listeners_max: usize,
    /// How long a connection lives at most; a client opens another.
    pub lives_at_most: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 128,
            listeners_max: 64,
            heads_within: Duration::from_secs(5),
            // Longer than an endpoint of the chain has.
            answers_within: Duration::from_secs(20),
            lives_at_most: Duration::from_secs(5 * 60),
        }
    }
}

/// Answers until it is told to stop; what is being answered then has its time.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(bounds.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let taken = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            taken = listener.accept() => taken,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = taken else {
            sleep(ACCEPT_REST).await;
            continue;
        };
        // One that finds no room is closed, and harms none of the others.
        if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
            let told = stop.clone();
            connections.spawn(converse(stream, router.clone(), bounds, place, told));
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // What does not end by then is cut off with the set.
    let _ = timeout(bounds.answers_within, ended).await;
}

async fn converse(
    stream: TcpStream,
    router: Router,
    bounds: Bounds,
    _place: OwnedSemaphorePermit,
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
