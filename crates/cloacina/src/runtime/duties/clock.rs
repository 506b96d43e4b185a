//! Notes steps of the wall clock, so that timers which follow from stored times keep their place.

use super::duty::Duty;
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::Monotonic;

#[derive(Default)]
pub(in crate::runtime) struct ClockWatch;

impl Duty for ClockWatch {
    const ACTION: &'static str = "watch the wall clock";

    /// In every turn.
    fn next_wake(&self, step: &Step) -> Monotonic {
        step.monotonic
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if let Some(stepped) = step.timeline.note(step.now, step.monotonic) {
            tracing::warn!(
                "the wall clock was set {} by {} s; running tasks and leases are not affected",
                if stepped > 0 { "forward" } else { "back" },
                stepped.abs() / 1_000_000
            );
            // What is due by the wall clock may be due now.
            step.signals.raise_schedules();
            step.capacity.set_stale();
        }
        Ok(())
    }
}
