//! Parties on real nodes, spoken to by the daemon's own client and past it.

use std::fmt::Debug;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use medsync::source::{
    CalimeroNode, CustodianPins, NamespaceId, NodeCircle, OpenedCircle, SourceError,
};
use medsync_protocol::ids::{ContextKind, MemberId, SealKey, UnixSeconds};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::circle::{HOSPITAL, INVITATION, anchorer, public_key, registry};
use crate::node::Node;

/// How long a write may take to reach the other node on a busy machine; a connected one has it
/// within two seconds.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks until something is there.
///
/// # Errors
/// What the look ends with, or that it never was there.
pub async fn eventually<T, L, F>(what: &str, mut look: L) -> anyhow::Result<T>
where
    L: FnMut() -> F,
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let until = Instant::now() + ARRIVES_WITHIN;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(
            Instant::now() < until,
            "{what}: not within {} s",
            ARRIVES_WITHIN.as_secs()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A party: its node, and its own copy of the app at a path of its own.
pub struct Party {
    /// The node's process.
    pub process: Node,
    /// How it is spoken to.
    pub node: CalimeroNode,
    /// The copy of the app.
    pub app: PathBuf,
}

impl Party {
    /// Starts a node in a folder of this name, which knows the addresses of these peers.
    ///
    /// # Errors
    /// A program or an app that is not built.
    pub fn start(folder: &Path, name: &str, peers: &[&str]) -> anyhow::Result<Self> {
        let flags: Vec<&str> = peers.iter().flat_map(|peer| ["--peer", *peer]).collect();
        let process = Node::start_with(&folder.join(name), &flags)?;
        let app = folder.join(format!("{name}.wasm"));
        fs::copy(built_app(), &app).context("the app is not built: run scripts/build-app")?;
        let node = CalimeroNode::new(&process.api().parse()?, process.credential())?;
        Ok(Self { process, node, app })
    }

    /// Opens a circle or an exchange, with the pins of [`circle`](crate::circle).
    ///
    /// # Errors
    /// Whatever the node refuses.
    pub async fn open(
        &self,
        namespace: NamespaceId,
        kind: ContextKind,
    ) -> anyhow::Result<OpenedCircle> {
        let pins = CustodianPins {
            kind,
            invitation_key: public_key(INVITATION),
            anchorer: anchorer(),
            author_key: public_key(HOSPITAL),
            seal_key: SealKey([9; 32]),
            registry: registry(),
        };
        Ok(self.node.create_circle(namespace, &self.app, &pins).await?)
    }

    /// Joins with an invitation of `host`; answers with the circle here and the member key.
    ///
    /// # Errors
    /// Whatever a node refuses, or a circle that is not the one that was opened.
    ///
    /// # Panics
    /// If what arrived is not what was opened.
    pub async fn join(
        &self,
        host: &Self,
        opened: &OpenedCircle,
    ) -> anyhow::Result<(NodeCircle, MemberId)> {
        let invitation = host.node.invite(opened.group, in_an_hour()).await?;
        let installed = self.node.install_app(&self.app).await?;
        let member = self.node.join(&invitation, opened.context).await?;
        let circle = self.node.circle(opened.context);
        let (state, pin) = self.node.wait_until_synced(&circle, &installed).await?;
        let state = state.context("it runs what was installed")?;
        assert_eq!(state.custodian_member, opened.member);
        assert_eq!(pin.bytecode, opened.bytecode);
        assert_eq!(pin.group, Some(opened.group));
        Ok((circle, member))
    }

    /// Asks the node's API past `medsync`, as a patched one would.
    ///
    /// # Errors
    /// A node that does not answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, String)> {
        let credential: Value = serde_json::from_slice(&fs::read(self.process.credential())?)?;
        let log_in = json!({
            "auth_method": "user_password", "public_key": "test", "client_name": "test",
            "timestamp": 0, "permissions": null, "provider_data": credential,
        });
        let client = reqwest::Client::new();
        let url = |path: &str| format!("{}{path}", self.process.api());
        let token: Value = client
            .post(url("/auth/token"))
            .json(&log_in)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let token = token["data"]["access_token"].as_str().context("no token")?;
        let mut request = client.request(method, url(path)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.text().await?))
    }
}

fn built_app() -> PathBuf {
    std::env::var_os("MEDSYNC_APP_WASM").map_or_else(
        || PathBuf::from(env!("MEDSYNC_ROOT")).join("target/app/medsync_app.wasm"),
        PathBuf::from,
    )
}

/// An hour from now.
#[must_use]
pub fn in_an_hour() -> UnixSeconds {
    in_seconds(3600)
}

/// So many seconds from now.
#[must_use]
pub fn in_seconds(seconds: u64) -> UnixSeconds {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixSeconds(now.as_secs() + seconds)
}

/// Whether the app refused, by this name.
///
/// # Panics
/// If it did not.
pub fn assert_refused<T: Debug>(answer: Result<T, SourceError>, code: &str) {
    match answer {
        Err(error) if error.refusal() == Some(code) => assert!(!error.is_retry()),
        other => panic!("expected {code}, got {other:?}"),
    }
}
