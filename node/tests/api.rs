//! Who may use a node's API, and what its log says about it.

mod support;

use anyhow::Result;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use support::{Place, call};

/// One path of each kind that must be closed.
fn closed_paths() -> [(Method, &'static str); 6] {
    [
        (Method::GET, "/admin-api/contexts"),
        (Method::POST, "/admin-api/install-dev-application"),
        (Method::POST, "/jsonrpc"),
        (Method::GET, "/sse"),
        (Method::GET, "/ws"),
        (Method::GET, "/admin/keys"),
    ]
}

/// The guard refuses with 401; that of the authentication's own paths answers 400 to a request
/// without a token, and names itself in a header.
fn is_refused(answer: &Response) -> bool {
    answer.status() == StatusCode::UNAUTHORIZED
        || answer.status() == StatusCode::BAD_REQUEST
            && answer.headers().contains_key("x-auth-error")
}

#[tokio::test]
async fn nobody_passes_without_a_token() -> Result<()> {
    let place = Place::with_home().await?;
    let node = place.start(&[]).await?;

    let health = node
        .request(Method::GET, "/admin-api/health")
        .send()
        .await?;
    assert_eq!(health.status(), StatusCode::OK);
    for (method, path) in closed_paths() {
        // The upgrade headers make the WebSocket path a real attempt; the others ignore them.
        let request = node
            .request(method, path)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
            .json(&call("x"));
        let forged = request
            .try_clone()
            .map(|forged| forged.bearer_auth("a.b.c"));
        assert!(is_refused(&request.send().await?), "{path}");
        if let Some(forged) = forged {
            assert!(
                is_refused(&forged.send().await?),
                "{path} with a forged token"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_credential_opens_the_api_and_no_other_does() -> Result<()> {
    let place = Place::with_home().await?;
    let node = place.start(&[]).await?;
    let credential = place.credential()?;

    // A stranger comes first: a fresh node must not be up for grabs.
    let mut wrong = credential.clone();
    wrong["password"] = json!("0".repeat(64));
    let stranger = json!({ "username": "stranger", "password": "first come, first served" });
    for refused in [&stranger, &wrong] {
        assert_eq!(
            node.log_in(refused).await?.status(),
            StatusCode::UNAUTHORIZED
        );
    }

    let token = node.token(&credential).await?;
    let contexts = node
        .request(Method::GET, "/admin-api/contexts")
        .bearer_auth(&token);
    let contexts: Value = contexts.send().await?.error_for_status()?.json().await?;
    assert_eq!(contexts, json!({ "data": { "contexts": [] } }));

    let stream = node
        .request(Method::GET, "/sse")
        .bearer_auth(&token)
        .send()
        .await?;
    assert_eq!(stream.status(), StatusCode::OK);

    let reply = node
        .request(Method::POST, "/jsonrpc")
        .bearer_auth(&token)
        .json(&call("x"));
    let reply: Value = reply.send().await?.error_for_status()?.json().await?;
    assert!(
        reply["error"].is_object(),
        "a call on no context succeeded: {reply}"
    );
    Ok(())
}

#[tokio::test]
async fn no_log_directive_shows_the_arguments_of_a_call() -> Result<()> {
    const SECRET: &str = "a-diagnosis-nobody-may-read";
    let place = Place::with_home().await?;
    let node = place
        .start(&["--log", "trace,calimero_server::jsonrpc=trace"])
        .await?;
    let token = node.token(&place.credential()?).await?;
    let malformed = json!({ "jsonrpc": "2.0", "id": 1, "method": SECRET, "params": SECRET });
    for body in [call(SECRET), malformed] {
        let request = node
            .request(Method::POST, "/jsonrpc")
            .bearer_auth(&token)
            .json(&body);
        request.send().await?.error_for_status()?;
    }
    node.terminate().await?;

    let log = place.log()?;
    assert!(
        log.contains("calimero"),
        "the log is empty, so this test shows nothing"
    );
    assert!(!log.contains(SECRET), "{log}");
    Ok(())
}
