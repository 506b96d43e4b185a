//! Deletes executions that ended before the retention period, and old signals, a few at a time (semantics E8, L15).

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
        let keeps_all = step.config.retention.is_none() && step.config.signal_retention.is_none();
        if keeps_all || step.is_stopping {
            return Monotonic::NEVER;
        }
        self.next
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let mut more = false;
        if let Some(retention) = step.config.retention {
            let before = step.now - micros(retention);
            more |= step.store.prune(before, BATCH)? == BATCH;
        }
        if let Some(retention) = step.config.signal_retention {
            let before = step.now - micros(retention);
            more |= step.store.prune_signals(before, BATCH)? == BATCH;
        }
        let pause = if more { PAUSE } else { INTERVAL };
        self.next = step.monotonic + pause;
        Ok(())
    }
}
