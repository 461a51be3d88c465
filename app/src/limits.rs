//! The bounds of every argument and collection, each by name.
//!
//! A bound is checked before anything is parsed or written, so that no call costs more than it
//! may. Bounds of values that the protocol defines (terms, sets of codes, depth of a proof) are
//! the protocol's own.

/// The most entries of one page.
pub const PAGE_LEN_MAX: u32 = 100;
/// The page when the caller does not say.
pub const PAGE_LEN_DEFAULT: u32 = 50;
/// The longest base64 of terms: three bytes take four characters.
pub const TERMS_TEXT_BYTES_MAX: usize = medsync_protocol::terms::TERMS_BYTES_MAX.div_ceil(3) * 4;
/// The largest sealed payload of one record, in bytes: 32 KiB and a tag. With its description it
/// has to fit into one message between nodes, which holds 64 KiB: a larger write would stay on the
/// node that made it until the next comparison of states.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024 + 16;
/// The longest base64 of a sealed payload.
pub const PAYLOAD_TEXT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX.div_ceil(3) * 4;
/// The largest sealed key, in bytes: an encapsulated key, a key and a tag, with room.
pub const SEALED_KEY_BYTES_MAX: usize = 512;
/// The longest base64 of a sealed key.
pub const SEALED_KEY_TEXT_BYTES_MAX: usize = SEALED_KEY_BYTES_MAX.div_ceil(3) * 4;
/// The longest FHIR resource type, in bytes.
pub const RESOURCE_TYPE_BYTES_MAX: usize = 64;
/// The most concepts of one kind (classes, codes, labels) and the most authors of one record.
pub const RECORD_VALUES_LEN_MAX: usize = 64;
/// The most codings of one concept.
pub const CODINGS_LEN_MAX: usize = 16;
/// The largest description of a record (everything but payload and sealed keys), in bytes.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// The longest hexadecimal text: `0x` and 64 digits.
pub const HEX_TEXT_BYTES_MAX: usize = 66;
/// The longest cursor: a kind, a shard and a key.
pub const CURSOR_BYTES_MAX: usize = 128;

/// The most entries that one member's honest node puts into one shard. A shard's children stand in
/// one index value of about 230 bytes a child that every insert rewrites.
pub const SHARD_LEN_MAX: usize = 256;
/// The most entries of a shard in all. A value of storage has 10 MiB, which is some 45,000
/// children: beyond that even reading would fail.
pub const SHARD_ROOM_MAX: usize = 32 * 1024;
/// How many entries of its own with one revocation, or one consent, a call may ask for.
pub const COPIES_MAX: u32 = 8;
/// And with one change of a key.
pub const CHANGE_COPIES_MAX: u32 = 4;
/// The most copies of one consent whose place in a batch is looked for, of each member's own and
/// of all others' together.
pub const COPIES_LOOKED_AT_MAX: usize = 4;
/// The most positions of a shard that are looked at though no witness wrote them.
pub const UNWITNESSED_LOOKED_AT_MAX: usize = 16;
/// The most positions that one consent's view shows.
pub const POSITIONS_SHOWN_MAX: usize = 8;
/// The longest base64 of a receipt: with the rest of its entry it fits into one message.
pub const RECEIPT_TEXT_BYTES_MAX: usize = 48 * 1024;
/// How many numbers of one log stand in one shard before the next is filled.
pub const LOG_SHARD_SEQS: u64 = 128;
/// The longest base64 of a log entry's body.
pub const LOG_BODY_TEXT_BYTES_MAX: usize = medsync_protocol::audit::BODY_BYTES_MAX.div_ceil(3) * 4;
/// The most copies of one log entry (one author and number) whose signature is looked at, of each
/// writer. An author who forks more often is seen all the same.
pub const LOG_COPIES_LOOKED_AT_MAX: usize = 4;
/// The longest name of a reward pool, in bytes.
pub const POOL_LABEL_BYTES_MAX: usize = 128;
