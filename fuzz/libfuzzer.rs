//! One target under libFuzzer: the one that `MEDSYNC_FUZZ_TARGET` names. `scripts/fuzz` runs it.

// `cargo test --all-targets` builds examples as tests too: that one has a harness and no test.
#![cfg_attr(not(test), no_main)]
#![cfg(not(test))]

use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use medsync_fuzz::{Target, named};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("MEDSYNC_FUZZ_TARGET").unwrap_or_default();
    named(&name).expect("MEDSYNC_FUZZ_TARGET names a target")
});

fuzz_target!(|data: &[u8]| -> Corpus {
    let _ = (TARGET.run)(data);
    Corpus::Keep
});
