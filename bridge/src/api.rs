//! The HTTP API: the one door to a party's `medsync` for people's pages, programs and operators.
//!
//! It listens on loopback, or by TLS, and believes nobody for that: whoever asks is logged in by a
//! login key, or shows the operator's token on this machine, and reads what is theirs. A page in a
//! browser is answered if its origin is named in the configuration, whatever name it gave to this
//! address. Nothing here has an account that signs, or reaches the node's own API. Every answer
//! that is no success is a problem of RFC 9457.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::to_bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{HOST, ORIGIN, RETRY_AFTER};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use medsync_client::wire;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

mod anchoring;
mod announced;
mod caller;
mod circles;
mod custody;
mod events;
mod exchanges;
mod headers;
mod imports;
mod login;
mod logs;
mod metrics;
mod operator;
mod origins;
mod pages;
mod problem;
mod rewards;
mod sealed;
mod server;
mod sessions;
mod signed;
mod status;
mod tls;
mod writes;

pub use announced::{Announced, Announcement};
pub use events::watch_circles;
pub use operator::{METRICS_TOKEN_FILE, TOKEN_FILE, Tokens};
pub use origins::Origins;
pub use pages::Pages;
pub use problem::Problem;
pub use server::{Bounds, Peer, serve};
pub use tls::{TlsError, acceptor};

use medsync_protocol::ids::Anchorer;

use crate::config::StaffConfig;
use crate::fhir::BUNDLE_BYTES_MAX;
use crate::guard::{self, GuardError};
use crate::keys::ResearcherKeys;
use crate::pipeline::Pipeline;
use crate::source::Circle;
use crate::store::circles::CircleRow;
use caller::METRICS;
use custody::Custody;
use events::Events;
use headers::{cors, for_page, with_headers};
use metrics::Counted;
use server::Shares;
use sessions::Sessions;

/// How many requests with a wrong token a second, and how many at once.
const WRONG_TOKENS_A_SECOND: u32 = 5;
const WRONG_TOKENS_AT_ONCE: u32 = 20;
/// The same for challenges and logins: whoever is logged in needs none for a while.
const LOGINS_A_SECOND: u32 = 15;
const LOGINS_AT_ONCE: u32 = 60;
/// How many answers are worked out at once: they share the store's connections with the daemon.
const ANSWERS_AT_ONCE: usize = 32;
/// How many answers ask the party's node at once: the daemon's lanes need it too.
const NODE_READS_AT_ONCE: usize = 8;
/// How many look in a circle for what a revocation opens.
const LOOKS_AT_ONCE: usize = 2;
/// The longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// How many bundles are heard at once, each of which is kept whole.
const BUNDLES_AT_ONCE: usize = 2;
/// The names of the schemes in the API's description: an operator's token, and a session's.
const SCHEMES: [&str; 2] = ["operator", "session"];

/// What the API answers from.
pub struct Api {
    /// Without accounts.
    pipeline: Pipeline,
    tokens: Tokens,
    staff: Vec<StaffConfig>,
    origins: Origins,
    bounds: Bounds,
    requests: DefaultDirectRateLimiter,
    /// The same of whoever is not logged in.
    strangers: DefaultDirectRateLimiter,
    /// The same of each address, and its logins.
    each: Shares<Peer>,
    logins_each: Shares<Peer>,
    /// The same of each who is logged in, wherever from: a proxy makes one address of many.
    callers_each: Shares<wire::Caller>,
    wrong_tokens: DefaultDirectRateLimiter,
    logins: DefaultDirectRateLimiter,
    sessions: Sessions,
    events: Events,
    node_reads: Semaphore,
    /// The same of who looks for what a revocation opens.
    looks: Semaphore,
    /// What takes long to work out, a preview or the check of whole logs, is done one at a time.
    heavy: Semaphore,
    /// Who waits for that, or has it.
    waiting: Mutex<Vec<wire::Caller>>,
    answers: Semaphore,
    /// The operator's own share of requests.
    operators: DefaultDirectRateLimiter,
    /// What a hospital's people do; nothing in another's home.
    custody: Option<Custody>,
    /// As whom this party sends claims; nothing if it sends none.
    claims_of: Option<Anchorer>,
    /// By which a recipient asks; nothing in another's home.
    recipient: Option<ResearcherKeys>,
    /// The portal, if this party has one.
    pages: Option<Pages>,
    /// Who sends a whole bundle.
    bundles: Semaphore,
    counted: Counted,
}

