//! Who connects from where: each address has its share, and the operator's token is this machine's.

use axum::Extension;
use axum::body::Body;
use axum::http::Request;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use medsync::api::{Bounds, Peer, router};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HOST};

use super::super::world;
use super::{BOUNDS, Door};

/// The API as somebody meets it who connects from an address.
struct From(axum::Router, String);

impl From {
    fn door(door: &Door) -> Self {
        Self(router(&door.api), door.token())
    }

    async fn status(&self, address: &str, method: Method, path: &str) -> u16 {
        let peer = Peer::at(address.parse().expect("an address"));
        let service = TowerToHyperService::new(self.0.clone().layer(Extension(peer)));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(AUTHORIZATION, format!("Bearer {}", self.1))
            .body(Body::empty());
        let answer = service.call(request.expect("a request")).await;
        answer.expect("an answer").status().as_u16()
    }
}

#[tokio::test]
async fn hostile_address_has_its_share_of_requests_and_no_operators_token() {
    let world = world(Vec::new()).await;
    // An address has a quarter of it: two a second, and four at once.
    let bounds = Bounds {
        requests_a_second: 8,
        ..BOUNDS
    };
    let narrow = Door::known_by(None, &world.pipeline, (None, bounds)).await;
    let from = From::door(&narrow);
    let mut refused = 0;
    for _ in 0..100 {
        let status = from.status("192.0.2.3", Method::GET, "/live").await;
        refused += usize::from(status == 429);
    }
    assert!((1..=96).contains(&refused), "{refused} of 100");
    assert_eq!(from.status("192.0.2.4", Method::GET, "/live").await, 200);
    let door = Door::over(&world.pipeline).await;
    let from = From::door(&door);
    for (address, status) in [("127.0.0.1", 200), ("192.0.2.9", 401)] {
        let answered = from.status(address, Method::GET, "/metrics").await;
        assert_eq!(answered, status, "{address}");
    }
    let challenges = async |address, count| {
        let mut taken = 0;
        for _ in 0..count {
            let status = from.status(address, Method::POST, "/v1/challenges").await;
            taken += usize::from(status == 201);
        }
        taken
    };
    // A quarter of 60 at once, and what comes back meanwhile.
    assert!((15..100).contains(&challenges("192.0.2.1", 100).await));
    assert_eq!(challenges("192.0.2.2", 5).await, 5, "others have theirs");
}
