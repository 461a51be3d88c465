//! What changes, as it changes: `/v1/events`.
//!
//! The daemon writes down in the store what it last read of each circle. One watcher compares that
//! once a second, while anybody listens, and tells all who may read the circle; what there is they
//! read by the other paths.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
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
use super::{Api, Problem, locked};
use crate::store::StoreError;
use crate::store::circles::CircleMark;

/// How long the watcher rests.
const WATCH_REST: Duration = Duration::from_secs(1);
/// How many changes a listener may be behind before it is told that it missed some.
const BEHIND_MAX: usize = 256;
/// How many listeners one caller has at most.
const LISTENERS_OF_ONE: usize = 8;
/// How often it is looked whether a listener is still logged in.
const LOOKED_AT: Duration = Duration::from_secs(2);
/// How often a listener hears something, so that nobody takes the connection for dead.
const KEPT_ALIVE: Duration = Duration::from_secs(15);

/// Who listens.
pub(super) struct Events {
    told: Mutex<Option<broadcast::Sender<Event>>>,
    /// What was told last; nothing while nobody listens.
    known: tokio::sync::Mutex<Option<Marks>>,
    listeners: Arc<Mutex<Vec<Caller>>>,
}

type Marks = HashMap<ContextId, CircleMark>;

impl Default for Events {
    fn default() -> Self {
        Self {
            told: Mutex::new(Some(broadcast::Sender::new(BEHIND_MAX))),
            known: tokio::sync::Mutex::default(),
            listeners: Arc::default(),
        }
    }
}

/// One listener, as long as it lives.
struct Listener {
    api: Arc<Api>,
    heard: broadcast::Receiver<Event>,
    identified: Identified,
    is_new: bool,
    listeners: Arc<Mutex<Vec<Caller>>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = locked(&self.listeners);
        let own = &self.identified.caller;
        if let Some(place) = listeners.iter().position(|caller| caller == own) {
            listeners.swap_remove(place);
        }
    }
}

impl Events {
    fn sender(&self) -> Option<broadcast::Sender<Event>> {
        locked(&self.told).clone()
    }
}

impl Listener {
    /// A listener to whom no change is lost from now on; nothing if too many listen.
    async fn of(api: &Arc<Api>, identified: Identified) -> Result<Option<Self>, StoreError> {
        let events = &api.events;
        let mut known = events.known.lock().await;
        if known.is_none() {
            *known = Some(api.pipeline.store.circle_marks().await?);
        }
        let Some(sender) = events.sender() else {
            return Ok(None);
        };
        let mut listeners = locked(&events.listeners);
        let own = listeners
            .iter()
            .filter(|caller| **caller == identified.caller);
        if listeners.len() >= api.bounds.listeners_max || own.count() >= LISTENERS_OF_ONE {
            return Ok(None);
        }
        listeners.push(identified.caller.clone());
        Ok(Some(Self {
            api: Arc::clone(api),
            heard: sender.subscribe(),
            identified,
            is_new: true,
            listeners: Arc::clone(&events.listeners),
        }))
    }

    /// What there is next for this caller; nothing after the end, or once it is logged out.
    async fn next(&mut self) -> Option<Event> {
        let of_all = |what| Event {
            what,
            context: None,
        };
        if std::mem::take(&mut self.is_new) {
            return Some(of_all(What::Listening));
        }
        loop {
            let heard = timeout(LOOKED_AT, self.heard.recv()).await;
            if !self.api.is_still(&self.identified) {
                return None;
            }
            let Ok(heard) = heard else {
                continue;
            };
            match heard {
                Ok(event) => {
                    let is_theirs = |context| may_read(&self.identified.caller, context);
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
    while !*stop.borrow() {
        if let Err(error) = tell(api).await {
            tracing::warn!(%error, "what changed is not known");
        }
        let _ = timeout(WATCH_REST, stop.wait_for(|stop| *stop)).await;
    }
    locked(&api.events.told).take();
}

/// Tells whoever listens what changed since this was last told.
async fn tell(api: &Api) -> Result<(), StoreError> {
    let mut known = api.events.known.lock().await;
    let sender = api.events.sender();
    let Some(sender) = sender.filter(|sender| sender.receiver_count() > 0) else {
        *known = None;
        return Ok(());
    };
    let now = api.pipeline.store.circle_marks().await?;
    if let Some(before) = known.as_ref() {
        for event in changes(before, &now) {
            // Whoever left does not hear it.
            let _ = sender.send(event);
        }
    }
    *known = Some(now);
    Ok(())
}

/// What is otherwise than it was.
fn changes(before: &Marks, now: &Marks) -> Vec<Event> {
    let gone = before.keys().filter(|context| !now.contains_key(*context));
    let mut events: Vec<Event> = gone
        .map(|context| changed(What::Changed, *context))
        .collect();
    for (context, mark) in now {
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
    events
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
    identified: Identified,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let until = identified.until;
    let listener = Listener::of(&api, identified).await?;
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
