//! What stands in for a token in the tests of `RewardPool`, on a devnet: it does as it is told.

use starknet::ContractAddress;

/// An answer of as many felts as a token likes.
#[derive(Drop)]
pub struct Answer {
    pub felts: Span<felt252>,
}

pub impl AnswerSerde of Serde<Answer> {
    fn serialize(self: @Answer, ref output: Array<felt252>) {
        for felt in *self.felts {
            output.append(*felt);
        };
    }

    fn deserialize(ref serialized: Span<felt252>) -> Option<Answer> {
        let felts = serialized;
        serialized = [].span();
        Option::Some(Answer { felts })
    }
}

#[starknet::interface]
pub trait ITokenDouble<TState> {
    fn mint(ref self: TState, owner: ContractAddress, amount: u256);
    /// From now on it behaves so: see `TokenDouble`.
    fn behave(ref self: TState, manner: felt252);
    /// What it calls when it behaves as 'CALLS BACK', or when it is told to.
    fn call_back(
        ref self: TState, contract: ContractAddress, selector: felt252, calldata: Span<felt252>,
    );
    /// Makes that call now, as any account would.
    fn call_now(ref self: TState);
    fn approve(ref self: TState, spender: ContractAddress, amount: u256) -> bool;
    fn balance_of(self: @TState, owner: ContractAddress) -> Answer;
    fn transfer(ref self: TState, to: ContractAddress, amount: u256) -> Answer;
    fn transfer_from(
        ref self: TState, owner: ContractAddress, to: ContractAddress, amount: u256,
    ) -> Answer;
}

/// A token that takes from whoever it is told to, in the manner of:
///
/// - 0: an ERC-20.
/// - 'SAYS NOTHING': transfers, and answers nothing.
/// - 'SAYS NO': transfers nothing, and answers false.
/// - 'BABBLES': transfers, and answers two felts, and a balance of one.
/// - 'TAKES A FEE': a tenth of the amount reaches nobody.
/// - 'TAKES MORE': takes one unit more from the owner than the amount.
/// - 'LIES': transfers nothing, and answers true.
/// - 'ROBS': takes one unit from the receiver instead.
/// - 'CALLS BACK': calls a contract before it transfers.
#[starknet::contract]
pub mod TokenDouble {
    use starknet::storage::{
        Map, StorageMapReadAccess, StorageMapWriteAccess, StoragePointerReadAccess,
        StoragePointerWriteAccess,
    };
    use starknet::syscalls::call_contract_syscall;
    use starknet::{ContractAddress, SyscallResultTrait, get_caller_address};
    use super::Answer;

    #[storage]
    struct Storage {
        balances: Map<ContractAddress, u256>,
        manner: felt252,
        called: ContractAddress,
        selector: felt252,
        calldata: Map<u32, felt252>,
        calldata_len: u32,
    }

    #[abi(embed_v0)]
    impl TokenDoubleImpl of super::ITokenDouble<ContractState> {
        fn mint(ref self: ContractState, owner: ContractAddress, amount: u256) {
            self.balances.write(owner, self.balances.read(owner) + amount);
        }

        fn behave(ref self: ContractState, manner: felt252) {
            self.manner.write(manner);
        }

        fn call_back(
            ref self: ContractState,
            contract: ContractAddress,
            selector: felt252,
            calldata: Span<felt252>,
        ) {
            self.called.write(contract);
            self.selector.write(selector);
            self.calldata_len.write(calldata.len());
            for at in 0..calldata.len() {
                self.calldata.write(at, *calldata[at]);
            };
        }

        fn call_now(ref self: ContractState) {
            self.make_the_call();
        }

        fn approve(ref self: ContractState, spender: ContractAddress, amount: u256) -> bool {
            true
        }

        fn balance_of(self: @ContractState, owner: ContractAddress) -> Answer {
            let balance = self.balances.read(owner);
            let mut felts = array![balance.low.into()];
            if self.manner.read() != 'BABBLES' {
                felts.append(balance.high.into());
            }
            Answer { felts: felts.span() }
        }

        fn transfer(ref self: ContractState, to: ContractAddress, amount: u256) -> Answer {
            self.shift(get_caller_address(), to, amount)
        }

        fn transfer_from(
            ref self: ContractState, owner: ContractAddress, to: ContractAddress, amount: u256,
        ) -> Answer {
            self.shift(owner, to, amount)
        }
    }

    #[generate_trait]
    impl Moves of MovesTrait {
        fn shift(
            ref self: ContractState, owner: ContractAddress, to: ContractAddress, amount: u256,
        ) -> Answer {
            let manner = self.manner.read();
            if manner == 'SAYS NO' {
                return Answer { felts: [0].span() };
            }
            if manner == 'LIES' {
                return Answer { felts: [1].span() };
            }
            if manner == 'CALLS BACK' {
                self.make_the_call();
            }
            let mut taken = amount;
            let mut given = amount;
            if manner == 'TAKES A FEE' {
                given -= amount / 10;
            } else if manner == 'TAKES MORE' {
                taken += 1;
            }
            if manner == 'ROBS' {
                self.balances.write(to, self.balances.read(to) - 1);
                return Answer { felts: [1].span() };
            }
            self.balances.write(owner, self.balances.read(owner) - taken);
            self.balances.write(to, self.balances.read(to) + given);
            if manner == 'SAYS NOTHING' {
                return Answer { felts: [].span() };
            }
            if manner == 'BABBLES' {
                return Answer { felts: [1, 1].span() };
            }
            Answer { felts: [1].span() }
        }

        fn make_the_call(ref self: ContractState) {
            let mut calldata = array![];
            for at in 0..self.calldata_len.read() {
                calldata.append(self.calldata.read(at));
            };
            call_contract_syscall(self.called.read(), self.selector.read(), calldata.span())
                .unwrap_syscall();
        }
    }
}
