//! JSON-RPC over HTTP with a time-out and a bound on the answer, because an endpoint is somebody
//! else's machine. It neither logs nor repeats: what is sent may be a patient's revocation.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use starknet::providers::ProviderRequestData;
use starknet::providers::jsonrpc::{JsonRpcMethod, JsonRpcResponse, JsonRpcTransport};

use super::{RpcAddress, RpcLimits};
use crate::chain::ChainError;

#[derive(Debug)]
pub(in crate::chain) struct BoundedTransport {
    wire: Wire,
    limits: RpcLimits,
    /// The number of the next request.
    next: AtomicU64,
}

/// Where answers come from.
#[derive(Debug)]
enum Wire {
    Http {
        client: Client,
        address: RpcAddress,
    },
    /// One a request, in order; then the endpoint is silent.
    Given(Mutex<VecDeque<Vec<u8>>>),
}

/// What went wrong below JSON-RPC.
#[derive(Debug, thiserror::Error)]
pub(in crate::chain) enum TransportError {
    #[error("the endpoint cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the time-out passed")]
    Slow,
    #[error("HTTP status {0}")]
    Status(StatusCode),
    #[error("the answer is too long")]
    TooLong,
    #[error("the answer is not JSON-RPC: {0}")]
    Json(#[source] serde_json::Error),
    #[error("the answer is to request {found}, not {expected}")]
    OtherRequest { expected: u64, found: u64 },
    #[error("the request cannot be written: {0}")]
    Request(#[source] serde_json::Error),
    #[error("batches of requests are not sent")]
    Batch,
}

#[derive(Serialize)]
struct Request<P> {
    jsonrpc: &'static str,
    id: u64,
    method: JsonRpcMethod,
    params: P,
}

impl BoundedTransport {
    pub(super) fn new(address: RpcAddress, limits: RpcLimits) -> Result<Self, ChainError> {
        // A redirect could carry a revocation's secret to a host that nobody configured.
        let mut client = Client::builder()
            .timeout(limits.timeout)
            .redirect(Policy::none());
        if address.is_loopback() {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|error| ChainError::Unreachable(error.without_url().to_string()))?;
        Ok(Self::over(Wire::Http { client, address }, limits))
    }

    /// An endpoint whose answers are given.
    pub(super) fn given(answers: VecDeque<Vec<u8>>) -> Self {
        Self::over(Wire::Given(Mutex::new(answers)), RpcLimits::default())
    }

    fn over(wire: Wire, limits: RpcLimits) -> Self {
        Self {
            wire,
            limits,
            next: AtomicU64::new(1),
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let (client, address) = match &self.wire {
            Wire::Http { client, address } => (client, address),
            Wire::Given(answers) => {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                return answers.pop_front().ok_or(TransportError::Slow);
            }
        };
        let request = client.post(address.url().clone()).body(body);
        let request = request.header(CONTENT_TYPE, "application/json");
        let mut response = request.send().await.map_err(without_address)?;
        if !response.status().is_success() {
            return Err(TransportError::Status(response.status()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(without_address)? {
            if answer.len() + chunk.len() > self.limits.answer_bytes_max {
                return Err(TransportError::TooLong);
            }
            answer.extend_from_slice(&chunk);
        }
        Ok(answer)
    }
}

fn without_address(error: reqwest::Error) -> TransportError {
    if error.is_timeout() {
        return TransportError::Slow;
    }
    TransportError::Unreachable(error.without_url())
}

#[async_trait]
impl JsonRpcTransport for BoundedTransport {
    type Error = TransportError;

    async fn send_request<P, R>(
        &self,
        method: JsonRpcMethod,
        params: P,
    ) -> Result<JsonRpcResponse<R>, TransportError>
    where
        P: Serialize + Send + Sync,
        R: DeserializeOwned + Send,
    {
        let request = Request {
            jsonrpc: "2.0",
            id: self.next.fetch_add(1, Ordering::Relaxed),
            method,
            params,
        };
        let body = serde_json::to_vec(&request).map_err(TransportError::Request)?;
        let answer = self.post(body).await?;
        let answer = serde_json::from_slice(&answer).map_err(TransportError::Json)?;
        let id = match &answer {
            JsonRpcResponse::Success { id, .. } | JsonRpcResponse::Error { id, .. } => *id,
        };
        match id {
            // Something in between may mix up the answers of two requests.
            Some(found) if found != request.id => Err(TransportError::OtherRequest {
                expected: request.id,
                found,
            }),
            _ => Ok(answer),
        }
    }

    async fn send_requests<R>(
        &self,
        _requests: R,
    ) -> Result<Vec<JsonRpcResponse<serde_json::Value>>, TransportError>
    where
        R: AsRef<[ProviderRequestData]> + Send + Sync,
    {
        // Some providers refuse batches; several single requests at once serve everywhere.
        Err(TransportError::Batch)
    }
}
