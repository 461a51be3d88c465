//! One party's configuration: `medsync.toml` in its home folder.
//!
//! Unknown keys are refused, so that a misspelt one is noticed. Secrets stand in files of their
//! own; the configuration names them. The environment overrides single keys: `MEDSYNC__CHAIN__RPC`
//! is `rpc` in `[chain]`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use medsync_protocol::consent::Registry;
use medsync_protocol::ids::{ChainId, ClassHash, ContractAddress};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::chain::{ChainError, RpcChain};
use crate::files::{self, FileError};

pub use api::{ApiConfig, StaffConfig, TlsConfig};
pub use verifier::{VerifierConfig, block_age_s_max};

mod api;
mod verifier;

const RETENTION_DAYS_MAX: u64 = 36_500;
const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// How the names of variables begin that override the configuration.
const OVERRIDES: &str = "MEDSYNC__";
/// The configuration's name in a home folder.
pub const CONFIG_FILE: &str = "medsync.toml";
/// The key of the account that anchors, sealed in a home folder.
pub const ANCHOR_KEY_FILE: &str = "anchor-account.key";
/// The key of the account that revokes.
pub const REVOKE_KEY_FILE: &str = "revoke-account.key";

/// The key of the account that sends claims.
pub const CLAIM_KEY_FILE: &str = "claim-account.key";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no configuration.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
}

/// Whose configuration this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A hospital.
    Custodian,
    /// A patient.
    Patient,
    /// A researcher, or whoever else asks for data.
    Recipient,
}

/// The party's Calimero node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Where its API answers; loopback.
    pub api: Url,
    /// The credential that `medsync-node init` made.
    pub credential: PathBuf,
    /// Under which address other nodes reach it; goes into invitations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The app's wasm, readable by the node.
    pub app: PathBuf,
    /// How `medsync up` runs it; nothing where somebody else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<NodeRun>,
}

/// The embedded node as a process of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRun {
    /// `medsync-node`.
    pub program: PathBuf,
    /// Its home, as `medsync-node init` made it.
    pub home: PathBuf,
}

/// Starknet and the contract on it: what is believed, whatever an endpoint says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// The endpoints, in the order in which they are asked; at least one.
    pub rpc: Vec<Url>,
    /// The chain.
    pub chain_id: ChainId,
    /// The `ConsentRegistry`.
    pub registry: ContractAddress,
    /// Its class.
    pub class_hash: ClassHash,
    /// How old the endpoint's newest block may be when it is asked what is revoked, in seconds.
    #[serde(default = "block_age_s_max")]
    pub block_age_s_max: u64,
}

impl ChainConfig {
    /// What signatures are bound to.
    #[must_use]
    pub fn registry(&self) -> Registry {
        Registry {
            chain_id: self.chain_id,
            registry: self.registry,
        }
    }

    /// Each endpoint, bound to the chain that is believed in.
    ///
    /// # Errors
    /// An address that is none, or no endpoint at all.
    pub fn endpoints(&self) -> Result<Vec<Arc<RpcChain>>, ChainError> {
        let endpoint = |rpc| RpcChain::new(rpc, self.chain_id).map(Arc::new);
        let endpoints: Vec<_> = self.rpc.iter().map(endpoint).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(ChainError::Address(
                "rpc names at least one endpoint".into(),
            ));
        }
        Ok(endpoints)
    }

    /// The one that is asked first.
    ///
    /// # Errors
    /// As [`ChainConfig::endpoints`].
    pub fn first_endpoint(&self) -> Result<Arc<RpcChain>, ChainError> {
        Ok(self.endpoints()?.swap_remove(0))
    }
}

/// An account that signs transactions; its key is sealed in the home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// Its address.
    pub address: ContractAddress,
}

/// When a batch closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// When its oldest consent waits this long, in seconds.
    pub age_s_max: u64,
    /// When it has this many consents.
    pub consents_max: u32,
}

impl Default for BatchConfig {
    fn default() -> Self {
        const MINUTES_10_S: u64 = 600;
        const CONSENTS_MAX: u32 = 1 << 16;
        Self {
            age_s_max: MINUTES_10_S,
            consents_max: CONSENTS_MAX,
        }
    }
}

/// How long the store keeps what it needs no more: the padding and the order of batches, and what
/// was asked of the daemon. What was seen in a context is evidence and is kept for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// In days; at least 1.
    pub days: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { days: 90 }
    }
}

/// Where the store is that several replicas share; a custodian's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The file with the database's URL, and its password: for its owner alone.
    pub postgres: PathBuf,
}

