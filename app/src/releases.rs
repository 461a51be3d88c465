//! Releases in an exchange: records that the custodian hands over, each covered by a log entry.
//!
//! A release counts only if the custodian's log in this exchange has the RELEASED entry that it
//! names, and that entry names the record and version. The entry in turn names the one in the
//! patient's circle, which the sealed key is bound to: what is not logged there does not open.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::audit::{Body, EntryDigest, RecordRef, Seq};
use medsync_protocol::ids::{parse_bytes32, ContextId, ContextKind, RecordId, Sha256Digest};

use crate::abi::{FullRelease, ReleaseInput, ReleasePage, ReleaseView, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::{
    PAYLOAD_BYTES_MAX, PAYLOAD_TEXT_BYTES_MAX, RECORD_BYTES_MAX, RESOURCE_TYPE_BYTES_MAX,
    SEALED_KEY_TEXT_BYTES_MAX,
};
use crate::log;
use crate::members::Members;
use crate::paging::Page;
use crate::records::{bounded, load_payload, store_payload};
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::{base64, read, read_base64};

#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct ReleaseBody {
    context: ContextId,
    entry_seq: Seq,
    entry: EntryDigest,
    circle: ContextId,
    what: RecordRef,
    resource_type: String,
    payload_key: [u8; 32],
    payload_sha256: Sha256Digest,
    sealed_key: Vec<u8>,
    recorded_at: u64,
}

/// What a log entry says of a release: which request it answers, and its name in the circle.
#[derive(Clone, Copy)]
struct Cover {
    request: EntryDigest,
    logged_as: EntryDigest,
}

/// The custodian's log of an exchange; each entry is read and checked once.
pub struct Covers<'a> {
    exchange: &'a Circle,
    members: &'a Members,
    known: BTreeMap<(Seq, EntryDigest), Option<Body>>,
}

impl<'a> Covers<'a> {
    /// Nothing is read yet.
    pub fn new(exchange: &'a Circle, members: &'a Members) -> Self {
        Self {
            exchange,
            members,
            known: BTreeMap::new(),
        }
    }

    fn of(&mut self, release: &ReleaseBody) -> Option<Cover> {
        let (seq, digest) = (release.entry_seq, release.entry);
        let (exchange, members) = (self.exchange, self.members);
        let read = || log::saying(exchange, members, (exchange.author_key, seq, digest));
        match self
            .known
            .entry((seq, digest))
            .or_insert_with(read)
            .as_ref()?
        {
            Body::Released {
                request,
                logged_as: Some(logged_as),
                records,
                ..
            } if records.binary_search(&release.what).is_ok() => Some(Cover {
                request: *request,
                logged_as: *logged_as,
            }),
            _ => None,
        }
    }
}

impl ReleaseBody {
    /// Key of the payload and time are the store's; all else says whether it is the same release.
    fn is_same(&self, other: &Self) -> bool {
        *self
            == Self {
                payload_key: self.payload_key,
                recorded_at: self.recorded_at,
                sealed_key: self.sealed_key.clone(),
                ..other.clone()
            }
    }
}

fn load(exchange: &Circle, shard: Shard, key: Key) -> Option<ReleaseBody> {
    let stored = store::load(key).filter(|stored| stored.body.len() <= RECORD_BYTES_MAX)?;
    let body: ReleaseBody = stored.decode()?;
    let counts = body.context == exchange.context
        && Kind::Releases.shard_of(&body.what.record.0) == shard
        && stored.owner() == Some(exchange.custodian_member);
    counts.then_some(body)
}

