//! Requests to a node: its token, its time-outs, the bounds of its answers.
//!
//! The credential opens everything that the node holds. It is read from a file that nobody else
//! may read, it is sent to no other address (no redirect, no proxy), over plain HTTP only within
//! this machine, and neither it nor a token ever gets into an error or a log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::SourceResult;
use super::error::{SourceError, printable};
use crate::files;

/// The largest credential file, in bytes.
const CREDENTIAL_BYTES_MAX: u64 = 4096;
/// How long a connection to a node may take; it is on this machine or near it.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Under which name the node knows this program. No URL: a token of a client whose name is one
/// is only good for that host.
const CLIENT_NAME: &str = "medsync";

/// What is asked of a node at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long one request may take. Joining a circle waits for another node.
    pub(super) answer_within: Duration,
    /// How long one answer may be.
    pub(super) answer_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer_within: Duration::from_secs(60),
            answer_bytes_max: 8 * 1024 * 1024,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    username: String,
    #[serde(deserialize_with = "secret")]
    password: Secret,
}

/// Wiped when it is dropped.
type Secret = Zeroizing<String>;

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// A token; without a `Debug` that could show it.
type Token = Arc<Secret>;

/// A node's API with everything that is needed to be let in.
pub(super) struct Http {
    client: Client,
    api: Url,
    credential: Credential,
    token: Mutex<Option<Token>>,
    limits: Limits,
}

