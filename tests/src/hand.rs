//! Contracts on a devnet called by hand, past `medsync`: by whoever else there is, and what no
//! honest program would send. With a token that does as a test tells it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ContractAddress;
use medsync_protocol::receipt::TransactionHash;
use serde_json::Value;
use starknet::accounts::{Account, ConnectedAccount, ExecutionEncoding, SingleOwnerAccount};
use starknet::core::types::contract::SierraClass;
use starknet::core::types::{BlockId, BlockTag, Call, FunctionCall};
use starknet::core::utils::{UdcUniqueness, get_selector_from_name, get_udc_deployed_address};
use starknet::providers::Provider;
use starknet::providers::jsonrpc::{HttpTransport, JsonRpcClient};
use starknet::signers::{LocalWallet, SigningKey};
use url::Url;

use crate::devnet::Devnet;

/// Starknet's universal deployer, the same on every chain.
const DEPLOYER: &str = "0x2ceed65a4bd731034c01113685c831b01c15d7d432f71afb1cf1634b53a2125";
const BUILT: &str = concat!(env!("MEDSYNC_ROOT"), "/target/contracts");

/// An account of a devnet that calls whatever it is told to.
pub struct Hand {
    account: SingleOwnerAccount<JsonRpcClient<HttpTransport>, LocalWallet>,
}

impl Hand {
    /// The devnet's account of this number.
    ///
    /// # Errors
    /// A devnet that does not answer.
    pub async fn of(devnet: &Devnet, number: usize) -> anyhow::Result<Self> {
        let rpc: Url = devnet.rpc().parse()?;
        let client = JsonRpcClient::new(HttpTransport::new(rpc));
        let chain_id = client.chain_id().await?;
        let account = &devnet.accounts()[number];
        let key = SigningKey::from_secret_scalar(Felt::from_hex(&account.private_key)?);
        let address = Felt::from_hex(&account.address)?;
        let wallet = LocalWallet::from_signing_key(key);
        let encoding = ExecutionEncoding::New;
        let mut account = SingleOwnerAccount::new(client, wallet, address, chain_id, encoding);
        account.set_block_id(BlockId::Tag(BlockTag::PreConfirmed));
        Ok(Self { account })
    }

    /// Declares a class that `scripts/build-contracts` wrote, and answers its hash.
    ///
    /// # Errors
    /// A class that was not built, or that the devnet refuses.
    pub async fn declare(&self, name: &str) -> anyhow::Result<Felt> {
        let file = |end: &str| Path::new(BUILT).join(format!("{name}.{end}"));
        let class: SierraClass = serde_json::from_reader(open(&file("json"))?)?;
        let summary: Value = serde_json::from_reader(open(&file("summary.json"))?)?;
        let compiled = summary["compiled_class_hash"].as_str().context("a hash")?;
        let (hash, compiled) = (class.class_hash()?, Felt::from_hex(compiled)?);
        let declaration = self
            .account
            .declare_v3(Arc::new(class.flatten()?), compiled);
        declaration
            .send()
            .await
            .with_context(|| format!("declaring {name}"))?;
        Ok(hash)
    }

    /// Deploys a declared class.
    ///
    /// # Errors
    /// What its constructor says.
    pub async fn deploy(
        &self,
        class: Felt,
        salt: Felt,
        arguments: &[Felt],
    ) -> anyhow::Result<ContractAddress> {
        let mut calldata = vec![class, salt, Felt::ZERO, arguments.len().into()];
        calldata.extend(arguments);
        let deployer = ContractAddress::from_felt(Felt::from_hex(DEPLOYER)?);
        self.invoke(deployer, "deployContract", calldata).await?;
        let unique = UdcUniqueness::NotUnique;
        let address = get_udc_deployed_address(salt, class, &unique, arguments);
        Ok(ContractAddress::from_felt(address))
    }

    /// Calls a function in a transaction.
    ///
    /// # Errors
    /// What the contract says.
    pub async fn invoke(
        &self,
        to: ContractAddress,
        name: &str,
        calldata: Vec<Felt>,
    ) -> anyhow::Result<TransactionHash> {
        let call = Call {
            to: to.felt(),
            selector: get_selector_from_name(name)?,
            calldata,
        };
        let sent = self.account.execute_v3(vec![call]).send().await;
        // Why a call reverts is in the error's details alone.
        let sent = sent.map_err(|error| anyhow::anyhow!("{name}: {error:?}"))?;
        Ok(TransactionHash::from_felt(sent.transaction_hash))
    }

    /// Calls a view.
    ///
    /// # Errors
    /// What the contract says.
    pub async fn call(
        &self,
        to: ContractAddress,
        name: &str,
        calldata: Vec<Felt>,
    ) -> anyhow::Result<Vec<Felt>> {
        let call = FunctionCall {
            contract_address: to.felt(),
            entry_point_selector: get_selector_from_name(name)?,
            calldata,
        };
        let block = BlockId::Tag(BlockTag::PreConfirmed);
        Ok(self.account.provider().call(call, block).await?)
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path)
        .with_context(|| format!("{}: scripts/build-contracts writes it", path.display()))
}

/// A token that does as it is told: `contracts/doubles/token_double.cairo`.
pub struct TokenDouble<'a> {
    hand: &'a Hand,
    /// Where it is.
    pub address: ContractAddress,
}

impl<'a> TokenDouble<'a> {
    /// Declares it, which is done once on a devnet.
    ///
    /// # Errors
    /// As [`Hand::declare`].
    pub async fn declare(hand: &Hand) -> anyhow::Result<Felt> {
        hand.declare("token_double").await
    }

    /// Another token of the declared class.
    ///
    /// # Errors
    /// As [`Hand::deploy`].
    pub async fn deploy(hand: &'a Hand, class: Felt, number: u64) -> anyhow::Result<Self> {
        let address = hand.deploy(class, number.into(), &[]).await?;
        Ok(Self { hand, address })
    }

    /// Gives somebody some of it.
    ///
    /// # Errors
    /// A devnet that does not answer.
    pub async fn mint(&self, owner: ContractAddress, amount: u128) -> anyhow::Result<()> {
        let calldata = vec![owner.felt(), amount.into(), Felt::ZERO];
        self.hand.invoke(self.address, "mint", calldata).await?;
        Ok(())
    }

    /// From now on it behaves so; see the contract.
    ///
    /// # Errors
    /// As above.
    pub async fn behave(&self, manner: &str) -> anyhow::Result<()> {
        let calldata = vec![Felt::from_bytes_be_slice(manner.as_bytes())];
        self.hand.invoke(self.address, "behave", calldata).await?;
        Ok(())
    }

    /// What it calls when it behaves as `CALLS BACK`.
    ///
    /// # Errors
    /// As above.
    pub async fn call_back(
        &self,
        contract: ContractAddress,
        name: &str,
        calldata: &[Felt],
    ) -> anyhow::Result<()> {
        let selector = get_selector_from_name(name)?;
        let mut felts = vec![contract.felt(), selector, calldata.len().into()];
        felts.extend(calldata);
        self.hand.invoke(self.address, "call_back", felts).await?;
        Ok(())
    }
    /// Makes a call now: the token itself is who calls.
    ///
    /// # Errors
    /// What the called contract says.
    pub async fn call_now(
        &self,
        contract: ContractAddress,
        name: &str,
        calldata: &[Felt],
    ) -> anyhow::Result<()> {
        self.call_back(contract, name, calldata).await?;
        self.hand.invoke(self.address, "call_now", vec![]).await?;
        Ok(())
    }
}
