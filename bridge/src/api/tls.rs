//! TLS for an API that no proxy stands before.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::config::TlsConfig;
use crate::files::{self, FileError};

/// The longest of these files, in bytes.
const PEM_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is something else.
    #[error("{0} holds no {1} in PEM")]
    NoPem(String, &'static str),
    /// Certificate and key do not go together.
    #[error("api.tls: {0}")]
    Refused(#[from] rustls::Error),
}

fn no_pem(path: &Path, what: &'static str) -> TlsError {
    TlsError::NoPem(path.display().to_string(), what)
}

/// Speaks TLS 1.2 and 1.3 with a certificate, which is read once: a new one is shown after a
/// restart.
///
/// # Errors
/// Files that are absent, open to others, or no certificate and its key.
pub fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let TlsConfig { certificate, key } = config;
    let chain = files::read_bounded(certificate, PEM_BYTES_MAX)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let chain = chain.map_err(|_| no_pem(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(no_pem(certificate, "certificate"));
    }
    let secret = Zeroizing::new(files::read_secret(key, PEM_BYTES_MAX)?);
    // The parser's text may quote the file, so that it is dropped.
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| no_pem(key, "private key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, secret)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
