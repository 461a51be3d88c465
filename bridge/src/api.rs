//! The HTTP API: the one door to a party's `medsync` for programs and operators.
//!
//! It listens on loopback and believes nobody for that: other programs of the machine need the
//! operator's token, and a page in a browser gets no answer, whatever name it gave to this address.
//! Nothing here signs, writes to a circle or reaches the node's own API. Every answer that is no
//! success is a problem of RFC 9457.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::timeout;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

mod metrics;
mod operator;
mod problem;
mod server;
mod status;
#[cfg(test)]
mod tests;

pub use operator::{OperatorToken, TOKEN_FILE};
pub use problem::Problem;
pub use server::{Bounds, serve};

use crate::seams::Clock;
use crate::store::Store;
use metrics::Counted;

/// How many requests a second all together may make, and how many at once.
const REQUESTS_A_SECOND: u32 = 200;
const REQUESTS_AT_ONCE: u32 = 400;
/// The same for requests with a wrong token.
const WRONG_TOKENS_A_SECOND: u32 = 5;
const WRONG_TOKENS_AT_ONCE: u32 = 20;
/// What every answer says to a browser: nothing in it is code, a page, or to be kept.
const HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];
/// The name of the operator's scheme in the API's description.
const OPERATOR: &str = "operator";

/// What the API answers from.
pub struct Api {
    store: Store,
    clock: Arc<dyn Clock>,
    token: OperatorToken,
    bounds: Bounds,
    requests: DefaultDirectRateLimiter,
    wrong_tokens: DefaultDirectRateLimiter,
    counted: Counted,
}

impl Api {
    /// Over a party's store; who shows the token is its operator.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, token: OperatorToken, bounds: Bounds) -> Self {
        Self {
            store,
            clock,
            token,
            bounds,
            requests: limiter(REQUESTS_A_SECOND, REQUESTS_AT_ONCE),
            wrong_tokens: limiter(WRONG_TOKENS_A_SECOND, WRONG_TOKENS_AT_ONCE),
            counted: Counted::default(),
        }
    }
}

fn limiter(a_second: u32, at_once: u32) -> DefaultDirectRateLimiter {
    let at_least_one = |number: u32| number.try_into().unwrap_or(std::num::NonZeroU32::MIN);
    let quota = Quota::per_second(at_least_one(a_second)).allow_burst(at_least_one(at_once));
    RateLimiter::direct(quota)
}

/// The description, before the paths are in it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "MedSync",
        description = "The door to a party's medsync. Errors are problems of RFC 9457."
    ),
    components(schemas(Problem))
)]
struct Description;

/// All paths, and their description.
fn described(api: &Arc<Api>) -> (Router<Arc<Api>>, utoipa::openapi::OpenApi) {
    let for_operators = OpenApiRouter::new()
        .routes(routes!(status::status))
        .routes(routes!(status::circles))
        .routes(routes!(metrics::metrics))
        .layer(from_fn_with_state(Arc::clone(api), operator::check));
    let (router, mut description) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(status::live))
        .routes(routes!(status::ready))
        .merge(for_operators)
        .split_for_parts();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = description.components.get_or_insert_default();
    components.add_security_scheme(OPERATOR, SecurityScheme::Http(scheme));
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
        .fallback(async || Problem::of(StatusCode::NOT_FOUND, "there is no such path"))
        .method_not_allowed_fallback(async || {
            Problem::of(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take that method",
            )
        })
        .layer(from_fn_with_state(Arc::clone(api), pass))
        .with_state(Arc::clone(api))
}

/// What every request passes: who asks from where, how often, and for how long.
async fn pass(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let answer = match admitted(&api, &request) {
        Err(problem) => problem.into_response(),
        Ok(()) => match timeout(api.bounds.answers_within, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => Problem::of(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long")
                .into_response(),
        },
    };
    let path = path.as_ref().map_or("none", MatchedPath::as_str);
    api.counted.count(&method, path, answer.status());
    with_headers(answer)
}

fn admitted(api: &Api, request: &Request) -> Result<(), Problem> {
    if api.requests.check().is_err() {
        let why = "too many requests; ask again in a second";
        return Err(Problem::of(StatusCode::TOO_MANY_REQUESTS, why));
    }
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_this_machine) {
        let why = "the Host header has to name a loopback address, such as 127.0.0.1:2628";
        return Err(Problem::of(StatusCode::MISDIRECTED_REQUEST, why));
    }
    // Programs send none. A page of this very address is none of ours yet.
    if headers.contains_key(ORIGIN) {
        let why = "no page in a browser may ask here";
        return Err(Problem::of(StatusCode::FORBIDDEN, why));
    }
    Ok(())
}

/// Whether a Host header names this machine by an address, or by the one name that no name server
/// is asked for: a name that points here may be anybody's.
fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |ip: IpAddr| ip.is_loopback();
    let is_us = name == "localhost" || address.parse().is_ok_and(is_loopback);
    is_us && !host.contains('@')
}

fn with_headers(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// The label of a method: anything that a client makes up is one.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}
