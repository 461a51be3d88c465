//! The tracked summary of a contract: what a verifier pins and what a reviewer sees change.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use cairo_lang_starknet_classes::casm_contract_class::CasmContractClass;
use cairo_lang_starknet_classes::contract_class::{
    ContractClass, version_id_from_serialized_sierra_program,
};
use serde::{Deserialize, Serialize};
use starknet::core::types::contract::{AbiEntry, SierraClass};

/// What git keeps of a compiled contract. Hashes are felts in hex.
#[derive(Serialize)]
pub struct Summary {
    /// The Cairo compiler, which is part of the class: another version gives another hash.
    cairo_version: String,
    sierra_version: String,
    /// What a deployment is of, and what verifiers pin.
    pub class_hash: String,
    /// The hash of the CASM that a declaration names: Blake2s, as Starknet has it since 0.14.1.
    compiled_class_hash: String,
    /// How large the class is.
    pub sizes: Sizes,
    abi: Vec<AbiEntry>,
}

/// How large a class is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sizes {
    sierra_felts: usize,
    casm_felts: usize,
    class_bytes: usize,
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sierra_felts,
            casm_felts,
            class_bytes,
        } = self;
        write!(
            f,
            "{sierra_felts} Sierra felts, {casm_felts} CASM felts, {class_bytes} bytes"
        )
    }
}

/// The part of a summary that explains a difference.
#[derive(Deserialize)]
struct Tracked {
    cairo_version: String,
    class_hash: String,
}

impl Summary {
    /// The summary of `sierra`, which is `class` as it is declared.
    ///
    /// # Errors
    /// A class that cannot be hashed.
    pub fn new(
        sierra: &SierraClass,
        class: &ContractClass,
        casm: &CasmContractClass,
        class_bytes: usize,
    ) -> anyhow::Result<Self> {
        let versions = version_id_from_serialized_sierra_program(&class.sierra_program)?;
        let (sierra_version, cairo_version) = versions;
        Ok(Self {
            cairo_version: cairo_version.to_string(),
            sierra_version: sierra_version.to_string(),
            class_hash: format!("{:#x}", sierra.class_hash()?),
            compiled_class_hash: format!("{:#x}", casm.compiled_class_hash()),
            sizes: Sizes {
                sierra_felts: sierra.sierra_program.len(),
                casm_felts: casm.bytecode.len(),
                class_bytes,
            },
            abi: sierra.abi.clone(),
        })
    }

    /// Writes the tracked file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, self.text()?).with_context(|| path.display().to_string())
    }

    /// Compares with the tracked file.
    ///
    /// # Errors
    /// A file that is missing or differs.
    pub fn check(&self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        let tracked = fs::read_to_string(path).with_context(|| shown.to_string())?;
        if tracked == self.text()? {
            return Ok(());
        }
        let Tracked {
            cairo_version,
            class_hash,
        } = serde_json::from_str(&tracked)?;
        if cairo_version != self.cairo_version {
            bail!(
                "{shown} is of Cairo {cairo_version}, this build is of {}: compile with \
                 MEDSYNC_CAIRO_COMPILER=wasm to compare",
                self.cairo_version,
            );
        }
        bail!(
            "{shown} says class {class_hash}, the sources give {}: run scripts/build-contracts \
             and commit the file",
            self.class_hash,
        );
    }

    fn text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
