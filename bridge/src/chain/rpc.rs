//! Reading Starknet over JSON-RPC.
//!
//! Every read goes by the newest closed block of the expected chain and names it by its hash, so
//! that two values never come from two blocks. What comes back is checked for form; whether the
//! block is recent enough is for the caller, who knows which blocks it has seen.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use medsync_protocol::anchor::AnchorHead;
use medsync_protocol::claim::Claim;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ChainId, ClassHash, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::{
    BlockHash, BlockNumber, ChainFacts, Contradiction, TransactionHash,
};
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::Root;
use starknet::core::types::{
    BlockId, BlockTag, ExecutionResult, FunctionCall, MaybePreConfirmedBlockWithTxHashes,
    PriceUnit, ReceiptBlock, StarknetError, TransactionReceipt, TransactionReceiptWithBlockInfo,
};
use starknet::core::utils::starknet_keccak;
use starknet::providers::jsonrpc::JsonRpcClient;
use starknet::providers::{Provider, ProviderError};
use tokio::task::JoinSet;
use url::Url;

use super::pool::claim_calldata;
use super::{
    BlockAt, Chain, ChainError, Facts, Fri, Opened, RevertReason, TicketTimes, TransactionStatus,
};
use transport::BoundedTransport;

mod address;
mod failure;
#[cfg(test)]
mod tests;
mod transport;

use address::RpcAddress;
pub(super) use failure::{detail, execution_failure, failure};

/// How many requests run at once; more would look like an attack to a public endpoint.
const REQUESTS_AT_ONCE: usize = 8;

/// What one request may take.
#[derive(Clone, Copy, Debug)]
pub struct RpcLimits {
    /// The longest wait for a whole answer.
    pub timeout: Duration,
    /// The longest answer, in bytes.
    pub answer_bytes_max: usize,
}

impl Default for RpcLimits {
    /// Ten seconds, and room for a full block's transaction hashes or a contract class.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            answer_bytes_max: 8 * 1024 * 1024,
        }
    }
}

pub(super) type Client = Arc<JsonRpcClient<BoundedTransport>>;

/// A Starknet RPC endpoint of one chain. Cheap to clone.
#[derive(Clone)]
pub struct RpcChain {
    client: Client,
    expected: ChainId,
    limits: RpcLimits,
}

impl RpcChain {
    /// An endpoint that must serve `expected`. It may be down now: nothing is sent yet, and every
    /// read checks the chain.
    ///
    /// # Errors
    /// [`ChainError::Address`] for an address that is not one of HTTP.
    pub fn new(address: &Url, expected: ChainId) -> Result<Self, ChainError> {
        Self::with_limits(address, expected, RpcLimits::default())
    }

    /// As [`RpcChain::new`], with other limits for each request.
    ///
    /// # Errors
    /// As [`RpcChain::new`].
    pub fn with_limits(
        address: &Url,
        expected: ChainId,
        limits: RpcLimits,
    ) -> Result<Self, ChainError> {
        let transport = BoundedTransport::new(RpcAddress::new(address)?, limits)?;
        Ok(Self {
            client: Arc::new(JsonRpcClient::new(transport)),
            expected,
            limits,
        })
    }

    /// No endpoint: each request gets the next of these answers, and none after the last. For
    /// tests of what is made of answers.
    #[must_use]
    pub fn of_answers(answers: impl IntoIterator<Item = Vec<u8>>, expected: ChainId) -> Self {
        let transport = BoundedTransport::given(answers.into_iter().collect());
        Self {
            client: Arc::new(JsonRpcClient::new(transport)),
            expected,
            limits: RpcLimits::default(),
        }
    }

    /// An endpoint of whatever chain it serves now, and must serve from now on.
    ///
    /// # Errors
    /// As [`RpcChain::new`], and whatever keeps the endpoint from answering.
    pub async fn whatever_serves(address: &Url) -> Result<Self, ChainError> {
        let mut chain = Self::new(address, ChainId::from_felt(Felt::ZERO))?;
        chain.expected = chain.chain_id().await?;
        Ok(chain)
    }

