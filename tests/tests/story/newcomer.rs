//! What a newcomer types first, as the README has it, and the example of the client.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use medsync::api::TOKEN_FILE;
use medsync_tests::medsync::program;
use medsync_tests::story::{Story, verify};

const ROOT: &str = env!("MEDSYNC_ROOT");
const README: &str = include_str!(concat!(env!("MEDSYNC_ROOT"), "/README.md"));
/// What `medsync verify` ends with for the story's consent, which was revoked.
const REVOKED: i32 = 13;

pub(super) fn the_first_requests_work_as_they_are_written(story: &Story) -> anyhow::Result<()> {
    let door = story.hospital()?.door()?;
    let (_, chapter) = README
        .split_once("\n## A first request\n")
        .context("it is there")?;
    let (_, block) = chapter.split_once("```sh\n").context("lines to type")?;
    let block = block.split("```").next().unwrap_or(block);
    let port = door.port().context("a port")?.to_string();
    let block = block
        .replace("FOLDER", &story.path_text(""))
        .replace("PORT", &port);
    let typed = Command::new("bash")
        .args(["-euc", &block])
        .current_dir(ROOT)
        .output()?;
    let said = String::from_utf8_lossy(&typed.stdout);
    ensure!(typed.status.success(), "{block}: {typed:?}");
    let circle = story.circle()?;
    ensure!(said.contains(&circle), "no circle in {said}");
    ensure!(said.contains("\"token\""), "no session in {said}");

    let folder = story.path("receipts-of-the-example");
    let example = program("medsync")?;
    let example = example
        .parent()
        .context("a folder")?
        .join("examples/consents");
    let ran = Command::new(example)
        .arg(door.as_str())
        .arg(story.path("hospital").join(TOKEN_FILE))
        .arg(&circle)
        .arg(&folder)
        .output()?;
    ensure!(ran.status.success(), "{ran:?}");
    let receipt = only_file(&folder)?;
    let answer = verify(&story.verifier(), &receipt, &[])?;
    ensure!(answer.code == REVOKED, "{answer:?}");
    Ok(())
}

fn only_file(folder: &Path) -> anyhow::Result<String> {
    let mut files = std::fs::read_dir(folder)?;
    let file = files.next().context("a receipt")??.path();
    ensure!(files.next().is_none(), "the story has one consent");
    Ok(file.display().to_string())
}
