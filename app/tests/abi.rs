//! The interface's description, as generated from the sources, is the tracked one.

use std::path::Path;

#[test]
fn the_tracked_description_is_current() {
    let tracked = Path::new(env!("MEDSYNC_ROOT")).join("app/abi.json");
    if std::env::var_os("MEDSYNC_BLESS").is_some() {
        std::fs::write(&tracked, medsync_app::abi::JSON).expect("the file is writable");
    }
    let text = std::fs::read_to_string(&tracked).expect("app/abi.json is there");
    assert!(
        text == medsync_app::abi::JSON,
        "app/abi.json is not what the sources say: run MEDSYNC_BLESS=1 cargo test -p medsync-app \
         and look at the difference, because whoever speaks to the app must follow it"
    );
}
