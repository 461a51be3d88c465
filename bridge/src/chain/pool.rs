//! Reward pools on Starknet: what a funder promises, what spends a ticket, and what the contract
//! says of both.
//!
//! Amounts are in a token's smallest unit and below 2^128 here: no token in use has more of them,
//! and one that says so is not believed.

use medsync_protocol::claim::Claim;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{Anchorer, ContractAddress, Sha256Digest, UnixSeconds};
use medsync_protocol::ticket::{PoolId, PoolNonce};

use super::rpc::time;
use super::{Artifact, BlockAt, Chain as _, ChainError, Contract, RpcChain};

/// The most quotas in one call; the contract refuses more.
pub const QUOTAS_MAX: usize = 64;
/// The most claims in one call; the contract refuses more.
pub const CLAIMS_MAX: usize = 64;
/// The most entries of one page of the contract's lists.
pub const PAGE_MAX: u64 = 100;
/// The most quotas that are read of a pool.
const QUOTAS_READ_MAX: usize = 10_000;

/// What a funder promises; nothing of it ever changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The ERC-20 that pays.
    pub token: ContractAddress,
    /// What a claim accrues to the address that the patient names.
    pub reward: u128,
    /// What it accrues to the custodian beside that.
    pub custodian_share: u128,
    /// The first second at which no claim is taken any more.
    pub claim_end: UnixSeconds,
    /// The first second at which what is left goes back; not before the claim end.
    pub refund_time: UnixSeconds,
    /// SHA-256 of the text by which people know the pool.
    pub label: Sha256Digest,
}

/// How many claims one custodian's tickets may have in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The custodian.
    pub anchorer: Anchorer,
    /// How many.
    pub claims: u64,
}

/// What became of a custodian's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// The custodian.
    pub anchorer: Anchorer,
    /// Claims that were promised, and paid for.
    pub promised: u64,
    /// Claims that were made.
    pub claimed: u64,
}

/// A pool as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Who opened it.
    pub funder: ContractAddress,
    /// What it promises.
    pub promise: Promise,
    /// Promised claims that were not made.
    pub claims_left: u64,
    /// What is held for it.
    pub escrow: u128,
    /// When what was left went back, if it did.
    pub ended_at: Option<UnixSeconds>,
}

/// What one party ever moved in one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What its pools received from it.
    pub deposited: u128,
    /// What they gave back to it.
    pub refunded: u128,
    /// What was paid out to it.
    pub withdrawn: u128,
}

/// What a claim says to the contract.
pub(super) fn claim_calldata(claim: &Claim) -> Vec<Felt> {
    let mut felts = vec![
        claim.pool.felt(),
        claim.anchorer.felt(),
        claim.secret_hash.felt(),
        claim.claim_key.felt(),
        claim.claim_until.felt(),
        claim.salt.felt(),
        claim.proof.index.into(),
        claim.proof.siblings.len().into(),
    ];
    felts.extend(claim.proof.siblings.iter().map(|sibling| sibling.felt()));
    felts.extend([
        claim.pay_to.felt(),
        claim.signature.r.felt(),
        claim.signature.s.felt(),
    ]);
    felts
}

impl Promise {
    pub(super) fn calldata(&self) -> Vec<Felt> {
        let [high, low] = self.label.halves();
        vec![
            self.token.felt(),
            self.reward.into(),
            self.custodian_share.into(),
            self.claim_end.felt(),
            self.refund_time.felt(),
            low,
            high,
        ]
    }

    fn read(felts: [Felt; 7]) -> Result<Self, ChainError> {
        let [
            token,
            reward,
            custodian_share,
            claim_end,
            refund_time,
            low,
            high,
        ] = felts;
        let mut label = [0; 32];
        label[..16].copy_from_slice(&narrow::<u128>(high)?.to_be_bytes());
        label[16..].copy_from_slice(&narrow::<u128>(low)?.to_be_bytes());
        Ok(Self {
            token: ContractAddress::from_felt(token),
            reward: narrow(reward)?,
            custodian_share: narrow(custodian_share)?,
            claim_end: time(claim_end)?,
            refund_time: time(refund_time)?,
            label: Sha256Digest(label),
        })
    }
}

