//! The API on a socket, as programs and pages meet it.

mod addresses;
mod claims;
mod crowd;
mod custody;
mod events;
mod logins;
mod metrics;
mod pages;
mod reads;
mod roles;
mod tls;
mod writes;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use medsync::api::{
    Api, Bounds, Origins, TOKEN_FILE, Tokens, description, router, serve, watch_circles,
};
use medsync::config::{ApiConfig, StaffConfig};
use medsync::pipeline::{Pipeline, ingest};
use medsync::seams::system_random;
use medsync::store::Store;
use medsync::store::circles::CircleRow;
use medsync::store::facts::LAST_ROUND;
use medsync_client::Client as ApiClient;
use medsync_client::wire::LoginAs;
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::signature::SecretKey;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::custodian::{FakeGroups, custodian};
use super::{START, World, row, world};

const NOW: UnixSeconds = UnixSeconds(START);
/// Long enough for an honest client of a busy machine; short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);
const BOUNDS: Bounds = Bounds {
    connections_max: 8,
    requests_a_second: 200,
    listeners_max: 2,
    heads_within: SHORT,
    answers_within: Duration::from_secs(10),
    lives_at_most: Duration::from_secs(60),
};
/// A page that may ask, and the name under which a proxy makes the API known.
const PAGE: &str = "https://portal.example";
const PROXY: &str = "https://medsync.example";

struct Door {
    home: TempDir,
    store: Store,
    api: Arc<Api>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
    /// Nothing where another test has it.
    _world: Option<World>,
}

/// Who works here.
fn staff() -> SecretKey {
    SecretKey::from_scalar(&[1; 32]).expect("a scalar")
}

impl Door {
    async fn open() -> Self {
        Self::open_as(None).await
    }

    async fn open_as(origin: Option<&str>) -> Self {
        let world = world(Vec::new()).await;
        let door = Self::known_as(origin, &world.pipeline).await;
        Self {
            _world: Some(world),
            ..door
        }
    }

    /// The same by TLS.
    async fn open_with(tls: Option<TlsAcceptor>) -> Self {
        let world = world(Vec::new()).await;
        let door = Self::known_by(None, &world.pipeline, (tls, BOUNDS)).await;
        Self {
            _world: Some(world),
            ..door
        }
    }

    /// The door of a party.
    async fn over(pipeline: &Pipeline) -> Self {
        Self::known_as(None, pipeline).await
    }

    /// The same, which a proxy makes known by another name.
    async fn known_as(origin: Option<&str>, pipeline: &Pipeline) -> Self {
        Self::known_by(origin, pipeline, (None, BOUNDS)).await
    }

    /// The door of a hospital, whose node is the admin of its groups.
    async fn of_hospital(world: &World, groups: &FakeGroups) -> Self {
        let custodian = custodian(world, groups);
        let has = |api: Api| api.with_custodian(custodian);
        Self::with(None, &world.pipeline, (None, BOUNDS), has).await
    }

    async fn known_by(
        origin: Option<&str>,
        pipeline: &Pipeline,
        how: (Option<TlsAcceptor>, Bounds),
    ) -> Self {
        Self::with(origin, pipeline, how, |api| api).await
    }

    async fn with(
        origin: Option<&str>,
        pipeline: &Pipeline,
        (tls, bounds): (Option<TlsAcceptor>, Bounds),
        has: impl FnOnce(Api) -> Api,
    ) -> Self {
        // Who enrolled is known once that was read.
        ingest::ingest_all(pipeline).await.expect("read");
        let home = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::of(home.path(), &mut system_random()).expect("tokens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let config = ApiConfig {
            origin: origin.map(Into::into),
            pages: vec![PAGE.into()],
            ..ApiConfig::at(address)
        };
        let origins = Origins::of(address, &config);
        let works_here = StaffConfig {
            name: "ward".into(),
            login_key: staff().public_key(),
        };
        let api = Api::new(pipeline.clone(), tokens, vec![works_here], origins, bounds);
        let api = Arc::new(has(api));
        let (stop, stopped) = watch::channel(false);
        let (watched, router) = (Arc::clone(&api), router(&api));
        let served = tokio::spawn(async move {
            let serves = serve(listener, router, bounds, tls, stopped.clone());
            tokio::join!(serves, watch_circles(&watched, stopped));
        });
        Self {
            home,
            store: pipeline.store.clone(),
            api,
            address,
            stop,
            served,
            _world: None,
        }
    }

    /// A program that asks.
    fn client(&self) -> ApiClient {
        let address = format!("http://{}", self.address);
        ApiClient::new(address.parse().expect("an address")).expect("a client")
    }

    async fn logged_in(&self, login_as: LoginAs, key: &SecretKey) -> ApiClient {
        let mut client = self.client();
        client.log_in(login_as, key).await.expect("logged in");
        client
    }

    fn token(&self) -> String {
        let text = std::fs::read_to_string(self.home.path().join(TOKEN_FILE));
        text.expect("the token").trim().to_owned()
    }

