//! Rescue of the tasks of a dead runner (semantics E2).

use super::{Changes, Execution, TaskLimits};
use crate::types::{Claim, Failure, FailureKind, HistoryKind, Json, Ordinal, RunnerId, Timestamp};

/// Number of rescues after which a task is started alone.
const SUSPECT_AFTER: u32 = 2;

/// The rescue of an execution's tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovery {
    /// The changes to write.
    pub changes: Changes,
    /// The number of rescued tasks.
    pub rescued: u32,
}

/// Whether a task or an item that lost this number of runners must be started alone.
#[must_use]
pub const fn is_suspect(rescues: u32, limits: TaskLimits) -> bool {
    let least = if limits.max_rescues < SUSPECT_AFTER {
        limits.max_rescues
    } else {
        SUSPECT_AFTER
    };
    limits.max_rescues > 0 && rescues >= least
}

/// Returns `rescues` without the start that [`Execution::probe`] counted, because the suspect did not crash its process.
pub(super) fn without_probe(rescues: u32, is_released: bool, limits: TaskLimits) -> u32 {
    if !is_suspect(rescues, limits) {
        rescues
    } else if is_released {
        // A released suspect may not have been started, so its start may not have been counted.
        rescues.min(limits.max_rescues)
    } else {
        (rescues - 1).max(SUSPECT_AFTER.min(limits.max_rescues))
    }
}

impl Execution {
    /// Takes back all claims of a dead runner on this execution. The lost attempts do not count for the retry policy. A task
    /// fails if it loses more than `max_rescues` runners, but only if it ran alone when it lost the last one. Tasks that ran
    /// at the same time as the suspect do not fail.
    pub fn rescue(&mut self, dead: RunnerId, limits: TaskLimits, now: Timestamp) -> Recovery {
        let mut recovery = Recovery::default();
        let lost: Vec<(Ordinal, Claim)> = (0..)
            .zip(&self.record.tasks)
            .filter_map(|(ordinal, task)| task.claim().map(|claim| (ordinal, claim)))
            .filter(|(_, claim)| claim.runner == dead)
            .collect();
        for (ordinal, claim) in lost {
            let data = serde_json::json!({ "started_at": self.task(ordinal).started_at });
            recovery.changes.record(
                now,
                HistoryKind::TaskRescued,
                Some((ordinal, claim)),
                Json::encode(&data).ok(),
            );
            recovery.rescued += 1;
            let is_suspect = self.is_suspect(ordinal, limits);
            let task = self.task_mut(ordinal);
            task.uncounted += 1;
            // `probe` has counted the start of a suspect. A suspect that was claimed but not started is not the cause.
            task.rescues += u32::from(!is_suspect);
            if task.rescues > limits.max_rescues {
                let failure = self.runner_lost(ordinal, limits);
                self.fail_task(ordinal, failure, now, &mut recovery.changes);
            } else {
                self.make_ready(ordinal, 0, now, &mut recovery.changes);
            }
        }
        recovery
    }

    /// Whether a claimed task must be started alone, after [`Self::probe`], because it lost `SUSPECT_AFTER` runners, or the
    /// maximum number if that is less.
    #[must_use]
    pub fn is_suspect(&self, ordinal: Ordinal, limits: TaskLimits) -> bool {
        is_suspect(self.task(ordinal).rescues, limits)
    }

    /// Counts the start of a suspect. The count must be durable before the start, so that it survives the process.
    pub fn probe(&mut self, ordinal: Ordinal, claim: Claim) -> Changes {
        let mut changes = Changes::default();
        if self.holds(ordinal, claim) {
            self.task_mut(ordinal).rescues += 1;
            changes.touch(ordinal);
        }
        changes
    }

    /// Reverts the count of a suspect's start, because the attempt did not crash its process.
    pub(super) fn revert_probe(&mut self, ordinal: Ordinal, is_released: bool, limits: TaskLimits) {
        let task = self.task_mut(ordinal);
        task.rescues = without_probe(task.rescues, is_released, limits);
    }

    fn runner_lost(&self, ordinal: Ordinal, limits: TaskLimits) -> Failure {
        let id = &self.definition(ordinal).id;
        let TaskLimits { max_rescues, .. } = limits;
        let message = if max_rescues == 0 {
            format!(
                "task '{id}' lost its runner, and max_rescues is 0; the task may be crashing the process"
            )
        } else {
            format!(
                "task '{id}' lost its runner {} times, more than max_rescues {max_rescues}, the last time while it ran alone; \
                 the task is probably crashing the process",
                self.task(ordinal).rescues
            )
        };
        Failure::engine(FailureKind::RunnerLost, message)
    }

    /// The context that a task sees (B2).
    pub fn view(&mut self, ordinal: Ordinal) -> std::sync::Arc<crate::types::Context> {
        self.views.view(&self.workflow, &self.record, ordinal)
    }

    /// The final context (B4).
    #[must_use]
    pub fn final_context(&self) -> crate::types::Context {
        super::view::final_context(&self.workflow, &self.record)
    }
}
