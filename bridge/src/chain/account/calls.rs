//! Calls of the contracts as Starknet takes them: an address, a selector, felts.

use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ContractAddress;
use starknet::core::types::Call as StarknetCall;

use crate::chain::pool::claim_calldata;
use crate::chain::rpc::selector;
use crate::chain::{CLAIMS_MAX, Call, ChainError, PoolCall, QUOTAS_MAX, Quota, REVOCATIONS_MAX};

impl Call {
    /// What one transaction does, in this order.
    pub(super) fn to_starknet(&self) -> Result<Vec<StarknetCall>, ChainError> {
        match self {
            Self::Anchor {
                registry,
                expected_head,
                root,
                leaf_count,
            } => {
                let calldata = vec![expected_head.felt(), root.felt(), leaf_count.0.into()];
                Ok(vec![call(*registry, "anchor", calldata)])
            }
            Self::Revoke { registry, openings } => {
                let count = openings.len();
                check_count("a revocation", "handles", count, REVOCATIONS_MAX)?;
                let pairs = openings.iter();
                let pairs = pairs.flat_map(|(secret, key)| [secret.reveal(), key.felt()]);
                if count == 1 {
                    return Ok(vec![call(*registry, "revoke", pairs.collect())]);
                }
                let calldata = std::iter::once(Felt::from(count)).chain(pairs).collect();
                Ok(vec![call(*registry, "revoke_many", calldata)])
            }
            Self::Pool { contract, call } => call.to_starknet(*contract),
        }
    }
}

impl PoolCall {
    fn to_starknet(&self, contract: ContractAddress) -> Result<Vec<StarknetCall>, ChainError> {
        match self {
            Self::Open {
                nonce,
                promise,
                quotas,
                deposit,
            } => {
                let mut calldata = vec![nonce.felt()];
                calldata.extend(promise.calldata());
                extend_with_promises(&mut calldata, quotas, *deposit)?;
                let allowed = approve(promise.token, contract, *deposit);
                Ok(vec![allowed, call(contract, "open", calldata)])
            }
            Self::TopUp {
                pool,
                token,
                quotas,
                deposit,
            } => {
                let mut calldata = vec![pool.felt()];
                extend_with_promises(&mut calldata, quotas, *deposit)?;
                let allowed = approve(*token, contract, *deposit);
                Ok(vec![allowed, call(contract, "top_up", calldata)])
            }
            Self::Claim(claim) => Ok(vec![call(contract, "claim", claim_calldata(claim))]),
            Self::ClaimMany(claims) => {
                check_count("a claim of many", "tickets", claims.len(), CLAIMS_MAX)?;
                let mut calldata = vec![claims.len().into()];
                calldata.extend(claims.iter().flat_map(claim_calldata));
                Ok(vec![call(contract, "claim_many", calldata)])
            }
            Self::WithdrawFor { owner, token } => {
                let calldata = vec![owner.felt(), token.felt()];
                Ok(vec![call(contract, "withdraw_for", calldata)])
            }
            Self::Refund(pool) => Ok(vec![call(contract, "refund", vec![pool.felt()])]),
            Self::Close(pool) => Ok(vec![call(contract, "close", vec![pool.felt()])]),
        }
    }
}

fn call(to: ContractAddress, name: &'static str, calldata: Vec<Felt>) -> StarknetCall {
    StarknetCall {
        to: to.felt(),
        selector: selector(name),
        calldata,
    }
}

/// Lets a contract take just this much of a token from the account.
fn approve(token: ContractAddress, spender: ContractAddress, amount: u128) -> StarknetCall {
    call(
        token,
        "approve",
        vec![spender.felt(), amount.into(), Felt::ZERO],
    )
}

fn extend_with_promises(
    calldata: &mut Vec<Felt>,
    quotas: &[Quota],
    deposit: u128,
) -> Result<(), ChainError> {
    check_count("a promise", "quotas", quotas.len(), QUOTAS_MAX)?;
    calldata.push(quotas.len().into());
    let felts = quotas.iter();
    calldata.extend(felts.flat_map(|quota| [quota.anchorer.felt(), quota.claims.into()]));
    calldata.extend([deposit.into(), Felt::ZERO]);
    Ok(())
}

fn check_count(
    call: &'static str,
    of: &'static str,
    count: usize,
    max: usize,
) -> Result<(), ChainError> {
    if (1..=max).contains(&count) {
        return Ok(());
    }
    Err(ChainError::Count {
        call,
        of,
        count,
        max,
    })
}
