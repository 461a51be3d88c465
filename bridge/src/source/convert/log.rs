//! Log entries and heads: subjects, digests and paths are recomputed.

use medsync_protocol::audit::{BODY_BYTES_MAX, Body, Entry, EntryKind, Seq};
use medsync_protocol::ids::{ContextId, Sha256Digest, to_base64};
use medsync_protocol::tree::Proof;

use super::{ConvertError, Converted, bytes, same};
use crate::source::abi;
use crate::source::model::{Head, LogEntry, LogPage};

pub(in crate::source) fn log_to_abi(entry: &LogEntry) -> Converted<abi::LogInput> {
    let body = entry.body.encode()?;
    Ok(abi::LogInput {
        author_key: entry.entry.author_key,
        seq: entry.entry.seq,
        prev: entry.entry.prev,
        kind: entry.entry.kind.name().into(),
        body: to_base64(&body),
        at: entry.entry.at,
        salt: entry.entry.salt,
        signature: entry.signature,
    })
}

pub(super) fn log_entry(context: ContextId, view: &abi::LogView) -> Converted<LogEntry> {
    let said = &view.entry;
    let encoded = bytes("a log entry's body", &said.body, BODY_BYTES_MAX)?;
    let body = Body::decode(&encoded)?;
    let kind = EntryKind::named(&said.kind)
        .ok_or_else(|| ConvertError::Unknown("the kind of a log entry", said.kind.clone()))?;
    same("the kind of a log entry", &kind, &body.kind())?;
    let entry = Entry {
        context,
        author_key: said.author_key,
        seq: said.seq,
        prev: said.prev,
        kind,
        subject: Sha256Digest::of(&encoded),
        at: said.at,
        salt: said.salt,
    };
    same("a log entry's digest", &entry.digest(), &view.digest)?;
    Ok(LogEntry {
        entry,
        body,
        signature: said.signature,
    })
}

pub(in crate::source) fn log_page(
    context: ContextId,
    from: Seq,
    page: &abi::LogPage,
) -> Converted<LogPage> {
    let entries: Converted<Vec<LogEntry>> = page
        .entries
        .iter()
        .map(|view| log_entry(context, view))
        .collect();
    // A page that does not go on would be read for ever.
    let goes_on = page.next.is_none_or(|next| next > from.0);
    same("the next number of a log", &goes_on, &true)?;
    Ok(LogPage {
        entries: entries?,
        next: page.next.map(Seq),
    })
}

pub(in crate::source) fn head_to_abi(head: &Head) -> abi::HeadInput {
    abi::HeadInput {
        author_key: head.author_key,
        seq: head.seq,
        digest: head.digest,
        salt: head.salt,
        root: head.root,
        index: head.proof.index,
        siblings: head.proof.siblings.clone(),
    }
}

pub(super) fn head(context: ContextId, view: &abi::HeadView) -> Converted<Head> {
    let said = &view.head;
    let head = Head {
        author_key: said.author_key,
        seq: said.seq,
        digest: said.digest,
        salt: said.salt,
        root: said.root,
        proof: Proof {
            index: said.index,
            siblings: said.siblings.clone(),
        },
    };
    same("the root of a path", &head.is_included(context), &true)?;
    Ok(head)
}
