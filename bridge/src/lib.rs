//! The MedSync program: the daemon that carries consents from a private circle to Starknet, and
//! the command line of every role.
//!
//! Only [`chain`] knows Starknet and only [`source`] knows Calimero. Everything else speaks the
//! protocol's own names.
//!
//! | module | what it does |
//! |---|---|
//! | [`commands`] | the command line, a file a role |
//! | [`daemon`], [`node_process`] | the lanes, each in its loop; the party's own node beside them |
//! | [`api`], [`status`] | the HTTP API; how the party does |
//! | [`pipeline`] | ingest, seal, place, submit, confirm, tell; relay; watch |
//! | [`access`] | requests answered, records released, erasures ordered; the recipient's side |
//! | [`audit`] | the log: writing entries, publishing them, checking whole logs |
//! | [`preview`] | what a recipient would get now: the answer of releases and of previews |
//! | [`views`] | what people and programs see of circles, consents, logs |
//! | [`verify`] | a receipt against a verifier's beliefs and the chain |
//! | [`guard`] | the way into a circle: pins are compared whenever it is entered |
//! | [`revoking`], [`saying`] | a revocation, and a log entry, is kept first, then brought there |
//! | [`asking`] | a recipient asks for records |
//! | [`custodian`] | what a hospital's people do: circles, invitations, imports, erasures, pools |
//! | [`members`] | whom the patient admits, also when the patient's key changes |
//! | [`chain`], [`source`] | Starknet, Calimero |
//! | [`store`], [`lease`] | SQLite or PostgreSQL; which of several replicas does the work |
//! | [`fhir`] | bundles |
//! | [`invitation`], [`keys`], [`config`], [`files`] | what lies in files |
//! | [`at_rest`] | the secret by which a home is sealed |
//! | [`party`], [`seams`] | a party's parts put together; time and chance |

pub mod access;
pub mod api;
pub mod asking;
pub mod at_rest;
pub mod audit;
pub mod backup;
pub mod chain;
pub mod commands;
pub mod config;
pub mod custodian;
pub mod daemon;
pub mod fhir;
pub mod files;
pub mod fsck;
pub mod guard;
pub mod invitation;
pub mod keys;
pub mod lease;
pub mod logging;
pub mod members;
pub mod node_process;
pub mod parts;
pub mod party;
pub mod pipeline;
pub mod preview;
pub mod revoking;
pub mod saying;
pub mod seams;
pub mod source;
pub mod status;
pub mod store;
pub mod verify;
pub mod views;
