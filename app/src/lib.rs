//! The Calimero application: one patient's circle, or a custodian's exchange with one recipient.
//!
//! A context's state is replicated to every member's node, and any member may run a patched node
//! that writes whatever it likes. What counts is therefore decided by content: an enrolment by
//! the invitation's signature, a consent by the patient's, a revocation by opening its handle.
//! The checks run when something is written (a clear refusal) and again whenever it is read (what
//! does not verify is ignored and counted, and never makes a call fail).
//!
//! This crate must not know the chain, the store of the daemon, or any secret but the one that a
//! revocation publishes. Nothing in it logs.
//!
//! | module | concern |
//! |---|---|
//! | [`abi`] | the interface's types |
//! | [`circle`], [`members`] | what the custodian pinned, who enrolled |
//! | [`keychanges`] | which of that party's keys counts |
//! | [`devices`] | whom that party admitted |
//! | [`consents`], [`revocations`] | granting and revoking |
//! | [`standing`] | what is shown of consents, and in which state |
//! | [`anchors`], [`positions`] | recording places in batches, and reading them |
//! | [`log`], [`heads`] | the signed log, and its places in batches |
//! | [`records`] | sealed records |
//! | [`tickets`] | reward pools and tickets |
//! | [`receipts`], [`releases`] | what an exchange holds: receipts, released records |
//! | [`changes`], [`paging`] | the walk over everything |
//! | [`layout`], [`store`] | where entries live, how they are read without trust |
//! | [`limits`] | every bound by name |
//! | [`refusal`] | every error by name |

// The SDK's macros write undocumented items and `unsafe` exports into this file.
#![allow(missing_docs, unsafe_code)]

pub mod abi;
pub mod anchors;
pub mod changes;
pub mod circle;
pub mod consents;
pub mod devices;
pub mod event;
pub mod heads;
mod host;
pub mod keychanges;
pub mod layout;
pub mod limits;
pub mod log;
pub mod members;
pub mod paging;
pub mod positions;
pub mod receipts;
pub mod records;
pub mod refusal;
pub mod releases;
pub mod revocations;
pub mod standing;
pub mod store;
mod text;
pub mod tickets;

use calimero_sdk::app;
use calimero_storage::collections::Root;

use abi::{
    AnchorInput, ChangePage, CircleInput, CircleView, ConsentPage, Counts, DeviceInput,
    EnrolmentInput, EntryView, FullPart, FullRecord, FullRelease, Granted, HeadInput,
    KeyChangeInput, LogInput, LogPage, OpeningInput, PoolInput, ReceiptInput, ReceiptPage,
    RecordInput, RecordPage, ReleaseInput, ReleasePage, SignatureInput, TicketInput, Written,
};
use circle::Circle;
use event::Event;
use layout::Kind;
use members::Members;
use refusal::Refusal;

/// The root of the state. It has no fields on purpose: every member may overwrite or delete the
/// root, so that nothing may depend on it. Entries stand in the tree that [`layout`] describes, and
/// no method takes `self`: Calimero's wrapper would read the root first and end without it.
#[app::state(emits = Event)]
pub struct MedSync {}

/// Hands over what a call wrote, after its last write.
fn done(kind: Kind, written: Written) -> Written {
    if !written.existing {
        app::emit!(Event::Written {
            kind: kind.name().into(),
            key: written.key.clone(),
        });
        Root::<MedSync>::commit_headless();
    }
    written
}

#[app::logic]
impl MedSync {
    /// Opens a circle or an exchange; whoever calls this is its custodian. Ends in a panic, and so
    /// in no context at all, if an argument is wrong.
    #[app::init]
    pub fn init(circle: CircleInput) -> MedSync {
        let written = Circle::read(&circle, host::executor(), host::context())
            .and_then(|circle| circle.store());
        if let Err(refusal) = written {
            calimero_sdk::env::panic_str(&refusal.to_string());
        }
        MedSync {}
    }

    /// The circle at a glance.
    pub fn circle() -> Result<CircleView, Refusal> {
        let circle = Circle::load()?;
        let members = Members::load(&circle);
        Ok(CircleView {
            context: circle.context.to_string(),
            custodian_member: circle.custodian_member.to_string(),
            custodian: circle.to_input(),
            enrolments: members
                .enrolled
                .iter()
                .map(members::Enrolled::view)
                .collect(),
            patient: members.patient().ok().map(members::Enrolled::view),
            keys: members.keys.keys.iter().map(ToString::to_string).collect(),
            devices: members
                .devices(&circle)
                .iter()
                .map(|device| device.view(&members))
                .collect(),
            frozen: members.is_frozen(),
            ignored: members.ignored,
            counts: Counts {
                enrolments: store::count(Kind::Enrolments),
                consents: store::count(Kind::Consents),
                revocations: store::count(Kind::Revocations),
                anchors: store::count(Kind::Anchors),
                log: store::count(Kind::Log),
                heads: store::count(Kind::Heads),
                records: store::count(Kind::Records),
                receipts: store::count(Kind::Receipts),
                releases: store::count(Kind::Releases),
            },
            consents_digest: consents::digest_of_all().to_string(),
            now: host::now().0,
        })
    }

    /// Publishes the patient's keys, signed by the invitation's one-time key.
    pub fn enrol(enrolment: EnrolmentInput, signature: SignatureInput) -> Result<Written, Refusal> {
        members::enrol(&enrolment, &signature).map(|written| done(Kind::Enrolments, written))
    }

    /// Writes down that the enrolled party's key was changed, signed by that key or by the
    /// recovery key. With `copies`, at most 4, it is written down until there are so many of the
    /// caller's own.
    pub fn change_key(change: KeyChangeInput, copies: Option<u32>) -> Result<Written, Refusal> {
        keychanges::change(&change, copies).map(|written| done(Kind::KeyChanges, written))
    }

