//! `medsync rewards` as a person runs it, again after it was killed or an answer was lost, and with
//! files from anybody.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use medsync::chain::{Account, Call, PoolCall};
use medsync_protocol::claim::{Claim, SignedClaim};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ContractAddress;
use medsync_tests::devnet::Blocks;
use medsync_tests::endpoint::{Endpoint, Fault};
use medsync_tests::hand::{Hand, TokenDouble};
use medsync_tests::medsync::{Answer, Running, medsync};
use serde_json::{Value, json};

use super::world::{
    Anchored, CLAIMS, CUSTODIAN, DAY_S, FUNDER, PRICE, RELAYER, REWARD, STRANGER, World, fresh,
    strk,
};

/// How long something may take to be under way.
const PATIENCE: Duration = Duration::from_secs(120);

fn rewards(what: &str, options: &[String], payer: &[String]) -> Answer {
    medsync(&arguments(what, options, payer)).expect("it runs")
}

fn arguments(what: &str, options: &[String], payer: &[String]) -> Vec<String> {
    let mut arguments = vec!["rewards".to_owned(), what.to_owned()];
    arguments.extend_from_slice(options);
    arguments.extend_from_slice(payer);
    arguments
}

fn lines(answer: &Answer) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).expect("JSON");
    answer.out.lines().map(read).collect()
}

impl World {
    /// The options that open the funder's first pool, of one custodian's claims.
    async fn opening(&self) -> Vec<String> {
        let promise = self.promise(strk()).await;
        let quota = format!("{}={CLAIMS}", self.anchorer(CUSTODIAN));
        let options = [
            ("--nonce", "0x1".to_owned()),
            ("--token", strk().to_string()),
            ("--reward", promise.reward.to_string()),
            ("--custodian-share", promise.custodian_share.to_string()),
            ("--claim-end", promise.claim_end.to_string()),
            ("--refund-time", promise.refund_time.to_string()),
            ("--label", "study".to_owned()),
            ("--quota", quota),
        ];
        let options = options.into_iter();
        options
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }

