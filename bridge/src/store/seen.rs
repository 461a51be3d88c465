//! Everything that was ever seen in a circle: what vanishes from it or is replaced is noticed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use medsync_protocol::ids::{ContextId, Sha256Digest, UnixSeconds};
use medsync_protocol::signature::PublicKey;

use super::db::{Tx, query, query_scalar};
use super::facts::{ask_for_revocations, settle_revocations};
use super::keychanges::ask_for_key_changes;
use super::log::ask_for_log;
use super::placed::ask_for_tickets;
use super::{Store, StoreError, read, signed, unsigned};
use crate::source::{Change, EntryKey, EntryKind, StateHash, consents_digest};

/// An entry that was seen.
struct Seen {
    entry: Change,
    /// The last walk did not show it.
    is_gone: bool,
    /// What it says, of what comes back under another key.
    content: Option<String>,
}

/// A whole walk.
#[derive(Clone, Copy, Debug)]
pub struct Walked<'a> {
    /// What the circle has.
    pub entries: &'a [Change],
    /// The state that was walked, if everything in it was taken in: a circle of that state is not
    /// read again for a while.
    pub taken_in: Option<StateHash>,
    /// Also what earlier walks missed, and is missing still, is asked for: it may have come back
    /// and been lost again in between.
    pub is_thorough: bool,
    /// Whose logs are brought back: what is brought back takes up the room of whoever brings it.
    pub carried: &'a [PublicKey],
}

/// What a walk shows that was not there before.
#[derive(Debug, Default)]
pub struct Unseen {
    /// Entries that are new.
    pub new: Vec<Change>,
    /// Entries that are known with another content.
    pub replaced: Vec<Change>,
    /// How many entries of the circle are known, also of those that are gone.
    pub known: usize,
}

/// What somebody did to a circle's entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Entries that are gone; they stay in force here.
    pub vanished: u64,
    /// Entries that have another content than they had.
    pub replaced: u64,
}

impl Evidence {
    /// In words, if there is anything to say.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        let Self { vanished, replaced } = self;
        (*self != Self::default()).then(|| {
            format!(
                "{vanished} entries vanished and {replaced} were replaced; they stay in force here"
            )
        })
    }
}

/// Notes that an entry was seen, as a part of what else is kept of it.
pub(super) async fn note(
    transaction: &mut Tx,
    context: ContextId,
    entry: &Change,
    content: Option<&str>,
    now: UnixSeconds,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO seen (context, kind, entry_key, digest, first_seen_at, content) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (context, kind, entry_key) \
         DO UPDATE SET digest = excluded.digest, content = excluded.content, vanished_at = NULL, \
         replaced_at = CASE WHEN seen.digest = excluded.digest THEN seen.replaced_at ELSE $5 END",
    )
    .bind(context.to_string())
    .bind(entry.kind.name())
    .bind(entry.key.to_string())
    .bind(entry.digest.to_string())
    .bind(signed(now.0))
    .bind(content)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The digest of a walk's revocations and consents, if each of them was read and what it says is
/// kept. One that the circle shows to be nothing may be something once more of it has arrived.
fn all_kept(walked: &[Change], seen: &[Seen]) -> Option<Sha256Digest> {
    let kept = seen.iter().filter(|seen| seen.content.is_some());
    let kept: HashSet<&Change> = kept.map(|seen| &seen.entry).collect();
    let bears = |entry: &&Change| matches!(entry.kind, EntryKind::Revocation | EntryKind::Consent);
    let is_kept = |entry: &Change| kept.contains(entry);
    let are_kept = walked.iter().filter(bears).all(is_kept);
    are_kept.then(|| consents_digest(walked))
}

