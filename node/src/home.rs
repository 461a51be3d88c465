//! A node's home folder: what lies where, and who may read it.
//!
//! Invariant: a home exists completely or not at all. It is made beside its place and renamed
//! into it, so that a killed `init` leaves no half home, and an existing one is never touched.
//! The folder is mode 0700 and its secrets are mode 0600.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use libp2p::identity::Keypair;
use thiserror::Error;

use crate::config::{ConfigError, Settings};
use crate::credential::{Credential, CredentialError};

/// Why a home cannot be made or used.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Something is there already.
    #[error("{0} exists and is not empty: a home is never overwritten; choose another folder")]
    Exists(Utf8PathBuf),
    /// There is no home.
    #[error("{0} is not a node's home: make one with `medsync-node init --home {0}`")]
    Missing(Utf8PathBuf),
    /// The path names no folder that could be made.
    #[error("{0} cannot be a home: it has no folder name")]
    Nameless(Utf8PathBuf),
    /// A file of the home cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the home has the wrong content; the reason never quotes it.
    #[error("{0} is damaged: restore it from a backup")]
    Damaged(Utf8PathBuf),
    /// See [`CredentialError`].
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// See [`ConfigError`].
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The paths of one node.
#[derive(Clone, Debug)]
pub struct Home(Utf8PathBuf);

impl Home {
    /// Makes a new home with a fresh identity and credential.
    pub fn create(root: &Utf8Path, settings: &Settings) -> Result<Self, HomeError> {
        if !is_absent_or_empty(root)? {
            return Err(HomeError::Exists(root.to_owned()));
        }
        let name = root
            .file_name()
            .ok_or_else(|| HomeError::Nameless(root.to_owned()))?;
        let parent = root.parent().unwrap_or(Utf8Path::new("."));
        fs::create_dir_all(parent).map_err(at(parent))?;

        let draft = Self(root.with_file_name(format!(".{name}.init-{}", std::process::id())));
        let made = draft
            .fill(settings)
            .and_then(|()| match fs::rename(&draft.0, root) {
                // The system refuses to rename over a folder that someone filled meanwhile.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    Err(HomeError::Exists(root.to_owned()))
                }
                other => other.map_err(at(root)),
            });
        if let Err(error) = made {
            // The draft is ours alone; leaving it would only leave secrets of no home behind.
            let _ = fs::remove_dir_all(&draft.0);
            return Err(error);
        }
        Self::open(root)
    }

    fn fill(&self, settings: &Settings) -> Result<(), HomeError> {
        let mut folder = fs::DirBuilder::new();
        folder.mode(0o700).create(&self.0).map_err(at(&self.0))?;

        let credential = serde_json::to_vec_pretty(&Credential::random()?)
            .map_err(|error| at(&self.credential())(error.into()))?;
        write_private(&self.credential(), &credential)?;

        let identity = Keypair::generate_ed25519()
            .to_protobuf_encoding()
            .map_err(|_| HomeError::Damaged(self.identity_file()))?;
        write_private(&self.identity_file(), hex::encode(identity).as_bytes())?;
        write_private(&self.config(), settings.to_annotated_toml().as_bytes())
    }

    /// A home that exists; the store folders of `path` are made absolute here, so that a later
    /// change of the working folder cannot move them.
    pub fn open(root: &Utf8Path) -> Result<Self, HomeError> {
        let root = root
            .canonicalize_utf8()
            .map_err(|_| HomeError::Missing(root.to_owned()))?;
        let home = Self(root);
        if !home.config().is_file() {
            return Err(HomeError::Missing(home.0));
        }
        Ok(home)
    }

    /// The folder itself.
    pub fn root(&self) -> &Utf8Path {
        &self.0
    }

    /// The config file.
    pub fn config(&self) -> Utf8PathBuf {
        self.0.join("config.toml")
    }

    /// The credential file, the one thing here that another program reads.
    pub fn credential(&self) -> Utf8PathBuf {
        self.0.join("credential.json")
    }

    /// Calimero's authentication store.
    pub fn auth_store(&self) -> Utf8PathBuf {
        self.0.join("auth")
    }

    /// Calimero's state store.
    pub fn data_store(&self) -> Utf8PathBuf {
        self.0.join("data")
    }

    /// Calimero's blob folder.
    pub fn blob_store(&self) -> Utf8PathBuf {
        self.0.join("blobs")
    }

    fn identity_file(&self) -> Utf8PathBuf {
        self.0.join("identity.key")
    }

    /// The settings of the config file.
    pub fn settings(&self) -> Result<Settings, HomeError> {
        let path = self.config();
        let text = fs::read_to_string(&path).map_err(|source| ConfigError::Read {
            path: path.clone().into(),
            source,
        })?;
        Ok(Settings::parse(&text, path.into())?)
    }

    /// The credential of the credential file.
    pub fn read_credential(&self) -> Result<Credential, HomeError> {
        let path = self.credential();
        let bytes = fs::read(&path).map_err(at(&path))?;
        serde_json::from_slice(&bytes).map_err(|_| HomeError::Damaged(path))
    }

    /// The node's peer-to-peer identity.
    pub fn identity(&self) -> Result<Keypair, HomeError> {
        let path = self.identity_file();
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        hex::decode(text.trim())
            .ok()
            .and_then(|bytes| Keypair::from_protobuf_encoding(&bytes).ok())
            .ok_or(HomeError::Damaged(path))
    }
}

fn is_absent_or_empty(root: &Utf8Path) -> Result<bool, HomeError> {
    match fs::read_dir(root) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(at(root)(error)),
    }
}

/// Writes a new file that only its owner may read, and syncs it: a home that was renamed into
/// place must not hold an empty secret after a power cut.
fn write_private(path: &Utf8Path, bytes: &[u8]) -> Result<(), HomeError> {
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(at(path))
}

fn at(path: &Utf8Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_made_once_and_stays_as_it_was() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let root = Utf8PathBuf::try_from(dir.path().join("deep").join("home"))?;
        let home = Home::create(&root, &Settings::default())?;
        let peer = home.identity()?.public().to_peer_id();
        assert!(matches!(
            Home::create(&root, &Settings::default()),
            Err(HomeError::Exists(_))
        ));
        assert_eq!(home.identity()?.public().to_peer_id(), peer);
        let beside: Vec<_> = fs::read_dir(dir.path().join("deep"))?.collect::<Result<_, _>>()?;
        assert_eq!(beside.len(), 1, "a draft was left behind");
        Ok(())
    }

    #[test]
    fn a_file_in_its_place_is_no_home() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let root = Utf8PathBuf::try_from(dir.path().join("file"))?;
        fs::write(&root, "mine")?;
        assert!(matches!(
            Home::create(&root, &Settings::default()),
            Err(HomeError::Exists(_))
        ));
        assert!(matches!(Home::open(&root), Err(HomeError::Missing(_))));
        Ok(())
    }
}
