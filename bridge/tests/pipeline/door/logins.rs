//! Logging in, and what is tried to get in without a key.

use medsync::api::Bounds;
use medsync::pipeline::ingest;
use medsync_client::wire::{Caller, Challenge, Login, LoginAs, Session};
use medsync_protocol::ids::{ContextId, Sha256Digest, UnixSeconds};
use medsync_protocol::messages::login_message;
use medsync_protocol::signature::SecretKey;
use reqwest::header::{AUTHORIZATION, ORIGIN};
use reqwest::{Method, Response};

use super::super::circle::CONTEXT;
use super::super::{patient, world};
use super::{BOUNDS, Door, PAGE, PROXY, problem, staff};

impl Door {
    async fn challenge(&self) -> Challenge {
        let asked = self.request(Method::POST, "/v1/challenges").send().await;
        let answer = asked.expect("an answer");
        assert_eq!(answer.status(), 201);
        answer.json().await.expect("a challenge")
    }

    fn own_origin(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn post(&self, login: &Login, page: Option<&str>) -> Response {
        let asked = self.request(Method::POST, "/v1/sessions").json(login);
        let asked = match page {
            Some(page) => asked.header(ORIGIN, page),
            None => asked,
        };
        asked.send().await.expect("an answer")
    }

    async fn as_whom(&self, token: &str) -> Response {
        let asked = self.request(Method::GET, "/v1/session");
        let asked = asked.header(AUTHORIZATION, format!("Bearer {token}"));
        asked.send().await.expect("an answer")
    }
}

fn signed(challenge: Challenge, login_as: LoginAs, origin: &str, key: &SecretKey) -> Login {
    let Challenge { nonce, expires } = challenge;
    let message = login_message(Sha256Digest::of(origin.as_bytes()), nonce, expires);
    Login {
        login_as,
        origin: origin.into(),
        nonce,
        expires,
        signature: key.sign(message).expect("small enough"),
    }
}

fn ward() -> LoginAs {
    LoginAs::staff("ward")
}

#[tokio::test]
async fn whoever_has_a_login_key_logs_in_and_out() {
    let door = Door::open().await;
    for (login_as, key, caller) in [
        (
            ward(),
            staff(),
            Caller::Staff {
                name: "ward".into(),
            },
        ),
        (
            LoginAs::party_of(CONTEXT),
            patient(),
            Caller::Patient { circle: CONTEXT },
        ),
    ] {
        let mut client = door.client();
        let session = client.log_in(login_as, &key).await.expect("logged in");
        assert_eq!(session.caller, caller);
        assert_eq!(client.caller().await.expect("an answer"), caller);
        assert!(!format!("{session:?}").contains(&session.token));
        client.log_out().await.expect("logged out");
        assert!(client.caller().await.is_err());
        problem(door.as_whom(&session.token).await, 401).await;
    }
    let operator = door.client().with_token(&door.token());
    assert_eq!(
        operator.caller().await.expect("an answer"),
        Caller::Operator
    );
}

#[tokio::test]
async fn a_session_ends_after_a_quarter_of_an_hour() {
    let door = Door::open().await;
    let client = door.logged_in(ward(), &staff()).await;
    let clock = &door._world.as_ref().expect("a world").clock;
    clock.advance(15 * 60 - 1);
    assert!(client.caller().await.is_ok());
    clock.advance(1);
    assert!(client.caller().await.is_err());
}

#[tokio::test]
async fn hostile_challenge_that_is_over_was_used_or_was_never_made_opens_nothing() {
    let door = Door::open().await;
    let origin = door.own_origin();
    let used = signed(door.challenge().await, ward(), &origin, &staff());
    assert_eq!(door.post(&used, None).await.status(), 201);
    problem(door.post(&used, None).await, 401).await;
    let over = signed(door.challenge().await, ward(), &origin, &staff());
    door._world.as_ref().expect("a world").clock.advance(2 * 60);
    problem(door.post(&over, None).await, 401).await;
    let longer = Challenge {
        expires: UnixSeconds(1 << 40),
        ..door.challenge().await
    };
    problem(
        door.post(&signed(longer, ward(), &origin, &staff()), None)
            .await,
        401,
    )
    .await;
    let own = Challenge {
        nonce: "0x1234".parse().expect("a number"),
        ..door.challenge().await
    };
    problem(
        door.post(&signed(own, ward(), &origin, &staff()), None)
            .await,
        401,
    )
    .await;
}

#[tokio::test]
async fn hostile_page_that_passes_a_login_on_opens_nothing() {
    let door = Door::open().await;
    for (origin, page) in [
        // Signed for a page that is no portal, or for another program of this machine.
        ("https://evil.example".to_owned(), None),
        ("http://127.0.0.1:1".to_owned(), None),
        // Signed for the portal, and shown by a program; and the other way round.
        (PAGE.to_owned(), None),
        (door.own_origin(), Some(PAGE)),
        (format!("{PAGE}/"), Some(PAGE)),
    ] {
        let login = signed(door.challenge().await, ward(), &origin, &staff());
        problem(door.post(&login, page).await, 401).await;
    }
    // What was signed for one origin is no signature of another.
    let evil = "https://evil.example";
    let mut login = signed(door.challenge().await, ward(), evil, &staff());
    login.origin = door.own_origin();
    problem(door.post(&login, None).await, 401).await;
    for (origin, page) in [(PAGE, Some(PAGE)), (&door.own_origin(), None)] {
        let login = signed(door.challenge().await, ward(), origin, &staff());
        assert_eq!(door.post(&login, page).await.status(), 201, "{origin}");
    }
}

/// A program that listens at the address of the patient's own daemon passes a login on to the
/// hospital, which is known by a name.
#[tokio::test]
async fn hostile_program_of_another_machine_that_passes_a_login_on_opens_nothing() {
    let door = Door::open_as(Some(PROXY)).await;
    for origin in [
        door.own_origin(),
        format!("http://localhost:{}", door.address.port()),
    ] {
        let login = signed(door.challenge().await, ward(), &origin, &staff());
        problem(door.post(&login, None).await, 401).await;
    }
    let login = signed(door.challenge().await, ward(), PROXY, &staff());
    assert_eq!(door.post(&login, None).await.status(), 201);
}

#[tokio::test]
async fn hostile_key_opens_no_session_of_another() {
    let door = Door::open().await;
    let stranger = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    let mut said = Vec::new();
    for (login_as, key) in [
        (ward(), &patient()),
        (ward(), &stranger),
        (LoginAs::staff("nobody"), &staff()),
        (LoginAs::party_of(CONTEXT), &staff()),
        (LoginAs::party_of(CONTEXT), &stranger),
        (LoginAs::party_of(ContextId([0x55; 32])), &patient()),
    ] {
        let login = signed(door.challenge().await, login_as, &door.own_origin(), key);
        said.push(problem(door.post(&login, None).await, 401).await);
    }
    said.dedup();
    assert_eq!(said.len(), 1, "it says who is here");
}

/// Of two who enrolled nobody can tell which one is the patient.
#[tokio::test]
async fn hostile_second_enrolment_logs_in_nobody() {
    let door = Door::open().await;
    let world = door._world.as_ref().expect("a world");
    let stranger = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    world.circle.enrol_again(stranger.public_key());
    world.circle.add_enrolment(stranger.public_key());
    ingest::ingest_all(&world.pipeline).await.expect("read");
    for key in [&patient(), &stranger] {
        let as_party = LoginAs::party_of(CONTEXT);
        let login = signed(door.challenge().await, as_party, &door.own_origin(), key);
        problem(door.post(&login, None).await, 401).await;
    }
}

/// Whoever stops a circle locks its patient not out of what was kept of it.
#[tokio::test]
async fn a_patient_logs_in_though_an_alarm_stops_the_circle() {
    let door = Door::open().await;
    let world = door._world.as_ref().expect("a world");
    let raised = world.pipeline.store.raise_alarm(CONTEXT, "a reader");
    raised.await.expect("raised");
    let client = door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await;
    let circle = client.circle(CONTEXT).await.expect("read");
    assert!(circle.stopped.is_some_and(|why| why.contains("a reader")));
    // And nobody without the key hears of it.
    let stranger = SecretKey::from_scalar(&[4; 32]).expect("a scalar");
    let as_party = LoginAs::party_of(CONTEXT);
    let login = signed(
        door.challenge().await,
        as_party,
        &door.own_origin(),
        &stranger,
    );
    let why = problem(door.post(&login, None).await, 401).await;
    assert!(!why.contains("reader"), "{why}");
}

/// A token that somebody brought along is not what the session is opened under.
#[tokio::test]
async fn hostile_session_that_was_fixed_before_is_not_taken_over() {
    let door = Door::open().await;
    let fixed = "f".repeat(64);
    let login = signed(door.challenge().await, ward(), &door.own_origin(), &staff());
    let asked = door.request(Method::POST, "/v1/sessions").json(&login);
    let asked = asked.header(AUTHORIZATION, format!("Bearer {fixed}"));
    let session: Session = asked
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("opened");
    assert_ne!(session.token, fixed);
    problem(door.as_whom(&fixed).await, 401).await;
    // Nor does a login end the sessions of others.
    let another = door.logged_in(ward(), &staff()).await;
    assert!(another.caller().await.is_ok());
    assert_eq!(door.as_whom(&session.token).await.status(), 200);
}

#[tokio::test]
async fn hostile_logins_are_slowed_down_and_who_is_logged_in_is_not() {
    let door = Door::open().await;
    let client = door.logged_in(ward(), &staff()).await;
    let mut statuses = Vec::new();
    for _ in 0..120 {
        let asked = door.request(Method::POST, "/v1/challenges").send().await;
        statuses.push(asked.expect("an answer").status().as_u16());
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 429].contains(status)));
    assert!(client.caller().await.is_ok());
}

