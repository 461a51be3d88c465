//! `medsync verify`: a receipt, a configuration, an endpoint. Nobody else is asked.

use std::path::PathBuf;

use medsync_protocol::codes::Code;
use medsync_protocol::decide::{Decision, Outcome};
use medsync_protocol::ids::UnixSeconds;
use medsync_protocol::receipt::{RECEIPT_BYTES_MAX, Receipt};
use medsync_protocol::verdict::Verdict;
use medsync_protocol::verifier::{Question, Report};
use serde::Serialize;

use super::print_json;
use crate::chain::{Chain, RpcChain};
use crate::config::VerifierConfig;
use crate::files::{self, FileError};
use crate::seams::{Clock, SystemClock};
use crate::verify::verify;

/// Check a receipt. Exit code 0: valid (and permitted, if a purpose is asked about); 10 bad
/// signature, 11 unknown anchor, 12 not included, 13 revoked, 14 not yet valid, 15 expired, 20
/// denied, 21 not covered; 3 no receipt or not one that is accepted; 1 anything else.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The receipt.
    receipt: PathBuf,
    /// What this verifier believes: chain, registry, class, endpoints, custodians.
    #[arg(long, env = "MEDSYNC_VERIFIER")]
    config: PathBuf,
    /// The time that is asked about, in unix seconds; by default that of the newest block.
    #[arg(long)]
    at: Option<u64>,
    /// Also decide whether this purpose is permitted, as SYSTEM|CODE.
    #[arg(long, value_parser = code, requires = "class")]
    purpose: Vec<Code>,
    /// The class of the resource that is asked about, as SYSTEM|CODE.
    #[arg(long, value_parser = code, requires = "purpose")]
    class: Vec<Code>,
    /// An obligation that will be kept, as SYSTEM|CODE.
    #[arg(long, value_parser = code)]
    understood: Vec<Code>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Reads `SYSTEM|CODE`.
pub(super) fn code(text: &str) -> Result<Code, String> {
    match text.split_once('|') {
        Some((system, code)) if !system.is_empty() && !code.is_empty() => {
            Ok(Code::new(system, code))
        }
        _ => Err("a code is written SYSTEM|CODE".into()),
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    report: &'a Report,
    decision: Option<&'a Decision>,
}

impl Verify {
    /// Verifies and prints; answers the exit code.
    ///
    /// # Errors
    /// Whatever keeps it from a verdict.
    pub async fn run(self) -> anyhow::Result<u8> {
        let config = VerifierConfig::load(&self.config)?;
        let receipt = match files::read_bounded(&self.receipt, RECEIPT_BYTES_MAX as u64) {
            Ok(json) => match config.beliefs().accept(&json) {
                Ok(receipt) => receipt,
                Err(error) => return self.refuse(&error.to_string()),
            },
            Err(error @ FileError::TooLarge { .. }) => return self.refuse(&error.to_string()),
            Err(error) => return Err(error.into()),
        };
        let chains: Vec<RpcChain> = config
            .rpc
            .iter()
            .map(|rpc| RpcChain::new(rpc, config.chain_id))
            .collect::<Result<_, _>>()?;
        let chains: Vec<&dyn Chain> = chains.iter().map(|chain| chain as &dyn Chain).collect();
        let at = self.at.map(UnixSeconds);
        let report = verify(&config, &chains, &receipt, at, SystemClock.now()).await?;
        let decision = self.decide(&receipt, &report)?;
        if self.json {
            print_json(&Answer {
                report: &report,
                decision: decision.as_ref(),
            })?;
        } else {
            print(&report, decision.as_ref());
        }
        Ok(exit_code(report.verdict, decision.as_ref()))
    }

    fn refuse(&self, why: &str) -> anyhow::Result<u8> {
        const NO_RECEIPT: u8 = 3;
        let why = printable(why);
        if self.json {
            print_json(&serde_json::json!({ "refused": why }))?;
        } else {
            println!("REFUSED: {why}");
        }
        Ok(NO_RECEIPT)
    }

    /// Valid is not Permit: the terms decide about a purpose and a class.
    fn decide(&self, receipt: &Receipt, report: &Report) -> anyhow::Result<Option<Decision>> {
        if self.purpose.is_empty() {
            return Ok(None);
        }
        let question = Question {
            purposes: self.purpose.clone(),
            classes: self.class.clone(),
            understood: self.understood.clone(),
            ..Question::default()
        };
        Ok(question.ask(receipt, report)?)
    }
}

/// A text from a stranger's file, without what a terminal would take for commands.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}

fn print(report: &Report, decision: Option<&Decision>) {
    for check in &report.checks {
        println!(
            "[{}] {} ({})",
            if check.holds { "ok" } else { "NO" },
            check.what,
            check.found
        );
    }
    println!(
        "{:?} at {}, by block {} of time {}",
        report.verdict, report.at, report.block.number.0, report.block.time
    );
    if let Some(decision) = decision {
        println!("{:?} for this purpose and class", decision.outcome);
        for reason in &decision.reasons {
            println!("  because {reason:?}");
        }
        for duty in &decision.obligations {
            let (system, code) = (printable(&duty.system), printable(&duty.code));
            println!("  obliged to {system}|{code}");
        }
    }
}

fn exit_code(verdict: Verdict, decision: Option<&Decision>) -> u8 {
    match (verdict, decision.map(|decision| decision.outcome)) {
        (Verdict::BadSignature, _) => 10,
        (Verdict::UnknownAnchor, _) => 11,
        (Verdict::NotIncluded, _) => 12,
        (Verdict::Revoked, _) => 13,
        (Verdict::NotYetValid, _) => 14,
        (Verdict::Expired, _) => 15,
        (Verdict::Valid, Some(Outcome::Deny)) => 20,
        (Verdict::Valid, Some(Outcome::NoConsent)) => 21,
        (Verdict::Valid, Some(Outcome::Permit) | None) => 0,
    }
}
