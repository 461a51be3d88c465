//! Several endpoints of one chain, of which some fail, lag or lie.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use medsync::chain::{
    Account, AccountNonce, Call, Chain, ChainError, Health, Prepared, Sent, SeveralAccounts,
    SeveralChains,
};
use medsync::pipeline::relay;
use medsync::pipeline::watch::watch_round;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ClassHash, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::BlockNumber;
use medsync_protocol::tree::Root;

use super::chain::{FakeAccount, FakeChain};
use super::circle::CONTEXT;
use super::claims::{address, claim_of, promised};
use super::faults::Faults;
use super::restored::found_but_evidence as found;
use super::stuck::STUCK_AFTER_S;
use super::{
    ROUNDS_MAX, SETTLED_S, World, anchorer, check, consent, fill, registry, round, run, world,
};

/// The world's own endpoint behind another one.
pub(super) fn behind(world: &World, first: &FakeChain) -> (SeveralChains, Arc<Health>) {
    let health = Health::of(2);
    let endpoints: Vec<Arc<dyn Chain>> =
        vec![Arc::new(first.clone()), Arc::new(world.chain.clone())];
    (SeveralChains::new(endpoints, Arc::clone(&health)), health)
}

#[tokio::test]
async fn an_endpoint_that_is_dead_is_passed_over_by_reads_and_writes() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    let dead = world.chain.with_faults(Faults::dead());
    let (chain, health) = behind(&world, &dead);
    let account = |address: u64| -> Option<Arc<dyn Account>> {
        let address = ContractAddress::from_felt(Felt::from(address));
        let by = [&dead, &world.chain].map(|chain| {
            let chain = chain.clone();
            Arc::new(FakeAccount { chain, address }) as Arc<dyn Account>
        });
        Some(Arc::new(SeveralAccounts::new(
            by.into(),
            Arc::clone(&health),
        )))
    };
    world.pipeline.anchor_account = account(100);
    world.pipeline.revoke_account = account(200);
    world.pipeline.chain = Arc::new(chain);
    run(&mut world).await;
    check(&world, "the first endpoint is dead");
    let complaints = health.complaints();
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].starts_with("endpoint 1: "), "{complaints:?}");
}

/// An account by an endpoint that wants to harm.
struct Hostile {
    inner: FakeAccount,
    does: Harm,
}

#[derive(Clone, Copy)]
enum Harm {
    /// It takes transactions and passes none on.
    Forgets,
    /// It says that the account has nothing.
    Refuses,
    /// It says a nonce of a time to come, and takes what is sent under it.
    Misnumbers,
    /// It says the first nonce for ever, and takes what is sent under it.
    StandsStill,
}

#[async_trait]
impl Account for Hostile {
    fn address(&self) -> ContractAddress {
        self.inner.address()
    }

    async fn nonce(&self) -> Result<AccountNonce, ChainError> {
        let AccountNonce(nonce) = self.inner.nonce().await?;
        Ok(match self.does {
            Harm::Misnumbers => AccountNonce(nonce + 5),
            Harm::StandsStill => AccountNonce(0),
            _ => AccountNonce(nonce),
        })
    }

    async fn prepare(&self, call: &Call, nonce: AccountNonce) -> Result<Prepared, ChainError> {
        match self.does {
            Harm::Forgets | Harm::Misnumbers | Harm::StandsStill => {
                self.inner.prepare(call, nonce).await
            }
            Harm::Refuses => Err(ChainError::NoAccount(self.address())),
        }
    }

    async fn replace(&self, call: &Call, stuck: &Prepared) -> Result<Prepared, ChainError> {
        self.inner.replace(call, stuck).await
    }

    async fn send(&self, _: &Prepared) -> Result<Sent, ChainError> {
        match self.does {
            Harm::Forgets | Harm::Misnumbers | Harm::StandsStill => Ok(Sent::Accepted),
            Harm::Refuses => Err(ChainError::NoAccount(self.address())),
        }
    }
}

