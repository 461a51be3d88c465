//! What is sealed, for whoever holds the key: a record, a release, the parts of a large payload.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{SealedPart, SealedRecord, SealedRelease};
use medsync_protocol::ids::{RecordId, Sha256Digest, to_base64};
use medsync_protocol::seal::RecordVersion;
use serde::Deserialize;

use super::caller::who::PARTY;
use super::caller::{Asked, Named, Theirs};
use super::{Api, Problem};
use crate::source::{EntryKey, SourceError};
use crate::views;

#[derive(Deserialize)]
pub(super) struct OneRecord {
    record: String,
}

/// Which version.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    /// The version; the latest if it is not said.
    #[param(minimum = 1)]
    version: Option<u32>,
}

fn absent(what: &str) -> impl FnOnce(SourceError) -> Problem + '_ {
    move |error| match error.refusal() {
        Some(name) if name.starts_with("unknown") => Problem::of(
            StatusCode::NOT_FOUND,
            format!("there is no such {what} here"),
        ),
        _ => error.into(),
    }
}

/// A record with its sealed payload, and its key sealed to the patient.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/records/{record}",
    tag = PARTY,
    params(
        ("context" = String, Path, description = "The circle."),
        ("record" = String, Path, description = "The record."),
        Version,
    ),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "It.", body = SealedRecord), Problem)
)]
pub(super) async fn record(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Named(OneRecord { record }): Named<OneRecord>,
    Asked(Version { version }): Asked<Version>,
) -> Result<Json<SealedRecord>, Problem> {
    let record: RecordId = record
        .parse()
        .map_err(|error| Problem::wrong(format!("the record: {error}")))?;
    let circle = api.enter(&row).await?;
    let found = circle.record(record, version.map(RecordVersion)).await;
    let found = found.map_err(absent("record"))?;
    Ok(Json(SealedRecord {
        key_for_patient: to_base64(&found.record.key_for_patient),
        payload: found.payload.as_deref().map(to_base64),
        record: views::records::record(found.record),
    }))
}

#[derive(Deserialize)]
pub(super) struct OnePart {
    part: String,
}

/// A sealed part of a large payload.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/parts/{part}",
    tag = PARTY,
    params(
        ("context" = String, Path, description = "The circle or exchange."),
        ("part" = String, Path, description = "The SHA-256 of the sealed part."),
    ),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "It.", body = SealedPart), Problem)
)]
pub(super) async fn part(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Named(OnePart { part }): Named<OnePart>,
) -> Result<Json<SealedPart>, Problem> {
    let digest: Sha256Digest = part
        .parse()
        .map_err(|error| Problem::wrong(format!("the part: {error}")))?;
    let circle = api.enter(&row).await?;
    let part = circle.part(digest).await?;
    let not_here = || Problem::of(StatusCode::NOT_FOUND, "this part is not here, or not yet");
    let part = part.as_deref().map(to_base64).ok_or_else(not_here)?;
    Ok(Json(SealedPart { part }))
}

#[derive(Deserialize)]
pub(super) struct OneRelease {
    entry: String,
}

/// A released record with its sealed payload, and its key sealed to the request's reply key.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/releases/{entry}",
    tag = PARTY,
    params(
        ("context" = String, Path, description = "The exchange."),
        ("entry" = String, Path, description = "The release's entry, as the list names it."),
    ),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "It.", body = SealedRelease), Problem)
)]
pub(super) async fn release(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Named(OneRelease { entry }): Named<OneRelease>,
) -> Result<Json<SealedRelease>, Problem> {
    let key: EntryKey = entry
        .parse()
        .map_err(|error| Problem::wrong(format!("the entry: {error}")))?;
    let exchange = api.enter(&row).await?;
    let found = exchange.release(key).await.map_err(absent("release"))?;
    Ok(Json(SealedRelease {
        release: views::exchange::release(&found.release),
        circle: found.release.circle,
        payload: found.payload.as_deref().map(to_base64),
        sealed_key: to_base64(&found.release.sealed_key),
    }))
}
