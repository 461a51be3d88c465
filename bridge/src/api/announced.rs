//! Where a home's API answers, for commands on the same machine.
//!
//! Whoever runs it holds a lock on the file, so that nobody takes the address of one that ended,
//! at which somebody else may listen by now.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

/// The file's name in a home.
const FILE: &str = "api.json";
const FILE_BYTES_MAX: u64 = 4 * 1024;
const LOCK_TRIES: u32 = 10;
const LOCK_REST: Duration = Duration::from_millis(20);

/// Where an API answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// By which address it is known.
    pub address: Url,
    /// Where it listens.
    pub listens: SocketAddr,
}

/// Says where the API answers, as long as it lives.
#[derive(Debug)]
pub struct Announcement(#[expect(dead_code, reason = "held, not read")] File);

impl Announced {
    /// Writes it into a home.
    ///
    /// # Errors
    /// A folder that cannot be written; another process that answers for this home.
    pub fn announce(&self, home: &Path) -> io::Result<Announcement> {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(home.join(FILE))?;
        // Whoever looks whether somebody holds it does so for a moment.
        let mut tries = 0;
        while let Err(error) = file.try_lock() {
            tries += 1;
            if tries == LOCK_TRIES {
                return Err(error.into());
            }
            std::thread::sleep(LOCK_REST);
        }
        file.set_len(0)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        Ok(Announcement(file))
    }

    /// What the process says that answers for this home now; nothing if none does.
    #[must_use]
    pub fn of(home: &Path) -> Option<Self> {
        let file = File::open(home.join(FILE)).ok()?;
        let Err(TryLockError::WouldBlock) = file.try_lock_shared() else {
            return None;
        };
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Where somebody on the same machine reaches it.
    #[must_use]
    pub fn from_here(&self) -> SocketAddr {
        let ip = match self.listens.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.listens.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_believed_as_long_as_who_said_it_lives() {
        let home = tempfile::tempdir().expect("a folder");
        let said = Announced {
            address: "https://medsync.example".parse().expect("an address"),
            listens: "0.0.0.0:2628".parse().expect("an address"),
        };
        assert_eq!(Announced::of(home.path()), None);
        let announcement = said.announce(home.path()).expect("written");
        assert_eq!(Announced::of(home.path()), Some(said.clone()));
        assert!(
            said.announce(home.path()).is_err(),
            "one answers for a home"
        );
        assert_eq!(said.from_here().to_string(), "127.0.0.1:2628");
        drop(announcement);
        assert_eq!(Announced::of(home.path()), None);
    }
}