/// A party's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whose it is.
    pub role: Role,
    /// The party's node.
    pub node: NodeConfig,
    /// The chain.
    pub chain: ChainConfig,
    /// Anchors batches; a custodian's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_account: Option<AccountConfig>,
    /// Revokes; an account of its own, so that no stuck batch delays a revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_account: Option<AccountConfig>,
    /// Sends claims that patients bring; who has none sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_account: Option<AccountConfig>,
    /// How long a patient leaves a revocation to the hospital's relay, in seconds.
    #[serde(default = "relay_after_s")]
    pub relay_after_s: u64,
    /// When a batch closes.
    #[serde(default)]
    pub batch: BatchConfig,
    /// How long the store keeps what it needs no more.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// The store that replicas share; without it, it is a file in the home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreConfig>,
    /// The HTTP API; without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiConfig>,
}

fn relay_after_s() -> u64 {
    120
}

/// What the environment says instead of the file, by the variable's name; in their order.
fn overrides(
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut overrides = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(OVERRIDES)) else {
            continue;
        };
        let value = value.into_string().map_err(|_| ConfigError::Malformed {
            path: PathBuf::from(name),
            why: "it is no text".into(),
        })?;
        overrides.push((name.to_owned(), value));
    }
    overrides.sort();
    Ok(overrides)
}

