//! From compiled Sierra to a contract class that can be declared, and its tracked summary.
//!
//! The invariant: what is written compiles to CASM under the compiler that Starknet's nodes use,
//! and no constant of the source was changed on the way. Nothing here knows what a contract does.

mod repair;
mod summary;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use cairo_lang_starknet_classes::allowed_libfuncs::ListSelector;
use cairo_lang_starknet_classes::casm_contract_class::CasmContractClass;
use cairo_lang_starknet_classes::contract_class::ContractClass;
use starknet::core::types::contract::SierraClass;

use self::summary::Summary;

/// The contracts, by the names of their artifacts.
const CONTRACTS: [&str; 2] = ["consent_registry", "reward_pool"];
/// What tests deploy on a devnet beside them; git keeps no summary of it.
const DOUBLES: [&str; 1] = ["token_double"];

/// The most felts of CASM that Starknet takes in one class (its published limits).
const CASM_FELTS_MAX: usize = 81_920;
/// The most bytes of a declared class, as JSON (the same source).
const CLASS_BYTES_MAX: usize = 4_089_446;

/// Arguments of `cargo xtask contracts`.
#[derive(clap::Args)]
pub struct Contracts {
    /// Compare with the tracked summaries instead of writing them, and fail if they differ.
    #[arg(long)]
    check: bool,
}

impl Contracts {
    /// Builds every contract's class and writes, or checks, its summary.
    ///
    /// # Errors
    /// A missing or malformed input, a class that Starknet would refuse, a summary that differs.
    pub fn run(&self) -> anyhow::Result<()> {
        let top = checkout()?;
        for name in CONTRACTS {
            let paths = Paths::of(&top, name);
            let summary = build(&paths).with_context(|| format!("contract {name}"))?;
            if self.check {
                summary.check(&paths.summary)?;
                println!("{name}: class {}, as tracked", summary.class_hash);
            } else {
                summary.write(&paths.summary)?;
                println!("{name}: class {}, {}", summary.class_hash, summary.sizes);
            }
        }
        for name in DOUBLES {
            let paths = Paths::of_double(&top, name);
            let summary = build(&paths).with_context(|| format!("double {name}"))?;
            summary.write(&paths.summary)?;
        }
        Ok(())
    }
}

/// The checkout that this is run in. Not the one that this program was built in: checkouts may
/// share a build folder, and then the program too.
fn checkout() -> anyhow::Result<PathBuf> {
    let here = env::current_dir()?;
    here.ancestors()
        .find(|folder| folder.join("contracts/Scarb.toml").is_file())
        .map(Path::to_owned)
        .with_context(|| format!("{} is in no checkout of MedSync", here.display()))
}

/// Where one contract's files are.
struct Paths {
    /// As the Cairo compiler wrote it.
    raw: PathBuf,
    /// As it is declared.
    class: PathBuf,
    /// Its hashes and sizes; git keeps those of what is deployed.
    summary: PathBuf,
}

impl Paths {
    fn of(top: &Path, name: &str) -> Self {
        let built = top.join("target/contracts");
        Self {
            raw: built.join(format!("{name}.sierra.raw.json")),
            class: built.join(format!("{name}.json")),
            summary: top.join(format!("contracts/artifacts/{name}.json")),
        }
    }

    fn of_double(top: &Path, name: &str) -> Self {
        let summary = top.join(format!("target/contracts/{name}.summary.json"));
        Self {
            summary,
            ..Self::of(top, name)
        }
    }
}

/// Writes the declarable class and returns its summary.
fn build(paths: &Paths) -> anyhow::Result<Summary> {
    let raw = fs::read_to_string(&paths.raw)
        .with_context(|| format!("{}: run scripts/build-contracts", paths.raw.display()))?;
    let mut class: ContractClass = serde_json::from_str(&raw)?;
    repair::branch_targets(&mut class)?;
    // Names are not part of the class: without them, it is the same on every machine.
    class.sierra_program_debug_info = Some(Default::default());

    let casm = compile(class.clone())?;
    let sierra: SierraClass = serde_json::from_value(serde_json::to_value(&class)?)?;
    let text = serde_json::to_string(&sierra)?;
    ensure!(
        text.len() <= CLASS_BYTES_MAX,
        "the class has {} bytes",
        text.len()
    );
    fs::write(&paths.class, &text)?;
    Summary::new(&sierra, &class, &casm, text.len())
}

/// Compiles to CASM, as the network does when the class is declared.
fn compile(class: ContractClass) -> anyhow::Result<CasmContractClass> {
    let program = class.extract_sierra_program(false)?;
    // The default list is the one that public networks accept.
    program.validate_version_compatible(ListSelector::DefaultList)?;
    let casm = CasmContractClass::from_contract_class(class, program, false, CASM_FELTS_MAX)?;
    if casm.bytecode.is_empty() {
        bail!("the class has no code");
    }
    Ok(casm)
}
