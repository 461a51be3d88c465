//! The reads of Starknet's JSON-RPC that a receipt needs, as texts to send and texts that came.
//!
//! The browser's counterpart of the daemon's `chain/rpc.rs`, with the same questions: the chain's
//! id, its newest closed block, at that block the registry's class, and `receipt_times`. Nothing is
//! sent here, and nothing is concluded but whether an answer has the form of one.

use medsync_protocol::felt::{self, Felt};
use medsync_protocol::ids::{ChainId, ClassHash, UnixSeconds};
use medsync_protocol::receipt::{BlockAt, BlockHash, BlockNumber, Contradiction, Receipt};
use medsync_protocol::verifier::{Beliefs, NoVerdict, Seen};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `starknet_keccak("receipt_times")`, by which the contract is called; a test computes it.
const RECEIPT_TIMES: &str = "0x39c9ee70c9f7b7dbd65c9ec71ebfcfaf36b0dc0a9443f03e76d99c7e06c6679";
/// How much is repeated of what an endpoint says.
const DETAIL_CHARS_MAX: usize = 200;
/// The codes of Starknet's JSON-RPC errors that have a meaning here.
const CONTRACT_NOT_FOUND: i64 = 20;
const ENTRYPOINT_NOT_FOUND: i64 = 21;

const CHAIN_ID: &str = "starknet_chainId";
const BLOCK: &str = "starknet_getBlockWithTxHashes";
const CLASS: &str = "starknet_getClassHashAt";
const CALL: &str = "starknet_call";

/// Why an endpoint's answer is of no use.
#[derive(Debug, Serialize, thiserror::Error)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub(crate) enum ReadError {
    /// It is no answer to the question.
    #[error("the answer to {method} is none: {why}")]
    Malformed {
        /// What was asked.
        method: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The endpoint refuses the question.
    #[error("{method} was refused: {why}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// What it said.
        why: String,
    },
    /// There is no contract at the registry's address.
    #[error("there is no contract at the registry's address")]
    NoContract,
    /// The contract at the registry's address is something else.
    #[error("the contract at the registry's address is no registry")]
    OtherContract,
    /// The endpoint contradicts itself.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// What it serves is not what is believed in.
    #[error(transparent)]
    NoVerdict(#[from] NoVerdict),
    /// It was not asked for its block yet.
    #[error("the endpoint was not asked for its block yet")]
    NotReady,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Chain,
    Block(ChainId),
    Class(ChainId, BlockAt),
    Ready(ChainId, BlockAt, ClassHash),
}

/// Asks one endpoint, question by question.
#[derive(Debug)]
pub(crate) struct Reader {
    beliefs: Beliefs,
    state: State,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Value>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
}

/// A closed block; one that is not yet closed has no hash.
#[derive(Deserialize)]
struct ClosedBlock {
    block_hash: String,
    block_number: u64,
    timestamp: u64,
}

