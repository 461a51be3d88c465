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
    collect(shard_of(Kind::Revocations, handle), says_so(handle))
}

/// The entries that revoke a handle.
fn entries_of(handle: Handle) -> Vec<Key> {
    let shard = shard_of(Kind::Revocations, handle);
    let found = load_all(shard, says_so(handle));
    found.map(|(key, _)| key).collect()
}

fn says_so(handle: Handle) -> impl Fn(Key) -> bool {
    let bytes = handle.to_bytes();
    move |key| store::peek(key).is_some_and(|body: RevocationBody| body.handle == bytes)
}

fn load_all(shard: Shard, is_wanted: impl Fn(Key) -> bool) -> impl Iterator<Item = (Key, Found)> {
    let keys = store::keys(Kind::Revocations, shard).into_iter();
    let keys = keys.map(|(key, _)| key).filter(move |key| is_wanted(*key));
    keys.filter_map(move |key| Some((key, load_revocation(shard, key)?)))
}

fn collect(shard: Shard, is_wanted: impl Fn(Key) -> bool) -> Revoked {
    let mut first = BTreeMap::new();
    for (key, found) in load_all(shard, is_wanted) {
        let this = (UnixSeconds(found.body.recorded_at), key);
        let known = first.entry(found.handle).or_insert(this);
        *known = this.min(*known);
    }
    Revoked { first }
}

/// Revokes what goes by the handle that these open; a `handle` that is named must be that one. It
/// is written down as often as [`store::enough`] says.
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
    let copies = copies.unwrap_or(1).min(COPIES_MAX);
    let known = entries_of(opened);
    if let Some(there) = store::enough(&known, copies) {
        return Ok(Written::there(there));
    }
    let body = RevocationBody {
        handle: opened.to_bytes(),
        secret: secret.reveal().to_bytes_be(),
        claim_key: claim_key.to_bytes(),
        recorded_at: host::now().0,
    };
    let key = store::insert_copy(Kind::Revocations, shard, &known, &body)?;
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
