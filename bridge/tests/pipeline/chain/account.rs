//! Its accounts.

use async_trait::async_trait;
use medsync::chain::{
    Account, AccountNonce, Call, ChainError, FeeBounds, Fri, PoolCall, Prepared, RevertReason,
    Sent, TransactionStatus,
};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::receipt::TransactionHash;

use super::super::faults::Fault;
use super::{FakeAccount, FakeChain, Payload, broken};

#[async_trait]
impl Account for FakeAccount {
    fn address(&self) -> ContractAddress {
        self.address
    }

    async fn nonce(&self) -> Result<AccountNonce, ChainError> {
        self.chain.faults.before("nonce").map_err(|()| broken())?;
        let state = self.chain.state.lock().expect("one test");
        Ok(AccountNonce(FakeChain::next_nonce(&state, self.address)))
    }

    async fn prepare(&self, call: &Call, nonce: AccountNonce) -> Result<Prepared, ChainError> {
        match self.chain.faults.take("prepare") {
            None => {}
            Some(Fault::FailedButTookEffect) => {
                let why = RevertReason::new("a fault of the test");
                return Err(ChainError::WouldRevert(why));
            }
            Some(_) => return Err(broken()),
        }
        let (payload, what) = match call {
            Call::Anchor {
                expected_head,
                root,
                leaf_count,
                ..
            } => {
                let (expected, root, leaf_count) = (*expected_head, *root, *leaf_count);
                (
                    Payload::Anchor {
                        expected,
                        root,
                        leaf_count,
                    },
                    root.felt(),
                )
            }
            Call::Revoke { openings, .. } => {
                let openings: Vec<_> = openings
                    .iter()
                    .map(|(secret, key)| (secret.reveal_text(), *key))
                    .collect();
                let first = openings[0].1.felt();
                (Payload::Revoke { openings }, first)
            }
            Call::Pool { call, .. } => {
                let claims = match call {
                    PoolCall::Claim(claim) => vec![(**claim).clone()],
                    PoolCall::ClaimMany(claims) => claims.clone(),
                    _ => panic!("no lane calls this of a pool"),
                };
                let first = claims[0].handle().felt();
                (Payload::Claim(claims), first)
            }
        };
        // As on the real chain, the hash follows from account, nonce and call.
        let hash = what + self.address.felt() * Felt::from(1_000_003) + Felt::from(nonce.0);
        Ok(Prepared {
            hash: TransactionHash::from_felt(hash),
            nonce,
            fees: FeeBounds::default(),
            payload: serde_json::to_string(&payload).expect("JSON"),
        })
    }

    async fn replace(&self, call: &Call, stuck: &Prepared) -> Result<Prepared, ChainError> {
        if self.chain.state.lock().expect("one test").is_capped {
            let (needed, cap) = (Fri(2), Fri(1));
            return Err(ChainError::FeeAboveCap { needed, cap });
        }
        let mut prepared = self.prepare(call, stuck.nonce).await?;
        // Another fee makes another hash.
        prepared.fees.l2_gas.price.0 = stuck.fees.l2_gas.price.0 + 1;
        let hash = prepared.hash.felt() + Felt::from(prepared.fees.l2_gas.price.0) * Felt::from(7);
        prepared.hash = TransactionHash::from_felt(hash);
        Ok(prepared)
    }

    async fn send(&self, transaction: &Prepared) -> Result<Sent, ChainError> {
        let fault = self.chain.faults.take("send");
        if fault == Some(Fault::Failed) {
            return Err(broken());
        }
        let mut state = self.chain.state.lock().expect("one test");
        if state.transactions.contains_key(&transaction.hash) {
            return Ok(Sent::AlreadyThere);
        }
        let (account, nonce) = (self.address, transaction.nonce);
        let next = AccountNonce(FakeChain::next_nonce(&state, account));
        if nonce < next {
            return Err(ChainError::NonceTaken { account, nonce });
        }
        if nonce > next {
            return Err(ChainError::NonceAhead {
                account,
                nonce,
                next,
            });
        }
        if state.is_stuck {
            let (hash, status) = (transaction.hash, TransactionStatus::Received);
            state.transactions.insert(hash, status);
            state.pool.push((self.address, transaction.clone()));
        } else {
            FakeChain::include(&mut state, self.address, transaction);
        }
        if fault.is_some() {
            Err(broken())
        } else {
            Ok(Sent::Accepted)
        }
    }
}
