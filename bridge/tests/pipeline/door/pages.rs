//! The portal's files, beside the API.

use std::fs;
use std::path::Path;

use medsync::api::{Api, Pages};
use reqwest::Method;
use reqwest::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ORIGIN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::world;
use super::{BOUNDS, Door, problem};

/// A folder as `scripts/build-portal` leaves it, with what its pages believe.
fn portal() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).expect("written");
    };
    fs::create_dir(folder.path().join("assets")).expect("made");
    write("index.html", "<!doctype html>the portal");
    write("assets/main-1.js", "1;");
    write("assets/medsync-1.wasm", "\0asm");
    let example = include_str!("../../../../portal/verifier.example.json");
    write("verifier.json", example);
    folder
}

async fn door(folder: &Path) -> Door {
    let world = world(Vec::new()).await;
    let pages = Pages::of(folder).expect("a portal");
    let has = |api: Api| api.with_pages(pages);
    Door::with(None, &world.pipeline, (None, BOUNDS), has).await
}

fn header(answer: &reqwest::Response, name: reqwest::header::HeaderName) -> String {
    let value = answer.headers().get(name).expect("it is there");
    value.to_str().expect("a text").to_owned()
}

#[tokio::test]
async fn each_address_of_the_portal_is_its_first_page_and_files_are_files() {
    let folder = portal();
    let door = door(folder.path()).await;
    for path in ["/", "/verify", "/patient/consents", "/index.html"] {
        let page = door.get(path).await;
        assert_eq!(page.status(), 200, "{path}");
        assert!(
            header(&page, CONTENT_TYPE).starts_with("text/html"),
            "{path}"
        );
        assert_eq!(header(&page, CACHE_CONTROL), "no-cache", "{path}");
        let policy = header(&page, CONTENT_SECURITY_POLICY);
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("connect-src 'self' http"), "{policy}");
        assert_eq!(
            page.text().await.expect("a page"),
            "<!doctype html>the portal"
        );
    }
    let script = door.get("/assets/main-1.js").await;
    assert!(header(&script, CACHE_CONTROL).contains("immutable"));
    let wasm = door.get("/assets/medsync-1.wasm").await;
    assert_eq!(header(&wasm, CONTENT_TYPE), "application/wasm");
    // What the API answers is what it was.
    let live = door.get("/live").await;
    assert!(header(&live, CONTENT_SECURITY_POLICY).starts_with("default-src 'none'; frame"));
}

/// Asks for a path as it stands, which clients would tidy up.
async fn raw(door: &Door, path: &str) -> String {
    let mut stream = TcpStream::connect(door.address).await.expect("connected");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        door.address
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_page_of_the_portal_may_ask_and_no_other() {
    let folder = portal();
    let door = door(folder.path()).await;
    let own = format!("http://{}", door.address);
    for (origin, status) in [(own.as_str(), 201), ("https://elsewhere.example", 403)] {
        let asked = door.request(Method::POST, "/v1/challenges");
        let answer = asked
            .header(ORIGIN, origin)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), status, "{origin}");
    }
}

#[tokio::test]
async fn hostile_paths_lead_to_no_other_file() {
    let folder = portal();
    fs::write(folder.path().join("../beside.txt"), "beside").expect("written");
    let door = door(folder.path()).await;
    for path in [
        "/../beside.txt",
        "/%2e%2e/beside.txt",
        "/..%2fbeside.txt",
        "/assets/..%2f..%2fbeside.txt",
        "/assets//../../beside.txt",
        "/none.js",
        "/v1/none",
        "/v1/none.js",
    ] {
        let answer = raw(&door, path).await;
        assert!(!answer.contains("beside\n"), "{path}: {answer}");
        let is_refused = [" 404 ", " 400 "]
            .iter()
            .any(|status| answer.contains(status));
        assert!(is_refused, "{path}: {answer}");
    }
    fs::remove_file(folder.path().join("../beside.txt")).expect("removed");
    let posted = reqwest::Client::new().post(format!("http://{}/verify", door.address));
    problem(posted.send().await.expect("an answer"), 404).await;
}

#[tokio::test]
async fn what_is_no_portal_is_not_served() {
    let folder = portal();
    fs::write(folder.path().join("verifier.json"), "{}").expect("written");
    let error = Pages::of(folder.path()).expect_err("it believes nothing");
    assert!(error.to_string().contains("verifier.json"), "{error}");
    fs::remove_file(folder.path().join("verifier.json")).expect("removed");
    Pages::of(folder.path()).expect("pages without beliefs verify nothing");
    fs::remove_file(folder.path().join("index.html")).expect("removed");
    let error = Pages::of(folder.path()).expect_err("no page");
    assert!(error.to_string().contains("build-portal"), "{error}");
}
