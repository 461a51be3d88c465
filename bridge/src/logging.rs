//! The log: lines for people or, if `MEDSYNC_LOG_FORMAT` is `json`, an object a line for programs.

use std::env::{VarError, var};
use std::io::{IsTerminal, stderr};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Format {
    fn named(name: Result<String, VarError>) -> Result<Self, String> {
        match name.as_deref() {
            Err(VarError::NotPresent) | Ok("text") => Ok(Self::Text),
            Ok("json") => Ok(Self::Json),
            _ => Err("MEDSYNC_LOG_FORMAT is text or json".into()),
        }
    }
}

/// Starts the log of this process, on standard error: what a command did is on standard output.
///
/// # Errors
/// `MEDSYNC_LOG_FORMAT` names no format.
pub fn start() -> Result<(), String> {
    let format = Format::named(var("MEDSYNC_LOG_FORMAT"))?;
    // Quiet by default.
    let filter = EnvFilter::try_from_env("MEDSYNC_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,medsync=info,sqlx=error"));
    let started = tracing::subscriber::set_global_default(subscriber(format, filter, stderr));
    started.map_err(|error| error.to_string())
}

fn subscriber<W>(format: Format, filter: EnvFilter, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // Whoever searches a file finds `track=0x…` as it stands.
        .with_ansi(format == Format::Text && stderr().is_terminal())
        // It would be told on standard error again, and end the program: a full disk.
        .log_internal_errors(false);
    match format {
        Format::Text => Box::new(lines.finish()),
        Format::Json => Box::new(lines.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one test").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_for_programs_is_an_object_with_what_was_said_of_whom() {
        let written = Written::default();
        let to = written.clone();
        let filter = EnvFilter::new("info");
        let log = subscriber(Format::Json, filter, move || to.clone());
        tracing::subscriber::with_default(log, || {
            tracing::info!(track = %"0x1", batch = 7, "consent \"sealed\"");
            tracing::warn!("ALARM: a reader");
        });
        let text = String::from_utf8(written.0.lock().expect("one test").clone()).expect("text");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "consent \"sealed\"");
        assert_eq!(
            (&lines[0]["track"], &lines[0]["batch"]),
            (&"0x1".into(), &7.into())
        );
        assert_eq!(lines[1]["level"], "WARN");
    }

    #[test]
    fn a_format_that_there_is_not_is_refused_by_words() {
        let named = |name: &str| Format::named(Ok(name.into()));
        assert_eq!(named("json"), Ok(Format::Json));
        assert_eq!(Format::named(Err(VarError::NotPresent)), Ok(Format::Text));
        assert!(named("yaml").expect_err("none").contains("text or json"));
    }
}
