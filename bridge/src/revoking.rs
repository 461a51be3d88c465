//! Revoking, whoever asks for it: the command line, or a page by the API.

use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::secrets::{Handle, RevocationSecret};
use medsync_protocol::signature::PublicKey;

use crate::guard::{self, Circles, GuardError};
use crate::source::SourceError;
use crate::store::circles::CircleRow;
use crate::store::revocations::Origin;
use crate::store::{Store, StoreError};

/// Why a revocation that is kept is not in its circle yet; the daemon brings it there.
#[derive(Debug, thiserror::Error)]
pub enum NotThere {
    /// The circle could not be asked, or is not entered.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The circle does not take it now.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It runs other code than was pinned, or is in another group.
    #[error("the circle's code or its group was replaced")]
    Replaced,
}

/// Keeps a revocation first, and then brings it into its circle, also into one that an alarm
/// stopped. From the first on it is in force here, and the daemon sees to the rest whatever becomes
/// of this.
///
/// # Errors
/// A store that does not keep it; inside, why it is not in its circle yet.
pub async fn revoke(
    (store, circles): (&Store, &dyn Circles),
    row: &CircleRow,
    (secret, claim_key): (&RevocationSecret, PublicKey),
    origin: Origin,
    now: UnixSeconds,
) -> Result<Result<(), NotThere>, StoreError> {
    let (handle, opens) = (Handle::of(secret.hash(), claim_key), (secret, claim_key));
    store
        .keep_revocation(handle, row.context, opens, origin, now)
        .await?;
    let publish = async {
        let circle = guard::enter_for_revocations(circles, row).await?;
        let circle = circle.ok_or(NotThere::Replaced)?;
        circle.revoke(secret, claim_key, 1).await?;
        Ok(())
    };
    Ok(publish.await)
}
