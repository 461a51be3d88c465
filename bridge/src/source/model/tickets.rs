//! Reward pools and tickets, as the custodian promises them to a patient.

use medsync_protocol::ids::{ChainId, ContractAddress, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::ticket::{PoolId, PoolNonce, Ticket};
use medsync_protocol::tree::{Proof, Root};

/// A reward pool; its name follows from what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The contract that holds it.
    pub contract: ContractAddress,
    /// Who funds it.
    pub funder: ContractAddress,
    /// The funder's number for it.
    pub nonce: PoolNonce,
    /// To which recipient a consent is rewarded.
    pub recipient: PublicKey,
    /// The first second at which nothing is claimed any more.
    pub claim_end: UnixSeconds,
    /// What the custodian calls it.
    pub label: String,
}

impl Pool {
    /// Its name on this chain.
    #[must_use]
    pub fn id(&self, chain_id: ChainId) -> PoolId {
        PoolId::of(chain_id, self.contract, self.funder, self.nonce)
    }
}

/// A ticket and its place in a batch; the path leads from its leaf to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedTicket {
    /// What is promised.
    pub ticket: Ticket,
    /// The batch's root.
    pub root: Root,
    /// The path.
    pub proof: Proof,
}

impl PlacedTicket {
    /// Whether the path leads from the ticket's leaf to the root.
    #[must_use]
    pub fn is_included(&self) -> bool {
        self.proof.includes(self.ticket.leaf(), self.root)
    }
}
