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
    let plain = key.decrypt(place, payload)?;
    match Opened::read(plain)? {
        Opened::Whole(resource) => Ok(Zeroizing::new(resource)),
        Opened::Parts(parts) => {
            let sealed = collect(circle, &parts).await?;
            Ok(Zeroizing::new(parts.join(place, &sealed)?))
        }
    }
}

/// Brings the parts of a payload, if it was cut, from a circle into an exchange.
///
/// # Errors
/// [`OpenError`]; it may be done again.
pub async fn carry(
    (from, to): (&dyn Circle, &dyn Circle),
    key: &RecordKey,
    place: &SealedFor,
    payload: &[u8],
) -> Result<(), OpenError> {
    let plain = key.decrypt(place, payload)?;
    if let Opened::Parts(parts) = Opened::read(plain)? {
        for digest in parts.digests() {
            let part = from.part(digest).await?.ok_or(OpenError::NotHere(digest))?;
            to.put_part(&part).await?;
        }
    }
    Ok(())
}

async fn collect(circle: &dyn Circle, parts: &Parts) -> Result<Vec<Vec<u8>>, OpenError> {
    let mut sealed = Vec::new();
    for digest in parts.digests() {
        let part = circle.part(digest).await?;
        sealed.push(part.ok_or(OpenError::NotHere(digest))?);
    }
    Ok(sealed)
}
