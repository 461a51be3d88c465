//! The client against a node that does as it is told: real sockets, no node.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::answer::APP_REFUSES;
use super::super::http::Limits;
use super::super::sample;
use super::*;

const PASSWORD: &str = "correct-horse";

/// What the stand-in answers: status and body for a request's first line, whole text and number.
type Script = fn(usize, &str) -> (u16, String);

/// A stand-in for a node on a port of its own, and a client of it.
struct Fake {
    node: CalimeroNode,
    seen: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
    _folder: TempDir,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    async fn start(script: Script) -> Self {
        let limits = Limits {
            answer_within: Duration::from_secs(20),
            answer_bytes_max: 64 * 1024,
        };
        Self::with_limits(script, limits).await
    }

    async fn with_limits(script: Script, limits: Limits) -> Self {
        Self::guarded_by(401, script, limits).await
    }

    /// One that answers so to whoever asks without a token.
    async fn guarded_by(unguarded: u16, script: Script, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that gives up in the middle of an answer is what some tests are about.
                let _ = answer(stream, (script, unguarded), &log).await;
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let credential = folder.path().join("credential.json");
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&credential);
        let json = json!({ "username": "medsync-1", "password": PASSWORD }).to_string();
        file.expect("a file")
            .write_all(json.as_bytes())
            .expect("written");
        let api = format!("http://127.0.0.1:{port}").parse().expect("a URL");
        let node = CalimeroNode::with_limits(&api, &credential, limits).expect("a client");
        Self {
            node,
            seen,
            server,
            _folder: folder,
        }
    }

    fn circle(&self) -> NodeCircle {
        self.node.circle(sample::CONTEXT)
    }

    /// The first lines of the requests so far.
    fn lines(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no panic under the lock");
        seen.iter()
            .map(|text| text.lines().next().unwrap_or_default().to_owned())
            .collect()
    }
}

