//! Times that can be compared although the machine has other things to do.

use std::hint::black_box;
use std::time::{Duration, Instant};

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