    /// The chain that this endpoint must serve.
    #[must_use]
    pub fn expected_chain(&self) -> ChainId {
        self.expected
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn failure(&self, method: &'static str, error: ProviderError) -> ChainError {
        failure(method, &self.limits, error)
    }

    async fn right_chain(&self) -> Result<(), ChainError> {
        let found = self.chain_id().await?;
        if found != self.expected {
            return Err(ChainError::OtherChain {
                expected: self.expected,
                found,
            });
        }
        Ok(())
    }

    async fn block(&self, id: BlockId) -> Result<BlockAt, ChainError> {
        const METHOD: &str = "starknet_getBlockWithTxHashes";
        let answer = self.client.get_block_with_tx_hashes(id).await;
        match answer.map_err(|error| self.failure(METHOD, error))? {
            MaybePreConfirmedBlockWithTxHashes::Block(block) => Ok(BlockAt {
                number: BlockNumber(block.block_number),
                hash: BlockHash::from_felt(block.block_hash),
                time: UnixSeconds(block.timestamp),
            }),
            MaybePreConfirmedBlockWithTxHashes::PreConfirmedBlock(_) => {
                Err(ChainError::Malformed {
                    method: METHOD,
                    detail: "a closed block was asked for and a pre-confirmed one came".into(),
                })
            }
        }
    }

    pub(super) async fn class_at(
        &self,
        contract: ContractAddress,
        block: BlockHash,
    ) -> Result<Option<ClassHash>, ChainError> {
        let id = BlockId::Hash(block.felt());
        match self.client.get_class_hash_at(id, contract.felt()).await {
            Ok(hash) => Ok(Some(ClassHash::from_felt(hash))),
            Err(ProviderError::StarknetError(StarknetError::ContractNotFound)) => Ok(None),
            Err(error) => Err(self.failure("starknet_getClassHashAt", error)),
        }
    }

    /// Calls a view at one block and takes exactly `N` felts for an answer.
    pub(super) async fn view<const N: usize>(
        &self,
        contract: ContractAddress,
        name: &'static str,
        calldata: Vec<Felt>,
        block: BlockHash,
    ) -> Result<[Felt; N], ChainError> {
        let answer = self.call(contract, name, calldata, block).await?;
        let count = answer.len();
        answer.try_into().map_err(|_| ChainError::Malformed {
            method: "starknet_call",
            detail: format!("{name} gives {N} values, {count} came"),
        })
    }

    /// Calls a view at one block.
    pub(super) async fn call(
        &self,
        contract: ContractAddress,
        name: &'static str,
        calldata: Vec<Felt>,
        block: BlockHash,
    ) -> Result<Vec<Felt>, ChainError> {
        let call = FunctionCall {
            contract_address: contract.felt(),
            entry_point_selector: selector(name),
            calldata,
        };
        let id = BlockId::Hash(block.felt());
        match self.client.call(call, id).await {
            Ok(answer) => Ok(answer),
            Err(ProviderError::StarknetError(StarknetError::ContractNotFound)) => {
                Err(ChainError::NoContract(contract))
            }
            Err(ProviderError::StarknetError(StarknetError::EntrypointNotFound)) => {
                Err(ChainError::OtherContract(contract, name))
            }
            Err(error) => Err(self.failure("starknet_call", error)),
        }
    }

    /// The receipt of a transaction, if it is known.
    async fn receipt_of(
        &self,
        transaction: TransactionHash,
    ) -> Result<Option<TransactionReceiptWithBlockInfo>, ChainError> {
        let asked = self.client.get_transaction_receipt(transaction.felt());
        let receipt = match asked.await {
            Ok(receipt) => receipt,
            Err(ProviderError::StarknetError(StarknetError::TransactionHashNotFound)) => {
                return Ok(None);
            }
            Err(error) => return Err(self.failure("starknet_getTransactionReceipt", error)),
        };
        if *receipt.receipt.transaction_hash() != transaction.felt() {
            return Err(ChainError::Contradiction(
                "the receipt is of another transaction than was asked for".into(),
            ));
        }
        Ok(Some(receipt))
    }

    async fn status_without_receipt(
        &self,
        transaction: TransactionHash,
    ) -> Result<TransactionStatus, ChainError> {
        match self.client.get_transaction_status(transaction.felt()).await {
            // If it just got into a block, the receipt is there when the caller asks again.
            Ok(_) => Ok(TransactionStatus::Received),
            Err(ProviderError::StarknetError(StarknetError::TransactionHashNotFound)) => {
                Ok(TransactionStatus::Unknown)
            }
            Err(error) => Err(self.failure("starknet_getTransactionStatus", error)),
        }
    }
}

#[async_trait]
impl Chain for RpcChain {
    async fn chain_id(&self) -> Result<ChainId, ChainError> {
        let id = self.client.chain_id().await;
        id.map(ChainId::from_felt)
            .map_err(|error| self.failure("starknet_chainId", error))
    }

