//! A clock that tests advance, and a wait for a condition.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use cloacina::types::{Clock, Micros, Monotonic, Timestamp};

/// The maximum time that a test waits for a condition.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A wall clock and a monotonic clock that advance only when a test advances them.
#[derive(Default)]
pub struct HandClock {
    wall: AtomicI64,
    monotonic: AtomicI64,
}

impl HandClock {
    pub fn at(time: Timestamp) -> Self {
        let clock = Self::default();
        clock.pass(time.0);
        clock
    }

    /// Advances both clocks.
    pub fn pass(&self, span: Micros) {
        self.wall.fetch_add(span, Ordering::SeqCst);
        self.monotonic.fetch_add(span, Ordering::SeqCst);
    }

    /// Advances both clocks until the wall clock shows `time`.
    pub fn move_to(&self, time: Timestamp) {
        self.pass(time.since(self.now()));
    }

    /// Sets the wall clock forward or back by this time. The monotonic clock does not change.
    pub fn set(&self, by: Micros) {
        self.wall.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.monotonic.load(Ordering::SeqCst))
    }

    /// Returns the time until `due`, but at most a millisecond, because the test can advance the clock meanwhile.
    fn until(&self, due: Monotonic) -> Duration {
        let left = Duration::from_micros(u64::try_from(due.since(self.monotonic())).unwrap_or(0));
        left.min(Duration::from_millis(1))
    }
}

/// Calls `fact` repeatedly until it returns true. After `PATIENCE`, panics with a message that contains `what`.
pub fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "timed out waiting until {what}");
        std::thread::yield_now();
    }
}
