//! One account, by several endpoints: each is given every transaction.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use medsync_protocol::ids::ContractAddress;

use super::super::{Account, AccountNonce, Call, ChainError, Prepared, Sent};
use super::{Health, is_the_endpoints, no_endpoint};

/// One account, by several endpoints.
pub struct SeveralAccounts {
    endpoints: Vec<Arc<dyn Account>>,
    health: Arc<Health>,
}

impl SeveralAccounts {
    /// Writes by these endpoints, whose health is kept there; all are of one account.
    #[must_use]
    pub fn new(endpoints: Vec<Arc<dyn Account>>, health: Arc<Health>) -> Self {
        Self { endpoints, health }
    }

    async fn first<'e, T>(
        &'e self,
        ask: impl Fn(&'e (dyn Account + 'static)) -> BoxFuture<'e, Result<T, ChainError>> + Send,
    ) -> Result<T, ChainError> {
        self.health.first(&self.endpoints, ask).await
    }

    /// What the endpoints that answer say, at least one, the smallest first.
    async fn nonces(&self) -> Result<Vec<AccountNonce>, ChainError> {
        let asked = self.health.all(&self.endpoints, |account| account.nonce());
        let (mut nonces, mut failed) = (Vec::new(), None);
        for (_, answer) in asked.await {
            match answer {
                Ok(nonce) => nonces.push(nonce),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        nonces.sort_unstable();
        match nonces.is_empty() {
            true => Err(failed.unwrap_or_else(no_endpoint)),
            false => Ok(nonces),
        }
    }
}

#[async_trait]
impl Account for SeveralAccounts {
    fn address(&self) -> ContractAddress {
        // One is there: nothing else makes an account.
        self.endpoints[0].address()
    }

    /// The one in the middle; of two that disagree the larger, since one may be behind.
    async fn nonce(&self) -> Result<AccountNonce, ChainError> {
        let nonces = self.nonces().await?;
        Ok(nonces[nonces.len() / 2])
    }

    async fn lowest_nonce(&self) -> Result<AccountNonce, ChainError> {
        let nonces = self.nonces().await?;
        Ok(nonces[(nonces.len() - 1) / 2])
    }

    async fn prepare(&self, call: &Call, nonce: AccountNonce) -> Result<Prepared, ChainError> {
        self.first(|account| account.prepare(call, nonce)).await
    }

    async fn replace(&self, call: &Call, stuck: &Prepared) -> Result<Prepared, ChainError> {
        self.first(|account| account.replace(call, stuck)).await
    }

    /// One and the same transaction lands at most once, whoever is given it.
    async fn send(&self, transaction: &Prepared) -> Result<Sent, ChainError> {
        let given = self
            .health
            .all(&self.endpoints, |account| account.send(transaction));
        let (mut refused, mut failed) = (None, None);
        let mut sent = None;
        for (_, answer) in given.await {
            match answer {
                Ok(Sent::Accepted) => sent = Some(Sent::Accepted),
                Ok(Sent::AlreadyThere) => sent = sent.or(Some(Sent::AlreadyThere)),
                Err(error) if is_the_endpoints(&error) => failed = failed.or(Some(error)),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        let error = refused.or(failed);
        sent.ok_or_else(|| error.unwrap_or_else(no_endpoint))
    }
}
