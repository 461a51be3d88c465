//! The figures, as a file for programs and a table for people.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it is called; a later run has it under the same name.
    pub name: String,
    /// What `value` counts.
    pub unit: &'static str,
    /// What was measured.
    pub value: f64,
    /// What `ratio` divides by, measured in the same run.
    pub compared_with: Option<String>,
    /// How many times as much as that.
    pub ratio: Option<f64>,
    /// What the figure has to be.
    pub target: Option<Target>,
    /// How it was measured.
    pub how: String,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The value is at most this.
    ValueMax(f64),
    /// The ratio is at most this.
    RatioMax(f64),
    /// The ratio is exactly this.
    RatioExactly(f64),
}

impl Figure {
    /// A figure that stands by itself.
    pub fn new(name: impl Into<String>, unit: &'static str, value: f64, how: &str) -> Self {
        Self {
            name: name.into(),
            unit,
            value,
            compared_with: None,
            ratio: None,
            target: None,
            how: how.into(),
        }
    }

    /// The same figure against another value in the same unit.
    #[must_use]
    pub fn against(mut self, what: impl Into<String>, value: f64) -> Self {
        self.compared_with = Some(what.into());
        self.ratio = Some(self.value / value);
        self
    }

    /// The same figure with what it has to be.
    #[must_use]
    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn is_met(&self) -> bool {
        match self.target {
            None => true,
            Some(Target::ValueMax(max)) => self.value <= max,
            Some(Target::RatioMax(max)) => self.ratio.is_some_and(|ratio| ratio <= max),
            Some(Target::RatioExactly(ratio)) => self.ratio == Some(ratio),
        }
    }
}

#[derive(Serialize)]
struct File<'r> {
    seconds: f64,
    processors: usize,
    figures: &'r [Figure],
}

/// All figures of one run, and the progress of taking them.
pub struct Report {
    start: Instant,
    figures: Vec<Figure>,
    progress: ProgressBar,
}

impl Report {
    /// A report without figures.
    pub fn new() -> Self {
        let progress = ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{spinner} {elapsed} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        progress.enable_steady_tick(Duration::from_millis(120));
        Self {
            start: Instant::now(),
            figures: Vec::new(),
            progress,
        }
    }

    /// Says what is being measured; on a terminal in one line, elsewhere in a line each.
    pub fn measuring(&self, what: &str) {
        if self.progress.is_hidden() {
            eprintln!("{:>7.1} s  {what}", self.start.elapsed().as_secs_f64());
        }
        self.progress.set_message(what.to_owned());
    }

    /// Adds a figure; what a long run has measured is in its log even if it is ended early.
    pub fn add(&mut self, figure: Figure) {
        if self.progress.is_hidden() {
            let value = number(figure.value);
            eprintln!("           {}: {value} {}", figure.name, figure.unit);
        }
        self.figures.push(figure);
    }

    /// How many figures are not what they have to be.
    pub fn missed(&self) -> usize {
        self.figures
            .iter()
            .filter(|figure| !figure.is_met())
            .count()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let file = File {
            seconds: self.start.elapsed().as_secs_f64(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            figures: &self.figures,
        };
        let json = serde_json::to_vec_pretty(&file)?;
        fs::write(path, json).with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Prints the table.
    pub fn print(&self) {
        self.progress.finish_and_clear();
        let width = self
            .figures
            .iter()
            .map(|figure| figure.name.len())
            .max()
            .unwrap_or(0);
        for figure in &self.figures {
            let value = format!("{} {}", number(figure.value), figure.unit);
            let ratio = match (figure.ratio, &figure.compared_with) {
                (Some(ratio), Some(what)) => format!("{ratio:.4} x {what}"),
                _ => String::new(),
            };
            let target = match (figure.target, figure.is_met()) {
                (None, _) => "",
                (Some(_), true) => "  [target met]",
                (Some(_), false) => "  [TARGET MISSED]",
            };
            println!("{:width$}  {value:>20}  {ratio}{target}", figure.name);
        }
        println!(
            "{} figures, {} targets missed",
            self.figures.len(),
            self.missed()
        );
    }
}

/// A number with as many digits as mean something.
fn number(value: f64) -> String {
    if value >= 1_000.0 {
        return format!("{value:.0}");
    }
    format!("{value:.3}")
}
