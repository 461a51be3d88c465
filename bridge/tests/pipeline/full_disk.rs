//! A daemon whose log cannot be written.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use medsync::at_rest::HomeSecret;
use medsync::config::{
    BatchConfig, CONFIG_FILE, ChainConfig, Config, NodeConfig, RetentionConfig, Role,
};
use medsync::seams::system_random;
use medsync::store::Store;
use medsync::store::facts::HINDRANCE;
use medsync_protocol::felt::Felt;
use medsync_protocol::ids::ClassHash;

use super::{folder, registry};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:9/";

/// A patient's home, of a node and a chain that do not answer.
fn config(home: &std::path::Path) -> Config {
    let credential = home.join("credential.json");
    medsync::files::write_whole(&credential, br#"{"username":"a","password":"b"}"#, true)
        .expect("written");
    Config {
        role: Role::Patient,
        node: NodeConfig {
            api: NOBODY.parse().expect("a URL"),
            credential,
            peer: None,
            app: home.join("app.wasm"),
            run: None,
        },
        chain: ChainConfig {
            rpc: vec![NOBODY.parse().expect("a URL")],
            chain_id: registry().chain_id,
            registry: registry().registry,
            class_hash: ClassHash::from_felt(Felt::ONE),
            block_age_s_max: 1,
        },
        anchor_account: None,
        revoke_account: None,
        claim_account: None,
        relay_after_s: 0,
        batch: BatchConfig::default(),
        retention: RetentionConfig::default(),
        store: None,
        api: None,
    }
}

#[tokio::test]
async fn a_daemon_whose_log_is_on_a_full_disk_goes_on() {
    // Every write to it fails as on a full disk.
    const FULL: &str = "/dev/full";
    if fs::metadata(FULL).is_err() {
        return;
    }
    let folder = folder();
    let home = folder.path().join("home");
    medsync::files::private_folder(&home).expect("made");
    config(&home).save(&home).expect("written");
    let secret = HomeSecret::of_new(&home, &mut system_random()).expect("made");
    let full = || Stdio::from(File::options().write(true).open(FULL).expect("opened"));
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_medsync"))
        .args(["up", "--config"])
        .arg(home.join(CONFIG_FILE))
        .stdout(full())
        .stderr(full())
        .spawn()
        .expect("started");
    let store = Store::open(&home, &secret).await.expect("a store");
    // It logs first what it then writes there.
    let hindered = async || store.fact(&format!("{HINDRANCE}:relay")).await;
    while hindered().await.expect("the store").is_none() {
        let ended = daemon.try_wait().expect("a child");
        assert!(ended.is_none(), "it ended: {ended:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(daemon.try_wait().expect("a child").is_none());
    daemon.kill().expect("killed");
    daemon.wait().expect("ended");
}
