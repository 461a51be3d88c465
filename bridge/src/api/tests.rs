//! The API on a socket, as a program of the machine meets it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use medsync_protocol::ids::{ContextId, ContextKind, MemberId, UnixSeconds};
use medsync_protocol::secrets::DeviceNumber;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Api, Bounds, OperatorToken, TOKEN_FILE, description, router, serve};
use crate::at_rest::HomeSecret;
use crate::seams::{Clock, system_random};
use crate::source::{ApplicationId, BlobId, GroupId};
use crate::store::Store;
use crate::store::circles::CircleRow;
use crate::store::facts::{HINDRANCE, LAST_ROUND};

const NOW: UnixSeconds = UnixSeconds(1_000_000);
/// Long enough for an honest client of a busy machine; short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);
const BOUNDS: Bounds = Bounds {
    connections_max: 8,
    heads_within: SHORT,
    answers_within: Duration::from_secs(10),
    lives_at_most: Duration::from_secs(60),
};

struct Still;

impl Clock for Still {
    fn now(&self) -> UnixSeconds {
        NOW
    }
}

struct Door {
    home: TempDir,
    store: Store,
    api: Arc<Api>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Door {
    async fn open() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let secret = HomeSecret::of_new(home.path(), &mut system_random()).expect("a secret");
        let store = Store::open(home.path(), &secret).await.expect("a store");
        let token = OperatorToken::of(home.path(), &mut system_random()).expect("a token");
        let api = Arc::new(Api::new(store.clone(), Arc::new(Still), token, BOUNDS));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(listener, router(&api), BOUNDS, stopped));
        Self {
            home,
            store,
            api,
            address,
            stop,
            served,
        }
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
            kind: ContextKind::Circle,
            context,
            group: GroupId([6; 32]),
            label: format!("circle {number}"),
            member: MemberId([1; 32]),
            custodian_member: MemberId([1; 32]),
            application: ApplicationId([4; 32]),
            bytecode: BlobId([5; 32]),
            invitation: None,
            patient_member: None,
            recipient_key: None,
            device: DeviceNumber::FIRST,
            entered_at: UnixSeconds(0),
            state_hash: None,
            alarm: None,
            suspected_at: None,
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

/// Of each path in the description, whoever may ask is answered and nobody else.
#[tokio::test]
async fn each_path_answers_whom_its_description_says() {
    let door = Door::open().await;
    door.store
        .state_fact(LAST_ROUND, &NOW.to_string())
        .await
        .expect("kept");
    let described: Value = door.json("/openapi.json").await;
    let paths = described["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 5);
    for (path, methods) in paths {
        let is_open = methods["get"]["security"].is_null();
        let open = ["/live", "/ready"].contains(&path.as_str());
        assert_eq!(is_open, open, "{path}");
        assert_eq!(door.get(path).await.status(), 200, "{path}");
        let wrong = format!("Bearer {}", "0".repeat(64));
        let basic = format!("Basic {}", door.token());
        for shown in [None, Some(wrong), Some(basic), Some("Bearer ".into())] {
            let mut asked = door.request(Method::GET, path);
            if let Some(shown) = &shown {
                asked = asked.header(AUTHORIZATION, shown);
            }
            let answer = asked.send().await.expect("an answer");
            if is_open {
                assert_eq!(answer.status(), 200, "{path}, {shown:?}");
            } else {
                let why = problem(answer, 401).await;
                assert!(!why.contains(&door.token()), "{path}");
            }
        }
        let answer = door.request(Method::POST, path).send().await;
        problem(answer.expect("an answer"), 405).await;
    }
    problem(door.get("/v1/nothing").await, 404).await;
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
    let door = Door::open().await;
    let token = format!("Bearer {}", door.token());
    for origin in ["http://evil.example", "null", "http://127.0.0.1:2628"] {
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
    for host in ["localhost:2628", "127.0.0.1", "[::1]:2628", "[::1]"] {
        let asked = door.request(Method::GET, "/v1/status");
        let asked = asked.header(HOST, host).header(AUTHORIZATION, &token);
        assert_eq!(
            asked.send().await.expect("an answer").status(),
            200,
            "{host}"
        );
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
    for stream in &mut silent {
        let mut heard = Vec::new();
        let read = stream.read_to_end(&mut heard);
        let closed = tokio::time::timeout(BOUNDS.answers_within, read).await;
        assert!(closed.is_ok(), "it was left open");
        assert!(!heard.starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(door.get("/live").await.status(), 200);
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
    // Nothing reads a body.
    let asked = door
        .request(Method::POST, "/v1/status")
        .body(vec![0; 1 << 24]);
    assert!(
        !asked
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
    );
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
    assert_eq!(last["circles"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["circles"][0]["context"], contexts[2].as_str());
    assert_eq!(last["next"], Value::Null);
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
async fn metrics_say_what_the_store_says() {
    let door = Door::open().await;
    door.enter(1).await;
    let context = door.enter(2).await;
    door.store
        .raise_alarm(context, "a reader")
        .await
        .expect("raised");
    let fact = format!("{HINDRANCE}:relay");
    door.store
        .state_fact(&fact, "no endpoint answers")
        .await
        .expect("kept");
    door.store
        .state_fact(LAST_ROUND, &NOW.to_string())
        .await
        .expect("kept");
    let text = door.get("/metrics").await.text().await.expect("a text");
    for line in [
        "medsync_circles 2",
        "medsync_circles_alarmed 1",
        "medsync_hindered{lane=\"relay\"} 1",
        "medsync_hindered{lane=\"ingest\"} 0",
        "medsync_last_round_timestamp_seconds 1000000",
        "medsync_queue{what=\"consents_waiting\"} 0",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in {text}"
        );
    }
    let again = door.get("/metrics").await.text().await.expect("a text");
    let counted = "medsync_http_answers_total{method=\"GET\",path=\"/metrics\",status=\"200\"} 1";
    assert!(again.lines().any(|found| found == counted), "{again}");
}

/// The examples ask for nothing that is not there.
#[tokio::test]
async fn the_dashboard_and_the_rules_name_metrics_that_are_served() {
    let door = Door::open().await;
    door.get("/metrics").await;
    let text = door.get("/metrics").await.text().await.expect("a text");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    for example in ["grafana-dashboard.json", "alerts.yml"] {
        let asked = std::fs::read_to_string(examples.join(example)).expect("an example");
        let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = asked.split(|c| !is_of_a_name(c));
        let names: Vec<&str> = words.filter(|word| word.starts_with("medsync_")).collect();
        assert!(!names.is_empty(), "{example} asks for nothing");
        for name in names {
            let family = name.strip_suffix("_total").unwrap_or(name);
            let is_served = text.contains(&format!("# HELP {family} "));
            assert!(is_served, "{example}: {name} is not in {text}");
        }
    }
}

/// Whom an alert wakes finds what to do.
#[test]
fn each_alert_is_in_the_operators_guide() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let rules = std::fs::read_to_string(docs.join("examples/alerts.yml")).expect("the rules");
    let guide = std::fs::read_to_string(docs.join("OPERATING.md")).expect("the guide");
    let named = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let named: Vec<&str> = named.collect();
    assert_eq!(named.len(), 6);
    for alert in named {
        assert!(guide.contains(&format!("| `{alert}` |")), "{alert}");
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

/// `docs/openapi.json` is what programs are written against.
#[tokio::test]
async fn the_tracked_description_is_what_the_code_says() {
    let door = Door::open().await;
    let text = description(&door.api).expect("JSON") + "\n";
    let tracked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    if std::env::var_os("MEDSYNC_BLESS").is_some() {
        std::fs::write(&tracked, &text).expect("written");
    }
    let there = std::fs::read_to_string(&tracked).expect("docs/openapi.json");
    assert!(
        text == there,
        "MEDSYNC_BLESS=1 writes what the code says now"
    );
}
