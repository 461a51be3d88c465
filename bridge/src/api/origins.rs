//! By which names this API is known, and which pages may ask.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use url::Url;

use crate::config::ApiConfig;

/// The origins that count: of this API, and of the pages that may ask.
#[derive(Clone, Debug)]
pub struct Origins {
    own: Vec<String>,
    /// The name under which a proxy makes it known.
    host: Option<String>,
    pages: Vec<String>,
    /// Whether no proxy stands before it: it ends TLS itself.
    ends_tls: bool,
}

impl Origins {
    /// Of an API that listens there.
    #[must_use]
    pub fn of(listens: SocketAddr, config: &ApiConfig) -> Self {
        let port = listens.port();
        // What has a name of its own is logged in to by that alone: else whatever listens at this
        // address of a patient's machine could pass a login on.
        let own = match &config.origin {
            Some(origin) => vec![origin.clone()],
            None => vec![
                format!("http://{listens}"),
                format!("http://localhost:{port}"),
            ],
        };
        let host = config.origin.as_deref().and_then(|origin| {
            let url = Url::parse(origin).ok()?;
            Some(url.host_str()?.to_owned())
        });
        Self {
            own,
            host,
            pages: config.pages.clone(),
            ends_tls: config.tls.is_some(),
        }
    }

    /// The same with pages of its own.
    pub(super) fn with_own_pages(mut self) -> Self {
        self.pages.extend_from_slice(&self.own);
        self
    }

    /// The pages that may ask.
    pub(super) fn pages(&self) -> &[String] {
        &self.pages
    }

    /// Whether a page of this origin may ask.
    pub(super) fn is_page(&self, origin: &str) -> bool {
        self.pages.iter().any(|page| page == origin)
    }

    /// Whether a login that was signed for `signed` is good for whoever asks: a page for its own
    /// origin, a program for that of this API.
    pub(super) fn is_signed_for(&self, signed: &str, page: Option<&str>) -> bool {
        match page {
            Some(page) => page == signed && self.is_page(page),
            None => self.own.iter().any(|own| own == signed),
        }
    }

    /// Whether it is known by a name that browsers reach by TLS alone.
    pub(super) fn is_https(&self) -> bool {
        self.own.iter().any(|own| own.starts_with("https:"))
    }

    /// Whether a request from this machine, under this name, is of somebody here and not of whoever
    /// stands before a proxy, which passes the name on.
    pub(super) fn is_of_this_machine(&self, host: &str) -> bool {
        self.ends_tls || is_local(host)
    }

    /// Whether a Host header names this API: by an address of this machine, by the one name that no
    /// name server is asked for, or by the name that its configuration has. Any other name that
    /// points here may be anybody's.
    pub(super) fn is_host(&self, host: &str) -> bool {
        is_local(host)
            || self
                .host
                .as_deref()
                .is_some_and(|own| name_of(host) == Some(own))
    }
}

/// The name in a Host header, without the port.
fn name_of(host: &str) -> Option<&str> {
    let authority: Authority = host.parse().ok().filter(|_| !host.contains('@'))?;
    host.get(..authority.host().len())
}

/// Whether a Host header names this machine by one of its own addresses, or by the one name that no
/// name server is asked for.
fn is_local(host: &str) -> bool {
    let is_loopback = |ip: IpAddr| ip.is_loopback();
    name_of(host).is_some_and(|name| {
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || address.parse().is_ok_and(is_loopback)
    })
}
