//! Writes the interface's description from the sources, for whoever compares with it: the tracked
//! copy is `app/abi.json`, and a test says when the two differ.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=src");
    let sources: Vec<(String, String)> = ["lib.rs", "abi/input.rs", "abi/view.rs", "event.rs"]
        .into_iter()
        .map(|name| {
            let text = fs::read_to_string(Path::new("src").join(name)).expect("a source file");
            (name.to_owned(), text)
        })
        .collect();
    let manifest = calimero_wasm_abi::emitter::emit_manifest_from_crate(&sources)
        .expect("the interface can be described");
    let json = serde_json::to_string_pretty(&manifest).expect("a description is JSON");
    let out = env::var("OUT_DIR").expect("cargo names the folder");
    fs::write(Path::new(&out).join("abi.json"), json + "\n").expect("the folder is writable");
}
