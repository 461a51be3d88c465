//! Logs: quiet by default, on stderr, and never the content of a call.
//!
//! Invariant: whatever directives are given, no target that prints arguments, results, events or
//! an app's own log lines passes. The caller gets all of these in the response anyway.

use thiserror::Error;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

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
    let chosen = EnvFilter::builder()
        .parse(directives)
        .map_err(|error| LogError::Directives(directives.to_owned(), error))?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let filter = chosen.and(filter_fn(may_pass));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()?;
    Ok(())
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
