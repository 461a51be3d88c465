//! `medsync login`: logging in to a party's HTTP API with a login key.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use medsync_client::wire::LoginAs;
use medsync_client::{Client, Way};
use medsync_protocol::ids::ContextId;
use medsync_protocol::signature::SecretKey;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

use super::patient::open_keys;
use super::{Home, print_json, researcher};
use crate::config::Role;
use crate::files;
use crate::party::Party;
use crate::seams::{random_key, system_random};

const KEY_FILE_BYTES_MAX: u64 = 128;
const AUTHORITY_BYTES_MAX: u64 = 64 * 1024;

/// Log in to the HTTP API of a party; prints the session, whose token a program shows.
#[derive(Debug, Subcommand)]
pub enum Login {
    /// Make a login key for a member of the staff; prints its public half, for `api.staff` in the
    /// configuration of the party.
    NewKey {
        /// A new file, for its owner alone.
        #[arg(long)]
        out: PathBuf,
    },
    /// As a member of the staff.
    Staff {
        /// Where the API answers, as `medsync up` printed it.
        #[arg(long)]
        api: Url,
        /// Certificates (PEM) of authorities to trust besides those that browsers do.
        #[arg(long, value_name = "FILE")]
        authority: Option<PathBuf>,
        /// What `api.staff` in the configuration of the party calls them.
        #[arg(long)]
        name: String,
        /// The file that `new-key` wrote.
        #[arg(long)]
        key: PathBuf,
    },
    /// As the patient or the recipient whose home this is.
    Party {
        /// Where the party lives.
        #[command(flatten)]
        home: Home,
        /// Where the API answers, the own one or that of the hospital.
        #[arg(long)]
        api: Url,
        /// Certificates (PEM) of authorities to trust besides those that browsers do.
        #[arg(long, value_name = "FILE")]
        authority: Option<PathBuf>,
        /// The circle or exchange; the only one of this home if it is not said.
        #[arg(long)]
        circle: Option<ContextId>,
    },
}

impl Login {
    /// Does what was asked.
    ///
    /// # Errors
    /// A key that cannot be read, or by which nobody logs in there.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::NewKey { out } => new_key(&out),
            Self::Staff {
                api,
                authority,
                name,
                key,
            } => {
                let client = client(api, authority.as_deref())?;
                log_in(client, LoginAs::Staff { name }, &read_key(&key)?).await
            }
            Self::Party {
                home,
                api,
                authority,
                circle,
            } => {
                let client = client(api, authority.as_deref())?;
                let (context, key) = own(&home.home, circle).await?;
                log_in(client, LoginAs::party_of(context), &key).await
            }
        }
    }
}

fn new_key(out: &Path) -> anyhow::Result<()> {
    let key = random_key(&mut system_random());
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(key.reveal_text())));
    files::write_new_secret(out, text.as_bytes())?;
    print_json(&json!({ "login_key": key.public_key(), "file": out }))
}

fn read_key(file: &Path) -> anyhow::Result<SecretKey> {
    let bytes = Zeroizing::new(files::read_secret(file, KEY_FILE_BYTES_MAX)?);
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    let felt = medsync_protocol::felt::parse(text).ok();
    let key = felt.and_then(|felt| SecretKey::from_scalar(&felt.to_bytes_be()).ok());
    key.with_context(|| format!("{} is no login key of `login new-key`", file.display()))
}

/// The circle or exchange of a home, and the login key that enrolled there.
async fn own(home: &Path, circle: Option<ContextId>) -> anyhow::Result<(ContextId, SecretKey)> {
    let party = Party::open(home).await?;
    let mut rows = party.store.circles().await?;
    rows.retain(|row| circle.is_none_or(|wanted| wanted == row.context));
    let context = match rows.as_slice() {
        [only] => only.context,
        [] => bail!("this home is in no such circle or exchange"),
        _ => bail!("this home is in several; name one with --circle"),
    };
    let key = match party.config.role {
        Role::Patient => open_keys(home)?.login,
        Role::Recipient => researcher::keys(&party)?.login,
        Role::Custodian => bail!("a hospital's people log in by `medsync login staff`"),
    };
    Ok((context, key))
}

/// The API at an address, by the certificates that are trusted.
pub(super) fn client(api: Url, authority: Option<&Path>) -> anyhow::Result<Client> {
    let authorities = match authority {
        Some(file) => files::read_bounded(file, AUTHORITY_BYTES_MAX)?,
        None => Vec::new(),
    };
    let way = Way {
        at: None,
        authorities: &authorities,
    };
    Ok(Client::by(api, way)?)
}

async fn log_in(mut client: Client, login_as: LoginAs, key: &SecretKey) -> anyhow::Result<()> {
    print_json(&client.log_in(login_as, key).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_key_is_written_once_and_read_by_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("login.key");
        new_key(&file).expect("written");
        let key = read_key(&file).expect("read");
        assert!(new_key(&file).is_err(), "nothing is overwritten");
        assert_eq!(
            read_key(&file).expect("read").public_key(),
            key.public_key()
        );
        for wrong in ["", "0x0", "key"] {
            std::fs::write(&file, wrong).expect("written");
            assert!(read_key(&file).is_err(), "{wrong:?}");
        }
    }
}
