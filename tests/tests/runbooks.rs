//! The runbooks of docs/OPERATING.md, as they are written there, in a hospital that runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use medsync::party::Party;
use medsync_tests::medsync::{medsync, program};
use medsync_tests::story::{Story, wait_for};
use tokio::runtime::Runtime;

const OPERATING: &str = include_str!(concat!(env!("MEDSYNC_ROOT"), "/docs/OPERATING.md"));
/// A consent is anchored.
const ANCHORED: usize = 12;
/// How long one runbook may take.
const SECONDS_MAX: &str = "300";

/// Stands in the place of systemd, which runs in no test: one service, `medsync up`.
const SYSTEMCTL: &str = r#"#!/bin/bash
set -eu
gone() { [[ ! -e /proc/$1/stat ]] || grep -q ') Z ' "/proc/$1/stat"; }
stop() {
    [[ -e $SERVICE.pid ]] || return 0
    local process; process="$(cat "$SERVICE.pid")"
    kill "$process" 2>/dev/null || true
    for _ in $(seq 600); do
        if gone "$process"; then rm "$SERVICE.pid"; return 0; fi
        sleep 0.2
    done
    exit 1
}
start() {
    nohup medsync up --config "$HOSPITAL/medsync.toml" </dev/null >>"$SERVICE.log" 2>&1 &
    echo $! >"$SERVICE.pid"
}
[[ $2 == medsync@hospital ]]
case $1 in
    start) start ;;
    stop) stop ;;
    restart) stop; start ;;
    *) exit 2 ;;
esac
"#;

/// Stands in the place of systemd's program that runs one command as a service does: with the
/// secret loaded as systemd loads it, readable by an access list that shows as its group's.
const SYSTEMD_RUN: &str = r#"#!/bin/bash
set -eu
for argument in "$@"; do
    case $argument in
        --quiet|--pipe|--wait|--collect) ;;
        --uid=medsync|--gid=medsync|--property=UMask=0077) ;;
        --property=LoadCredential=secret:/etc/medsync/hospital.secret) loads=yes ;;
        -*) echo "systemd-run knows no $argument" >&2; exit 2 ;;
        *) break ;;
    esac
    shift
done
[[ $loads == yes ]]
CREDENTIALS_DIRECTORY="$(mktemp -d)"
export CREDENTIALS_DIRECTORY
trap 'rm -rf "$CREDENTIALS_DIRECTORY"' EXIT
install -m 440 "$HOSPITAL.secret" "$CREDENTIALS_DIRECTORY/secret"
"$@"
"#;
/// What every shell begins with in which the others are typed.
const FIRST: &str = "First";

/// Each runbook's lines, by its title.
fn runbooks() -> BTreeMap<&'static str, &'static str> {
    let (_, section) = OPERATING.split_once("\n## Runbooks\n").expect("runbooks");
    let section = section.split("\n## ").next().unwrap_or(section);
    let each = section.split("\n### ").skip(1).map(|runbook| {
        let (title, rest) = runbook.split_once('\n').expect("a title");
        let (_, script) = rest.split_once("```sh\n").expect("lines to type");
        (title, script.split("```").next().unwrap_or(script))
    });
    each.collect()
}

/// The hospital as a service, and where its runbooks keep what they make.
struct Service<'a> {
    story: &'a Story,
    folder: PathBuf,
    circle: String,
}

impl<'a> Service<'a> {
    fn install(story: &'a Story) -> anyhow::Result<Self> {
        let folder = story.path("service");
        fs::create_dir_all(folder.join("backups"))?;
        for (name, script) in [("systemctl", SYSTEMCTL), ("systemd-run", SYSTEMD_RUN)] {
            let path = folder.join(name);
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self {
            story,
            circle: story.circle()?,
            folder,
        })
    }

    fn command(&self, program: &str) -> anyhow::Result<Command> {
        let programs = self::program("medsync")?;
        let programs = programs.parent().context("a folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{}:{path}", self.folder.display(), programs.display());
        let mut command = Command::new("timeout");
        command
            .args([SECONDS_MAX, program])
            .env("PATH", path)
            .env("HOSPITAL", self.story.path("hospital"))
            .env("CIRCLE", &self.circle)
            .env("BACKUPS", self.folder.join("backups"))
            .env("SERVICE", self.folder.join("medsync"));
        Ok(command)
    }

    fn systemctl(&self, what: &str) -> anyhow::Result<()> {
        let done = self.command("systemctl")?;
        let done = { done }.args([what, "medsync@hospital"]).status()?;
        ensure!(done.success(), "systemctl {what}: {done}");
        Ok(())
    }

    /// Does what a runbook says.
    fn walk(&self, title: &str) -> anyhow::Result<()> {
        let mut written = runbooks();
        let first = written.remove(FIRST).context("how commands are run")?;
        let script = written.remove(title).context("it is written")?;
        let script = format!("{first}{script}");
        let done = { self.command("bash")? }
            .args(["-euxc", &script])
            .output()?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{title}: {said}");
        println!("      {title}: done");
        Ok(())
    }

    /// Until nothing is under way, and everything fits.
    fn settle(&self) -> anyhow::Result<()> {
        let home = self.story.path_text("hospital");
        wait_for("everything to fit", || {
            let answer = medsync(&["fsck", "--home", &home])?;
            Ok((answer.code == 0).then_some(()))
        })
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        // A test that failed leaves no hospital behind.
        let _ = self.systemctl("stop");
    }
}

fn token(home: &Path) -> anyhow::Result<String> {
    Ok(fs::read_to_string(home.join("operator.token"))?)
}

fn walk_all(story: &mut Story) -> anyhow::Result<()> {
    story.end_hospital();
    let (service, home) = (Service::install(story)?, story.path("hospital"));
    service.systemctl("start")?;
    service.settle()?;
    let mut left: Vec<&str> = runbooks().into_keys().collect();
    left.retain(|title| *title != FIRST);
    let mut walk = |title: &str| {
        left.retain(|known| *known != title);
        service.walk(title)
    };
    walk("Every day")?;
    walk("The home is lost")?;
    let runtime = Runtime::new()?;
    let circle = service.circle.parse()?;
    runtime.block_on(async {
        let party = Party::open(&home).await?;
        party.store.raise_alarm(circle, "a test says so").await?;
        let row = party.store.circle(circle).await?;
        ensure!(row.alarm.is_some(), "it is stopped");
        anyhow::Ok(())
    })?;
    walk("A circle is stopped by an alarm")?;
    let before = token(&home)?;
    walk("The operator's token was seen by somebody")?;
    wait_for("another token", || {
        Ok(token(&home).ok().filter(|now| *now != before))
    })?;
    walk("Rows of the store were damaged, or nothing fits any more")?;
    walk("Another version")?;
    walk("Back to the version before")?;
    ensure!(left.is_empty(), "nobody walks through {left:?}");
    service.settle()
}

#[test]
fn the_runbooks_do_what_they_say() {
    let mut story = Story::new().expect("a folder");
    let walked = story
        .play_until(ANCHORED, &mut |_, _| Ok(()))
        .and_then(|()| walk_all(&mut story));
    if let Err(error) = walked {
        story.print_logs();
        panic!("{error:#}");
    }
}
