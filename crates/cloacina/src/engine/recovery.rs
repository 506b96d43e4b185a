//! What the death of a runner means for the tasks it had (semantics E2).

use super::{Changes, Execution, TaskLimits};
use crate::types::{
    Claim, Failure, FailureKind, HistoryKind, Json, Ordinal, RunnerId, TaskStatus, Timestamp,
};

/// What was taken back from a dead runner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recovery {
    /// The rows to write.
    pub changes: Changes,
    /// Tasks taken back.
    pub rescued: u32,
}

impl Execution {
    /// Takes back every claim that a dead runner had on this execution. The lost attempts do not count for the retry
    /// policy; after `max_rescues` of them the task fails, since it may be what kills its runners.
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
            let task = self.task_mut(ordinal);
            task.rescues += 1;
            task.uncounted += 1;
            if task.rescues > limits.max_rescues {
                let id = &self.definition(ordinal).id;
                let message = format!(
                    "task '{id}' lost its runner {} times, more than max_rescues {}; it may be what ends the process",
                    self.task(ordinal).rescues,
                    limits.max_rescues
                );
                self.fail_task(
                    ordinal,
                    Failure::engine(FailureKind::RunnerLost, message),
                    now,
                    &mut recovery.changes,
                );
            } else {
                self.make_ready(ordinal, 0, now, &mut recovery.changes);
            }
        }
        recovery
    }

    /// Whether a runner has a claim here.
    #[must_use]
    pub fn is_claimed_by(&self, runner: RunnerId) -> bool {
        self.record
            .tasks
            .iter()
            .any(|task| task.status == TaskStatus::Running && task.runner == Some(runner))
    }

    /// The context of a claimed task (B2).
    pub fn view(&mut self, ordinal: Ordinal) -> std::sync::Arc<crate::types::Context> {
        self.views.view(&self.workflow, &self.record, ordinal)
    }

    /// The final context (B4).
    #[must_use]
    pub fn final_context(&self) -> crate::types::Context {
        super::view::final_context(&self.workflow, &self.record)
    }
}
