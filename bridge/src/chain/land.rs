//! One transaction from its signature to its block, for somebody who waits for it.

use std::time::Duration;

use medsync_protocol::receipt::TransactionHash;
use tokio::time::{Instant, sleep};

use super::{
    Account as _, AccountNonce, BlockAt, Call, Chain as _, ChainError, RpcAccount, RpcChain,
    TransactionStatus,
};

/// How often the chain is asked whether a step has taken effect.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How long one step may take to take effect.
const PATIENCE: Duration = Duration::from_secs(600);

/// By when a step has to have taken effect that begins now.
pub(super) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// A transaction that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Its hash.
    pub hash: TransactionHash,
    /// The block that it is in.
    pub block: BlockAt,
}

impl RpcAccount {
    /// Sends a call under a nonce, says so, and waits until it took effect.
    ///
    /// # Errors
    /// [`ChainError::WouldRevert`] and [`ChainError::NonceTaken`] before anything was sent;
    /// [`ChainError::StillWaiting`] if it takes long, and it may take effect later.
    pub async fn land(
        &self,
        call: &Call,
        nonce: AccountNonce,
        say: impl Fn(TransactionHash),
    ) -> Result<Landed, ChainError> {
        let prepared = self.prepare(call, nonce).await?;
        say(prepared.hash);
        self.send(&prepared).await?;
        let (hash, until) = (prepared.hash, deadline());
        loop {
            if let Some(block) = settle(self.chain(), hash, until).await? {
                return Ok(Landed { hash, block });
            }
            // An endpoint that has not heard of it yet.
            pause("the transaction", until).await?;
        }
    }
}

/// Waits until a transaction is in a block; nothing if the chain has dropped it.
pub(super) async fn settle(
    chain: &RpcChain,
    hash: TransactionHash,
    deadline: Instant,
) -> Result<Option<BlockAt>, ChainError> {
    loop {
        match chain.status(hash).await? {
            TransactionStatus::Accepted { block } => return Ok(Some(block)),
            TransactionStatus::Reverted { reason, .. } => {
                return Err(ChainError::Reverted { hash, reason });
            }
            TransactionStatus::Unknown => return Ok(None),
            TransactionStatus::Received => pause("a transaction", deadline).await?,
        }
    }
}

pub(super) async fn pause(what: &'static str, deadline: Instant) -> Result<(), ChainError> {
    if Instant::now() >= deadline {
        return Err(ChainError::StillWaiting(what));
    }
    sleep(POLL_INTERVAL).await;
    Ok(())
}
