//! A devnet with both contracts, two custodians, two funders, a relayer and a stranger.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use medsync::chain::{
    Account, AccountKey, Call, Chain, ChainError, Deployment, PoolCall, PoolState, Promise, Quota,
    QuotaUse, RpcAccount, RpcChain, Totals, TransactionStatus, deploy,
};
use medsync_protocol::anchor::{AnchorHead, LeafCount};
use medsync_protocol::claim::Claim;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ContractAddress, Salt, Sha256Digest, UnixSeconds};
use medsync_protocol::receipt::TransactionHash;
use medsync_protocol::secrets::{ConsentSecrets, Counter, DeviceNumber, Seed};
use medsync_protocol::ticket::{PoolId, PoolNonce, Ticket};
use medsync_protocol::tree::{Leaf, Proof, Tree};
use medsync_tests::devnet::{Blocks, Devnet};
use serde_json::{Value, json};
use starknet::core::utils::get_selector_from_name;

/// Devnet's accounts by what they do here.
pub const DEPLOYER: usize = 0;
pub const CUSTODIAN: usize = 1;
pub const FUNDER: usize = 2;
pub const RELAYER: usize = 3;
pub const STRANGER: usize = 4;
pub const OTHER_CUSTODIAN: usize = 5;
pub const OTHER_FUNDER: usize = 6;

/// The token by which Starknet's fees are paid, on every chain.
const STRK: &str = "0x4718f5a0fc34cc1af16a1cdee98ffb20c31f5cd61d6ab07201858f4287c938d";
pub const DAY_S: u64 = 24 * 60 * 60;
pub const REWARD: u128 = 100;
pub const SHARE: u128 = 7;
/// What one claim takes.
pub const PRICE: u128 = REWARD + SHARE;
/// How many claims each custodian has in a pool.
pub const CLAIMS: u64 = 2;
/// The deployment file, as `medsync deploy` writes it.
const DEPLOYMENT: &str = "deployment.json";
/// The smallest batch that is ever sealed.
const LEAVES_MIN: usize = 16;

pub fn strk() -> ContractAddress {
    ContractAddress::from_felt(Felt::from_hex_unchecked(STRK))
}

/// An address at which nothing is yet.
pub fn fresh(number: u64) -> ContractAddress {
    ContractAddress::from_felt(Felt::from(0xf2e5_0000 + number))
}

pub fn secrets(number: u64) -> ConsentSecrets {
    let seed = Seed::from_bytes(&[5; 32]).expect("a felt");
    ConsentSecrets::derive(&seed, DeviceNumber(0), Counter(number))
}

pub struct World {
    pub devnet: Arc<Devnet>,
    pub chain: Arc<RpcChain>,
    pub registry: ContractAddress,
    pub pools: ContractAddress,
    /// Holds the deployment file.
    folder: Arc<tempfile::TempDir>,
}

/// A ticket whose place in an anchored batch is known, with what spends it.
pub struct Anchored {
    pub secrets: ConsentSecrets,
    pub ticket: Ticket,
    pub proof: Proof,
}

impl World {
    pub async fn start() -> Self {
        Self::start_making(Blocks::OnTransaction).await
    }

