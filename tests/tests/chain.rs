//! The registry on a real devnet, through the traits that the rest of the program uses.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use medsync::chain::{
    Account, AccountKey, AccountNonce, Call, Chain, ChainError, Class, Deployment, Facts,
    FeePolicy, Fri, Prepared, REVOCATIONS_MAX, RegistryRevert, RpcAccount, RpcChain, Sent,
    TransactionStatus, deploy,
};
use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ChainId, ContractAddress, UnixSeconds};
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::secrets::{ConsentSecrets, Counter, DeviceNumber, Handle, Seed};
use medsync_protocol::tree::Root;
use medsync_tests::devnet::{Blocks, Devnet, DevnetAccount};
use serde_json::json;

/// Later than any clock by which a test may run, so that blocks made at it are surely later ones.
const FAR_AHEAD_S: u64 = 1_000_000;

struct World {
    devnet: Devnet,
    chain: Arc<RpcChain>,
    registry: ContractAddress,
    _folder: tempfile::TempDir,
}

fn key(account: &DevnetAccount) -> AccountKey {
    AccountKey::parse(&account.private_key).expect("a key")
}

fn address(account: &DevnetAccount) -> ContractAddress {
    account.address.parse().expect("an address")
}

async fn deployed(devnet: &Devnet, account: usize) -> Deployment {
    let account = &devnet.accounts()[account];
    let built = Path::new(env!("MEDSYNC_ROOT")).join("target/contracts");
    let rpc = devnet.rpc().parse().expect("a URL");
    let deployment = deploy(&rpc, address(account), key(account), &built).await;
    deployment.unwrap_or_else(|error| panic!("{error}; scripts/build-contracts builds them"))
}

/// Closes blocks as long as something else takes.
async fn closing_blocks<T>(devnet: &Devnet, other: impl Future<Output = T>) -> T {
    const INTERVAL: Duration = Duration::from_millis(100);
    let mut other = std::pin::pin!(other);
    loop {
        devnet.close_block().expect("a block");
        if let Ok(done) = tokio::time::timeout(INTERVAL, &mut other).await {
            return done;
        }
    }
}

async fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let devnet = Devnet::start(folder.path()).expect("a devnet");
    let deployment = deployed(&devnet, 0).await;
    World::of(devnet, folder, &deployment)
}

impl World {
    fn of(devnet: Devnet, folder: tempfile::TempDir, deployment: &Deployment) -> Self {
        let rpc = devnet.rpc().parse().expect("a URL");
        let chain = RpcChain::new(&rpc, deployment.chain_id).expect("an endpoint");
        Self {
            devnet,
            chain: Arc::new(chain),
            registry: deployment.registry,
            _folder: folder,
        }
    }

    fn account(&self, number: usize) -> RpcAccount {
        let account = &self.devnet.accounts()[number];
        RpcAccount::new(Arc::clone(&self.chain), address(account), key(account))
    }

    fn anchorer(&self, number: usize) -> Anchorer {
        Anchorer::from_felt(self.account(number).address().felt())
    }

    fn anchor(&self, expected_head: AnchorHead, root: Root) -> Call {
        Call::Anchor {
            registry: self.registry,
            expected_head,
            root,
            leaf_count: LeafCount(16),
        }
    }

    fn revoke(&self, secrets: &[ConsentSecrets]) -> Call {
        let openings = secrets.iter();
        let openings = openings.map(|one| (one.secret.clone(), one.claim_key.public_key()));
        Call::Revoke {
            registry: self.registry,
            openings: openings.collect(),
        }
    }

    async fn send(&self, account: &RpcAccount, call: &Call) -> Prepared {
        let nonce = account.nonce().await.expect("a nonce");
        let prepared = account.prepare(call, nonce).await.expect("a transaction");
        assert_eq!(account.send(&prepared).await.expect("sent"), Sent::Accepted);
        prepared
    }

