//! Repairs the one word that a 32-bit build of the Cairo compiler writes wrongly.
//!
//! Sierra marks a branch that falls through with the largest `usize`. The WebAssembly build of the
//! compiler has 32 bits there and writes 2^32-1, where every other compiler writes and reads
//! 2^64-1. A felt program begins with six words of versions and a dictionary of the distinct words
//! that follow in packed form, so that the mark stands in the program exactly once.
//!
//! The same dictionary word would also serve a constant of 2^32-1 in the source, which the repair
//! would then change to 2^64-1. So the repaired program is decoded, and refused if any constant of
//! it is 2^64-1.

use anyhow::{Context, bail, ensure};
use cairo_lang_sierra::program::{GenericArg, Program};
use cairo_lang_starknet_classes::contract_class::ContractClass;
use num_bigint::{BigInt, BigUint};

/// The mark as 32-bit compilers write it.
const MARK_32: u64 = u32::MAX as u64;
/// The mark as it has to be.
const MARK_64: u64 = u64::MAX;
/// Words before the dictionary's length: the versions of Sierra and of the compiler.
const VERSION_WORDS: usize = 6;
/// Words before the dictionary: the versions, its length, and its padding.
const HEADER_WORDS: usize = VERSION_WORDS + 2;

/// Gives fall-through branches the mark that 64-bit compilers expect.
///
/// A program that has that mark already is left as it is: it comes from a 64-bit compiler, where
/// 2^32-1 is nothing but a number.
///
/// # Errors
/// A program whose dictionary is malformed, or in which the repair changed a constant.
pub fn branch_targets(class: &mut ContractClass) -> anyhow::Result<()> {
    let words = &mut class.sierra_program;
    let length = words
        .get(VERSION_WORDS)
        .context("the program has no dictionary")?;
    let length = usize::try_from(&length.value)?;
    let end = HEADER_WORDS
        .checked_add(length)
        .context("the dictionary has no end")?;
    let dictionary = words
        .get_mut(HEADER_WORDS..end)
        .context("the dictionary is cut off")?;

    let (old, new) = (BigUint::from(MARK_32), BigUint::from(MARK_64));
    if dictionary.iter().any(|word| word.value == new) {
        return Ok(());
    }
    let Some(mark) = dictionary.iter_mut().find(|word| word.value == old) else {
        return Ok(());
    };
    mark.value = new;
    let repaired = class.extract_sierra_program(false)?;
    refuse_changed_constants(&repaired.program)
}

fn refuse_changed_constants(program: &Program) -> anyhow::Result<()> {
    let types = program
        .type_declarations
        .iter()
        .map(|ty| &ty.long_id.generic_args);
    let libfuncs = program
        .libfunc_declarations
        .iter()
        .map(|libfunc| &libfunc.long_id.generic_args);
    let mark = BigInt::from(MARK_64);
    for arg in types.chain(libfuncs).flatten() {
        ensure!(
            !matches!(arg, GenericArg::Value(value) if *value == mark),
            "a constant of the source is 2^32-1 or 2^64-1; this compiler cannot tell it from a \
             branch: write it another way, or compile with Scarb",
        );
    }
    if program.statements.is_empty() {
        bail!("the program has no statements");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairo_lang_sierra::ProgramParser;
    use cairo_lang_starknet_classes::contract_class::ContractEntryPoints;

    use super::*;

    /// A program with a branch and the constant `constant`, as a 64-bit compiler writes it.
    fn class(constant: u64) -> ContractClass {
        let source = format!(
            "type [0] = felt252;
             type [1] = NonZero<[0]>;
             libfunc [0] = felt252_is_zero;
             libfunc [1] = felt252_const<{constant}>;
             [0]([0]) {{ fallthrough() 1([1]) }};
             [1]() -> ([2]);
             return([2]);
             [0]@0([0]: [0]) -> ([0]);"
        );
        let program = ProgramParser::new().parse(&source).expect("a program");
        ContractClass::new(
            &program,
            ContractEntryPoints::default(),
            None,
            Default::default(),
        )
        .expect("felts")
    }

    /// The same class as a 32-bit compiler writes it.
    fn by_32_bits(mut class: ContractClass) -> ContractClass {
        for word in &mut class.sierra_program {
            if word.value == BigUint::from(MARK_64) {
                word.value = BigUint::from(MARK_32);
            }
        }
        class
    }

    #[test]
    fn the_mark_of_a_32_bit_compiler_becomes_that_of_64() {
        let expected = class(7);
        let mut repaired = by_32_bits(expected.clone());
        assert_ne!(repaired.sierra_program, expected.sierra_program);
        branch_targets(&mut repaired).expect("a repair");
        assert_eq!(repaired.sierra_program, expected.sierra_program);
    }

    #[test]
    fn a_constant_that_looks_like_the_mark_is_refused() {
        let mut ambiguous = by_32_bits(class(MARK_64));
        let error = branch_targets(&mut ambiguous).expect_err("a changed constant");
        assert!(
            error.to_string().contains("a constant of the source"),
            "{error}"
        );
    }

    #[test]
    fn a_64_bit_program_is_left_alone_whatever_its_constants() {
        for constant in [7, MARK_32, MARK_64] {
            let expected = class(constant);
            let mut same = expected.clone();
            branch_targets(&mut same).expect("nothing to repair");
            assert_eq!(same.sierra_program, expected.sierra_program);
        }
    }

    #[test]
    fn a_cut_off_program_is_refused() {
        let mut class = class(7);
        class.sierra_program.truncate(HEADER_WORDS + 1);
        assert!(branch_targets(&mut class).is_err());
        class.sierra_program.truncate(VERSION_WORDS);
        assert!(branch_targets(&mut class).is_err());
    }
}
