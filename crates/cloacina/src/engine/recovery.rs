//! The rescue of tasks whose runner is dead (semantics E2).

use super::{Changes, Execution, TaskLimits};
use crate::types::{Claim, Failure, FailureKind, HistoryKind, Json, Ordinal, RunnerId, Timestamp};

/// Number of lost runners after which a task is a suspect. If `max_rescues` is smaller, `max_rescues` applies instead. A
/// suspect may crash its process, so it is started alone.
const SUSPECT_AFTER: u32 = 2;

/// The rescue of an execution's tasks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovery {
    /// The changes to write.
    pub changes: Changes,
    /// The number of rescued tasks.
    pub rescued: u32,
}

/// Whether a task or an item that has lost `rescues` runners is a suspect, which must be started alone.
#[must_use]
pub const fn is_suspect(rescues: u32, limits: TaskLimits) -> bool {
    let least = if limits.max_rescues < SUSPECT_AFTER {
        limits.max_rescues
    } else {
        SUSPECT_AFTER
    };
    limits.max_rescues > 0 && rescues >= least
}

/// Returns `rescues` without the start that [`Execution::probe`] counted, because the suspect did not crash its
/// process. If the claim was returned (`is_released`), only limits the number to `max_rescues`.
pub(super) fn without_probe(rescues: u32, is_released: bool, limits: TaskLimits) -> u32 {
    if !is_suspect(rescues, limits) {
        rescues
    } else if is_released {
        // A suspect whose claim was returned may not have started, so `probe` may not have counted a start.
        rescues.min(limits.max_rescues)
    } else {
        (rescues - 1).max(SUSPECT_AFTER.min(limits.max_rescues))
    }
}

impl Execution {
    /// Takes back all claims that a dead runner holds on this execution. The lost attempts do not count for the retry
    /// policy. A task that has lost more than `max_rescues` runners fails. Once a task is a suspect, a loss counts only
    /// if the task had been started alone. So tasks that were lost together with a suspect do not fail. If
    /// `max_rescues` is 0, the first loss fails the task.
    pub fn rescue(&mut self, dead: RunnerId, limits: TaskLimits, now: Timestamp) -> Recovery {
        let mut recovery = Recovery::default();
        let lost: Vec<(Ordinal, Claim)> = (0..)
            .zip(&self.record.tasks)
            .filter_map(|(ordinal, task)| task.claim().map(|claim| (ordinal, claim)))
            .filter(|(_, claim)| claim.runner == dead)
            .collect();
        for (ordinal, claim) in lost {
            let data = serde_json::json!({ "started_at": self.task(ordinal).unrecorded_start() });
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
            // The loss of a suspect is not counted here. If the suspect was started, `probe` has already counted its start.
            // If it was not started, it did not crash the runner.
            task.rescues += u32::from(!is_suspect);
            if task.rescues > limits.max_rescues {
                let failure = self.runner_lost(ordinal, limits);
                self.fail_task(ordinal, failure, now, &mut recovery.changes);
            } else {
                self.forget_first_start(ordinal, &mut recovery.changes);
                self.make_ready(ordinal, 0, now, &mut recovery.changes);
            }
        }
        recovery
    }

    /// Whether a task is a suspect: it has lost `SUSPECT_AFTER` runners, or `max_rescues` if that is less. A suspect must be
    /// started alone, and [`Self::probe`] must count its start.
    #[must_use]
    pub fn is_suspect(&self, ordinal: Ordinal, limits: TaskLimits) -> bool {
        is_suspect(self.task(ordinal).rescues, limits)
    }

    /// Counts the start of a suspect. The count must be durable before the start, because the process may crash afterwards.
    pub fn probe(&mut self, ordinal: Ordinal, claim: Claim) -> Changes {
        let mut changes = Changes::default();
        if self.holds(ordinal, claim) {
            self.task_mut(ordinal).rescues += 1;
            changes.touch(ordinal);
        }
        changes
    }

    /// Reverts the count that [`Self::probe`] added, because the attempt did not crash its process.
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
