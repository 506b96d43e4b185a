//! Maps wall-clock instants of the past to the monotonic clock, across steps of the wall clock.
//!
//! The database keeps wall-clock times. A timer that follows from one, such as the timeout of an execution, must neither
//! fire early nor late because somebody set the clock. So each step of the wall clock is noted, and an instant is mapped
//! with the offset that was in force when it passed.

use crate::types::{Micros, Monotonic, Timestamp};

/// The smallest difference between the two clocks that counts as a step. Smaller ones are drift.
const STEP: Micros = 1_000_000;
/// The number of steps that are remembered.
const REMEMBERED: usize = 32;

/// A stretch of time in which the wall clock did not step.
struct Segment {
    from: Monotonic,
    /// Wall clock minus monotonic clock.
    offset: Micros,
}

/// The recent history of the wall clock, as this process saw it.
pub(super) struct Timeline {
    /// Oldest first, never empty.
    segments: Vec<Segment>,
    /// The last instant at which both clocks were compared.
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

    /// Compares both clocks. Returns how far the wall clock stepped since the last call, if it did.
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

    /// Whether this process has watched the clock since an instant. If not, it does not know of steps in between.
    pub(super) fn covers(&self, instant: Monotonic) -> bool {
        self.segments
            .first()
            .is_some_and(|segment| segment.from <= instant)
    }

    /// The monotonic instant of a wall-clock instant that has passed. Where a step back made the clock show it twice, the
    /// later one.
    pub(super) fn instant_of(&self, past: Timestamp) -> Monotonic {
        let mut end = self.latest;
        let mut nearest = None;
        for segment in self.segments.iter().rev() {
            let candidate = Monotonic(past.0.saturating_sub(segment.offset));
            if candidate >= segment.from && candidate <= end {
                return candidate;
            }
            // An instant that no segment holds was skipped by a step, or lies outside all of them.
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
    fn b1_an_instant_keeps_its_place_when_the_clock_is_set_forward_and_back() {
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
    fn b1_an_instant_that_the_clock_skipped_is_that_of_the_step() {
        let mut machine = Machine::new();
        machine.pass(SECOND);
        let (wall, at_step) = (machine.wall, machine.monotonic);
        machine.set(HOUR);
        machine.pass(SECOND);
        assert_eq!(machine.timeline.instant_of(wall + HOUR / 2), at_step);
    }

    #[test]
    fn b1_drift_is_followed_and_is_not_a_step() {
        let mut machine = Machine::new();
        for _ in 0..100 {
            machine.wall = machine.wall + SECOND / 10;
            machine.pass(SECOND);
        }
        assert_eq!(machine.timeline.segments.len(), 1);
        assert_eq!(machine.timeline.instant_of(machine.wall), machine.monotonic);
    }
}
