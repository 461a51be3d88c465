//! What a receipt says, for the page to show. Nothing in here was checked against a chain.

use medsync_protocol::consent::{Commitment, Opening, Registry};
use medsync_protocol::ids::Anchorer;
use medsync_protocol::receipt::{Block, StageTime};
use medsync_protocol::terms::Terms;
use medsync_protocol::tree::Root;
use medsync_protocol::verifier::Offline;
use serde::Serialize;

/// A receipt as the page shows it.
#[derive(Serialize)]
pub(crate) struct View<'a> {
    commitment: Commitment,
    registry: Registry,
    anchorer: Anchorer,
    terms: &'a Terms,
    opening: &'a Opening,
    root: Root,
    block: Block,
    stages: &'a [StageTime],
}

impl<'a> View<'a> {
    pub(crate) fn of(offline: &'a Offline) -> Self {
        let receipt = offline.receipt();
        Self {
            commitment: offline.commitment,
            registry: receipt.registry,
            anchorer: receipt.anchorer,
            terms: &receipt.terms,
            opening: &receipt.opening,
            root: receipt.root,
            block: receipt.block,
            stages: &receipt.stages,
        }
    }
}