impl Api {
    /// Over a party's store, node and chain; who shows the token is its operator.
    #[must_use]
    pub fn new(
        pipeline: Pipeline,
        tokens: Tokens,
        staff: Vec<StaffConfig>,
        origins: Origins,
        bounds: Bounds,
    ) -> Self {
        let a_second = bounds.requests_a_second;
        let requests = quota(a_second, a_second.saturating_mul(2));
        Self {
            claims_of: pipeline.claim_account.as_ref().and(pipeline.anchorer()),
            pipeline: Pipeline {
                anchor_account: None,
                revoke_account: None,
                claim_account: None,
                ..pipeline
            },
            tokens,
            staff,
            origins,
            bounds,
            requests: RateLimiter::direct(requests),
            strangers: RateLimiter::direct(requests),
            each: Shares::of(a_second, a_second.saturating_mul(2)),
            logins_each: Shares::of(LOGINS_A_SECOND, LOGINS_AT_ONCE),
            callers_each: Shares::of(a_second, a_second.saturating_mul(2)),
            wrong_tokens: RateLimiter::direct(quota(WRONG_TOKENS_A_SECOND, WRONG_TOKENS_AT_ONCE)),
            logins: RateLimiter::direct(quota(LOGINS_A_SECOND, LOGINS_AT_ONCE)),
            sessions: Sessions::default(),
            events: Events::default(),
            node_reads: Semaphore::new(NODE_READS_AT_ONCE),
            looks: Semaphore::new(LOOKS_AT_ONCE),
            heavy: Semaphore::new(1),
            waiting: Mutex::default(),
            answers: Semaphore::new(ANSWERS_AT_ONCE),
            operators: RateLimiter::direct(requests),
            custody: None,
            recipient: None,
            pages: None,
            bundles: Semaphore::new(BUNDLES_AT_ONCE),
            counted: Counted::default(),
        }
    }

    /// The same with a portal, whose pages may ask.
    #[must_use]
    pub fn with_pages(mut self, pages: Pages) -> Self {
        self.origins = self.origins.with_own_pages();
        self.pages = Some(pages);
        self
    }

    /// The same for a recipient, whose operator asks for records.
    #[must_use]
    pub fn with_recipient(mut self, keys: ResearcherKeys) -> Self {
        self.recipient = Some(keys);
        self
    }

    /// Whether an address has more of its share of requests, or of logins.
    fn has_more(&self, peer: Peer, is_login: bool) -> bool {
        self.each.has(&peer) && (!is_login || self.logins_each.has(&peer))
    }

    /// Waits for a turn to ask the party's node.
    async fn turn_at_node(&self) -> Result<SemaphorePermit<'_>, Problem> {
        turn(&self.node_reads).await
    }

    /// Waits for a turn at what takes long to work out; nobody waits for two.
    async fn heavy_turn(&self, caller: &wire::Caller) -> Result<HeavyTurn<'_>, Problem> {
        {
            let mut waiting = locked(&self.waiting);
            if waiting.contains(caller) {
                let why = "one preview or check is worked out for you already; wait for it";
                return Err(Problem::of(StatusCode::TOO_MANY_REQUESTS, why));
            }
            waiting.push(caller.clone());
        }
        // From here on it is taken out again, whatever comes of it.
        let mut heavy = HeavyTurn {
            api: self,
            caller: caller.clone(),
            _turn: None,
        };
        heavy._turn = Some(turn(&self.heavy).await?);
        Ok(heavy)
    }

    /// Enters a circle through the guard, in turn with other readers.
    async fn try_enter(&self, row: &CircleRow) -> Result<Result<Entered<'_>, GuardError>, Problem> {
        let (turn, pipeline) = (self.turn_at_node().await?, &self.pipeline);
        let now = pipeline.now();
        let entered = guard::enter(&*pipeline.circles, &pipeline.store, row, now).await;
        Ok(entered.map(|circle| Entered {
            circle,
            _turn: turn,
        }))
    }

    /// The same for who needs the circle itself.
    async fn enter(&self, row: &CircleRow) -> Result<Entered<'_>, Problem> {
        Ok(self.try_enter(row).await??)
    }
}

/// One caller's turn at what takes long to work out, or its wait for it.
struct HeavyTurn<'a> {
    api: &'a Api,
    caller: wire::Caller,
    _turn: Option<SemaphorePermit<'a>>,
}

impl Drop for HeavyTurn<'_> {
    fn drop(&mut self) {
        locked(&self.api.waiting).retain(|waiting| *waiting != self.caller);
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, Problem> {
    let turn = turns.acquire().await;
    turn.map_err(|_| Problem::of(StatusCode::SERVICE_UNAVAILABLE, "this is about to stop"))
}

/// A circle, as long as it is this reader's turn.
struct Entered<'a> {
    circle: Box<dyn Circle>,
    _turn: SemaphorePermit<'a>,
}

