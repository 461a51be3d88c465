//! Writing to Starknet under one address, with a key that this process holds.
//!
//! Crash points: before [`Account::prepare`] returns, nothing exists; after it, what the caller
//! stored is the only trace; from [`Account::send`] on, the chain may have the transaction even
//! if no answer came, and the hash in the stored [`Prepared`] is how to find out.

use std::cmp::Ordering;
use std::sync::Arc;

use async_trait::async_trait;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::receipt::TransactionHash;
use starknet::accounts::{
    Account as _, AccountError, ConnectedAccount as _, ExecutionEncoding, SingleOwnerAccount,
};
use starknet::core::types::{
    BlockId, BroadcastedInvokeTransaction, Call as StarknetCall, FeeEstimate, StarknetError,
};
use starknet::providers::{Provider, ProviderError};

use super::rpc::{Client, detail, execution_failure};
use super::{
    Account, AccountNonce, BlockAt, Call, Chain as _, ChainError, FeeBounds, Prepared,
    RevertReason, RpcChain, Sent, TransactionStatus,
};

mod calls;
mod fees;
mod key;

pub use fees::FeePolicy;
pub use key::AccountKey;

pub(super) type Inner = SingleOwnerAccount<Client, AccountKey>;
pub(super) type InnerError = AccountError<<Inner as starknet::accounts::Account>::SignError>;

/// An account whose key this process holds.
pub struct RpcAccount {
    chain: Arc<RpcChain>,
    inner: Inner,
    policy: FeePolicy,
}

impl RpcAccount {
    /// The account at `address`, reached over `chain` and bound to its chain.
    #[must_use]
    pub fn new(chain: Arc<RpcChain>, address: ContractAddress, key: AccountKey) -> Self {
        let inner = SingleOwnerAccount::new(
            chain.client().clone(),
            key,
            address.felt(),
            chain.expected_chain().felt(),
            ExecutionEncoding::New,
        );
        Self {
            chain,
            inner,
            policy: FeePolicy::default(),
        }
    }

    /// The same account under another fee policy.
    #[must_use]
    pub fn with_fees(self, policy: FeePolicy) -> Self {
        Self { policy, ..self }
    }

