//! What a claim costs, as a real devnet charges it, and what of it is for what.
//!
//! `claim_many` passes over a bad claim at the step that refuses it, so that claims which fail at
//! one step after the other cost the steps before: the split is of differences between those.

use anyhow::{Context, ensure};
use medsync::chain::{
    Account, CLAIMS_MAX, Call, Chain, PoolCall, Promise, QUOTAS_MAX, Quota, RpcAccount,
};
use medsync_protocol::claim::Claim;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ContractAddress, Salt, Sha256Digest, UnixSeconds};
use medsync_protocol::secrets::{ConsentSecrets, Counter, DeviceNumber, Seed};
use medsync_protocol::ticket::{PoolId, PoolNonce, Ticket};
use medsync_protocol::tree::{Proof, Tree};

use crate::chain::{Gas, World};
use crate::report::{Figure, Report, Target};
use crate::trees;

/// The token by which Starknet's fees are paid, on every chain.
const STRK: &str = "0x4718f5a0fc34cc1af16a1cdee98ffb20c31f5cd61d6ab07201858f4287c938d";
/// The batches in which a claimed ticket stands.
const DEPTHS: [u32; 4] = [4, 8, 12, 16];
/// How much more than in the smallest batch a claim may cost in the largest.
const GROWTH_MAX: f64 = 1.3;
const YEAR_S: u64 = 365 * 24 * 60 * 60;
const REWARD: u128 = 100;
const SHARE: u128 = 7;
const CLAIMS: u64 = 1_000;

/// Measures on a devnet that is started for it.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    report.measuring("starting a devnet and deploying the contracts");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let world = World::start(folder.path()).await?;
        let stage = Stage::set(report, world).await?;
        stage.by_batch(report).await?;
        stage.split(report).await?;
        stage.at_once(report).await
    })
}

/// A pool with plenty to claim.
struct Stage {
    world: World,
    custodian: RpcAccount,
    relayer: RpcAccount,
    pool: PoolId,
    claim_until: UnixSeconds,
}

/// A ticket, where it stands, and what spends it.
struct Anchored {
    secrets: ConsentSecrets,
    ticket: Ticket,
    proof: Proof,
}

impl Stage {
    async fn set(report: &mut Report, world: World) -> anyhow::Result<Self> {
        let (custodian, funder) = (world.account(1)?, world.account(2)?);
        let now = world.chain.tip().await?.time.0;
        let promise = Promise {
            token: ContractAddress::from_felt(Felt::from_hex_unchecked(STRK)),
            reward: REWARD,
            custodian_share: SHARE,
            claim_end: UnixSeconds(now + YEAR_S),
            refund_time: UnixSeconds(now + YEAR_S),
            label: Sha256Digest([7; 32]),
        };
        let quota = |anchorer, claims| Quota { anchorer, claims };
        let own = Anchorer::from_felt(custodian.address().felt());
        let open = |nonce: u64, quotas: Vec<Quota>| {
            let claims: u64 = quotas.iter().map(|quota| quota.claims).sum();
            PoolCall::Open {
                nonce: PoolNonce::from_felt(nonce.into()),
                promise,
                quotas,
                deposit: u128::from(claims) * (REWARD + SHARE),
            }
        };
        report.measuring("pools with one and with 64 quotas");
        // The first transaction of an account writes its nonce for the first time.
        world.pool(&funder, open(0, vec![quota(own, 1)])).await?;
        let one = world
            .pool(&funder, open(1, vec![quota(own, CLAIMS)]))
            .await?;
        let how = "with one quota; from the transaction's receipt, as all of these";
        report.add(Figure::new("open_l2_gas", "L2 gas", one.l2, how));
        let all = (1..=QUOTAS_MAX as u64).map(|n| quota(Anchorer::from_felt(n.into()), 1));
        let many = world.pool(&funder, open(2, all.collect())).await?;
        let figure = Figure::new("open_l2_gas_of_64", "L2 gas", many.l2, "with 64 quotas");
        report.add(figure.against("open_l2_gas", one.l2));
        let nonce = PoolNonce::from_felt(Felt::ONE);
        let pool = PoolId::of(
            world.chain.expected_chain(),
            world.pools,
            funder.address(),
            nonce,
        );
        Ok(Self {
            relayer: world.account(3)?,
            world,
            custodian,
            pool,
            claim_until: promise.claim_end,
        })
    }

    /// A ticket in a batch of 2^depth leaves.
    async fn ticket(&self, number: u64, depth: u32) -> anyhow::Result<Anchored> {
        let seed = Seed::from_bytes(&[5; 32])?;
        let secrets = ConsentSecrets::derive(&seed, DeviceNumber(0), Counter(number));
        let anchorer = Anchorer::from_felt(self.custodian.address().felt());
        let ticket = Ticket {
            pool_id: self.pool,
            anchorer,
            handle: secrets.handle(),
            claim_until: self.claim_until,
            salt: Salt::from_felt(number.into()),
        };
        let mut leaves = trees::leaves(1 << depth);
        let index = leaves.len() / 3;
        leaves[index] = ticket.leaf();
        let tree = Tree::build(&leaves)?;
        let call = Call::Anchor {
            registry: self.world.registry,
            expected_head: self
                .world
                .chain
                .head_of(self.world.registry, anchorer)
                .await?,
            root: tree.root(),
            leaf_count: tree.leaf_count(),
        };
        self.world.send(&self.custodian, &call).await?;
        let proof = tree.proof(index as u64).context("a leaf")?;
        Ok(Anchored {
            secrets,
            ticket,
            proof,
        })
    }

