//! A node's life: made once, started on free ports, killed, stopped, started again.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Place, occupied_port};

#[tokio::test]
async fn init_makes_a_private_credential_and_never_overwrites() -> Result<()> {
    let place = Place::with_home().await?;
    let credential = place.credential()?;
    for secret in ["credential.json", "identity.key"] {
        let mode = fs::metadata(place.home().join(secret))?
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    assert_eq!(
        fs::metadata(place.home())?.permissions().mode() & 0o777,
        0o700
    );

    let again = place.init().await?;
    assert!(!again.status.success());
    let said = String::from_utf8(again.stderr)?;
    assert!(said.contains("never overwritten"), "{said}");
    assert_eq!(place.credential()?, credential);
    Ok(())
}

#[tokio::test]
async fn a_killed_node_starts_again_as_the_same_one() -> Result<()> {
    let place = Place::with_home().await?;
    let first = place.start(&[]).await?;
    let peer_id = first.peer_id().to_owned();
    let token = first.token(&place.credential()?).await?;
    first.kill().await?;

    let second = place.start(&[]).await?;
    assert_eq!(second.peer_id(), peer_id);
    let contexts = second
        .request(Method::GET, "/admin-api/contexts")
        .bearer_auth(token);
    assert_eq!(
        contexts.send().await?.status(),
        StatusCode::OK,
        "a token outlives the process"
    );
    Ok(())
}

#[tokio::test]
async fn sigterm_stops_a_node_in_order() -> Result<()> {
    let place = Place::with_home().await?;
    let ended = place.start(&[]).await?.terminate().await?;
    assert!(ended.success(), "{ended}: {}", place.log()?);
    place.start(&[]).await?;
    Ok(())
}

#[tokio::test]
async fn port_zero_is_a_free_port_and_a_taken_one_is_refused() -> Result<()> {
    let (one, two) = (Place::with_home().await?, Place::with_home().await?);
    let (a, b) = (one.start(&[]).await?, two.start(&[]).await?);
    assert_ne!(a.api(), b.api());
    assert_ne!(a.swarm(), b.swarm());
    let suffix = format!("/p2p/{}", a.peer_id());
    assert!(a.swarm().starts_with("/ip4/127.0.0.1/tcp/") && a.swarm().ends_with(&suffix));

    let third = Place::with_home().await?;
    let (_held, port) = occupied_port()?;
    let refused = third.run_to_the_end(&["--api-port", &port]).await?;
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr)?;
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_node_refuses_a_credential_that_is_not_its_own() -> Result<()> {
    let place = Place::with_home().await?;
    place.start(&[]).await?.terminate().await?;
    let other = json!({ "username": "other", "password": "not the one init made" });
    fs::write(place.home().join("credential.json"), other.to_string())?;

    let refused = place.run_to_the_end(&[]).await?;
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr)?;
    assert!(said.contains("credential"), "{said}");
    assert!(!said.contains("not the one init made"), "{said}");
    Ok(())
}

#[tokio::test]
async fn two_nodes_meet_by_a_peer_address() -> Result<()> {
    let (one, two) = (Place::with_home().await?, Place::with_home().await?);
    let a = one.start(&[]).await?;
    let b = two.start(&["--peer", a.swarm()]).await?;
    let token = b.token(&two.credential()?).await?;
    loop {
        let peers = b
            .request(Method::GET, "/admin-api/peers")
            .bearer_auth(&token)
            .send()
            .await?;
        let peers: Value = peers.error_for_status()?.json().await?;
        if peers["count"].as_u64().context("no count of peers")? > 0 {
            return Ok(());
        }
    }
}

/// Linux tells which sockets a process holds: inodes in its folder, addresses in its tables.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn every_socket_of_a_node_is_on_loopback() -> Result<()> {
    let place = Place::with_home().await?;
    let node = place.start(&[]).await?;
    let process = std::path::PathBuf::from(format!("/proc/{}", node.pid()?));
    let mut inodes = Vec::new();
    for entry in fs::read_dir(process.join("fd"))? {
        // A descriptor may close while the folder is read.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        inodes.extend(
            target
                .strip_prefix("socket:[")
                .map(|rest| rest.replace(']', "")),
        );
    }

    let mut seen = 0;
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        for line in fs::read_to_string(process.join("net").join(table))?
            .lines()
            .skip(1)
        {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (local, inode) = (columns[1], columns[9]);
            if inodes.iter().any(|held| held == inode) {
                // 127.0.0.1 in the kernel's byte order.
                assert!(local.starts_with("0100007F:"), "{table} {local}");
                seen += 1;
            }
        }
    }
    assert!(
        seen >= 2,
        "saw {seen} sockets, but the API and the swarm listen"
    );
    Ok(())
}
