//! A Starknet RPC that says whatever a test wants it to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ChainId;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

use super::{RpcChain, RpcLimits};

/// What the fake does with one request.
pub(super) enum Answer {
    /// Answers with a result.
    Result(Value),
    /// Answers with an error of JSON-RPC.
    Error(i64, Value),
    /// Answers with these bytes as the body.
    Body(Vec<u8>),
    /// Answers with another HTTP status and no body.
    Status(&'static str),
    /// Never answers.
    Silence,
}

/// What was asked, in order: method and parameters.
pub(super) type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A running fake; it ends when it is dropped.
pub(super) struct Fake {
    url: Url,
    pub(super) asked: Asked,
    server: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    pub(super) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&str, &Value) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Asked::default();
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                tokio::spawn(async move { serve(stream, &log, answer.as_ref()).await });
            }
        });
        let url = format!("http://user:secret@127.0.0.1:{port}/secret?key=secret");
        Self {
            url: url.parse().expect("a URL"),
            asked,
            server,
        }
    }

    /// A fake with the chain and the tip of [`chain_id`] and [`block`], and `answer` for the rest.
    pub(super) async fn with_tip<F>(answer: F) -> Self
    where
        F: Fn(&str, &Value) -> Answer + Send + Sync + 'static,
    {
        Self::start(move |method, params| match method {
            "starknet_chainId" => Answer::Result(json!(chain_id().to_string())),
            "starknet_getBlockWithTxHashes" => Answer::Result(block(7, 1_000)),
            _ => answer(method, params),
        })
        .await
    }

    pub(super) fn chain(&self) -> RpcChain {
        self.chain_within(Duration::from_secs(60))
    }

    pub(super) fn chain_within(&self, timeout: Duration) -> RpcChain {
        let limits = RpcLimits {
            timeout,
            answer_bytes_max: 64 * 1024,
        };
        RpcChain::with_limits(&self.url, chain_id(), limits).expect("an endpoint")
    }
}

/// The chain that the fakes serve unless told otherwise.
pub(super) fn chain_id() -> ChainId {
    ChainId::named("SN_SEPOLIA").expect("a short string")
}

/// A closed block.
pub(super) fn block(number: u64, time: u64) -> Value {
    let price = json!({"price_in_fri": "0x1", "price_in_wei": "0x1"});
    json!({
        "status": "ACCEPTED_ON_L2",
        "block_hash": block_hash(number),
        "parent_hash": "0x1",
        "block_number": number,
        "new_root": "0x1",
        "timestamp": time,
        "sequencer_address": "0x1",
        "l1_gas_price": price,
        "l2_gas_price": price,
        "l1_data_gas_price": price,
        "l1_da_mode": "BLOB",
        "starknet_version": "0.14.1",
        "event_commitment": "0x1",
        "transaction_commitment": "0x1",
        "receipt_commitment": "0x1",
        "state_diff_commitment": "0x1",
        "event_count": 0,
        "transaction_count": 0,
        "state_diff_length": 0,
        "transactions": [],
    })
}

pub(super) fn block_hash(number: u64) -> String {
    format!("0xb10c{number:x}")
}

pub(super) fn felt(value: u64) -> Felt {
    Felt::from(value)
}

async fn serve(
    stream: TcpStream,
    log: &Asked,
    answer: &(dyn Fn(&str, &Value) -> Answer + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        let (params, id) = (request["params"].clone(), &request["id"]);
        let answer = answer(&method, &params);
        log.lock().expect("not poisoned").push((method, params));
        let (status, body) = match answer {
            Answer::Result(result) => {
                let body = json!({"jsonrpc": "2.0", "id": id, "result": result});
                ("200 OK", body.to_string().into_bytes())
            }
            Answer::Error(code, data) => {
                let error = json!({"code": code, "message": "an error", "data": data});
                let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
                ("200 OK", body.to_string().into_bytes())
            }
            Answer::Body(body) => ("200 OK", body),
            Answer::Status(status) => (status, Vec::new()),
            Answer::Silence => return std::future::pending().await,
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let sent = stream.write_all(head.as_bytes()).await;
        if sent.is_err() || stream.write_all(&body).await.is_err() {
            return;
        }
    }
}

/// Reads one request of HTTP/1.1 and its JSON; nothing when the client has gone.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    serde_json::from_slice(&body).ok()
}
