//! The log: every entry that was ever seen or made here, and its places in batches.
//!
//! An entry is kept before it is published, so that what this party signed is never forgotten and
//! no number is used twice. Entries of others stay too: whoever kept one notices if it changes.

use medsync_protocol::audit::{Body, BodyError, Entry, EntryDigest, Seq};
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::{ContextId, Salt, UnixSeconds};
use medsync_protocol::signature::PublicKey;
use medsync_protocol::tree::Leaf;

use super::batches::BatchId;
use super::db::{Open, Row, query, query_scalar};
use super::{Private, Store, StoreError, json, read, read_json, signed, unsigned};
use crate::source::{Head, LogEntry};

mod lists;

/// The end of a log: up to which entry it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The context.
    pub context: ContextId,
    /// Whose log.
    pub author_key: PublicKey,
    /// The number of the last entry.
    pub seq: Seq,
    /// Its digest.
    pub digest: EntryDigest,
}

/// The leaf by which a log is in a batch of this party.
#[derive(Clone, Copy, Debug)]
pub struct HeadLeaf {
    /// Up to which entry.
    pub end: LogEnd,
    /// Makes the leaf tell nothing.
    pub salt: Salt,
    /// Its place in the batch.
    pub position: u64,
}

/// Which entries are looked for.
#[derive(Clone, Debug, Default)]
pub struct LogFilter {
    /// Of this author.
    pub author_key: Option<PublicKey>,
    /// Of this kind, by its short string.
    pub kind: Option<&'static str>,
    /// Not before this time.
    pub since: UnixSeconds,
}

/// What a log entry says, sealed under its digest.
const BODY: Private = Private("a log entry's body");
/// What hides it.
const SALT: Private = Private("a log entry's salt");

fn entry(store: &Store, row: &Row) -> Result<LogEntry, StoreError> {
    let digest: &str = row.try_get("digest")?;
    let corrupt = |why: String| StoreError::Corrupt { what: BODY.0, why };
    let bytes = BODY.open(store, digest, row.try_get("body")?)?;
    let body = Body::decode(&bytes).map_err(|error| corrupt(error.to_string()))?;
    let entry = Entry {
        context: read("a context", row.try_get("context")?)?,
        author_key: read("an author key", row.try_get("author_key")?)?,
        seq: Seq(unsigned(row.try_get("seq")?)),
        prev: read("a digest", row.try_get("prev")?)?,
        kind: body.kind(),
        subject: body.subject().map_err(|error| corrupt(error.to_string()))?,
        at: UnixSeconds(unsigned(row.try_get("at")?)),
        salt: SALT.read(store, digest, row.try_get("salt")?)?,
    };
    Ok(LogEntry {
        entry,
        body,
        signature: read_json("a signature", row.try_get("signature")?)?,
    })
}

/// What the next entry of a log has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogNext {
    /// Its number.
    pub seq: Seq,
    /// The digest of the entry before it, or zero.
    pub prev: EntryDigest,
    /// When that entry was: a log's times never go back.
    pub not_before: UnixSeconds,
}

fn log_end(row: &Row) -> Result<LogEnd, StoreError> {
    Ok(LogEnd {
        context: read("a context", row.try_get("context")?)?,
        author_key: read("an author key", row.try_get("author_key")?)?,
        seq: Seq(unsigned(row.try_get("seq")?)),
        digest: read("a digest", row.try_get("digest")?)?,
    })
}

fn corrupt(error: &BodyError) -> StoreError {
    StoreError::Corrupt {
        what: "a log entry's body",
        why: error.to_string(),
    }
}

fn encoded(entry: &LogEntry) -> Result<Vec<u8>, StoreError> {
    entry.body.encode().map_err(|error| corrupt(&error))
}

/// By what an entry with this body is found: its digest would be guessed at.
fn subject(store: &Store, body: &Body) -> Result<String, StoreError> {
    let subject = body.subject().map_err(|error| corrupt(&error))?;
    Ok(store.secret.name_of(BODY.0, &subject.0).to_string())
}

/// What an entry answers.
const fn request_of(body: &Body) -> Option<EntryDigest> {
    match body {
        Body::Permitted { request, .. }
        | Body::Denied { request, .. }
        | Body::Released { request, .. } => Some(*request),
        _ => None,
    }
}

