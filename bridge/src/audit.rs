//! The log of this party and of others: writing entries, bringing them into their contexts, and
//! checking whole logs.
//!
//! An entry is signed and kept here before anybody sees it: a crash right after publishes it later,
//! and no number is ever signed twice by this store. A store that was restored from a backup first
//! takes over what its own log in the context already says.

use std::collections::BTreeSet;

use medsync_protocol::audit::{Body, BodyError, Entry, EntryDigest, EntryKind, RecordRef, Seq};
use medsync_protocol::ids::{ContextId, UnixSeconds};
use medsync_protocol::signature::{PublicKey, SecretKey};
use rand_core::CryptoRng;

use crate::seams::random_salt;
use crate::source::{Circle, CircleState, LogEntry, PageLimit, SourceError, all_log};
use crate::store::log::LogFilter;
use crate::store::{Store, StoreError};

mod answers;
mod check;
mod glass;
mod verify;

pub use answers::{Judged, answers_fact, check_answers, described_fact, judge_all, logs_fact};
pub use check::{Anchorings, Fault, LogReport, check};
pub use glass::broken_glass;
pub use verify::{NamedLog, Report, UNREAD, author, verify, verify_with};

/// How often a number that was taken meanwhile is tried again: by as many writers at once.
const ATTEMPTS: usize = 16;
/// How many entries of one context are brought there in one round.
const PUBLISHED_PER_ROUND: u32 = 64;

/// Why an entry could not be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The context did not take it, or did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The body is beyond its bounds.
    #[error("log entry: {0}")]
    Body(#[from] BodyError),
    /// This home was restored from a backup and has not read its own log since.
    #[error(
        "this home was restored, and its log in {0} was not read since: the next entry might have \
         a number that was signed already. It is written once the circle answers; try again then"
    )]
    Unread(ContextId),
    /// Too many others wrote into the same log at once.
    #[error("the log of {0} did not come to rest; try again")]
    Busy(ContextId),
    /// An entry that was published is not there.
    #[error("the entry {0} is not in its context; nothing is released on it")]
    NotThere(EntryDigest),
}

/// As [`append`], unless the author said just this in the context before: for what happens once.
///
/// # Errors
/// As [`append`].
pub async fn append_once(
    store: &Store,
    context: ContextId,
    author: &SecretKey,
    body: &Body,
    now: UnixSeconds,
    random: &mut (impl CryptoRng + ?Sized),
) -> Result<LogEntry, AuditError> {
    let said = store
        .entry_saying(context, author.public_key(), body)
        .await?;
    match said {
        Some(said) => Ok(said),
        None => append(store, context, author, body, now, random).await,
    }
}

/// Signs an entry that says this and keeps it; it is not in its context yet.
///
/// # Errors
/// A store that does not answer, or was restored and has not read this log since; a body beyond its
/// bounds.
pub async fn append(
    store: &Store,
    context: ContextId,
    author: &SecretKey,
    body: &Body,
    now: UnixSeconds,
    random: &mut (impl CryptoRng + ?Sized),
) -> Result<LogEntry, AuditError> {
    let author_key = author.public_key();
    let subject = body.subject()?;
    if store.is_log_unread(context).await? {
        return Err(AuditError::Unread(context));
    }
    for _ in 0..ATTEMPTS {
        let next = store.log_next(context, author_key).await?;
        let (entry, signature) = loop {
            let entry = Entry {
                context,
                author_key,
                seq: next.seq,
                prev: next.prev,
                kind: body.kind(),
                subject,
                // Clocks are set back, and other devices have their own.
                at: now.max(next.not_before),
                salt: random_salt(random),
            };
            // A digest that cannot be signed (odds 2^-55) takes another salt.
            if let Ok(signature) = author.sign(entry.digest().message()) {
                break (entry, signature);
            }
        };
        let made = LogEntry {
            entry,
            body: body.clone(),
            signature,
        };
        if store.keep_own_entry(&made, now).await? {
            return Ok(made);
        }
    }
    Err(AuditError::Busy(context))
}

/// Takes over what the context has of this party's own log beyond what this store knows: after a
/// restored backup the next entry must not take a number that was signed already.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn catch_up(
    store: &Store,
    circle: &dyn Circle,
    author: &SecretKey,
    now: UnixSeconds,
) -> Result<(), AuditError> {
    catch_up_with(store, circle, author.public_key(), now).await?;
    Ok(store.log_is_read(circle.context()).await?)
}

/// The same of anybody's log.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn catch_up_with(
    store: &Store,
    circle: &dyn Circle,
    author_key: PublicKey,
    now: UnixSeconds,
) -> Result<(), AuditError> {
    let next = store.log_next(circle.context(), author_key).await?;
    for entry in all_log(circle, author_key, next.seq).await? {
        if entry.is_signed() {
            keep(store, &entry, now).await?;
        }
    }
    Ok(())
}

