//! Maps past wall-clock times to instants of the monotonic clock, even if the wall clock was set in the meantime.
//!
//! The database stores wall-clock times. Timers that depend on such a time, for example the timeout of an execution,
//! must not fire early or late because the wall clock was set. A step is a jump of the wall clock that occurs when the
//! clock is set. Each step is recorded. A past time is mapped with the clock difference that was valid at that time.
//!
//! See docs/explanation/decisions/030-clocks.md

use crate::types::{Micros, Monotonic, Timestamp};

/// The smallest change, in microseconds, of the difference between the clocks that counts as a step. Smaller changes are drift.
const STEP: Micros = 1_000_000;
/// Maximum number of segments that are remembered.
const REMEMBERED: usize = 32;

/// A period during which the wall clock was not set.
struct Segment {
    from: Monotonic,
    /// The wall clock minus the monotonic clock, in microseconds.
    offset: Micros,
}

/// The recent history of the wall clock, as observed by this process.
pub(super) struct Timeline {
    /// The segments, oldest first. The list is never empty.
    segments: Vec<Segment>,
    /// The instant at which both clocks were last compared.
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

    /// Compares both clocks. If the wall clock was set since the last call, returns by how many microseconds.
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

    /// Whether this process has observed the clocks since an instant, so that it knows all steps since then.
    pub(super) fn covers(&self, instant: Monotonic) -> bool {
        self.segments
            .first()
            .is_some_and(|segment| segment.from <= instant)
    }

    /// The monotonic instant of a past wall-clock time. If the clock showed the time twice because it was set back, returns the
    /// later instant.
    pub(super) fn instant_of(&self, past: Timestamp) -> Monotonic {
        let mut end = self.latest;
        let mut nearest = None;
        for segment in self.segments.iter().rev() {
            let candidate = Monotonic(past.0.saturating_sub(segment.offset));
            if candidate >= segment.from && candidate <= end {
                return candidate;
            }
            // A time outside all segments was skipped by a step, precedes the first segment, or follows the last segment.
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

    /// The two clocks of a machine whose wall clock can be set.
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
    fn instant_is_unchanged_after_steps_forward_and_back() {
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
    fn skipped_time_maps_to_the_instant_of_the_step() {
        let mut machine = Machine::new();
        machine.pass(SECOND);
        let (wall, at_step) = (machine.wall, machine.monotonic);
        machine.set(HOUR);
        machine.pass(SECOND);
        assert_eq!(machine.timeline.instant_of(wall + HOUR / 2), at_step);
    }

    #[test]
    fn drift_is_not_a_step() {
        let mut machine = Machine::new();
        for _ in 0..100 {
            machine.wall = machine.wall + SECOND / 10;
            machine.pass(SECOND);
        }
        assert_eq!(machine.timeline.segments.len(), 1);
        assert_eq!(machine.timeline.instant_of(machine.wall), machine.monotonic);
    }
}