    /// Writes the file by which a patient has a claim sent.
    fn claim_file(&self, name: &str, ticket: &Anchored, pay_to: ContractAddress) -> String {
        let claim = self.claim(ticket, pay_to);
        let signed = SignedClaim::new(self.chain.expected_chain(), self.pools, claim);
        let bytes = serde_json::to_vec(&signed).expect("JSON");
        self.write(name, &bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("written");
        path.display().to_string()
    }

    /// Waits until a transaction of an account is under way.
    async fn wait_until_sent(&self, number: usize) {
        let (account, until) = (self.account(number), Instant::now() + PATIENCE);
        while account.nonce().await.expect("a nonce")
            == account.settled_nonce().await.expect("a nonce")
        {
            assert!(Instant::now() < until, "nothing was sent");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Runs a command whose answer is lost, and says what it finds when it is run again.
fn run_again(endpoint: &Endpoint, what: &str, options: &[String], payer: &[String]) -> Value {
    endpoint.set(Some(Fault::LosesAnswers));
    let lost = rewards(what, options, payer);
    assert_ne!(lost.code, 0, "{lost:?}");
    endpoint.set(None);
    rewards(what, options, payer).json().expect("an answer")
}

#[tokio::test]
async fn a_lost_answer_opens_and_promises_nothing_twice() {
    let world = World::start().await;
    let endpoint = Endpoint::before(&world.devnet).expect("a port");
    let payer = world.payer(FUNDER, endpoint.rpc());
    let opening = world.opening().await;
    let again = run_again(&endpoint, "open", &opening, &payer);
    assert_eq!(again["state"], "was open");
    let pool = world.pool_id(world.pools, FUNDER, 1);
    let deposit = u128::from(CLAIMS) * PRICE;
    assert_eq!(world.state(pool).await.escrow, deposit);

    let quota = format!("{}={}", world.anchorer(CUSTODIAN), CLAIMS + 1);
    let more = [pool.to_string(), "--quota".into(), quota];
    let more = [&more[..], &["--deposit".into(), PRICE.to_string()]].concat();
    let again = run_again(&endpoint, "top-up", &more, &payer);
    assert_eq!(again["state"], "was promised");
    assert_eq!(world.used(pool).await[0].promised, CLAIMS + 1);
    assert_eq!(world.state(pool).await.escrow, deposit + PRICE);
}

/// Killed right after it sent: the next run finds that the account is busy, and the one after the
/// block finds it done.
#[tokio::test]
async fn a_top_up_that_was_killed_is_done_once() {
    let world = World::start_making(Blocks::OnDemand).await;
    let funder = world.account(FUNDER);
    let payer = world.payer(FUNDER, world.devnet.rpc());
    let opening = arguments("open", &world.opening().await, &payer);
    let open = Running::start(&opening).expect("it runs");
    world.wait_until_sent(FUNDER).await;
    world.devnet.close_block().expect("a block");
    let opened = open.end().expect("it ends");
    assert_eq!(opened.json().expect("opened")["state"], "opened");
    let pool = world.pool_id(world.pools, FUNDER, 1);

    let quota = format!("{}={}", world.anchorer(CUSTODIAN), CLAIMS + 1);
    let more = [pool.to_string(), "--quota".into(), quota];
    let more = [&more[..], &["--deposit".into(), PRICE.to_string()]].concat();
    let top_up = Running::start(&arguments("top-up", &more, &payer)).expect("it runs");
    world.wait_until_sent(FUNDER).await;
    drop(top_up);
    let again = rewards("top-up", &more, &payer);
    assert_ne!(again.code, 0, "{again:?}");
    assert!(
        again.err.contains("is under way; run this again"),
        "{again:?}"
    );
    world.devnet.close_block().expect("a block");
    let again = rewards("top-up", &more, &payer).json().expect("promised");
    assert_eq!(again["state"], "was promised");
    assert_eq!(world.used(pool).await[0].promised, CLAIMS + 1);
    let next = funder.nonce().await.expect("a nonce");
    assert_eq!(funder.settled_nonce().await.expect("a nonce"), next);
}

#[tokio::test]
async fn bad_claim_files_cost_the_others_nothing_and_each_is_told_why() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let (sound, revoked) = (world.ticket(pool, 1).await, world.ticket(pool, 2).await);
    let second = world.ticket(pool, 3).await;
    let revoke = Call::Revoke {
        registry: world.registry,
        openings: vec![(
            revoked.secrets.secret.clone(),
            revoked.secrets.claim_key.public_key(),
        )],
    };
    world.send(CUSTODIAN, &revoke).await.expect("revoked");
    let file = world.claim_file("sound.json", &sound, fresh(1));
    let own = std::fs::read_to_string(&file).expect("a file");
    let beyond = format!("{:#x}", Felt::MAX);
    let (here, there) = (fresh(1).to_string(), fresh(2).to_string());
    let pools = world.pools.to_string();
    // The signature is over the rest: this copy has it, and leads to no root.
    let salted = own.replace("\"salt\":\"0x1\"", "\"salt\":\"0x2\"");
    assert_ne!(salted, own);
    let files = vec![
        world.write("rubbish.json", b"{"),
        world.write("redirected.json", own.replace(&here, &there).as_bytes()),
        world.write("no address.json", own.replace(&here, &beyond).as_bytes()),
        world.write("elsewhere.json", own.replace(&pools, &there).as_bytes()),
        "nowhere.json".to_owned(),
        world.claim_file("revoked.json", &revoked, fresh(2)),
        world.write("salted.json", salted.as_bytes()),
        file.clone(),
        file.clone(),
        world.claim_file("other address.json", &sound, fresh(3)),
        world.claim_file("second.json", &second, fresh(4)),
    ];
    let mut command = arguments("claim", &files, &world.payer(RELAYER, world.devnet.rpc()));
    let answer = medsync(&command).expect("it runs");
    assert_ne!(answer.code, 0, "{answer:?}");
    assert!(answer.err.contains("8 of 11 files"), "{}", answer.err);
    let said = lines(&answer);
    let reasons = [
        "this is no signed claim",
        "not signed by its claim key",
        "an address on Starknet is below 2^251",
        "it is for 0x",
        "nowhere.json",
        "REVOKED",
        "UNKNOWN_ANCHOR",
        "a file before it spends the same ticket",
    ];
    assert_eq!(said.len(), reasons.len() + 2, "{said:#?}");
    for (line, reason) in said.iter().zip(reasons) {
        let refused = line["refused"].as_str().expect("a reason");
        assert!(refused.contains(reason), "{refused}");
    }
    for paid in &said[reasons.len()..] {
        assert!(paid["claimed_at"].is_u64(), "{paid}");
    }
    for (payee, accrued) in [(1, REWARD), (2, 0), (3, 0), (4, REWARD)] {
        assert_eq!(world.accrued(fresh(payee), strk()).await, accrued);
    }

    // Once more, from a folder whose names are no text: it is found to be done, nothing is sent.
    let odd = world.path("").join(OsStr::from_bytes(b"\xff.json"));
    std::fs::write(&odd, b"{").expect("written");
    let before = world.account(RELAYER).nonce().await.expect("a nonce");
    command.drain(2..2 + files.len());
    let mut command: Vec<_> = command.into_iter().map(OsString::from).collect();
    command.extend([odd.into_os_string(), file.into()]);
    let again = medsync(&command).expect("it runs");
    assert!(again.err.contains("1 of 2 files"), "{again:?}");
    let said = lines(&again);
    assert!(said[0]["refused"].is_string() && said[1]["claimed_at"].is_u64());
    let after = world.account(RELAYER).nonce().await.expect("a nonce");
    assert_eq!(before, after);
}

/// Junk costs whoever relays it no gas, however much of it there is.
#[tokio::test]
async fn hostile_claims_that_would_be_passed_over_are_not_sent() {
    let world = World::start().await;
    let pool = world.pool_id(world.pools, FUNDER, 404);
    let mut files = Vec::new();
    for number in 1..4 {
        let ticket = world.ticket(pool, number).await;
        files.push(world.claim_file(&format!("{number}.json"), &ticket, fresh(number)));
    }
    let before = world.account(RELAYER).nonce().await.expect("a nonce");
    let answer = rewards("claim", &files, &world.payer(RELAYER, world.devnet.rpc()));
    assert!(answer.err.contains("3 of 3 files"), "{answer:?}");
    let reasons = lines(&answer);
    let is_unknown = |line: &Value| line["refused"].to_string().contains("POOL_UNKNOWN");
    assert!(reasons.iter().all(is_unknown), "{reasons:?}");
    let after = world.account(RELAYER).nonce().await.expect("a nonce");
    assert_eq!(before, after);
}

/// A funder looks at what it opened, and ends what has nothing left to claim.
#[tokio::test]
async fn a_funder_lists_its_pools_and_closes_one() {
    let world = World::start().await;
    let payer = world.payer(FUNDER, world.devnet.rpc());
    let opened = rewards("open", &world.opening().await, &payer);
    let pool = opened.json().expect("opened")["pool"].clone();
    let pool = pool.as_str().expect("a pool").to_owned();
    let of = ["--funder".to_owned(), world.address(FUNDER).to_string()];
    let listed = lines(&rewards("list", &of, &payer[..4]));
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["pool"], &listed[0]["claims_left"]),
        (&json!(pool), &json!(CLAIMS))
    );
    let refused = rewards("close", std::slice::from_ref(&pool), &payer);
    assert!(refused.err.contains("CLAIMS_LEFT"), "{refused:?}");
    let id = world.pool_id(world.pools, FUNDER, 1);
    for number in 1..=CLAIMS {
        let ticket = world.ticket(id, number).await;
        let claim = PoolCall::Claim(Box::new(world.claim(&ticket, fresh(number))));
        world.pool(RELAYER, claim).await.expect("claimed");
    }
    for state in ["ended", "had ended"] {
        let closed = rewards("close", std::slice::from_ref(&pool), &payer);
        assert_eq!(closed.json().expect("closed")["state"], state);
    }
    // A pool in which nothing can be promised any more is not opened.
    let mut opening = world.opening().await;
    opening[1] = "0x2".into();
    let today = world.now().await / DAY_S * DAY_S;
    opening[9] = (today + DAY_S - 1).to_string();
    let refused = rewards("open", &opening, &payer);
    assert!(refused.err.contains("a later claim end"), "{refused:?}");
}

/// Anybody can make claims that are passed over; they fill nobody's history.
#[tokio::test]
async fn hostile_claims_that_are_passed_over_stand_apart() {
    let world = World::start().await;
    let pool = world.open(1, strk()).await.expect("opened");
    let sound = world.claim(&world.ticket(pool, 1).await, fresh(1));
    let redirected = Claim {
        pay_to: fresh(2),
        ..sound
    };
    let many = PoolCall::ClaimMany(vec![redirected; 8]);
    world.pool(RELAYER, many).await.expect("sent");
    let mut place = world.payer(RELAYER, world.devnet.rpc());
    place.truncate(4);
    let history = |of: &str| {
        let answer = rewards("history", &[of.into(), pool.to_string()], &place);
        assert_eq!(answer.code, 0, "{answer:?}");
        let names = lines(&answer).into_iter().map(|line| line["event"].clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(history("--pool"), ["opened", "promised", "promised"]);
    assert_eq!(history("--passed-over"), vec!["skipped"; 8]);
}

/// What only answers like a pool contract is none, and one that judges by another registry pays for
/// whatever that one says. A deployment file is believed about neither.
#[tokio::test]
async fn hostile_deployment_file_of_other_contracts_is_refused() {
    let world = World::start().await;
    let read = std::fs::read(world.path("deployment.json")).expect("a file");
    let deployed: Value = serde_json::from_slice(&read).expect("JSON");
    let hand = Hand::of(&world.devnet, STRANGER).await.expect("an account");
    let class = |name: &str| -> Felt {
        let class = deployed[name].as_str().expect("a class");
        Felt::from_hex(class).expect("a felt")
    };
    // A second registry of the right class, and a pool contract that judges by it.
    let (two, registry) = (Felt::TWO, class("class_hash"));
    let other_registry = hand.deploy(registry, two, &[]).await.expect("deployed");
    let judged = [other_registry.felt()];
    let other_pools = hand.deploy(class("reward_pool_class"), two, &judged).await;
    let other_pools = other_pools.expect("deployed");
    let pool = world.pool_id(world.pools, FUNDER, 1).to_string();
    let token = TokenDouble::declare(&hand).await.expect("declared");
    let double = TokenDouble::deploy(&hand, token, 1)
        .await
        .expect("deployed");
    let changes: [(&[(&str, String)], &str); 5] = [
        (
            &[("reward_pool", world.registry.to_string())],
            "is of class",
        ),
        (
            &[("reward_pool", fresh(1).to_string())],
            "there is no contract",
        ),
        (
            &[
                ("reward_pool", double.address.to_string()),
                ("reward_pool_class", format!("{token:#x}")),
            ],
            "is of class",
        ),
        (
            &[("reward_pool", other_pools.to_string())],
            "judges by registry",
        ),
        (
            &[
                ("registry", double.address.to_string()),
                ("class_hash", format!("{token:#x}")),
            ],
            "is of class",
        ),
    ];
    for (change, said) in changes {
        let mut other = deployed.clone();
        for (name, value) in change {
            other[*name] = json!(value);
        }
        let mut place = world.payer(FUNDER, world.devnet.rpc());
        place.truncate(4);
        place[3] = world.write("other.json", other.to_string().as_bytes());
        let answer = rewards("status", std::slice::from_ref(&pool), &place);
        assert_ne!(answer.code, 0, "{answer:?}");
        assert!(answer.err.contains(said), "{said}: {}", answer.err);
    }
}
