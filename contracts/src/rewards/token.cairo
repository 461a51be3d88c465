//! Calls of a token that nobody here has read: it may answer false, nothing or nonsense.
//!
//! What a token says of itself is believed for its own accounts alone, which the pool keeps apart.

use starknet::{ContractAddress, SyscallResultTrait};
use starknet::syscalls::call_contract_syscall;
use super::errors;

/// The balance of `owner`.
pub fn balance_of(token: ContractAddress, owner: ContractAddress) -> u256 {
    let calldata = array![owner.into()];
    let mut answer = call(token, selector!("balance_of"), calldata);
    let balance = Serde::<u256>::deserialize(ref answer).expect(errors::TOKEN_ANSWER);
    assert(answer.is_empty(), errors::TOKEN_ANSWER);
    balance
}

/// Takes `amount` from `owner`, who allowed it, into the account of `to`.
pub fn transfer_from(
    token: ContractAddress, owner: ContractAddress, to: ContractAddress, amount: u256,
) {
    let mut calldata = array![owner.into(), to.into()];
    amount.serialize(ref calldata);
    check_transferred(call(token, selector!("transfer_from"), calldata));
}

/// Pays `amount` from the caller's account into that of `to`.
pub fn transfer(token: ContractAddress, to: ContractAddress, amount: u256) {
    let mut calldata = array![to.into()];
    amount.serialize(ref calldata);
    check_transferred(call(token, selector!("transfer"), calldata));
}

fn call(
    token: ContractAddress, selector: felt252, calldata: Array<felt252>,
) -> Span<felt252> {
    // A token that reverts says why itself.
    call_contract_syscall(token, selector, calldata.span()).unwrap_syscall()
}

/// A token that answers nothing reverts where it does not transfer; others answer true.
fn check_transferred(answer: Span<felt252>) {
    if answer.is_empty() {
        return;
    }
    assert(answer.len() == 1, errors::TOKEN_ANSWER);
    assert(*answer[0] == 1, errors::TOKEN_REFUSED);
}
