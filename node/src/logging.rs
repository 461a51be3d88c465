//! Logs: quiet by default, on stderr, and never the content of a call.
//!
//! Invariant: whatever directives are given, no target that prints arguments, results, events or
//! an app's own log lines passes. The caller gets all of these in the response anyway.

use thiserror::Error;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, FilterFn, LevelFilter};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

/// Targets of Calimero that print what passes through them, found by reading its sources: JSON-RPC
/// prints arguments and errors, `execute` and the runtime print the app's log lines and the
/// operands of host functions, the event streams print events.
const CONTENT: [&str; 6] = [
    "calimero_server::execute",
    "calimero_server::jsonrpc",
    "calimero_server::sse",
    "calimero_server::ws",
    "calimero_runtime",
    "runtime",
];

/// This target warns at every call that the credential's name is not a public key, which is as
/// intended (see `credential`).
const KEYLESS_CREDENTIAL: &str = "calimero_server::auth";

/// Why logging cannot start.
#[derive(Debug, Error)]
pub enum LogError {
    /// The directives do not parse.
    #[error("the log directives {0:?} are not valid: {1}")]
    Directives(String, tracing_subscriber::filter::ParseError),
    /// Another logger was installed first.
    #[error("logging was installed twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends what `directives` select, content excepted, to stderr; stdout is for the ready line.
pub fn install(directives: &str) -> Result<(), LogError> {
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(selected(directives)?))
        .try_init()?;
    Ok(())
}

/// What `directives` select, content excepted. It says how verbose a line can be at most: without
/// that, whatever the compiler of WebAssembly might say at its most verbose is put together and
/// filtered line by line, which takes longer than the compiling.
fn selected(directives: &str) -> Result<impl Filter<Registry> + use<>, LogError> {
    let chosen = EnvFilter::builder()
        .parse(directives)
        .map_err(|error| LogError::Directives(directives.to_owned(), error))?;
    Ok(chosen.and(FilterFn::new(may_pass).with_max_level_hint(LevelFilter::DEBUG)))
}

fn may_pass(line: &Metadata<'_>) -> bool {
    passes(line.target(), *line.level())
}

/// Levels are ordered by verbosity: `TRACE`, where libraries print whole frames, is the greatest.
fn passes(target: &str, level: Level) -> bool {
    let within = |module: &str| {
        target
            .strip_prefix(module)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    level < Level::TRACE
        && !CONTENT.into_iter().any(within)
        && (!within(KEYLESS_CREDENTIAL) || level <= Level::ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_more_verbose_than_what_is_selected_is_put_together() {
        let most_verbose =
            |directives: &str| selected(directives).expect("directives").max_level_hint();
        assert_eq!(
            most_verbose("warn,medsync_node=info"),
            Some(LevelFilter::INFO)
        );
        assert_eq!(most_verbose("warn"), Some(LevelFilter::WARN));
        assert_eq!(most_verbose("trace"), Some(LevelFilter::DEBUG));
    }

    #[test]
    fn content_never_passes_and_the_rest_may() {
        assert!(!passes("calimero_server::jsonrpc", Level::ERROR));
        assert!(!passes("calimero_server::jsonrpc::execute", Level::ERROR));
        assert!(!passes("calimero_runtime::logic", Level::INFO));
        assert!(!passes("runtime::host::storage", Level::DEBUG));
        assert!(!passes("hyper::proto", Level::TRACE));
        assert!(!passes("calimero_server::auth", Level::WARN));
        assert!(passes("calimero_server::auth", Level::ERROR));
        assert!(passes("calimero_server::admin", Level::DEBUG));
        assert!(passes("runtimes", Level::DEBUG));
    }
}
