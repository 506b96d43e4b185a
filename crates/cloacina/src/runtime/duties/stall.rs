//! Logs tasks that have run for a long time without a sign of life, so that the log shows where a program hangs.
//!
//! The check is part of the coordinator's steps. A step needs neither Python's interpreter lock nor a thread that
//! polls the futures of tasks. So the check works even if a task holds the lock, or if a future never yields.
//!
//! See docs/explanation/decisions/037-stalled-tasks.md

use super::duty::Duty;
use crate::runtime::assignment::{Executor, Running};
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{Micros, Monotonic, micros};

/// Time between two checks of the running tasks, in microseconds.
const INTERVAL: Micros = 1_000_000;
/// Maximum number of tasks that one check names in the log. Further tasks are only counted.
const NAMED: usize = 8;

/// The duty that logs stalled tasks.
#[derive(Default)]
pub(in crate::runtime) struct StallDetector {
    next: Monotonic,
}

impl Duty for StallDetector {
    const ACTION: &'static str = "check for stalled tasks";

    /// Returns `NEVER` until a check is due. Checks need no timer, because heartbeats wake the coordinator often enough.
    fn next_wake(&self, step: &Step) -> Monotonic {
        if self.next <= step.monotonic {
            self.next
        } else {
            Monotonic::NEVER
        }
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        self.next = step.monotonic + INTERVAL;
        let threshold = micros(step.config.stall_threshold());
        let mut stalled: Vec<(Micros, Running)> = Vec::new();
        for executor in Executor::ALL {
            for attempt in step.capacity.queues().of(executor).running() {
                let silent = attempt
                    .pulse
                    .silence(attempt.started, threshold, step.monotonic);
                stalled.extend(silent.map(|silent| (silent, attempt)));
            }
        }
        let more = stalled.len().saturating_sub(NAMED);
        for (silent, attempt) in stalled.iter().take(NAMED) {
            let task = &attempt.workflow.task(attempt.task).id;
            tracing::warn!(
                workflow = attempt.workflow.name(),
                task = %task,
                execution_id = %attempt.execution,
                attempt = attempt.claim.attempt,
                "task '{task}' of workflow '{}' has run for {} s without a sign of life (stall_threshold is {} s); it keeps its \
                 claim. A long task can call handle.heartbeat() or handle.set_progress() to show that it is alive",
                attempt.workflow.name(),
                seconds(*silent),
                seconds(threshold),
            );
        }
        if more > 0 {
            tracing::warn!(
                tasks = more,
                "{more} more tasks have run for longer than stall_threshold without a sign of life"
            );
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a message")]
fn seconds(span: Micros) -> f64 {
    (span as f64 / 100_000.0).round() / 10.0
}
