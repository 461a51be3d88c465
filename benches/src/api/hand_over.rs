//! How long nobody leads when a leader of two replicas ends: until the other leads.

use std::time::{Duration, Instant};

use medsync_tests::replicas::{ENROLLED, Replicas};
use medsync_tests::story::{Story, wait_for};
use rustix::process::Signal;

use crate::report::{Figure, Report};

/// How often each is measured.
const TIMES: usize = 5;
/// How a leader ends; the first is what the others are compared with.
const ENDS: [(&str, &str, Signal); 3] = [
    ("told_to_end", "was told to end", Signal::TERM),
    ("killed", "was killed", Signal::KILL),
    ("asleep", "was stopped in its sleep", Signal::STOP),
];

/// Measures it on real parts.
pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    report.measuring("starting nodes, a devnet, PostgreSQL and two replicas");
    let mut story = Story::new()?;
    story.play_until(ENROLLED, &mut |_, _| Ok(()))?;
    let mut hospital = Replicas::of(story)?;
    let mut told = None;
    for (name, what, signal) in ENDS {
        let mut took = Vec::new();
        for time in 1..=TIMES {
            report.measuring(&format!("the leader {what}, {time} of {TIMES}"));
            took.push(once(&mut hospital, signal)?);
        }
        took.sort_unstable();
        let median = took[TIMES / 2].as_secs_f64();
        let how = format!(
            "two replicas over PostgreSQL on one machine; from the moment when the leader {what} \
             until the other says that it leads, the median of {TIMES}, the longest {:.1} s",
            took[TIMES - 1].as_secs_f64()
        );
        let figure = Figure::new(format!("api_hand_over_{name}"), "s", median, &how);
        report.add(figure.against("was told to end", *told.get_or_insert(median)));
    }
    Ok(())
}

/// The leader ends in a way, and comes back when the other leads.
fn once(hospital: &mut Replicas, signal: Signal) -> anyhow::Result<Duration> {
    let first = hospital.leader()?;
    let since = Instant::now();
    hospital.replicas[first].signal(signal)?;
    let took = hospital.led_by(1 - first, since)?;
    if signal == Signal::STOP {
        hospital.replicas[first].signal(Signal::CONT)?;
    } else {
        hospital.replicas[first].kill_and_restart()?;
    }
    wait_for("the first to see that it leads no more", || {
        Ok((!hospital.replicas[first].leads()).then_some(()))
    })?;
    Ok(took)
}