/// Releases a record. Sealing is random, so that a release of the same record under the same entry
/// is the same, however its key is sealed.
pub fn put(input: &ReleaseInput) -> Result<Written, Refusal> {
    let exchange = Circle::load_as(ContextKind::Exchange)?;
    exchange.check_custodian()?;
    let payload = read_base64("payload", &input.payload, PAYLOAD_TEXT_BYTES_MAX)?;
    bounded("payload bytes", payload.len(), PAYLOAD_BYTES_MAX)?;
    bounded(
        "resource_type bytes",
        input.resource_type.len(),
        RESOURCE_TYPE_BYTES_MAX,
    )?;
    let mut body = ReleaseBody {
        context: exchange.context,
        entry_seq: Seq(input.entry_seq),
        entry: read("entry", &input.entry)?,
        circle: read("circle", &input.circle)?,
        what: RecordRef {
            record: read::<RecordId>("record", &input.record)?,
            version: input.version,
        },
        resource_type: input.resource_type.clone(),
        payload_key: [0; 32],
        payload_sha256: Sha256Digest::of(&payload),
        sealed_key: read_base64("sealed_key", &input.sealed_key, SEALED_KEY_TEXT_BYTES_MAX)?,
        recorded_at: host::now().0,
    };
    let members = Members::load(&exchange);
    members.patient()?;
    if Covers::new(&exchange, &members).of(&body).is_none() {
        return Err(Refusal::NotLogged);
    }
    let shard = Kind::Releases.shard_of(&body.what.record.0);
    let same = store::keys(Kind::Releases, shard)
        .into_iter()
        .find(|(key, _)| {
            let known = load(&exchange, shard, *key);
            known.is_some_and(|known| known.is_same(&body))
        });
    if let Some((key, _)) = same {
        return Ok(Written::there(key));
    }
    body.payload_key = store_payload(body.what.record, payload)?.0;
    let key = store::insert(Kind::Releases, shard, &body)?;
    Ok(Written::new(key))
}

/// One release, as the interface shows it, if a log entry covers it.
pub fn view(covers: &mut Covers<'_>, shard: Shard, key: Key) -> Option<ReleaseView> {
    let body = load(covers.exchange, shard, key)?;
    let cover = covers.of(&body)?;
    Some(ReleaseView {
        key: key.to_string(),
        entry: body.entry.to_string(),
        logged_as: cover.logged_as.to_string(),
        request: cover.request.to_string(),
        circle: body.circle.to_string(),
        record: body.what.record.to_string(),
        version: body.what.version,
        resource_type: body.resource_type,
        payload_sha256: body.payload_sha256.to_string(),
        sealed_key: base64(&body.sealed_key),
        recorded_at: body.recorded_at,
    })
}

/// A page of releases.
pub fn page(cursor: Option<&str>, limit: Option<u32>) -> Result<ReleasePage, Refusal> {
    let page = Page::read(cursor, limit)?;
    let exchange = Circle::load_as(ContextKind::Exchange)?;
    let members = Members::load(&exchange);
    let (places, next) = page.walk(&[Kind::Releases]);
    let mut answer = ReleasePage {
        releases: Vec::new(),
        ignored: 0,
        next,
    };
    let mut covers = Covers::new(&exchange, &members);
    for (place, _) in places {
        match view(&mut covers, place.shard, place.key) {
            Some(view) => answer.releases.push(view),
            None => answer.ignored += 1,
        }
    }
    Ok(answer)
}

/// One release with its payload.
pub fn release(key: &str) -> Result<FullRelease, Refusal> {
    let key = Key(parse_bytes32(key).map_err(|error| Refusal::malformed("key", error))?);
    let exchange = Circle::load_as(ContextKind::Exchange)?;
    let members = Members::load(&exchange);
    let (shard, body) = store::shards_of_key(Kind::Releases, key)
        .find_map(|shard| Some((shard, load(&exchange, shard, key)?)))
        .ok_or(Refusal::UnknownEntry)?;
    let mut covers = Covers::new(&exchange, &members);
    let release = view(&mut covers, shard, key).ok_or(Refusal::NotLogged)?;
    let payload = load_payload(Key(body.payload_key), body.payload_sha256);
    Ok(FullRelease {
        release,
        payload: payload.map(|bytes| base64(&bytes)),
    })
}
