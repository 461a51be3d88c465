//! `scripts/demo`: plays the story on real parts.

use std::path::PathBuf;

use clap::Parser;
use medsync_tests::story::Story;

/// Plays the whole story: a devnet, two nodes, a medsync beside each, a researcher.
#[derive(Parser)]
struct Demo {
    /// Stop everything and clean up at the end; without it everything runs until Ctrl-C.
    #[arg(long)]
    once: bool,
    /// Write report.json into this folder.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let demo = Demo::parse();
    let mut story = Story::new()?;
    let played = story.play(&mut |_, _| Ok(()));
    if let Some(folder) = &demo.out {
        story.report.write(folder)?;
    }
    if let Err(error) = played {
        story.print_logs();
        return Err(error);
    }
    if !demo.once {
        println!("\nEverything is still running; Ctrl-C ends it.");
        for (part, address) in story.addresses() {
            println!("  {part}: {address}");
        }
        tokio::runtime::Runtime::new()?.block_on(tokio::signal::ctrl_c())?;
    }
    Ok(())
}