    async fn accepted_at(&self, transaction: TransactionHash) -> UnixSeconds {
        let fee = self.chain.fee_of(transaction).await.expect("asked");
        assert!(
            fee.is_some_and(|fee| fee.0 > 0),
            "whatever landed was paid for"
        );
        match self.chain.status(transaction).await.expect("a status") {
            TransactionStatus::Accepted { block } => block.time,
            other => panic!("{other:?}"),
        }
    }

    async fn facts(&self, root: Root, handle: Handle) -> Facts {
        let facts = self
            .chain
            .facts(self.registry, self.anchorer(1), root, handle);
        facts.await.expect("facts")
    }

    /// Connections to a devnet that was killed fail once, with an error that says to try again.
    async fn wait_for_answer(&self) {
        const TRIES: usize = 20;
        for _ in 0..TRIES {
            match self.chain.tip().await {
                Ok(_) => return,
                Err(error) => assert!(error.is_retry(), "{error:?}"),
            }
        }
        panic!("devnet is up and gives no answer");
    }

    async fn head(&self) -> AnchorHead {
        let head = self.chain.head_of(self.registry, self.anchorer(1)).await;
        head.expect("a head")
    }
}

fn root(number: u64) -> Root {
    Root::from_felt(Felt::from(number))
}

fn secrets(number: u64) -> ConsentSecrets {
    let seed = Seed::from_bytes(&[5; 32]).expect("a felt");
    ConsentSecrets::derive(&seed, DeviceNumber(0), Counter(number))
}

#[tokio::test]
async fn a_second_deployment_finds_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let devnet = Devnet::start(folder.path()).expect("a devnet");
    let first = deployed(&devnet, 0).await;
    assert!(first.is_new);
    // Another deployer finds the same contract: nothing of it depends on who came first.
    let second = deployed(&devnet, 1).await;
    assert!(!second.is_new);
    assert_eq!(
        (second.registry, second.class_hash),
        (first.registry, first.class_hash)
    );
    let chain = RpcChain::new(&devnet.rpc().parse().expect("a URL"), first.chain_id);
    let class = chain
        .expect("an endpoint")
        .class_hash_at(first.registry)
        .await;
    assert_eq!(class.expect("an answer"), Some(first.class_hash));
    let file = folder.path().join("deployment.json");
    let json = serde_json::to_vec(&second).expect("JSON");
    std::fs::write(&file, json).expect("written");
    assert_eq!(Deployment::read(&file).expect("a deployment"), second);
}

#[tokio::test]
async fn a_deployment_that_was_cut_short_is_taken_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let devnet = Devnet::start(folder.path()).expect("a devnet");
    let first = deployed(&devnet, 0).await;
    // The class is declared and the contract is gone; then both are gone.
    for back in [0, 1] {
        devnet
            .abort_blocks(first.block.number.0 - back)
            .expect("aborted");
        let again = deployed(&devnet, 0).await;
        assert!(again.is_new);
        assert_eq!(
            (again.registry, again.block.number),
            (first.registry, first.block.number)
        );
    }

    let folder = tempfile::tempdir().expect("a folder");
    let devnet = Devnet::start_making(Blocks::OnDemand, folder.path()).expect("a devnet");
    // This one ends while its declaration is in no block, and another takes its place.
    let nonce =
        json!({"block_id": "pre_confirmed", "contract_address": devnet.accounts()[0].address});
    let sent = async {
        while devnet.ask("starknet_getNonce", &nonce).expect("a nonce") == "0x0" {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = deployed(&devnet, 0) => panic!("there is no block yet"),
        () = sent => {}
    }
    let again = closing_blocks(&devnet, deployed(&devnet, 0)).await;
    assert!(again.is_new);
    assert_eq!(again.registry, first.registry);
}

