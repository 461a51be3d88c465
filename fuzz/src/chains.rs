//! What a Starknet RPC answers to each read.

use std::sync::{Arc, LazyLock};

use medsync::chain::{
    AccountKey, AccountNonce, Chain, ChainError, RpcAccount, RpcChain, Seen, TransactionStatus,
};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ChainId, ContractAddress};
use medsync_protocol::receipt::{BlockNumber, TransactionHash};
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::Root;
use tokio::runtime::{Builder, Runtime};

/// Whoever is asked about.
const ONE: Felt = Felt::ONE;
/// The most that an endpoint's words take in a log, in bytes.
const WORDS_BYTES_MAX: usize = 2_048;
/// Requests that run at once are driven here, one after the other.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

/// A read's name in a line of its own, and then what the endpoint answers to each request of it,
/// a line each.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn rpc(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Some(Ok(read)) = lines.next().map(str::from_utf8) else {
        return false;
    };
    let Some(expected) = ChainId::named("SN_SEPOLIA") else {
        return false;
    };
    let chain = RpcChain::of_answers(lines.map(<[u8]>::to_vec), expected);
    match RUNTIME.block_on(answered(read, &chain)) {
        Ok(is_answered) => is_answered,
        Err(error) => {
            // What goes into a log is bounded, whatever the endpoint said.
            assert!(error.to_string().len() <= WORDS_BYTES_MAX, "{error}");
            false
        }
    }
}

async fn answered(read: &str, chain: &RpcChain) -> Result<bool, ChainError> {
    let (contract, pool) = (ContractAddress::from_felt(ONE), PoolId::from_felt(ONE));
    let (anchorer, handle) = (Anchorer::from_felt(ONE), Handle::from_felt(ONE));
    let root = Root::from_felt(ONE);
    match read {
        "tip" => drop(chain.tip().await?),
        "class" => drop(chain.class_hash_at(contract).await?),
        "head" => drop(chain.head_of(contract, anchorer).await?),
        "anchored" => drop(chain.anchored_at(contract, anchorer, root).await?),
        "roots" => drop(
            chain
                .anchored_roots(contract, anchorer, BlockNumber(0))
                .await?,
        ),
        "facts" => {
            let facts = chain.facts(contract, anchorer, root, handle).await?;
            let said = facts.chain;
            assert_eq!(said.block_time, facts.block.time);
            for at in [said.anchored_at, said.revoked_at].into_iter().flatten() {
                assert!(at.0 > 0 && at <= said.block_time);
            }
        }
        "revoked" => {
            let handles = [handle, Handle::from_felt(Felt::TWO)];
            let (times, block) = chain.revoked_at(contract, &handles).await?;
            assert_eq!(times.len(), handles.len());
            assert!(times.iter().flatten().all(|at| *at <= block.time));
        }
        "ticket" => {
            let (times, block) = chain.ticket_times(contract, contract, pool, handle).await?;
            assert!(times.claimed_at.is_none_or(|at| at <= block.time));
        }
        "status" => {
            let status = chain.status(TransactionHash::from_felt(ONE)).await?;
            if let TransactionStatus::Reverted { reason, .. } = &status {
                assert!(reason.text().len() <= WORDS_BYTES_MAX);
            }
        }
        "pool" => drop(chain.pool(contract, pool).await?),
        "quotas" => drop(chain.quotas(contract, pool).await?),
        "balance" => drop(chain.balance(contract, contract).await?),
        "history" => {
            let from = BlockNumber(0);
            drop(chain.pool_history(contract, from, Seen::Pool(pool)).await?);
        }
        "nonce" => {
            let key = AccountKey::parse("0x1").expect("a key");
            let account = RpcAccount::new(Arc::new(chain.clone()), contract, key);
            let AccountNonce(_) = account.settled_nonce().await?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}
