//! The compiled contracts, and the hashes under which they are tracked.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ClassHash;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use starknet::core::types::FlattenedSierraClass;
use starknet::core::types::contract::SierraClass;

use crate::chain::ChainError;

/// A contract of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// `ConsentRegistry`.
    Registry,
    /// `RewardPool`.
    RewardPool,
}

impl Contract {
    /// The class that was reviewed, as the build of the contracts recorded it.
    fn tracked_text(self) -> &'static str {
        match self {
            Self::Registry => {
                include_str!("../../../../contracts/artifacts/consent_registry.json")
            }
            Self::RewardPool => include_str!("../../../../contracts/artifacts/reward_pool.json"),
        }
    }

    /// What the build of the contracts calls its class.
    fn class_file(self) -> &'static str {
        match self {
            Self::Registry => "consent_registry.json",
            Self::RewardPool => "reward_pool.json",
        }
    }
}

/// Starknet itself takes no class of more than 4 MB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A class that is ready to be declared, and is the tracked one.
#[derive(Clone, Debug)]
pub struct Artifact {
    class: Arc<FlattenedSierraClass>,
    tracked: Tracked,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Tracked {
    class_hash: ClassHash,
    compiled_class_hash: ClassHash,
}

impl Artifact {
    /// Reads a contract's class from the folder into which the contracts were built.
    ///
    /// # Errors
    /// [`ChainError::Artifacts`] if it is absent, malformed or not the tracked class.
    pub fn read(folder: &Path, contract: Contract) -> Result<Self, ChainError> {
        let path = folder.join(contract.class_file());
        let wrong = |detail: &dyn std::fmt::Display| {
            ChainError::Artifacts(format!("{}: {detail}", path.display()))
        };
        let tracked = Self::tracked(contract)?;
        let class: SierraClass = read_json(&path)?;
        let class = class.flatten().map_err(|error| wrong(&error))?;
        let found = ClassHash::from_felt(class.class_hash());
        if found != tracked.class_hash {
            return Err(wrong(&format!(
                "it is class {found}, tracked is {}; build the contracts again",
                tracked.class_hash
            )));
        }
        Ok(Self {
            class: Arc::new(class),
            tracked,
        })
    }

    /// The hash of the class that this program was built for.
    ///
    /// # Errors
    /// [`ChainError::Artifacts`] if the build recorded none.
    pub fn tracked_class(contract: Contract) -> Result<ClassHash, ChainError> {
        Ok(Self::tracked(contract)?.class_hash)
    }

    /// The hash of the class.
    #[must_use]
    pub fn class_hash(&self) -> ClassHash {
        self.tracked.class_hash
    }

    pub(super) fn compiled_class_hash(&self) -> Felt {
        self.tracked.compiled_class_hash.felt()
    }

    pub(super) fn class(&self) -> Arc<FlattenedSierraClass> {
        Arc::clone(&self.class)
    }

    fn tracked(contract: Contract) -> Result<Tracked, ChainError> {
        serde_json::from_str(contract.tracked_text())
            .map_err(|error| ChainError::Artifacts(format!("the tracked hashes: {error}")))
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ChainError> {
    let wrong = |error: &dyn std::fmt::Display| {
        ChainError::Artifacts(format!("{}: {error}", path.display()))
    };
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let mut bytes = Vec::new();
    let mut file = file.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes)
        .map_err(|error| wrong(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(&format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_is_not_the_tracked_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("consent_registry.json");
        let error = Artifact::read(folder.path(), Contract::Registry)
            .expect_err("absent")
            .to_string();
        assert!(error.contains("consent_registry.json"), "{error}");
        std::fs::write(&path, "{}").expect("written");
        assert!(Artifact::read(folder.path(), Contract::Registry).is_err());
        let class = r#"{
            "sierra_program": ["0x1"],
            "sierra_program_debug_info": {
                "type_names": [], "libfunc_names": [], "user_func_names": []
            },
            "contract_class_version": "0.1.0",
            "entry_points_by_type": {"CONSTRUCTOR": [], "EXTERNAL": [], "L1_HANDLER": []},
            "abi": []
        }"#;
        std::fs::write(&path, class).expect("written");
        let error = Artifact::read(folder.path(), Contract::Registry)
            .expect_err("another class")
            .to_string();
        assert!(error.contains("tracked is"), "{error}");
    }
}
