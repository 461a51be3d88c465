//! What a story did: a line a step for people, `report.json` for programs.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};

/// One step of a story.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// On which part.
    pub part: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// What it came to.
    pub figures: Map<String, Value>,
}

/// All steps so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Report {
    /// Does a step, prints what it came to, and notes it.
    ///
    /// # Errors
    /// The step's own, with its name.
    pub fn step<T>(
        &mut self,
        part: &'static str,
        name: &'static str,
        work: impl FnOnce(&mut Map<String, Value>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let number = self.steps.len() + 1;
        let mut figures = Map::new();
        let start = Instant::now();
        let bar = indicatif::ProgressBar::new_spinner().with_message(format!("{name} …"));
        bar.enable_steady_tick(Duration::from_millis(120));
        let done = work(&mut figures);
        bar.finish_and_clear();
        let seconds = start.elapsed().as_secs_f64();
        let done = done.map_err(|error| error.context(format!("step {number}: {name}")))?;
        println!("{number:2}. [{part}] {name} ({seconds:.1} s)");
        for (what, figure) in &figures {
            println!(
                "      {what}: {}",
                figure.as_str().map_or(figure.to_string(), Into::into)
            );
        }
        self.steps.push(Step {
            name,
            part,
            seconds,
            figures,
        });
        Ok(done)
    }

    /// Writes `report.json` into a folder.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}
