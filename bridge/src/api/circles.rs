//! Circles and exchanges, and what is in a circle: `/v1/circles/…`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{
    Circle, CirclePage, ConsentPage, PreviewPage, PreviewQuestion, RecordPage,
};
use medsync_protocol::codes::CodeSet;
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::ContextId;
use serde::Deserialize;

use super::caller::who::{PARTY, STAFF};
use super::caller::{Asked, ForStaff, Identified, Named, Page, Said, Theirs, limit};
use super::{Api, Problem};
use crate::guard::GuardError;
use crate::preview::{Question, obligations_on, preview as decide};
use crate::source::{Cursor, PageLimit};
use crate::status::circles_after;
use crate::views;

/// The longest name of a FHIR resource type, in characters.
const TYPE_CHARS_MAX: usize = 64;

pub(super) fn page_limit(asked: u32) -> Result<PageLimit, Problem> {
    PageLimit::new(asked).map_err(|error| Problem::wrong(error.to_string()))
}

pub(super) fn next(cursor: Option<Cursor>) -> Option<String> {
    cursor.map(|cursor| cursor.as_str().to_owned())
}

/// Circles and exchanges, in the order of their contexts, each with its alarm.
#[utoipa::path(
    get,
    path = "/v1/circles",
    tag = STAFF,
    params(Page),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = CirclePage), Problem)
)]
pub(super) async fn circles(
    State(api): State<Arc<Api>>,
    _: ForStaff,
    Asked(page): Asked<Page>,
) -> Result<Json<CirclePage>, Problem> {
    let limit = page.limit()?;
    let after: Option<ContextId> = page.after()?;
    let after = after.map(|context| context.to_string()).unwrap_or_default();
    let circles = circles_after(&api.pipeline.store, &after, limit).await?;
    let is_last = circles.len() < limit as usize;
    let next = circles.last().filter(|_| !is_last);
    Ok(Json(CirclePage {
        next: next.map(|circle| circle.context.clone()),
        circles,
    }))
}

/// A circle or exchange at a glance. Of one that an alarm stopped, what was kept here.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}",
    tag = PARTY,
    params(("context" = String, Path, description = "Its context.")),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "It.", body = Circle), Problem)
)]
pub(super) async fn circle(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
) -> Result<Json<Circle>, Problem> {
    let store = &api.pipeline.store;
    let state = match api.try_enter(&row).await? {
        Ok(circle) => Ok(circle.circle().await?),
        Err(stopped @ (GuardError::Alarm { .. } | GuardError::Suspect { .. })) => {
            Err(stopped.to_string())
        }
        Err(error) => return Err(error.into()),
    };
    let state = state.as_ref().map_err(Clone::clone);
    Ok(Json(views::circle::circle(store, &row, state).await?))
}

/// The consents of a circle that count, with how far each is, when it got there, and how long the
/// next stage usually takes.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/consents",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle."), Page),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = ConsentPage), Problem)
)]
pub(super) async fn consents(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Asked(page): Asked<Page>,
) -> Result<Json<ConsentPage>, Problem> {
    let (after, limit): (Option<Cursor>, _) = (page.after()?, page_limit(page.limit()?)?);
    let found = api
        .enter(&row)
        .await?
        .consents(after.as_ref(), limit)
        .await?;
    Ok(Json(ConsentPage {
        consents: views::consents::describe(&api.pipeline, &found.consents).await?,
        next: next(found.next),
    }))
}

#[derive(Deserialize)]
pub(super) struct OneConsent {
    consent: String,
}

/// The receipt of an anchored consent, by its published schema.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/consents/{consent}/receipt",
    tag = PARTY,
    params(
        ("context" = String, Path, description = "The circle."),
        ("consent" = String, Path, description = "The consent's commitment."),
    ),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "The receipt.", body = Object), Problem)
)]
pub(super) async fn receipt(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Named(OneConsent { consent }): Named<OneConsent>,
) -> Result<Json<serde_json::Value>, Problem> {
    let consent: Commitment = consent
        .parse()
        .map_err(|error| Problem::wrong(format!("the consent: {error}")))?;
    let found = {
        let circle = api.enter(&row).await?;
        views::consents::find(&api.pipeline.store, &*circle, consent).await?
    };
    let absent = || {
        let why = format!("there is no consent {consent} in this circle");
        Problem::of(StatusCode::NOT_FOUND, why)
    };
    let found = found.ok_or_else(absent)?;
    let made = views::consents::receipt_on_chain(&api.pipeline, &found).await?;
    let (receipt, unlooked) =
        made.map_err(|why| Problem::of(StatusCode::CONFLICT, why.to_string()))?;
    if let Some(why) = unlooked {
        return Err(Problem::of(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    let text = receipt.to_json();
    let text = text.map_err(|error| Problem::of(StatusCode::CONFLICT, error.to_string()))?;
    let value = serde_json::from_str(&text);
    value
        .map(Json)
        .map_err(|error| Problem::of(StatusCode::CONFLICT, error.to_string()))
}

/// Which records.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Records {
    /// Only of this FHIR type.
    #[serde(rename = "type")]
    resource_type: Option<String>,
    /// What the page comes after: the `next` of the page before.
    after: Option<String>,
    /// How many it has at most: 1 to 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The records of a circle as they are described, each in its latest version.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/records",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle."), Records),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page.", body = RecordPage), Problem)
)]
pub(super) async fn records(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Asked(asked): Asked<Records>,
) -> Result<Json<RecordPage>, Problem> {
    let page = Page {
        after: asked.after,
        limit: asked.limit,
    };
    let (after, limit): (Option<Cursor>, _) = (page.after()?, page_limit(limit(page.limit)?)?);
    let wanted = asked.resource_type.as_deref();
    if wanted.is_some_and(|name| name.chars().count() > TYPE_CHARS_MAX) {
        let why = format!("a FHIR type has at most {TYPE_CHARS_MAX} characters");
        return Err(Problem::wrong(why));
    }
    let circle = api.enter(&row).await?;
    let found = circle.records(after.as_ref(), limit, wanted).await?;
    Ok(Json(RecordPage {
        records: found
            .records
            .into_iter()
            .map(views::records::record)
            .collect(),
        next: next(found.next),
    }))
}

/// Decides every record that a recipient would ask for, as a release would now.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/previews",
    tag = PARTY,
    params(("context" = String, Path, description = "The circle.")),
    request_body = PreviewQuestion,
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "What they would get.", body = PreviewPage), Problem)
)]
pub(super) async fn preview(
    State(api): State<Arc<Api>>,
    Theirs(row): Theirs,
    Identified { caller, .. }: Identified,
    Said(asked): Said<PreviewQuestion>,
) -> Result<Json<PreviewPage>, Problem> {
    if asked.purposes.is_empty() {
        return Err(Problem::wrong("a question names at least one purpose"));
    }
    let _one = api.heavy_turn(&caller).await?;
    api.pipeline.check_chain().await?;
    let circle = api.enter(&row).await?;
    let understood = match asked.understood {
        None => obligations_on(&api.pipeline.store, &*circle, asked.to).await?,
        Some(named) => CodeSet::collect(named)
            .map_err(|error| Problem::wrong(format!("understood: {error}")))?,
    };
    let question = Question {
        recipient: asked.to,
        purposes: asked.purposes,
        classes: asked.classes,
        understood,
    };
    let lines = decide(&api.pipeline, &*circle, &question).await?;
    Ok(Json(PreviewPage {
        records: lines.into_iter().map(views::records::decided).collect(),
    }))
}
