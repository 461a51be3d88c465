//! The HTTP API's table.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use medsync_protocol::signature::PublicKey;
use serde::{Deserialize, Serialize};
use url::Url;

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Where it listens: a loopback address, but with TLS; port 0 picks a free one, which `medsync
    /// up` prints.
    pub listen: SocketAddr,
    /// Under which origin it is known: by its certificate, or by a proxy that ends TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// How many connections are open at once; what is more is closed.
    #[serde(default = "connections_max")]
    pub connections_max: u32,
    /// How many of them listen to events at once.
    #[serde(default = "listeners_max")]
    pub listeners_max: u32,
    /// How many requests a second all who are logged in, and all others, may make.
    #[serde(default = "requests_a_second")]
    pub requests_a_second: u32,
    /// The origins of the pages that may ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<String>,
    /// The folder of the portal, whose pages are served beside it; without it there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<PathBuf>,
    /// Who works here, and reads all of this home.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staff: Vec<StaffConfig>,
    /// Its certificate, where no proxy ends TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// What the API shows to whoever connects by TLS, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate, with those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key; its owner alone may read it.
    pub key: PathBuf,
}

/// A hospital's staff and patients, and a proxy's connections.
const fn connections_max() -> u32 {
    128
}

const fn listeners_max() -> u32 {
    64
}

const fn requests_a_second() -> u32 {
    200
}

/// The most that any of these numbers can be.
const API_BOUND_MAX: u32 = 65_536;

/// A member of the staff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaffConfig {
    /// What they are called here, and log in as.
    pub name: String,
    /// The public half of the key by which they log in.
    pub login_key: PublicKey,
}

impl ApiConfig {
    /// An API that listens there, and is for whoever has the operator's token or is enrolled.
    #[must_use]
    pub const fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            origin: None,
            connections_max: connections_max(),
            listeners_max: listeners_max(),
            requests_a_second: requests_a_second(),
            pages: Vec::new(),
            portal: None,
            staff: Vec::new(),
            tls: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !self.listen.ip().is_loopback() && self.tls.is_none() {
            let why = "api.listen is a loopback address, such as 127.0.0.1:2628, unless api.tls \
                       names a certificate";
            return Err(why.into());
        }
        for (name, number) in [
            ("connections_max", self.connections_max),
            ("listeners_max", self.listeners_max),
            ("requests_a_second", self.requests_a_second),
        ] {
            if !(1..=API_BOUND_MAX).contains(&number) {
                return Err(format!("api.{name} is from 1 to {API_BOUND_MAX}"));
            }
        }
        for origin in self.origin.iter().chain(&self.pages) {
            let is_one = Url::parse(origin)
                .is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == *origin);
            if !is_one {
                return Err(format!(
                    "{origin} is no origin, such as https://portal.example: scheme and name, and \
                     the port if it is not the scheme's own"
                ));
            }
        }
        let is_known = self
            .origin
            .as_deref()
            .is_some_and(|origin| origin.starts_with("https://"));
        if self.tls.is_some() && !is_known {
            return Err("with api.tls, api.origin is the https:// name of the certificate".into());
        }
        if self.listeners_max >= self.connections_max {
            return Err("api.listeners_max is less than api.connections_max: each has one".into());
        }
        let names: BTreeSet<&str> = self.staff.iter().map(|one| one.name.as_str()).collect();
        match names.len() == self.staff.len() && !names.contains("") {
            true => Ok(()),
            false => Err("each member of api.staff has a name of their own".into()),
        }
    }
}