    /// On a devnet whose blocks close so; for the deployment they do.
    pub async fn start_making(blocks: Blocks) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let devnet = Devnet::start_making(blocks, folder.path()).expect("a devnet");
        let deployer = &devnet.accounts()[DEPLOYER];
        let built = Path::new(env!("MEDSYNC_ROOT")).join("target/contracts");
        let rpc = devnet.rpc().parse().expect("a URL");
        let address = deployer.address.parse().expect("an address");
        let key = AccountKey::parse(&deployer.private_key).expect("a key");
        let mut deployed = std::pin::pin!(deploy(&rpc, address, key, &built));
        let deployed = loop {
            if blocks == Blocks::OnDemand {
                devnet.close_block().expect("a block");
            }
            let wait = Duration::from_millis(200);
            if let Ok(deployed) = tokio::time::timeout(wait, &mut deployed).await {
                break deployed;
            }
        };
        let deployed = deployed.unwrap_or_else(|error| panic!("{error}; scripts/build-contracts"));
        let file = File::create(folder.path().join(DEPLOYMENT)).expect("a file");
        serde_json::to_writer(file, &deployed).expect("written");
        let Deployment {
            chain_id,
            registry,
            reward_pool,
            ..
        } = deployed;
        Self {
            chain: Arc::new(RpcChain::new(&rpc, chain_id).expect("an endpoint")),
            devnet: Arc::new(devnet),
            registry,
            pools: reward_pool,
            folder: Arc::new(folder),
        }
    }

    /// A file of this name, which ends with the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments of `medsync rewards` by which an account sends through an endpoint.
    pub fn payer(&self, number: usize, rpc: &str) -> Vec<String> {
        let account = &self.devnet.accounts()[number];
        let key = self.path(&format!("{number}.key"));
        medsync::files::write_whole(&key, account.private_key.as_bytes(), true).expect("written");
        let text = |path: PathBuf| path.display().to_string();
        let mut arguments = vec!["--rpc".into(), rpc.into()];
        arguments.extend(["--deployment".into(), text(self.path(DEPLOYMENT))]);
        arguments.extend(["--account".into(), account.address.clone()]);
        arguments.extend(["--key-file".into(), text(key)]);
        arguments
    }

    /// The same with another contract of pools.
    pub fn with_pools(&self, pools: ContractAddress) -> Self {
        Self {
            devnet: Arc::clone(&self.devnet),
            chain: Arc::clone(&self.chain),
            registry: self.registry,
            pools,
            folder: Arc::clone(&self.folder),
        }
    }

    pub fn account(&self, number: usize) -> RpcAccount {
        let account = &self.devnet.accounts()[number];
        let key = AccountKey::parse(&account.private_key).expect("a key");
        RpcAccount::new(Arc::clone(&self.chain), self.address(number), key)
    }

    pub fn address(&self, number: usize) -> ContractAddress {
        let account = &self.devnet.accounts()[number];
        account.address.parse().expect("an address")
    }

    pub fn anchorer(&self, number: usize) -> Anchorer {
        Anchorer::from_felt(self.address(number).felt())
    }

    pub async fn now(&self) -> u64 {
        self.chain.tip().await.expect("a block").time.0
    }

    /// Moves the chain's clock to a time.
    pub fn wait_until(&self, unix_seconds: u64) {
        self.devnet.close_block_at(unix_seconds).expect("a block");
    }

    /// Sends a call and answers its transaction, which took effect.
    pub async fn send(&self, by: usize, call: &Call) -> Result<TransactionHash, ChainError> {
        let account = self.account(by);
        let nonce = account.nonce().await?;
        let prepared = account.prepare(call, nonce).await?;
        account.send(&prepared).await?;
        match self.chain.status(prepared.hash).await? {
            TransactionStatus::Accepted { .. } => Ok(prepared.hash),
            TransactionStatus::Reverted { reason, .. } => Err(ChainError::WouldRevert(reason)),
            other => panic!("{other:?}"),
        }
    }

    /// Calls the pool contract; an error is the name by which it refuses.
    pub async fn pool(&self, by: usize, call: PoolCall) -> Result<TransactionHash, &'static str> {
        let contract = self.pools;
        match self.send(by, &Call::Pool { contract, call }).await {
            Ok(hash) => Ok(hash),
            Err(ChainError::WouldRevert(reason)) => {
                Err(reason.pool().unwrap_or_else(|| panic!("{reason:?}")).name)
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// What the pool contract would answer at the newest block, without a transaction.
    pub fn ask_at_tip(&self, name: &str, calldata: &[Felt]) -> anyhow::Result<Value> {
        let selector = get_selector_from_name(name)?;
        let request = json!({
            "contract_address": self.pools,
            "entry_point_selector": selector,
            "calldata": calldata,
        });
        let params = json!({ "request": request, "block_id": "latest" });
        self.devnet.ask("starknet_call", &params)
    }

    /// What a pool of this token promises from now on, for a day, and back a day later.
    pub async fn promise(&self, token: ContractAddress) -> Promise {
        let now = self.now().await;
        Promise {
            token,
            reward: REWARD,
            custodian_share: SHARE,
            claim_end: UnixSeconds(now + DAY_S),
            refund_time: UnixSeconds(now + 2 * DAY_S),
            label: Sha256Digest([0xab; 32]),
        }
    }

    /// Both custodians, with the same quota.
    pub fn quotas(&self) -> Vec<Quota> {
        let both = [CUSTODIAN, OTHER_CUSTODIAN];
        let quota = |number| Quota {
            anchorer: self.anchorer(number),
            claims: CLAIMS,
        };
        both.into_iter().map(quota).collect()
    }

    pub fn pool_id(&self, contract: ContractAddress, funder: usize, nonce: u64) -> PoolId {
        let nonce = PoolNonce::from_felt(nonce.into());
        let chain_id = self.chain.expected_chain();
        PoolId::of(chain_id, contract, self.address(funder), nonce)
    }

    /// Opens the funder's pool of this number, of a token, as [`World::promise`] says.
    pub async fn open(&self, nonce: u64, token: ContractAddress) -> Result<PoolId, &'static str> {
        let call = PoolCall::Open {
            nonce: PoolNonce::from_felt(nonce.into()),
            promise: self.promise(token).await,
            quotas: self.quotas(),
            deposit: u128::from(2 * CLAIMS) * PRICE,
        };
        self.pool(FUNDER, call).await?;
        Ok(self.pool_id(self.pools, FUNDER, nonce))
    }

    /// Anchors tickets in one batch of a custodian's and answers where each stands.
    pub async fn anchor(&self, by: usize, tickets: &[Ticket]) -> Vec<Proof> {
        let mut leaves: Vec<Leaf> = tickets.iter().map(Ticket::leaf).collect();
        // Rubbish that is another one in each batch.
        let salt = tickets
            .first()
            .map_or(Felt::ONE, |ticket| ticket.leaf().felt());
        let len = leaves.len().max(LEAVES_MIN).next_power_of_two();
        for number in leaves.len()..len {
            leaves.push(Leaf::from_felt(salt + Felt::from(number)));
        }
        let tree = Tree::build(&leaves).expect("leaves");
        let anchor = Call::Anchor {
            registry: self.registry,
            expected_head: self.head_of(by).await,
            root: tree.root(),
            leaf_count: LeafCount(len as u64),
        };
        self.send(by, &anchor).await.expect("anchored");
        let proofs = (0..tickets.len()).map(|index| tree.proof(index as u64));
        proofs.map(|proof| proof.expect("a leaf")).collect()
    }

    pub async fn head_of(&self, account: usize) -> AnchorHead {
        let head = self
            .chain
            .head_of(self.registry, self.anchorer(account))
            .await;
        head.expect("a head")
    }

    /// The ticket of the first custodian for a consent, in a batch of its own.
    pub async fn ticket(&self, pool: PoolId, number: u64) -> Anchored {
        self.ticket_of(CUSTODIAN, pool, number, self.now().await + DAY_S)
            .await
    }

    /// Any custodian's ticket, good until a time.
    pub async fn ticket_of(
        &self,
        custodian: usize,
        pool: PoolId,
        number: u64,
        claim_until: u64,
    ) -> Anchored {
        let secrets = secrets(number);
        let ticket = Ticket {
            pool_id: pool,
            anchorer: self.anchorer(custodian),
            handle: secrets.handle(),
            claim_until: UnixSeconds(claim_until),
            salt: Salt::from_felt(number.into()),
        };
        let [proof] = self
            .anchor(custodian, &[ticket])
            .await
            .try_into()
            .expect("one");
        Anchored {
            secrets,
            ticket,
            proof,
        }
    }

    pub fn claim(&self, what: &Anchored, pay_to: ContractAddress) -> Claim {
        let at = (self.chain.expected_chain(), self.pools);
        let claim = Claim::sign(at, (&what.ticket, &what.proof), &what.secrets, pay_to);
        claim.expect("it can be signed")
    }

    pub async fn state(&self, pool: PoolId) -> PoolState {
        let state = self.chain.pool(self.pools, pool).await;
        state.expect("an answer").expect("a pool")
    }

    pub async fn used(&self, pool: PoolId) -> Vec<QuotaUse> {
        self.chain.quotas(self.pools, pool).await.expect("quotas")
    }

    pub async fn accrued(&self, owner: ContractAddress, token: ContractAddress) -> u128 {
        let accrued = self.chain.accrued(self.pools, owner, token).await;
        accrued.expect("an amount")
    }

    pub async fn totals(&self, party: ContractAddress, token: ContractAddress) -> Totals {
        let totals = self.chain.totals(self.pools, party, token).await;
        totals.expect("amounts")
    }

    pub async fn balance(&self, owner: ContractAddress, token: ContractAddress) -> u128 {
        self.chain.balance(token, owner).await.expect("an amount")
    }

    /// The contract has what it owes.
    pub async fn check_solvent(&self, token: ContractAddress) {
        let owed = self.chain.owed(self.pools, token).await.expect("an amount");
        let held = self.balance(self.pools, token).await;
        assert!(held >= owed, "{held} are held, {owed} are owed");
    }

    /// The events that the pool contract emitted in a transaction: names, keys and data.
    pub fn events(&self, transaction: TransactionHash) -> Vec<PoolEvent> {
        let params = json!({ "transaction_hash": transaction });
        let receipt = self.devnet.ask("starknet_getTransactionReceipt", &params);
        let receipt = receipt.expect("a receipt");
        let events = receipt["events"].as_array().expect("a list");
        let ours = |event: &&Value| felt(&event["from_address"]) == self.pools.felt();
        events.iter().filter(ours).map(PoolEvent::read).collect()
    }
}

