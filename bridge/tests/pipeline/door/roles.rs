//! Each path × each who × {own, other's} data: whatever the description names is asked.

use std::sync::Arc;

use medsync::store::circles::CircleRow;
use medsync_client::wire::LoginAs;
use medsync_protocol::ids::{ContextId, to_base64};
use medsync_protocol::signature::SecretKey;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::super::access::{EXCHANGE, Study, exchange_row, researcher};
use super::super::circle::{CONTEXT, FakeCircle, FakeCircles};
use super::super::custodian::FakeGroups;
use super::super::faults::Faults;
use super::super::signed::consent;
use super::super::{patient, row};
use super::{Door, problem, staff};

/// Another patient's circle, and its patient.
const OTHER: ContextId = ContextId([9; 32]);
/// Another recipient's exchange, and its recipient.
const OTHER_EXCHANGE: ContextId = ContextId([10; 32]);

fn another_patient() -> SecretKey {
    SecretKey::from_scalar(&[7; 32]).expect("a scalar")
}

fn another_researcher() -> SecretKey {
    SecretKey::from_scalar(&[6; 32]).expect("a scalar")
}

/// Who asks, with what they show.
struct Who {
    name: &'static str,
    token: Option<String>,
    is_operator: bool,
    is_staff: bool,
    own: Option<ContextId>,
}

impl Who {
    /// Whether a path is for them, as its description says.
    fn may(&self, said: &str, context: ContextId) -> bool {
        said.split(", ").any(|one| match one {
            "operator" => self.is_operator,
            "staff" => self.is_staff,
            "whoever enrolled in it" => self.own == Some(context),
            "whoever is logged in" => self.token.is_some(),
            other => panic!("who is {other}?"),
        })
    }
}

/// A hospital with two circles and two exchanges, in one of which something was released.
async fn hospital() -> (Study, Door) {
    let mut study = Study::begin(Vec::new()).await;
    study.settle().await;
    study.ask("HRESCH", |_| ()).await;
    study.settle().await;
    let world = &mut study.world;
    let other = FakeCircle::new(OTHER, Faults::default(), another_patient().public_key());
    let key = another_researcher().public_key();
    let other_exchange = FakeCircle::new(OTHER_EXCHANGE, Faults::default(), key);
    other_exchange.add_enrolment(key);
    let circles = vec![
        world.circle.clone(),
        other,
        study.exchange.clone(),
        other_exchange,
    ];
    world.pipeline.circles = Arc::new(FakeCircles(circles));
    let other_row = CircleRow {
        context: OTHER,
        ..row()
    };
    let other_exchange_row = CircleRow {
        context: OTHER_EXCHANGE,
        recipient_key: Some(key),
        ..exchange_row()
    };
    for row in [other_row, other_exchange_row] {
        let entered = world.pipeline.store.enter_circle(&row).await;
        entered.expect("entered");
    }
    let door = Door::of_hospital(world, &FakeGroups::default()).await;
    (study, door)
}

async fn session(door: &Door, login_as: LoginAs, key: &SecretKey) -> String {
    let mut client = door.client();
    client.log_in(login_as, key).await.expect("logged in").token
}

async fn everybody(door: &Door) -> [Who; 7] {
    let nobody = Who {
        name: "nobody",
        token: None,
        is_operator: false,
        is_staff: false,
        own: None,
    };
    let party = async |name, context, key| Who {
        name,
        token: Some(session(door, LoginAs::party_of(context), key).await),
        own: Some(context),
        is_operator: false,
        is_staff: false,
    };
    [
        Who {
            name: "operator",
            token: Some(door.token()),
            is_operator: true,
            is_staff: false,
            own: None,
        },
        Who {
            name: "staff",
            token: Some(session(door, LoginAs::staff("ward"), &staff()).await),
            is_operator: false,
            is_staff: true,
            own: None,
        },
        party("patient", CONTEXT, &patient()).await,
        party("recipient", EXCHANGE, &researcher()).await,
        party("another patient", OTHER, &another_patient()).await,
        party("another recipient", OTHER_EXCHANGE, &another_researcher()).await,
        nobody,
    ]
}

/// A body that a path takes.
fn body(path: &str) -> Option<Value> {
    let purposes = [json!({ "system": "act", "code": "HRESCH" })];
    let (sound, signed) = consent(0);
    match path.rsplit('/').next() {
        Some("previews") => Some(json!({ "to": researcher().public_key(), "purposes": purposes })),
        Some("consents") => Some(json!({
            "terms": to_base64(&sound.terms_bytes),
            "opening": signed.opening,
            "signature": signed.signature,
        })),
        Some("revocations") => Some(json!({
            "secret": "0x1",
            "claim_key": signed.secrets.claim_key.public_key(),
        })),
        _ => None,
    }
}