    /// A request over a connection of its own.
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let client = Client::builder().pool_max_idle_per_host(0).build();
        let url = format!("http://{}{path}", self.address);
        client.expect("a client").request(method, url)
    }

    async fn get(&self, path: &str) -> Response {
        let asked = self.request(Method::GET, path);
        let asked = asked.header(AUTHORIZATION, format!("Bearer {}", self.token()));
        asked.send().await.expect("an answer")
    }

    async fn json(&self, path: &str) -> Value {
        self.get(path).await.json().await.expect("JSON")
    }

    async fn enter(&self, number: u8) -> ContextId {
        let context = ContextId([number; 32]);
        let row = CircleRow {
            context,
            label: format!("circle {number}"),
            ..row()
        };
        self.store.enter_circle(&row).await.expect("entered");
        context
    }
}

/// A problem says its status, and is one by its media type.
async fn problem(answer: Response, status: u16) -> String {
    assert_eq!(answer.status().as_u16(), status);
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!(problem["status"], status);
    problem["detail"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn every_answer_keeps_browsers_from_using_it() {
    let door = Door::open().await;
    for path in ["/live", "/ready", "/v1/status", "/nothing", "/openapi.json"] {
        let headers = door.get(path).await.headers().clone();
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        let policy = headers["content-security-policy"].to_str().expect("a text");
        assert!(policy.starts_with("default-src 'none'"), "{path}");
        assert!(
            headers.get("access-control-allow-origin").is_none(),
            "{path}"
        );
    }
}

#[tokio::test]
async fn hostile_page_gets_no_answer_under_any_name_of_this_address() {
    let door = Door::open_as(Some(PROXY)).await;
    let token = format!("Bearer {}", door.token());
    let here = format!("http://{}", door.address);
    for origin in ["http://evil.example", "null", &here, PROXY] {
        let asked = door.request(Method::GET, "/v1/status");
        let asked = asked.header(ORIGIN, origin).header(AUTHORIZATION, &token);
        problem(asked.send().await.expect("an answer"), 403).await;
    }
    for host in [
        "evil.example",
        "evil.example:2628",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "127.0.0.1@evil.example",
        "evil@127.0.0.1",
        "",
    ] {
        let asked = door.request(Method::GET, "/v1/status");
        let asked = asked.header(HOST, host).header(AUTHORIZATION, &token);
        problem(asked.send().await.expect("an answer"), 421).await;
    }
    let hosts = ["localhost:2628", "127.0.0.1", "[::1]:2628", "[::1]"];
    for host in hosts {
        let asked = door.request(Method::GET, "/v1/status");
        let asked = asked.header(HOST, host).header(AUTHORIZATION, &token);
        assert_eq!(
            asked.send().await.expect("an answer").status(),
            200,
            "{host}"
        );
    }
    // Whoever comes through the proxy is not on this machine, and the operator's token is.
    for (path, status) in [("/live", 200), ("/v1/status", 401), ("/metrics", 401)] {
        let asked = door
            .request(Method::GET, path)
            .header(HOST, "medsync.example");
        let answer = asked.header(AUTHORIZATION, &token).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        let named = answer.headers().get("strict-transport-security");
        assert!(named.is_some(), "browsers reach it by TLS alone");
    }
}

#[tokio::test]
async fn hostile_guesses_of_the_token_are_slowed_down_and_the_operator_is_not() {
    let door = Door::open().await;
    let mut statuses = Vec::new();
    for number in 0..40 {
        let guess = format!("Bearer {number:064}");
        let asked = door
            .request(Method::GET, "/metrics")
            .header(AUTHORIZATION, guess);
        statuses.push(asked.send().await.expect("an answer").status().as_u16());
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)));
    assert_eq!(door.get("/metrics").await.status(), 200);
}

#[tokio::test]
async fn hostile_connections_that_say_nothing_are_closed_and_others_are_served() {
    let door = Door::open().await;
    let mut silent = Vec::new();
    for number in 0..2 * BOUNDS.connections_max {
        let mut stream = TcpStream::connect(door.address).await.expect("connected");
        // Half of them begin a request.
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /live HTTP/1.1\r\nHost: ").await;
        }
        silent.push(stream);
    }
    all_are_closed(silent).await;
    assert_eq!(door.get("/live").await.status(), 200);
}