/// A configuration with what the environment says instead. A value is TOML, or a text as it stands.
fn overridden(
    mut config: toml::Table,
    overrides: &[(String, String)],
) -> Result<toml::Table, ConfigError> {
    for (name, value) in overrides {
        let said = toml::from_str::<toml::Table>(&format!("value = {value}"));
        let said = said.ok().and_then(|mut table| table.remove("value"));
        let said = said.unwrap_or_else(|| toml::Value::String(value.clone()));
        let path = name
            .strip_prefix(OVERRIDES)
            .unwrap_or_default()
            .to_lowercase();
        let (tables, key) = path.rsplit_once("__").unwrap_or(("", &path));
        let mut table = &mut config;
        for part in tables.split("__").filter(|part| !part.is_empty()) {
            let inner = table
                .entry(part)
                .or_insert(toml::Value::Table(toml::Table::new()));
            table = inner.as_table_mut().ok_or_else(|| ConfigError::Malformed {
                path: PathBuf::from(name),
                why: format!("{part} is no table"),
            })?;
        }
        table.insert(key.to_owned(), said);
    }
    Ok(config)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ConfigError> {
    toml::from_slice(bytes).map_err(|error| ConfigError::Malformed {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), ConfigError> {
    let malformed = |why: String| ConfigError::Malformed {
        path: path.to_owned(),
        why,
    };
    let text = toml::to_string_pretty(value).map_err(|error| malformed(error.to_string()))?;
    Ok(files::write_whole(path, text.as_bytes(), false)?)
}

impl Config {
    /// Reads the configuration of a home folder.
    ///
    /// # Errors
    /// A file that is absent or wrong; the error says where.
    pub fn load(home: &Path) -> Result<Self, ConfigError> {
        Self::load_with(home, std::env::vars_os())
    }

    /// The same in an environment.
    fn load_with(
        home: &Path,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let path = home.join(CONFIG_FILE);
        let bytes = files::read_bounded(&path, CONFIG_BYTES_MAX)?;
        // By itself first: its errors say where in the file.
        let mut config = Self::parse(&path, &bytes)?;
        let overrides = overrides(environment)?;
        if !overrides.is_empty() {
            let table = overridden(parse(&path, &bytes)?, &overrides)?;
            let names: Vec<&str> = overrides.iter().map(|(name, _)| name.as_str()).collect();
            config = table.try_into().map_err(|error: toml::de::Error| {
                let why = format!("with {} from the environment: {error}", names.join(", "));
                ConfigError::Malformed {
                    path: path.clone(),
                    why,
                }
            })?;
        }
        config.check(path)
    }

    /// Reads the bytes of a file and makes sure that they fit together.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`].
    pub fn checked(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        Self::parse(path, bytes)?.check(path.to_owned())
    }

    /// Makes sure that what it says fits together.
    fn check(self, path: PathBuf) -> Result<Self, ConfigError> {
        let config = self;
        if config.chain.rpc.is_empty() {
            let why = "rpc names at least one endpoint".into();
            return Err(ConfigError::Malformed { path, why });
        }
        if let Some(Err(why)) = config.api.as_ref().map(ApiConfig::check) {
            return Err(ConfigError::Malformed { path, why });
        }
        if let Err(why) = config.check_accounts() {
            return Err(ConfigError::Malformed { path, why });
        }
        if let Err(why) = config.check_store() {
            return Err(ConfigError::Malformed { path, why });
        }
        if !(1..=RETENTION_DAYS_MAX).contains(&config.retention.days) {
            let why = format!("retention.days is from 1 to {RETENTION_DAYS_MAX}");
            return Err(ConfigError::Malformed { path, why });
        }
        Ok(config)
    }

    /// Whether each account sends one thing: two lanes would take each other's nonces.
    fn check_accounts(&self) -> Result<(), String> {
        let accounts = [
            &self.anchor_account,
            &self.revoke_account,
            &self.claim_account,
        ];
        let addresses: Vec<_> = accounts
            .into_iter()
            .flatten()
            .map(|one| one.address)
            .collect();
        let different: BTreeSet<_> = addresses.iter().collect();
        match different.len() == addresses.len() {
            true => Ok(()),
            false => Err(
                "anchor_account, revoke_account and claim_account are different accounts: \
                          nothing waits for what another one sends"
                    .into(),
            ),
        }
    }

    /// Whether the store fits the rest.
    fn check_store(&self) -> Result<(), String> {
        if self.store.is_none() {
            return Ok(());
        }
        if self.role != Role::Custodian {
            return Err("store.postgres is a custodian's; leave [store] out".into());
        }
        if self.node.run.is_some() {
            let why = "replicas that share a store share one node, which none of them starts: \
                       leave [node.run] out and run the node by itself";
            return Err(why.into());
        }
        Ok(())
    }

    /// Reads the bytes of a file, as it stands there; errors name it.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ConfigError> {
        parse(path, bytes)
    }

    /// Refuses a home that is set up; the configuration is the last thing that a set-up writes.
    ///
    /// # Errors
    /// [`FileError::Exists`].
    pub fn check_absent(home: &Path) -> Result<(), ConfigError> {
        let path = home.join(CONFIG_FILE);
        if path.exists() {
            return Err(FileError::Exists { path }.into());
        }
        Ok(())
    }

    /// Writes the configuration into a home folder.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn save(&self, home: &Path) -> Result<(), ConfigError> {
        save(&home.join(CONFIG_FILE), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(CONFIG_FILE);
        std::fs::write(&path, text).expect("written");
        (folder, path)
    }

    #[test]
    fn the_annotated_examples_are_read() {
        let (folder, _) = write(include_str!("../examples/medsync.toml"));
        let config = Config::load(folder.path()).expect("the example");
        assert_eq!(config.role, Role::Custodian);
        config.save(folder.path()).expect("written");
        assert_eq!(
            Config::load(folder.path()).expect("what was written"),
            config
        );
        let (_folder, path) = write(include_str!("../examples/verifier.toml"));
        let verifier = VerifierConfig::load(&path).expect("the example");
        // The verifier page has the same names in JSON.
        let json = serde_json::to_vec(&verifier).expect("JSON");
        let page = medsync_protocol::verifier::Config::parse(&json).expect("the same fields");
        assert_eq!(page.beliefs(), verifier.beliefs());
        let rpc: Vec<String> = verifier.rpc.iter().map(Url::to_string).collect();
        assert_eq!(page.rpc, rpc);
    }

    #[test]
    fn the_environment_overrides_single_keys_and_is_held_to_the_same_names() {
        let (folder, path) = write(include_str!("../examples/medsync.toml"));
        let load = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()));
            Config::load_with(folder.path(), variables)
        };
        let as_written = load(&[("PATH", "/bin"), ("MEDSYNC_HOME", "/x")]).expect("the example");
        let config = load(&[
            ("MEDSYNC__CHAIN__RPC", r#"["https://one.example/"]"#),
            ("MEDSYNC__NODE__API", "http://127.0.0.1:9/"),
            ("MEDSYNC__RELAY_AFTER_S", "7"),
            ("MEDSYNC__API__LISTEN", "127.0.0.1:0"),
            ("MEDSYNC__BATCH__AGE_S_MAX", "5"),
        ]);
        let config = config.expect("overridden");
        assert_eq!(config.chain.rpc.len(), 1);
        assert_eq!(config.node.api.port(), Some(9));
        assert_eq!((config.relay_after_s, config.batch.age_s_max), (7, 5));
        assert_eq!(config.api.expect("an API").listen.port(), 0);
        assert_eq!(config.batch.consents_max, as_written.batch.consents_max);
        for (name, value, names) in [
            ("MEDSYNC__CHAIN__RCP", "[]", "rcp"),
            ("MEDSYNC__ROLE__NAME", "x", "role"),
            ("MEDSYNC__CHAIN__RPC", "7", "MEDSYNC__CHAIN__RPC"),
            ("MEDSYNC__CHAIN__RPC", "[]", "rpc"),
            ("MEDSYNC__API__TLS", "7", "tls"),
        ] {
            let error = load(&[(name, value)]).expect_err(name).to_string();
            assert!(error.contains(names), "{name}: {error}");
        }
        let text = std::fs::read_to_string(&path).expect("the file");
        assert_eq!(text, include_str!("../examples/medsync.toml"));
        let (tables, tls) = text.split_once("\n[api.tls]\n").expect("the last but one");
        let (_, staff) = tls.split_once("[[api.staff]]").expect("the last");
        let open = format!("{tables}\n[[api.staff]]{staff}");
        let (folder, _) = write(&open.replace("127.0.0.1:2628", "0.0.0.0:2628"));
        let error = Config::load(folder.path()).expect_err("no TLS").to_string();
        assert!(error.contains("loopback"), "{error}");
    }

    #[test]
    fn a_shared_store_is_a_custodians_whose_node_runs_by_itself() {
        let text = include_str!("../examples/medsync.toml");
        let shared = text.replace("# [store]\n# postgres", "[store]\npostgres");
        assert_ne!(shared, text, "the example shows it");
        let (folder, _) = write(&shared);
        let error = Config::load(folder.path()).expect_err("it runs the node");
        assert!(error.to_string().contains("[node.run]"), "{error}");
        let (before, run) = shared.split_once("[node.run]").expect("a table");
        let (_, after) = run.split_once("\n[chain]").expect("the next");
        let alone = format!("{before}\n[chain]{after}");
        let (folder, _) = write(&alone);
        let config = Config::load(folder.path()).expect("a node of its own");
        assert!(config.store.is_some());
        let (folder, _) = write(&alone.replace("\"custodian\"", "\"patient\""));
        let error = Config::load(folder.path()).expect_err("a patient's");
        assert!(error.to_string().contains("custodian's"), "{error}");
    }

    #[test]
    fn origins_and_staff_are_checked() {
        let text = include_str!("../examples/medsync.toml");
        for (right, wrong, says) in [
            (
                "https://portal.hospital.example\"",
                "https://portal.hospital.example/\"",
                "no origin",
            ),
            ("https://portal.hospital.example\"", "*\"", "no origin"),
            (
                "https://medsync.hospital.example:2628\"",
                "medsync.hospital.example\"",
                "no origin",
            ),
            ("name = \"ward-3\"", "name = \"\"", "name of their own"),
            ("connections_max = 128", "connections_max = 0", "from 1 to"),
            (
                "https://medsync.hospital",
                "http://medsync.hospital",
                "api.origin is",
            ),
        ] {
            assert!(text.contains(right), "{right}");
            let (folder, _) = write(&text.replace(right, wrong));
            let error = Config::load(folder.path()).expect_err(wrong).to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn each_account_sends_one_thing() {
        let text = include_str!("../examples/medsync.toml");
        let (folder, _) = write(&text.replace("0x49dfb8c", "0x78662e7"));
        let error = Config::load(folder.path()).expect_err("claims delay revocations");
        assert!(error.to_string().contains("different accounts"), "{error}");
    }

    #[test]
    fn an_unknown_key_and_a_verifier_without_endpoint_are_refused() {
        let text = include_str!("../examples/medsync.toml");
        let (folder, _) = write(&text.replace("relay_after_s", "relay_after"));
        let error = Config::load(folder.path())
            .expect_err("a misspelt key")
            .to_string();
        assert!(error.contains("relay_after"), "{error}");
        let text = include_str!("../examples/verifier.toml");
        let line = text
            .lines()
            .find(|line| line.starts_with("rpc"))
            .expect("the key");
        let (_folder, path) = write(&text.replace(line, "rpc = []"));
        assert!(VerifierConfig::load(&path).is_err());
        let text = include_str!("../examples/medsync.toml");
        let line = text.lines().find(|line| line.starts_with("rpc"));
        let (folder, _) = write(&text.replace(line.expect("the key"), "rpc = []"));
        assert!(Config::load(folder.path()).is_err());
    }
}