async fn answer(
    mut stream: TcpStream,
    (script, unguarded): (Script, u16),
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let text = request(&mut stream).await?;
    let has_token = text.to_lowercase().contains("authorization: bearer");
    let (status, body) = if text.starts_with("GET /admin-api/peers") && !has_token {
        // Before it logs in, the client makes sure that it has to.
        (unguarded, String::new())
    } else {
        let number = {
            let mut log = log.lock().expect("no panic under the lock");
            log.push(text.clone());
            log.len()
        };
        script(number, &text)
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

async fn request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Ok(text);
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await? {
            0 => return Ok(text),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

fn token() -> (u16, String) {
    let data = json!({ "access_token": "good", "refresh_token": "r", "error": null });
    (200, json!({ "data": data, "error": null }).to_string())
}

fn output(output: &Value) -> (u16, String) {
    let result = json!({ "output": output });
    (
        200,
        json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string(),
    )
}

fn failure(kind: &str, data: &Value) -> (u16, String) {
    let error = json!({ "type": kind, "data": data });
    (
        200,
        json!({ "jsonrpc": "2.0", "id": 1, "error": error }).to_string(),
    )
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_is_refused() {
    let fake = Fake::start(|number, request| match number {
        1 | 4 => {
            assert!(request.contains(PASSWORD));
            token()
        }
        // The third request is a good call that the node suddenly refuses.
        3 => (401, String::new()),
        _ => {
            assert!(request.contains("authorization: Bearer good"), "{request}");
            output(&sample::circle_view())
        }
    })
    .await;
    for _ in 0..3 {
        let state = fake.circle().circle().await.expect("an answer");
        assert_eq!(state.context, sample::CONTEXT);
    }
    let (log_in, call) = ("POST /auth/token HTTP/1.1", "POST /jsonrpc HTTP/1.1");
    assert_eq!(fake.lines(), [log_in, call, call, log_in, call, call]);
}

#[tokio::test]
async fn a_refused_credential_is_said_so_without_showing_it() {
    let fake = Fake::start(|_, _| (401, "{\"error\": \"Authentication failed\"}".into())).await;
    let error = fake.circle().circle().await.expect_err("no token");
    assert!(matches!(error, SourceError::Unauthorized), "{error}");
    assert!(!error.is_retry());
    let fake = Fake::start(|_, request| match request.contains("/auth/token") {
        true => token(),
        false => (401, String::new()),
    })
    .await;
    let error = fake
        .circle()
        .circle()
        .await
        .expect_err("the token is refused");
    assert!(matches!(error, SourceError::Unauthorized), "{error}");
    assert_eq!(fake.lines().len(), 4);
}

#[tokio::test]
async fn a_token_that_is_none_is_not_quoted() {
    let fake = Fake::start(|_, _| (200, format!("{{\"data\": \"{PASSWORD}\"}}"))).await;
    let error = fake.circle().circle().await.expect_err("no token");
    assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
    assert!(!error.to_string().contains(PASSWORD));
}

#[tokio::test]
async fn garbage_is_malformed() {
    for script in [
        (|n, _| {
            if n == 1 {
                token()
            } else {
                (200, "<html>".into())
            }
        }) as Script,
        |n, _| if n == 1 { token() } else { (200, "{}".into()) },
        |n, _| {
            if n == 1 {
                token()
            } else {
                output(&json!({ "context": "0x1" }))
            }
        },
        |n, _| {
            if n == 1 {
                token()
            } else {
                output(&Value::Null)
            }
        },
    ] {
        let error = Fake::start(script)
            .await
            .circle()
            .circle()
            .await
            .expect_err("no circle");
        assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
        assert!(!error.is_retry());
    }
}

#[tokio::test]
async fn a_long_answer_is_given_up() {
    let fake = Fake::start(|n, _| {
        if n == 1 {
            token()
        } else {
            (200, " ".repeat(100_000))
        }
    })
    .await;
    let error = fake.circle().circle().await.expect_err("too long");
    assert!(
        matches!(
            error,
            SourceError::TooLarge {
                bytes_max: 65_536,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_not_waited_for() {
    let limits = Limits {
        answer_within: Duration::from_millis(50),
        answer_bytes_max: 1024,
    };
    let fake = Fake::with_limits(|_, _| token(), limits).await;
    // The connection is taken by the system and nobody reads it.
    fake.server.abort();
    let error = fake.circle().circle().await.expect_err("nobody answers");
    assert!(
        matches!(
            error,
            SourceError::TimedOut { .. } | SourceError::Unreachable { .. }
        ),
        "{error}"
    );
    assert!(error.is_retry());

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let api = format!("http://{}", listener.local_addr().expect("an address"));
    let credential = fake._folder.path().join("credential.json");
    let api = api.parse().expect("a URL");
    let silent = CalimeroNode::with_limits(&api, &credential, limits).expect("a client");
    let error = silent
        .circle(sample::CONTEXT)
        .circle()
        .await
        .expect_err("nobody answers");
    assert!(matches!(error, SourceError::TimedOut { .. }), "{error}");
    drop(listener);
    let error = silent
        .circle(sample::CONTEXT)
        .circle()
        .await
        .expect_err("nobody is there");
    assert!(matches!(error, SourceError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn the_apps_refusal_comes_with_its_name_and_reason() {
    let fake = Fake::start(|n, _| {
        if n == 1 {
            return token();
        }
        let refusal = json!({ "error": "not_the_custodian", "message": "only the custodian" });
        let bytes = refusal.to_string().into_bytes();
        failure(
            "FunctionCallError",
            &json!(format!("{APP_REFUSES}{bytes:?}")),
        )
    })
    .await;
    let error = fake
        .circle()
        .put_record(&new_record())
        .await
        .expect_err("refused");
    assert_eq!(error.refusal(), Some("not_the_custodian"));
    assert_eq!(error.to_string(), "put_record: only the custodian");
    assert!(!error.is_retry());
}

fn new_record() -> NewRecord {
    NewRecord {
        record: RecordId([1; 32]),
        version: RecordVersion(1),
        resource_type: "Observation".into(),
        attributes: medsync_protocol::decide::Attributes::default(),
        payload: sample::payload(),
        key_for_patient: vec![0],
        key_for_custodian: vec![1],
    }
}

#[tokio::test]
async fn too_large_a_payload_is_not_sent() {
    let fake = Fake::start(|_, _| token()).await;
    let payload = vec![0; PAYLOAD_BYTES_MAX + PAYLOAD_OVERHEAD_BYTES + 1];
    let record = NewRecord {
        payload,
        ..new_record()
    };
    let error = fake
        .circle()
        .put_record(&record)
        .await
        .expect_err("too large");
    assert!(
        matches!(
            error,
            SourceError::InputTooLarge {
                what: "payload",
                ..
            }
        ),
        "{error}"
    );
    assert!(fake.lines().is_empty());
}

#[tokio::test]
async fn a_grant_that_the_node_names_otherwise_is_no_grant() {
    let fake = Fake::start(|n, _| match n {
        1 => token(),
        _ => output(&json!({ "key": sample::key(1), "commitment": "0x1", "existing": false })),
    })
    .await;
    let terms = sample::terms().encode().expect("sound terms");
    let (opening, signature) = (sample::opening(), sample::signature());
    let error = fake
        .circle()
        .grant(&terms, &opening, &signature, 1)
        .await
        .expect_err("a lie");
    assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn a_credential_is_private_and_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = "http://127.0.0.1:1".parse().expect("a URL");
    let path = folder.path().join("credential.json");
    crate::files::write_whole(&path, b"{}", false).expect("written");
    assert!(matches!(
        CalimeroNode::new(&api, &path),
        Err(SourceError::CredentialFile(_))
    ));
    crate::files::write_whole(&path, b"{}", true).expect("written");
    assert!(matches!(
        CalimeroNode::new(&api, &path),
        Err(SourceError::Credential(_))
    ));
    let away = "http://example.org".parse().expect("a URL");
    assert!(matches!(
        CalimeroNode::new(&away, &path),
        Err(SourceError::Address(_))
    ));
}

#[tokio::test]
async fn a_walk_that_goes_in_circles_ends() {
    let fake = Fake::start(|n, _| match n {
        1 => token(),
        _ => output(&json!({ "consents": [], "ignored": 0, "next": "c" })),
    })
    .await;
    let error = super::super::all_consents(&fake.circle())
        .await
        .expect_err("no end");
    assert!(matches!(error, SourceError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn hostile_node_that_answers_whoever_asks_is_not_spoken_to() {
    let script: Script = |_, _| (200, "{}".into());
    let fake = Fake::guarded_by(200, script, Limits::default()).await;
    let error = fake.circle().circle().await.expect_err("it is not guarded");
    assert!(matches!(error, SourceError::Unguarded(_)), "{error}");
    assert!(fake.lines().is_empty(), "no password was sent");
}