impl Http {
    /// A way to the node at `api`; asks it nothing yet.
    pub(super) fn new(api: &Url, credential: &Path, limits: Limits) -> SourceResult<Self> {
        if !is_safe(api) {
            return Err(SourceError::Address(printable(api.as_str())));
        }
        let bytes = Zeroizing::new(files::read_secret(credential, CREDENTIAL_BYTES_MAX)?);
        // The parser's text may quote the file, so that it is dropped.
        let credential = serde_json::from_slice(&bytes)
            .map_err(|_| SourceError::Credential(credential.to_owned()))?;
        let client = Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(limits.answer_within)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| SourceError::Address(printable(&error.to_string())))?;
        Ok(Self {
            client,
            api: api.clone(),
            credential,
            token: Mutex::default(),
            limits,
        })
    }

    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> SourceResult<T> {
        self.ask(Method::GET, path, None).await
    }

    /// Asks for something to be done.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> SourceResult<T> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> SourceResult<T> {
        let call = format!("{method} {path}");
        let token = self.token(None).await?;
        let mut answer = self
            .send(&call, self.request(&method, path, body)?, &token)
            .await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // Tokens run out; the node says so to a good token too, once.
            let fresh = self.token(Some(&token)).await?;
            answer = self
                .send(&call, self.request(&method, path, body)?, &fresh)
                .await?;
        }
        let status = answer.status();
        let bytes = self.read(&call, answer).await?;
        if !status.is_success() {
            return Err(refusal(call, status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| SourceError::malformed(call, error))
    }

    /// The token; a new one in place of `stale`, unless somebody else has got one meanwhile.
    async fn token(&self, stale: Option<&Token>) -> SourceResult<Token> {
        let mut held = self.token.lock().await;
        match &*held {
            Some(token) if stale.is_none_or(|stale| !Arc::ptr_eq(stale, token)) => {
                Ok(Arc::clone(token))
            }
            _ => {
                *held = None;
                let token = self.log_in().await?;
                *held = Some(Arc::clone(&token));
                Ok(token)
            }
        }
    }

    async fn log_in(&self) -> SourceResult<Token> {
        #[derive(Deserialize)]
        struct Answer {
            data: Tokens,
        }
        #[derive(Deserialize)]
        struct Tokens {
            #[serde(deserialize_with = "secret")]
            access_token: Secret,
        }
        let body = json!({
            "auth_method": "user_password",
            "public_key": CLIENT_NAME,
            "client_name": CLIENT_NAME,
            "timestamp": 0,
            "permissions": null,
            "provider_data": {
                "username": self.credential.username,
                "password": &*self.credential.password,
            },
        });
        self.check_guarded().await?;
        let call = "POST /auth/token";
        let request = self.request(&Method::POST, "/auth/token", Some(&body))?;
        let answer = request
            .send()
            .await
            .map_err(|error| self.failure(call, &error))?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(SourceError::Unauthorized);
        }
        let bytes = Zeroizing::new(self.read(call, answer).await?);
        if !status.is_success() {
            return Err(refusal(call.into(), status, &bytes));
        }
        // The parser's text may quote a token, so that it is dropped.
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|_| SourceError::malformed(call, "there is no token in it"))?;
        Ok(Arc::new(answer.data.access_token))
    }

    /// Makes sure that the node wants a credential: it may be somebody else's program, set up by
    /// hand. Before each login, and now and then, since it may be started anew.
    async fn check_guarded(&self) -> SourceResult<()> {
        let (call, path) = ("GET /admin-api/peers", "/admin-api/peers");
        let request = self.request(&Method::GET, path, None::<&Value>)?;
        let answer = request.send().await;
        let answer = answer.map_err(|error| self.failure(call, &error))?;
        match answer.status() {
            StatusCode::UNAUTHORIZED => Ok(()),
            open if open.is_success() => Err(SourceError::Unguarded(printable(self.api.as_str()))),
            status => {
                let bytes = self.read(call, answer).await?;
                Err(refusal(call.into(), status, &bytes))
            }
        }
    }

    /// The same while it is spoken to: from then on nothing is asked that needs a token.
    pub(super) async fn check_still_guarded(&self) -> SourceResult<()> {
        let checked = self.check_guarded().await;
        if matches!(checked, Err(SourceError::Unguarded(_))) {
            *self.token.lock().await = None;
        }
        checked
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> SourceResult<RequestBuilder> {
        let url = self
            .api
            .join(path)
            .map_err(|error| SourceError::malformed(path, error))?;
        let request = self.client.request(method.clone(), url);
        Ok(match body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    async fn send(
        &self,
        call: &str,
        request: RequestBuilder,
        token: &Token,
    ) -> SourceResult<Response> {
        let request = request.bearer_auth(token.as_str());
        request
            .send()
            .await
            .map_err(|error| self.failure(call, &error))
    }

    /// Reads an answer piece by piece, so that a long one is given up before it fills the memory.
    async fn read(&self, call: &str, mut answer: Response) -> SourceResult<Vec<u8>> {
        let bytes_max = self.limits.answer_bytes_max;
        let mut bytes = Vec::new();
        while let Some(piece) = answer
            .chunk()
            .await
            .map_err(|error| self.failure(call, &error))?
        {
            if bytes.len() + piece.len() > bytes_max {
                return Err(SourceError::TooLarge {
                    call: call.into(),
                    bytes_max,
                });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    fn failure(&self, call: &str, error: &reqwest::Error) -> SourceError {
        if error.is_timeout() {
            return SourceError::TimedOut {
                call: call.into(),
                after: self.limits.answer_within,
            };
        }
        // The outermost text says only that something failed; the innermost says what.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        SourceError::Unreachable {
            call: call.into(),
            reason: printable(&cause.to_string()),
        }
    }
}

/// Whether a password may go there.
fn is_safe(api: &Url) -> bool {
    let on_this_machine = match api.host() {
        Some(Host::Ipv4(host)) => host.is_loopback(),
        Some(Host::Ipv6(host)) => host.is_loopback(),
        Some(Host::Domain(host)) => host == "localhost",
        None => false,
    };
    match api.scheme() {
        "https" => api.host().is_some(),
        "http" => on_this_machine,
        _ => false,
    }
}

/// What a node says in place of an answer: text, or JSON with the text in it.
fn refusal(call: String, status: StatusCode, bytes: &[u8]) -> SourceError {
    if status == StatusCode::UNAUTHORIZED {
        return SourceError::Unauthorized;
    }
    let text = String::from_utf8_lossy(bytes);
    let inner = serde_json::from_str::<Value>(&text).ok();
    let inner = inner.as_ref().and_then(|json| json["error"].as_str());
    let reason = printable(inner.unwrap_or(&text));
    // Calimero has no code for this; every handler that checks membership uses these words.
    if reason.contains("not a member") {
        return SourceError::NotMember { call, reason };
    }
    SourceError::Node {
        call,
        status: status.as_u16(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_stays_on_this_machine_or_under_tls() {
        let safe = |url: &str| is_safe(&url.parse().expect("a URL"));
        assert!(safe("http://127.0.0.1:2528"));
        assert!(safe("http://[::1]:2528"));
        assert!(safe("http://localhost:2528"));
        assert!(safe("https://node.example.org"));
        assert!(!safe("http://node.example.org"));
        assert!(!safe("http://192.0.2.1:2528"));
        assert!(!safe("ftp://127.0.0.1"));
        assert!(!safe("data:,x"));
    }
}
