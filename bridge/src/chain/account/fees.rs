//! What a transaction may cost: the estimate with a margin, under a cap.

use starknet::core::types::FeeEstimate;

use crate::chain::{ChainError, FeeBounds, Fri, Gas, GasBound};

/// How much an account pays for its transactions.
#[derive(Clone, Copy, Debug)]
pub struct FeePolicy {
    /// What is added to every estimated amount and price, in percent of it.
    pub margin_percent: u32,
    /// The most that one transaction may cost.
    pub cap: Fri,
}

impl Default for FeePolicy {
    /// Half as much again as estimated, and at most 10 STRK.
    fn default() -> Self {
        Self {
            margin_percent: 50,
            cap: Fri(10_000_000_000_000_000_000),
        }
    }
}

impl FeePolicy {
    pub(super) fn bounds(&self, estimate: &FeeEstimate) -> Result<FeeBounds, ChainError> {
        let bound = |amount: u64, price: u128| {
            let amount = self.with_margin(amount.into())?;
            Ok(GasBound {
                amount: Gas(u64::try_from(amount)
                    .map_err(|_| ChainError::FeeOutOfRange("an amount of gas"))?),
                price: Fri(self.with_margin(price)?),
            })
        };
        Ok(FeeBounds {
            l2_gas: bound(estimate.l2_gas_consumed, estimate.l2_gas_price)?,
            l1_data_gas: bound(estimate.l1_data_gas_consumed, estimate.l1_data_gas_price)?,
            l1_gas: bound(estimate.l1_gas_consumed, estimate.l1_gas_price)?,
        })
    }

    fn with_margin(&self, value: u128) -> Result<u128, ChainError> {
        let margin = value.checked_mul(self.margin_percent.into());
        margin
            .and_then(|margin| value.checked_add(margin.div_ceil(100)))
            .ok_or(ChainError::FeeOutOfRange("an amount or a price"))
    }
}

/// By how much each price is raised for a transaction in the place of another, in percent: a
/// sequencer passes over what offers hardly more.
const RAISE_PERCENT: u128 = 25;

impl FeeBounds {
    /// These bounds, or more where those of a transaction whose place they take ask for it.
    pub(super) fn raised_above(self, stuck: Self) -> Result<Self, ChainError> {
        let raised = |ours: GasBound, theirs: GasBound| {
            let price = theirs.price.0.checked_mul(100 + RAISE_PERCENT);
            let price = price.ok_or(ChainError::FeeOutOfRange("a raised price"))?;
            Ok(GasBound {
                amount: ours.amount.max(theirs.amount),
                price: ours.price.max(Fri(price.div_ceil(100))),
            })
        };
        Ok(Self {
            l2_gas: raised(self.l2_gas, stuck.l2_gas)?,
            l1_data_gas: raised(self.l1_data_gas, stuck.l1_data_gas)?,
            l1_gas: raised(self.l1_gas, stuck.l1_gas)?,
        })
    }

    /// What the transaction costs if it uses everything that it may.
    ///
    /// # Errors
    /// [`ChainError::FeeOutOfRange`] if that is no number below 2^128.
    pub fn total(&self) -> Result<Fri, ChainError> {
        let bounds = [self.l2_gas, self.l1_data_gas, self.l1_gas];
        bounds
            .iter()
            .try_fold(0u128, |sum, bound| {
                sum.checked_add(bound.price.0.checked_mul(bound.amount.0.into())?)
            })
            .map(Fri)
            .ok_or(ChainError::FeeOutOfRange("the sum"))
    }
}
