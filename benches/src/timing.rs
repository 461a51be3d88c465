//! Times that can be compared although the machine has other things to do.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};

/// How long a comparison goes on, however fast its parts are.
const BUDGET: Duration = Duration::from_millis(600);
/// How often each part runs, however slow it is.
const ROUNDS_MIN: u32 = 5;

/// What is read before and after.
#[derive(Clone, Copy)]
pub enum Clock {
    /// The time that this thread had a processor, whatever else the machine did.
    Thread,
    /// The time that passed, for what runs on several threads.
    Wall,
}

impl Clock {
    fn time(self, task: &mut dyn FnMut()) -> Duration {
        match self {
            Self::Thread => {
                let start = thread_time();
                task();
                thread_time().saturating_sub(start)
            }
            Self::Wall => {
                let start = Instant::now();
                task();
                start.elapsed()
            }
        }
    }
}

/// The time that this thread had a processor so far.
pub fn thread_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

/// The time that all threads of this process together had a processor so far.
pub fn process_time() -> Duration {
    time_of(ClockId::ProcessCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// The shortest time of each of several tasks, which run in turns: what else the machine does
/// hits all of them alike, and the shortest time is the one that it hit least.
pub fn shortest<const N: usize>(clock: Clock, mut tasks: [&mut dyn FnMut(); N]) -> [Duration; N] {
    let mut times = [Duration::MAX; N];
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < ROUNDS_MIN || start.elapsed() < BUDGET {
        for (task, time) in tasks.iter_mut().zip(&mut times) {
            *time = clock.time(task).min(*time);
        }
        rounds += 1;
    }
    times
}

/// Runs a function `count` times and keeps the compiler from leaving any of them out.
pub fn repeat<T>(count: usize, mut function: impl FnMut(usize) -> T) {
    for number in 0..count {
        black_box(function(black_box(number)));
    }
}

/// A time in nanoseconds, shared among `count`.
pub fn nanoseconds(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e9 / count as f64
}

/// A time in milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The processor time that a process took so far, in user and system mode.
pub fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is a name in brackets, which may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("a process has a name")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    let a_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// The memory that a process has, in bytes.
pub fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages = statm.split_whitespace().nth(1).context("statm has it")?;
    Ok(pages.parse::<u64>()? * rustix::param::page_size() as u64)
}
