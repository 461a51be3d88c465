//! Reading and writing files so that nothing is half written and no secret is readable by others.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use medsync_protocol::ids::Sha256Digest;
use sha2::{Digest, Sha256};

/// The largest file of keys.
const SECRET_BYTES_MAX: u64 = 16 * 1024;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is larger than what it should hold may be.
    #[error("{path} has more than {bytes_max} bytes; this is not the file that was meant")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        bytes_max: u64,
    },
    /// A file with secrets can be read by others.
    #[error("{path} holds a secret and others may read it; make it private: chmod 600")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A file that must not be overwritten is there.
    #[error("{path} is there already and is not overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |source| FileError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// A file that is absent, unreadable or larger.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let file = fs::File::open(path).map_err(io_error(path))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file at the bound from one above it.
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error(path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            bytes_max,
        });
    }
    Ok(bytes)
}

/// Where a service manager puts the secrets that it loads (systemd's `LoadCredential`).
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Reads a file that holds a secret; refuses it if others may read it too.
///
/// # Errors
/// As [`read_bounded`], and [`FileError::Exposed`].
pub fn read_secret(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let mode = fs::metadata(path)
        .map_err(io_error(path))?
        .permissions()
        .mode();
    let credentials = std::env::var_os(CREDENTIALS_VARIABLE).map(PathBuf::from);
    if is_exposed(path, mode, credentials.as_deref()) {
        return Err(FileError::Exposed {
            path: path.to_owned(),
        });
    }
    read_bounded(path, bytes_max)
}

/// Whether others may read a file. A service manager lets its service read what it loaded by an
/// access list, of which the mode shows that the group may: in its folder, and nowhere else, that
/// is private.
fn is_exposed(path: &Path, mode: u32, credentials: Option<&Path>) -> bool {
    let is_loaded = credentials.is_some_and(|folder| path.parent() == Some(folder));
    let private = if is_loaded { 0o037 } else { 0o077 };
    mode & private != 0
}

/// Writes a whole file or none: into a temporary file beside it, then renamed into place. Who can
/// read it: everybody, unless `secret`.
///
/// # Errors
/// Whatever the file system refuses; the old file is then still whole.
pub fn write_whole(path: &Path, bytes: &[u8], secret: bool) -> Result<(), FileError> {
    let file = draft(path, bytes, secret)?;
    file.persist(path)
        .map_err(|error| io_error(path)(error.error))?;
    make_durable(path)
}

/// Writes a file that must not be there yet, whole or not at all; for keys, which nothing may
/// overwrite.
///
/// # Errors
/// [`FileError::Exists`], or whatever the file system refuses.
pub fn write_new_secret(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let file = draft(path, bytes, true)?;
    match file.persist_noclobber(path) {
        Ok(_) => make_durable(path),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(FileError::Exists {
                path: path.to_owned(),
            })
        }
        Err(error) => Err(io_error(path)(error.error)),
    }
}

/// Copies a file that holds a secret to a new name; one that is there already must be the same.
///
/// # Errors
/// [`FileError::Exists`] for another one, or whatever the file system refuses.
pub fn copy_new_secret(from: &Path, to: &Path) -> Result<(), FileError> {
    let bytes = read_secret(from, SECRET_BYTES_MAX)?;
    match write_new_secret(to, &bytes) {
        Err(FileError::Exists { .. }) if read_secret(to, SECRET_BYTES_MAX)? == bytes => Ok(()),
        done => done,
    }
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}

/// The whole content, durable under a name that nobody looks for.
fn draft(path: &Path, bytes: &[u8], secret: bool) -> Result<tempfile::NamedTempFile, FileError> {
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder_of(path))
        .map_err(io_error(path))?;
    file.write_all(bytes).map_err(io_error(path))?;
    file.as_file().sync_all().map_err(io_error(path))?;
    Ok(file)
}

/// Makes a rename survive the loss of power: it is durable only when its folder is.
///
/// # Errors
/// Whatever the file system refuses.
pub fn make_durable(path: &Path) -> Result<(), FileError> {
    fs::File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(io_error(path))
}

/// SHA-256 of a file of any size.
///
/// # Errors
/// A file that is absent or unreadable.
pub fn digest(path: &Path) -> Result<Sha256Digest, FileError> {
    let mut file = fs::File::open(path).map_err(io_error(path))?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(io_error(path))?;
    Ok(Sha256Digest(hash.finalize().into()))
}

/// Copies a file of any size, whole or not at all, so that its owner alone may read it.
///
/// # Errors
/// Whatever the file system refuses; a file that was there is then still whole.
pub fn copy_private(from: &Path, to: &Path) -> Result<(), FileError> {
    let mut source = fs::File::open(from).map_err(io_error(from))?;
    let mut file = draft(to, &[], true)?;
    io::copy(&mut source, &mut file).map_err(io_error(to))?;
    file.as_file().sync_all().map_err(io_error(to))?;
    file.persist(to)
        .map_err(|error| io_error(to)(error.error))?;
    make_durable(to)
}

/// Lets its owner alone read a file, and makes it durable.
///
/// # Errors
/// Whatever the file system refuses.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io_error(path))?;
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(io_error(path))?;
    make_durable(path)
}

/// Whether a folder is not there, or has nothing in it.
///
/// # Errors
/// Whatever the file system refuses.
pub fn is_absent_or_empty(path: &Path) -> Result<bool, FileError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// Removes a file for good; one that is not there is no error.
///
/// # Errors
/// Whatever the file system refuses.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => make_durable(path),
    }
}

/// Makes a folder that only its owner may enter.
///
/// # Errors
/// Whatever the file system refuses.
pub fn private_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(io_error(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io_error(path))
}

/// Removes a folder with everything in it; one that is not there is no error.
///
/// # Errors
/// Whatever the file system refuses; some of it may then be gone.
pub fn remove_folder(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_private_and_never_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        write_new_secret(&path, b"one").expect("a new file");
        assert_eq!(read_secret(&path, 3).expect("private"), b"one");
        assert!(matches!(
            write_new_secret(&path, b"two"),
            Err(FileError::Exists { .. })
        ));
        assert!(matches!(
            read_secret(&path, 2),
            Err(FileError::TooLarge { .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mine");
        assert!(matches!(
            read_secret(&path, 3),
            Err(FileError::Exposed { .. })
        ));
    }

    #[test]
    fn what_a_service_manager_loaded_its_group_may_read_and_nothing_else() {
        let folder = Path::new("/run/credentials/medsync@hospital.service");
        let (loaded, other) = (folder.join("secret"), Path::new("/etc/medsync/secret"));
        let deeper = folder.join("folder/secret");
        for (path, mode, credentials, is_refused) in [
            (&*loaded, 0o100_440, Some(folder), false),
            (&loaded, 0o100_400, Some(folder), false),
            (&loaded, 0o100_440, None, true),
            (&loaded, 0o100_444, Some(folder), true),
            (&loaded, 0o100_460, Some(folder), true),
            (&deeper, 0o100_440, Some(folder), true),
            (other, 0o100_440, Some(folder), true),
            (other, 0o100_600, Some(folder), false),
        ] {
            let said = is_exposed(path, mode, credentials);
            assert_eq!(said, is_refused, "{} {mode:o}", path.display());
        }
    }

    #[test]
    fn a_file_is_whole_or_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        write_whole(&path, b"old", false).expect("written");
        write_whole(&path, b"new and longer", false).expect("written");
        assert_eq!(read_bounded(&path, 100).expect("there"), b"new and longer");
        assert!(write_whole(&folder.path().join("absent/file"), b"x", false).is_err());
    }
}
