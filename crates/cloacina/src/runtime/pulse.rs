//! The heartbeats of a running attempt.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::types::{Micros, Monotonic};

/// Records the heartbeats that a task's function sends to show that it is making progress.
#[derive(Debug, Default)]
pub struct Pulse {
    beaten: AtomicBool,
    /// The time of the last check that found a heartbeat. Zero: no check has found a heartbeat.
    heard_at: AtomicI64,
    reported: AtomicBool,
}

impl Pulse {
    /// Records a heartbeat.
    pub fn beat(&self) {
        self.beaten.store(true, Ordering::Release);
    }

    /// Returns the time without a heartbeat, in microseconds, in the first call that finds that this time has reached the
    /// threshold. All other calls return `None`.
    pub(super) fn silence(
        &self,
        started: Monotonic,
        threshold: Micros,
        now: Monotonic,
    ) -> Option<Micros> {
        if self.beaten.swap(false, Ordering::AcqRel) {
            self.heard_at.store(now.0, Ordering::Release);
        }
        let heard_at = Monotonic(self.heard_at.load(Ordering::Acquire)).max(started);
        let silent = now.since(heard_at);
        (silent >= threshold && !self.reported.swap(true, Ordering::AcqRel)).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;
    const START: Monotonic = Monotonic(100 * SECOND);

    #[test]
    fn silent_attempt_is_reported_once() {
        let pulse = Pulse::default();
        let silence = |seconds| pulse.silence(START, 3 * SECOND, START + seconds * SECOND);
        assert_eq!(silence(2), None);
        assert_eq!(silence(3), Some(3 * SECOND));
        assert_eq!(silence(9), None);
    }

    #[test]
    fn heartbeat_resets_the_time_of_silence() {
        let pulse = Pulse::default();
        pulse.beat();
        let silence = |seconds| pulse.silence(START, 3 * SECOND, START + seconds * SECOND);
        assert_eq!(silence(4), None);
        assert_eq!(silence(6), None);
        assert_eq!(silence(7), Some(3 * SECOND));
    }
}
