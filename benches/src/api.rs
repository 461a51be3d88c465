//! A hospital's API under many clients: the real daemon with its node, its patient and a devnet, as
//! far as the story goes until a consent is anchored.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use medsync::config::{Config, StaffConfig};
use medsync_client::Client;
use medsync_client::wire::LoginAs;
use medsync_protocol::consent::Commitment;
use medsync_protocol::ids::ContextId;
use medsync_protocol::signature::SecretKey;
use medsync_tests::medsync::medsync;
use medsync_tests::story::{Part, Story};

use crate::report::{Figure, Report};
use crate::timing::{processor_time, resident_bytes};

mod hand_over;

/// How far the story goes before: a consent that is anchored.
const ANCHORED: usize = 12;
/// How many ask at once, and for how long.
const CLIENTS: [usize; 3] = [1, 16, 64];
const ASKED_FOR: Duration = Duration::from_secs(5);
/// How many listen to events, and how many of them one caller may have.
const LISTENERS: usize = 1_000;
const LISTENERS_OF_ONE: usize = 8;
/// How long an idle daemon is watched, and how long the daemon rests before.
const WATCHED: Duration = Duration::from_secs(20);
const REST: Duration = Duration::from_secs(5);
/// What the patient declines, for something that changes.
const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason|HMARKT";
/// More than is used: what is measured is not the bound.
const REQUESTS_A_SECOND: u32 = 65_536;
/// How long a login rests after it was refused: they are bounded, too.
const LOGIN_REST: Duration = Duration::from_secs(1);
const LOGIN_TRIES: usize = 60;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Status,
    Consents,
    Log,
    Proof,
}

const ALL: [(&str, What); 4] = [
    ("status", What::Status),
    ("consents", What::Consents),
    ("log", What::Log),
    ("proof", What::Proof),
];

/// Whom is asked about what.
struct Subject {
    circle: ContextId,
    consent: Commitment,
}

impl What {
    async fn ask(self, client: &Client, of: &Subject) -> anyhow::Result<()> {
        match self {
            Self::Status => drop(client.status().await?),
            Self::Consents => drop(client.consents(of.circle, None).await?),
            Self::Log => drop(client.log(of.circle, None).await?),
            Self::Proof => drop(client.receipt(of.circle, of.consent).await?),
        }
        Ok(())
    }
}

/// Measures a hospital's API.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    report.measuring("starting nodes, daemons and a devnet, until a consent is anchored");
    let mut story = Story::new()?;
    story.play_until(ANCHORED, &mut |_, _| Ok(()))?;
    open_wide(&mut story)?;
    let runtime = tokio::runtime::Runtime::new()?;
    // While the daemon's memory is that of a daemon that nobody asked.
    let measured = runtime.block_on(listen(report, &story));
    let measured = measured.and_then(|()| runtime.block_on(load(report, &story)));
    if measured.is_err() {
        story.print_logs();
    }
    drop(story);
    measured.and_then(|()| hand_over::measure(report))
}

/// Who works there, by number.
fn staff(number: usize) -> anyhow::Result<(StaffConfig, SecretKey)> {
    let mut scalar = [0; 32];
    scalar[24..].copy_from_slice(&(1 + number as u64).to_be_bytes());
    let key = SecretKey::from_scalar(&scalar)?;
    let name = format!("staff-{number}");
    let login_key = key.public_key();
    Ok((StaffConfig { name, login_key }, key))
}

/// The hospital starts again with room for everybody.
fn open_wide(story: &mut Story) -> anyhow::Result<()> {
    let home = story.path("hospital");
    let mut config = Config::load(&home)?;
    let api = config
        .api
        .as_mut()
        .context("the story's hospital has an API")?;
    api.requests_a_second = REQUESTS_A_SECOND;
    api.connections_max = 4 * LISTENERS as u32;
    api.listeners_max = 2 * LISTENERS as u32;
    for number in 0..LISTENERS.div_ceil(LISTENERS_OF_ONE) {
        api.staff.push(staff(number)?.0);
    }
    config.save(&home)?;
    story.kill_and_restart(Part::Hospital)
}

async fn session(story: &Story, number: usize) -> anyhow::Result<(Client, String)> {
    let (member, key) = staff(number)?;
    let mut client = Client::new(story.hospital()?.door()?)?;
    for _ in 0..LOGIN_TRIES {
        let login = LoginAs::staff(&member.name);
        if let Ok(session) = client.log_in(login, &key).await {
            return Ok((client, session.token.to_string()));
        }
        tokio::time::sleep(LOGIN_REST).await;
    }
    anyhow::bail!("{} is not let in", member.name)
}

async fn load(report: &mut Report, story: &Story) -> anyhow::Result<()> {
    let subject = Arc::new(Subject {
        circle: story.circle()?.parse().context("a circle")?,
        consent: story.consent()?["consent"]
            .as_str()
            .context("a consent")?
            .parse()
            .context("a commitment")?,
    });
    let (_, token) = session(story, 0).await?;
    for (name, what) in ALL {
        let mut alone = None;
        for clients in CLIENTS {
            report.measuring(&format!("{clients} clients ask for {name}"));
            let began = Instant::now();
            let mut tasks = Vec::new();
            for _ in 0..clients {
                let client = Client::new(story.hospital()?.door()?)?.with_token(&token);
                tasks.push(tokio::spawn(ask_on(client, what, Arc::clone(&subject))));
            }
            let mut took = Vec::new();
            for task in tasks {
                took.extend(task.await??);
            }
            let a_second = took.len() as f64 / began.elapsed().as_secs_f64();
            took.sort_unstable();
            ensure!(!took.is_empty(), "nothing was answered");
            let at = |percent: usize| {
                let place = (took.len() * percent).div_ceil(100).saturating_sub(1);
                took[place].as_secs_f64() * 1e3
            };
            let figures = (a_second, at(50), at(99));
            add(
                report,
                name,
                clients,
                figures,
                *alone.get_or_insert(figures),
            );
        }
    }
    Ok(())
}

