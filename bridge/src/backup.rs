//! Backups: a home's store, configuration and keys in a folder of their own, made while the daemon
//! runs, and a home made of them again.
//!
//! The manifest comes last: a folder without it is no backup. What was erased before is in none:
//! the store is copied without the pages that it has freed. The party's node is not part of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use medsync_protocol::ids::{Sha256Digest, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::at_rest::HomeSecret;
use crate::config::{CONFIG_FILE, Config, ConfigError};
use crate::files::{self, FileError};
use crate::store::{Store, StoreError, WriteFaults};

/// The list of what a backup holds.
const MANIFEST: &str = "backup.json";
/// The store's name in a home and in a backup.
const STORE: &str = "medsync.db";
/// What says that a home is not whole yet.
const RESTORING: &str = "restoring";
/// What a manifest looks like; a later version reads this one too.
const VERSION: u32 = 1;
/// The largest manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no backup, or no home.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The home is set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A home is made in a folder of its own.
    #[error("{0} is not empty; a home is restored into a new folder")]
    NotEmpty(PathBuf),
    /// The folder is no backup, or not whole.
    #[error("{path} is no whole backup: {why}")]
    NoBackup {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    version: u32,
    /// When it was made.
    pub made_at: UnixSeconds,
    /// Each file's digest, by its name.
    pub files: BTreeMap<String, Sha256Digest>,
}

impl Manifest {
    /// Reads a manifest, and refuses one with a name that would lead out of the backup's folder.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if manifest.version != VERSION {
            return Err(format!("it is of version {}", manifest.version));
        }
        // The last part of a path is the whole of it only for a name: neither for "/" nor for "x/".
        let is_plain = |name: &str| {
            Path::new(name).file_name() == Some(name.as_ref()) && !name.starts_with('.')
        };
        match manifest.files.keys().find(|name| !is_plain(name)) {
            Some(name) => Err(format!("{name:?} is no name of a file in it")),
            None => Ok(manifest),
        }
    }
}

/// Copies a home into a new folder.
///
/// # Errors
/// A folder that is there and not empty; files that cannot be read or written. What was written
/// until then has no manifest.
pub async fn backup(
    home: &Path,
    store: &Store,
    out: &Path,
    now: UnixSeconds,
) -> Result<Manifest, BackupError> {
    let no_backup = |why: &str| BackupError::NoBackup {
        path: out.to_owned(),
        why: why.to_owned(),
    };
    if !files::is_absent_or_empty(out)? {
        return Err(no_backup("the folder is not empty"));
    }
    files::private_folder(out)?;
    let mut held = BTreeMap::new();
    store.copy_to(&out.join(STORE)).await?;
    files::make_private(&out.join(STORE))?;
    held.insert(STORE.to_owned(), files::digest(&out.join(STORE))?);
    // It leads into the store, which is here.
    let url = Config::load(home).ok().and_then(|config| config.store);
    let url = url.and_then(|store| fs::canonicalize(store.postgres).ok());
    for name in names_in(home)? {
        if url.is_some() && fs::canonicalize(home.join(&name)).ok() == url {
            continue;
        }
        // The store's own files, locks, and drafts of files are nobody else's.
        let is_anothers = name.ends_with(".lock") || name.starts_with('.');
        if name.starts_with(STORE) || name == RESTORING || is_anothers {
            continue;
        }
        // A log may be written to meanwhile: what counts is what was copied.
        files::copy_private(&home.join(&name), &out.join(&name))?;
        let digest = files::digest(&out.join(&name))?;
        held.insert(name, digest);
    }
    let manifest = Manifest {
        version: VERSION,
        made_at: now,
        files: held,
    };
    let json =
        serde_json::to_vec_pretty(&manifest).map_err(|error| no_backup(&error.to_string()))?;
    files::write_whole(&out.join(MANIFEST), &json, true)?;
    Ok(manifest)
}

