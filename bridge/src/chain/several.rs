//! Several endpoints of one chain: one that fails is passed over, and none is believed alone.
//!
//! They are asked in the order of the configuration; one that failed rests and is asked last
//! meanwhile. A refusal is believed if no other endpoint answers, and a transaction goes to all of
//! them: one may take it and forget it. About revocations two are asked: what either of them has
//! denies, and only what both have counts as landed; one that lacks what it should have, or is far
//! behind, rests from other questions. What the endpoints say of themselves is for people to see;
//! an address may hold an access key and is never shown.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, join, join_all};
use medsync_protocol::anchor::AnchorHead;
use medsync_protocol::claim::Claim;
use medsync_protocol::ids::{Anchorer, ChainId, ClassHash, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::{BlockNumber, TransactionHash};
use medsync_protocol::secrets::Handle;
use medsync_protocol::ticket::PoolId;
use medsync_protocol::tree::Root;
use tokio::time::Instant;

use super::{
    BlockAt, Chain, ChainError, Facts, Fri, Opened, RevertReason, TicketTimes, TransactionStatus,
};

mod accounts;
mod claims;

pub use accounts::SeveralAccounts;

/// How long an endpoint rests after it failed.
const REST: Duration = Duration::from_secs(30);
/// How far one endpoint may be behind another, in seconds of block time.
const BEHIND_S_MAX: u64 = 2 * 60;

/// How each endpoint does; shared by who reads and who writes.
#[derive(Debug)]
pub struct Health(Mutex<Vec<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    rests_until: Option<Instant>,
    /// Why it rests, or did last.
    why: Option<String>,
    /// Whether it rests because it does not answer; else it differs from another.
    is_silent: bool,
}

impl Health {
    /// Of so many endpoints.
    #[must_use]
    pub fn of(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![State::default(); count])))
    }

    /// In which order the endpoints are asked: those that rest come last.
    fn order(&self) -> Vec<usize> {
        let now = Instant::now();
        let states = self.states();
        let rests = |at: &usize| states[*at].rests_until.is_some_and(|until| until > now);
        let (last, mut first): (Vec<usize>, Vec<usize>) = (0..states.len()).partition(rests);
        first.extend(last);
        first
    }

    fn rests(&self, at: usize) -> bool {
        let until = self.states().get(at).and_then(|state| state.rests_until);
        until.is_some_and(|until| until > Instant::now())
    }

    /// Whether it rests because it does not answer.
    fn is_silent(&self, at: usize) -> bool {
        self.rests(at) && self.states().get(at).is_some_and(|state| state.is_silent)
    }

    fn falls_silent(&self, at: usize, why: &str) {
        self.put_to_rest(at, why, true);
    }

    fn differs(&self, at: usize, why: &str) {
        self.put_to_rest(at, why, false);
    }

    fn put_to_rest(&self, at: usize, why: &str, is_silent: bool) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = states.get_mut(at) {
            tracing::warn!(endpoint = at + 1, why, "an endpoint rests");
            *state = State {
                rests_until: Some(Instant::now() + REST),
                why: Some(why.to_owned()),
                is_silent,
            };
        }
    }

    fn is_well(&self, at: usize) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = states.get_mut(at) {
            *state = State::default();
        }
    }

    fn states(&self) -> Vec<State> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.clone()
    }

    /// Why each endpoint is not well, by its number from 1; nothing of those that are.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let states = self.states().into_iter().zip(1..);
        let said = |(state, number): (State, usize)| {
            state.why.map(|why| format!("endpoint {number}: {why}"))
        };
        states.filter_map(said).collect()
    }

    /// Which endpoints are well, in their order.
    fn are_well(&self) -> Vec<bool> {
        let states = self.states().into_iter();
        states.map(|state| state.why.is_none()).collect()
    }

    /// Asks one endpoint after the other until one answers. One that refused what another answers
    /// rests.
    async fn first<'e, E: ?Sized + Send + Sync, T>(
        &self,
        endpoints: &'e [Arc<E>],
        ask: impl Fn(&'e E) -> BoxFuture<'e, Result<T, ChainError>> + Send,
    ) -> Result<T, ChainError> {
        let (mut refused, mut failed) = (Vec::new(), None);
        for at in self.order() {
            match ask(&endpoints[at]).await {
                Ok(answer) => {
                    for (other, error) in refused {
                        let error: ChainError = error;
                        self.differs(other, &error.to_string());
                    }
                    self.answers(at);
                    return Ok(answer);
                }
                Err(error) if is_the_endpoints(&error) => {
                    self.falls_silent(at, &error.to_string());
                    failed.get_or_insert(error);
                }
                Err(error) => refused.push((at, error)),
            }
        }
        let refusal = refused.into_iter().next().map(|(_, error)| error);
        Err(refusal.or(failed).unwrap_or_else(no_endpoint))
    }

    /// Asks all endpoints at once, but for those that are silent while others are not. Answers
    /// what each said, by its place.
    async fn all<'e, E: ?Sized + Send + Sync, T>(
        &self,
        endpoints: &'e [Arc<E>],
        ask: impl Fn(&'e E) -> BoxFuture<'e, Result<T, ChainError>> + Send,
    ) -> Vec<(usize, Result<T, ChainError>)> {
        let mut order = self.order();
        if order.iter().any(|at| !self.is_silent(*at)) {
            order.retain(|at| !self.is_silent(*at));
        }
        let asked = order.iter().map(|at| ask(&endpoints[*at]));
        let answers = join_all(asked).await;
        for (at, answer) in order.iter().zip(&answers) {
            match answer {
                Err(error) if is_the_endpoints(error) => {
                    self.falls_silent(*at, &error.to_string());
                }
                _ => self.answers(*at),
            }
        }
        order.into_iter().zip(answers).collect()
    }

    /// Notes that an endpoint answered; one that rests goes on resting.
    fn answers(&self, at: usize) {
        if !self.rests(at) {
            self.is_well(at);
        }
    }
}

