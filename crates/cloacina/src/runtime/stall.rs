//! Names tasks that run long without a sign of life, so that a program that hangs says where.
//!
//! The coordinator looks while it is awake anyway, from its own thread: a task that holds Python's interpreter lock, or a
//! future that never yields, cannot keep it from looking.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::assignment::{Executor, Running};
use super::micros;
use crate::types::{Micros, Timestamp};

/// How often running tasks are looked at.
const LOOK: Micros = 1_000_000;
/// So many tasks are named one by one at a look; of more there is one line.
const NAMED: usize = 8;

/// Signs of life of an attempt.
#[derive(Debug, Default)]
pub struct Pulse {
    beaten: AtomicBool,
    /// When a look found a sign of life; zero: never.
    heard_at: AtomicI64,
    told: AtomicBool,
}

impl Pulse {
    /// The task's function says that it goes on.
    pub fn beat(&self) {
        self.beaten.store(true, Ordering::Release);
    }

    /// How long the attempt has been silent, if that is over the threshold and was not told yet.
    fn silence(&self, started_at: Timestamp, threshold: Micros, now: Timestamp) -> Option<Micros> {
        if self.beaten.swap(false, Ordering::AcqRel) {
            self.heard_at.store(now.0, Ordering::Release);
        }
        let heard_at = Timestamp(self.heard_at.load(Ordering::Acquire)).max(started_at);
        let silent = now.since(heard_at);
        (silent >= threshold && !self.told.swap(true, Ordering::AcqRel)).then_some(silent)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a message")]
fn seconds(span: Micros) -> f64 {
    (span as f64 / 100_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn a_silent_attempt_is_told_once() {
        let pulse = Pulse::default();
        let started = Timestamp(100 * SECOND);
        assert_eq!(
            pulse.silence(started, 3 * SECOND, started + 2 * SECOND),
            None
        );
        assert_eq!(
            pulse.silence(started, 3 * SECOND, started + 3 * SECOND),
            Some(3 * SECOND)
        );
        assert_eq!(
            pulse.silence(started, 3 * SECOND, started + 9 * SECOND),
            None
        );
    }

    #[test]
    fn a_sign_of_life_counts_from_when_it_was_heard() {
        let pulse = Pulse::default();
        let started = Timestamp(100 * SECOND);
        pulse.beat();
        assert_eq!(
            pulse.silence(started, 3 * SECOND, started + 4 * SECOND),
            None
        );
        assert_eq!(
            pulse.silence(started, 3 * SECOND, started + 6 * SECOND),
            None
        );
        assert_eq!(
            pulse.silence(started, 3 * SECOND, started + 7 * SECOND),
            Some(3 * SECOND)
        );
    }
}
