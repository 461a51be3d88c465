//! What somebody signed elsewhere goes into its circle or exchange: log entries, admissions, key
//! changes, enrolments. The app takes nothing that its signature does not prove.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{Brought, NewAdmission, NewEnrolment, NewKeyChange, NewLogEntry};

use super::caller::who::{OPERATOR, PARTY};
use super::caller::{ForOperators, Said, Theirs};
use super::{Api, Problem};
use crate::access::let_in;
use crate::source::{Device, LogEntry, SignedKeyChange, Written};

/// A change of a key, or an admission, is written once: more copies are its writer's own matter.
const COPIES: u32 = 1;

fn brought(written: Written) -> (StatusCode, Json<Brought>) {
    let was_there = written.existing;
    (StatusCode::CREATED, Json(Brought { was_there }))
}

/// Brings the next entry of its author's log, which the author signed. Again, it is the same one.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/log",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle or exchange.")),
    request_body = NewLogEntry,
    security(("operator" = []), ("session" = [])),
    responses((status = 201, description = "It is there.", body = Brought), Problem)
)]
pub(super) async fn say(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Said(said): Said<NewLogEntry>,
) -> Result<(StatusCode, Json<Brought>), Problem> {
    if said.entry.context != row.context {
        return Err(Problem::wrong("the entry is of another context"));
    }
    let subject = said.says.subject();
    if subject.ok() != Some(said.entry.subject) || said.says.kind() != said.entry.kind {
        let why = "the entry's kind and subject are those of what it says";
        return Err(Problem::wrong(why));
    }
    let entry = LogEntry {
        entry: said.entry,
        body: said.says,
        signature: said.signature,
    };
    if let Some(own) = api
        .custodian_author()
        .filter(|own| *own != entry.entry.author_key)
    {
        let room = let_in(&api.pipeline.store, own, &entry.entry).await?;
        room.map_err(|none| Problem::of(StatusCode::CONFLICT, none.to_string()))?;
    }
    let circle = api.enter(&row).await?;
    Ok(brought(circle.append_log(&entry).await?))
}

/// Brings whom the patient admits, as the patient signed it. Again, it is the same one.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/admissions",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle.")),
    request_body = NewAdmission,
    security(("operator" = []), ("session" = [])),
    responses((status = 201, description = "It is there.", body = Brought), Problem)
)]
pub(super) async fn admit(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Said(said): Said<NewAdmission>,
) -> Result<(StatusCode, Json<Brought>), Problem> {
    let device = Device {
        admission: said.admission,
        author_key: said.author_key,
        signature: said.signature,
    };
    let circle = api.enter(&row).await?;
    Ok(brought(circle.admit(&device).await?))
}

/// Brings a change of whoever's key enrolled, signed by the old key or the recovery key. Again, it
/// is the same one.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/key-changes",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle or exchange.")),
    request_body = NewKeyChange,
    security(("operator" = []), ("session" = [])),
    responses((status = 201, description = "It is there.", body = Brought), Problem)
)]
pub(super) async fn change_key(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Said(said): Said<NewKeyChange>,
) -> Result<(StatusCode, Json<Brought>), Problem> {
    let change = SignedKeyChange {
        change: said.change,
        signature: said.signature,
    };
    let circle = api.enter(&row).await?;
    Ok(brought(circle.change_key(&change, COPIES).await?))
}

/// Enrols whoever was invited, at the `medsync` that joined for them. Again, it is the same one.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/enrolments",
    tag = OPERATOR,
    params(("context" = String, Path, description = "The circle or exchange.")),
    request_body = NewEnrolment,
    security(("operator" = [])),
    responses((status = 201, description = "They are enrolled.", body = Brought), Problem)
)]
pub(super) async fn enrol(
    State(api): State<Arc<Api>>,
    _: ForOperators,
    Theirs(row): Theirs,
    Said(said): Said<NewEnrolment>,
) -> Result<(StatusCode, Json<Brought>), Problem> {
    if said.enrolment.member != row.member {
        let why = format!("the member of this home in it is {}", row.member);
        return Err(Problem::wrong(why));
    }
    let circle = api.enter(&row).await?;
    let others = circle.circle().await?.enrolments;
    if others.iter().any(|known| known.enrolment != said.enrolment) {
        // A second one would freeze it for ever.
        let why = "somebody else enrolled by this invitation: tell its custodian. `medsync patient \
                   enrol --freeze` stops it for good";
        return Err(Problem::of(StatusCode::CONFLICT, why));
    }
    let written = circle.enrol(&said.enrolment, &said.signature).await?;
    Ok(brought(written))
}
