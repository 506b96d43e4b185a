//! Deletes old executions and signals, whose retention periods are over, in small batches (semantics E8, L15).

use super::duty::Duty;
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{Micros, Monotonic, Timestamp, micros};

/// Time between two searches for old executions, in microseconds.
const INTERVAL: Micros = 60_000_000;
/// The pause, in microseconds, between two batches while more old executions or signals remain.
const PAUSE: Micros = 100_000;
/// Maximum number of executions, and of signals, that one batch deletes. It limits the time for which other writes must wait.
const BATCH: usize = 200;

/// The duty that deletes old executions and signals.
#[derive(Default)]
pub(in crate::runtime) struct Pruner {
    next: Monotonic,
    /// While executions are deleted in several batches, the time before which they ended. All these batches use the same time.
    /// Otherwise further executions would reach the retention period between the batches, and the batches might never end.
    before: Option<Timestamp>,
}

impl Duty for Pruner {
    const ACTION: &'static str = "delete old executions and signals";

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
            let before = self.before.unwrap_or(step.now - micros(retention));
            // M8: the children of the deleted executions are deleted by the next call.
            let has_deleted = !step.store.prune(before, BATCH)?.is_empty();
            self.before = has_deleted.then_some(before);
            more |= has_deleted;
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
