//! Files that people hand over or write: invitations, configurations, keys, claims, deployments,
//! lists of what a backup holds.

use std::path::Path;
use std::sync::LazyLock;

use medsync::backup::Manifest;
use medsync::chain::Deployment;
use medsync::config::{Config, VerifierConfig};
use medsync::invitation::Invitation;
use medsync::keys::{CustodianKeys, KeyError, ResearcherKeys};
use medsync_protocol::claim::SignedClaim;
use medsync_protocol::ids::{ChainId, ContractAddress, UnixSeconds};
use medsync_protocol::keys::{KeysError, PatientKeys};
use serde::Serialize;
use serde_json::Value;

/// A file's name in errors.
const NAME: &str = "a file";

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what was read can be written")
}

/// An invitation.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn invitation(bytes: &[u8]) -> bool {
    let read = match Invitation::parse(bytes, UnixSeconds(0)) {
        Ok(read) => read,
        Err(error) => {
            assert!(error.to_string().len() < 300, "an error quotes the file");
            return false;
        }
    };
    if let Ok(key) = read.one_time_key() {
        assert_eq!(key.public_key(), read.says.invitation_key);
    }
    let written = json(&read);
    let again = Invitation::parse(&written, UnixSeconds(0)).expect("what was written");
    assert_eq!(json(&again), written);
    true
}

/// A party's configuration.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn config(bytes: &[u8]) -> bool {
    let path = Path::new(NAME);
    let Ok(read) = Config::parse(path, bytes) else {
        return false;
    };
    let written = toml::to_string_pretty(&read).expect("what was read can be written");
    let again = Config::parse(path, written.as_bytes()).expect("what was written");
    assert_eq!(again, read);
    true
}

/// A verifier's configuration.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn verifier(bytes: &[u8]) -> bool {
    let path = Path::new(NAME);
    let Ok(read) = VerifierConfig::parse(path, bytes) else {
        return false;
    };
    assert!(!read.rpc.is_empty());
    let written = toml::to_string_pretty(&read).expect("what was read can be written");
    let again = VerifierConfig::parse(path, written.as_bytes()).expect("what was written");
    assert_eq!(again, read);
    true
}

/// A file of keys that is not sealed. It is of one role.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn key_file(bytes: &[u8]) -> bool {
    let custodian = CustodianKeys::parse(NAME, bytes);
    let researcher = ResearcherKeys::parse(NAME, bytes);
    for refused in [custodian.as_ref().err(), researcher.as_ref().err()] {
        let error = refused.map(|refused| match refused {
            KeyError::Keys { error, .. } => error.clone(),
            other => panic!("{other}"),
        });
        assert!(matches!(error, None | Some(KeysError::Malformed)));
    }
    assert!(custodian.is_err() || researcher.is_err());
    custodian.is_ok() || researcher.is_ok()
}

/// The passphrase of the example.
const PASSPHRASE: &str = "a long enough passphrase";
/// A derivation that is not slow; what a file asks for is otherwise the attacker's own time.
const MEMORY_KIB_MAX: u64 = 64;

/// A patient's sealed keys: only what was sealed opens.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn sealed_key_file(bytes: &[u8]) -> bool {
    let value = serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let number = |field: &str| value[field].as_u64().unwrap_or_default();
    // More than this is refused before anything is derived, or takes as long as it should.
    let is_quick = number("memory_kib") <= MEMORY_KIB_MAX && number("passes") <= 1;
    let is_refused = number("memory_kib") > 256 * 1024 || number("passes") > 12;
    if !is_quick && !is_refused {
        return false;
    }
    let opened = PatientKeys::open(bytes, PASSPHRASE);
    assert!(opened.is_err() || is_quick);
    opened.is_ok()
}

/// The example, and what its claim key signed.
static SIGNED: LazyLock<Value> = LazyLock::new(|| {
    let json = include_bytes!("../corpus/claim/genuine.json");
    serde_json::from_slice(json).expect("the example is JSON")
});

/// A signed claim: under the example's key, only what that key signed.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn claim(bytes: &[u8]) -> bool {
    let Ok(read) = SignedClaim::parse(bytes) else {
        return false;
    };
    let written = json(&read);
    let again = SignedClaim::parse(&written).expect("what was written");
    assert_eq!(json(&again), written);
    let (value, signed) = (serde_json::to_value(&read).expect("JSON"), &*SIGNED);
    let place = serde_json::from_value::<(ChainId, ContractAddress)>(Value::Array(vec![
        value["chain_id"].clone(),
        value["contract"].clone(),
    ]));
    let (chain_id, contract) = place.expect("what was read");
    if read.claim_for(chain_id, contract).is_err() {
        return false;
    }
    if value["claim"]["claim_key"] == signed["claim"]["claim_key"] {
        for field in ["chain_id", "contract"] {
            assert_eq!(value[field], signed[field]);
        }
        for field in ["pool", "secret_hash", "pay_to"] {
            assert_eq!(value["claim"][field], signed["claim"][field]);
        }
    }
    true
}

/// A deployment file.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn deployment(bytes: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<Deployment>(bytes) else {
        return false;
    };
    let again: Deployment = serde_json::from_slice(&json(&read)).expect("what was written");
    assert_eq!(again, read);
    true
}

/// The list of what a backup holds: every name is that of a file in its folder.
///
/// # Panics
/// If something does not hold that must.
#[must_use]
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(read) = Manifest::parse(bytes) else {
        return false;
    };
    assert_eq!(Manifest::parse(&json(&read)).as_ref(), Ok(&read));
    let folder = Path::new("/backup");
    for name in read.files.keys() {
        let file = folder.join(name);
        assert_eq!(file.parent(), Some(folder), "{name:?}");
        assert_eq!(
            file.as_os_str().len(),
            folder.as_os_str().len() + 1 + name.len()
        );
    }
    true
}
