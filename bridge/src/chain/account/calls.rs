//! Calls of the registry as Starknet takes them: an address, a selector, felts.

use medsync_protocol::felt::Felt;
use starknet::core::types::Call as StarknetCall;

use crate::chain::rpc::selector;
use crate::chain::{Call, ChainError, REVOCATIONS_MAX};

impl Call {
    pub(super) fn to_starknet(&self) -> Result<StarknetCall, ChainError> {
        match self {
            Self::Anchor {
                registry,
                expected_head,
                root,
                leaf_count,
            } => Ok(StarknetCall {
                to: registry.felt(),
                selector: selector("anchor"),
                calldata: vec![expected_head.felt(), root.felt(), leaf_count.0.into()],
            }),
            Self::Revoke { registry, openings } => {
                let count = openings.len();
                let pairs = openings.iter();
                let pairs = pairs.flat_map(|(secret, key)| [secret.reveal(), key.felt()]);
                let (name, calldata) = match count {
                    1 => ("revoke", pairs.collect()),
                    2..=REVOCATIONS_MAX => {
                        let count = std::iter::once(Felt::from(count));
                        ("revoke_many", count.chain(pairs).collect())
                    }
                    _ => {
                        return Err(ChainError::Openings {
                            count,
                            max: REVOCATIONS_MAX,
                        });
                    }
                };
                Ok(StarknetCall {
                    to: registry.felt(),
                    selector: selector(name),
                    calldata,
                })
            }
        }
    }
}