/// Why an endpoint rests.
const LACKS_A_BATCH: &str = "it lacks a batch that another has";

fn no_endpoint() -> ChainError {
    ChainError::Address("the configuration names no endpoint".into())
}

/// Whether an error is about who was asked, and not about what.
fn is_the_endpoints(error: &ChainError) -> bool {
    matches!(
        error,
        ChainError::Unreachable(_)
            | ChainError::Slow(_)
            | ChainError::Status(_)
            | ChainError::RateLimited
            | ChainError::TooLong(_)
            | ChainError::Malformed { .. }
            | ChainError::Refused { .. }
            | ChainError::OtherChain { .. }
            | ChainError::Contradiction(_)
    )
}

/// A chain, by several endpoints.
pub struct SeveralChains {
    endpoints: Vec<Arc<dyn Chain>>,
    health: Arc<Health>,
}

impl SeveralChains {
    /// Reads by these endpoints, whose health is kept there.
    #[must_use]
    pub fn new(endpoints: Vec<Arc<dyn Chain>>, health: Arc<Health>) -> Self {
        Self { endpoints, health }
    }

    async fn first<'e, T>(
        &'e self,
        ask: impl Fn(&'e (dyn Chain + 'static)) -> BoxFuture<'e, Result<T, ChainError>> + Send,
    ) -> Result<T, ChainError> {
        self.health.first(&self.endpoints, ask).await
    }

    /// Asks two endpoints of the same handles; fewer if no more answer. One that rests because it
    /// differed from another is asked all the same: else whoever contradicts it would be believed
    /// alone.
    async fn ask_two(
        &self,
        registry: ContractAddress,
        handles: &[Handle],
    ) -> Result<Vec<(usize, Times)>, ChainError> {
        let mut order = self.health.order();
        order.retain(|at| !self.health.is_silent(*at));
        let ask = |at: usize| self.endpoints[at].revoked_at(registry, handles);
        let mut said = Vec::new();
        if let [a, b, ..] = order[..] {
            let (one, other) = join(ask(a), ask(b)).await;
            for (at, answer) in [(a, one), (b, other)] {
                match answer {
                    Ok(opened) => said.push((at, opened)),
                    Err(error) => self.health.falls_silent(at, &error.to_string()),
                }
            }
        }
        if said.is_empty() {
            // Whoever is left, one after the other.
            let answer = self.first(|chain| chain.revoked_at(registry, handles));
            return Ok(vec![(usize::MAX, answer.await?)]);
        }
        self.compare(&said);
        Ok(said)
    }

    /// Puts to rest who lacks what another has, or is far behind.
    fn compare(&self, said: &[(usize, Times)]) {
        for (at, (lacking, block)) in said {
            for (_, (having, newest)) in said {
                let lacks = having.iter().zip(lacking).any(|(has, lacks)| {
                    lacks.is_none() && has.is_some_and(|opened| opened <= block.time)
                });
                if lacks {
                    let why = "it lacks a revocation that another has";
                    self.health.differs(*at, why);
                } else if newest.time.0.saturating_sub(block.time.0) > BEHIND_S_MAX {
                    self.health.differs(*at, "it is behind another");
                }
            }
        }
    }

    /// The block that all of them had; of one that is far behind, that of the other.
    fn common_block(said: &[(usize, Times)]) -> Result<BlockAt, ChainError> {
        let blocks = || said.iter().map(|(_, (_, block))| *block);
        let newest = blocks().max_by_key(|block| block.time);
        let newest = newest.ok_or_else(no_endpoint)?;
        let near = blocks().filter(|block| newest.time.0 - block.time.0 <= BEHIND_S_MAX);
        Ok(near.min_by_key(|block| block.time).unwrap_or(newest))
    }
}