#[tokio::test]
async fn what_is_in_no_block_has_not_happened() {
    let folder = tempfile::tempdir().expect("a folder");
    let devnet = Devnet::start_making(Blocks::OnDemand, folder.path()).expect("a devnet");
    let deployment = closing_blocks(&devnet, deployed(&devnet, 0)).await;
    let world = World::of(devnet, folder, &deployment);
    let call = world.anchor(AnchorHead::START, root(61));
    let sent = world.send(&world.account(1), &call).await;
    let status = world.chain.status(sent.hash).await.expect("a status");
    assert_eq!(status, TransactionStatus::Received);
    assert_eq!(world.head().await, AnchorHead::START);
    assert_eq!(
        world.account(1).send(&sent).await.expect("there"),
        Sent::AlreadyThere
    );
    let nonce = world.account(1).nonce().await.expect("a nonce");
    assert_eq!(nonce, AccountNonce(1), "what is pre-confirmed counts");
    world.devnet.close_block().expect("a block");
    world.accepted_at(sent.hash).await;
    assert_eq!(
        world.head().await,
        AnchorHead::START.next(root(61), LeafCount(16))
    );
}

/// The time that the contract noted is that of its block. Devnet runs a transaction before it
/// closes the block, and reads its clock anew for the header.
fn assert_is_time_of(noted: Option<UnixSeconds>, header: UnixSeconds) {
    let noted = noted.expect("the contract noted a time");
    assert!(
        noted != UnixSeconds(0) && noted <= header,
        "noted {noted}, header {header}"
    );
}

