//! What is measured, and against what.
//!
//! Every time is set against another one that was taken in the same run on the same machine, in
//! turns with it, so that a figure means something elsewhere too. Counts (gas) are what the chain
//! itself charged.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};

mod api;
mod app;
mod bridge;
mod chain;
mod circles;
mod poseidon;
mod receipts;
mod report;
mod rewards;
mod timing;
mod trees;

use report::Report;

/// Measures parts of MedSync and writes DIR/report.json.
#[derive(Parser)]
#[command(name = "scripts/bench")]
struct Arguments {
    /// What to measure; everything but `circles` if nothing is named.
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Where to write report.json.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A part of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Hashes, batch trees and receipt checks.
    Protocol,
    /// Calls of the app as contexts grow, and the size of its wasm.
    App,
    /// One hospital's node with more and more circles. Takes long, and is measured only by name.
    Circles,
    /// A hospital's API under many clients.
    Api,
    /// A hospital's pipeline: many consents at once, and how long one takes on real parts.
    Bridge,
    /// The gas of the registry's transactions.
    Chain,
    /// The gas of reward pools, above all of a claim.
    Rewards,
}

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = Arguments::parse();
    if arguments.parts.is_empty() {
        let all = Part::value_variants().iter();
        arguments.parts = all
            .filter(|part| **part != Part::Circles)
            .copied()
            .collect();
    }
    fs::create_dir_all(&arguments.out)
        .with_context(|| format!("{} cannot be made", arguments.out.display()))?;
    let mut report = Report::new();
    for part in Part::value_variants() {
        if arguments.parts.contains(part) {
            measure(*part, &mut report)?;
        }
    }
    report.write(&arguments.out.join("report.json"))?;
    report.print();
    Ok(match report.missed() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn measure(part: Part, report: &mut Report) -> anyhow::Result<()> {
    match part {
        Part::Protocol => {
            poseidon::measure(report)?;
            trees::measure(report)?;
            receipts::measure(report)
        }
        Part::App => app::measure(report),
        Part::Api => api::measure(report),
        Part::Circles => circles::measure(report),
        Part::Bridge => bridge::measure(report),
        Part::Chain => chain::measure(report),
        Part::Rewards => rewards::measure(report),
    }
}
