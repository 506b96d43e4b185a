//! Names tasks that run long without a sign of life, so that a program that hangs says where.
//!
//! The coordinator looks while it is awake anyway, from its own thread: a task that holds Python's interpreter lock, or a
//! future that never yields, cannot keep it from looking.

use super::assignment::{Executor, Running};
use super::coordinator::Coordinator;
use super::submitting::micros;
use crate::types::{Micros, Timestamp};

/// How often running tasks are looked at.
const LOOK: Micros = 1_000_000;
/// So many tasks are named one by one at a look; of more there is one line.
const NAMED: usize = 8;

impl Coordinator {
    /// Names each task once that has run for longer than the threshold without a sign of life.
    pub(super) fn look_for_stalls(&mut self, now: Timestamp) {
        if now < self.next_stall_look {
            return;
        }
        self.next_stall_look = now + LOOK;
        let monotonic = self.clock.monotonic();
        let threshold = micros(self.config.stall_threshold());
        let mut stalled: Vec<(Micros, Running)> = Vec::new();
        for executor in Executor::ALL {
            for running in self.queues.of(executor).running() {
                let silent = (running.pulse).silence(running.started, threshold, monotonic);
                stalled.extend(silent.map(|silent| (silent, running)));
            }
        }
        let more = stalled.len().saturating_sub(NAMED);
        for (silent, running) in stalled.iter().take(NAMED) {
            tracing::warn!(
                workflow = running.workflow.name(),
                task = %running.workflow.task(running.task).id,
                execution_id = %running.execution,
                attempt = running.claim.attempt,
                "task '{}' of workflow '{}' has run for {} s without a sign of life (stall_threshold is {} s); it keeps its \
                 claim. A long task tells that it goes on with handle.heartbeat() or handle.set_progress()",
                running.workflow.task(running.task).id,
                running.workflow.name(),
                seconds(*silent),
                seconds(threshold),
            );
        }
        if more > 0 {
            tracing::warn!(
                tasks = more,
                "so many more tasks have run for longer than stall_threshold without a sign of life"
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a message")]
fn seconds(span: Micros) -> f64 {
    (span as f64 / 100_000.0).round() / 10.0
}