    async fn block_at(&self, number: BlockNumber) -> Result<Option<BlockAt>, ChainError> {
        self.right_chain().await?;
        match self.block(BlockId::Number(number.0)).await {
            Ok(block) => Ok(Some(block)),
            Err(ChainError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn tip(&self) -> Result<BlockAt, ChainError> {
        self.right_chain().await?;
        self.block(BlockId::Tag(BlockTag::Latest)).await
    }

    async fn class_hash_at(
        &self,
        contract: ContractAddress,
    ) -> Result<Option<ClassHash>, ChainError> {
        let block = self.tip().await?;
        self.class_at(contract, block.hash).await
    }

    async fn head_of(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
    ) -> Result<AnchorHead, ChainError> {
        let block = self.tip().await?;
        let calldata = vec![anchorer.felt()];
        let [head] = self.view(registry, "head_of", calldata, block.hash).await?;
        Ok(AnchorHead::from_felt(head))
    }

    async fn anchored_at(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError> {
        let block = self.tip().await?;
        let calldata = vec![anchorer.felt(), root.felt()];
        let view = self.view(registry, "anchored_at", calldata, block.hash);
        let [at] = view.await?;
        time_by(block, at)
    }

    async fn anchored_roots(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        from: BlockNumber,
    ) -> Result<Option<BTreeSet<Root>>, ChainError> {
        self.roots_since(registry, anchorer, from).await
    }

    async fn opening_of(
        &self,
        registry: ContractAddress,
        handle: Handle,
    ) -> Result<Option<Opened>, ChainError> {
        self.opening_in_calldata(registry, handle).await
    }

    async fn facts(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
        handle: Handle,
    ) -> Result<Facts, ChainError> {
        let block = self.tip().await?;
        let class = self.class_at(registry, block.hash).await?;
        let class_hash = class.ok_or(ChainError::NoContract(registry))?;
        let calldata = vec![anchorer.felt(), root.felt(), handle.felt()];
        let view = self.view(registry, "receipt_times", calldata, block.hash);
        let [anchored_at, revoked_at, block_time] = view.await?;
        block.saw(time(block_time)?).map_err(contradiction)?;
        let chain = ChainFacts {
            anchored_at: time_by(block, anchored_at)?,
            revoked_at: time_by(block, revoked_at)?,
            block_time: block.time,
        };
        Ok(Facts {
            class_hash,
            chain,
            block,
        })
    }

    async fn revoked_at(
        &self,
        registry: ContractAddress,
        handles: &[Handle],
    ) -> Result<(Vec<Option<UnixSeconds>>, BlockAt), ChainError> {
        let block = self.tip().await?;
        let mut times = vec![None; handles.len()];
        let mut waiting = handles.iter().copied().enumerate();
        let mut running = JoinSet::new();
        loop {
            while running.len() < REQUESTS_AT_ONCE
                && let Some((place, handle)) = waiting.next()
            {
                let rpc = self.clone();
                running.spawn(async move {
                    let calldata = vec![handle.felt()];
                    let view = rpc.view(registry, "revoked_at", calldata, block.hash);
                    view.await.map(|[at]| (place, at))
                });
            }
            match running.join_next().await {
                Some(Ok(answer)) => {
                    let (place, at) = answer?;
                    times[place] = time_by(block, at)?;
                }
                Some(Err(error)) => return Err(ChainError::Contradiction(error.to_string())),
                None => return Ok((times, block)),
            }
        }
    }

    async fn ticket_times(
        &self,
        registry: ContractAddress,
        pool_contract: ContractAddress,
        pool: PoolId,
        handle: Handle,
    ) -> Result<(TicketTimes, BlockAt), ChainError> {
        let block = self.tip().await?;
        let [revoked_at] = self
            .view(registry, "revoked_at", vec![handle.felt()], block.hash)
            .await?;
        let calldata = vec![pool.felt(), handle.felt()];
        let [claimed_at] = self
            .view(pool_contract, "claimed_at", calldata, block.hash)
            .await?;
        let times = TicketTimes {
            revoked_at: time_by(block, revoked_at)?,
            claimed_at: time_by(block, claimed_at)?,
        };
        Ok((times, block))
    }

    async fn refuses_claim(
        &self,
        contract: ContractAddress,
        claim: &Claim,
    ) -> Result<Option<RevertReason>, ChainError> {
        let call = FunctionCall {
            contract_address: contract.felt(),
            entry_point_selector: selector("claim"),
            calldata: claim_calldata(claim),
        };
        let block = BlockId::Hash(self.tip().await?.hash.felt());
        match self.client.call(call, block).await {
            Ok(_) => Ok(None),
            Err(error) => match execution_failure(&error) {
                Some(reason) => Ok(Some(reason)),
                None => Err(self.failure("starknet_call", error)),
            },
        }
    }

    async fn status(&self, transaction: TransactionHash) -> Result<TransactionStatus, ChainError> {
        self.right_chain().await?;
        let Some(receipt) = self.receipt_of(transaction).await? else {
            return self.status_without_receipt(transaction).await;
        };
        let ReceiptBlock::Block { block_hash, .. } = receipt.block else {
            return Ok(TransactionStatus::Received);
        };
        let block = self.block(BlockId::Hash(block_hash)).await?;
        Ok(match receipt.receipt.execution_result() {
            ExecutionResult::Succeeded => TransactionStatus::Accepted { block },
            ExecutionResult::Reverted { reason } => TransactionStatus::Reverted {
                reason: RevertReason::new(reason),
                block,
            },
        })
    }

    async fn fee_of(&self, transaction: TransactionHash) -> Result<Option<Fri>, ChainError> {
        let Some(receipt) = self.receipt_of(transaction).await? else {
            return Ok(None);
        };
        let (TransactionReceipt::Invoke(sent), ReceiptBlock::Block { .. }) =
            (receipt.receipt, receipt.block)
        else {
            return Ok(None);
        };
        let fee = u128::try_from(sent.actual_fee.amount);
        let is_in_fri = sent.actual_fee.unit == PriceUnit::Fri;
        Ok(fee.ok().filter(|_| is_in_fri).map(Fri))
    }
}

/// By what Starknet calls a function of a contract.
pub(super) fn selector(name: &'static str) -> Felt {
    starknet_keccak(name.as_bytes())
}

/// A time as the chain gives it.
pub(super) fn time(value: Felt) -> Result<UnixSeconds, ChainError> {
    u64::try_from(value)
        .map(UnixSeconds)
        .map_err(|_| ChainError::Malformed {
            method: "starknet_call",
            detail: "a time is a number of seconds below 2^64".into(),
        })
}

/// A time at which something happened, 0 for never, which cannot lie after the block.
fn time_by(block: BlockAt, value: Felt) -> Result<Option<UnixSeconds>, ChainError> {
    block.happened(time(value)?).map_err(contradiction)
}

fn contradiction(found: Contradiction) -> ChainError {
    ChainError::Contradiction(found.to_string())
}
