//! A PostgreSQL server of a test's own: in a folder of its own, on a free port of this machine.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The server; it ends with this.
pub struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
}

impl Server {
    /// Starts one. What it was told last survives its own death, and not that of the machine.
    ///
    /// # Panics
    /// As all here, on a machine without PostgreSQL.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Self {
            programs: programs(),
            port: free_port(),
            folder,
        };
        if let Some(user) = user() {
            chown(server.folder.path(), Some(user.0), Some(user.1)).expect("given away");
        }
        let data = server.data();
        server.run(
            "initdb",
            &["-D", &data, "-U", "medsync", "--auth=trust", "--no-sync"],
            &["--encoding=UTF8", "--locale=C"],
        );
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off \
             -c max_connections=200 -c log_min_messages=warning",
            server.port
        );
        server.control(&["-o", &options, "start"]);
        server
    }

    /// Where a database of it is.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        Self::url_at(self.port, database)
    }

    /// Where a database of it is for whoever reaches it at another port.
    #[must_use]
    pub fn url_at(port: u16, database: &str) -> String {
        format!("postgres://medsync@127.0.0.1:{port}/{database}")
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// It dies as by a loss of power, and is started again.
    pub fn restart(&self) {
        self.control(&["-m", "immediate", "restart"]);
    }

    fn data(&self) -> String {
        let data = self.folder.path().join("data");
        data.into_os_string().into_string().expect("a name")
    }

    fn control(&self, what: &[&str]) {
        let (data, log) = (self.data(), self.folder.path().join("log"));
        let log = log.to_string_lossy().into_owned();
        self.run("pg_ctl", &["-D", &data, "-l", &log, "-w", "-s"], what);
    }

    fn run(&self, program: &str, arguments: &[&str], more: &[&str]) {
        let program = self.programs.join(program);
        let mut command = match user() {
            None => Command::new(&program),
            // The server refuses to be everybody's master.
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={group}")]);
                command.arg("--clear-groups").arg(&program);
                command
            }
        };
        command.args(arguments).args(more).current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let done = command.status();
        let done = done.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let log = std::fs::read_to_string(self.folder.path().join("log"));
        assert!(done.success(), "{} {more:?}: {log:?}", program.display());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.control(&["-m", "immediate", "stop"]);
    }
}

/// Who runs the server where everything runs as root: the user of Debian's package, or nobody.
fn user() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let said = Command::new("id").args(arguments).output().ok()?;
        let said = String::from_utf8(said.stdout).ok()?;
        said.trim().parse::<u32>().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let of = |name: &str| Some((id(&["-u", name])?, id(&["-g", name])?));
    of("postgres").or_else(|| of("nobody"))
}

/// The folder of the server's programs.
fn programs() -> PathBuf {
    if let Some(named) = std::env::var_os("MEDSYNC_POSTGRES") {
        return named.into();
    }
    let has = |folder: &Path| folder.join("postgres").exists() && folder.join("initdb").exists();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).find(|folder| has(folder)) {
        return found;
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut folders: Vec<PathBuf> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|folder| has(folder))
        .collect();
    folders.sort();
    folders
        .pop()
        .expect("a PostgreSQL server: run scripts/setup")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
