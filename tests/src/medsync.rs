//! The `medsync` program, as a person or a service manager runs it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// The passphrase of every patient in a test.
pub const PASSPHRASE: &str = "correct horse battery staple";

/// Where the built programs are: beside the running one, or where `MEDSYNC_BIN` says.
///
/// # Errors
/// A program that was not built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("MEDSYNC_BIN") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe()?;
            let folder = own.parent().context("a program is in a folder")?;
            // Tests run from the folder `deps` beside the programs.
            if folder.ends_with("deps") {
                folder.join("..")
            } else {
                folder.to_owned()
            }
        }
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!("{} is not built: run scripts/build", path.display());
    }
    Ok(path)
}

/// What every command of this process has printed, which the tests search for secrets.
static PRINTED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// What every command of this process has printed so far.
#[must_use]
pub fn printed() -> Vec<u8> {
    let printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    printed.clone()
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// The last line of the output, as JSON.
    ///
    /// # Errors
    /// A command that failed, or that printed no JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        if self.code != 0 {
            bail!("exit code {}: {}", self.code, self.err.trim());
        }
        let line = self
            .out
            .lines()
            .last()
            .context("the command printed nothing")?;
        serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))
    }
}

/// Runs `medsync` with some arguments and waits for its end.
///
/// # Errors
/// A program that cannot be started.
pub fn medsync<A: AsRef<OsStr>>(arguments: &[A]) -> anyhow::Result<Answer> {
    Running::start(arguments)?.end()
}

/// Runs `medsync` and kills it after a while, wherever it is then.
///
/// # Errors
/// A program that cannot be started.
pub fn medsync_killed<A: AsRef<OsStr>>(arguments: &[A], after: Duration) -> anyhow::Result<()> {
    let running = Running::start(arguments)?;
    std::thread::sleep(after);
    drop(running);
    Ok(())
}

/// A command that runs; killed when it is dropped.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Starts `medsync` with some arguments.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn start<A: AsRef<OsStr>>(arguments: &[A]) -> anyhow::Result<Self> {
        let child = Command::new(program("medsync")?)
            .args(arguments)
            .env("MEDSYNC_PASSPHRASE", PASSPHRASE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self(Some(child)))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// A system that does not say how it ended.
    pub fn end(mut self) -> anyhow::Result<Answer> {
        let child = self.0.take().context("it runs")?;
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output()?;
        let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
        printed.extend([&stdout[..], &stderr].concat());
        Ok(Answer {
            code: status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // A child that is gone already needs no kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