#[tokio::test]
async fn hostile_endpoint_forgets_or_refuses_transactions_and_they_land() {
    for does in [Harm::Forgets, Harm::Refuses, Harm::Misnumbers] {
        let mut world = world(Vec::new()).await;
        fill(&world.circle);
        let account = |address: u64| -> Option<Arc<dyn Account>> {
            let address = ContractAddress::from_felt(Felt::from(address));
            let chain = world.chain.clone();
            let [inner, honest] = [(); 2].map(|()| FakeAccount {
                chain: chain.clone(),
                address,
            });
            let by: Vec<Arc<dyn Account>> =
                vec![Arc::new(Hostile { inner, does }), Arc::new(honest)];
            Some(Arc::new(SeveralAccounts::new(by, Health::of(2))))
        };
        world.pipeline.anchor_account = account(100);
        world.pipeline.revoke_account = account(200);
        run_patiently(&world).await;
        check(&world, "the first endpoint is hostile");
    }
}

/// It takes and passes on nothing itself; the other endpoint does.
#[tokio::test]
async fn hostile_endpoint_says_that_all_is_in_a_block_of_a_time_to_come_and_it_is_anchored() {
    let mut world = world(Vec::new()).await;
    world.pipeline.clock_behind_s_max = 2;
    fill(&world.circle);
    let lying = world.chain.fork();
    lying.claim_that_all_is_in_a_block_to_come();
    let (chain, _) = behind(&world, &lying);
    world.pipeline.chain = Arc::new(chain);
    world.chain.get_stuck();
    for _ in 0..4 {
        round(&world).await;
    }
    world.clock.advance(STUCK_AFTER_S);
    world.chain.go_on(true);
    run_patiently(&world).await;
    check(&world, "the first endpoint lives in the future");
}

/// Each transaction may have to be replaced once.
async fn run_patiently(world: &World) {
    for _ in 0..5 {
        for _ in 0..ROUNDS_MAX {
            if round(world).await {
                return;
            }
        }
    }
    let store = &world.pipeline.store;
    let counts = store.anchoring_counts().await.expect("the store");
    let open = store.open_batches().await.expect("the store");
    panic!("the pipeline did not come to rest: {counts:?}, {open:?}");
}

/// A transaction that is stuck is replaced under its own nonce, whatever the other says.
#[tokio::test]
async fn hostile_endpoint_stands_still_and_what_is_stuck_is_replaced() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    run(&mut world).await;
    world.circle.add_consent(consent(3).0);
    let address = ContractAddress::from_felt(Felt::from(100));
    let [inner, honest] = [(); 2].map(|()| FakeAccount {
        chain: world.chain.clone(),
        address,
    });
    let does = Harm::StandsStill;
    let by: Vec<Arc<dyn Account>> = vec![Arc::new(honest), Arc::new(Hostile { inner, does })];
    world.pipeline.anchor_account = Some(Arc::new(SeveralAccounts::new(by, Health::of(2))));
    world.chain.get_stuck();
    for _ in 0..4 {
        round(&world).await;
    }
    assert_eq!(world.chain.pool(), 1);
    for _ in 0..2 {
        world.clock.advance(STUCK_AFTER_S);
        for _ in 0..4 {
            round(&world).await;
        }
    }
    assert_eq!(
        world.chain.pool(),
        2,
        "the account's own nonce had its turn"
    );
    world.chain.go_on(false);
    run_patiently(&world).await;
    assert_eq!(world.chain.anchored().len(), 3);
}

#[tokio::test]
async fn an_endpoint_without_the_contract_is_passed_over_after_a_start() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    let empty = world.chain.fork();
    empty.lack_the_contract();
    let (chain, health) = behind(&world, &empty);
    world.pipeline.chain = Arc::new(chain);
    world
        .pipeline
        .check_chain()
        .await
        .expect("the other has it");
    assert!(health.complaints()[0].starts_with("endpoint 1: "));
    run(&mut world).await;
    check(&world, "the first endpoint lacks the contract");
    let alone = SeveralChains::new(vec![Arc::new(empty)], Health::of(1));
    let registry = registry();
    let lacks = alone.check(
        registry.chain_id,
        registry.registry,
        ClassHash::from_felt(Felt::ONE),
    );
    assert!(matches!(lacks.await, Err(ChainError::NoContract(_))));
}