/// A home that was made of a backup.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the backup held.
    pub manifest: Manifest,
    /// When it was restored, this time and each before of which the backup knows.
    pub restored_at: Vec<UnixSeconds>,
}

/// Makes a home of a backup; its secret is in none.
///
/// # Errors
/// A folder that is no whole backup; a home that is set up. A restore that was cut off is done
/// again.
pub async fn restore(
    from: &Path,
    home: &Path,
    secret: &HomeSecret,
    now: UnixSeconds,
) -> Result<Restored, BackupError> {
    restore_with((from, home), secret, now, None).await
}

/// The same for a test, in which the store's writes go wrong.
///
/// # Errors
/// As [`restore`].
pub async fn restore_with(
    (from, home): (&Path, &Path),
    secret: &HomeSecret,
    now: UnixSeconds,
    faults: Option<Arc<dyn WriteFaults>>,
) -> Result<Restored, BackupError> {
    Config::check_absent(home)?;
    // What a restore that was cut off left behind is no home.
    let restoring = home.join(RESTORING);
    if !restoring.exists() && !files::is_absent_or_empty(home)? {
        return Err(BackupError::NotEmpty(home.to_owned()));
    }
    let no_backup = |why: String| BackupError::NoBackup {
        path: from.to_owned(),
        why,
    };
    let json = files::read_bounded(&from.join(MANIFEST), MANIFEST_BYTES_MAX)?;
    let manifest = Manifest::parse(&json).map_err(no_backup)?;
    for (name, digest) in &manifest.files {
        if files::digest(&from.join(name))? != *digest {
            return Err(no_backup(format!("{name} is not what was backed up")));
        }
    }
    files::private_folder(home)?;
    files::write_whole(&restoring, b"", true)?;
    // A journal would be taken for that of the store which takes its place, and a draft that was
    // left holds what is erased later.
    for name in names_in(home)? {
        if name.starts_with(STORE) || name.starts_with('.') {
            files::remove_file(&home.join(name))?;
        }
    }
    for name in manifest.files.keys().filter(|name| *name != CONFIG_FILE) {
        files::copy_private(&from.join(name), &home.join(name))?;
    }
    let store = Store::open_with(home, secret, faults).await?;
    let noted = store.was_restored(now).await;
    let restored_at = store.restored_at().await;
    // Also if that failed: what is open would touch the files of the store that takes its place.
    store.close().await;
    noted?;
    // A home with a configuration is whole.
    if manifest.files.contains_key(CONFIG_FILE) {
        restore_config(&from.join(CONFIG_FILE), home)?;
    }
    files::remove_file(&restoring)?;
    Ok(Restored {
        manifest,
        restored_at: restored_at?,
    })
}

/// Whatever store the home had that was backed up, that of the new one is a file in it: two homes
/// never write into one database unless somebody wants that.
fn restore_config(from: &Path, home: &Path) -> Result<(), BackupError> {
    let bytes = files::read_bounded(from, MANIFEST_BYTES_MAX)?;
    match Config::parse(from, &bytes) {
        Ok(config) if config.store.is_some() => {
            let config = Config {
                store: None,
                ..config
            };
            Ok(config.save(home)?)
        }
        _ => Ok(files::copy_private(from, &home.join(CONFIG_FILE))?),
    }
}

/// The files of a folder, without folders.
fn names_in(folder: &Path) -> Result<Vec<String>, FileError> {
    let io = |source| FileError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_type().map_err(io)?.is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_manifest_names_files_of_its_own_folder_alone() {
        let parse = |name: &str| {
            let files = serde_json::json!({ name: Sha256Digest([1; 32]) });
            let json = serde_json::json!({ "version": 1, "made_at": 0, "files": files });
            Manifest::parse(json.to_string().as_bytes())
        };
        assert!(parse("medsync.db").is_ok());
        for name in [
            "", "/", "/x", "x/", "x/.", "x/y", "./x", ".", "..", "../x", ".x",
        ] {
            assert!(parse(name).is_err(), "{name:?}");
        }
    }
}
