//! A hospital that ends TLS by itself: its commands, its staff, and whoever comes without.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, ensure};
use medsync::config::{Config, StaffConfig, TlsConfig};
use medsync::files;
use medsync_client::wire::Session;
use medsync_tests::medsync::medsync;
use medsync_tests::story::Story;
use reqwest::header::STRICT_TRANSPORT_SECURITY;
use reqwest::{Certificate, Client};
use serde_json::Value;
use tokio::runtime::Runtime;

const NAME: &str = "ward 3";

pub(super) fn a_hospital_ends_tls_and_its_staff_works_there(
    story: &mut Story,
) -> anyhow::Result<()> {
    let home = story.path("hospital");
    let (chain, key) = (story.path("chain.pem"), story.path("tls.key"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    std::fs::write(&chain, made.cert.pem())?;
    files::write_whole(&key, made.key_pair.serialize_pem().as_bytes(), true)?;
    let staff = story.path_text("staff.key");
    let new = medsync(&["login", "new-key", "--out", &staff])?.json()?;
    let login_key = serde_json::from_value(new["login_key"].clone())?;

    let listen = free_port()?;
    let origin = format!("https://localhost:{}", listen.port());
    let mut config = Config::load(&home)?;
    let api = config.api.as_mut().context("it has an API")?;
    api.listen = listen;
    api.origin = Some(origin.clone());
    api.tls = Some(TlsConfig {
        certificate: chain.clone(),
        key,
    });
    api.staff = vec![StaffConfig {
        name: NAME.into(),
        login_key,
    }];
    config.save(&home)?;
    story.hospital_mut()?.kill_and_restart()?;

    let authority = chain.display().to_string();
    let mut login = vec!["login", "staff", "--api", &origin, "--name", NAME];
    login.extend(["--key", &staff]);
    let untold = medsync(&login)?;
    ensure!(untold.code != 0, "nobody vouches for it: {untold:?}");
    login.extend(["--authority", &authority]);
    let session: Session = serde_json::from_value(medsync(&login)?.json()?)?;
    let trusted = Certificate::from_pem(&std::fs::read(&chain)?)?;
    Runtime::new()?.block_on(asked(&origin, trusted, &session))?;
    // Commands of this machine ask it by its certificate.
    let home = story.path_text("hospital");
    let said = medsync(&["hospital", "status", "--home", &home, "--json"])?.json()?;
    ensure!(said["counts"].is_object(), "{said}");
    Ok(())
}

async fn asked(origin: &str, trusted: Certificate, session: &Session) -> anyhow::Result<()> {
    let client = Client::builder().add_root_certificate(trusted).build()?;
    let circles = client.get(format!("{origin}/v1/circles"));
    let circles = circles.bearer_auth(&session.token).send().await?;
    let is_strict = circles.headers().contains_key(STRICT_TRANSPORT_SECURITY);
    ensure!(is_strict, "browsers are told to stay with TLS");
    let circles: Value = circles.error_for_status()?.json().await?;
    ensure!(
        circles["circles"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
    let plain = origin.replacen("https", "http", 1);
    let plain = client.get(format!("{plain}/live")).send().await;
    ensure!(plain.is_err(), "nobody is answered without TLS");
    Ok(())
}

fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}
