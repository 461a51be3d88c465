//! What the registry's transactions cost, as a real devnet charges them.
//!
//! Gas is a count, not a time: it does not depend on the machine.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use medsync::chain::{
    Account, AccountKey, Call, Chain, PoolCall, REVOCATIONS_MAX, RpcAccount, RpcChain, Sent,
    TransactionStatus, deploy,
};
use medsync_protocol::ids::{Anchorer, ContractAddress};
use medsync_protocol::secrets::{ConsentSecrets, Counter, DeviceNumber, Seed};
use medsync_protocol::tree::Tree;
use serde_json::{Value, json};

use crate::report::{Figure, Report, Target};
use crate::trees;
use medsync_tests::devnet::Devnet;

/// What an anchor may cost at most, however large its batch is.
const ANCHOR_L2_GAS_MAX: f64 = 2_200_000.0;
/// The batches that are anchored: from the smallest that is ever sealed.
const DEPTHS: std::ops::RangeInclusive<usize> = 4..=16;

/// What one transaction was charged for.
#[derive(Clone, Copy)]
pub struct Gas {
    /// Units of L2 gas.
    pub l2: f64,
    /// Units of L1 data gas.
    pub l1_data: f64,
}

/// A devnet with the contracts.
pub struct World {
    devnet: Devnet,
    /// How it is read.
    pub chain: Arc<RpcChain>,
    /// The registry.
    pub registry: ContractAddress,
    /// The reward pools.
    pub pools: ContractAddress,
}

/// Measures on a devnet that is started for it.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    report.measuring("starting a devnet and deploying the contracts");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let world = World::start(folder.path()).await?;
        anchors(report, &world).await?;
        revocations(report, &world).await
    })
}

async fn anchors(report: &mut Report, world: &World) -> anyhow::Result<()> {
    let account = world.account(1)?;
    report.measuring("the first anchor of an account");
    let first = world.anchor(&account, 1 << DEPTHS.start(), 0).await?;
    let how = "the account's very first anchor, of 16 leaves";
    let figure = Figure::new("anchor_first_l2_gas", "L2 gas", first.l2, how);
    report.add(figure.with_target(Target::ValueMax(ANCHOR_L2_GAS_MAX)));
    report.add(Figure::new(
        "anchor_first_l1_data_gas",
        "L1 data gas",
        first.l1_data,
        how,
    ));

    let mut smallest: Option<Gas> = None;
    for depth in DEPTHS {
        let count = 1usize << depth;
        report.measuring(&format!("anchor of {count} leaves"));
        let gas = world.anchor(&account, count, 1).await?;
        let smallest = *smallest.get_or_insert(gas);
        let how = "a later anchor of the account; from the transaction's receipt";
        let figure = Figure::new(format!("anchor_l2_gas_{count}"), "L2 gas", gas.l2, how);
        let figure = figure.against("anchor_l2_gas_16", smallest.l2);
        report.add(figure.with_target(Target::ValueMax(ANCHOR_L2_GAS_MAX)));
        let name = format!("anchor_l1_data_gas_{count}");
        let figure = Figure::new(name, "L1 data gas", gas.l1_data, how);
        report.add(figure.against("anchor_l1_data_gas_16", smallest.l1_data));
        let how = "the anchor's L2 gas shared among its leaves";
        let name = format!("consent_l2_gas_{count}");
        let figure = Figure::new(name, "L2 gas", gas.l2 / count as f64, how);
        report.add(figure.against("one such transaction a consent", gas.l2));
        if depth == *DEPTHS.end() {
            let how = "the largest batch's L2 gas as it stands to the smallest one's";
            let figure = Figure::new("anchor_l2_gas_growth", "L2 gas", gas.l2, how);
            let figure = figure.against("anchor_l2_gas_16", smallest.l2);
            report.add(figure.with_target(Target::RatioExactly(1.0)));
        }
    }
    Ok(())
}

