//! Detects when the wall clock is set forward or back, so that timers with stored due times fire neither too early nor
//! too late.

use super::duty::Duty;
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::Monotonic;

/// The duty that detects when the wall clock is set forward or back.
#[derive(Default)]
pub(in crate::runtime) struct ClockWatch;

impl Duty for ClockWatch {
    const ACTION: &'static str = "watch the wall clock";

    /// This duty is due in every turn.
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
            // Schedules and tasks with a due time may now be due.
            step.signals.raise_schedules();
            step.capacity.set_stale();
        }
        Ok(())
    }
}