/// What several endpoints say of one handle.
fn of_handle(said: &[(usize, Times)], at: usize) -> impl Iterator<Item = Option<UnixSeconds>> {
    let times = said
        .iter()
        .map(move |(_, (times, _))| times.get(at).copied());
    times.map(Option::flatten)
}

type Times = (Vec<Option<UnixSeconds>>, BlockAt);

#[async_trait]
impl Chain for SeveralChains {
    async fn chain_id(&self) -> Result<ChainId, ChainError> {
        self.first(|chain| chain.chain_id()).await
    }

    async fn check(
        &self,
        expected: ChainId,
        contract: ContractAddress,
        class_hash: ClassHash,
    ) -> Result<(), ChainError> {
        self.first(|chain| chain.check(expected, contract, class_hash))
            .await
    }

    async fn block_at(&self, number: BlockNumber) -> Result<Option<BlockAt>, ChainError> {
        self.first(|chain| chain.block_at(number)).await
    }

    async fn tip(&self) -> Result<BlockAt, ChainError> {
        self.first(|chain| chain.tip()).await
    }

    async fn tip_by_all(&self) -> Result<BlockAt, ChainError> {
        let said = self.health.all(&self.endpoints, |chain| chain.tip()).await;
        let (tips, mut errors): (Vec<_>, Vec<_>) = said
            .into_iter()
            .map(|(_, tip)| tip)
            .partition(Result::is_ok);
        let tips = tips.into_iter().flatten();
        let earliest = tips.min_by_key(|tip| tip.time);
        earliest.ok_or_else(|| {
            errors
                .pop()
                .and_then(Result::err)
                .unwrap_or_else(no_endpoint)
        })
    }

    async fn class_hash_at(
        &self,
        contract: ContractAddress,
    ) -> Result<Option<ClassHash>, ChainError> {
        self.first(|chain| chain.class_hash_at(contract)).await
    }

    async fn head_of(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
    ) -> Result<AnchorHead, ChainError> {
        self.first(|chain| chain.head_of(registry, anchorer)).await
    }