async fn revocations(report: &mut Report, world: &World) -> anyhow::Result<()> {
    let account = world.account(2)?;
    // The first transaction of an account writes its nonce for the first time.
    world.revoke(&account, 0..1).await?;
    report.measuring("revocations");
    let one = world.revoke(&account, 1..2).await?;
    let how = "one handle; from the transaction's receipt";
    report.add(Figure::new("revoke_l2_gas", "L2 gas", one.l2, how));
    report.add(Figure::new(
        "revoke_l1_data_gas",
        "L1 data gas",
        one.l1_data,
        how,
    ));
    let again = world.revoke(&account, 1..2).await?;
    let how = "a handle that was opened before";
    let figure = Figure::new("revoke_again_l2_gas", "L2 gas", again.l2, how);
    report.add(figure.against("revoke_l2_gas", one.l2));
    let mut next = 2;
    for count in [2, 8, REVOCATIONS_MAX as u64] {
        report.measuring(&format!("{count} revocations at once"));
        let many = world.revoke(&account, next..next + count).await?;
        next += count;
        let how = "for each of the handles in one transaction";
        let each = many.l2 / count as f64;
        let figure = Figure::new(format!("revoke_l2_gas_of_{count}"), "L2 gas", each, how);
        report.add(figure.against("revoke_l2_gas", one.l2));
        let each = many.l1_data / count as f64;
        let name = format!("revoke_l1_data_gas_of_{count}");
        let figure = Figure::new(name, "L1 data gas", each, how);
        report.add(figure.against("revoke_l1_data_gas", one.l1_data));
    }
    Ok(())
}

impl World {
    /// Starts a devnet, whose files go into `folder`, and deploys the contracts.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let devnet = Devnet::start(folder)?;
        let rpc = devnet.rpc().parse()?;
        let deployer = &devnet.accounts()[0];
        let built = Path::new(env!("MEDSYNC_ROOT")).join("target/contracts");
        let (address, key) = (
            deployer.address.parse()?,
            AccountKey::parse(&deployer.private_key)?,
        );
        let deployment = deploy(&rpc, address, key, &built).await;
        let deployment = deployment.context("scripts/build-contracts builds the contracts")?;
        Ok(Self {
            chain: Arc::new(RpcChain::new(&rpc, deployment.chain_id)?),
            registry: deployment.registry,
            pools: deployment.reward_pool,
            devnet,
        })
    }

    /// An account of the devnet's.
    pub fn account(&self, number: usize) -> anyhow::Result<RpcAccount> {
        let account = &self.devnet.accounts()[number];
        let (address, key) = (
            account.address.parse()?,
            AccountKey::parse(&account.private_key)?,
        );
        Ok(RpcAccount::new(Arc::clone(&self.chain), address, key))
    }

    /// Anchors a batch of `count` leaves, of which the first ones are `shifted`.
    async fn anchor(
        &self,
        account: &RpcAccount,
        count: usize,
        shift: usize,
    ) -> anyhow::Result<Gas> {
        let mut leaves = trees::leaves(count);
        leaves.rotate_left(shift);
        let tree = Tree::build(&leaves)?;
        let anchorer = Anchorer::from_felt(account.address().felt());
        let call = Call::Anchor {
            registry: self.registry,
            expected_head: self.chain.head_of(self.registry, anchorer).await?,
            root: tree.root(),
            leaf_count: tree.leaf_count(),
        };
        self.send(account, &call).await
    }

    async fn revoke(
        &self,
        account: &RpcAccount,
        counters: std::ops::Range<u64>,
    ) -> anyhow::Result<Gas> {
        let seed = Seed::from_bytes(&[5; 32])?;
        let openings = counters.map(|counter| {
            let secrets = ConsentSecrets::derive(&seed, DeviceNumber(0), Counter(counter));
            (secrets.secret.clone(), secrets.claim_key.public_key())
        });
        let call = Call::Revoke {
            registry: self.registry,
            openings: openings.collect(),
        };
        self.send(account, &call).await
    }

    /// Calls the pool contract.
    pub async fn pool(&self, account: &RpcAccount, call: PoolCall) -> anyhow::Result<Gas> {
        let contract = self.pools;
        self.send(account, &Call::Pool { contract, call }).await
    }

    /// Sends a transaction and answers what it was charged for.
    pub async fn send(&self, account: &RpcAccount, call: &Call) -> anyhow::Result<Gas> {
        let prepared = account.prepare(call, account.nonce().await?).await?;
        if account.send(&prepared).await? != Sent::Accepted {
            bail!("the transaction was there already");
        }
        match self.chain.status(prepared.hash).await? {
            TransactionStatus::Accepted { .. } => {}
            other => bail!("the transaction is {other:?}"),
        }
        let params = json!({"transaction_hash": prepared.hash.to_string()});
        let receipt = self.devnet.ask("starknet_getTransactionReceipt", &params)?;
        let used = &receipt["execution_resources"];
        Ok(Gas {
            l2: count(&used["l2_gas"])?,
            l1_data: count(&used["l1_data_gas"])?,
        })
    }
}

fn count(value: &Value) -> anyhow::Result<f64> {
    value
        .as_f64()
        .with_context(|| format!("{value} is no amount of gas"))
}
