//! Imports of FHIR bundles: one at a time, with a report per resource that is read meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use medsync_client::wire::{Caller, Import, ImportLine, ImportState};
use medsync_protocol::ids::ContextId;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::caller::who::STAFF;
use super::caller::{Asked, ForStaff, Identified, Named, Page, Theirs};
use super::{Api, Problem, locked};
use crate::custodian::Progress;
use crate::fhir::parse_bundle;
use crate::seams::{random_bytes, system_random};

/// How many imports are remembered.
const REMEMBERED_MAX: usize = 4;

/// The imports of this process.
pub(super) struct Imports {
    jobs: Mutex<VecDeque<Arc<Job>>>,
    pub one: Arc<Semaphore>,
}

impl Default for Imports {
    fn default() -> Self {
        Self {
            jobs: Mutex::default(),
            one: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Imports {
    fn begin(&self, circle: ContextId) -> Arc<Job> {
        let name = hex::encode(&random_bytes(&mut system_random())[..8]);
        let job = Arc::new(Job {
            name,
            circle,
            now: Mutex::new(Now {
                state: ImportState::Running,
                why: None,
                total: 0,
                lines: Vec::new(),
            }),
        });
        let mut jobs = locked(&self.jobs);
        jobs.push_back(Arc::clone(&job));
        while jobs.len() > REMEMBERED_MAX {
            jobs.pop_front();
        }
        job
    }

    fn find(&self, circle: ContextId, name: &str) -> Option<Arc<Job>> {
        let jobs = locked(&self.jobs);
        let mut jobs = jobs.iter();
        let found = jobs.find(|job| job.circle == circle && job.name == name);
        found.cloned()
    }
}

/// One import.
struct Job {
    name: String,
    circle: ContextId,
    now: Mutex<Now>,
}

/// How far it is.
struct Now {
    state: ImportState,
    why: Option<String>,
    total: u64,
    lines: Vec<ImportLine>,
}

impl Progress for Job {
    fn begins(&self, total: u64) {
        locked(&self.now).total = total;
    }

    fn looked_at(&self, line: ImportLine) {
        locked(&self.now).lines.push(line);
    }
}

impl Job {
    fn ends(&self, failed: Option<String>) {
        let mut now = locked(&self.now);
        now.state = match failed {
            None => ImportState::Done,
            Some(_) => ImportState::Failed,
        };
        now.why = failed;
    }

    /// Its report after so many lines.
    fn page(&self, after: usize, limit: usize) -> Import {
        let now = locked(&self.now);
        let rest = now.lines.iter().skip(after);
        let lines: Vec<ImportLine> = rest.take(limit).cloned().collect();
        let end = after + lines.len();
        Import {
            import: self.name.clone(),
            circle: self.circle,
            state: now.state,
            why: now.why.clone(),
            done: now.lines.len() as u64,
            total: now.total,
            next: (end < now.lines.len()).then(|| end.to_string()),
            lines,
        }
    }
}

/// An import that ends without a word was cut off.
struct Ending(Arc<Job>);

impl Drop for Ending {
    fn drop(&mut self) {
        if locked(&self.0.now).state == ImportState::Running {
            self.0
                .ends(Some("it was cut off; import the bundle again".into()));
        }
    }
}

/// How a bundle is imported.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Importing {
    /// Nothing in the bundle was erased from this circle: import also what this home does not know,
    /// though it was restored from a backup of before records were erased. Only the operator says
    /// so.
    #[serde(default)]
    not_erased: bool,
}

/// Begins to import a FHIR R4 bundle, of at most 16 MiB, into a circle. The same bundle again
/// writes nothing twice. One import goes on at a time.
#[utoipa::path(
    post,
    path = "/v1/circles/{context}/imports",
    tag = STAFF,
    params(("context" = String, Path, description = "The circle."), Importing),
    request_body(content = Object, content_type = "application/fhir+json"),
    security(("operator" = []), ("session" = [])),
    responses((status = 202, description = "It goes on.", body = Import), Problem)
)]
pub(super) async fn import(
    State(api): State<Arc<Api>>,
    _: ForStaff,
    who: Identified,
    Theirs(row): Theirs,
    Asked(Importing { not_erased }): Asked<Importing>,
    body: Bytes,
) -> Result<(StatusCode, Json<Import>), Problem> {
    if not_erased && who.caller != Caller::Operator {
        let why = "that nothing in it was erased is said by whoever erases: the operator";
        return Err(Problem::of(StatusCode::FORBIDDEN, why));
    }
    let (custodian, imports) = (api.custodian()?, &api.custody()?.imports);
    let Ok(alone) = Arc::clone(&imports.one).try_acquire_owned() else {
        let why = "another import goes on; begin this one when it is over";
        return Err(Problem::of(StatusCode::CONFLICT, why));
    };
    let parsed = tokio::task::spawn_blocking(move || parse_bundle(&body)).await;
    let broken = |_| Problem::of(StatusCode::INTERNAL_SERVER_ERROR, "the log says why");
    let bundle = parsed.map_err(broken)?;
    let bundle = bundle.map_err(|error| Problem::wrong(error.to_string()))?;
    let job = imports.begin(row.context);
    let ending = Ending(Arc::clone(&job));
    tokio::spawn(async move {
        let Ending(job) = &ending;
        let done = custodian.import(job.circle, bundle, not_erased, &**job);
        let failed = done.await.err().map(Problem::from);
        job.ends(failed.map(|problem| problem.0.detail));
        drop(alone);
    });
    Ok((StatusCode::ACCEPTED, Json(job.page(0, 0))))
}

#[derive(Deserialize)]
pub(super) struct OneImport {
    import: String,
}

/// How far an import is, and what became of each resource.
#[utoipa::path(
    get,
    path = "/v1/circles/{context}/imports/{import}",
    tag = STAFF,
    params(
        ("context" = String, Path, description = "The circle."),
        ("import" = String, Path, description = "The import, as its beginning named it."),
        Page,
    ),
    security(("operator" = []), ("session" = [])),
    responses((status = 200, description = "A page of its report.", body = Import), Problem)
)]
pub(super) async fn report(
    State(api): State<Arc<Api>>,
    _: ForStaff,
    Theirs(row): Theirs,
    Named(OneImport { import }): Named<OneImport>,
    Asked(page): Asked<Page>,
) -> Result<Json<Import>, Problem> {
    let (after, limit): (Option<usize>, _) = (page.after()?, page.limit()?);
    let found = api.custody()?.imports.find(row.context, &import);
    let absent = || {
        let why = format!(
            "no import {import} is known here any more; the same bundle again says what became of \
             each resource"
        );
        Problem::of(StatusCode::NOT_FOUND, why)
    };
    let job = found.ok_or_else(absent)?;
    Ok(Json(job.page(after.unwrap_or(0), limit as usize)))
}
