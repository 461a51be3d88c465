//! What changes, as it changes: `/v1/events`.
//!
//! The daemon writes down in the store what it last read of each circle. One watcher compares that
//! once a second, while anybody listens, and tells all who may read the circle; what there is they
//! read by the other paths.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{self, KeepAlive};
use futures_util::{Stream, StreamExt, stream};
use medsync_client::wire::{Caller, Event, What};
use medsync_protocol::ids::ContextId;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{sleep, timeout};

use super::caller::who::LOGGED_IN;
use super::caller::{Identified, may_read};
use super::{Api, Problem};
use crate::store::StoreError;
use crate::store::circles::CircleMark;

/// How long the watcher rests.
const WATCH_REST: Duration = Duration::from_secs(1);
/// How many changes a listener may be behind before it is told that it missed some.
const BEHIND_MAX: usize = 256;
/// How often a listener hears something, so that nobody takes the connection for dead.
const KEPT_ALIVE: Duration = Duration::from_secs(15);

/// Who listens.
pub(super) struct Events {
    told: Mutex<Option<broadcast::Sender<Event>>>,
    listeners: Arc<AtomicUsize>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            told: Mutex::new(Some(broadcast::Sender::new(BEHIND_MAX))),
            listeners: Arc::default(),
        }
    }
}

/// One listener, as long as it lives.
struct Listener {
    heard: broadcast::Receiver<Event>,
    caller: Caller,
    is_new: bool,
    listeners: Arc<AtomicUsize>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Events {
    fn sender(&self) -> Option<broadcast::Sender<Event>> {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn listen(&self, caller: Caller, listeners_max: usize) -> Option<Listener> {
        let heard = self.sender()?.subscribe();
        let listeners = Arc::clone(&self.listeners);
        let before = listeners.fetch_add(1, Ordering::SeqCst);
        // From here on it is counted down again when it goes.
        let listener = Listener {
            heard,
            caller,
            is_new: true,
            listeners,
        };
        (before < listeners_max).then_some(listener)
    }
}

impl Listener {
    /// What there is next for this caller; nothing after the end.
    async fn next(&mut self) -> Option<Event> {
        let of_all = |what| Event {
            what,
            context: None,
        };
        if std::mem::take(&mut self.is_new) {
            return Some(of_all(What::Listening));
        }
        loop {
            match self.heard.recv().await {
                Ok(event) => {
                    let is_theirs = |context| may_read(&self.caller, context);
                    if event.context.is_none_or(is_theirs) {
                        return Some(event);
                    }
                }
                Err(RecvError::Lagged(_)) => return Some(of_all(What::Missed)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Tells what changes, until it is told to stop; then nobody listens any more.
pub async fn watch_circles(api: &Api, mut stop: watch::Receiver<bool>) {
    let mut known: Option<HashMap<ContextId, CircleMark>> = None;
    while !*stop.borrow() {
        let sender = api.events.sender();
        match sender.filter(|sender| sender.receiver_count() > 0) {
            None => known = None,
            Some(sender) => match changes(api, &mut known).await {
                Ok(events) => {
                    for event in events {
                        // Whoever left does not hear it.
                        let _ = sender.send(event);
                    }
                }
                Err(error) => tracing::warn!(%error, "what changed is not known"),
            },
        }
        let _ = timeout(WATCH_REST, stop.wait_for(|stop| *stop)).await;
    }
    let told = &api.events.told;
    told.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// What is otherwise than it was when this was last asked.
async fn changes(
    api: &Api,
    known: &mut Option<HashMap<ContextId, CircleMark>>,
) -> Result<Vec<Event>, StoreError> {
    let now = api.pipeline.store.circle_marks().await?;
    let Some(before) = known.replace(now.clone()) else {
        return Ok(Vec::new());
    };
    let gone = before.keys().filter(|context| !now.contains_key(*context));
    let mut events: Vec<Event> = gone
        .map(|context| changed(What::Changed, *context))
        .collect();
    for (context, mark) in &now {
        let Some(was) = before.get(context) else {
            events.push(changed(What::Changed, *context));
            continue;
        };
        if was.alarm != mark.alarm {
            events.push(changed(What::Alarm, *context));
        }
        if was.state != mark.state {
            events.push(changed(What::Changed, *context));
        }
    }
    Ok(events)
}

fn changed(what: What, context: ContextId) -> Event {
    Event {
        what,
        context: Some(context),
    }
}

/// Server-sent events: that something changed in a circle, for whoever may read it. The first says
/// that it listens. A connection lives as long as its session, and at most five minutes.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = LOGGED_IN,
    security(("operator" = []), ("session" = [])),
    responses(
        (
            status = 200,
            description = "Each event's data is one of these.",
            body = Event,
            content_type = "text/event-stream",
        ),
        Problem,
    )
)]
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    Identified { caller, until }: Identified,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let listener = api.events.listen(caller, api.bounds.listeners_max);
    let why = "too many listen already, or this is about to stop; read again instead";
    let full = || Problem::of(StatusCode::SERVICE_UNAVAILABLE, why);
    let listener = listener.ok_or_else(full)?;
    let now = api.pipeline.now();
    let lives = until.map(|until| Duration::from_secs(until.0.saturating_sub(now.0)));
    let lives = lives.map_or(api.bounds.lives_at_most, |left| {
        left.min(api.bounds.lives_at_most)
    });
    let heard = stream::unfold(listener, async |mut listener| {
        Some((listener.next().await?, listener))
    });
    let written = heard.filter_map(async |event| {
        let data = serde_json::to_string(&event).ok()?;
        Some(Ok(sse::Event::default().data(data)))
    });
    let written = written.take_until(sleep(lives));
    Ok(Sse::new(written).keep_alive(KeepAlive::new().interval(KEPT_ALIVE)))
}
