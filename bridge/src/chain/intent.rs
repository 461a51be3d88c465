//! A prepared transaction as text, for whoever makes it durable before sending it.

use medsync_protocol::receipt::TransactionHash;
use serde::{Deserialize, Serialize};

use super::{AccountNonce, FeeBounds, Fri, Gas, GasBound, Prepared};

/// What the text looks like; a later version reads this one too.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u8,
    hash: TransactionHash,
    nonce: AccountNonce,
    l2_gas: WireBound,
    l1_data_gas: WireBound,
    l1_gas: WireBound,
    payload: String,
}

/// A price can be above what JSON's numbers hold everywhere, so that it is text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBound {
    amount: u64,
    price_fri: String,
}

impl From<GasBound> for WireBound {
    fn from(bound: GasBound) -> Self {
        Self {
            amount: bound.amount.0,
            price_fri: bound.price.0.to_string(),
        }
    }
}

impl WireBound {
    fn read(&self) -> Option<GasBound> {
        Some(GasBound {
            amount: Gas(self.amount),
            price: Fri(self.price_fri.parse().ok()?),
        })
    }
}

impl Prepared {
    /// The transaction as text. That of a revocation contains its secrets.
    #[must_use]
    pub fn to_intent(&self) -> String {
        let wire = Wire {
            version: 1,
            hash: self.hash,
            nonce: self.nonce,
            l2_gas: self.fees.l2_gas.into(),
            l1_data_gas: self.fees.l1_data_gas.into(),
            l1_gas: self.fees.l1_gas.into(),
            payload: self.payload.clone(),
        };
        // Unwrap safety: texts and numbers under fixed names always have a JSON form.
        serde_json::to_string(&wire).expect("plain data")
    }

    /// Reads what [`Prepared::to_intent`] wrote; nothing for any other text.
    #[must_use]
    pub fn from_intent(text: &str) -> Option<Self> {
        let wire: Wire = serde_json::from_str(text).ok()?;
        (wire.version == 1).then_some(())?;
        Some(Self {
            hash: wire.hash,
            nonce: wire.nonce,
            fees: FeeBounds {
                l2_gas: wire.l2_gas.read()?,
                l1_data_gas: wire.l1_data_gas.read()?,
                l1_gas: wire.l1_gas.read()?,
            },
            payload: wire.payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medsync_protocol::felt::Felt;

    fn prepared() -> Prepared {
        let bound = |amount, price| GasBound {
            amount: Gas(amount),
            price: Fri(price),
        };
        Prepared {
            hash: TransactionHash::from_felt(Felt::from(7)),
            nonce: AccountNonce(3),
            fees: FeeBounds {
                l2_gas: bound(u64::MAX, u128::MAX),
                l1_data_gas: bound(2, 3),
                l1_gas: bound(0, 5),
            },
            payload: r#"{"calldata":["0x1"]}"#.into(),
        }
    }

    #[test]
    fn an_intent_reads_back_as_it_was() {
        let prepared = prepared();
        assert_eq!(Prepared::from_intent(&prepared.to_intent()), Some(prepared));
    }

    #[test]
    fn what_is_no_intent_is_none() {
        let text = prepared().to_intent();
        let later = text.replace("\"version\":1", "\"version\":2");
        for text in ["", "{}", &text[1..], &text[..text.len() - 1], &later] {
            assert_eq!(Prepared::from_intent(text), None, "{text}");
        }
    }

    #[test]
    fn the_payload_is_never_printed() {
        assert!(!format!("{:?}", prepared()).contains("calldata"));
    }
}
