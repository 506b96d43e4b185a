//! A clock that tests move, and waiting for a fact.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use cloacina::types::{Clock, Micros, Monotonic, Timestamp};

/// How long a test waits for a fact before it fails.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The clocks of a machine. They stand still until a test moves them.
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

    /// Lets time pass.
    pub fn pass(&self, span: Micros) {
        self.wall.fetch_add(span, Ordering::SeqCst);
        self.monotonic.fetch_add(span, Ordering::SeqCst);
    }

    /// Lets time pass until the wall clock shows an instant.
    pub fn move_to(&self, time: Timestamp) {
        self.pass(time.since(self.now()));
    }

    /// Sets the wall clock forward, or back.
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

    /// Never long: the clock may be moved at any moment.
    fn until(&self, due: Monotonic) -> Duration {
        let left = Duration::from_micros(u64::try_from(due.since(self.monotonic())).unwrap_or(0));
        left.min(Duration::from_millis(1))
    }
}

/// Waits for a fact without a fixed sleep.
pub fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}
