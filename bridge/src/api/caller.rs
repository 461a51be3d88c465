//! Who asks, and what they may read.
//!
//! An operator and the staff read everything of their home; whoever enrolled in a circle or an
//! exchange reads that one. A path takes a circle by [`Theirs`] alone, so that none forgets to ask.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use medsync_client::wire::Caller;
use medsync_protocol::ids::{ContextId, Sha256Digest, UnixSeconds};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::server::Peer;
use super::sessions::{self, Held};
use super::{Api, Problem};
use crate::store::circles::CircleRow;

/// Who may ask, as the description of each path says it.
pub(super) mod who {
    pub const EVERYBODY: &str = "everybody";
    pub const LOGGED_IN: &str = "whoever is logged in";
    pub const OPERATOR: &str = "operator";
    pub const STAFF: &str = "operator, staff";
    pub const PARTY: &str = "operator, staff, whoever enrolled in it";
}

/// Where the metrics are, which have a token of their own.
pub(super) const METRICS: &str = "/metrics";
/// How many entries a page has, unless it is asked for fewer.
pub(super) const PAGE_LEN_MAX: u32 = 100;

/// Who was found to ask.
#[derive(Clone, Debug)]
pub(super) struct Identified {
    /// Who it is.
    pub caller: Caller,
    /// When that ends; an operator's does not.
    pub until: Option<UnixSeconds>,
    /// By which session, if by one.
    session: Option<Sha256Digest>,
}

impl Identified {
    const fn operator() -> Self {
        Self {
            caller: Caller::Operator,
            until: None,
            session: None,
        }
    }
}

/// The token that a request shows.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    shown.strip_prefix("Bearer ")
}

/// Finds out who asks; nobody else passes.
pub(super) async fn identify(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let shown = token(request.headers());
    let is_shown = shown.is_some();
    let is_here = api.is_here(&request);
    let identified = shown.and_then(|shown| match request.uri().path() {
        METRICS if api.reads_metrics(shown, is_here) => Some(Identified::operator()),
        _ => api.identified(shown, is_here),
    });
    if let Some(identified) = identified {
        request.extensions_mut().insert(identified);
        return next.run(request).await;
    }
    if is_shown && api.wrong_tokens.check().is_err() {
        let why = "too many wrong tokens; ask again in a second";
        return Problem::of(StatusCode::TOO_MANY_REQUESTS, why).into_response();
    }
    unidentified().into_response()
}

fn unidentified() -> Problem {
    let why = "log in (POST /v1/challenges, then /v1/sessions) and show the session's token, or, \
               on this machine, the operator's token of this home: `Authorization: Bearer` and \
               the token";
    Problem::of(StatusCode::UNAUTHORIZED, why)
}

fn forbidden() -> Problem {
    let why = "this is not for who you are logged in as (GET /v1/session)";
    Problem::of(StatusCode::FORBIDDEN, why)
}

impl Api {
    /// Whether a request is made on this machine, and not passed on by a proxy there.
    pub(super) fn is_here(&self, request: &Request) -> bool {
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        Peer::of(request).is_none() && self.origins.is_of_this_machine(host)
    }

    /// The operator's token is good on this machine alone.
    pub(super) fn is_operator(&self, token: &str, is_here: bool) -> bool {
        is_here && self.tokens.is_operators(token)
    }

    /// So is the token that reads the metrics, and nothing else.
    pub(super) fn reads_metrics(&self, token: &str, is_here: bool) -> bool {
        is_here && self.tokens.is_of_metrics(token)
    }

    /// Whose token it is, if somebody's who is let in.
    pub(super) fn caller_of(&self, token: &str, is_here: bool) -> Option<Caller> {
        self.identified(token, is_here).map(|found| found.caller)
    }

