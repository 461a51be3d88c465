//! The API of a node, as far as a custodian's desk uses it, in front of the contexts of one pair.
//!
//! The desk and the server run on threads of their own. What they ask of the app is answered by the
//! thread that has the contexts, one call after the other.

use std::sync::Arc;
use std::sync::mpsc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use medsync_protocol::ids::{ContextId, MemberId};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// What is the same in all of them.
const APPLICATION: [u8; 32] = [4; 32];
const BYTECODE: [u8; 32] = [5; 32];
const GROUP: [u8; 32] = [6; 32];

/// What the app or its context is asked for.
pub enum Question {
    /// A call by the custodian.
    Call { method: String, arguments: Value },
    /// The hash of the state.
    State,
}

/// A question about a context, and where the answer goes.
pub struct Asked {
    /// The context.
    pub context: ContextId,
    /// What is asked.
    pub question: Question,
    /// The answer as JSON.
    pub answer: oneshot::Sender<Value>,
}

/// Whom a node asks.
#[derive(Clone)]
struct Node {
    contexts: mpsc::Sender<Asked>,
    members: Arc<[MemberId]>,
}

impl Node {
    async fn ask(&self, context: ContextId, question: Question) -> Response {
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            context,
            question,
            answer,
        };
        if self.contexts.send(asked).is_err() {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        match answered.await {
            Ok(answer) => Json(answer).into_response(),
            Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    }
}

fn base58(bytes: [u8; 32]) -> String {
    bs58::encode(bytes).into_string()
}

/// The context that a path or a call names.
fn context(text: &Value) -> ContextId {
    let mut bytes = [0; 32];
    // What is none is nobody's, and is answered so.
    let _ = bs58::decode(text.as_str().unwrap_or_default()).onto(&mut bytes);
    ContextId(bytes)
}

/// A context as a node lists it.
pub fn described(context: ContextId, state: [u8; 32]) -> Value {
    json!({ "data": {
        "id": base58(context.0),
        "applicationId": base58(APPLICATION),
        "contextStateHash": base58(state),
    } })
}

/// Serves until the runtime ends.
///
/// # Errors
/// No port.
pub async fn serve(
    contexts: mpsc::Sender<Asked>,
    members: Arc<[MemberId]>,
) -> std::io::Result<u16> {
    let node = Node { contexts, members };
    let said = |said: Value| get(move || async move { Json(said) });
    let call = async |State(node): State<Node>, Json(asked): Json<Value>| {
        let asked = &asked["params"];
        let question = Question::Call {
            method: asked["method"].as_str().unwrap_or_default().to_owned(),
            arguments: asked["argsJson"].clone(),
        };
        node.ask(context(&asked["contextId"]), question).await
    };
    let state = async |State(node): State<Node>, Path(named): Path<String>| {
        let named = context(&Value::String(named));
        node.ask(named, Question::State).await
    };
    let members = async |State(node): State<Node>| {
        let members = node.members.iter();
        let members = members.map(|member| json!({ "identity": base58(member.0) }));
        Json(json!({ "members": members.collect::<Vec<_>>() }))
    };
    let router = Router::new()
        .route(
            "/auth/token",
            post(async || Json(json!({ "data": { "access_token": "t" } }))),
        )
        .route("/admin-api/peers", get(async || StatusCode::UNAUTHORIZED))
        .route("/jsonrpc", post(call))
        .route("/admin-api/contexts/{context}", get(state))
        .route(
            "/admin-api/contexts/{context}/group",
            said(json!({ "data": hex::encode(GROUP) })),
        )
        .route(
            "/admin-api/groups/{group}",
            said(json!({ "data": { "appKey": hex::encode(BYTECODE) } })),
        )
        .route("/admin-api/groups/{group}/members", get(members))
        .with_state(node);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(port)
}

/// What a custodian pinned of these contexts, as texts.
pub fn pins() -> [String; 3] {
    [base58(APPLICATION), base58(BYTECODE), hex::encode(GROUP)]
}