/// A call of the pool contract.
#[derive(Clone, Debug)]
pub enum PoolCall {
    /// Opens a pool; the contract is allowed to take the deposit in the same transaction.
    Open {
        /// The funder's number for it.
        nonce: PoolNonce,
        /// What is promised.
        promise: Promise,
        /// To whom; one to [`QUOTAS_MAX`].
        quotas: Vec<Quota>,
        /// What is deposited for it.
        deposit: u128,
    },
    /// Promises more in a pool.
    TopUp {
        /// The pool.
        pool: PoolId,
        /// The token that it pays in.
        token: ContractAddress,
        /// To whom more; one to [`QUOTAS_MAX`].
        quotas: Vec<Quota>,
        /// What is deposited for it.
        deposit: u128,
    },
    /// Spends a ticket, and reverts if that cannot be.
    Claim(Box<Claim>),
    /// Spends one to [`CLAIMS_MAX`] tickets, and passes over those that cannot be spent.
    ClaimMany(Vec<Claim>),
    /// Pays out what accrued to somebody.
    WithdrawFor {
        /// To whom.
        owner: ContractAddress,
        /// In which token.
        token: ContractAddress,
    },
    /// Ends a pool whose refund time has come.
    Refund(PoolId),
    /// Ends a pool in which no promised claim is left.
    Close(PoolId),
}

impl RpcChain {
    /// A pool as it stands at the tip, if there is one.
    ///
    /// # Errors
    /// [`ChainError`], as every method here.
    pub async fn pool(
        &self,
        contract: ContractAddress,
        pool: PoolId,
    ) -> Result<Option<PoolState>, ChainError> {
        let block = self.tip().await?;
        self.pool_at(contract, pool, block).await
    }

    /// A pool as it stood at a block.
    ///
    /// # Errors
    /// As above.
    pub async fn pool_at(
        &self,
        contract: ContractAddress,
        pool: PoolId,
        block: BlockAt,
    ) -> Result<Option<PoolState>, ChainError> {
        let felts: [Felt; 12] = self
            .view(contract, "pool", vec![pool.felt()], block.hash)
            .await?;
        let [funder, promise @ .., claims_left, low, high, ended_at] = felts;
        let funder = ContractAddress::from_felt(funder);
        if funder.is_zero() {
            return Ok(None);
        }
        let ended_at = time(ended_at)?;
        Ok(Some(PoolState {
            funder,
            promise: Promise::read(promise)?,
            claims_left: narrow(claims_left)?,
            escrow: amount(low, high)?,
            ended_at: (ended_at != UnixSeconds(0)).then_some(ended_at),
        }))
    }

    /// Refuses what is no pool contract of the class that was reviewed, or judges by another
    /// registry: whoever made that one could have every ticket counted as anchored.
    ///
    /// # Errors
    /// [`ChainError::NoContract`], [`ChainError::OtherClass`] and [`ChainError::OtherRegistry`].
    pub async fn check_pools(
        &self,
        contract: ContractAddress,
        registry: ContractAddress,
    ) -> Result<(), ChainError> {
        let class = Artifact::tracked_class(Contract::RewardPool)?;
        self.check_class(contract, class).await?;
        let found = self.registry_of(contract).await?;
        if found != registry {
            return Err(ChainError::OtherRegistry {
                contract,
                expected: registry,
                found,
            });
        }
        Ok(())
    }

