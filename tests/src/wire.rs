//! A network between a program and a server, which can be cut.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often it is looked whether it is cut.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The network. It lasts until the test ends.
pub struct Wire {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Wire {
    /// To a port of this machine.
    ///
    /// # Errors
    /// No free port.
    pub fn to(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let wire = Self {
            port: listener.local_addr()?.port(),
            is_cut: Arc::default(),
        };
        let is_cut = Arc::clone(&wire.is_cut);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Who is refused at the other end is refused here.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                    continue;
                };
                // What goes wrong on one connection is seen by who made it.
                for (from, to) in [(&client, &server), (&server, &client)] {
                    if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                        let is_cut = Arc::clone(&is_cut);
                        std::thread::spawn(move || carry(&from, &to, &is_cut).ok());
                    }
                }
            }
        });
        Ok(wire)
    }

    /// At which port it begins.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing comes through, and nobody is told; not the end of a connection either.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    /// Everything comes through again, also what was said meanwhile.
    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

/// Carries bytes one way until an end.
fn carry(mut from: &TcpStream, mut to: &TcpStream, is_cut: &AtomicBool) -> std::io::Result<()> {
    from.set_read_timeout(Some(POLL_INTERVAL))?;
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes);
        while is_cut.load(Ordering::SeqCst) {
            std::thread::sleep(POLL_INTERVAL);
        }
        match read {
            Ok(0) => return to.shutdown(Shutdown::Write),
            Ok(read) => to.write_all(&bytes[..read])?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => {
                // The other side hears of it too.
                to.shutdown(Shutdown::Both)?;
                return Err(error);
            }
        }
    }
}
