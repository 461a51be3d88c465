//! What changes is told as it changes, to whoever may read it.

use std::collections::VecDeque;
use std::time::Duration;

use medsync::pipeline::ingest;
use medsync_client::wire::{Event, LoginAs, What};
use medsync_protocol::ids::ContextId;
use medsync_protocol::signature::SecretKey;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, Response};
use tokio::time::timeout;

use super::super::circle::{CONTEXT, OTHER};
use super::super::signed::consent;
use super::super::{patient, world};
use super::{BOUNDS, Door, problem, staff};

/// Longer than the watcher rests, and than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one listener hears.
struct Listening {
    answer: Response,
    heard: VecDeque<String>,
}

impl Door {
    async fn listen(&self, token: &str) -> Response {
        let asked = self.request(Method::GET, "/v1/events");
        let asked = asked.header(AUTHORIZATION, format!("Bearer {token}"));
        asked.send().await.expect("an answer")
    }

    async fn token_of(&self, login_as: LoginAs, key: &SecretKey) -> String {
        let mut client = self.client();
        client.log_in(login_as, key).await.expect("logged in").token
    }
}

impl Listening {
    fn to(answer: Response) -> Self {
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream");
        Self {
            answer,
            heard: VecDeque::new(),
        }
    }

    /// The next event; nothing after the end.
    async fn next(&mut self) -> Option<Event> {
        while self.heard.is_empty() {
            let part = timeout(PATIENCE, self.answer.chunk())
                .await
                .expect("in time");
            let text = String::from_utf8(part.ok()??.to_vec()).expect("a text");
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            self.heard.extend(data.map(ToOwned::to_owned));
        }
        let line = self.heard.pop_front()?;
        Some(serde_json::from_str(&line).expect("an event"))
    }
}

fn event(what: What, context: Option<ContextId>) -> Option<Event> {
    Some(Event { what, context })
}

#[tokio::test]
async fn each_listener_hears_of_what_it_may_read() {
    let world = world(Vec::new()).await;
    world.enter_other().await;
    let door = Door::over(&world.pipeline).await;
    let staff = door.token_of(LoginAs::staff("ward"), &staff()).await;
    let own = door.token_of(LoginAs::party_of(OTHER), &patient()).await;
    let mut all = Listening::to(door.listen(&staff).await);
    let mut one = Listening::to(door.listen(&own).await);
    assert_eq!(all.next().await, event(What::Listening, None));
    assert_eq!(one.next().await, event(What::Listening, None));
    world.circle.add_consent(consent(0).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    assert_eq!(all.next().await, event(What::Changed, Some(CONTEXT)));
    world
        .pipeline
        .store
        .raise_alarm(OTHER, "a reader")
        .await
        .expect("raised");
    // What happened in the other circle was not told here.
    let heard = loop {
        match one.next().await {
            Some(Event {
                what: What::Changed,
                context: Some(OTHER),
            }) => {}
            heard => break heard,
        }
    };
    assert_eq!(heard, event(What::Alarm, Some(OTHER)));
}

#[tokio::test]
async fn hostile_listeners_are_bounded_and_those_who_left_count_no_more() {
    let door = Door::open().await;
    let mut listening = Vec::new();
    for _ in 0..BOUNDS.listeners_max {
        listening.push(door.listen(&door.token()).await);
    }
    problem(door.listen(&door.token()).await, 503).await;
    listening.pop();
    for _ in 0..100 {
        let answer = door.listen(&door.token()).await;
        if answer.status() == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody may listen any more");
}

#[tokio::test]
async fn who_logs_out_hears_nothing_more() {
    let world = world(Vec::new()).await;
    let door = Door::over(&world.pipeline).await;
    let mut client = door.client();
    let session = client
        .log_in(LoginAs::staff("ward"), &staff())
        .await
        .expect("logged in");
    let mut listening = Listening::to(door.listen(&session.token).await);
    assert_eq!(listening.next().await, event(What::Listening, None));
    client.log_out().await.expect("logged out");
    world.circle.add_consent(consent(0).0);
    ingest::ingest_all(&world.pipeline).await.expect("read");
    assert_eq!(listening.next().await, None);
}

#[tokio::test]
async fn listeners_are_let_go_when_it_stops() {
    let door = Door::open().await;
    let mut listening = Listening::to(door.listen(&door.token()).await);
    assert_eq!(listening.next().await, event(What::Listening, None));
    door.stop.send_replace(true);
    assert_eq!(listening.next().await, None);
    let stopped = timeout(BOUNDS.answers_within, door.served).await;
    assert!(stopped.is_ok_and(|ended| ended.is_ok()));
}
