//! A deployed registry, and a consent that a patient signed for it.

use starknet::ContractAddress;
use starknet::syscalls::deploy_syscall;
use starknet::testing::{set_block_timestamp, set_chain_id, set_contract_address};
use crate::hashes::{
    consent_commitment, grant_message, revocation_handle, secret_hash, signed_leaf,
};
use crate::interface::{IConsentRegistryDispatcher, IConsentRegistryDispatcherTrait};
use crate::registry::ConsentRegistry;
use crate::tests::signer::{public_key, sign};
use crate::tree::node;
use crate::types::{Deployment, Opening, Proof, Signature, Verdict};

pub const CHAIN_ID: felt252 = 'SN_TEST';
/// The block time at which `deploy` leaves the clock, and at which samples are anchored.
pub const ANCHORED_AT: u64 = 5000;
pub const PATIENT_SECRET_KEY: felt252 = 0x70a71e47;
pub const SECRET: felt252 = 'secret';
pub const CLAIM_KEY: felt252 = 'claim key';
/// The other leaf of the sample's batch.
pub const NEIGHBOUR: felt252 = 'neighbour';
pub const TERMS_SHA256: u256 = 0xf1d0ddb6db20d5b93a7271e0984f504cb40c23a3c86a200438780355a9c2f777;

pub fn custodian() -> ContractAddress {
    'custodian'.try_into().unwrap()
}

pub fn another_custodian() -> ContractAddress {
    'another custodian'.try_into().unwrap()
}

/// Deploys a registry at block time `ANCHORED_AT`; calls come from `custodian()`.
pub fn deploy() -> IConsentRegistryDispatcher {
    set_chain_id(CHAIN_ID);
    set_block_timestamp(ANCHORED_AT);
    let class_hash = ConsentRegistry::TEST_CLASS_HASH.try_into().unwrap();
    let (contract_address, _) = deploy_syscall(class_hash, 0, [].span(), false).unwrap();
    set_contract_address(custodian());
    IConsentRegistryDispatcher { contract_address }
}

/// What a receipt holds, so that a test can change any part of it.
#[derive(Copy, Drop)]
pub struct Sample {
    pub registry: IConsentRegistryDispatcher,
    pub anchorer: ContractAddress,
    pub root: felt252,
    pub terms_sha256: u256,
    pub opening: Opening,
    pub signature: Signature,
    pub proof: Proof,
}

#[generate_trait]
pub impl SampleImpl of SampleTrait {
    fn verdict_at(self: Sample, at: u64) -> Verdict {
        self
            .registry
            .verify_consent(
                self.anchorer,
                self.root,
                self.terms_sha256.high,
                self.terms_sha256.low,
                self.opening,
                self.signature,
                self.proof,
                at,
            )
    }
}

pub fn opening(not_before: u64, not_after: u64) -> Opening {
    Opening {
        patient_key: public_key(PATIENT_SECRET_KEY),
        grantee: 'grantee',
        not_before,
        not_after,
        handle: revocation_handle(secret_hash(SECRET), CLAIM_KEY),
        salt: 'salt',
    }
}

/// A consent that was signed for `registry` but not anchored, as the right leaf of two.
pub fn signed_consent(registry: IConsentRegistryDispatcher, opening: Opening) -> Sample {
    let anchorer = custodian();
    let commitment = consent_commitment(TERMS_SHA256, anchorer.into(), opening);
    let deployment = Deployment {
        chain_id: CHAIN_ID, registry: registry.contract_address.into(),
    };
    let signature = sign(grant_message(deployment, commitment), PATIENT_SECRET_KEY);
    let root = node(NEIGHBOUR, signed_leaf(commitment, signature));
    let proof = Proof { index: 1, siblings: [NEIGHBOUR].span() };
    Sample {
        registry, anchorer, root, terms_sha256: TERMS_SHA256, opening, signature, proof,
    }
}

/// A consent in force over [not_before, not_after), anchored at `ANCHORED_AT`. The clock then
/// moves to `block_time`.
pub fn anchored_consent(not_before: u64, not_after: u64, block_time: u64) -> Sample {
    let registry = deploy();
    let sample = signed_consent(registry, opening(not_before, not_after));
    registry.anchor(0, sample.root, 2);
    set_block_timestamp(block_time);
    sample
}
