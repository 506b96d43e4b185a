//! Registers the runner, and extends its lease (semantics E1, E4).

use super::duty::Duty;
use crate::runtime::peers::PROOF_INTERVAL;
use crate::runtime::process;
use crate::runtime::step::{Signal, Step};
use crate::store::{RunnerRow, StoreError};
use crate::types::{Monotonic, micros};

/// The duty that sends heartbeats.
#[derive(Default)]
pub(in crate::runtime) struct Heartbeat {
    next: Monotonic,
    sent_at: Monotonic,
}

impl Heartbeat {
    /// Adds the runner's row to the database.
    pub(in crate::runtime) fn register(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let (pid, pid_started) = process::current();
        step.store.register_runner(&RunnerRow {
            id: step.runner,
            host: process::host(),
            pid,
            pid_started,
            started_at: step.now,
            heartbeat_at: step.now,
            lease_until: step.now + step.lease(),
            workflows: step.registry.registered(),
        })?;
        step.signals.take(Signal::Register);
        self.next = step.monotonic + micros(step.config.heartbeat_interval);
        Ok(())
    }
}

impl Duty for Heartbeat {
    const ACTION: &'static str = "send heartbeats";
    const IS_ESSENTIAL: bool = true;

    fn next_wake(&self, step: &Step) -> Monotonic {
        if step.signals.is_raised(Signal::Register) {
            return step.monotonic;
        }
        if step.signals.is_raised(Signal::ProveLife) {
            return self.next.min(self.sent_at + PROOF_INTERVAL);
        }
        self.next
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if step.signals.is_raised(Signal::Register) {
            return self.register(step);
        }
        let lease_until = step.now + step.lease();
        if !step.store.heartbeat(step.runner, step.now, lease_until)? {
            return Err(StoreError::RunnerLost);
        }
        step.signals.take(Signal::ProveLife);
        self.sent_at = step.monotonic;
        self.next = step.monotonic + micros(step.config.heartbeat_interval);
        Ok(())
    }
}
