//! `ConsentRegistry`: the only part of the crate that reads or writes storage.
//!
//! Each entry of the three maps is a compare-and-swap or is written once: heads move only from
//! the value that the caller names, times go from 0 to a block's time and never change again.

/// The most revocations in one `revoke_many`, far inside what one transaction may cost.
pub const MAX_REVOCATIONS: u32 = 64;

#[starknet::contract]
pub mod ConsentRegistry {
    use starknet::storage::{Map, StorageMapReadAccess, StorageMapWriteAccess};
    use starknet::{ContractAddress, get_block_timestamp, get_execution_info};
    use crate::errors;
    use crate::hashes::{next_head, revocation_handle, secret_hash};
    use crate::interface::IConsentRegistry;
    use crate::types::{
        Deployment, Opening, Proof, ReceiptTimes, Revocation, Signature, Verdict,
    };
    use crate::verdict::{Receipt, verdict_at};
    use super::MAX_REVOCATIONS;

    #[storage]
    struct Storage {
        /// The head of each anchorer's chain of batches.
        heads: Map<ContractAddress, felt252>,
        /// When an anchorer anchored a root, 0 if never.
        anchored: Map<(ContractAddress, felt252), u64>,
        /// When a handle was first opened, 0 if never. Not an anchorer's: a revocation counts
        /// wherever its consent was anchored, before or after it.
        revoked: Map<felt252, u64>,
    }

    #[event]
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub enum Event {
        BatchAnchored: BatchAnchored,
        ConsentRevoked: ConsentRevoked,
    }

    /// Emitted when a batch is anchored. A custodian filters by its address, a patient's client
    /// by the roots of the proofs that it holds.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct BatchAnchored {
        #[key]
        pub anchorer: ContractAddress,
        #[key]
        pub root: felt252,
        /// The anchorer's head after this batch.
        pub head: felt252,
        pub leaf_count: u64,
        /// The block's time, as `anchored_at` returns it from now on.
        pub anchored_at: u64,
    }

    /// Emitted when a handle is opened for the first time. The opening itself is in the
    /// transaction's calldata; the event carries no more than a client needs to filter.
    #[derive(Drop, PartialEq, Debug, starknet::Event)]
    pub struct ConsentRevoked {
        #[key]
        pub handle: felt252,
        /// The block's time, as `revoked_at` returns it from now on.
        pub revoked_at: u64,
    }

    #[abi(embed_v0)]
    impl ConsentRegistryImpl of IConsentRegistry<ContractState> {
        fn anchor(
            ref self: ContractState, expected_head: felt252, root: felt252, leaf_count: u64,
        ) {
            // One system call gives both the caller and the time.
            let execution = get_execution_info().unbox();
            let anchorer = execution.caller_address;
            let now = execution.block_info.unbox().block_timestamp;
            assert(anchorer != 0.try_into().unwrap(), errors::CALLER_ZERO);
            assert(root != 0, errors::ROOT_ZERO);
            assert(leaf_count != 0, errors::LEAF_COUNT_ZERO);
            assert(now != 0, errors::BLOCK_TIME_ZERO);
            assert(self.heads.read(anchorer) == expected_head, errors::HEAD_MISMATCH);
            let unanchored = self.anchored.read((anchorer, root)) == 0;
            assert(unanchored, errors::ROOT_ALREADY_ANCHORED);

            let head = next_head(expected_head, root, leaf_count);
            self.heads.write(anchorer, head);
            self.anchored.write((anchorer, root), now);
            self.emit(BatchAnchored { anchorer, root, head, leaf_count, anchored_at: now });
        }

        fn revoke(ref self: ContractState, secret: felt252, claim_key: felt252) {
            self.open_handle(Revocation { secret, claim_key }, recordable_time());
        }

        fn revoke_many(ref self: ContractState, revocations: Span<Revocation>) {
            assert(!revocations.is_empty(), errors::REVOCATIONS_EMPTY);
            assert(revocations.len() <= MAX_REVOCATIONS, errors::REVOCATIONS_TOO_MANY);
            let now = recordable_time();
            for revocation in revocations {
                self.open_handle(*revocation, now);
            };
        }

        fn head_of(self: @ContractState, anchorer: ContractAddress) -> felt252 {
            self.heads.read(anchorer)
        }

        fn anchored_at(self: @ContractState, anchorer: ContractAddress, root: felt252) -> u64 {
            self.anchored.read((anchorer, root))
        }

        fn revoked_at(self: @ContractState, handle: felt252) -> u64 {
            self.revoked.read(handle)
        }

        fn receipt_times(
            self: @ContractState, anchorer: ContractAddress, root: felt252, handle: felt252,
        ) -> ReceiptTimes {
            ReceiptTimes {
                anchored_at: self.anchored.read((anchorer, root)),
                revoked_at: self.revoked.read(handle),
                block_time: get_block_timestamp(),
            }
        }

        fn verify_consent(
            self: @ContractState,
            anchorer: ContractAddress,
            root: felt252,
            terms_hi: u128,
            terms_lo: u128,
            opening: Opening,
            signature: Signature,
            proof: Proof,
            at: u64,
        ) -> Verdict {
            let times = self.receipt_times(anchorer, root, opening.handle);
            assert(at <= times.block_time, errors::TIME_AHEAD_OF_BLOCK);
            let terms_sha256 = u256 { high: terms_hi, low: terms_lo };
            let anchorer: felt252 = anchorer.into();
            let receipt = Receipt { anchorer, root, terms_sha256, opening, signature, proof };
            verdict_at(this_deployment(), receipt, times, at)
        }
    }

    #[generate_trait]
    impl Revocations of RevocationsTrait {
        /// Records that a handle was opened, unless it was opened before: the first time is what
        /// verdicts go by, and a relay of an old opening must not move it.
        fn open_handle(ref self: ContractState, revocation: Revocation, now: u64) {
            let handle = revocation_handle(
                secret_hash(revocation.secret), revocation.claim_key,
            );
            if self.revoked.read(handle) == 0 {
                self.revoked.write(handle, now);
                self.emit(ConsentRevoked { handle, revoked_at: now });
            }
        }
    }

    /// The block's time, refused where storing it would read as "never".
    fn recordable_time() -> u64 {
        let now = get_block_timestamp();
        assert(now != 0, errors::BLOCK_TIME_ZERO);
        now
    }

    fn this_deployment() -> Deployment {
        let execution = get_execution_info().unbox();
        Deployment {
            chain_id: execution.tx_info.unbox().chain_id,
            registry: execution.contract_address.into(),
        }
    }
}
