//! Revocations: whoever opens a handle revokes what goes by it, for good.
//!
//! The secret in the entry is its own proof, so that it does not matter who wrote it down or
//! whether the consent is known here already. There is no un-revoke. Each member
//! has room of its own for them in a shard.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;

use crate::abi::{RevocationView, Written};
use crate::consents::shard_of;
use crate::host;
use crate::layout::{Kind, Shard};
use crate::limits::COPIES_MAX;
use crate::refusal::Refusal;
use crate::store::{self, Key};
use crate::text::{read, read_option};

#[derive(BorshSerialize, BorshDeserialize)]
struct RevocationBody {
    /// What the two after it open: an entry that says otherwise is none.
    handle: [u8; 32],
    secret: [u8; 32],
    claim_key: [u8; 32],
    recorded_at: u64,
}

impl RevocationBody {
    /// The handle that this opens, if the two values are felts and it is the one that it says.
    fn handle(&self) -> Option<Handle> {
        let secret = RevocationSecret::from_bytes(&self.secret).ok()?;
        let opened = Handle::of(secret.hash(), PublicKey::from_bytes(&self.claim_key).ok()?);
        (opened.to_bytes() == self.handle).then_some(opened)
    }
}

/// A revocation that stands where its handle belongs.
struct Found {
    handle: Handle,
    body: RevocationBody,
}

fn load_revocation(shard: Shard, key: Key) -> Option<Found> {
    let body: RevocationBody = store::load(key)?.decode()?;
    let handle = body.handle()?;
    (shard_of(Kind::Revocations, handle) == shard).then_some(Found { handle, body })
}

/// The handles of a shard that are revoked.
pub struct Revoked {
    first: BTreeMap<Handle, (UnixSeconds, Key)>,
    /// How many entries say so.
    len: usize,
}

impl Revoked {
    /// Since when a handle is revoked, if it is: the first time counts.
    #[must_use]
    pub fn at(&self, handle: Handle) -> Option<UnixSeconds> {
        self.first.get(&handle).map(|(at, _)| *at)
    }
}

/// Reads a shard of revocations.
#[must_use]
pub fn in_shard(shard: Shard) -> Revoked {
    collect(shard, |_| true)
}

/// Reads the revocations of one handle.
#[must_use]
pub fn of_handle(handle: Handle) -> Revoked {
    let bytes = handle.to_bytes();
    let says_so = |key| store::peek(key).is_some_and(|body: RevocationBody| body.handle == bytes);
    collect(shard_of(Kind::Revocations, handle), says_so)
}

fn collect(shard: Shard, is_wanted: impl Fn(Key) -> bool) -> Revoked {
    let mut revoked = Revoked {
        first: BTreeMap::new(),
        len: 0,
    };
    let keys = store::keys(Kind::Revocations, shard).into_iter();
    for key in keys.map(|(key, _)| key).filter(|key| is_wanted(*key)) {
        if let Some(found) = load_revocation(shard, key) {
            let this = (UnixSeconds(found.body.recorded_at), key);
            let first = revoked.first.entry(found.handle).or_insert(this);
            *first = this.min(*first);
            revoked.len += 1;
        }
    }
    revoked
}

/// Revokes what goes by the handle that these open; a `handle` that is named must be that one. It
/// is written down once, or until there are so many `copies`: whoever heard of one first can keep
/// it from a node that had not, by an entry in its place.
pub fn revoke(
    secret: &str,
    claim_key: &str,
    handle: Option<&str>,
    copies: Option<u32>,
) -> Result<Written, Refusal> {
    // The secret is about to be published, but no error text and no log repeats it.
    let secret =
        RevocationSecret::parse(secret).map_err(|error| Refusal::malformed("secret", error))?;
    let claim_key: PublicKey = read("claim_key", claim_key)?;
    let expected: Option<Handle> = read_option("handle", handle)?;
    let opened = Handle::of(secret.hash(), claim_key);
    if expected.is_some_and(|expected| expected != opened) {
        return Err(Refusal::DoesNotOpen);
    }
    let shard = shard_of(Kind::Revocations, opened);
    let there = of_handle(opened);
    let copies = copies.unwrap_or(1).clamp(1, COPIES_MAX);
    let first = there.first.get(&opened);
    if let Some((_, key)) = first.filter(|_| there.len >= copies as usize) {
        return Ok(Written::there(*key));
    }
    let body = RevocationBody {
        handle: opened.to_bytes(),
        secret: secret.reveal().to_bytes_be(),
        claim_key: claim_key.to_bytes(),
        recorded_at: host::now().0,
    };
    let key = store::insert(Kind::Revocations, shard, &body)?;
    Ok(Written::new(key))
}

/// One revocation, as the interface shows it.
pub fn view(shard: Shard, key: Key) -> Option<RevocationView> {
    let found = load_revocation(shard, key)?;
    let secret = RevocationSecret::from_bytes(&found.body.secret).ok()?;
    Some(RevocationView {
        key: key.to_string(),
        handle: found.handle.to_string(),
        secret: secret.reveal_text(),
        claim_key: PublicKey::from_bytes(&found.body.claim_key)
            .ok()?
            .to_string(),
        recorded_at: found.body.recorded_at,
    })
}
