//! From the client's errors to ours: by kind, in bounded words, without addresses.

use starknet::core::types::{ContractExecutionError, StarknetError};
use starknet::providers::ProviderError;
use starknet::providers::jsonrpc::JsonRpcClientError;

use super::RpcLimits;
use super::transport::TransportError;
use crate::chain::{ChainError, RevertReason};

/// How much of an endpoint's words an error repeats.
const DETAIL_CHARS_MAX: usize = 400;

/// The error of a request that has no special meaning for its caller.
pub(in crate::chain) fn failure(
    method: &'static str,
    limits: &RpcLimits,
    error: ProviderError,
) -> ChainError {
    match error {
        ProviderError::StarknetError(error) => ChainError::Refused {
            method,
            detail: detail(&starknet_error(&error)),
        },
        ProviderError::RateLimited => ChainError::RateLimited,
        ProviderError::ArrayLengthMismatch => ChainError::Malformed {
            method,
            detail: "the answer has another number of parts than the question".into(),
        },
        ProviderError::Other(other) => match other.as_any().downcast_ref() {
            Some(JsonRpcClientError::TransportError(error)) => transport(method, limits, error),
            Some(JsonRpcClientError::JsonError(error)) => ChainError::Malformed {
                method,
                detail: detail(&error.to_string()),
            },
            Some(JsonRpcClientError::JsonRpcError(error)) => ChainError::Refused {
                method,
                detail: detail(&format!("{} (code {})", error.message, error.code)),
            },
            None => ChainError::Refused {
                method,
                detail: "the client gave no reason".into(),
            },
        },
    }
}

fn transport(method: &'static str, limits: &RpcLimits, error: &TransportError) -> ChainError {
    match error {
        TransportError::Unreachable(error) => {
            ChainError::Unreachable(detail(&innermost(error).to_string()))
        }
        TransportError::Slow => ChainError::Slow(limits.timeout),
        TransportError::Status(status) if status.as_u16() == 429 => ChainError::RateLimited,
        TransportError::Status(status) => ChainError::Status(status.as_u16()),
        TransportError::TooLong => ChainError::TooLong(limits.answer_bytes_max),
        TransportError::Json(error) => ChainError::Malformed {
            method,
            detail: detail(&error.to_string()),
        },
        TransportError::OtherRequest { .. } => ChainError::Malformed {
            method,
            detail: error.to_string(),
        },
        TransportError::Request(_) | TransportError::Batch => ChainError::Refused {
            method,
            detail: detail(&error.to_string()),
        },
    }
}

/// The cause at the bottom, such as "connection refused", which says more than its wrappers.
fn innermost<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e dyn std::error::Error {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at
}

fn starknet_error(error: &StarknetError) -> String {
    match error {
        StarknetError::ContractError(data) => execution(&data.revert_error),
        StarknetError::TransactionExecutionError(data) => execution(&data.execution_error),
        other => other.to_string(),
    }
}

/// The words at the bottom of a nested execution error.
fn execution(error: &ContractExecutionError) -> String {
    let mut at = error;
    loop {
        match at {
            ContractExecutionError::Nested(inner) => at = &inner.error,
            ContractExecutionError::Message(text) => return text.clone(),
        }
    }
}

/// Why an execution failed, if that is what the error says.
pub(in crate::chain) fn execution_failure(error: &ProviderError) -> Option<RevertReason> {
    match error {
        ProviderError::StarknetError(
            error @ (StarknetError::ContractError(_) | StarknetError::TransactionExecutionError(_)),
        ) => Some(RevertReason::new(&starknet_error(error))),
        _ => None,
    }
}

/// An endpoint's words, printable and short.
pub(in crate::chain) fn detail(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(DETAIL_CHARS_MAX).collect()
}