#[tokio::test]
async fn hostile_endpoint_hides_a_revocation_and_is_put_to_rest() {
    let world = world(Vec::new()).await;
    let lying = world.chain.fork();
    let handle = consent(1).1.secrets.handle();
    let at = UnixSeconds(1_000);
    world.chain.revoke_past_everybody(handle, at);
    let (chain, health) = behind(&world, &lying);
    let (times, _) = chain
        .revoked_at(registry().registry, &[handle])
        .await
        .expect("asked");
    assert_eq!(times, [Some(at)]);
    assert!(health.complaints()[0].contains("lacks a revocation"));
    // The order of both does not matter.
    let endpoints: Vec<Arc<dyn Chain>> = vec![Arc::new(world.chain.clone()), Arc::new(lying)];
    let health = Health::of(2);
    let chain = SeveralChains::new(endpoints, Arc::clone(&health));
    let (times, _) = chain
        .revoked_at(registry().registry, &[handle])
        .await
        .expect("asked");
    assert_eq!(times, [Some(at)]);
    assert!(health.complaints()[0].starts_with("endpoint 2: "));
}

#[tokio::test]
async fn an_endpoint_that_is_behind_is_put_to_rest_and_a_little_is_none() {
    let world = world(Vec::new()).await;
    let old = world.chain.fork();
    for (blocks, rests) in [(100, false), (100, true)] {
        world.chain.grow(blocks);
        let (chain, health) = behind(&world, &old);
        let asked = chain.revoked_at(registry().registry, &[]).await;
        let (_, block) = asked.expect("asked");
        let newest = world.chain.time();
        assert_eq!(health.complaints().len(), usize::from(rests));
        assert_eq!(block.time, if rests { newest } else { old.time() });
    }
}

/// Whoever says that the others are behind is not believed alone for it.
#[tokio::test]
async fn hostile_endpoint_puts_another_to_rest_and_hides_nothing() {
    let world = world(Vec::new()).await;
    let (lying, handle) = (world.chain.fork(), consent(1).1.secrets.handle());
    let at = UnixSeconds(1_000);
    world.chain.revoke_past_everybody(handle, at);
    lying.grow(1_000);
    let (chain, health) = behind(&world, &lying);
    let registry = registry().registry;
    for _ in 0..3 {
        let (times, _) = chain.revoked_at(registry, &[handle]).await.expect("asked");
        assert_eq!(times, [Some(at)]);
        assert!(!health.complaints().is_empty());
        // For a revocation to have landed each has to say so.
        let (times, _) = chain
            .revoked_at_by_all(registry, &[handle])
            .await
            .expect("asked");
        assert_eq!(times, [None]);
    }
}

#[tokio::test]
async fn hostile_endpoint_says_that_a_revocation_landed_and_it_goes_out_all_the_same() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    let (lying, handle) = (world.chain.fork(), consent(0).1.secrets.handle());
    lying.revoke_past_everybody(handle, UnixSeconds(1_000));
    let (chain, _) = behind(&world, &lying);
    world.pipeline.chain = Arc::new(chain);
    for _ in 0..4 {
        round(&world).await;
    }
    assert!(world.chain.revoked().contains(&handle));
    // And then it is not waited for for ever.
    lying.forget_revocation(handle);
    world.clock.advance(SETTLED_S);
    let mut waits = true;
    for _ in 0..4 {
        waits = relay::relay_round(&world.pipeline).await.expect("asked");
    }
    assert!(!waits);
}

/// Neither that it is paid nor that no pool takes it is believed of one alone.
#[tokio::test]
async fn hostile_endpoint_keeps_no_claim_from_being_paid() {
    let (mut world, signed) = promised(&[]).await;
    let claim = claim_of(&world.circle.tickets()[0], &signed, address(1));
    let lying = world.chain.fork();
    lying.claim(claim.pool, claim.handle());
    lying.refuse_all_claims();
    let (chain, _) = behind(&world, &lying);
    world.pipeline.chain = Arc::new(chain);
    let now = world.pipeline.clock.now();
    let kept = world.pipeline.store.keep_claim(CONTEXT, &claim, now);
    kept.await.expect("kept");
    for _ in 0..4 {
        round(&world).await;
    }
    let paid = [(claim.pool, claim.handle(), claim.pay_to)];
    assert_eq!(world.chain.claimed(), paid);
}

