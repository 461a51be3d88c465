//! The log: who did what, signed, in one chain an author.
//!
//! An entry counts by its author's signature, whoever wrote it down. Writing checks that it
//! continues the author's chain, so that an honest node never makes a gap; a hostile one can, and
//! can fork its own chain. Both are shown as they are: readers compare with what they kept.

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::audit::{Body, Entry, EntryDigest, EntryKind, Seq, NUMBER_MAX};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{MemberId, Salt, Sha256Digest, UnixSeconds};
use medsync_protocol::signature::{PublicKey, Signature};

use crate::abi::{LogInput, LogPage, LogView, Written};
use crate::circle::Circle;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::{
    LOG_BODY_TEXT_BYTES_MAX, LOG_COPIES_LOOKED_AT_MAX, PAGE_LEN_DEFAULT, PAGE_LEN_MAX,
};
use crate::members::Members;
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::{
    base64, load_signature, read, read_base64, read_signature, signature, store_signature,
    StoredSignature,
};

#[derive(BorshSerialize, BorshDeserialize)]
struct LogBody {
    author_key: PublicKey,
    seq: Seq,
    prev: EntryDigest,
    body: Body,
    at: u64,
    salt: Salt,
    signature: StoredSignature,
    recorded_at: u64,
}

/// An entry as it was written down; its signature is yet to be checked.
pub struct Found {
    key: Key,
    entry: Entry,
    body: Body,
    signature: Signature,
    recorded_at: UnixSeconds,
    owner: Option<MemberId>,
    by_author: bool,
}

impl Found {
    /// The entry's author, number and digest.
    fn name(&self) -> (PublicKey, Seq, EntryDigest) {
        (self.entry.author_key, self.entry.seq, self.entry.digest())
    }

    fn verifies(&self) -> bool {
        let message = self.entry.digest().message();
        self.entry.author_key.verifies(message, &self.signature)
    }

    /// As the interface shows it.
    pub fn view(&self) -> LogView {
        let entry = &self.entry;
        LogView {
            key: self.key.to_string(),
            entry: LogInput {
                author_key: entry.author_key.to_string(),
                seq: entry.seq.0,
                prev: entry.prev.to_string(),
                kind: entry.kind.name().into(),
                // A body that was read has its encoding.
                body: base64(&self.body.encode().unwrap_or_default()),
                at: entry.at.0,
                salt: entry.salt.to_string(),
                signature: signature(&self.signature),
            },
            digest: entry.digest().to_string(),
            recorded_at: self.recorded_at.0,
        }
    }
}

/// One entry of somebody who writes here, its signature unchecked.
fn read_entry(circle: &Circle, members: &Members, shard: Shard, key: Key) -> Option<Found> {
    let stored = store::load(key)?;
    let log: LogBody = stored.decode()?;
    let authors = members.authors(circle, log.author_key);
    if authors.is_empty() || Kind::shard_of_entry(&log.author_key.to_bytes(), log.seq.0) != shard {
        return None;
    }
    let entry = Entry {
        context: circle.context,
        author_key: log.author_key,
        seq: log.seq,
        prev: log.prev,
        kind: log.body.kind(),
        subject: log.body.subject().ok()?,
        at: UnixSeconds(log.at),
        salt: log.salt,
    };
    let signature = load_signature(&log.signature)?;
    let owner = stored.owner();
    entry.is_bounded().then_some(Found {
        key,
        entry,
        body: log.body,
        signature,
        recorded_at: UnixSeconds(log.recorded_at),
        owner,
        by_author: owner.is_some_and(|owner| authors.contains(&owner)),
    })
}

/// One entry, if it is there and counts.
pub fn load(circle: &Circle, members: &Members, shard: Shard, key: Key) -> Option<Found> {
    read_entry(circle, members, shard, key).filter(Found::verifies)
}

/// The entries of one author in one shard, by number and then by key.
fn of_author(
    circle: &Circle,
    members: &Members,
    author_key: PublicKey,
    shard: Shard,
) -> Vec<Found> {
    let mut found: Vec<Found> = store::keys(Kind::Log, shard)
        .into_iter()
        .filter_map(|(key, _)| read_entry(circle, members, shard, key))
        .filter(|found| found.entry.author_key == author_key)
        .collect();
    found.sort_unstable_by_key(|found| (found.entry.seq, !found.by_author, found.key));
    found
}

/// The entries among these with this number that count, each digest once. Of each writer only the
/// first few copies are looked at: rubbish costs whoever reads it, and uses up nobody else's place.
fn counting(found: &[Found], seq: Seq) -> Vec<&Found> {
    let mut counting: Vec<&Found> = Vec::new();
    let mut looked_at: Vec<Option<MemberId>> = Vec::new();
    for copy in found.iter().filter(|found| found.entry.seq == seq) {
        let is_known = counting.iter().any(|known| known.name() == copy.name());
        let of_writer = looked_at.iter().filter(|writer| **writer == copy.owner);
        if is_known || of_writer.count() == LOG_COPIES_LOOKED_AT_MAX {
            continue;
        }
        looked_at.push(copy.owner);
        if copy.verifies() {
            counting.push(copy);
        }
    }
    counting
}

