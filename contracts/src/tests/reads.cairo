use starknet::testing::set_block_timestamp;
use crate::hashes::{revocation_handle, secret_hash};
use crate::interface::IConsentRegistryDispatcherTrait;
use crate::tests::setup::{ANCHORED_AT, CLAIM_KEY, SECRET, another_custodian, custodian, deploy};
use crate::types::ReceiptTimes;

#[test]
fn a_receipt_that_the_chain_does_not_know_has_no_times() {
    let registry = deploy();
    assert_eq!(
        registry.receipt_times(custodian(), 'root', 'handle'),
        ReceiptTimes { anchored_at: 0, revoked_at: 0, block_time: ANCHORED_AT },
    );
}

#[test]
fn a_receipt_is_read_in_one_call() {
    let registry = deploy();
    let handle = revocation_handle(secret_hash(SECRET), CLAIM_KEY);
    registry.anchor(0, 'root', 16);
    set_block_timestamp(ANCHORED_AT + 60);
    registry.revoke(SECRET, CLAIM_KEY);
    set_block_timestamp(ANCHORED_AT + 90);
    let revoked_at = ANCHORED_AT + 60;
    let block_time = ANCHORED_AT + 90;
    assert_eq!(
        registry.receipt_times(custodian(), 'root', handle),
        ReceiptTimes { anchored_at: ANCHORED_AT, revoked_at, block_time },
    );
    // A revocation is no anchorer's, an anchored root is.
    assert_eq!(
        registry.receipt_times(another_custodian(), 'root', handle),
        ReceiptTimes { anchored_at: 0, revoked_at, block_time },
    );
}
