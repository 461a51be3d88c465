//! What a patient signed or opened goes into the circle: `/v1/circles/{context}/consents` and
//! `…/revocations`. Both prove themselves, whoever brings them, and are the same when brought
//! again.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{NewConsent, NewRevocation, Recorded, Revoked};
use medsync_protocol::ids::{ContextKind, parse_base64};
use medsync_protocol::secrets::{Handle, RevocationSecret};
use tokio::time::timeout;

use super::caller::who::PARTY;
use super::caller::{Said, Theirs};
use super::{Api, Problem};
use crate::guard::enter_for_revocations;
use crate::revoking::{NotThere, revoke as keep_and_bring};
use crate::source::all_consents;
use crate::store::circles::CircleRow;
use crate::store::revocations::{Origin, UNKNOWN_RELAYED_MAX};
use crate::views::consents::anyone_can_send;

/// How long a circle has to show whether a revocation opens anything in it.
const READ_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn check_circle(row: &CircleRow) -> Result<(), Problem> {
    match row.kind {
        ContextKind::Circle => Ok(()),
        ContextKind::Exchange => Err(Problem::of(
            StatusCode::CONFLICT,
            "this is an exchange, in which there are no consents",
        )),
    }
}

/// Brings a consent into its circle that the patient signed elsewhere. Again, it is the same one.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/consents",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle.")),
    request_body = NewConsent,
    security(("operator" = []), ("session" = [])),
    responses((status = 201, description = "It is recorded.", body = Recorded), Problem)
)]
pub(super) async fn grant(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Said(said): Said<NewConsent>,
) -> Result<(StatusCode, Json<Recorded>), Problem> {
    check_circle(&row)?;
    let terms = parse_base64(&said.terms);
    let terms = terms.map_err(|error| Problem::wrong(format!("the terms: {error}")))?;
    let circle = api.enter(&row).await?;
    // The circle takes nothing that its patient did not sign.
    let granted = circle
        .grant(&terms, &said.opening, &said.signature, 1)
        .await?;
    let recorded = Recorded {
        consent: granted.commitment,
        was_there: granted.existing,
    };
    Ok((StatusCode::CREATED, Json(recorded)))
}

/// Revokes a consent of the circle by what opens its handle: it is kept before anything else, in
/// force here from then on, and goes on chain whatever becomes of this answer. There is no way
/// back.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/revocations",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle.")),
    request_body = NewRevocation,
    security(("operator" = []), ("session" = [])),
    responses((status = 202, description = "It is kept.", body = Revoked), Problem)
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Said(said): Said<NewRevocation>,
) -> Result<(StatusCode, Json<Revoked>), Problem> {
    check_circle(&row)?;
    let secret = RevocationSecret::parse(&said.secret);
    let secret = secret.map_err(|error| Problem::wrong(format!("the secret: {error}")))?;
    let (claim_key, pipeline) = (said.claim_key, &api.pipeline);
    let handle = Handle::of(secret.hash(), claim_key);
    let store = &pipeline.store;
    let origin = api.origin_of(&row, handle).await?;
    let (kept_in, opens) = ((store, &*pipeline.circles), (&secret, claim_key));
    let now = pipeline.now();
    let brought = keep_and_bring(kept_in, &row, opens, origin, now).await?;
    let hindrance = brought.err().map(|error| {
        tracing::warn!(%error, track = %handle, "a revocation is kept, and not in its circle yet");
        let then = match origin {
            Origin::Here => "it is brought there again and again",
            _ => "no consent here is known to be its: bring it again once the circle can be read",
        };
        format!("the circle does not take it yet; {then}")
    });
    let revoked = Revoked {
        handle,
        hindrance,
        anyone_can_send: anyone_can_send(pipeline.registry, &secret, claim_key),
    };
    Ok((StatusCode::ACCEPTED, Json(revoked)))
}

/// How many revocations of one circle are kept that open nothing that is known.
const UNKNOWN_MAX: u64 = UNKNOWN_RELAYED_MAX as u64;

impl Api {
    /// How a revocation is kept: what opens nothing, as far as a whole reading of the circle says,
    /// is not. Whoever keeps the circle from being read does not keep a revocation from being
    /// taken; of these there are so many at most.
    async fn origin_of(&self, row: &CircleRow, handle: Handle) -> Result<Origin, Problem> {
        let store = &self.pipeline.store;
        if store.has_consent_in(row.context, handle).await? {
            return Ok(Origin::Here);
        }
        let looked = async {
            // A revocation waits for no turn of others, and these for one another's: a look reads
            // all of a circle.
            let _turn = self.looks.acquire().await.ok()?;
            self.has_consent_of(row, handle).await.ok()
        };
        match timeout(READ_WITHIN, looked).await.ok().flatten() {
            Some(true) => Ok(Origin::Here),
            Some(false) => {
                let why = "this opens the handle of no consent in this circle";
                Err(Problem::of(StatusCode::NOT_FOUND, why))
            }
            None => {
                if store.unknown_revocations(row.context).await? >= UNKNOWN_MAX {
                    let why = "the circle cannot be read, and too many revocations of consents \
                               that nobody here knows are kept; send it to the chain";
                    return Err(Problem::of(StatusCode::SERVICE_UNAVAILABLE, why));
                }
                Ok(Origin::Circle)
            }
        }
    }

    /// Whether a circle has a consent that was not read here yet, also one that is stopped; an
    /// error if not all of it could be read.
    async fn has_consent_of(&self, row: &CircleRow, handle: Handle) -> Result<bool, NotThere> {
        let circle = enter_for_revocations(&*self.pipeline.circles, row).await?;
        let consents = all_consents(&*circle.ok_or(NotThere::Replaced)?).await?;
        let mut handles = consents.iter().map(|consent| consent.opening.handle);
        Ok(handles.any(|known| known == handle))
    }
}