    /// The registry by which a pool contract judges.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn registry_of(
        &self,
        contract: ContractAddress,
    ) -> Result<ContractAddress, ChainError> {
        let block = self.tip().await?;
        let [registry] = self.view(contract, "registry", vec![], block.hash).await?;
        Ok(ContractAddress::from_felt(registry))
    }

    /// What became of one custodian's quota; all zero if the pool promises it nothing.
    ///
    /// # Errors
    /// As above.
    pub async fn quota(
        &self,
        contract: ContractAddress,
        pool: PoolId,
        anchorer: Anchorer,
    ) -> Result<QuotaUse, ChainError> {
        let block = self.tip().await?;
        let calldata = vec![pool.felt(), anchorer.felt()];
        let [promised, claimed] = self.view(contract, "quota", calldata, block.hash).await?;
        Ok(QuotaUse {
            anchorer,
            promised: narrow(promised)?,
            claimed: narrow(claimed)?,
        })
    }

    /// The quotas of a pool, in the order in which they were first promised; the first 10,000 at
    /// most.
    ///
    /// # Errors
    /// As above.
    pub async fn quotas(
        &self,
        contract: ContractAddress,
        pool: PoolId,
    ) -> Result<Vec<QuotaUse>, ChainError> {
        let block = self.tip().await?;
        self.quotas_at(contract, pool, block).await
    }

    /// The same as of a block.
    ///
    /// # Errors
    /// As above.
    pub async fn quotas_at(
        &self,
        contract: ContractAddress,
        pool: PoolId,
        block: BlockAt,
    ) -> Result<Vec<QuotaUse>, ChainError> {
        let mut quotas = Vec::new();
        loop {
            let calldata = vec![pool.felt(), quotas.len().into(), PAGE_MAX.into()];
            let page = self.list::<3>(contract, "quotas", calldata, block).await?;
            let len = page.len();
            for [anchorer, promised, claimed] in page {
                quotas.push(QuotaUse {
                    anchorer: Anchorer::from_felt(anchorer),
                    promised: narrow(promised)?,
                    claimed: narrow(claimed)?,
                });
            }
            if (len as u64) < PAGE_MAX || quotas.len() >= QUOTAS_READ_MAX {
                return Ok(quotas);
            }
        }
    }

    /// A page of the pools that a funder opened, in the order of their opening.
    ///
    /// # Errors
    /// As above.
    pub async fn pools_of(
        &self,
        contract: ContractAddress,
        funder: ContractAddress,
        start: u64,
    ) -> Result<Vec<PoolId>, ChainError> {
        let block = self.tip().await?;
        let calldata = vec![funder.felt(), start.into(), PAGE_MAX.into()];
        let ids = self.list::<1>(contract, "pool_ids_of", calldata, block);
        let ids = ids.await?.into_iter();
        Ok(ids.map(|[id]| PoolId::from_felt(id)).collect())
    }

    /// What accrued to somebody in a token and was not paid out.
    ///
    /// # Errors
    /// As above.
    pub async fn accrued(
        &self,
        contract: ContractAddress,
        owner: ContractAddress,
        token: ContractAddress,
    ) -> Result<u128, ChainError> {
        let block = self.tip().await?;
        let calldata = vec![owner.felt(), token.felt()];
        let [low, high] = self.view(contract, "accrued", calldata, block.hash).await?;
        amount(low, high)
    }

    /// What is held of a token for promised claims, and accrued to anybody.
    ///
    /// # Errors
    /// As above.
    pub async fn owed(
        &self,
        contract: ContractAddress,
        token: ContractAddress,
    ) -> Result<u128, ChainError> {
        let block = self.tip().await?;
        let calldata = vec![token.felt()];
        let [low, high] = self.view(contract, "owed", calldata, block.hash).await?;
        amount(low, high)
    }

    /// What a party ever moved in a token.
    ///
    /// # Errors
    /// As above.
    pub async fn totals(
        &self,
        contract: ContractAddress,
        party: ContractAddress,
        token: ContractAddress,
    ) -> Result<Totals, ChainError> {
        let block = self.tip().await?;
        let calldata = vec![party.felt(), token.felt()];
        let felts = self.view(contract, "totals", calldata, block.hash).await?;
        let [in_low, in_high, back_low, back_high, out_low, out_high] = felts;
        Ok(Totals {
            deposited: amount(in_low, in_high)?,
            refunded: amount(back_low, back_high)?,
            withdrawn: amount(out_low, out_high)?,
        })
    }

    /// How much of a token somebody has, by the token's own account.
    ///
    /// # Errors
    /// As above.
    pub async fn balance(
        &self,
        token: ContractAddress,
        owner: ContractAddress,
    ) -> Result<u128, ChainError> {
        let block = self.tip().await?;
        let calldata = vec![owner.felt()];
        let [low, high] = self.view(token, "balance_of", calldata, block.hash).await?;
        amount(low, high)
    }

    /// Calls a view that answers a list of entries of `N` felts.
    async fn list<const N: usize>(
        &self,
        contract: ContractAddress,
        name: &'static str,
        calldata: Vec<Felt>,
        block: BlockAt,
    ) -> Result<Vec<[Felt; N]>, ChainError> {
        let answer = self.call(contract, name, calldata, block.hash).await?;
        let wrong = || malformed(format!("{name} gives a list of entries of {N} values"));
        let (len, entries) = answer.split_first().ok_or_else(wrong)?;
        let (entries, rest) = entries.as_chunks::<N>();
        if *len != Felt::from(entries.len()) || !rest.is_empty() || entries.len() as u64 > PAGE_MAX
        {
            return Err(wrong());
        }
        Ok(entries.to_vec())
    }
}

pub(super) fn amount(low: Felt, high: Felt) -> Result<u128, ChainError> {
    if high != Felt::ZERO {
        return Err(malformed("an amount is below 2^128".into()));
    }
    narrow(low)
}

/// A number that has to fit its type.
pub(super) fn narrow<T: TryFrom<Felt>>(value: Felt) -> Result<T, ChainError> {
    T::try_from(value).map_err(|_| {
        let bits = 8 * size_of::<T>();
        malformed(format!("a number of {bits} bits was expected"))
    })
}

pub(super) fn malformed(detail: String) -> ChainError {
    ChainError::Malformed {
        method: "starknet_call",
        detail,
    }
}