    /// What pays a ticket's reward to an address that has nothing yet.
    fn claim(&self, what: &Anchored) -> anyhow::Result<Claim> {
        let at = (self.world.chain.expected_chain(), self.world.pools);
        let payee = ContractAddress::from_felt(what.ticket.handle.felt());
        let payee = ContractAddress::from_felt(payee.felt() + Felt::ONE);
        Ok(Claim::sign(
            at,
            (&what.ticket, &what.proof),
            &what.secrets,
            payee,
        )?)
    }

    async fn many(&self, claims: Vec<Claim>) -> anyhow::Result<Gas> {
        self.world
            .pool(&self.relayer, PoolCall::ClaimMany(claims))
            .await
    }

    async fn by_batch(&self, report: &mut Report) -> anyhow::Result<()> {
        let first = self.claim(&self.ticket(0, DEPTHS[0]).await?)?;
        self.many(vec![first]).await?;
        let mut smallest = None;
        for (number, depth) in (1..).zip(DEPTHS) {
            let count = 1u64 << depth;
            report.measuring(&format!("a claim in a batch of {count}"));
            let claim = self.claim(&self.ticket(number, depth).await?)?;
            let call = PoolCall::Claim(Box::new(claim));
            let gas = self.world.pool(&self.relayer, call).await?;
            let smallest = *smallest.get_or_insert(gas.l2);
            let how = "one ticket, to an address that has nothing yet";
            let figure = Figure::new(format!("claim_l2_gas_{count}"), "L2 gas", gas.l2, how);
            let figure = figure.against("claim_l2_gas_16", smallest);
            report.add(figure.with_target(Target::RatioMax(GROWTH_MAX)));
            let name = format!("claim_l1_data_gas_{count}");
            report.add(Figure::new(name, "L1 data gas", gas.l1_data, how));
        }
        Ok(())
    }

    async fn split(&self, report: &mut Report) -> anyhow::Result<()> {
        report.measuring("what of a claim is for what");
        let [low, high] = [DEPTHS[0], DEPTHS[3]];
        let mut used = [0.0; 2];
        let mut unknown = [0.0; 2];
        let mut spent = None;
        for (at, depth) in [low, high].into_iter().enumerate() {
            let claim = self.claim(&self.ticket(100 + at as u64, depth).await?)?;
            let mut elsewhere = claim.clone();
            elsewhere.salt = Salt::from_felt(Felt::from(404));
            unknown[at] = self.many(vec![elsewhere]).await?.l2;
            let mut redirected = claim.clone();
            redirected.pay_to = ContractAddress::from_felt(Felt::from(404));
            let forged = self.many(vec![redirected]).await?.l2;
            let paid = self.many(vec![claim.clone()]).await?.l2;
            used[at] = self.many(vec![claim]).await?.l2;
            spent.get_or_insert((forged, paid));
        }
        let (forged, paid) = spent.context("both were measured")?;
        let levels = f64::from(high - low);
        let calldata = (used[1] - used[0]) / levels;
        let level = (unknown[1] - unknown[0]) / levels - calldata;
        let parts = [
            ("calldata", calldata, "one more sibling is sent and read"),
            ("path", level, "one more level of the path is hashed"),
            (
                "registry",
                unknown[0] - used[0] - f64::from(low) * level,
                "the leaf is hashed and the registry asked",
            ),
            (
                "signature",
                forged - unknown[0],
                "the claim message is hashed and verified",
            ),
            (
                "storage",
                paid - forged,
                "books are written, less what a skipped claim's event costs",
            ),
        ];
        for (name, gas, how) in parts {
            let figure = Figure::new(format!("claim_{name}_l2_gas"), "L2 gas", gas, how);
            report.add(figure.against("a claim in a batch of 16", paid));
        }
        Ok(())
    }

    async fn at_once(&self, report: &mut Report) -> anyhow::Result<()> {
        report.measuring("many claims at once, and a payment");
        let mut claims = Vec::new();
        for number in 0..CLAIMS_MAX as u64 {
            claims.push(self.claim(&self.ticket(200 + number, DEPTHS[0]).await?)?);
        }
        let payee = claims[0].pay_to;
        let all = self.many(claims).await?;
        let each = all.l2 / CLAIMS_MAX as f64;
        let how = "for each of 64 tickets of batches of 16, in one transaction";
        report.add(Figure::new("claim_l2_gas_of_64", "L2 gas", each, how));
        let token = ContractAddress::from_felt(Felt::from_hex_unchecked(STRK));
        let due = self
            .world
            .chain
            .accrued(self.world.pools, payee, token)
            .await?;
        ensure!(due == REWARD, "{due} accrued");
        let call = PoolCall::WithdrawFor {
            owner: payee,
            token,
        };
        let paid = self.world.pool(&self.relayer, call).await?;
        let how = "a reward in STRK to an address that has none: the transfer and its checks";
        report.add(Figure::new("withdraw_l2_gas", "L2 gas", paid.l2, how));
        Ok(())
    }
}
