//! TLS of its own, where no proxy stands before the API.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use medsync::api::acceptor;
use medsync::config::TlsConfig;
use medsync_client::wire::Caller;
use medsync_client::{ClientError, Way};
use tokio::io::AsyncWriteExt;

use super::*;

/// A certificate of this machine's name, as files.
struct Certified {
    config: TlsConfig,
    /// What a client has to know.
    root: reqwest::Certificate,
    _folder: TempDir,
}

impl Certified {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]);
        let made = made.expect("a certificate");
        let config = TlsConfig {
            certificate: folder.path().join("chain.pem"),
            key: folder.path().join("key.pem"),
        };
        let pem = made.cert.pem();
        std::fs::write(&config.certificate, &pem).expect("written");
        write_private(&config.key, &made.key_pair.serialize_pem());
        Self {
            config,
            root: reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate"),
            _folder: folder,
        }
    }
}

fn write_private(path: &PathBuf, text: &str) {
    std::fs::write(path, text).expect("written");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).expect("its owner's alone");
}

#[tokio::test]
async fn it_speaks_tls_with_its_certificate_and_nothing_else() {
    let certified = Certified::make();
    let tls = acceptor(&certified.config).expect("a certificate and its key");
    let door = Door::open_with(Some(tls)).await;
    let url = format!("https://localhost:{}/live", door.address.port());
    let trusting = Client::builder().add_root_certificate(certified.root.clone());
    let trusting = trusting.build().expect("a client");
    let answer = trusting.get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(reqwest::get(&url).await.is_err(), "nobody vouches for it");
    assert!(door.request(Method::GET, "/live").send().await.is_err());
}

#[tokio::test]
async fn a_program_trusts_the_authority_that_it_is_told_and_no_rubbish() {
    let certified = Certified::make();
    let tls = acceptor(&certified.config).expect("a certificate and its key");
    let door = Door::open_with(Some(tls)).await;
    let pem = std::fs::read(&certified.config.certificate).expect("read");
    let address = format!("https://localhost:{}", door.address.port());
    let by = |authorities| {
        let way = Way {
            at: Some(door.address),
            authorities,
        };
        ApiClient::by(address.parse().expect("an address"), way)
    };
    let told = by(&pem).expect("a client").with_token(&door.token());
    assert_eq!(told.caller().await.expect("an answer"), Caller::Operator);
    let untold = by(&[]).expect("a client").with_token(&door.token());
    let unheard = untold.caller().await;
    assert!(matches!(unheard, Err(ClientError::Unreachable(_))));
    assert!(matches!(by(b"rubbish"), Err(ClientError::NoAuthority)));
}

#[tokio::test]
async fn hostile_connections_that_agree_on_nothing_are_closed_and_others_are_served() {
    let certified = Certified::make();
    let tls = acceptor(&certified.config).expect("a certificate and its key");
    let door = Door::open_with(Some(tls)).await;
    let mut silent = Vec::new();
    for number in 0..2 * BOUNDS.connections_max {
        let mut stream = TcpStream::connect(door.address).await.expect("connected");
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        }
        silent.push(stream);
    }
    all_are_closed(silent).await;
    let trusting = Client::builder().add_root_certificate(certified.root.clone());
    let trusting = trusting.build().expect("a client");
    let url = format!("https://localhost:{}/live", door.address.port());
    let answer = trusting.get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[test]
fn hostile_files_are_named_and_what_they_hold_is_not() {
    let certified = Certified::make();
    let sound = &certified.config;
    let said = |config: &TlsConfig| match acceptor(config) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    };
    let swapped = TlsConfig {
        certificate: sound.key.clone(),
        key: sound.certificate.clone(),
    };
    assert!(said(&swapped).contains("holds no certificate"));
    let other = Certified::make();
    let anothers = TlsConfig {
        key: other.config.key.clone(),
        ..sound.clone()
    };
    assert!(said(&anothers).contains("api.tls"));
    let rubbish = sound.key.with_file_name("rubbish.pem");
    write_private(&rubbish, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n");
    let error = said(&TlsConfig {
        key: rubbish,
        ..sound.clone()
    });
    assert!(
        error.contains("rubbish.pem") && !error.contains("c2VjcmV0"),
        "{error}"
    );
    let everybodys = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&sound.key, everybodys).expect("set");
    assert!(said(sound).contains("key.pem"));
}
