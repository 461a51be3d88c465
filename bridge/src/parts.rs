//! Payloads that were cut: putting them together, and carrying their parts along.

use medsync_protocol::ids::Sha256Digest;
use medsync_protocol::seal::{Opened, Parts, PartsError, RecordKey, SealError, SealedFor};
use zeroize::Zeroizing;

use crate::source::{Circle, SourceError};

/// Why a payload was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The key or the payload is not what was sealed.
    #[error(transparent)]
    Closed(#[from] SealError),
    /// The parts are not what was sealed.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// A part is on its way.
    #[error("a part of its payload has not arrived here yet: {0}")]
    NotHere(Sha256Digest),
    /// The node did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Opens a payload with its key; one that was cut is put together from its parts.
///
/// # Errors
/// [`OpenError`].
pub async fn open(
    circle: &dyn Circle,
    key: &RecordKey,
    place: &SealedFor,
    payload: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    match decrypt(key, place, payload)? {
        Opened::Whole(resource) => Ok(resource),
        Opened::Parts(parts) => {
            let sealed = collect(circle, &parts).await?;
            Ok(parts.join(place, &sealed)?)
        }
    }
}

/// How far the parts of a payload are in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// How many are there, from the first.
    pub parts: usize,
    /// Whether those are all.
    pub is_whole: bool,
}

/// Brings parts of a payload, if it was cut, from a circle into an exchange: those after the first
/// `done`, at most `len_max` of them.
///
/// # Errors
/// [`OpenError`]; it may be done again.
pub async fn carry(
    (from, to): (&dyn Circle, &dyn Circle),
    key: &RecordKey,
    place: &SealedFor,
    payload: &[u8],
    (done, len_max): (usize, usize),
) -> Result<Carried, OpenError> {
    // The keys of the parts are of no use here, and are gone before anything is waited for.
    let digests: Vec<Sha256Digest> = match decrypt(key, place, payload)? {
        Opened::Whole(_) => Vec::new(),
        Opened::Parts(parts) => parts.digests().collect(),
    };
    let mut carried = done;
    for digest in digests.iter().skip(done).take(len_max) {
        let part = from.part(*digest).await?;
        to.put_part(&part.ok_or(OpenError::NotHere(*digest))?)
            .await?;
        carried += 1;
    }
    Ok(Carried {
        parts: carried,
        is_whole: carried >= digests.len(),
    })
}

fn decrypt(key: &RecordKey, place: &SealedFor, payload: &[u8]) -> Result<Opened, OpenError> {
    let plain = Zeroizing::new(key.decrypt(place, payload)?);
    Ok(Opened::read(plain)?)
}

async fn collect(circle: &dyn Circle, parts: &Parts) -> Result<Vec<Vec<u8>>, OpenError> {
    let mut sealed = Vec::new();
    for digest in parts.digests() {
        let part = circle.part(digest).await?;
        sealed.push(part.ok_or(OpenError::NotHere(digest))?);
    }
    Ok(sealed)
}
