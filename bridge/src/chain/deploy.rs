//! Putting the contracts on a chain: declare each class, deploy it under an address that follows
//! from the class and its arguments alone.
//!
//! Every step first looks whether it was done, by whomever. A process that is killed anywhere
//! leaves at most a transaction under way, and the next run finds its effect or waits for it.

use std::path::Path;
use std::sync::Arc;

use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ChainId, ClassHash, ContractAddress};
use medsync_protocol::receipt::TransactionHash;
use serde::{Deserialize, Serialize};
use starknet::accounts::{Account as _, AccountError};
use starknet::core::types::{BlockId, Call as StarknetCall, StarknetError};
use starknet::core::utils::{UdcUniqueness, get_udc_deployed_address};
use starknet::providers::{Provider, ProviderError};
use url::Url;

use super::account::{FeePolicy, InnerError};
use super::land::{deadline, pause, settle};
use super::rpc::selector;
use super::{Account as _, AccountKey, BlockAt, Chain as _, ChainError, Fri, RpcAccount, RpcChain};

mod artifact;

pub use artifact::{Artifact, Contract};

/// Starknet's universal deployer, the same on every chain.
const DEPLOYER: Felt =
    Felt::from_hex_unchecked("0x2ceed65a4bd731034c01113685c831b01c15d7d432f71afb1cf1634b53a2125");
/// Declaring a class is dear, and done once.
const FEES: FeePolicy = FeePolicy {
    margin_percent: 50,
    cap: Fri(500_000_000_000_000_000_000),
};

/// The contracts on a chain: what parties and verifiers are configured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The chain.
    pub chain_id: ChainId,
    /// The registry's address on it.
    pub registry: ContractAddress,
    /// The registry's class.
    pub class_hash: ClassHash,
    /// A block at which it was there: that of the deployment, if this run made it.
    pub block: BlockAt,
    /// The reward pools' contract, which judges by this registry.
    pub reward_pool: ContractAddress,
    /// Its class.
    pub reward_pool_class: ClassHash,
    /// Whether this run deployed one of them; false if both were there already, and in what was
    /// read.
    #[serde(skip)]
    pub is_new: bool,
}

impl Deployment {
    /// Reads a deployment file.
    ///
    /// # Errors
    /// [`ChainError::Artifacts`] for a file that is absent or something else.
    pub fn read(path: &Path) -> Result<Self, ChainError> {
        artifact::read_json(path)
    }
}

/// Declares and deploys the contracts, as far as that is not done yet, on the chain that the
/// endpoint serves.
///
/// # Errors
/// [`ChainError::Artifacts`] for a class that is not the tracked one, and whatever the chain
/// refuses. Running it again takes up where it stopped.
pub async fn deploy(
    rpc: &Url,
    account: ContractAddress,
    key: AccountKey,
    artifacts: &Path,
) -> Result<Deployment, ChainError> {
    let registry = Artifact::read(artifacts, Contract::Registry)?;
    let reward_pool = Artifact::read(artifacts, Contract::RewardPool)?;
    let chain = Arc::new(RpcChain::whatever_serves(rpc).await?);
    let chain_id = chain.expected_chain();
    let account = RpcAccount::new(chain, account, key).with_fees(FEES);

    let registry = Plan::new(registry, b"MEDSYNC_REGISTRY_V1", Vec::new());
    let placed = put(&account, &registry).await?;
    let judge = vec![registry.address.felt()];
    let reward_pool = Plan::new(reward_pool, b"MEDSYNC_REWARDS_V1", judge);
    let rewards = put(&account, &reward_pool).await?;
    Ok(Deployment {
        chain_id,
        registry: registry.address,
        class_hash: registry.artifact.class_hash(),
        block: placed.block,
        reward_pool: reward_pool.address,
        reward_pool_class: reward_pool.artifact.class_hash(),
        is_new: placed.is_new || rewards.is_new,
    })
}

/// What is put on a chain, and where: the address follows from class, salt and arguments,
/// whoever deploys.
struct Plan {
    artifact: Artifact,
    salt: Felt,
    arguments: Vec<Felt>,
    address: ContractAddress,
}

impl Plan {
    fn new(artifact: Artifact, salt: &[u8], arguments: Vec<Felt>) -> Self {
        let (class, salt) = (
            artifact.class_hash().felt(),
            Felt::from_bytes_be_slice(salt),
        );
        let unique = UdcUniqueness::NotUnique;
        let address = get_udc_deployed_address(salt, class, &unique, &arguments);
        Self {
            artifact,
            salt,
            arguments,
            address: ContractAddress::from_felt(address),
        }
    }
}

/// That a contract is there.
struct Placed {
    /// A block at which it was: that of the deployment, if this run made it.
    block: BlockAt,
    is_new: bool,
}

async fn put(account: &RpcAccount, plan: &Plan) -> Result<Placed, ChainError> {
    if let Some(placed) = find(account, plan).await? {
        return Ok(placed);
    }
    declare(account, &plan.artifact).await?;
    create(account, plan).await
}

