//! `medsync fsck`.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Home, print_json};
use crate::fsck::{Discrepancy, Progress, fsck, rebuild};
use crate::lease::Only;
use crate::party::Party;
use crate::pipeline::Pipeline;

/// The exit code where something does not fit together.
const DISCREPANCIES: u8 = 2;

/// Compare a party's store with its circles and the chain; mends nothing unless asked to. Ends with
/// 0 if they fit together, with 2 if not, and says what each difference means.
#[derive(Debug, clap::Args)]
pub struct Fsck {
    #[command(flatten)]
    home: Home,
    /// First make the outbox and the queue anew from the circles and the chain; what is printed is
    /// what remains. Keys, pins and evidence come from a backup alone. No daemon may run meanwhile.
    #[arg(long)]
    rebuild: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Fsck {
    /// Looks and prints; answers the exit code.
    ///
    /// # Errors
    /// A store or a chain that does not answer.
    pub async fn run(self) -> anyhow::Result<u8> {
        let home = &self.home.home;
        let mut party = Party::open(home).await?;
        let alone = match self.rebuild {
            true => Some(party.alone(Only::Daemon).await?),
            false => None,
        };
        let bar = Bar::new();
        let found = self.look(&party.pipeline()?, &bar).await;
        bar.0.finish_and_clear();
        if let Some(alone) = alone {
            alone.end().await;
        }
        let found = found?;
        if self.json {
            let lines: Vec<_> = found.iter().map(line).collect();
            print_json(&json!({ "clean": found.is_empty(), "found": lines }))?;
        } else {
            print(&found);
        }
        Ok(if found.is_empty() { 0 } else { DISCREPANCIES })
    }
}

impl Fsck {
    async fn look(&self, pipeline: &Pipeline, bar: &Bar) -> anyhow::Result<Vec<Discrepancy>> {
        let found = fsck(pipeline, bar).await?;
        if !self.rebuild {
            return Ok(found);
        }
        rebuild(pipeline, &found).await?;
        Ok(fsck(pipeline, bar).await?)
    }
}

fn line(found: &Discrepancy) -> serde_json::Value {
    json!({
        "found": found,
        "means": found.meaning(),
        "the_daemon_mends_it": found.is_mended(),
    })
}

fn print(found: &[Discrepancy]) {
    if found.is_empty() {
        println!("store, circles and chain fit together");
    }
    for one in found {
        let by_whom = if one.is_mended() {
            "mends itself"
        } else {
            "look at it"
        };
        println!("{by_whom}: {}\n    {}", json!(one), one.meaning());
    }
}

/// What is looked at now, on the terminal of whoever waits.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{msg} {pos}/{len} [{elapsed}]") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn at(&self, what: &'static str, done: usize, of: usize) {
        self.0.set_message(what);
        self.0.set_length(of as u64);
        self.0.set_position(done as u64);
    }
}
