//! Hostile bytes for every parser that reads them from outside.
//!
//! A [`Target`] reads bytes as the program would, and then holds what came out to what must be
//! true of it: what was read is written and read again to the same, a bound holds, changed bytes
//! never count as signed. It panics if that is not so. It asks no clock, no network and no chance,
//! so that the same bytes do the same again.
//!
//! | module | whose bytes |
//! |---|---|
//! | [`consents`] | receipts, terms, and what `decide` meets |
//! | [`seals`] | sealed keys, payloads, lists of parts |
//! | [`answers`] | log entries, and what a Calimero node answers |
//! | [`chains`] | what a Starknet RPC answers |
//! | [`files`] | invitations, configurations, keys, claims, deployments, backups |
//! | [`bundles`] | FHIR |
//!
//! Examples lie in `corpus/`, a folder a target. `tests/corpus` replays them in every test run, and
//! `scripts/fuzz` mutates them with libFuzzer (`libfuzzer.rs`). Where a bug was found, the bytes
//! that showed it stay there under a name that begins with `bug` and says what it was.

pub mod answers;
pub mod bundles;
pub mod chains;
pub mod consents;
pub mod files;
pub mod seals;

/// One parser.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its folder of examples.
    pub name: &'static str,
    /// Reads bytes; whether they were taken for what they should be. Panics where something does
    /// not hold that must.
    pub run: fn(&[u8]) -> bool,
}

const fn target(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run }
}

/// Every parser.
pub const TARGETS: [Target; 17] = [
    target("answer", answers::answer),
    target("bundle", bundles::bundle),
    target("claim", files::claim),
    target("config", files::config),
    target("decide", consents::decide_any),
    target("deployment", files::deployment),
    target("entry-body", answers::entry_body),
    target("invitation", files::invitation),
    target("key-file", files::key_file),
    target("manifest", files::manifest),
    target("parts", seals::parts),
    target("receipt", consents::receipt),
    target("rpc", chains::rpc),
    target("sealed-key", seals::sealed_key),
    target("sealed-key-file", files::sealed_key_file),
    target("terms", consents::terms),
    target("verifier", files::verifier),
];

/// The target with this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