    /// The nonce of the first transaction that is in no closed block yet. What is read of the chain
    /// after this and sent under this nonce is never done twice: whatever of this account lands in
    /// between, known or not, uses the nonce up.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn settled_nonce(&self) -> Result<AccountNonce, ChainError> {
        let tip = self.chain.tip().await?;
        self.nonce_at(tip).await
    }

    /// The nonce as of a block: what is read as of the same block was there before it is used.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn nonce_at(&self, block: BlockAt) -> Result<AccountNonce, ChainError> {
        let block = BlockId::Hash(block.hash.felt());
        let nonce = self.chain.client().get_nonce(block, self.inner.address());
        self.nonce_of(nonce.await)
    }

    fn nonce_of(&self, answer: Result<Felt, ProviderError>) -> Result<AccountNonce, ChainError> {
        const METHOD: &str = "starknet_getNonce";
        let nonce = match answer {
            Ok(nonce) => nonce,
            Err(ProviderError::StarknetError(StarknetError::ContractNotFound)) => {
                return Err(ChainError::NoAccount(self.address()));
            }
            Err(error) => return Err(self.chain.failure(METHOD, error)),
        };
        u64::try_from(nonce)
            .map(AccountNonce)
            .map_err(|_| ChainError::Malformed {
                method: METHOD,
                detail: "a nonce is below 2^64".into(),
            })
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(super) fn chain(&self) -> &RpcChain {
        &self.chain
    }

    pub(super) async fn prepare_calls(
        &self,
        calls: Vec<StarknetCall>,
        nonce: AccountNonce,
        above: Option<FeeBounds>,
    ) -> Result<Prepared, ChainError> {
        let execution = self.inner.execute_v3(calls).nonce(nonce.0.into());
        let estimate = match execution.estimate_fee().await {
            Ok(estimate) => estimate,
            Err(error) => return Err(self.estimate_error(nonce, error).await),
        };
        let mut fees = self.policy.bounds(&estimate)?;
        if let Some(above) = above {
            fees = fees.raised_above(above)?;
        }
        self.check_cap(fees)?;
        let execution = execution
            .l1_gas(fees.l1_gas.amount.0)
            .l1_gas_price(fees.l1_gas.price.0)
            .l2_gas(fees.l2_gas.amount.0)
            .l2_gas_price(fees.l2_gas.price.0)
            .l1_data_gas(fees.l1_data_gas.amount.0)
            .l1_data_gas_price(fees.l1_data_gas.price.0)
            .tip(0);
        // Unwrap safety: nonce, tip and all six bounds are set right above.
        let execution = execution.prepared().expect("everything is set");
        let hash = TransactionHash::from_felt(execution.transaction_hash(false));
        let request = execution.get_invoke_request(false, false).await;
        let request = request.map_err(|error| self.refused(&error.to_string()))?;
        let payload = serde_json::to_string(&request)
            .map_err(|error| ChainError::Payload(error.to_string()))?;
        Ok(Prepared {
            hash,
            nonce,
            fees,
            payload,
        })
    }

    /// The bounds that are signed for an estimate.
    pub(super) fn bounds(&self, estimate: &FeeEstimate) -> Result<FeeBounds, ChainError> {
        let fees = self.policy.bounds(estimate)?;
        self.check_cap(fees)?;
        Ok(fees)
    }

    fn check_cap(&self, fees: FeeBounds) -> Result<(), ChainError> {
        let needed = fees.total()?;
        if needed > self.policy.cap {
            return Err(ChainError::FeeAboveCap {
                needed,
                cap: self.policy.cap,
            });
        }
        Ok(())
    }

    /// What an error of estimating or preparing means.
    pub(super) fn prepare_error(&self, error: InnerError) -> ChainError {
        let error = match error {
            AccountError::Provider(error) => error,
            AccountError::FeeOutOfRange => return ChainError::FeeOutOfRange("a price"),
            AccountError::Signing(error) => return self.refused(&error.to_string()),
            AccountError::ClassHashCalculation(error) => {
                return ChainError::Artifacts(error.to_string());
            }
        };
        if let Some(reason) = execution_failure(&error) {
            return self.execution_error(reason);
        }
        match error {
            ProviderError::StarknetError(StarknetError::ContractNotFound) => {
                ChainError::NoAccount(self.address())
            }
            ProviderError::StarknetError(StarknetError::ValidationFailure(text)) => {
                self.refused(&text)
            }
            error => self.chain.failure("starknet_estimateFee", error),
        }
    }

    /// A nonce that is not the next one looks like a failed execution.
    async fn estimate_error(&self, nonce: AccountNonce, error: InnerError) -> ChainError {
        let error = self.prepare_error(error);
        let ChainError::WouldRevert(reason) = &error else {
            return error;
        };
        if reason.is_known() {
            return error;
        }
        match self.nonce().await {
            Ok(next) if next != nonce => self.wrong_nonce(nonce, next),
            _ => error,
        }
    }

    fn wrong_nonce(&self, nonce: AccountNonce, next: AccountNonce) -> ChainError {
        let account = self.address();
        match next.cmp(&nonce) {
            Ordering::Greater => ChainError::NonceTaken { account, nonce },
            Ordering::Less => ChainError::NonceAhead {
                account,
                nonce,
                next,
            },
            Ordering::Equal => ChainError::Contradiction(format!(
                "it refuses nonce {} of account {account}, and says that it is the next",
                nonce.0
            )),
        }
    }

    fn execution_error(&self, reason: RevertReason) -> ChainError {
        // Only the account itself looks at the transaction's signature.
        if !reason.is_known() && reason.text().to_lowercase().contains("signature") {
            return self.refused(reason.text());
        }
        ChainError::WouldRevert(reason)
    }

    fn refused(&self, text: &str) -> ChainError {
        ChainError::AccountRefuses {
            account: self.address(),
            detail: detail(text),
        }
    }

    async fn send_error(
        &self,
        transaction: &Prepared,
        error: ProviderError,
    ) -> Result<Sent, ChainError> {
        let ProviderError::StarknetError(error) = error else {
            return Err(self.chain.failure("starknet_addInvokeTransaction", error));
        };
        match error {
            StarknetError::DuplicateTx => Ok(Sent::AlreadyThere),
            StarknetError::InvalidTransactionNonce(_) => self.nonce_error(transaction).await,
            StarknetError::InsufficientAccountBalance => Err(ChainError::NoFunds(self.address())),
            StarknetError::InsufficientResourcesForValidate
            | StarknetError::FeeBelowMinimum
            | StarknetError::ReplacementTransactionUnderpriced => {
                Err(ChainError::FeeTooLow(transaction.hash))
            }
            StarknetError::NonAccount | StarknetError::ContractNotFound => {
                Err(ChainError::NoAccount(self.address()))
            }
            StarknetError::ValidationFailure(text) => Err(self.refused(&text)),
            error => {
                let error = ProviderError::StarknetError(error);
                Err(self.chain.failure("starknet_addInvokeTransaction", error))
            }
        }
    }

    /// A nonce that the chain does not take was used by this very transaction, by another one, or
    /// lies ahead.
    async fn nonce_error(&self, transaction: &Prepared) -> Result<Sent, ChainError> {
        if self.chain.status(transaction.hash).await? != TransactionStatus::Unknown {
            return Ok(Sent::AlreadyThere);
        }
        let next = self.nonce().await?;
        Err(self.wrong_nonce(transaction.nonce, next))
    }
}

#[async_trait]
impl Account for RpcAccount {
    fn address(&self) -> ContractAddress {
        ContractAddress::from_felt(self.inner.address())
    }

    async fn nonce(&self) -> Result<AccountNonce, ChainError> {
        self.nonce_of(self.inner.get_nonce().await)
    }

    async fn prepare(&self, call: &Call, nonce: AccountNonce) -> Result<Prepared, ChainError> {
        self.prepare_calls(call.to_starknet()?, nonce, None).await
    }

    async fn replace(&self, call: &Call, stuck: &Prepared) -> Result<Prepared, ChainError> {
        let calls = call.to_starknet()?;
        self.prepare_calls(calls, stuck.nonce, Some(stuck.fees))
            .await
    }

    async fn send(&self, transaction: &Prepared) -> Result<Sent, ChainError> {
        let request: BroadcastedInvokeTransaction = serde_json::from_str(&transaction.payload)
            .map_err(|error| ChainError::Payload(detail(&error.to_string())))?;
        let body = &request.broadcasted_invoke_txn_v3;
        if body.sender_address != self.inner.address() {
            return Err(ChainError::Payload("it is of another account".into()));
        }
        if body.nonce != Felt::from(transaction.nonce.0) {
            return Err(ChainError::Payload("it has another nonce".into()));
        }
        let answer = self.chain.client().add_invoke_transaction(request).await;
        match answer {
            Ok(sent) if sent.transaction_hash == transaction.hash.felt() => Ok(Sent::Accepted),
            Ok(sent) => Err(ChainError::Payload(format!(
                "the chain took it as {}, not as {}",
                TransactionHash::from_felt(sent.transaction_hash),
                transaction.hash
            ))),
            Err(error) => self.send_error(transaction, error).await,
        }
    }
}

#[cfg(test)]
mod tests;
