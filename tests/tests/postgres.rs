//! A hospital of two replicas over one PostgreSQL database, on real parts: whatever dies or is cut
//! off, nothing is lost and nothing doubled.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::ensure;
use medsync_tests::endpoint::Fault;
use medsync_tests::replicas::{ENROLLED, HOMES, Replicas};
use medsync_tests::story::{Story, wait_for};
use rustix::process::Signal;

#[test]
fn hostile_world_around_two_replicas_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let mut story = Story::new()?;
    story.play_until(ENROLLED, &mut |_, _| Ok(()))?;
    let mut hospital = Replicas::of(story)?;
    let lived = live(&mut hospital);
    if lived.is_err() {
        hospital.story.print_logs();
        let log = fs::read_to_string(hospital.story.path(HOMES[1]).join("daemon.log"));
        eprintln!("--- {}\n{}", HOMES[1], log.unwrap_or_default());
    }
    lived
}

fn live(hospital: &mut Replicas) -> anyhow::Result<()> {
    hospital.grant()?;
    hospital.settle()?;
    killed_while_it_submits(hospital)?;
    the_database_restarts(hospital)?;
    sleeps_and_wakes(hospital)?;
    cut_off_and_back(hospital)?;
    ends_and_the_other_goes_on(hospital)?;
    hospital.settle()?;
    hospital.check()
}

/// Waits until this one leads, and says how long that took.
fn handed_over(hospital: &Replicas, to: usize, what: &str, since: Instant) -> anyhow::Result<()> {
    let took = hospital.led_by(to, since)?;
    println!("hand-over when {what}: {:.1} s", took.as_secs_f64());
    Ok(())
}

fn killed_while_it_submits(hospital: &mut Replicas) -> anyhow::Result<()> {
    const LAG: Duration = Duration::from_millis(800);
    let first = hospital.leader()?;
    hospital.endpoint.set(Some(Fault::Lags(LAG)));
    hospital.revoke()?;
    hospital.grant()?;
    wait_for("a batch that is on its way", || {
        Ok((hospital.batches(1 - first, "submitted")? > 0).then_some(()))
    })?;
    let since = Instant::now();
    hospital.replicas[first].signal(Signal::KILL)?;
    handed_over(hospital, 1 - first, "the leader was killed", since)?;
    hospital.endpoint.set(None);
    hospital.replicas[first].kill_and_restart()?;
    hospital.grant()?;
    hospital.settle()
}

fn the_database_restarts(hospital: &mut Replicas) -> anyhow::Result<()> {
    hospital.grant()?;
    let since = Instant::now();
    hospital.server.restart();
    println!(
        "the database restarted: {:.1} s",
        since.elapsed().as_secs_f64()
    );
    hospital.grant()?;
    hospital.settle()?;
    for replica in &mut hospital.replicas {
        ensure!(replica.is_running()?, "it needs no restart of its own");
    }
    Ok(())
}

/// A leader that sleeps past its lease wakes up in the middle of its rounds.
fn sleeps_and_wakes(hospital: &mut Replicas) -> anyhow::Result<()> {
    let first = hospital.leader()?;
    hospital.grant()?;
    let since = Instant::now();
    hospital.replicas[first].signal(Signal::STOP)?;
    hospital.revoke()?;
    handed_over(hospital, 1 - first, "the leader slept", since)?;
    hospital.grant()?;
    hospital.replicas[first].signal(Signal::CONT)?;
    leads_no_more(hospital, first)
}

/// Nothing of what a leader and its database say reaches the other; nor is a connection closed.
fn cut_off_and_back(hospital: &mut Replicas) -> anyhow::Result<()> {
    let first = hospital.leader()?;
    hospital.grant()?;
    let since = Instant::now();
    hospital.wires[first].cut();
    hospital.revoke()?;
    handed_over(hospital, 1 - first, "the leader was cut off", since)?;
    hospital.grant()?;
    hospital.wires[first].mend();
    leads_no_more(hospital, first)
}

fn leads_no_more(hospital: &mut Replicas, which: usize) -> anyhow::Result<()> {
    wait_for("it to see that it leads no more", || {
        Ok((!hospital.replicas[which].leads()).then_some(()))
    })?;
    hospital.grant()?;
    hospital.settle()?;
    ensure!(hospital.leader()? == 1 - which, "nobody took it back");
    ensure!(hospital.replicas[which].is_running()?, "it goes on");
    Ok(())
}

fn ends_and_the_other_goes_on(hospital: &mut Replicas) -> anyhow::Result<()> {
    let first = hospital.leader()?;
    let since = Instant::now();
    hospital.replicas[first].signal(Signal::TERM)?;
    handed_over(hospital, 1 - first, "the leader was stopped", since)?;
    hospital.grant()
}