async fn find(account: &RpcAccount, plan: &Plan) -> Result<Option<Placed>, ChainError> {
    let chain = account.chain();
    let block = chain.tip().await?;
    let expected = plan.artifact.class_hash();
    match chain.class_at(plan.address, block.hash).await? {
        None => Ok(None),
        Some(found) if found == expected => Ok(Some(Placed {
            block,
            is_new: false,
        })),
        Some(found) => Err(ChainError::OtherClass {
            contract: plan.address,
            expected,
            found,
        }),
    }
}

async fn declare(account: &RpcAccount, artifact: &Artifact) -> Result<(), ChainError> {
    let deadline = deadline();
    while !is_declared(account.chain(), artifact.class_hash()).await? {
        if let Some(hash) = send_declaration(account, artifact).await? {
            tracing::info!(class = %artifact.class_hash(), transaction = %hash, "declaring");
            settle(account.chain(), hash, deadline).await?;
        } else {
            pause("the declaration", deadline).await?;
        }
    }
    Ok(())
}

async fn is_declared(chain: &RpcChain, class: ClassHash) -> Result<bool, ChainError> {
    let block = BlockId::Hash(chain.tip().await?.hash.felt());
    match chain.client().get_class(block, class.felt()).await {
        Ok(_) => Ok(true),
        Err(ProviderError::StarknetError(StarknetError::ClassHashNotFound)) => Ok(false),
        Err(error) => Err(chain.failure("starknet_getClass", error)),
    }
}

/// Sends the declaration; nothing if one is under way already.
async fn send_declaration(
    account: &RpcAccount,
    artifact: &Artifact,
) -> Result<Option<TransactionHash>, ChainError> {
    let nonce = account.nonce().await?;
    let compiled = artifact.compiled_class_hash();
    let declaration = account.inner().declare_v3(artifact.class(), compiled);
    let declaration = declaration.nonce(nonce.0.into());
    let estimate = match declaration.estimate_fee().await {
        Ok(estimate) => estimate,
        Err(error) if is_under_way(&error) => return Ok(None),
        Err(error) => return Err(declaration_error(account, error)),
    };
    let fees = account.bounds(&estimate)?;
    let declaration = declaration
        .l1_gas(fees.l1_gas.amount.0)
        .l1_gas_price(fees.l1_gas.price.0)
        .l2_gas(fees.l2_gas.amount.0)
        .l2_gas_price(fees.l2_gas.price.0)
        .l1_data_gas(fees.l1_data_gas.amount.0)
        .l1_data_gas_price(fees.l1_data_gas.price.0)
        .tip(0);
    match declaration.send().await {
        Ok(sent) => Ok(Some(TransactionHash::from_felt(sent.transaction_hash))),
        Err(error) if is_under_way(&error) => Ok(None),
        Err(error) => Err(declaration_error(account, error)),
    }
}

fn declaration_error(account: &RpcAccount, error: InnerError) -> ChainError {
    match error {
        AccountError::Provider(ProviderError::StarknetError(
            StarknetError::CompiledClassHashMismatch,
        )) => ChainError::Artifacts(
            "the chain compiles the class to another hash; build the contracts again".into(),
        ),
        AccountError::Provider(ProviderError::StarknetError(
            StarknetError::InsufficientAccountBalance,
        )) => ChainError::NoFunds(account.address()),
        error => account.prepare_error(error),
    }
}

/// Whether an error says that this account, or somebody else, is declaring the class just now.
fn is_under_way(error: &InnerError) -> bool {
    let AccountError::Provider(ProviderError::StarknetError(error)) = error else {
        return false;
    };
    match error {
        StarknetError::ClassAlreadyDeclared
        | StarknetError::DuplicateTx
        | StarknetError::InvalidTransactionNonce(_)
        | StarknetError::ReplacementTransactionUnderpriced => true,
        StarknetError::TransactionExecutionError(data) => {
            format!("{:?}", data.execution_error).contains("is already declared")
        }
        _ => false,
    }
}

async fn create(account: &RpcAccount, plan: &Plan) -> Result<Placed, ChainError> {
    let deadline = deadline();
    let class = plan.artifact.class_hash().felt();
    loop {
        // Class, salt, not bound to the deployer, the constructor's arguments.
        let mut calldata = vec![class, plan.salt, Felt::ZERO, plan.arguments.len().into()];
        calldata.extend(&plan.arguments);
        let call = StarknetCall {
            to: DEPLOYER,
            selector: selector("deployContract"),
            calldata,
        };
        let nonce = account.nonce().await?;
        let sent = match account.prepare_calls(vec![call], nonce, None).await {
            Ok(prepared) => account.send(&prepared).await.map(|_| prepared.hash),
            Err(error) => Err(error),
        };
        let block = match &sent {
            Ok(hash) => settle(account.chain(), *hash, deadline).await?,
            Err(_) => None,
        };
        if let Some(found) = find(account, plan).await? {
            return Ok(Placed {
                block: block.unwrap_or(found.block),
                is_new: block.is_some(),
            });
        }
        match sent {
            // A deployment that is under way makes a second one look wrong; it is found above
            // as soon as its block is closed.
            Err(
                ChainError::WouldRevert(_)
                | ChainError::NonceTaken { .. }
                | ChainError::NonceAhead { .. }
                | ChainError::FeeTooLow(_),
            )
            | Ok(_) => pause("the deployment", deadline).await?,
            Err(error) => return Err(error),
        }
    }
}