fn request(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

fn malformed(method: &'static str, why: impl ToString) -> ReadError {
    let why = why.to_string().chars().take(DETAIL_CHARS_MAX).collect();
    ReadError::Malformed { method, why }
}

/// What an answer brings, if it is one.
fn result<T: serde::de::DeserializeOwned>(
    method: &'static str,
    answer: &str,
) -> Result<T, ReadError> {
    let answer: Answer = serde_json::from_str(answer).map_err(|why| malformed(method, why))?;
    if let Some(error) = answer.error {
        return Err(match error.code {
            CONTRACT_NOT_FOUND => ReadError::NoContract,
            ENTRYPOINT_NOT_FOUND => ReadError::OtherContract,
            _ => ReadError::Refused {
                method,
                why: error.message.chars().take(DETAIL_CHARS_MAX).collect(),
            },
        });
    }
    let result = answer.result.unwrap_or_default();
    serde_json::from_value(result).map_err(|why| malformed(method, why))
}

/// A felt as endpoints write it: leading zeros and capitals are theirs to choose.
fn felt(method: &'static str, text: &str) -> Result<Felt, ReadError> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    let is_one = (1..=64).contains(&digits.len());
    let mut bytes = [0; 32];
    if !is_one || hex::decode_to_slice(format!("{digits:0>64}"), &mut bytes).is_err() {
        return Err(malformed(method, "a felt has 0x and 1 to 64 hex digits"));
    }
    felt::from_bytes(&bytes).map_err(|why| malformed(method, why))
}

fn time(value: &Felt) -> Result<UnixSeconds, ReadError> {
    let bytes = value.to_bytes_be();
    let (high, low) = bytes.split_at(24);
    match <[u8; 8]>::try_from(low) {
        Ok(low) if high.iter().all(|byte| *byte == 0) => Ok(UnixSeconds(u64::from_be_bytes(low))),
        _ => Err(malformed(CALL, "a time is a number of seconds below 2^64")),
    }
}

impl Reader {
    pub(crate) fn new(beliefs: Beliefs) -> Self {
        Self {
            beliefs,
            state: State::Chain,
        }
    }

    /// The next question on the way to a block.
    pub(crate) fn request(&self) -> Option<String> {
        match self.state {
            State::Chain => Some(request(CHAIN_ID, &json!([]))),
            State::Block(_) => Some(request(BLOCK, &json!({ "block_id": "latest" }))),
            State::Class(_, block) => {
                let params = json!({
                    "block_id": { "block_hash": block.hash },
                    "contract_address": self.beliefs.registry.registry,
                });
                Some(request(CLASS, &params))
            }
            State::Ready(..) => None,
        }
    }

    /// The answer to it.
    pub(crate) fn answer(&mut self, answer: &str) -> Result<(), ReadError> {
        self.state = match self.state {
            State::Chain => {
                let id: String = result(CHAIN_ID, answer)?;
                let id = ChainId::from_felt(felt(CHAIN_ID, &id)?);
                self.beliefs.check_chain(id)?;
                State::Block(id)
            }
            State::Block(chain) => {
                let block: ClosedBlock = result(BLOCK, answer)?;
                let at = BlockAt {
                    number: BlockNumber(block.block_number),
                    hash: BlockHash::from_felt(felt(BLOCK, &block.block_hash)?),
                    time: UnixSeconds(block.timestamp),
                };
                State::Class(chain, at)
            }
            State::Class(chain, block) => {
                let class: String = result(CLASS, answer)?;
                let class = ClassHash::from_felt(felt(CLASS, &class)?);
                self.beliefs.check_class(class)?;
                State::Ready(chain, block, class)
            }
            State::Ready(..) => return Err(malformed(CLASS, "nothing was asked")),
        };
        Ok(())
    }

    /// The question for the two values of a receipt, at the block.
    pub(crate) fn times_request(&self, receipt: &Receipt) -> Result<String, ReadError> {
        let State::Ready(_, block, _) = self.state else {
            return Err(ReadError::NotReady);
        };
        let calldata = json!([receipt.anchorer, receipt.root, receipt.opening.handle]);
        let call = json!({
            "contract_address": self.beliefs.registry.registry,
            "entry_point_selector": RECEIPT_TIMES,
            "calldata": calldata,
        });
        let params = json!({ "request": call, "block_id": { "block_hash": block.hash } });
        Ok(request(CALL, &params))
    }

    /// The two values.
    pub(crate) fn times(&self, answer: &str) -> Result<Seen, ReadError> {
        let State::Ready(chain_id, block, class_hash) = self.state else {
            return Err(ReadError::NotReady);
        };
        let values: Vec<String> = result(CALL, answer)?;
        let [anchored_at, revoked_at, block_time] = values.as_slice() else {
            let why = format!("receipt_times gives 3 values, {} came", values.len());
            return Err(malformed(CALL, why));
        };
        let time = |text: &str| felt(CALL, text).and_then(|value| time(&value));
        block.saw(time(block_time)?)?;
        Ok(Seen {
            chain_id,
            class_hash,
            anchored_at: block.happened(time(anchored_at)?)?,
            revoked_at: block.happened(time(revoked_at)?)?,
            block,
        })
    }
}

#[cfg(test)]
mod tests;
