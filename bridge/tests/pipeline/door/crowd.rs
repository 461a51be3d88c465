//! Many clients at once, for a while.

use std::time::Instant;

use super::super::circle::CONTEXT;
use super::super::consent;
use super::*;

const CLIENTS: usize = 64;
/// How long they ask; twice, for what grows from one time to the next.
const FOR: Duration = Duration::from_secs(2);
/// How much the second time may take beyond the first: what is held for a client goes with it.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a size") * 1024
}

/// Asks without a pause; answers how long each answer took.
async fn ask_on(
    client: Client,
    door: SocketAddr,
    token: String,
    paths: [String; 5],
) -> Vec<Duration> {
    let (began, mut took) = (Instant::now(), Vec::new());
    for path in paths.iter().cycle() {
        if began.elapsed() >= FOR {
            break;
        }
        let start = Instant::now();
        let asked = client.get(format!("http://{door}{path}"));
        let answer = asked.bearer_auth(&token).send().await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.expect("all of it");
        took.push(start.elapsed());
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_answered_without_an_error_and_nothing_of_it_stays() {
    let bounds = Bounds {
        connections_max: 2 * CLIENTS,
        requests_a_second: 65_536,
        ..BOUNDS
    };
    let world = world(Vec::new()).await;
    world.circle.add_consent(consent(1).0);
    let door = Door::known_by(None, &world.pipeline, (None, bounds)).await;
    let login = LoginAs::staff("ward");
    let session = door.client().log_in(login, &staff()).await;
    let token = session.expect("logged in").token.to_string();
    let circle = format!("/v1/circles/{CONTEXT}");
    let paths = [
        "/v1/status".to_owned(),
        "/v1/circles".to_owned(),
        circle.clone(),
        format!("{circle}/consents"),
        format!("{circle}/log"),
    ];
    let (client, mut sizes) = (Client::new(), Vec::new());
    for _ in 0..2 {
        let clients = (0..CLIENTS).map(|_| {
            let (token, paths) = (token.clone(), paths.clone());
            tokio::spawn(ask_on(client.clone(), door.address, token, paths))
        });
        let clients: Vec<_> = clients.collect();
        let mut took = Vec::new();
        for client in clients {
            took.extend(client.await.expect("no error"));
        }
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
        println!(
            "{} answers, p50 {:?}, p99 {:?}",
            took.len(),
            at(0.5),
            at(0.99)
        );
        assert!(took.len() > CLIENTS, "somebody was not answered");
        sizes.push(resident_bytes());
    }
    let growth = sizes[1].saturating_sub(sizes[0]);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more: {sizes:?}");
}
