//! Pages: a walk in an order that never changes, and cursors into it.
//!
//! The order is that of kinds, shards and keys. A cursor names the last entry of a page, so that
//! entries which arrive during a walk neither double nor displace others; one that lands before
//! the cursor is met by the next walk.

use crate::layout::{Kind, Shard};
use crate::limits::{CURSOR_BYTES_MAX, PAGE_LEN_DEFAULT, PAGE_LEN_MAX};
use crate::refusal::Refusal;
use crate::store::{self, Key};
use medsync_protocol::ids::{parse_bytes32, Sha256Digest};

/// Where an entry stands in the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its kind.
    pub kind: Kind,
    /// Its shard.
    pub shard: Shard,
    /// Its key.
    pub key: Key,
}

impl Place {
    /// The cursor after this entry.
    #[must_use]
    pub fn cursor(&self) -> String {
        format!("{}.{}.{}", self.kind.name(), self.shard.0, self.key)
    }

    /// Reads a cursor.
    ///
    /// # Errors
    /// A text that [`Place::cursor`] does not write.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("cursor", "pass the `next` of the page before");
        if text.len() > CURSOR_BYTES_MAX {
            return Err(malformed());
        }
        let mut parts = text.split('.');
        let (Some(kind), Some(shard), Some(key), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let kind = Kind::named(kind).map_err(|_| malformed())?;
        let place = Self {
            kind,
            shard: Shard(shard.parse().map_err(|_| malformed())?),
            key: Key(parse_bytes32(key).map_err(|_| malformed())?),
        };
        if u16::from(place.shard.0) < kind.shards() {
            Ok(place)
        } else {
            Err(malformed())
        }
    }
}

/// What a caller asks for.
pub struct Page {
    after: Option<Place>,
    limit: usize,
}

impl Page {
    /// A page from the interface's arguments.
    ///
    /// # Errors
    /// A limit of zero or beyond the bound, or a cursor that is none.
    pub fn read(cursor: Option<&str>, limit: Option<u32>) -> Result<Self, Refusal> {
        let limit = limit.unwrap_or(PAGE_LEN_DEFAULT);
        if limit == 0 {
            return Err(Refusal::malformed("limit", "at least 1"));
        }
        if limit > PAGE_LEN_MAX {
            let (max, is) = (PAGE_LEN_MAX as usize, limit as usize);
            return Err(Refusal::TooLarge {
                field: "limit",
                max,
                is,
            });
        }
        Ok(Self {
            after: cursor.map(Place::parse).transpose()?,
            limit: limit as usize,
        })
    }

    /// The places of this page with their digests, and the cursor of the next if there may be
    /// one. At most `limit` entries are looked at, whatever is in them.
    pub fn walk(&self, kinds: &[Kind]) -> (Vec<(Place, Sha256Digest)>, Option<String>) {
        let mut places = Vec::new();
        for &kind in kinds {
            if self.after.is_some_and(|after| kind < after.kind) {
                continue;
            }
            for shard in kind.all_shards() {
                if self
                    .after
                    .is_some_and(|after| (kind, shard) < (after.kind, after.shard))
                {
                    continue;
                }
                for (key, digest) in store::keys(kind, shard) {
                    let place = Place { kind, shard, key };
                    if self.after.is_some_and(|after| place <= after) {
                        continue;
                    }
                    if places.len() == self.limit {
                        let next = places.last().map(|(place, _): &(Place, _)| place.cursor());
                        return (places, next);
                    }
                    places.push((place, digest));
                }
            }
        }
        (places, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        let place = Place {
            kind: Kind::Records,
            shard: Shard(127),
            key: Key([7; 32]),
        };
        assert_eq!(Place::parse(&place.cursor()), Ok(place));
        let key = Key([7; 32]);
        for text in [
            String::new(),
            "record.1".into(),
            format!("record.128.{key}"),
            format!("consent.128.{key}"),
            format!("payload.1.{key}"),
            format!("record.1.{key}."),
            format!("record.-1.{key}"),
            "record.1.0x07".into(),
            "x".repeat(1000),
        ] {
            assert!(Place::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_is_bounded() {
        assert!(Page::read(None, None).is_ok());
        assert!(Page::read(None, Some(PAGE_LEN_MAX)).is_ok());
        assert!(matches!(
            Page::read(None, Some(0)),
            Err(Refusal::Malformed { .. })
        ));
        assert!(matches!(
            Page::read(None, Some(PAGE_LEN_MAX + 1)),
            Err(Refusal::TooLarge {
                max: 100,
                is: 101,
                ..
            })
        ));
    }
}