    /// Writes down whom the patient admits, signed by the patient's key.
    pub fn admit(device: DeviceInput, signature: SignatureInput) -> Result<Written, Refusal> {
        devices::admit(&device, &signature).map(|written| done(Kind::Devices, written))
    }

    /// Grants a consent that the patient signed. `terms` is base64. With `copies`, at most 8, it is
    /// written down until there are so many of the caller's own.
    pub fn grant(
        terms: String,
        opening: OpeningInput,
        signature: SignatureInput,
        copies: Option<u32>,
    ) -> Result<Granted, Refusal> {
        let (written, commitment) = consents::grant(&terms, &opening, &signature, copies)?;
        let Written { key, existing } = done(Kind::Consents, written);
        Ok(Granted {
            key,
            commitment: commitment.to_string(),
            existing,
        })
    }

    /// Revokes what goes by the handle that `secret` and `claim_key` open, known here or not. A
    /// `handle` that is passed must be that one. With `copies`, at most 8, it is written down until
    /// there are so many of the caller's own.
    pub fn revoke(
        secret: String,
        claim_key: String,
        handle: Option<String>,
        copies: Option<u32>,
    ) -> Result<Written, Refusal> {
        revocations::revoke(&secret, &claim_key, handle.as_deref(), copies)
            .map(|written| done(Kind::Revocations, written))
    }

    /// The consents that count, page by page, each with its state.
    pub fn consents(cursor: Option<String>, limit: Option<u32>) -> Result<ConsentPage, Refusal> {
        standing::page(cursor.as_deref(), limit)
    }

    /// Writes a version of a sealed record; the custodian's alone.
    pub fn put_record(record: RecordInput) -> Result<Written, Refusal> {
        records::put(&record).map(|written| done(Kind::Records, written))
    }

    /// The records' descriptions, page by page, each in its latest version.
    pub fn records(
        cursor: Option<String>,
        limit: Option<u32>,
        resource_type: Option<String>,
    ) -> Result<RecordPage, Refusal> {
        records::page(cursor.as_deref(), limit, resource_type.as_deref())
    }

    /// One record with its sealed payload, in its latest version or a named one.
    pub fn record(record: String, version: Option<u32>) -> Result<FullRecord, Refusal> {
        records::record(&record, version)
    }

    /// Writes a sealed part of a large payload, before the record or release that names it; the
    /// custodian's alone.
    pub fn put_part(part: String) -> Result<Written, Refusal> {
        records::put_part(&part).map(|written| done(Kind::Payloads, written))
    }

    /// A sealed part of a large payload.
    pub fn part(digest: String) -> Result<FullPart, Refusal> {
        records::part(&digest)
    }

    /// Records where a consent stands in a batch, and how far that batch is.
    pub fn record_anchor(anchor: AnchorInput) -> Result<Written, Refusal> {
        anchors::record(&anchor).map(|written| done(Kind::Anchors, written))
    }

    /// Writes down an entry that its author signed and that continues the author's log here.
    pub fn append_log(entry: LogInput) -> Result<Written, Refusal> {
        log::append(&entry).map(|written| done(Kind::Log, written))
    }

    /// One author's log from a number on.
    pub fn log_page(author_key: String, from: u64, limit: Option<u32>) -> Result<LogPage, Refusal> {
        log::page(&author_key, from, limit)
    }

    /// Records up to which entry a log is in a batch, and where.
    pub fn record_head(head: HeadInput) -> Result<Written, Refusal> {
        heads::record(&head).map(|written| done(Kind::Heads, written))
    }

    /// Makes a reward pool known; the custodian's alone.
    pub fn put_pool(pool: PoolInput) -> Result<Written, Refusal> {
        tickets::put_pool(&pool).map(|written| done(Kind::Pools, written))
    }

    /// Writes where a reward ticket stands in a batch; the custodian's alone.
    pub fn put_ticket(ticket: TicketInput) -> Result<Written, Refusal> {
        tickets::put(&ticket).map(|written| done(Kind::Tickets, written))
    }

    /// Writes a receipt of a consent to this exchange's recipient; the custodian's alone.
    pub fn put_receipt(receipt: ReceiptInput) -> Result<Written, Refusal> {
        receipts::put(&receipt).map(|written| done(Kind::Receipts, written))
    }

    /// The receipts, page by page.
    pub fn receipts(cursor: Option<String>, limit: Option<u32>) -> Result<ReceiptPage, Refusal> {
        receipts::page(cursor.as_deref(), limit)
    }

    /// Releases a record that the custodian's log here names; the custodian's alone.
    pub fn put_release(release: ReleaseInput) -> Result<Written, Refusal> {
        releases::put(&release).map(|written| done(Kind::Releases, written))
    }

    /// The released records' descriptions, page by page.
    pub fn releases(cursor: Option<String>, limit: Option<u32>) -> Result<ReleasePage, Refusal> {
        releases::page(cursor.as_deref(), limit)
    }

    /// One released record with its sealed payload.
    pub fn release(key: String) -> Result<FullRelease, Refusal> {
        releases::release(&key)
    }

    /// All entries by kind, key and digest, page by page, in an order that never changes.
    pub fn changes(cursor: Option<String>, limit: Option<u32>) -> Result<ChangePage, Refusal> {
        changes::page(cursor.as_deref(), limit)
    }

    /// One entry, and whether it counts.
    pub fn entry(kind: String, key: String) -> Result<EntryView, Refusal> {
        changes::entry(&kind, &key)
    }
}
