//! Writing to Starknet under one address, with a key that this process holds.
//!
//! Crash points: before [`Account::prepare`] returns, nothing exists; after it, what the caller
//! stored is the only trace; from [`Account::send`] on, the chain may have the transaction even
//! if no answer came, and the hash in the stored [`Prepared`] is how to find out.

use std::sync::Arc;

use async_trait::async_trait;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::receipt::TransactionHash;
use starknet::accounts::{
    Account as _, AccountError, ConnectedAccount as _, ExecutionEncoding, SingleOwnerAccount,
};
use starknet::core::types::{
    BroadcastedInvokeTransaction, Call as StarknetCall, FeeEstimate, StarknetError,
};
use starknet::providers::{Provider, ProviderError};

use super::rpc::{Client, detail, execution_failure, selector};
use super::{
    Account, AccountNonce, Call, Chain as _, ChainError, FeeBounds, Fri, Gas, GasBound, Prepared,
    REVOCATIONS_MAX, RevertReason, RpcChain, Sent, TransactionStatus,
};

mod key;

pub use key::AccountKey;

/// How much an account pays for its transactions.
#[derive(Clone, Copy, Debug)]
pub struct FeePolicy {
    /// What is added to every estimated amount and price, in percent of it.
    pub margin_percent: u32,
    /// The most that one transaction may cost.
    pub cap: Fri,
}

impl Default for FeePolicy {
    /// Half as much again as estimated, and at most 10 STRK.
    fn default() -> Self {
        Self {
            margin_percent: 50,
            cap: Fri(10_000_000_000_000_000_000),
        }
    }
}

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
    ) -> Result<Prepared, ChainError> {
        let execution = self.inner.execute_v3(calls).nonce(nonce.0.into());
        let estimate = execution.estimate_fee().await;
        let estimate = estimate.map_err(|error| self.prepare_error(error))?;
        let fees = self.bounds(&estimate)?;
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
        let needed = fees.total()?;
        if needed > self.policy.cap {
            return Err(ChainError::FeeAboveCap {
                needed,
                cap: self.policy.cap,
            });
        }
        Ok(fees)
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

    fn execution_error(&self, reason: RevertReason) -> ChainError {
        // Only the account itself looks at the signature; the registry never reverts with this.
        if reason.registry().is_none() && reason.text().to_lowercase().contains("signature") {
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
        let (account, nonce) = (self.address(), transaction.nonce);
        let next = self.nonce().await?;
        if next > nonce {
            return Err(ChainError::NonceTaken { account, nonce });
        }
        Err(ChainError::NonceAhead {
            account,
            nonce,
            next,
        })
    }
}

#[async_trait]
impl Account for RpcAccount {
    fn address(&self) -> ContractAddress {
        ContractAddress::from_felt(self.inner.address())
    }

    async fn nonce(&self) -> Result<AccountNonce, ChainError> {
        const METHOD: &str = "starknet_getNonce";
        let nonce = match self.inner.get_nonce().await {
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

    async fn prepare(&self, call: &Call, nonce: AccountNonce) -> Result<Prepared, ChainError> {
        self.prepare_calls(vec![call.to_starknet()?], nonce).await
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

impl Call {
    fn to_starknet(&self) -> Result<StarknetCall, ChainError> {
        match self {
            Self::Anchor {
                registry,
                expected_head,
                root,
                leaf_count,
            } => Ok(StarknetCall {
                to: registry.felt(),
                selector: selector("anchor"),
                calldata: vec![expected_head.felt(), root.felt(), leaf_count.0.into()],
            }),
            Self::Revoke { registry, openings } => {
                let count = openings.len();
                let pairs = openings.iter();
                let pairs = pairs.flat_map(|(secret, key)| [secret.reveal(), key.felt()]);
                let (name, calldata) = match count {
                    1 => ("revoke", pairs.collect()),
                    2..=REVOCATIONS_MAX => {
                        let count = std::iter::once(Felt::from(count));
                        ("revoke_many", count.chain(pairs).collect())
                    }
                    _ => {
                        return Err(ChainError::Openings {
                            count,
                            max: REVOCATIONS_MAX,
                        });
                    }
                };
                Ok(StarknetCall {
                    to: registry.felt(),
                    selector: selector(name),
                    calldata,
                })
            }
        }
    }
}

impl FeePolicy {
    fn bounds(&self, estimate: &FeeEstimate) -> Result<FeeBounds, ChainError> {
        let bound = |amount: u64, price: u128| {
            let amount = self.with_margin(amount.into())?;
            Ok(GasBound {
                amount: Gas(u64::try_from(amount)
                    .map_err(|_| ChainError::FeeOutOfRange("an amount of gas"))?),
                price: Fri(self.with_margin(price)?),
            })
        };
        Ok(FeeBounds {
            l2_gas: bound(estimate.l2_gas_consumed, estimate.l2_gas_price)?,
            l1_data_gas: bound(estimate.l1_data_gas_consumed, estimate.l1_data_gas_price)?,
            l1_gas: bound(estimate.l1_gas_consumed, estimate.l1_gas_price)?,
        })
    }

    fn with_margin(&self, value: u128) -> Result<u128, ChainError> {
        let margin = value.checked_mul(self.margin_percent.into());
        margin
            .and_then(|margin| value.checked_add(margin.div_ceil(100)))
            .ok_or(ChainError::FeeOutOfRange("an amount or a price"))
    }
}

impl FeeBounds {
    /// What the transaction costs if it uses everything that it may.
    ///
    /// # Errors
    /// [`ChainError::FeeOutOfRange`] if that is no number below 2^128.
    pub fn total(&self) -> Result<Fri, ChainError> {
        let bounds = [self.l2_gas, self.l1_data_gas, self.l1_gas];
        bounds
            .iter()
            .try_fold(0u128, |sum, bound| {
                sum.checked_add(bound.price.0.checked_mul(bound.amount.0.into())?)
            })
            .map(Fri)
            .ok_or(ChainError::FeeOutOfRange("the sum"))
    }
}

#[cfg(test)]
mod tests;