#[tokio::test]
async fn hostile_flood_of_one_who_is_logged_in_leaves_others_their_turn() {
    let world = world(Vec::new()).await;
    let bounds = Bounds {
        requests_a_second: 16,
        ..BOUNDS
    };
    let door = Door::known_by(None, &world.pipeline, (None, bounds)).await;
    let patient = door.logged_in(LoginAs::party_of(CONTEXT), &patient()).await;
    let ward = door.logged_in(ward(), &staff()).await;
    let mut refused = 0;
    for _ in 0..64 {
        refused += usize::from(patient.caller().await.is_err());
    }
    // Of 16 a second and 32 at once a quarter, and what comes back meanwhile.
    assert!(refused > 0, "all were answered");
    for _ in 0..4 {
        ward.caller().await.expect("an answer");
    }
}

#[tokio::test]
async fn hostile_bodies_of_a_login_are_refused_with_what_would_be_right() {
    let door = Door::open().await;
    let post = async |body: String| {
        let asked = door.request(Method::POST, "/v1/sessions").body(body);
        let asked = asked.header("content-type", "application/json");
        asked.send().await.expect("an answer")
    };
    let good = signed(door.challenge().await, ward(), &door.own_origin(), &staff());
    let good = serde_json::to_value(&good).expect("JSON");
    for (field, wrong) in [
        ("as", serde_json::json!({ "admin": true })),
        (
            "nonce",
            serde_json::json!("0x0800000000000011000000000000000000000000000000000000000000000001"),
        ),
        ("expires", serde_json::json!(-1)),
        (
            "signature",
            serde_json::json!({ "r": "0x0", "s": "0x0", "t": "0x0" }),
        ),
        ("more", serde_json::json!(1)),
    ] {
        let mut body = good.clone();
        body[field] = wrong;
        let why = problem(post(body.to_string()).await, 422).await;
        assert!(!why.is_empty(), "{field}");
    }
    problem(post("{".into()).await, 400).await;
    problem(post(" ".repeat(1 << 17)).await, 413).await;
    let plain = door
        .request(Method::POST, "/v1/sessions")
        .body(good.to_string());
    problem(plain.send().await.expect("an answer"), 415).await;
}
