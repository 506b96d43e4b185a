//! Deletes executions that ended before the retention period, a few at a time (semantics E8).

use super::duty::Duty;
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{Micros, Monotonic, micros};

/// Time between two searches for old executions, in microseconds.
const INTERVAL: Micros = 60_000_000;
/// The pause between two batches while more are left, in microseconds.
const PAUSE: Micros = 100_000;
/// Maximum number of executions that are deleted at once, which bounds the time for which other writes wait.
const BATCH: usize = 200;

/// The duty that deletes old executions.
#[derive(Default)]
pub(in crate::runtime) struct Pruner {
    next: Monotonic,
}

impl Duty for Pruner {
    const ACTION: &'static str = "delete old executions";

    fn next_wake(&self, step: &Step) -> Monotonic {
        if step.config.retention.is_none() || step.is_stopping {
            return Monotonic::NEVER;
        }
        self.next
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let Some(retention) = step.config.retention else {
            return Ok(());
        };
        let before = step.now - micros(retention);
        let pause = if step.store.prune(before, BATCH)? == BATCH {
            PAUSE
        } else {
            INTERVAL
        };
        self.next = step.monotonic + pause;
        Ok(())
    }
}
