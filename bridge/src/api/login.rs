//! Logging in and out: `/v1/challenges`, `/v1/sessions`, `/v1/session`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, StatusCode};
use medsync_client::wire::{Caller, Challenge, Login, LoginAs, Session};
use medsync_protocol::ids::{ContextId, ContextKind, Sha256Digest};
use medsync_protocol::messages::{LoginNonce, login_message};
use medsync_protocol::signature::PublicKey;
use zeroize::Zeroizing;

use super::caller::who::{EVERYBODY, LOGGED_IN};
use super::caller::{Identified, Said, token};
use super::sessions::TooMany;
use super::{Api, Problem};
use crate::pipeline::ingest::frozen_fact;
use crate::seams::{random_bytes, random_felt};

impl From<TooMany> for Problem {
    fn from(_: TooMany) -> Self {
        let why = "too many logins are under way; try again in a minute";
        Self::of(StatusCode::TOO_MANY_REQUESTS, why)
    }
}

impl Api {
    fn check_logins(&self) -> Result<(), Problem> {
        let why = "too many logins; try again in a second";
        let checked = self.logins.check();
        checked.map_err(|_| Problem::of(StatusCode::TOO_MANY_REQUESTS, why))
    }

    /// Who logs in so, with the key by which they do.
    async fn login_key(&self, login_as: LoginAs) -> Result<Option<(Caller, PublicKey)>, Problem> {
        match login_as {
            LoginAs::Staff { name } => {
                let found = self.staff.iter().find(|one| one.name == name);
                Ok(found.map(|one| (Caller::Staff { name }, one.login_key)))
            }
            LoginAs::PartyOf { context } => self.party_key(context).await,
        }
    }

    async fn party_key(&self, context: ContextId) -> Result<Option<(Caller, PublicKey)>, Problem> {
        let store = &self.pipeline.store;
        let Some(key) = store.pinned_login(context).await? else {
            return Ok(None);
        };
        // Of two who say to be the party nobody can tell which one is.
        if store.fact(&frozen_fact(context)).await?.is_some() {
            return Ok(None);
        }
        let caller = match store.circle(context).await?.kind {
            ContextKind::Circle => Caller::Patient { circle: context },
            ContextKind::Exchange => Caller::Recipient { exchange: context },
        };
        Ok(Some((caller, key)))
    }
}

/// Opens a challenge, to be signed by a login key.
#[utoipa::path(post, path = "/v1/challenges", tag = EVERYBODY, responses(
    (status = 201, description = "It is good once, and for two minutes.", body = Challenge),
    Problem,
))]
pub(super) async fn challenge(
    State(api): State<Arc<Api>>,
) -> Result<(StatusCode, Json<Challenge>), Problem> {
    api.check_logins()?;
    let felt = random_felt(&mut *api.pipeline.random.lock().await);
    let nonce = LoginNonce::from_felt(felt);
    let challenge = api.sessions.challenge(nonce, api.pipeline.now())?;
    Ok((StatusCode::CREATED, Json(challenge)))
}

/// Logs in, with a challenge that was signed.
#[utoipa::path(post, path = "/v1/sessions", tag = EVERYBODY, request_body = Login, responses(
    (status = 201, description = "A session of a quarter of an hour.", body = Session),
    Problem,
))]
pub(super) async fn log_in(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Said(login): Said<Login>,
) -> Result<(StatusCode, Json<Session>), Problem> {
    api.check_logins()?;
    // One answer to all of them: it tells nobody who is here.
    let refused = || {
        let why = "not logged in: the challenge is over or was used, it was signed for another \
                   origin than the one that asks, or this is not the login key of whoever it names";
        Problem::of(StatusCode::UNAUTHORIZED, why)
    };
    let now = api.pipeline.now();
    let challenge = Challenge {
        nonce: login.nonce,
        expires: login.expires,
    };
    let page = headers
        .get(ORIGIN)
        .map(|origin| origin.to_str().unwrap_or_default());
    if !api.sessions.spend(challenge, now) || !api.origins.is_signed_for(&login.origin, page) {
        return Err(refused());
    }
    let origin = Sha256Digest::of(login.origin.as_bytes());
    let message = login_message(origin, login.nonce, login.expires);
    let found = api.login_key(login.login_as).await?;
    let signed = found.filter(|(_, key)| key.verifies(message, &login.signature));
    let (caller, _) = signed.ok_or_else(refused)?;
    let bytes: Zeroizing<[u8; 32]> =
        Zeroizing::new(random_bytes(&mut *api.pipeline.random.lock().await));
    let token = hex::encode(*bytes);
    let held = api.sessions.open(caller, &token, now)?;
    tracing::info!(caller = ?held.caller, "logged in");
    Ok((
        StatusCode::CREATED,
        Json(Session {
            token,
            caller: held.caller,
            expires_at: held.expires_at,
        }),
    ))
}

/// Who asks.
#[utoipa::path(
    get,
    path = "/v1/session",
    tag = LOGGED_IN,
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "As whom this token asks.", body = Caller), Problem)
)]
pub(super) async fn session(Identified { caller, .. }: Identified) -> Json<Caller> {
    Json(caller)
}

/// Logs out. An operator's token stays good.
#[utoipa::path(
    delete,
    path = "/v1/session",
    tag = LOGGED_IN,
    security(("operator" = []), ("session" = [])),
    responses((status = 204, description = "The session is over."), Problem)
)]
pub(super) async fn log_out(State(api): State<Arc<Api>>, headers: HeaderMap) -> StatusCode {
    if let Some(token) = token(&headers) {
        api.sessions.close(token, api.pipeline.now());
    }
    StatusCode::NO_CONTENT
}
