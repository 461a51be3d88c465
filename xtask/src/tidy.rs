//! The house rules that a program can check.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 4] = ["manager", "helper", "utils", "common"];
/// Words that stand for unfinished work.
const UNFINISHED: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

/// Checks every tracked file.
///
/// # Errors
/// All findings, a line each.
pub fn tidy() -> anyhow::Result<()> {
    let listed = Command::new("git")
        .args(["ls-files"])
        .output()
        .context("git ls-files")?;
    let mut findings = Vec::new();
    let names = String::from_utf8(listed.stdout)?;
    let mut checked = 0;
    for name in names.lines() {
        // A file that was removed and not yet committed is no finding.
        if !Path::new(name).exists() {
            continue;
        }
        checked += 1;
        check_name(name, &mut findings);
        if [".rs", ".cairo"].iter().any(|end| name.ends_with(end)) {
            let source = std::fs::read_to_string(name).with_context(|| name.to_owned())?;
            check_source(name, &source, &mut findings);
        }
    }
    if checked == 0 {
        bail!("git lists no files here; run this in the checkout");
    }
    if findings.is_empty() {
        println!("{checked} files are tidy");
        return Ok(());
    }
    bail!("{} findings:\n{}", findings.len(), findings.join("\n"))
}

fn check_name(name: &str, findings: &mut Vec<String>) {
    let stem = Path::new(name)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        findings.push(format!(
            "{name}: the name says nothing about what is inside"
        ));
    }
}

fn check_source(name: &str, source: &str, findings: &mut Vec<String>) {
    let lines = source.lines().count();
    if lines > LINES_MAX {
        findings.push(format!("{name}: {lines} lines, at most {LINES_MAX}"));
    }
    for (number, line) in (1..).zip(source.lines()) {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            findings.push(format!(
                "{name}:{number}: {columns} columns, at most {COLUMNS_MAX}"
            ));
        }
        // This file has to spell the words to look for them.
        if UNFINISHED.iter().any(|word| line.contains(word)) && !name.ends_with("tidy.rs") {
            findings.push(format!("{name}:{number}: unfinished"));
        }
    }
    if name.ends_with(".rs") && !source.starts_with("//!") && !name.ends_with("tests.rs") {
        findings.push(format!("{name}: a module says first what it is (//!)"));
    }
    check_unwraps(name, source, findings);
}

/// An `unwrap` outside of tests has a line that says why it cannot fail.
fn check_unwraps(name: &str, source: &str, findings: &mut Vec<String>) {
    let is_test = name.contains("/tests") || name.contains("examples/");
    let production = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: Vec<&str> = production.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let before = &lines[at.saturating_sub(5)..at];
        let is_explained = before.iter().any(|line| line.contains("Unwrap safety:"));
        if !is_test && line.contains(".unwrap()") && name.ends_with(".rs") && !is_explained {
            findings.push(format!(
                "{name}:{}: an unwrap without its safety line",
                at + 1
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, source: &str) -> usize {
        let mut findings = Vec::new();
        check_name(name, &mut findings);
        check_source(name, source, &mut findings);
        findings.len()
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        assert_eq!(findings("a/b.rs", "//! Sound.\n"), 0);
        assert_eq!(findings("a/utils.rs", "//! Sound.\n"), 1);
        assert_eq!(findings("a/b.rs", "fn silent() {}\n"), 1);
        assert_eq!(findings("a/b.rs", &format!("//! {}\n", "x".repeat(97))), 1);
        assert_eq!(
            findings("a/b.rs", &format!("//! Long.\n{}", "\n".repeat(600))),
            1
        );
        assert_eq!(findings("a/b.rs", "//! A TODO.\n"), 1);
        assert_eq!(findings("a/b.rs", "//! Bold.\nfn f() { x.unwrap() }\n"), 1);
        let explained = "//! Sure.\n// Unwrap safety: sure.\nfn f() { x.unwrap() }\n";
        assert_eq!(findings("a/b.rs", explained), 0);
    }
}
