//! What answers say to browsers.

use std::time::Duration;

use axum::http::Method;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, AUTHORIZATION, CACHE_CONTROL,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::Response;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::Origins;
use super::pages::PageHeaders;

/// How long a browser remembers which pages may ask.
const PAGES_FOR: Duration = Duration::from_secs(10 * 60);
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

/// Tells browsers which pages may ask: they carry their token themselves, so that there is no
/// cookie to steal.
pub(super) fn cors(origins: &Origins) -> CorsLayer {
    let pages = origins.pages().iter();
    let pages = pages.filter_map(|page| HeaderValue::from_str(page).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(pages))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([RETRY_AFTER])
        .max_age(PAGES_FOR)
}

/// An answer with what it says to browsers: a page of the portal has its own.
pub(super) fn with_headers(origins: &Origins, mut answer: Response) -> Response {
    if origins.is_https() {
        let a_year = HeaderValue::from_static("max-age=31536000");
        answer
            .headers_mut()
            .insert(STRICT_TRANSPORT_SECURITY, a_year);
    }
    if let Some(headers) = answer.extensions_mut().remove::<PageHeaders>() {
        headers.put_on(&mut answer);
        return answer;
    }
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// A page that may ask reads also why it was not answered.
pub(super) fn for_page(
    origins: &Origins,
    page: Option<HeaderValue>,
    mut answer: Response,
) -> Response {
    let headers = answer.headers_mut();
    let is_page = |origin: &HeaderValue| origin.to_str().is_ok_and(|page| origins.is_page(page));
    if let Some(page) = page.filter(is_page)
        && !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, page);
        headers.append(VARY, HeaderValue::from_static("origin"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RETRY_AFTER.into());
    }
    answer
}
