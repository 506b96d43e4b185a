//! Maps wall-clock instants of the past to the monotonic clock, across steps of the wall clock.
//!
//! The database stores wall-clock times. A timer that depends on such a time, for example the timeout of an execution, must not
//! fire early or late because the clock was set. So each step of the wall clock is noted, and an instant is mapped with the
//! offset that was in force at that instant.
//!
//! See docs/explanation/decisions/030-clocks.md

use crate::types::{Micros, Monotonic, Timestamp};

/// The smallest difference between the two clocks that counts as a step. Smaller differences are drift.
const STEP: Micros = 1_000_000;
/// Maximum number of steps that are remembered.
const REMEMBERED: usize = 32;

/// A period in which the wall clock did not step.
struct Segment {
    from: Monotonic,
    /// Wall clock minus monotonic clock.
    offset: Micros,
}

/// The recent history of the wall clock, as observed by this process.
pub(super) struct Timeline {
    /// Oldest first, never empty.
    segments: Vec<Segment>,
    /// The instant of the last comparison of both clocks.
    latest: Monotonic,
}

impl Timeline {
    pub(super) fn new(now: Timestamp, monotonic: Monotonic) -> Self {
        let offset = now.0.saturating_sub(monotonic.0);
        Self {
            segments: vec![Segment {
                from: monotonic,
                offset,
            }],
            latest: monotonic,
        }
    }

    /// Compares both clocks. Returns by how much the wall clock stepped since the last call, if it did.
    pub(super) fn note(&mut self, now: Timestamp, monotonic: Monotonic) -> Option<Micros> {
        self.latest = monotonic;
        let offset = now.0.saturating_sub(monotonic.0);
        let last = self.segments.last_mut()?;
        let stepped = offset.saturating_sub(last.offset);
        if stepped.abs() < STEP {
            last.offset = offset;
            return None;
        }
        if self.segments.len() == REMEMBERED {
            self.segments.remove(0);
        }
        self.segments.push(Segment {
            from: monotonic,
            offset,
        });
        Some(stepped)
    }

    /// Whether this process has observed the clock since an instant, so that it knows all steps since.
    pub(super) fn covers(&self, instant: Monotonic) -> bool {
        self.segments
            .first()
            .is_some_and(|segment| segment.from <= instant)
    }

    /// The monotonic instant of a past wall-clock time. If a step back made the clock show the time twice, returns the later
    /// instant.
    pub(super) fn instant_of(&self, past: Timestamp) -> Monotonic {
        let mut end = self.latest;
        let mut nearest = None;
        for segment in self.segments.iter().rev() {
            let candidate = Monotonic(past.0.saturating_sub(segment.offset));
            if candidate >= segment.from && candidate <= end {
                return candidate;
            }
            // A time outside all segments was skipped by a step, or precedes the first or follows the last segment.
            if candidate >= segment.from && nearest.is_none() && end < self.latest {
                nearest = Some(end);
            }
            end = segment.from;
        }
        let outside = |segment: Option<&Segment>| {
            Monotonic(
                past.0
                    .saturating_sub(segment.map_or(0, |segment| segment.offset)),
            )
        };
        let newest = outside(self.segments.last());
        nearest.unwrap_or_else(|| {
            if newest > self.latest {
                newest
            } else {
                outside(self.segments.first())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;
    const HOUR: Micros = 3_600 * SECOND;

    /// Both clocks of a machine whose wall clock can be set.
    struct Machine {
        wall: Timestamp,
        monotonic: Monotonic,
        timeline: Timeline,
    }

    impl Machine {
        fn new() -> Self {
            let (wall, monotonic) = (Timestamp(1_800_000_000 * SECOND), Monotonic(7 * SECOND));
            let timeline = Timeline::new(wall, monotonic);
            Self {
                wall,
                monotonic,
                timeline,
            }
        }

        fn pass(&mut self, span: Micros) {
            self.wall = self.wall + span;
            self.monotonic = self.monotonic + span;
            self.timeline.note(self.wall, self.monotonic);
        }

        fn set(&mut self, by: Micros) {
            self.wall = self.wall + by;
            let stepped = self.timeline.note(self.wall, self.monotonic);
            assert_eq!(stepped, Some(by));
        }
    }

    #[test]
    fn b1_instant_is_unchanged_after_steps_forward_and_back() {
        let mut machine = Machine::new();
        let (began, began_monotonic) = (machine.wall, machine.monotonic);
        machine.pass(10 * SECOND);
        machine.set(HOUR);
        machine.pass(10 * SECOND);
        assert_eq!(machine.timeline.instant_of(began), began_monotonic);
        let (later, later_monotonic) = (machine.wall, machine.monotonic);
        machine.set(-HOUR);
        machine.pass(10 * SECOND);
        assert_eq!(machine.timeline.instant_of(later), later_monotonic);
        assert_eq!(machine.timeline.instant_of(machine.wall), machine.monotonic);
    }

    #[test]
    fn b1_skipped_time_maps_to_the_instant_of_the_step() {
        let mut machine = Machine::new();
        machine.pass(SECOND);
        let (wall, at_step) = (machine.wall, machine.monotonic);
        machine.set(HOUR);
        machine.pass(SECOND);
        assert_eq!(machine.timeline.instant_of(wall + HOUR / 2), at_step);
    }

    #[test]
    fn b1_drift_is_not_a_step() {
        let mut machine = Machine::new();
        for _ in 0..100 {
            machine.wall = machine.wall + SECOND / 10;
            machine.pass(SECOND);
        }
        assert_eq!(machine.timeline.segments.len(), 1);
        assert_eq!(machine.timeline.instant_of(machine.wall), machine.monotonic);
    }
}
