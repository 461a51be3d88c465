//! The daemon of a home, as commands on the same machine reach it.

use std::path::Path;

use anyhow::Context;
use medsync_client::{Client, ClientError, Way};
use zeroize::Zeroizing;

use crate::api::{Announced, TOKEN_FILE};
use crate::config::Config;
use crate::files;

const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The daemon of a home, if it answers commands of this machine.
pub(super) async fn daemon_of(home: &Path, config: &Config) -> anyhow::Result<Option<Client>> {
    let (Some(api), Some(announced)) = (&config.api, Announced::of(home)) else {
        return Ok(None);
    };
    let authorities = match &api.tls {
        Some(tls) => files::read_bounded(&tls.certificate, FILE_BYTES_MAX)?,
        None => Vec::new(),
    };
    let at = announced.from_here();
    let way = Way {
        at: Some(at),
        authorities: &authorities,
    };
    let token = Zeroizing::new(files::read_secret(&home.join(TOKEN_FILE), FILE_BYTES_MAX)?);
    let token = std::str::from_utf8(&token).context("the operator's token is no text")?;
    let mut address = announced.address;
    // The name leads to this machine's own address, whose port the name may not say.
    if address.set_port(Some(at.port())).is_err() {
        return Ok(None);
    }
    let client = Client::by(address, way)?.with_token(token.trim());
    match client.caller().await {
        Ok(_) => Ok(Some(client)),
        // It listens at another address than this machine's, or by a certificate that nobody
        // here believes in.
        Err(ClientError::Unreachable(_)) => Ok(None),
        Err(ClientError::Problem(problem)) if problem.status == 401 => Ok(None),
        Err(error) => Err(error.into()),
    }
}