#[tokio::test]
async fn hostile_endpoint_lives_in_the_future_and_calls_no_clock_wrong() {
    let mut world = world(Vec::new()).await;
    let lying = world.chain.fork();
    lying.grow(1 << 20);
    let right = world.chain.time();
    let (chain, _) = behind(&world, &lying);
    assert!(chain.tip().await.expect("a tip").time > right);
    assert_eq!(chain.tip_by_all().await.expect("a tip").time, right);
    world.clock.advance(right.0);
    world.pipeline.chain = Arc::new(chain);
    watch_round(&world.pipeline).await.expect("asked");
    assert_eq!(world.pipeline.clock_behind_s.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn without_an_endpoint_that_is_said() {
    let nobody = SeveralChains::new(Vec::new(), Health::of(0));
    let why = nobody.tip().await.expect_err("no endpoint");
    assert!(why.to_string().contains("no endpoint"));
    let nothing = nobody.revoked_at(registry().registry, &[]).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn hostile_endpoint_says_that_batches_are_on_chain_and_they_are_sent_all_the_same() {
    for since in [1, 1 << 40] {
        let mut world = world(Vec::new()).await;
        world.pipeline.clock_behind_s_max = 2;
        for number in 0..2 {
            world.circle.add_consent(consent(number).0);
        }
        let lying = world.chain.fork();
        lying.claim_every_batch(UnixSeconds(since));
        let (chain, _) = behind(&world, &lying);
        world.pipeline.chain = Arc::new(chain);
        world.chain.grow(1);
        run(&mut world).await;
        assert_eq!(world.chain.anchored().len(), 1, "since {since}");
        world.pipeline.chain = Arc::new(world.chain.clone());
        assert_eq!(found(&world.pipeline).await, [], "since {since}");
    }
}

/// What the contract refuses, because it has it, is there by whoever says so.
#[tokio::test]
async fn hostile_endpoint_lacks_every_batch_and_they_count_as_anchored() {
    let mut world = world(Vec::new()).await;
    for number in 0..2 {
        world.circle.add_consent(consent(number).0);
    }
    let lacking = world.chain.fork();
    lacking.grow(1 << 20);
    let endpoints: Vec<Arc<dyn Chain>> = vec![Arc::new(world.chain.clone()), Arc::new(lacking)];
    world.pipeline.chain = Arc::new(SeveralChains::new(endpoints, Health::of(2)));
    for _ in 0..40 {
        // What fails is done again.
        let _ = round(&world).await;
    }
    let open = world
        .pipeline
        .store
        .open_batches()
        .await
        .expect("the store");
    assert!(open.is_empty(), "{open:?}");
    assert_eq!(world.chain.anchored().len(), 1);
    world.pipeline.chain = Arc::new(world.chain.clone());
    assert_eq!(found(&world.pipeline).await, []);
}

#[tokio::test]
async fn of_endpoints_that_differ_about_a_batch_each_answer_is_what_follows_from_it() {
    let mut world = world(Vec::new()).await;
    fill(&world.circle);
    let (lacking, dead) = (world.chain.fork(), world.chain.with_faults(Faults::dead()));
    run(&mut world).await;
    let root = world.chain.anchored()[0];
    let (registry, own) = (registry().registry, anchorer());
    for (other, by_all) in [(&lacking, false), (&dead, true)] {
        let (chain, _) = behind(&world, other);
        let any = chain.anchored_at_by_any(registry, own, root).await;
        assert!(any.expect("one has it").is_some());
        // One that is not so far yet lacks nothing.
        let all = chain.anchored_at_by_most(registry, own, root).await;
        assert!(all.expect("an answer").is_some());
        lacking.grow(world.chain.time().0);
        let all = chain.anchored_at_by_most(registry, own, root).await;
        assert_eq!(all.expect("an answer").is_some(), by_all);
        // Where one does not answer it is nowhere by nobody's word, and not all are known.
        let nowhere = chain.anchored_at_by_any(registry, own, Root::from_felt(Felt::ONE));
        assert_eq!(nowhere.await.is_err(), by_all);
        let roots = chain.anchored_roots(registry, own, BlockNumber(0)).await;
        let roots = roots.ok().flatten().map(|roots| roots.contains(&root));
        assert_eq!(roots, (!by_all).then_some(true));
    }
}
