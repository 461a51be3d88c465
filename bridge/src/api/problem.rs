//! What went wrong, as RFC 9457 has it.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use medsync_client::wire;
use utoipa::IntoResponses;
use utoipa::openapi::{self, ContentBuilder, Ref, RefOr, ResponseBuilder};

use crate::asking::AskError;
use crate::chain::ChainError;
use crate::custodian::CustodianError;
use crate::guard::GuardError;
use crate::invitation::InvitationError;
use crate::pipeline::PipelineError;
use crate::source::SourceError;
use crate::store::StoreError;

/// The media type of a problem.
const MEDIA_TYPE: &str = "application/problem+json";

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub wire::Problem);

impl Problem {
    /// A problem of a status, in words for a person.
    #[must_use]
    pub fn of(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(wire::Problem {
            kind: "about:blank".into(),
            title: status.canonical_reason().unwrap_or_default().into(),
            status: status.as_u16(),
            detail: detail.into(),
        })
    }

    /// What the caller sent is wrong.
    pub(super) fn wrong(detail: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, detail)
    }

    /// Something does not answer. What it said is for the log: it may name files and addresses.
    fn unanswered(what: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, what, "the API has no answer");
        let why = format!("{what} does not answer; the log says why");
        Self::of(StatusCode::SERVICE_UNAVAILABLE, why)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Absent { .. } => Self::of(StatusCode::NOT_FOUND, error.to_string()),
            StoreError::Taken(_) | StoreError::SecondExchange => {
                Self::of(StatusCode::CONFLICT, error.to_string())
            }
            StoreError::Busy => Self::of(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            _ => Self::unanswered("the store", &error),
        }
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        match &error {
            SourceError::Refused { reason, .. } => Self::wrong(reason),
            _ => Self::unanswered("the party's node", &error),
        }
    }
}

impl From<GuardError> for Problem {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::Alarm { .. } | GuardError::Suspect { .. } => {
                Self::of(StatusCode::CONFLICT, error.to_string())
            }
            GuardError::Source(error) => error.into(),
            GuardError::Store(error) => error.into(),
        }
    }
}

impl From<ChainError> for Problem {
    fn from(error: ChainError) -> Self {
        Self::unanswered("the chain", &error)
    }
}

impl From<PipelineError> for Problem {
    fn from(error: PipelineError) -> Self {
        match error {
            PipelineError::Store(error) => error.into(),
            PipelineError::Source(error) => error.into(),
            PipelineError::Guard(error) => error.into(),
            PipelineError::Chain(error) => error.into(),
            PipelineError::ClockBehind(_) => {
                Self::of(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
            error => Self::unanswered("the party", &error),
        }
    }
}

impl From<CustodianError> for Problem {
    fn from(error: CustodianError) -> Self {
        match error {
            CustodianError::Wrong(why) => Self::wrong(why),
            CustodianError::Hindered(why) => Self::of(StatusCode::CONFLICT, why),
            CustodianError::Store(error) => error.into(),
            CustodianError::Source(error) => error.into(),
            CustodianError::Guard(error) => error.into(),
            CustodianError::Chain(error) => error.into(),
            CustodianError::Pipeline(error) => error.into(),
            CustodianError::Invitation(error @ InvitationError::Expired { .. }) => {
                Self::of(StatusCode::CONFLICT, error.to_string())
            }
            // Done, and what is left of it is done without whoever asked.
            CustodianError::Unsaid(_) => {
                tracing::error!(%error, "an erasure is not said yet");
                let why = "the keys are destroyed; the log says so as soon as the circle answers";
                Self::of(StatusCode::SERVICE_UNAVAILABLE, why)
            }
            error => Self::unanswered("the hospital", &error),
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Wrong(why) => Self::wrong(why),
            AskError::Stopped(_) => Self::of(StatusCode::CONFLICT, error.to_string()),
            AskError::Store(error) => error.into(),
            AskError::Pipeline(error) => error.into(),
            error => Self::unanswered("the recipient", &error),
        }
    }
}

/// In the description each path names the one schema.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let schema = Ref::from_schema_name("Problem");
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description("A problem.");
        let response = response.content(MEDIA_TYPE, content).build();
        [("default".to_owned(), response.into())].into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (status, Json(self.0)).into_response();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        answer
    }
}
