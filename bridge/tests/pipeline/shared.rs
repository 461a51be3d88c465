//! The same tests over a store on PostgreSQL, and what is only there.
//!
//! [`on_postgresql_the_store_does_what_it_does_in_a_file`] runs this program again with a server of
//! its own: each home that a test makes then has a database of its own there.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use medsync::store::{PostgresUrl, Store, StoreError, WriteFaults};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor, SqlitePool};

use super::secret;
use server::Server;

mod alone;
#[path = "../../../tests/src/postgres.rs"]
#[expect(
    dead_code,
    reason = "of wires, which only the tests on real parts have"
)]
pub mod server;

/// Names the server, if the stores of this run are on one.
const SERVER: &str = "MEDSYNC_TEST_POSTGRES";
/// The database of which each other is a copy: laid out, and empty.
const LAID_OUT: &str = "laid_out";
/// The file of a home that names its database; no backup takes it along.
const URL_FILE: &str = ".postgres.url";

/// Opens the store of a home.
pub async fn opened(home: &Path) -> Result<Store, StoreError> {
    opened_with(home, None).await
}

/// The same, with writes that go wrong.
pub async fn opened_with(
    home: &Path,
    faults: Option<Arc<dyn WriteFaults>>,
) -> Result<Store, StoreError> {
    let server = std::env::var(SERVER);
    // A home that was restored has its store in a file.
    let Some(server) = server.ok().filter(|_| !home.join("medsync.db").exists()) else {
        return Store::open_with(home, &secret(), faults).await;
    };
    let file = home.join(URL_FILE);
    if !file.exists() {
        write_url(&file, &new_database(&server, LAID_OUT).await);
    }
    let url = PostgresUrl::read(&file).expect("a URL");
    Store::open_shared(&url, &secret(), faults).await
}

fn write_url(file: &Path, url: &str) {
    std::fs::write(file, url).expect("written");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file, private).expect("private");
}

/// Another database on a server.
async fn new_database(server: &str, like: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("of_{}_{number}", std::process::id());
    let mut connection = PgConnection::connect(&format!("{server}/postgres"))
        .await
        .expect("the server");
    let create = format!("CREATE DATABASE {name} TEMPLATE {like}");
    connection.execute(create.as_str()).await.expect("created");
    connection.close().await.expect("closed");
    format!("{server}/{name}")
}

/// Writes into the store of a home past its own code; answers how many rows.
pub async fn write_past(home: &Path, statement: &str) -> u64 {
    let file = home.join("medsync.db");
    if file.exists() {
        let pool = SqlitePool::connect(&file.display().to_string()).await;
        let pool = pool.expect("a store");
        let done = sqlx::query(statement).execute(&pool).await;
        pool.close().await;
        return done.expect("written").rows_affected();
    }
    let mut connection = connected(home).await;
    let done = sqlx::query(statement).execute(&mut connection).await;
    done.expect("written").rows_affected()
}

/// Reads a text of the store of a home past its own code.
pub async fn read_past(home: &Path, query: &str, name: &str) -> String {
    let file = home.join("medsync.db");
    if file.exists() {
        let pool = SqlitePool::connect(&file.display().to_string()).await;
        let pool = pool.expect("a store");
        let found = sqlx::query_scalar(query).bind(name).fetch_one(&pool).await;
        pool.close().await;
        return found.expect("a value");
    }
    let mut connection = connected(home).await;
    let found = sqlx::query_scalar(query).bind(name);
    found.fetch_one(&mut connection).await.expect("a value")
}

async fn connected(home: &Path) -> PgConnection {
    let url = std::fs::read_to_string(home.join(URL_FILE)).expect("a URL");
    PgConnection::connect(&url).await.expect("a store")
}

/// A server with a store that is laid out.
async fn server() -> Server {
    let server = Server::start();
    let mut connection = PgConnection::connect(&server.url("postgres"))
        .await
        .expect("it is there");
    let create = format!("CREATE DATABASE {LAID_OUT}");
    connection.execute(create.as_str()).await.expect("created");
    let store = Store::open_shared(&url_of(&server, LAID_OUT), &secret(), None).await;
    store.expect("a store").close().await;
    server
}

fn url_of(server: &Server, database: &str) -> PostgresUrl {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(URL_FILE);
    write_url(&file, &server.url(database));
    PostgresUrl::read(&file).expect("a URL")
}

fn is_inside() -> bool {
    std::env::var_os(SERVER).is_some()
}

/// What looks into files, and what takes long: the fault tables, the simulation and the floods have
/// their rows over SQLite, and every write and statement comes along here too.
const LEFT_OUT: [&str; 11] = [
    "no_file_has_their_keys",
    "lies_sealed",
    "full_disk",
    "hostile_disk_every_write",
    "hostile_weather",
    "without_end",
    "simulation",
    "shared",
    "crowd",
    "restored",
    "tracked",
];
/// What is tried each time; `scripts/test --full` tries all the rest too.
const EACH_TIME: [&str; 7] = [
    "log::",
    "imports::",
    "kept::",
    "tickets::",
    "door::reads::",
    "door::writes::",
    "door::claims::",
];

#[tokio::test]
async fn on_postgresql_the_store_does_what_it_does_in_a_file() {
    if is_inside() {
        return;
    }
    let server = server().await;
    let mut tests = Command::new(std::env::current_exe().expect("this program"));
    tests
        .arg("--test-threads=1")
        .env(SERVER, server.url("").trim_end_matches('/'));
    for name in LEFT_OUT {
        tests.args(["--skip", name]);
    }
    if std::env::var_os("MEDSYNC_FULL").is_none() {
        tests.args(EACH_TIME);
    }
    let done = tests.output().expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{}", said.lines().last().unwrap_or_default());
    assert!(done.status.success(), "{said}");
}

#[tokio::test]
async fn on_postgresql_every_statement_of_the_store_is_understood() {
    /// A parameter's type is not said by the statement alone; medsync says it.
    const UNTOLD: [&str; 2] = ["42P18", "42P08"];
    if is_inside() {
        return;
    }
    let server = server().await;
    let mut connection = PgConnection::connect(&server.url(LAID_OUT))
        .await
        .expect("a store");
    let statements = statements();
    assert!(statements.len() > 200, "{} are found", statements.len());
    for statement in &statements {
        let Err(error) = connection.prepare(statement).await else {
            continue;
        };
        let code = error.as_database_error().and_then(|error| error.code());
        let is_untold = code.is_some_and(|code| UNTOLD.contains(&code.as_ref()));
        assert!(is_untold, "{statement}: {error}");
    }
    println!("{} statements", statements.len());
}

/// Every statement in the store's source that is whole, but for those of one database alone.
fn statements() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let of_one = folder.join("db");
    let files = super::writes::files_in(&folder).into_iter();
    let mut found = BTreeSet::new();
    for file in files.filter(|file| !file.starts_with(&of_one)) {
        let text = std::fs::read_to_string(file).expect("text");
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        for verb in ["SELECT ", "INSERT ", "UPDATE ", "DELETE "] {
            for (at, _) in shipped.match_indices(&format!("\"{verb}")) {
                let literal = shipped[at + 1..].split('"').next().unwrap_or_default();
                let statement = super::writes::unfolded(literal);
                if !statement.contains('{') {
                    found.insert(statement);
                }
            }
        }
    }
    found
}
