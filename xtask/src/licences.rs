//! Under which licences everything is that we build with.

use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode};

/// Licences under which anything may come in.
const ALLOWED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];
/// Crates under another one, each with its reason.
const EXCEPTIONS: [(&str, &str); 2] = [
    ("configfs-tsm", CALIMERO_ATTESTATION),
    ("tdx-quote", CALIMERO_ATTESTATION),
];
const CALIMERO_ATTESTATION: &str = "AGPL-3.0-or-later; Calimero's node links it for attestation \
    in enclaves, which medsync-node does not use. It is in medsync-node alone, and whoever passes \
    that program on passes its source on";
/// Cairo's compiler crates name no licence and bring the text of Apache-2.0.
const APACHE_BY_FILE: &str = "cairo-lang-";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    license_file: Option<String>,
}

/// Checks every package of the lock file.
///
/// # Errors
/// All packages under a licence that is not allowed, and exceptions that are none any more.
pub fn check() -> anyhow::Result<()> {
    let listed = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("cargo metadata")?;
    let metadata: Metadata =
        serde_json::from_slice(&listed.stdout).context("what cargo metadata says")?;
    let mut findings = Vec::new();
    let mut excepted = Vec::new();
    for package in &metadata.packages {
        if is_allowed(package) {
            continue;
        }
        match EXCEPTIONS.iter().find(|(name, _)| *name == package.name) {
            Some((name, _)) => excepted.push(*name),
            None => findings.push(format!(
                "{} {}: {}",
                package.name,
                package.version,
                package.license.as_deref().unwrap_or("no licence is named"),
            )),
        }
    }
    for (name, why) in EXCEPTIONS {
        if excepted.contains(&name) {
            println!("exception: {name} ({why})");
        } else {
            findings.push(format!("{name} needs no exception any more"));
        }
    }
    if !findings.is_empty() {
        bail!("{} findings:\n{}", findings.len(), findings.join("\n"));
    }
    println!(
        "{} packages are under licences that we allow",
        metadata.packages.len()
    );
    Ok(())
}

fn is_allowed(package: &Package) -> bool {
    let Some(text) = &package.license else {
        return package.license_file.is_some() && package.name.starts_with(APACHE_BY_FILE);
    };
    // Some still write a slash for a choice.
    let parsed = Expression::parse_mode(text, ParseMode::LAX);
    parsed.is_ok_and(|expression| expression.evaluate(is_listed))
}

fn is_listed(required: &LicenseReq) -> bool {
    required
        .license
        .id()
        .is_some_and(|id| ALLOWED.contains(&id.name))
}