#[tokio::test]
async fn each_path_answers_whom_it_is_for_and_nobody_else() {
    let (study, door) = hospital().await;
    let consent = study.signed.commitment.to_string();
    let described: Value = door.json("/openapi.json").await;
    let everybody = everybody(&door).await;
    let record = &door.json(&format!("/v1/circles/{CONTEXT}/records")).await["records"][0];
    let release = &door.json(&format!("/v1/circles/{EXCHANGE}/releases")).await["releases"][0];
    // Each with where it is: nobody finds it under a name of their own.
    let names = [
        (
            "{record}",
            CONTEXT,
            record["record"].as_str().expect("a record"),
        ),
        (
            "{entry}",
            EXCHANGE,
            release["entry"].as_str().expect("a release"),
        ),
        ("{consent}", CONTEXT, &consent),
    ];
    let (mut asked, mut answered) = (0, 0);
    for (path, methods) in described["paths"].as_object().expect("paths") {
        for (method, said) in methods.as_object().expect("methods") {
            let for_whom = said["tags"][0].as_str().expect("it says who may ask");
            assert_eq!(
                said["security"].is_null(),
                for_whom == "everybody",
                "{path}"
            );
            if for_whom == "everybody" || (method == "delete" && path == "/v1/session") {
                continue;
            }
            let is_of_one = path.contains("{context}");
            let mut has_answered = false;
            let contexts = [CONTEXT, EXCHANGE, OTHER, OTHER_EXCHANGE];
            for context in contexts.into_iter().take(if is_of_one { 4 } else { 1 }) {
                for who in &everybody {
                    let mut at = path.replace("{context}", &context.to_string());
                    let mut is_elsewhere = false;
                    for (place, of, name) in names {
                        is_elsewhere |= path.contains(place) && of != context;
                        at = at.replace(place, name);
                    }
                    let verb = method.to_uppercase().parse::<Method>().expect("a method");
                    let mut request = door.request(verb, &at);
                    if let Some(body) = body(path).filter(|_| method == "post") {
                        request = request.json(&body);
                    }
                    if let Some(token) = &who.token {
                        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
                    }
                    let answer = request.send().await.expect("an answer");
                    let status = answer.status().as_u16();
                    let what = format!("{method} {at} by {}: {status}", who.name);
                    asked += 1;
                    match (who.token.is_some(), who.may(for_whom, context)) {
                        (false, _) => assert_eq!(status, 401, "{what}"),
                        (true, false) => assert_eq!(status, 403, "{what}"),
                        (true, true) if is_elsewhere => assert_eq!(status, 404, "{what}"),
                        (true, true) => {
                            assert!(status < 500 && ![401, 403].contains(&status), "{what}");
                            answered += usize::from(status == 200);
                            has_answered |= status < 300;
                        }
                    }
                }
            }
            // What is written is not sound here; `door/writes` and `door/custody` bring what is.
            // No import goes on, and nothing here has parts.
            let is_absent = path.ends_with("{import}") || path.ends_with("{part}");
            assert!(
                has_answered || method != "get" || is_absent,
                "{method} {path} answers nobody"
            );
        }
    }
    assert!(asked > 150 && answered > 60, "{answered} of {asked}");
}

/// What is open is so for everybody, and says nothing of anybody.
#[tokio::test]
async fn four_paths_are_open_to_everybody() {
    let door = Door::open().await;
    let described: Value = door.json("/openapi.json").await;
    let open = described["paths"].as_object().expect("paths").iter();
    let open = open.filter(|(_, methods)| {
        let mut methods = methods.as_object().expect("methods").values();
        methods.any(|said| said["security"].is_null())
    });
    let open: Vec<&str> = open.map(|(path, _)| path.as_str()).collect();
    assert_eq!(open, ["/live", "/ready", "/v1/challenges", "/v1/sessions"]);
}

#[tokio::test]
async fn hostile_caller_learns_not_whether_a_circle_is_here() {
    let (_study, door) = hospital().await;
    let token = session(&door, LoginAs::party_of(CONTEXT), &patient()).await;
    let mut said = Vec::new();
    for context in [OTHER, ContextId([0x77; 32])] {
        let asked = door.request(Method::GET, &format!("/v1/circles/{context}/log"));
        let asked = asked.header(AUTHORIZATION, format!("Bearer {token}"));
        said.push(problem(asked.send().await.expect("an answer"), 403).await);
    }
    assert_eq!(said[0], said[1]);
    let absent = format!("/v1/circles/{}/log", ContextId([0x77; 32]));
    problem(door.get(&absent).await, 404).await;
    problem(door.get("/v1/circles/0x12/log").await, 400).await;
}