/// Asks without a pause for a while; how long each answer took. All have to be answers.
async fn ask_on(
    client: Client,
    what: What,
    subject: Arc<Subject>,
) -> anyhow::Result<Vec<Duration>> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < ASKED_FOR {
        let start = Instant::now();
        what.ask(&client, &subject).await?;
        took.push(start.elapsed());
    }
    Ok(took)
}

type Figures = (f64, f64, f64);

fn add(
    report: &mut Report,
    name: &str,
    clients: usize,
    (a_second, median, slowest): Figures,
    alone: Figures,
) {
    let how = "one daemon with its node, built as the tests build it, clients beside it on one \
               machine, without TLS; a circle with one consent";
    let figure = |what: &str, unit, value, base| {
        let name = format!("api_{name}_{what}_{clients}_clients");
        Figure::new(name, unit, value, how).against("one client", base)
    };
    report.add(figure("rate", "a second", a_second, alone.0));
    report.add(figure("p50", "ms", median, alone.1));
    report.add(figure("p99", "ms", slowest, alone.2));
}

/// What it costs that many listen to events.
async fn listen(report: &mut Report, story: &Story) -> anyhow::Result<()> {
    let hospital = story.hospital()?;
    let (process, door) = (hospital.process(), hospital.door()?);
    let address = format!(
        "{}:{}",
        door.host_str().context("a host")?,
        door.port().context("a port")?
    );
    report.measuring("nobody listens");
    tokio::time::sleep(REST).await;
    let (quiet, before) = (idle(process).await?, resident_bytes(process)?);
    report.measuring(&format!("{LISTENERS} listen"));
    let mut listeners = Vec::new();
    for number in 0..LISTENERS.div_ceil(LISTENERS_OF_ONE) {
        let (_, token) = session(story, number).await?;
        for _ in 0..LISTENERS_OF_ONE.min(LISTENERS - listeners.len()) {
            let mut stream = TcpStream::connect(&address)?;
            stream.set_read_timeout(Some(REST))?;
            write!(
                stream,
                "GET /v1/events HTTP/1.1\r\nHost: {address}\r\n\
                 Authorization: Bearer {token}\r\n\r\n"
            )?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            ensure!(head.ends_with(b"200"), "a listener is not let in");
            listeners.push(stream);
        }
    }
    tokio::time::sleep(REST).await;
    let (busy, after) = (idle(process).await?, resident_bytes(process)?);
    let how = "processor time of the daemon while nothing happens, sampled for 20 s";
    let figure = Figure::new(format!("api_events_{LISTENERS}_idle"), "%", busy, how);
    report.add(figure.against("without listeners", quiet));
    let each = (after.saturating_sub(before)) as f64 / 1024.0 / LISTENERS as f64;
    let how = "resident memory of the daemon that came with the listeners, for each";
    report.add(Figure::new(
        format!("api_events_{LISTENERS}_memory"),
        "KiB",
        each,
        how,
    ));
    report.measuring("one change");
    let before = processor_time(process)?;
    let (first, last) = told(story, &mut listeners)?;
    let spent = processor_time(process)?
        .saturating_sub(before)
        .as_secs_f64();
    let how = "processor time of the daemon while one change comes in and all are told, and they \
               are told over connections that are read one after the other";
    report.add(Figure::new(
        format!("api_events_{LISTENERS}_change"),
        "ms",
        spent * 1e3,
        how,
    ));
    let how = "from when the patient's command ended until the last listener has the change";
    let name = format!("api_events_{LISTENERS}_last_told");
    let figure = Figure::new(name, "s", last.as_secs_f64(), how);
    report.add(figure.against("the first listener", first.as_secs_f64()));
    Ok(())
}

/// The patient declines something; after how long the first and the last listener know of a change.
fn told(story: &Story, listeners: &mut [TcpStream]) -> anyhow::Result<(Duration, Duration)> {
    let (home, to) = (story.path_text("patient"), story.grantee()?);
    let decline = [
        "patient",
        "decline",
        "--home",
        &home,
        "--to",
        &to,
        "--purpose",
        PURPOSE,
    ];
    medsync(&decline)?.json()?;
    let (began, mut first) = (Instant::now(), None);
    for listener in listeners {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains("\"changed\"") {
            let mut part = [0; 4096];
            let length = listener.read(&mut part)?;
            ensure!(length > 0, "a listener was cut off");
            heard.extend_from_slice(&part[..length]);
        }
        first.get_or_insert(began.elapsed());
    }
    let last = began.elapsed();
    Ok((first.unwrap_or(last), last))
}

/// The share of one core that a process takes for a while.
async fn idle(process: u32) -> anyhow::Result<f64> {
    let (began, before) = (Instant::now(), processor_time(process)?);
    tokio::time::sleep(WATCHED).await;
    let used = processor_time(process)?.saturating_sub(before);
    Ok(100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64())
}