impl Store {
    /// Which of these entries are new, and which have another content than they had. Entries are
    /// written once, so that the second is a replacement by somebody who should not.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn unseen(
        &self,
        context: ContextId,
        entries: &[Change],
    ) -> Result<Unseen, StoreError> {
        let known = self.seen(context).await?;
        let known: HashMap<_, _> = known
            .into_iter()
            .map(|Seen { entry, .. }| ((entry.kind, entry.key), entry.digest))
            .collect();
        let mut unseen = Unseen {
            known: known.len(),
            ..Unseen::default()
        };
        for entry in entries {
            match known.get(&(entry.kind, entry.key)) {
                None => unseen.new.push(*entry),
                Some(digest) if *digest != entry.digest => unseen.replaced.push(*entry),
                Some(_) => {}
            }
        }
        Ok(unseen)
    }

    /// How many entries of a circle are gone, and how many were replaced.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn evidence(&self, context: ContextId) -> Result<Evidence, StoreError> {
        let row = query(
            "SELECT COUNT(vanished_at) AS vanished, COUNT(replaced_at) AS replaced FROM seen \
             WHERE context = $1",
        )
        .bind(context.to_string())
        .fetch_one(&self.db)
        .await?;
        Ok(Evidence {
            vanished: unsigned(row.try_get("vanished")?),
            replaced: unsigned(row.try_get("replaced")?),
        })
    }

    /// Why an entry of a circle that was seen cannot be read, if one cannot.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn unreadable_seen(
        &self,
        context: ContextId,
    ) -> Result<Option<StoreError>, StoreError> {
        match self.seen(context).await {
            Err(error) if error.is_of_a_row() => Ok(Some(error)),
            read => read.map(|_| None),
        }
    }

    /// The entries of a kind that say something, as their content names it.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn entries_saying(
        &self,
        context: ContextId,
        kind: EntryKind,
        content: &str,
    ) -> Result<Vec<EntryKey>, StoreError> {
        let keys: Vec<String> = query_scalar(
            "SELECT entry_key FROM seen WHERE context = $1 AND kind = $2 AND content = $3 \
             AND vanished_at IS NULL ORDER BY first_seen_at, entry_key",
        )
        .bind(context.to_string())
        .bind(kind.name())
        .bind(content)
        .fetch_all(&self.db)
        .await?;
        keys.iter()
            .map(|text| read("an entry's key", text))
            .collect()
    }

    async fn seen(&self, context: ContextId) -> Result<Vec<Seen>, StoreError> {
        let rows = query("SELECT * FROM seen WHERE context = $1")
            .bind(context.to_string())
            .fetch_all(&self.db)
            .await?;
        rows.iter()
            .map(|row| {
                let entry = Change {
                    kind: read("an entry's kind", row.try_get("kind")?)?,
                    key: read("an entry's key", row.try_get("entry_key")?)?,
                    digest: read("an entry's digest", row.try_get("digest")?)?,
                };
                Ok(Seen {
                    entry,
                    is_gone: row.try_get::<Option<i64>, _>("vanished_at")?.is_some(),
                    content: row.try_get("content")?,
                })
            })
            .collect()
    }

    /// Notes that an entry was seen and dealt with, and what it says, if that comes back under
    /// another key; of a revocation, a log entry, a key change or a ticket that was replaced, asks
    /// for it to be brought back; of log entries those by `carried`.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn note_seen(
        &self,
        context: ContextId,
        (entry, content): (&Change, Option<&str>),
        carried: &[PublicKey],
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let mut transaction = self.db.begin("note_seen").await?;
        let known: Option<String> = query_scalar(
            "SELECT digest FROM seen WHERE context = $1 AND kind = $2 AND entry_key = $3",
        )
        .bind(context.to_string())
        .bind(entry.kind.name())
        .bind(entry.key.to_string())
        .fetch_optional(&mut *transaction)
        .await?;
        let is_replaced = known.is_some_and(|digest| digest != entry.digest.to_string());
        if is_replaced && entry.kind == EntryKind::Revocation {
            ask_for_revocations(&mut transaction, context, now).await?;
        }
        if is_replaced && entry.kind == EntryKind::Log {
            ask_for_log(&mut transaction, context, carried, now).await?;
        }
        if is_replaced && entry.kind == EntryKind::KeyChange {
            ask_for_key_changes(&mut transaction, context).await?;
        }
        if is_replaced && entry.kind == EntryKind::Ticket {
            ask_for_tickets(&mut transaction, context, now).await?;
        }
        note(&mut transaction, context, entry, content, now).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// After a whole walk: notes what is no longer there; if that is a revocation, a log entry, a
    /// key change or a ticket, asks for it to be brought back. Answers the entries that vanished
    /// since the last walk.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn finish_walk(
        &self,
        context: ContextId,
        walk: Walked<'_>,
        now: UnixSeconds,
    ) -> Result<Vec<Change>, StoreError> {
        let walked: HashSet<_> = walk.entries.iter().collect();
        let present: HashSet<_> = walk
            .entries
            .iter()
            .map(|entry| (entry.kind, entry.key))
            .collect();
        let seen = self.seen(context).await?;
        // What each content has of entries: whether one of them is there.
        let mut contents: BTreeMap<(EntryKind, &str), bool> = BTreeMap::new();
        for Seen { entry, content, .. } in &seen {
            if let Some(content) = content {
                *contents.entry((entry.kind, content)).or_default() |= walked.contains(entry);
            }
        }
        let (mut fresh, mut missing) = (Vec::new(), BTreeSet::new());
        let mut transaction = self.db.begin("finish_walk").await?;
        for Seen {
            entry,
            is_gone,
            content,
        } in &seen
        {
            let (entry, is_gone) = (*entry, *is_gone);
            let is_there = present.contains(&(entry.kind, entry.key));
            let is_missed = match content {
                Some(content) => contents.get(&(entry.kind, content)) == Some(&false),
                // Few, and what of them counts is known where they are brought back.
                None => entry.kind == EntryKind::KeyChange,
            };
            if !is_there && (!is_gone || walk.is_thorough && is_missed) {
                missing.insert(entry.kind);
            }
            if is_there != is_gone {
                continue;
            }
            query(
                "UPDATE seen SET vanished_at = $4 \
                 WHERE context = $1 AND kind = $2 AND entry_key = $3",
            )
            .bind(context.to_string())
            .bind(entry.kind.name())
            .bind(entry.key.to_string())
            .bind((!is_there).then(|| signed(now.0)))
            .execute(&mut *transaction)
            .await?;
            if !is_there {
                fresh.push(entry);
            }
        }
        settle_revocations(&mut transaction, context, &contents, now).await?;
        if missing.contains(&EntryKind::KeyChange) {
            ask_for_key_changes(&mut transaction, context).await?;
        }
        if missing.contains(&EntryKind::Log) {
            ask_for_log(&mut transaction, context, walk.carried, now).await?;
        }
        if missing.contains(&EntryKind::Ticket) {
            ask_for_tickets(&mut transaction, context, now).await?;
        }
        if let Some(state_hash) = walk.taken_in {
            query("UPDATE circles SET state_hash = $2, consents_digest = $3 WHERE context = $1")
                .bind(context.to_string())
                .bind(state_hash.to_string())
                .bind(all_kept(walk.entries, &seen).map(|digest| digest.to_string()))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(fresh)
    }
}
