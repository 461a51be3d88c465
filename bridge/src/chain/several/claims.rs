//! What several endpoints say of claims and fees.

use futures_util::future::join;
use medsync_protocol::claim::Claim;
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;

use super::SeveralChains;
use crate::chain::{BlockAt, Chain, ChainError, Fri, RevertReason, TicketTimes};

impl SeveralChains {
    /// Why a claim is refused, if no endpoint takes it.
    pub(super) async fn claim_refused_by_all(
        &self,
        contract: ContractAddress,
        claim: &Claim,
    ) -> Result<Option<RevertReason>, ChainError> {
        let (mut refusal, mut failed) = (None, None);
        for at in self.health.order() {
            match self.endpoints[at].refuses_claim(contract, claim).await {
                Ok(None) => return Ok(None),
                Ok(Some(reason)) => refusal = refusal.or(Some(reason)),
                Err(error) => {
                    self.health.falls_silent(at, &error.to_string());
                    failed = Some(error);
                }
            }
        }
        match (refusal, failed) {
            (Some(reason), _) => Ok(Some(reason)),
            (None, Some(error)) => Err(error),
            (None, None) => {
                self.first(|chain| chain.refuses_claim(contract, claim))
                    .await
            }
        }
    }

    /// What happened to a ticket of which two endpoints know, as of the earlier of their blocks;
    /// where fewer answer, what is left is believed.
    pub(super) async fn ticket_times_of_two(
        &self,
        registry: ContractAddress,
        contract: ContractAddress,
        (pool, handle): (PoolId, Handle),
    ) -> Result<(TicketTimes, BlockAt), ChainError> {
        let ask = |at: usize| self.endpoints[at].ticket_times(registry, contract, pool, handle);
        let mut order = self.health.order();
        order.retain(|at| !self.health.is_silent(*at));
        if let [a, b, ..] = order[..]
            && let (Ok((one, at_one)), Ok((other, at_other))) = join(ask(a), ask(b)).await
        {
            // Nothing happened of which one of them does not know.
            let times = TicketTimes {
                revoked_at: other.revoked_at.and(one.revoked_at),
                claimed_at: other.claimed_at.and(one.claimed_at),
            };
            let earlier = if at_one.number < at_other.number {
                at_one
            } else {
                at_other
            };
            return Ok((times, earlier));
        }
        self.ticket_times(registry, contract, pool, handle).await
    }

    /// What a transaction cost, as an endpoint says that has it: one that is behind does not.
    pub(super) async fn fee_by_any(
        &self,
        transaction: TransactionHash,
    ) -> Result<Option<Fri>, ChainError> {
        let (mut answered, mut failed) = (false, None);
        for at in self.health.order() {
            match self.endpoints[at].fee_of(transaction).await {
                Ok(Some(fee)) => return Ok(Some(fee)),
                Ok(None) => answered = true,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if !answered => Err(error),
            _ => Ok(None),
        }
    }
}