/// Each is closed, and none got an answer.
async fn all_are_closed(streams: Vec<TcpStream>) {
    for mut stream in streams {
        let mut heard = Vec::new();
        let read = stream.read_to_end(&mut heard);
        let closed = tokio::time::timeout(BOUNDS.answers_within, read).await;
        assert!(closed.is_ok(), "it was left open");
        assert!(!heard.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn hostile_heads_and_bodies_beyond_their_bounds_are_refused() {
    let door = Door::open().await;
    let long = "x".repeat(32 * 1024);
    let asked = door.request(Method::GET, "/live").header("x-long", &long);
    assert!(
        asked
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 431)
    );
    let asked = door.request(Method::GET, &format!("/v1/circles?after={long}"));
    assert!(
        asked
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_client_error())
    );
    let asked = door
        .request(Method::POST, "/v1/sessions")
        .body(vec![0; 1 << 24]);
    // It may be told while it still speaks, and hear nothing of it.
    if let Ok(answer) = asked.send().await {
        problem(answer, 413).await;
    }
    let asked = door
        .request(Method::POST, "/v1/sessions")
        .body(vec![b' '; (1 << 16) + 1]);
    problem(asked.send().await.expect("an answer"), 413).await;
    assert_eq!(door.get("/live").await.status(), 200);
}

#[tokio::test]
async fn hostile_body_that_comes_slowly_is_given_up() {
    let door = Door::open().await;
    let mut stream = TcpStream::connect(door.address).await.expect("connected");
    let head = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: {}\r\nContent-Length: 100\r\n\r\n{{",
        door.address
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut heard = [0; 12];
    let read = tokio::time::timeout(BOUNDS.answers_within / 2, stream.read_exact(&mut heard));
    read.await.expect("in time").expect("an answer");
    assert_eq!(&heard, b"HTTP/1.1 408");
    assert_eq!(door.get("/live").await.status(), 200);
}

#[tokio::test]
async fn what_is_ready_did_a_round_lately() {
    let door = Door::open().await;
    assert!(
        problem(door.get("/ready").await, 503)
            .await
            .contains("not completed a round")
    );
    door.store
        .state_fact(LAST_ROUND, &(NOW.0 - 60).to_string())
        .await
        .expect("kept");
    assert_eq!(door.json("/ready").await, json!({ "round_age_s": 60 }));
    door.store
        .state_fact(LAST_ROUND, &(NOW.0 - 600).to_string())
        .await
        .expect("kept");
    assert!(
        problem(door.get("/ready").await, 503)
            .await
            .contains("600 s ago")
    );
}

#[tokio::test]
async fn circles_come_in_pages_with_their_alarms() {
    let door = Door::open().await;
    let mut contexts = Vec::new();
    for number in [3, 1, 2] {
        contexts.push(door.enter(number).await.to_string());
    }
    contexts.sort();
    door.store
        .raise_alarm(ContextId([2; 32]), "a reader")
        .await
        .expect("raised");
    let first = door.json("/v1/circles?limit=2").await;
    assert_eq!(first["circles"][0]["label"], "circle 1");
    assert_eq!(first["circles"][1]["alarm"], "a reader");
    assert_eq!(first["next"], contexts[1].as_str());
    let next = format!("/v1/circles?limit=2&after={}", contexts[1]);
    let last = door.json(&next).await;
    assert_eq!(
        last["circles"].as_array().map(Vec::len),
        Some(2),
        "and the world's own"
    );
    assert_eq!(last["circles"][0]["context"], contexts[2].as_str());
    let end = door
        .json(&format!("/v1/circles?after={}", contexts[2]))
        .await;
    assert_eq!(end["next"], Value::Null);
    for wrong in [
        "limit=0",
        "limit=101",
        "limit=many",
        "after=0x12",
        "before=1",
    ] {
        let why = problem(door.get(&format!("/v1/circles?{wrong}")).await, 400).await;
        assert!(!why.is_empty());
    }
}

#[tokio::test]
async fn it_stops_when_it_is_told_to_though_connections_are_open() {
    let door = Door::open().await;
    let idle = TcpStream::connect(door.address).await.expect("connected");
    door.stop.send_replace(true);
    let stopped = tokio::time::timeout(BOUNDS.answers_within, door.served).await;
    assert!(stopped.is_ok_and(|ended| ended.is_ok()));
    drop(idle);
}

/// What a tracked file says is what the code says now.
fn check_tracked(file: &str, says: &str) {
    let tracked = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(file);
    if std::env::var_os("MEDSYNC_BLESS").is_some() {
        std::fs::write(&tracked, says).expect("written");
    }
    let there = std::fs::read_to_string(&tracked).expect("a tracked file");
    assert!(
        says == there,
        "{file}: MEDSYNC_BLESS=1 writes what the code says now"
    );
}

/// A row of the guide for each path of a description.
fn rows(described: &Value) -> String {
    let mut rows = String::from("| path | who | what |\n|---|---|---|\n");
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for (method, said) in methods.as_object().expect("methods") {
            let text = |part: &Value| part.as_str().expect("a text").replace('\n', " ");
            let (method, who) = (method.to_uppercase(), text(&said["tags"][0]));
            let what = text(&said["summary"]);
            rows += &format!("| `{method} {path}` | {who} | {what} |\n");
        }
    }
    rows
}

/// `docs/openapi.json` and the table of `docs/API.md` are what programs are written against.
#[tokio::test]
async fn the_tracked_descriptions_are_what_the_code_says() {
    const BEGIN: &str = "<!-- generated: what the code says of each path -->\n";
    const END: &str = "<!-- end -->\n";
    let door = Door::open().await;
    let text = description(&door.api).expect("JSON") + "\n";
    check_tracked("openapi.json", &text);
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/API.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let (before, rest) = guide.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where it ends");
    let described: Value = serde_json::from_str(&text).expect("JSON");
    let rows = rows(&described);
    check_tracked("API.md", &format!("{before}{BEGIN}{rows}{END}{after}"));
}
