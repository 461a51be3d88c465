//! The portal's files, beside the API: its pages ask it from its own origin.

use std::io;
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use medsync_protocol::verifier::Config;
use tower_http::services::ServeDir;
use url::Url;

use super::Problem;
use crate::files::{self, FileError};

/// What a page of another window cannot hold.
const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");
/// The page that every address within the portal begins with.
const INDEX: &str = "index.html";
/// What the pages believe about the chain, with the endpoints that they may ask.
const BELIEFS: &str = "verifier.json";
const BELIEFS_BYTES_MAX: u64 = 64 * 1024;
/// Where files lie whose names change with what is in them.
const ASSETS: &str = "/assets/";

/// The portal: a folder of files, as `scripts/build-portal` leaves it.
#[derive(Clone, Debug)]
pub struct Pages {
    folder: PathBuf,
    policy: HeaderValue,
}

/// Of an answer that is a file of the portal: which headers it has.
#[derive(Clone)]
pub(super) struct PageHeaders(HeaderMap);

impl Pages {
    /// The portal in a folder. Its pages may reach this API and the endpoints that its
    /// `verifier.json` names, if there is one.
    ///
    /// # Errors
    /// A folder without pages, or a `verifier.json` that is none.
    pub fn of(folder: &Path) -> Result<Self, FileError> {
        let malformed = |path: PathBuf, why: String| FileError::Malformed { path, why };
        let index = folder.join(INDEX);
        if !index.is_file() {
            let why = "there is no such page: scripts/build-portal makes the folder".into();
            return Err(malformed(index, why));
        }
        let beliefs = folder.join(BELIEFS);
        let mut reach = String::from("'self'");
        if beliefs.exists() {
            let bytes = files::read_bounded(&beliefs, BELIEFS_BYTES_MAX)?;
            let config = Config::parse(&bytes);
            let config = config.map_err(|error| malformed(beliefs.clone(), error.to_string()))?;
            for rpc in &config.rpc {
                let url = Url::parse(rpc);
                let url = url.map_err(|error| malformed(beliefs.clone(), error.to_string()))?;
                reach = format!("{reach} {}", url.origin().ascii_serialization());
            }
        }
        let policy = format!(
            "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
             img-src 'self' data: blob:; connect-src {reach}; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        );
        let policy = HeaderValue::from_str(&policy)
            .map_err(|error| malformed(beliefs.clone(), error.to_string()))?;
        Ok(Self {
            folder: folder.to_owned(),
            policy,
        })
    }

    /// A file of the portal; at an address of one of its pages the first one, which finds the page.
    pub(super) async fn answer(&self, request: Request) -> Response {
        let (path, is_read) = (request.uri().path().to_owned(), request.method().is_safe());
        let is_file = path
            .rsplit('/')
            .next()
            .is_some_and(|name| name.contains('.'));
        if !is_read || path.starts_with("/v1/") {
            return nothing();
        }
        let wanted = match is_file {
            true => request,
            false => index_instead_of(&request),
        };
        match self.file(wanted).await {
            Ok(file) if file.status() != StatusCode::NOT_FOUND => self.with_headers(file, &path),
            Ok(_) => nothing(),
            Err(error) => {
                tracing::error!(%error, "a file of the portal cannot be read");
                let why = "the portal's files cannot be read";
                Problem::of(StatusCode::SERVICE_UNAVAILABLE, why).into_response()
            }
        }
    }

    async fn file(&self, wanted: Request) -> io::Result<Response> {
        let file = ServeDir::new(&self.folder).try_call(wanted).await?;
        Ok(file.map(Body::new))
    }

    fn with_headers(&self, mut file: Response, path: &str) -> Response {
        let kept = match path.starts_with(ASSETS) {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        for (name, value) in [
            (REFERRER_POLICY, "no-referrer"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        file.extensions_mut().insert(PageHeaders(headers));
        file
    }
}

impl PageHeaders {
    pub(super) fn put_on(self, answer: &mut Response) {
        answer.headers_mut().extend(self.0);
    }
}

/// The same request for the first page.
fn index_instead_of(request: &Request) -> Request {
    let mut index = Request::new(Body::empty());
    *index.method_mut() = Method::clone(request.method());
    *index.uri_mut() = Uri::from_static("/index.html");
    index.headers_mut().clone_from(request.headers());
    index
}

/// What is at no path.
pub(super) fn nothing() -> Response {
    Problem::of(StatusCode::NOT_FOUND, "there is no such path").into_response()
}