#[tokio::test]
async fn an_anchor_that_is_sent_twice_lands_once() {
    let world = world().await;
    let hospital = world.account(1);
    assert_eq!(world.head().await, AnchorHead::START);
    let nonce = hospital.nonce().await.expect("a nonce");
    assert_eq!(nonce, AccountNonce(0));
    let call = world.anchor(AnchorHead::START, root(11));
    let prepared = hospital.prepare(&call, nonce).await.expect("a transaction");
    let status = world.chain.status(prepared.hash).await.expect("a status");
    assert_eq!(status, TransactionStatus::Unknown);

    // What survives a crash is the text.
    let kept = Prepared::from_intent(&prepared.to_intent()).expect("an intent");
    assert_eq!(hospital.send(&kept).await.expect("sent"), Sent::Accepted);
    assert_eq!(
        hospital.send(&kept).await.expect("there"),
        Sent::AlreadyThere
    );
    let time = world.accepted_at(kept.hash).await;
    assert_eq!(
        world.head().await,
        AnchorHead::START.next(root(11), LeafCount(16))
    );
    let anchored = world
        .chain
        .anchored_at(world.registry, world.anchorer(1), root(11))
        .await;
    assert_is_time_of(anchored.expect("an answer"), time);
    assert_eq!(hospital.nonce().await.expect("a nonce"), nonce.next());

    let other = hospital
        .prepare(&world.anchor(world.head().await, root(12)), nonce.next())
        .await;
    let other = other.expect("a transaction");
    let late = Prepared {
        nonce,
        payload: other
            .payload
            .replace("\"nonce\":\"0x1\"", "\"nonce\":\"0x0\""),
        ..other
    };
    let error = hospital
        .send(&late)
        .await
        .expect_err("the nonce was used by the first");
    assert!(matches!(error, ChainError::NonceTaken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stale_head_reverts_by_name() {
    let world = world().await;
    let hospital = world.account(1);
    let nonce = hospital.nonce().await.expect("a nonce");
    // Two transactions of one account on one head, the second with the later nonce: a block
    // between them comes and goes again.
    let block = world.chain.tip().await.expect("a block").number;
    world.send(&hospital, &world.revoke(&[secrets(0)])).await;
    let call = world.anchor(AnchorHead::START, root(22));
    let second = hospital
        .prepare(&call, nonce.next())
        .await
        .expect("a transaction");
    world.devnet.abort_blocks(block.0 + 1).expect("aborted");
    let call = world.anchor(AnchorHead::START, root(21));
    let first = hospital.prepare(&call, nonce).await.expect("a transaction");
    let error = hospital
        .send(&second)
        .await
        .expect_err("the first is not there yet");
    assert!(matches!(error, ChainError::NonceAhead { .. }), "{error:?}");
    hospital.send(&first).await.expect("sent");
    hospital.send(&second).await.expect("sent");
    match world.chain.status(second.hash).await.expect("a status") {
        TransactionStatus::Reverted { reason, .. } => {
            assert_eq!(
                reason.registry(),
                Some(RegistryRevert::HeadMismatch),
                "{reason:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        world.head().await,
        AnchorHead::START.next(root(21), LeafCount(16))
    );
    assert_eq!(
        hospital.send(&second).await.expect("there"),
        Sent::AlreadyThere
    );
    // From now on, the estimate already says so.
    let nonce = hospital.nonce().await.expect("a nonce");
    let stale = hospital
        .prepare(&world.anchor(AnchorHead::START, root(22)), nonce)
        .await;
    let again = hospital
        .prepare(&world.anchor(world.head().await, root(21)), nonce)
        .await;
    for (answer, name) in [
        (stale, RegistryRevert::HeadMismatch),
        (again, RegistryRevert::RootAlreadyAnchored),
    ] {
        match answer.expect_err("it would revert") {
            ChainError::WouldRevert(reason) => assert_eq!(reason.registry(), Some(name)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_first_revocation_counts() {
    let world = world().await;
    let (patient, stranger) = (world.account(2), world.account(3));
    let both = [secrets(0), secrets(1)];
    let handles = [both[0].handle(), both[1].handle(), secrets(2).handle()];
    let first = world.send(&patient, &world.revoke(&both[..1])).await;
    let first = world.accepted_at(first.hash).await;
    let (before, _) = world
        .chain
        .revoked_at(world.registry, &handles)
        .await
        .expect("times");
    world
        .devnet
        .close_block_at(first.0 + FAR_AHEAD_S)
        .expect("a block");
    // Anyone may relay, together with one that is revoked already.
    let second = world.send(&stranger, &world.revoke(&both)).await;
    let second = world.accepted_at(second.hash).await;
    assert!(second > first);
    // Whoever sent them: what opened them can be read.
    for secrets in &both {
        let opened = world.chain.opening_of(world.registry, secrets.handle());
        let opened = opened.await.expect("read").expect("it is open");
        let own = (secrets.secret.clone(), secrets.claim_key.public_key());
        assert!(opened == own);
    }
    let shut = world.chain.opening_of(world.registry, secrets(7).handle());
    assert!(shut.await.expect("read").is_none());
    let times = world.chain.revoked_at(world.registry, &handles).await;
    let (times, block) = times.expect("times");
    assert!(before[0].is_some_and(|time| time <= first));
    assert_eq!(before[1..], [None, None]);
    assert_eq!(times[0], before[0], "the first time is never overwritten");
    assert!(times[1].is_some_and(|time| time > first && time <= second));
    assert_eq!(times[2], None);
    assert_eq!(block.time, second);
}

#[tokio::test]
async fn as_many_revocations_as_may_be_fit_one_transaction() {
    let world = world().await;
    let all: Vec<_> = (0..REVOCATIONS_MAX as u64).map(secrets).collect();
    let sent = world.send(&world.account(2), &world.revoke(&all)).await;
    let time = world.accepted_at(sent.hash).await;
    let handles: Vec<_> = all.iter().map(ConsentSecrets::handle).collect();
    let times = world
        .chain
        .revoked_at(world.registry, &handles)
        .await
        .expect("times")
        .0;
    assert_eq!(times.len(), REVOCATIONS_MAX);
    for noted in &times {
        assert_is_time_of(*noted, time);
    }
}

#[tokio::test]
async fn facts_are_those_of_one_block() {
    let world = world().await;
    let secrets = secrets(0);
    let nothing = world.facts(root(31), secrets.handle()).await;
    assert_eq!(
        (nothing.chain.anchored_at, nothing.chain.revoked_at),
        (None, None)
    );
    let hospital = world.account(1);
    let anchor = world
        .send(&hospital, &world.anchor(AnchorHead::START, root(31)))
        .await;
    let anchored = world.accepted_at(anchor.hash).await;
    let before = world.facts(root(31), secrets.handle()).await;
    assert_is_time_of(before.chain.anchored_at, anchored);
    assert_eq!(before.chain.revoked_at, None);
    assert_eq!(before.chain.block_time, before.block.time);

    world
        .devnet
        .close_block_at(anchored.0 + FAR_AHEAD_S)
        .expect("a block");
    let revoke = world.revoke(std::slice::from_ref(&secrets));
    let revoke = world.send(&world.account(2), &revoke).await;
    let revoked = world.accepted_at(revoke.hash).await;
    let after = world.facts(root(31), secrets.handle()).await;
    assert_eq!(after.chain.anchored_at, before.chain.anchored_at);
    assert_is_time_of(after.chain.revoked_at, revoked);
    assert_eq!(after.class_hash, before.class_hash);
    assert!(after.block.number > before.block.number);
    // The same root says nothing of another anchorer.
    let chain = &world.chain;
    let other = chain
        .facts(
            world.registry,
            world.anchorer(4),
            root(31),
            secrets.handle(),
        )
        .await;
    assert_eq!(other.expect("facts").chain.anchored_at, None);
}

#[tokio::test]
async fn what_is_not_there_is_said_clearly() {
    let world = world().await;
    let unknown = TransactionHash::from_felt(Felt::from(7));
    let status = world.chain.status(unknown).await.expect("a status");
    assert_eq!(status, TransactionStatus::Unknown);
    let nowhere = ContractAddress::from_felt(Felt::from(0x1234));
    assert_eq!(
        world.chain.class_hash_at(nowhere).await.expect("an answer"),
        None
    );
    let error = world
        .chain
        .head_of(nowhere, world.anchorer(1))
        .await
        .expect_err("nothing");
    assert!(matches!(error, ChainError::NoContract(_)), "{error:?}");
    let account = world.account(1).address();
    let error = world
        .chain
        .head_of(account, world.anchorer(1))
        .await
        .expect_err("an account");
    assert!(matches!(error, ChainError::OtherContract(..)), "{error:?}");

    let strange = RpcAccount::new(Arc::clone(&world.chain), nowhere, key_of_nobody());
    let error = strange.nonce().await.expect_err("no account");
    assert!(matches!(error, ChainError::NoAccount(_)), "{error:?}");
    let thief = RpcAccount::new(Arc::clone(&world.chain), account, key_of_nobody());
    let call = world.anchor(AnchorHead::START, root(41));
    let error = thief
        .prepare(&call, AccountNonce(0))
        .await
        .expect_err("not its key");
    assert!(
        matches!(error, ChainError::AccountRefuses { .. }),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Fatal);

    let poor = world.account(1).with_fees(FeePolicy {
        margin_percent: 0,
        cap: Fri(1),
    });
    let error = poor
        .prepare(&call, AccountNonce(0))
        .await
        .expect_err("too dear");
    assert!(matches!(error, ChainError::FeeAboveCap { .. }), "{error:?}");
    let rpc = world.devnet.rpc().parse().expect("a URL");
    let mainnet = ChainId::named("SN_MAIN").expect("a short string");
    let other = RpcChain::new(&rpc, mainnet).expect("an endpoint");
    let error = other.tip().await.expect_err("another chain");
    assert!(matches!(error, ChainError::OtherChain { .. }), "{error:?}");
}

fn key_of_nobody() -> AccountKey {
    AccountKey::parse("0x1234567").expect("a key")
}

#[tokio::test]
async fn a_killed_devnet_comes_back_with_its_chain() {
    let mut world = world().await;
    let secrets = secrets(0);
    let anchor = world.anchor(AnchorHead::START, root(51));
    let anchor = world.send(&world.account(1), &anchor).await;
    let time = world.accepted_at(anchor.hash).await;
    world
        .devnet
        .close_block_at(time.0 + FAR_AHEAD_S)
        .expect("a block");
    let revoke = world.revoke(std::slice::from_ref(&secrets));
    world.send(&world.account(2), &revoke).await;
    let before = world.facts(root(51), secrets.handle()).await;
    for _ in 0..2 {
        world.devnet.kill_and_restart().expect("it comes back");
        world.wait_for_answer().await;
        let after = world.facts(root(51), secrets.handle()).await;
        assert_eq!(after, before);
    }
    let next = world.anchor(world.head().await, root(52));
    world.send(&world.account(1), &next).await;
}
