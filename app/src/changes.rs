//! The walk over everything, and single entries.
//!
//! A reader walks all entries by key and digest, compares with what it has seen, and fetches what
//! is new. Because every walk is a full one, an entry that vanishes is noticed too.

use medsync_protocol::ids::parse_bytes32;

use crate::abi::{Change, ChangePage, EntryView};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard, WALKED};
use crate::members::{self, Members};
use crate::paging::Page;
use crate::refusal::Refusal;
use crate::standing::Standing;
use crate::store::{self, Key};
use crate::{
    consents, devices, heads, keychanges, log, positions, receipts, records, releases, revocations,
    tickets,
};

/// A page of the walk.
pub fn page(cursor: Option<&str>, limit: Option<u32>) -> Result<ChangePage, Refusal> {
    let (places, next) = Page::read(cursor, limit)?.walk(&WALKED);
    let entries = places
        .into_iter()
        .map(|(place, digest)| Change {
            kind: place.kind.name().into(),
            key: place.key.to_string(),
            digest: digest.to_string(),
        })
        .collect();
    Ok(ChangePage { entries, next })
}

/// One entry.
pub fn entry(kind: &str, key: &str) -> Result<EntryView, Refusal> {
    let kind = Kind::named(kind)?;
    let key = Key(parse_bytes32(key).map_err(|error| Refusal::malformed("key", error))?);
    let mut shards = store::shards_of_key(kind, key).peekable();
    if shards.peek().is_none() {
        return Err(Refusal::UnknownEntry);
    }
    let circle = Circle::load()?;
    let owner = store::load(key).and_then(|stored| stored.owner());
    let view = EntryView {
        kind: kind.name().into(),
        key: key.to_string(),
        owner: owner.map(|owner| owner.to_string()),
        valid: false,
        copy_of: None,
        enrolment: None,
        key_change: None,
        device: None,
        consent: None,
        revocation: None,
        anchored: None,
        log: None,
        head: None,
        record: None,
        pool: None,
        ticket: None,
        receipt: None,
        release: None,
    };
    // It counts in the shard where it belongs, wherever else a member has it listed.
    let mut views = shards.map(|shard| fill(view.clone(), &circle, kind, shard, key));
    let is_said = |found: &EntryView| found.valid || found.copy_of.is_some();
    Ok(views.find(is_said).unwrap_or(view))
}

fn fill(mut view: EntryView, circle: &Circle, kind: Kind, shard: Shard, key: Key) -> EntryView {
    let now = host::now();
    match kind {
        // The circle's own entry was read and checked to get here.
        Kind::Circle => view.valid = key.0 == *Kind::Circle.fixed_entry_id().as_bytes(),
        Kind::Enrolments => {
            view.enrolment = members::load_enrolment(circle, key).map(|found| found.view());
        }
        Kind::KeyChanges => {
            let members = Members::load(circle);
            let found = members
                .only()
                .ok()
                .and_then(|only| keychanges::load(circle, only.enrolment.recovery_key, key));
            view.key_change = found.map(|found| found.view());
        }
        Kind::Devices => {
            let members = Members::load(circle);
            let found = devices::load(circle, key);
            view.device = found.map(|found| found.view(&members));
        }
        Kind::Consents => {
            let members = Members::load(circle);
            if let Some(found) = consents::load(circle, shard, key) {
                let handle = found.consent.opening.handle;
                let standing = Standing::of_handle(circle, &members, handle);
                view.consent = standing.view(key, now);
                let other = standing.copy(key).filter(|_| view.consent.is_none());
                view.copy_of = other.map(|commitment| commitment.to_string());
            }
        }
        Kind::Revocations => view.revocation = revocations::view(shard, key),
        Kind::Anchors => {
            let members = Members::load(circle);
            let standing = Standing::load(circle, &members, shard);
            view.anchored =
                positions::subject(key).and_then(|subject| standing.view_of(subject, now));
        }
        Kind::Log => {
            let members = Members::load(circle);
            view.log = log::load(circle, &members, shard, key).map(|found| found.view());
        }
        Kind::Heads => view.head = heads::load(circle, shard, key).map(|found| found.view()),
        Kind::Records => view.record = records::view(circle, shard, key),
        Kind::Pools => view.pool = tickets::pool_view(circle, key),
        Kind::Tickets => view.ticket = tickets::view(circle, shard, key),
        Kind::Receipts => view.receipt = receipts::view(circle, shard, key),
        Kind::Releases => {
            let members = Members::load(circle);
            let mut covers = releases::Covers::new(circle, &members);
            view.release = releases::view(&mut covers, shard, key);
        }
        Kind::Payloads => {}
    }
    view.valid |= view.enrolment.is_some()
        || view.key_change.is_some()
        || view.device.is_some()
        || view.consent.is_some()
        || view.revocation.is_some()
        || view.anchored.is_some()
        || view.log.is_some()
        || view.head.is_some()
        || view.record.is_some()
        || view.pool.is_some()
        || view.ticket.is_some()
        || view.receipt.is_some()
        || view.release.is_some();
    view
}