/// What the log of a custodian, as it was seen, says that it erased.
///
/// # Errors
/// A store that does not answer.
pub async fn erased_by(
    store: &Store,
    context: ContextId,
    author_key: PublicKey,
) -> Result<BTreeSet<RecordRef>, StoreError> {
    let filter = LogFilter {
        author_key: Some(author_key),
        kind: Some(EntryKind::Erased.name()),
        ..LogFilter::default()
    };
    let mut erased = BTreeSet::new();
    for entry in store.log(context, &filter).await? {
        // With an order it is a recipient's, and of what was released.
        if let Body::Erased {
            order: None,
            records,
            ..
        } = entry.body
        {
            erased.extend(records);
        }
    }
    Ok(erased)
}

/// Reads every log of a context whole and takes over what is signed; answers what the context
/// shows.
///
/// # Errors
/// A store or a node that does not answer.
pub async fn read_all(
    store: &Store,
    circle: &dyn Circle,
    state: &CircleState,
    now: UnixSeconds,
) -> Result<BTreeSet<EntryDigest>, AuditError> {
    let mut digests = BTreeSet::new();
    for (author_key, _) in state.authors() {
        for entry in all_log(circle, author_key, Seq(0)).await? {
            digests.insert(entry.digest());
            if entry.is_signed() {
                keep(store, &entry, now).await?;
            }
        }
    }
    Ok(digests)
}

/// Keeps an entry that was seen and whose author and signature were checked. A second one with its
/// number is evidence against the author, and is said wherever people look.
///
/// # Errors
/// A store that does not answer.
pub async fn keep(store: &Store, entry: &LogEntry, now: UnixSeconds) -> Result<(), StoreError> {
    store.keep_entry(entry, now).await?;
    let said = entry.entry;
    if store
        .is_forked(said.context, said.author_key, said.seq)
        .await?
    {
        let why = format!(
            "{} signed two log entries with number {}",
            said.author_key, said.seq.0
        );
        tracing::error!(context = %said.context, why, "ALARM: a log was forked");
        store.state_fact(&forked_fact(said.context), &why).await?;
    }
    Ok(())
}

/// Under which name it is kept that somebody forked a log of a context, and who.
#[must_use]
pub fn forked_fact(context: ContextId) -> String {
    format!("forked:{context}")
}

/// Brings entries into their context that are not there, or not any more; a bounded part of each
/// author's. A log that the context does not take keeps no other out.
///
/// # Errors
/// The first entry that the context did not take.
pub async fn publish(
    store: &Store,
    circle: &dyn Circle,
    now: UnixSeconds,
) -> Result<(), AuditError> {
    let mut done = Ok(());
    for author in store.unpublished_authors(circle.context()).await? {
        match publish_log_of(store, circle, author, now).await {
            Err(AuditError::Source(error)) if error.refusal().is_some() => {
                done = done.and(Err(error.into()));
            }
            other => other?,
        }
    }
    done
}

async fn publish_log_of(
    store: &Store,
    circle: &dyn Circle,
    author: PublicKey,
    now: UnixSeconds,
) -> Result<(), AuditError> {
    let whose = (circle.context(), author);
    for entry in store
        .unpublished_entries(whose, PUBLISHED_PER_ROUND)
        .await?
    {
        circle.append_log(&entry).await?;
        store.keep_entry(&entry, now).await?;
    }
    Ok(())
}

/// Brings one entry into its context, whatever becomes of others, and reads it back.
///
/// # Errors
/// As [`read_back`].
pub async fn place(
    store: &Store,
    circle: &dyn Circle,
    entry: &LogEntry,
    now: UnixSeconds,
) -> Result<(), AuditError> {
    match circle.append_log(entry).await {
        // Those before it are not there, or not any more; some of them may never be.
        Err(error) if error.refusal() == Some("log_order") => {
            if let Err(AuditError::Store(error)) = publish(store, circle, now).await {
                return Err(error.into());
            }
        }
        done => {
            done?;
            store.keep_entry(entry, now).await?;
        }
    }
    read_back(circle, entry).await
}

/// Reads an entry back from its context: only what is there and is the same counts as logged.
///
/// # Errors
/// [`AuditError::NotThere`]; a node that does not answer.
pub async fn read_back(circle: &dyn Circle, entry: &LogEntry) -> Result<(), AuditError> {
    let Entry {
        author_key, seq, ..
    } = entry.entry;
    let page = circle.log(author_key, seq, PageLimit::ONE).await?;
    let is_there = page.entries.iter().any(|there| there == entry);
    if is_there {
        Ok(())
    } else {
        Err(AuditError::NotThere(entry.digest()))
    }
}