/// One entry by its name, if it counts here.
fn here(
    circle: &Circle,
    members: &Members,
    (author_key, seq, digest): (PublicKey, Seq, EntryDigest),
) -> Option<Found> {
    let shard = Kind::shard_of_entry(&author_key.to_bytes(), seq.0);
    let mut found = of_author(circle, members, author_key, shard);
    let counting = counting(&found, seq);
    let named = counting
        .iter()
        .find(|found| found.entry.digest() == digest)?;
    let key = named.key;
    let place = found.iter().position(|found| found.key == key)?;
    Some(found.swap_remove(place))
}

/// What an entry says, if it counts here.
pub fn saying(
    circle: &Circle,
    members: &Members,
    name: (PublicKey, Seq, EntryDigest),
) -> Option<Body> {
    here(circle, members, name).map(|found| found.body)
}

/// Whether an entry counts here.
pub fn is_here(
    circle: &Circle,
    members: &Members,
    author_key: PublicKey,
    seq: Seq,
    digest: EntryDigest,
) -> bool {
    saying(circle, members, (author_key, seq, digest)).is_some()
}

/// Writes an entry down.
pub fn append(input: &LogInput) -> Result<Written, Refusal> {
    let circle = Circle::load()?;
    let (entry, body) = read_input(&circle, input)?;
    let signature = read_signature(&input.signature)?;
    let members = Members::load(&circle);
    let author_key = entry.author_key;
    if members.authors(&circle, author_key).is_empty() {
        return Err(Refusal::NotAnAuthor(author_key));
    }
    let digest = entry.digest();
    if !author_key.verifies(digest.message(), &signature) {
        return Err(Refusal::LogSignature);
    }
    let shard = Kind::shard_of_entry(&author_key.to_bytes(), entry.seq.0);
    let found = of_author(&circle, &members, author_key, shard);
    let same = counting(&found, entry.seq);
    if let Some(same) = same.iter().find(|same| same.entry.digest() == digest) {
        return Ok(Written::there(same.key));
    }
    let Seq(seq) = entry.seq;
    if !same.is_empty() {
        return Err(Refusal::LogFork { seq });
    }
    let follows = match seq.checked_sub(1) {
        None => entry.prev.felt() == Felt::ZERO,
        Some(before) => {
            let before = (author_key, Seq(before), entry.prev);
            match here(&circle, &members, before) {
                Some(before) if entry.at < before.entry.at => {
                    return Err(Refusal::LogBackdated { seq });
                }
                before => before.is_some(),
            }
        }
    };
    if !follows {
        return Err(Refusal::LogOrder { seq });
    }
    let log = LogBody {
        author_key,
        seq: entry.seq,
        prev: entry.prev,
        body,
        at: entry.at.0,
        salt: entry.salt,
        signature: store_signature(&signature),
        recorded_at: host::now().0,
    };
    let key = store::insert(Kind::Log, shard, &log)?;
    Ok(Written::new(key))
}

fn read_input(circle: &Circle, input: &LogInput) -> Result<(Entry, Body), Refusal> {
    let bytes = read_base64("body", &input.body, LOG_BODY_TEXT_BYTES_MAX)?;
    let body = Body::decode(&bytes)?;
    let kind = EntryKind::named(&input.kind).filter(|kind| *kind == body.kind());
    let Some(kind) = kind else {
        return Err(Refusal::LogKind {
            body: body.kind().name(),
            entry: input.kind.chars().take(32).collect(),
        });
    };
    let entry = Entry {
        context: circle.context,
        author_key: read("author_key", &input.author_key)?,
        seq: Seq(input.seq),
        prev: read("prev", &input.prev)?,
        kind,
        subject: Sha256Digest::of(&bytes),
        at: UnixSeconds(input.at),
        salt: read("salt", &input.salt)?,
    };
    if !entry.is_bounded() {
        return Err(Refusal::malformed("seq, at", "at most 2^63 - 1"));
    }
    Ok((entry, body))
}

/// One author's log from a number on, as far as a page reaches or the first number that is not
/// here.
pub fn page(author_key: &str, from: u64, limit: Option<u32>) -> Result<LogPage, Refusal> {
    let author_key: PublicKey = read("author_key", author_key)?;
    let limit = limit.unwrap_or(PAGE_LEN_DEFAULT);
    if limit == 0 || limit > PAGE_LEN_MAX {
        return Err(Refusal::malformed("limit", "from 1 to 100"));
    }
    if from > NUMBER_MAX {
        return Err(Refusal::malformed("from", "at most 2^63 - 1"));
    }
    let circle = Circle::load()?;
    let members = Members::load(&circle);
    let mut page = LogPage {
        entries: Vec::new(),
        next: None,
    };
    let mut open: Option<(Shard, Vec<Found>)> = None;
    for seq in (from..).take(limit as usize) {
        let shard = Kind::shard_of_entry(&author_key.to_bytes(), seq);
        let (_, found) = match open.take() {
            Some(known) if known.0 == shard => open.insert(known),
            _ => open.insert((shard, of_author(&circle, &members, author_key, shard))),
        };
        let entries = counting(found, Seq(seq));
        if entries.is_empty() {
            page.next = None;
            return Ok(page);
        }
        page.entries.extend(entries.into_iter().map(Found::view));
        page.next = seq.checked_add(1);
    }
    Ok(page)
}