impl Deref for Entered<'_> {
    type Target = dyn Circle;

    fn deref(&self) -> &Self::Target {
        &*self.circle
    }
}

fn quota(a_second: u32, at_once: u32) -> Quota {
    let at_least_one = |number: u32| number.try_into().unwrap_or(std::num::NonZeroU32::MIN);
    Quota::per_second(at_least_one(a_second)).allow_burst(at_least_one(at_once))
}

/// The description, before the paths are in it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "MedSync",
        description = "The door to a party's medsync. Errors are problems of RFC 9457."
    ),
    components(schemas(wire::Problem))
)]
struct Description;

/// All paths, and their description.
fn described(api: &Arc<Api>) -> (Router<Arc<Api>>, utoipa::openapi::OpenApi) {
    let identified = OpenApiRouter::new()
        .routes(routes!(login::session, login::log_out))
        .routes(routes!(status::status))
        .routes(routes!(circles::circles, custody::open))
        .routes(routes!(circles::circle))
        .routes(routes!(custody::invite))
        .routes(routes!(custody::recipient))
        .routes(routes!(custody::resume))
        .routes(routes!(custody::remove))
        .routes(routes!(custody::erase))
        .routes(routes!(imports::import))
        .routes(routes!(imports::report))
        .routes(routes!(circles::consents, writes::grant))
        .routes(routes!(writes::revoke))
        .routes(routes!(circles::receipt))
        .routes(routes!(circles::records))
        .routes(routes!(sealed::record))
        .routes(routes!(sealed::part))
        .routes(routes!(sealed::release))
        .routes(routes!(signed::admit))
        .routes(routes!(signed::change_key))
        .routes(routes!(signed::enrol))
        .routes(routes!(circles::preview))
        .routes(routes!(anchoring::batches))
        .routes(routes!(anchoring::pools, custody::add_pool))
        .routes(routes!(custody::close_pool))
        .routes(routes!(rewards::tickets))
        .routes(routes!(rewards::claim))
        .routes(routes!(logs::log, signed::say))
        .routes(routes!(logs::heads))
        .routes(routes!(logs::check))
        .routes(routes!(exchanges::requests, exchanges::request))
        .routes(routes!(exchanges::releases))
        .routes(routes!(exchanges::receipts))
        .routes(routes!(events::events))
        .routes(routes!(metrics::metrics))
        .layer(from_fn_with_state(Arc::clone(api), caller::identify));
    let (router, mut description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status::live))
        .routes(routes!(status::ready))
        .routes(routes!(login::challenge))
        .routes(routes!(login::log_in))
        .merge(identified)
        .split_for_parts();
    let components = description.components.get_or_insert_default();
    for name in SCHEMES {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme(name, SecurityScheme::Http(scheme));
    }
    (router, description)
}

/// The description of all paths, as JSON.
///
/// # Errors
/// None that can happen: it is made of texts.
pub fn description(api: &Arc<Api>) -> Result<String, serde_json::Error> {
    described(api).1.to_pretty_json()
}

/// Answers to all paths, behind what every request has to pass.
pub fn router(api: &Arc<Api>) -> Router {
    let (router, description) = described(api);
    let description = Json(description);
    router
        .route("/openapi.json", axum::routing::get(async || description))
        .fallback(elsewhere)
        .method_not_allowed_fallback(async || {
            Problem::of(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take that method",
            )
        })
        // What is heard is bounded before.
        .layer(DefaultBodyLimit::disable())
        .layer(cors(&api.origins))
        .layer(from_fn_with_state(Arc::clone(api), pass))
        .with_state(Arc::clone(api))
}

/// What is no path of the API may be one of the portal.
async fn elsewhere(State(api): State<Arc<Api>>, request: Request) -> Response {
    match &api.pages {
        Some(pages) => pages.answer(request).await,
        None => pages::nothing(),
    }
}

/// What every request passes: who asks from where, how often, and for how long.
async fn pass(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let page = request.headers().get(ORIGIN).cloned();
    let answer = match admitted(&api, &request) {
        Err(problem) => problem.into_response(),
        Ok(passed) => {
            match timeout(api.bounds.answers_within, said(&api, passed, request, next)).await {
                Ok(answer) => answer.unwrap_or_else(IntoResponse::into_response),
                Err(_) => too_long(&method),
            }
        }
    };
    let path = path.as_ref().map_or("none", MatchedPath::as_str);
    api.counted.count(&method, path, answer.status());
    for_page(&api.origins, page, with_headers(&api.origins, answer))
}

