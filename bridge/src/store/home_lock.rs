//! What only one process may do at a time in a home whose store is a file of it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use super::StoreError;

/// Waits for whoever lays the store out; the lock ends with the file or the process.
pub(super) async fn lay_out_alone(home: &Path) -> Result<File, StoreError> {
    let path = home.join("medsync.lock");
    let taken = tokio::task::spawn_blocking(move || {
        let file = lock_file(&path)?;
        file.lock()?;
        Ok(file)
    });
    let taken = taken.await.map_err(io::Error::other).and_then(|lock| lock);
    taken.map_err(StoreError::Lock)
}

fn lock_file(path: &Path) -> io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

/// Keeps out whoever else would do the same in this home, for as long as it lives.
#[derive(Debug)]
pub struct HomeLock(#[expect(dead_code, reason = "held, not read")] File);

impl HomeLock {
    /// To import or erase records: two at once would each seal the same record's version under a
    /// key of its own.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if another has it; a folder that cannot be written.
    pub fn of_records(home: &Path) -> Result<Self, StoreError> {
        Self::take(home, "records.lock", "import or erasure")
    }

    /// To run the daemon, or do what no daemon may run beside: one submitter owns an account's
    /// nonces.
    ///
    /// # Errors
    /// As [`HomeLock::of_records`].
    pub fn of_daemon(home: &Path) -> Result<Self, StoreError> {
        Self::take(home, "daemon.lock", "medsync up, or fsck --rebuild,")
    }

    fn take(home: &Path, name: &str, what: &'static str) -> Result<Self, StoreError> {
        let file = lock_file(&home.join(name)).map_err(StoreError::Lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Taken(what)),
            Err(TryLockError::Error(error)) => Err(StoreError::Lock(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_imports_or_erases_at_a_time() {
        let home = tempfile::tempdir().expect("a folder");
        let lock = HomeLock::of_records(home.path()).expect("free");
        let second = HomeLock::of_records(home.path());
        assert!(matches!(second, Err(StoreError::Taken(_))));
        drop(lock);
        assert!(HomeLock::of_records(home.path()).is_ok());
    }
}
