//! The address of an RPC endpoint, which often contains an access key and so never prints whole.

use std::fmt;

use url::{Host, Url};

use crate::chain::ChainError;

/// Where a Starknet RPC listens. Prints as scheme, host and port alone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RpcAddress(Url);

impl RpcAddress {
    pub(super) fn new(url: &Url) -> Result<Self, ChainError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ChainError::Address(
                "it starts with http:// or https://".into(),
            ));
        }
        Ok(Self(url.clone()))
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// Whether the endpoint is on this machine, where no proxy has any business.
    pub(super) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }
}

impl fmt::Display for RpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.0.scheme())?;
        match self.0.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RpcAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<RpcAddress, ChainError> {
        RpcAddress::new(&text.parse().expect("a URL"))
    }

    #[test]
    fn access_keys_are_never_printed() {
        let text = "https://user:secret@rpc.example:8443/v0_10/secret?key=secret";
        let address = address(text).expect("an address");
        assert_eq!(address.to_string(), "https://rpc.example:8443");
        assert!(!format!("{address:?}").contains("secret"));
    }

    #[test]
    fn only_http_addresses_are_taken() {
        for text in ["localhost:5050", "ftp://rpc.example", "file:///rpc"] {
            assert!(address(text).is_err(), "{text}");
        }
        for text in [
            "http://[::1]:5050/rpc",
            "http://127.0.0.1:1",
            "http://localhost",
        ] {
            assert!(address(text).expect("an address").is_loopback(), "{text}");
        }
        let far = address("https://rpc.example").expect("an address");
        assert!(!far.is_loopback());
    }
}
