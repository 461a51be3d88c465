//! Every example is read as its target says, and is what the code writes today.

mod examples;
mod rpc;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use medsync_fuzz::{TARGETS, Target};
use serde_json::Value;

/// Set to write the examples anew, after a format changed.
const WRITE: &str = "MEDSYNC_WRITE_EXAMPLES";

fn folder_of(target: &str) -> PathBuf {
    Path::new(env!("MEDSYNC_ROOT"))
        .join("fuzz/corpus")
        .join(target)
}

fn files_of(target: &Target) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder_of(target.name)).expect("each target has examples");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

#[test]
fn every_example_holds_and_each_target_takes_one() {
    for target in &TARGETS {
        let taken = |file: &PathBuf| {
            let bytes = fs::read(file).expect("a file");
            // Shown only if what follows panics.
            println!("{}", file.display());
            (target.run)(&bytes)
        };
        let files = files_of(target);
        let taken = files.iter().filter(|file| taken(file)).count();
        assert!(
            taken > 0,
            "{} takes none of {} examples",
            target.name,
            files.len()
        );
    }
}

#[test]
fn every_folder_is_of_a_target() {
    let corpus = fs::read_dir(folder_of("")).expect("the corpus");
    let names = corpus.map(|entry| entry.expect("an entry").file_name().into_string());
    let names: BTreeSet<String> = names.map(|name| name.expect("UTF-8")).collect();
    let expected = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    assert_eq!(names, expected);
}

/// What a format or an interface changes in is changed in the examples too: else they would be
/// refused at the first byte, and nothing behind it would be reached.
#[test]
fn the_examples_are_what_is_written_today() {
    for (target, name, bytes) in examples::all() {
        let path = folder_of(target).join(name);
        if std::env::var_os(WRITE).is_some() {
            fs::create_dir_all(folder_of(target)).expect("a folder");
            fs::write(&path, &bytes).expect("written");
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(
            same(&kept, &bytes),
            "{}: write it with {WRITE}=1",
            path.display()
        );
    }
}

/// The order of fields is a choice of features, and says nothing.
fn same(kept: &[u8], made: &[u8]) -> bool {
    let json = |bytes| serde_json::from_slice::<Value>(bytes).ok();
    kept == made || json(kept).is_some_and(|kept| Some(kept) == json(made))
}