/// An event of the pool contract.
#[derive(Debug, PartialEq, Eq)]
pub struct PoolEvent {
    pub name: &'static str,
    pub keys: Vec<Felt>,
    pub data: Vec<Felt>,
}

impl PoolEvent {
    fn read(event: &Value) -> Self {
        const NAMES: [&str; 7] = [
            "PoolOpened",
            "QuotaPromised",
            "ToppedUp",
            "Claimed",
            "ClaimSkipped",
            "Withdrawn",
            "PoolEnded",
        ];
        let felts = |list: &Value| -> Vec<Felt> {
            let list = list.as_array().expect("a list");
            list.iter().map(felt).collect()
        };
        let mut keys = felts(&event["keys"]);
        let selector = keys.remove(0);
        let named = |name: &&str| get_selector_from_name(name).expect("a name") == selector;
        Self {
            name: NAMES
                .into_iter()
                .find(|name| named(name))
                .expect("a known event"),
            keys,
            data: felts(&event["data"]),
        }
    }
}

fn felt(value: &Value) -> Felt {
    Felt::from_hex(value.as_str().expect("a felt")).expect("a felt")
}

/// The error holds this name, as text or as the felt that it is on chain.
pub fn assert_names(name: &str, error: &anyhow::Error) {
    let error = format!("{error:?}");
    assert!(
        error.contains(name) || error.contains(&hex::encode(name)),
        "{name} is not in {error}"
    );
}

/// An amount as a `u256`.
pub fn amount(value: u128) -> [Felt; 2] {
    [value.into(), Felt::ZERO]
}

/// A claim as the contract reads it; written again here, so that the program's own encoding is not
/// its own measure.
pub fn felts_of(claim: &Claim) -> Vec<Felt> {
    let mut felts = vec![
        claim.pool.felt(),
        claim.anchorer.felt(),
        claim.secret_hash.felt(),
        claim.claim_key.felt(),
        Felt::from(claim.claim_until.0),
        claim.salt.felt(),
        Felt::from(claim.proof.index),
        Felt::from(claim.proof.siblings.len()),
    ];
    for sibling in &claim.proof.siblings {
        felts.push(sibling.felt());
    }
    felts.push(claim.pay_to.felt());
    felts.push(claim.signature.r.felt());
    felts.push(claim.signature.s.felt());
    felts
}