    async fn heads_of(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
    ) -> Result<Vec<AnchorHead>, ChainError> {
        let asked = self
            .health
            .all(&self.endpoints, |chain| chain.head_of(registry, anchorer));
        let (mut heads, mut failed): (Vec<(AnchorHead, usize)>, _) = (Vec::new(), None);
        for (_, answer) in asked.await {
            match answer {
                Ok(head) => match heads.iter_mut().find(|(known, _)| *known == head) {
                    Some((_, count)) => *count += 1,
                    None => heads.push((head, 1)),
                },
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if heads.is_empty() {
            return Err(failed.unwrap_or_else(no_endpoint));
        }
        heads.sort_by_key(|(_, count)| Reverse(*count));
        Ok(heads.into_iter().map(|(head, _)| head).collect())
    }

    async fn anchored_at(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError> {
        self.first(|chain| chain.anchored_at(registry, anchorer, root))
            .await
    }

    /// One that does not answer is waited for: what follows from this answer is not undone.
    async fn anchored_at_by_any(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError> {
        let asked = self.endpoints.iter();
        let asked = asked.map(|chain| chain.anchored_at(registry, anchorer, root));
        let mut earliest: Option<UnixSeconds> = None;
        let (mut lacking, mut silent) = (Vec::new(), None);
        for (at, answer) in join_all(asked).await.into_iter().enumerate() {
            match answer {
                Ok(Some(time)) => earliest = Some(earliest.map_or(time, |known| known.min(time))),
                Ok(None) => lacking.push(at),
                Err(error) => {
                    self.health.falls_silent(at, &error.to_string());
                    silent = silent.or(Some(error));
                }
            }
        }
        if earliest.is_none() {
            return silent.map_or(Ok(None), Err);
        }
        for at in lacking {
            self.health.differs(at, LACKS_A_BATCH);
        }
        Ok(earliest)
    }

    async fn anchored_at_by_most(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
    ) -> Result<Option<UnixSeconds>, ChainError> {
        // The block first: what it has is in the answer too.
        let asked = self.health.all(&self.endpoints, |chain| {
            Box::pin(async move {
                let tip = chain.tip().await?;
                Ok((chain.anchored_at(registry, anchorer, root).await?, tip))
            })
        });
        let (mut said, mut silent) = (Vec::new(), None);
        for (at, answer) in asked.await {
            match answer {
                Ok((time, tip)) => said.push((at, time, tip)),
                Err(error) => silent = silent.or(Some(error)),
            }
        }
        if said.is_empty() {
            return Err(silent.unwrap_or_else(no_endpoint));
        }
        let Some(earliest) = said.iter().filter_map(|(_, time, _)| *time).min() else {
            return Ok(None);
        };
        let (mut having, mut lacking) = (0, 0);
        for (at, time, tip) in said {
            if time.is_some() {
                having += 1;
            } else if earliest <= tip.time {
                // Which of both lies nobody can say here, and so neither rests.
                tracing::warn!(endpoint = at + 1, why = LACKS_A_BATCH, "endpoints differ");
                lacking += 1;
            }
        }
        Ok((having > lacking).then_some(earliest))
    }

    async fn anchored_roots(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        from: BlockNumber,
    ) -> Result<Option<BTreeSet<Root>>, ChainError> {
        let asked = self.endpoints.iter();
        let asked = asked.map(|chain| chain.anchored_roots(registry, anchorer, from));
        let mut roots = BTreeSet::new();
        for (at, answer) in join_all(asked).await.into_iter().enumerate() {
            match answer {
                Ok(Some(some)) => roots.extend(some),
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.health.falls_silent(at, &error.to_string());
                    return Err(error);
                }
            }
        }
        Ok(Some(roots))
    }

    async fn facts(
        &self,
        registry: ContractAddress,
        anchorer: Anchorer,
        root: Root,
        handle: Handle,
    ) -> Result<Facts, ChainError> {
        self.first(|chain| chain.facts(registry, anchorer, root, handle))
            .await
    }

    async fn opening_of(
        &self,
        registry: ContractAddress,
        handle: Handle,
    ) -> Result<Option<Opened>, ChainError> {
        let (mut has_answered, mut failed) = (false, None);
        for at in self.health.order() {
            match self.endpoints[at].opening_of(registry, handle).await {
                Ok(Some(opened)) => return Ok(Some(opened)),
                Ok(None) => has_answered = true,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match has_answered {
            true => Ok(None),
            false => Err(failed.unwrap_or_else(no_endpoint)),
        }
    }

    async fn revoked_at(
        &self,
        registry: ContractAddress,
        handles: &[Handle],
    ) -> Result<Times, ChainError> {
        let said = self.ask_two(registry, handles).await?;
        let any = |at: usize| of_handle(&said, at).flatten().min();
        let times = (0..handles.len()).map(any).collect();
        Ok((times, Self::common_block(&said)?))
    }

    async fn revoked_at_by_all(
        &self,
        registry: ContractAddress,
        handles: &[Handle],
    ) -> Result<Times, ChainError> {
        let said = self.ask_two(registry, handles).await?;
        // None, if one of them has none.
        let all = |at: usize| -> Option<UnixSeconds> {
            let times: Option<Vec<UnixSeconds>> = of_handle(&said, at).collect();
            times?.into_iter().max()
        };
        let times = (0..handles.len()).map(all).collect();
        Ok((times, Self::common_block(&said)?))
    }

    async fn ticket_times(
        &self,
        registry: ContractAddress,
        pool_contract: ContractAddress,
        pool: PoolId,
        handle: Handle,
    ) -> Result<(TicketTimes, BlockAt), ChainError> {
        self.first(|chain| chain.ticket_times(registry, pool_contract, pool, handle))
            .await
    }

    async fn refuses_claim(
        &self,
        contract: ContractAddress,
        claim: &Claim,
    ) -> Result<Option<RevertReason>, ChainError> {
        self.claim_refused_by_all(contract, claim).await
    }

    async fn ticket_times_by_all(
        &self,
        registry: ContractAddress,
        pool_contract: ContractAddress,
        pool: PoolId,
        handle: Handle,
    ) -> Result<(TicketTimes, BlockAt), ChainError> {
        self.ticket_times_of_two(registry, pool_contract, (pool, handle))
            .await
    }

    async fn status(&self, transaction: TransactionHash) -> Result<TransactionStatus, ChainError> {
        self.first(|chain| chain.status(transaction)).await
    }

    async fn fee_of(&self, transaction: TransactionHash) -> Result<Option<Fri>, ChainError> {
        self.fee_by_any(transaction).await
    }

    fn complaints(&self) -> Vec<String> {
        self.health.complaints()
    }

    fn are_well(&self) -> Vec<bool> {
        self.health.are_well()
    }
}