    /// Whether it is of somebody who runs this home, or works there.
    pub(super) fn is_staff(&self, token: &str, is_here: bool) -> bool {
        let caller = self.caller_of(token, is_here);
        matches!(caller, Some(Caller::Operator | Caller::Staff { .. }))
    }

    fn identified(&self, token: &str, is_here: bool) -> Option<Identified> {
        if self.is_operator(token, is_here) {
            return Some(Identified::operator());
        }
        let Held { caller, expires_at } = self.sessions.of(token, self.pipeline.now())?;
        Some(Identified {
            caller,
            until: Some(expires_at),
            session: Some(sessions::name(token)),
        })
    }

    /// Whether somebody is still logged in.
    pub(super) fn is_still(&self, identified: &Identified) -> bool {
        let is_open = |name| self.sessions.is_open(name, self.pipeline.now());
        identified.session.is_none_or(is_open)
    }
}

impl<S: Sync> FromRequestParts<S> for Identified {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(unidentified)
    }
}

/// Whoever runs this home.
pub(super) struct ForOperators;

impl<S: Sync> FromRequestParts<S> for ForOperators {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Identified::from_request_parts(parts, state).await?.caller {
            Caller::Operator => Ok(Self),
            _ => Err(forbidden()),
        }
    }
}

/// Whoever runs this home, or works there.
pub(super) struct ForStaff;

impl<S: Sync> FromRequestParts<S> for ForStaff {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Identified::from_request_parts(parts, state).await?.caller {
            Caller::Operator | Caller::Staff { .. } => Ok(Self),
            _ => Err(forbidden()),
        }
    }
}

/// Whether somebody may read a circle or exchange.
pub(super) fn may_read(caller: &Caller, context: ContextId) -> bool {
    match caller {
        Caller::Operator | Caller::Staff { .. } => true,
        Caller::Patient { circle: own } | Caller::Recipient { exchange: own } => *own == context,
    }
}

/// The circle or exchange that a path names as `context`, for whoever may read it.
pub(super) struct Theirs(pub CircleRow);

impl FromRequestParts<Arc<Api>> for Theirs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let caller = Identified::from_request_parts(parts, api).await?.caller;
        let Named(named): Named<HashMap<String, String>> =
            Named::from_request_parts(parts, api).await?;
        let context: ContextId = named
            .get("context")
            .map_or("", String::as_str)
            .parse()
            .map_err(|error| Problem::wrong(format!("the context: {error}")))?;
        // The same whether it is here or not.
        if !may_read(&caller, context) {
            return Err(forbidden());
        }
        Ok(Self(api.pipeline.store.circle(context).await?))
    }
}

/// What a path names.
pub(super) struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named: Result<Path<T>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(named) = named.map_err(|error| Problem::wrong(error.body_text()))?;
        Ok(Self(named))
    }
}

/// What a query says.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        let Query(asked) = asked.map_err(|error| Problem::wrong(error.body_text()))?;
        Ok(Self(asked))
    }
}

/// What a body says, as JSON.
pub(super) struct Said<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Said<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let said: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        let Json(said) = said.map_err(|error| Problem::of(error.status(), error.body_text()))?;
        Ok(Self(said))
    }
}

/// Which page.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// What it comes after: the `next` of the page before.
    pub after: Option<String>,
    /// How many it has at most: 1 to 100.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
}

/// How long a page is at most.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(PAGE_LEN_MAX);
    if !(1..=PAGE_LEN_MAX).contains(&limit) {
        return Err(Problem::wrong(format!("limit is from 1 to {PAGE_LEN_MAX}")));
    }
    Ok(limit)
}

impl Page {
    /// How long it is at most.
    pub fn limit(&self) -> Result<u32, Problem> {
        limit(self.limit)
    }

    /// What it comes after.
    pub fn after<T>(&self) -> Result<Option<T>, Problem>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let after = self.after.as_deref().map(str::parse::<T>).transpose();
        after.map_err(|error| Problem::wrong(format!("after: {error}")))
    }
}