/// The answer to who waited for the longest that anybody does. What was begun goes on: asked again
/// at once, it might be done twice.
fn too_long(method: &Method) -> Response {
    const STATUS: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    if method.is_safe() {
        return Problem::of(STATUS, "the answer took too long").into_response();
    }
    let why = "the answer took too long; what was asked for may go on: look whether it is done \
               before you ask for it again";
    let mut answer = Problem::of(STATUS, why).into_response();
    answer.headers_mut().remove(RETRY_AFTER);
    answer
}

/// Whose share of the answers a request is of.
enum Share {
    /// Of all.
    Common,
    /// Whatever others ask, the operator is answered, and a revocation taken.
    Own,
}

/// What a request may do that was let in.
struct Passed {
    share: Share,
    /// Whether it brings a bundle.
    is_bundle: bool,
}

/// Answers in turn, once all was heard: who speaks slowly takes no turn.
async fn said(
    api: &Api,
    Passed { share, is_bundle }: Passed,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (_heard, bytes_max, within) = match is_bundle {
        true => (
            Some(turn(&api.bundles).await?),
            usize::try_from(BUNDLE_BYTES_MAX).unwrap_or(usize::MAX),
            api.bounds.answers_within,
        ),
        false => (None, BODY_BYTES_MAX, api.bounds.heads_within),
    };
    let heard = timeout(within, to_bytes(body, bytes_max)).await;
    let slow = |_| {
        let why = "the body of the request took too long";
        Problem::of(StatusCode::REQUEST_TIMEOUT, why)
    };
    let large = |_| {
        let why = format!("a body has at most {bytes_max} bytes");
        Problem::of(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    let body = heard.map_err(slow)?.map_err(large)?;
    let _turn = match share {
        Share::Common => Some(turn(&api.answers).await?),
        Share::Own => None,
    };
    Ok(next.run(Request::from_parts(parts, body.into())).await)
}

fn admitted(api: &Api, request: &Request) -> Result<Passed, Problem> {
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| api.origins.is_host(host)) {
        let why = "the Host header has to name a loopback address, such as 127.0.0.1:2628, or \
                   what api.origin in the configuration names";
        return Err(Problem::of(StatusCode::MISDIRECTED_REQUEST, why));
    }
    // Programs send none.
    let origin = headers
        .get(ORIGIN)
        .map(|origin| origin.to_str().unwrap_or_default());
    if origin.is_some_and(|origin| !api.origins.is_page(origin)) {
        let why = "pages of this origin may not ask here: api.pages in the configuration names \
                   those that may";
        return Err(Problem::of(StatusCode::FORBIDDEN, why));
    }
    let (token, peer, is_here) = (
        caller::token(headers),
        Peer::of(request),
        api.is_here(request),
    );
    let is_operator = token.is_some_and(|shown| {
        api.is_operator(shown, is_here)
            || (request.uri().path() == METRICS && api.reads_metrics(shown, is_here))
    });
    let caller = token.filter(|_| !is_operator);
    let caller = caller.and_then(|shown| api.caller_of(shown, is_here));
    let requests = match caller {
        _ if is_operator => &api.operators,
        // Whoever is not logged in keeps nobody waiting who is.
        Some(_) => &api.requests,
        None => &api.strangers,
    };
    let is_login = matches!(request.uri().path(), "/v1/challenges" | "/v1/sessions");
    let has_more = peer.is_none_or(|peer| api.has_more(peer, is_login))
        && caller.is_none_or(|caller| api.callers_each.has(&caller));
    if !has_more || requests.check().is_err() {
        let why = "too many requests; ask again in a second";
        return Err(Problem::of(StatusCode::TOO_MANY_REQUESTS, why));
    }
    let path = request.uri().path();
    let is_of = |end: &str| request.method() == Method::POST && path.ends_with(end);
    let share = match is_operator || is_of("/revocations") || path == "/live" {
        true => Share::Own,
        false => Share::Common,
    };
    // Nobody else's large body is heard at all.
    let is_staff = || token.is_some_and(|shown| api.is_staff(shown, is_here));
    let is_bundle = is_of("/imports") && is_staff();
    Ok(Passed { share, is_bundle })
}

/// The label of a method: anything that a client makes up is one.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_changed_nothing_is_told_to_ask_again() {
        let is_told = |method| too_long(&method).headers().contains_key(RETRY_AFTER);
        assert!(is_told(Method::GET));
        assert!(!is_told(Method::POST) && !is_told(Method::DELETE));
    }
}