/// The name in its circle of what an exchange's entry hands over.
const fn release_of(body: &Body) -> Option<EntryDigest> {
    match body {
        Body::Released { logged_as, .. } => *logged_as,
        _ => None,
    }
}

impl Store {
    /// Keeps an entry that was seen in its context, for ever. Answers whether it is new.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_entry(&self, seen: &LogEntry, now: UnixSeconds) -> Result<bool, StoreError> {
        let kept = self.insert_entry(seen, now, Some(now)).await?;
        if !kept {
            query(
                "UPDATE log SET published_at = COALESCE(published_at, $2), missed_at = NULL \
                 WHERE digest = $1 AND (published_at IS NULL OR missed_at IS NOT NULL)",
            )
            .bind(seen.digest().to_string())
            .bind(signed(now.0))
            .execute(&self.db)
            .await?;
        }
        Ok(kept)
    }

    /// Keeps an entry of this party before it is published. Answers whether its number was free:
    /// another one was made meanwhile if it was not.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_own_entry(
        &self,
        made: &LogEntry,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        self.insert_entry(made, now, None).await
    }

    /// An entry of others is kept whatever its number; one that is unpublished, and so made here,
    /// only if its number is free.
    async fn insert_entry(
        &self,
        row: &LogEntry,
        now: UnixSeconds,
        published_at: Option<UnixSeconds>,
    ) -> Result<bool, StoreError> {
        let digest = row.digest().to_string();
        let inserted = query(
            "INSERT INTO log (context, author_key, seq, digest, prev, kind, subject, body, at, \
             salt, signature, seen_at, published_at, logged_as, request) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15 \
             WHERE $13 IS NOT NULL OR NOT EXISTS (SELECT 1 FROM log \
             WHERE context = $1 AND author_key = $2 AND seq = $3) \
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(row.entry.context.to_string())
        .bind(row.entry.author_key.to_string())
        .bind(signed(row.entry.seq.0))
        .bind(&digest)
        .bind(row.entry.prev.to_string())
        .bind(row.entry.kind.name())
        .bind(subject(self, &row.body)?)
        .bind(BODY.seal(self, &digest, &encoded(row)?)?)
        .bind(signed(row.entry.at.0))
        .bind(SALT.seal(self, &digest, row.entry.salt.to_string().as_bytes())?)
        .bind(json("a signature", &row.signature)?)
        .bind(signed(now.0))
        .bind(published_at.map(|at| signed(at.0)))
        .bind(release_of(&row.body).map(|release| release.to_string()))
        .bind(request_of(&row.body).map(|request| request.to_string()))
        .execute(&self.db)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Whether two entries of an author have one number.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn is_forked(
        &self,
        context: ContextId,
        author_key: PublicKey,
        seq: Seq,
    ) -> Result<bool, StoreError> {
        let count: i64 = query_scalar(
            "SELECT COUNT(*) FROM log WHERE context = $1 AND author_key = $2 AND seq = $3",
        )
        .bind(context.to_string())
        .bind(author_key.to_string())
        .bind(signed(seq.0))
        .fetch_one(&self.db)
        .await?;
        Ok(count > 1)
    }

    /// What comes next in an author's log of a context.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn log_next(
        &self,
        context: ContextId,
        author_key: PublicKey,
    ) -> Result<LogNext, StoreError> {
        let row = query(
            "SELECT context, author_key, seq, digest, at FROM log \
             WHERE context = $1 AND author_key = $2 ORDER BY seq DESC, seen_at LIMIT 1",
        )
        .bind(context.to_string())
        .bind(author_key.to_string())
        .fetch_optional(&self.db)
        .await?;
        let Some(row) = row else {
            return Ok(LogNext {
                seq: Seq(0),
                prev: EntryDigest::from_felt(Felt::ZERO),
                not_before: UnixSeconds(0),
            });
        };
        let end = log_end(&row)?;
        Ok(LogNext {
            seq: Seq(end.seq.0.saturating_add(1)),
            prev: end.digest,
            not_before: UnixSeconds(unsigned(row.try_get("at")?)),
        })
    }

    /// An author's entry in a context that says just this, if there is one.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn entry_saying(
        &self,
        context: ContextId,
        author_key: PublicKey,
        body: &Body,
    ) -> Result<Option<LogEntry>, StoreError> {
        let row = query(
            "SELECT * FROM log WHERE context = $1 AND author_key = $2 AND subject = $3 \
             ORDER BY seq LIMIT 1",
        )
        .bind(context.to_string())
        .bind(author_key.to_string())
        .bind(subject(self, body)?)
        .fetch_optional(&self.db)
        .await?;
        row.as_ref().map(|row| entry(self, row)).transpose()
    }

    /// Whether anybody's entry in a context says just this.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn is_said(&self, context: ContextId, body: &Body) -> Result<bool, StoreError> {
        let is_said =
            query_scalar("SELECT EXISTS (SELECT 1 FROM log WHERE context = $1 AND subject = $2)")
                .bind(context.to_string())
                .bind(subject(self, body)?)
                .fetch_one(&self.db)
                .await?;
        Ok(is_said)
    }

    /// An author's entry in an exchange that hands over what the circle calls `logged_as`.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn handing_over(
        &self,
        (exchange, author_key): (ContextId, PublicKey),
        logged_as: EntryDigest,
    ) -> Result<Option<LogEntry>, StoreError> {
        let row = query(
            "SELECT * FROM log WHERE logged_as = $1 AND context = $2 AND author_key = $3 \
             ORDER BY seq LIMIT 1",
        )
        .bind(logged_as.to_string())
        .bind(exchange.to_string())
        .bind(author_key.to_string())
        .fetch_optional(&self.db)
        .await?;
        row.as_ref().map(|row| entry(self, row)).transpose()
    }

    /// The contexts that lack entries.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn contexts_with_unpublished_entries(&self) -> Result<Vec<ContextId>, StoreError> {
        let contexts: Vec<String> = query_scalar(
            "SELECT DISTINCT context FROM log \
                 WHERE published_at IS NULL OR missed_at IS NOT NULL",
        )
        .fetch_all(&self.db)
        .await?;
        contexts
            .iter()
            .map(|text| read("a context", text))
            .collect()
    }

    /// One entry by its digest.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn entry(&self, digest: EntryDigest) -> Result<Option<LogEntry>, StoreError> {
        let row = query("SELECT * FROM log WHERE digest = $1")
            .bind(digest.to_string())
            .fetch_optional(&self.db)
            .await?;
        row.as_ref().map(|row| entry(self, row)).transpose()
    }

    /// Whose entries are not in this context yet, or not any more.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn unpublished_authors(
        &self,
        context: ContextId,
    ) -> Result<Vec<PublicKey>, StoreError> {
        query(
            "SELECT DISTINCT author_key FROM log WHERE context = $1 \
             AND (published_at IS NULL OR missed_at IS NOT NULL)",
        )
        .bind(context.to_string())
        .fetch_all(&self.db)
        .await?
        .iter()
        .map(|row| read("an author's key", row.try_get("author_key")?))
        .collect()
    }

    /// Entries of somebody's log that are not in its context yet, or not any more, in their order.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn unpublished_entries(
        &self,
        (context, author_key): (ContextId, PublicKey),
        len_max: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let rows = query(
            "SELECT * FROM log WHERE context = $1 AND author_key = $2 \
             AND (published_at IS NULL OR missed_at IS NOT NULL) \
             ORDER BY seq, seen_at LIMIT $3",
        )
        .bind(context.to_string())
        .bind(author_key.to_string())
        .bind(i64::from(len_max))
        .fetch_all(&self.db)
        .await?;
        rows.iter().map(|row| entry(self, row)).collect()
    }

    /// Every entry of one author in a context, by number, with the time at which it was first seen
    /// here.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn log_as_seen(
        &self,
        context: ContextId,
        author_key: PublicKey,
    ) -> Result<Vec<(LogEntry, UnixSeconds)>, StoreError> {
        let rows =
            query("SELECT * FROM log WHERE context = $1 AND author_key = $2 ORDER BY seq, digest")
                .bind(context.to_string())
                .bind(author_key.to_string())
                .fetch_all(&self.db)
                .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    entry(self, row)?,
                    UnixSeconds(unsigned(row.try_get("seen_at")?)),
                ))
            })
            .collect()
    }

    /// Logs that went on since they were last in a batch, those that wait longest first, and since
    /// when the first waits. Those of a circle that is stopped or held back are left out, and so is
    /// what is not in its context yet, or not any more.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn due_heads(
        &self,
        len_max: u32,
        now: UnixSeconds,
    ) -> Result<(Vec<LogEnd>, Option<UnixSeconds>), StoreError> {
        let rows = query(
            "SELECT due.context, due.author_key, due.seq, due.since, MIN(log.digest) AS digest \
             FROM (SELECT context, author_key, MAX(seq) AS seq, MIN(seen_at) AS since FROM log \
             WHERE head_batch IS NULL AND published_at IS NOT NULL AND missed_at IS NULL \
             AND context NOT IN (SELECT context FROM circles \
             WHERE alarm IS NOT NULL OR held_until > $2) \
             AND NOT EXISTS (SELECT 1 FROM held_logs WHERE held_logs.context = log.context \
             AND held_logs.author_key = log.author_key AND held_until > $2) \
             GROUP BY context, author_key) AS due JOIN log ON log.context = due.context \
             AND log.author_key = due.author_key AND log.seq = due.seq \
             AND log.head_batch IS NULL AND log.published_at IS NOT NULL \
             AND log.missed_at IS NULL \
             GROUP BY due.context, due.author_key, due.seq, due.since \
             ORDER BY due.since, due.context, due.author_key LIMIT $1",
        )
        .bind(i64::from(len_max))
        .bind(signed(now.0))
        .fetch_all(&self.db)
        .await?;
        let since = rows.first().map(|row| row.try_get("since")).transpose()?;
        let ends = rows.iter().map(log_end).collect::<Result<_, _>>()?;
        Ok((ends, since.map(|at| UnixSeconds(unsigned(at)))))
    }

    /// The heads that are leaves of a batch.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn heads_in(&self, batch: BatchId) -> Result<Vec<HeadLeaf>, StoreError> {
        let rows = query("SELECT * FROM head_leaves WHERE batch = $1 ORDER BY position")
            .bind(batch.0)
            .fetch_all(&self.db)
            .await?;
        rows.iter()
            .map(|row| {
                Ok(HeadLeaf {
                    end: log_end(row)?,
                    salt: read("a salt", row.try_get("salt")?)?,
                    position: unsigned(row.try_get("position")?),
                })
            })
            .collect()
    }

    /// Keeps a log's place in a batch that was seen in its context, for ever.
    ///
    /// # Errors
    /// A database that refuses.
    pub async fn keep_head(
        &self,
        context: ContextId,
        head: &Head,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let leaf: Leaf = head.leaf(context);
        query(
            "INSERT INTO heads (leaf, context, author_key, seq, digest, salt, root, proof, \
             seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (leaf, root) DO NOTHING",
        )
        .bind(leaf.to_string())
        .bind(context.to_string())
        .bind(head.author_key.to_string())
        .bind(signed(head.seq.0))
        .bind(head.digest.to_string())
        .bind(head.salt.to_string())
        .bind(head.root.to_string())
        .bind(json("a proof", &head.proof)?)
        .bind(signed(now.0))
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Every place of a context's logs in batches that was ever seen.
    ///
    /// # Errors
    /// A database that refuses, or a row that cannot be read.
    pub async fn heads(&self, context: ContextId) -> Result<Vec<Head>, StoreError> {
        let rows = query("SELECT * FROM heads WHERE context = $1 ORDER BY author_key, seq")
            .bind(context.to_string())
            .fetch_all(&self.db)
            .await?;
        rows.iter().map(head).collect()
    }
}

fn head(row: &Row) -> Result<Head, StoreError> {
    let end = log_end(row)?;
    Ok(Head {
        author_key: end.author_key,
        seq: end.seq,
        digest: end.digest,
        salt: read("a salt", row.try_get("salt")?)?,
        root: read("a root", row.try_get("root")?)?,
        proof: read_json("a proof", row.try_get("proof")?)?,
    })
}

/// Has the logs of some authors published again, as part of a transaction: all of them, because
/// which entry went with a key is not known. Those that are there already take up no room.
pub(super) async fn ask_for_log(
    connection: &mut Open,
    context: ContextId,
    authors: &[PublicKey],
    now: UnixSeconds,
) -> Result<(), StoreError> {
    for author in authors {
        query(
            "UPDATE log SET missed_at = $3 WHERE context = $1 AND author_key = $2 \
             AND published_at IS NOT NULL",
        )
        .bind(context.to_string())
        .bind(author.to_string())
        .bind(signed(now.0))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
