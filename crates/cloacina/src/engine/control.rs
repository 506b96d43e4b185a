//! The actions of callers on an execution (cancel, pause, resume, retry), and its timeout (semantics D5–D7).

use super::history::erased_by_retry;
use super::{Changes, Execution};
use crate::types::{
    ExecutionStatus, Failure, FailureKind, HistoryKind, Json, Ordinal, Skip, SkipCause, TaskRecord,
    TaskStatus, Timestamp,
};

/// The error of an action that the execution's status does not allow. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlError {
    /// The reason.
    pub message: String,
    /// A hint at an action that is possible.
    pub hint: Option<&'static str>,
}

impl Execution {
    /// D6: ends the execution as `Cancelled`. No task of it starts afterwards, and results of running attempts are dropped.
    ///
    /// # Errors
    /// When it has ended, unless it was cancelled already.
    pub fn cancel(&mut self, now: Timestamp) -> Result<Changes, ControlError> {
        if self.record.status == ExecutionStatus::Cancelled {
            return Ok(Changes::default());
        }
        self.refuse_ended("cancel")?;
        let mut changes = Changes::default();
        self.interrupt_running(now, &mut changes);
        for ordinal in self.open_ordinals() {
            let task = self.task_mut(ordinal);
            task.status = TaskStatus::Cancelled;
            task.ended_at = Some(now);
            changes.touch(ordinal);
        }
        changes.record(now, HistoryKind::Cancelled, None, None);
        self.close(ExecutionStatus::Cancelled, now, &mut changes);
        Ok(changes)
    }

    /// D6: as [`cancel`](Self::cancel), but refused if the execution was cancelled already.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cancel_open(&mut self, now: Timestamp) -> Result<Changes, ControlError> {
        self.refuse_ended("cancel")?;
        self.cancel(now)
    }

    /// D5: ends the execution as `Failed` with a `WorkflowTimeoutError`. Changes nothing if its deadline is not due.
    pub fn time_out(&mut self, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        let due = self.record.deadline.is_some_and(|deadline| deadline <= now);
        if !due || self.record.status != ExecutionStatus::Running {
            return changes;
        }
        self.interrupt_running(now, &mut changes);
        for ordinal in self.open_ordinals() {
            let task = self.task_mut(ordinal);
            task.status = TaskStatus::Skipped;
            task.ended_at = Some(now);
            task.skip = Some(Skip {
                cause: SkipCause::Ended,
                reason: "the execution timed out".to_owned(),
            });
            changes.touch(ordinal);
        }
        let seconds = self.record.timeout.map_or_else(String::new, seconds_text);
        let name = self.workflow.name();
        let message = format!("workflow '{name}' did not end within its timeout of {seconds}");
        self.record.error = Some((None, Failure::engine(FailureKind::WorkflowTimeout, message)));
        changes.record(now, HistoryKind::TimedOut, None, None);
        self.close(ExecutionStatus::Failed, now, &mut changes);
        changes
    }

    /// D4: fails an attempt that overran its timeout. `None`: the task does not run under this claim.
    pub fn time_out_task(
        &mut self,
        ordinal: Ordinal,
        claim: crate::types::Claim,
        timeout: crate::types::Micros,
        limits: super::TaskLimits,
        now: Timestamp,
        random: f64,
    ) -> Option<Changes> {
        if !self.holds(ordinal, claim) {
            return None;
        }
        self.revert_probe(ordinal, false, limits);
        let mut changes = Changes::default();
        changes.touch(ordinal);
        changes.interrupted.push((ordinal, claim));
        let id = &self.definition(ordinal).id;
        let message = format!(
            "task '{id}' did not end within its timeout of {}",
            seconds_text(timeout)
        );
        let failure = Failure::engine(FailureKind::TaskTimeout, message);
        let policy = &self.definition(ordinal).retry;
        let attempt = self.counted_attempts(ordinal);
        let delay = super::should_retry(policy, &failure, attempt)
            .then(|| super::retry_delay(policy, attempt, random));
        self.fail_attempt(ordinal, claim, failure, delay, now, &mut changes);
        Some(changes)
    }

    /// D7: pauses the execution. Running attempts may finish, no other starts, and timers stop. Pausing twice changes nothing.
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&mut self, now: Timestamp) -> Result<Changes, ControlError> {
        let mut changes = Changes::default();
        self.refuse_ended("pause")?;
        if self.record.status == ExecutionStatus::Paused {
            return Ok(changes);
        }
        self.record.status = ExecutionStatus::Paused;
        self.record.paused_at = Some(now);
        for ordinal in self.ordinals_in(TaskStatus::Ready) {
            let task = self.task_mut(ordinal);
            task.status = TaskStatus::Pending;
            task.ready_at.get_or_insert(now);
            changes.touch(ordinal);
        }
        changes.record(now, HistoryKind::Paused, None, None);
        Ok(changes)
    }

    /// D7: ends a pause. Timers continue from where they stopped. Resuming an execution that is not paused changes nothing.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&mut self, now: Timestamp) -> Result<Changes, ControlError> {
        let mut changes = Changes::default();
        self.refuse_ended("resume")?;
        let Some(paused_at) = self.record.paused_at.take() else {
            return Ok(changes);
        };
        let held = now.since(paused_at).max(0);
        let is_claimed = |task: &TaskRecord| task.claim().is_some();
        let started = self.record.started_at.is_some() || self.record.tasks.iter().any(is_claimed);
        self.record.status = if started {
            ExecutionStatus::Running
        } else {
            ExecutionStatus::Pending
        };
        self.record.deadline = self.record.deadline.map(|deadline| deadline + held);
        let start_at = self.record.start_at;
        let mut undecided = Vec::new();
        for ordinal in self.ordinals_in(TaskStatus::Pending) {
            let Some(ready_at) = self.task(ordinal).ready_at else {
                undecided.push(ordinal);
                continue;
            };
            let task = self.task_mut(ordinal);
            task.status = TaskStatus::Ready;
            // A pause does not shift the start time that the caller asked for.
            let due = if task.attempt == 0 && start_at == Some(ready_at) {
                ready_at
            } else {
                ready_at + held
            };
            task.ready_at = Some(due).filter(|due| *due > now);
            changes.touch(ordinal);
            changes.ready.push(ordinal);
        }
        changes.record(now, HistoryKind::Resumed, None, None);
        undecided.reverse();
        self.propagate(undecided, now, &mut changes);
        Ok(changes)
    }

    /// D7: runs failed tasks, and those skipped because of them, again; with `from_task` also that task and its descendants.
    ///
    /// # Errors
    /// When it has not ended, was cancelled, or has no task to run again.
    pub fn retry(
        &mut self,
        from_task: Option<Ordinal>,
        now: Timestamp,
    ) -> Result<Changes, ControlError> {
        match self.record.status {
            ExecutionStatus::Completed | ExecutionStatus::Failed => {}
            ExecutionStatus::Cancelled => {
                return Err(self.control_error(
                    "was cancelled and cannot be retried",
                    Some("submit the workflow again"),
                ));
            }
            _ => {
                return Err(self.control_error(
                    "has not ended and cannot be retried",
                    Some("cancel it, or wait for its end"),
                ));
            }
        }
        let graph_workflow = std::sync::Arc::clone(&self.workflow);
        let graph = graph_workflow.graph();
        let mut rerun = vec![false; self.record.tasks.len()];
        for (index, task) in self.record.tasks.iter().enumerate() {
            let upstream = task
                .skip
                .as_ref()
                .is_some_and(|skip| skip.cause != SkipCause::Rule);
            rerun[index] =
                upstream || matches!(task.status, TaskStatus::Failed | TaskStatus::Cancelled);
        }
        for ordinal in from_task
            .iter()
            .flat_map(|task| graph.with_descendants(*task))
        {
            rerun[ordinal as usize] = true;
        }
        // The rule of a skipped task may hold after a task before it ran again.
        for ordinal in graph.order() {
            let skipped = self.task(*ordinal).status == TaskStatus::Skipped;
            let before = graph
                .dependencies(*ordinal)
                .iter()
                .any(|dependency| rerun[*dependency as usize]);
            rerun[*ordinal as usize] |= skipped && before;
        }
        if !rerun.contains(&true) {
            return Err(self.control_error(
                "completed without a failure: there is nothing to retry",
                Some("name a task with from_task to run it and its descendants again"),
            ));
        }
        let mut changes = Changes {
            revived: true,
            ..Changes::default()
        };
        let ids: Vec<&str> = graph
            .order()
            .iter()
            .filter(|task| rerun[**task as usize])
            .map(|task| graph_workflow.task(*task).id.as_str())
            .collect();
        let data = Json::encode(&serde_json::json!({ "tasks": ids })).ok();
        let ordinals = || (0..).zip(&rerun).filter(|(_, rerun)| **rerun);
        let erased = erased_by_retry(self, ordinals().map(|(ordinal, _)| ordinal));
        changes.history.extend(erased);
        changes.record(now, HistoryKind::Retried, None, data);
        for (ordinal, _) in ordinals() {
            let task = self.task_mut(ordinal);
            *task = TaskRecord {
                attempt: task.attempt,
                uncounted: task.attempt,
                stored: task.stored,
                ..TaskRecord::pending()
            };
            changes.touch(ordinal);
        }
        let started = self.record.started_at.is_some();
        self.record.status = if started {
            ExecutionStatus::Running
        } else {
            ExecutionStatus::Pending
        };
        self.record.ended_at = None;
        self.record.error = None;
        self.record.deadline = None;
        self.views.clear();
        self.count_open();
        let candidates: Vec<Ordinal> = graph
            .order()
            .iter()
            .rev()
            .copied()
            .filter(|task| rerun[*task as usize])
            .collect();
        self.propagate(candidates, now, &mut changes);
        Ok(changes)
    }

    fn refuse_ended(&self, verb: &str) -> Result<(), ControlError> {
        let status = self.record.status;
        if status.is_terminal() {
            return Err(self.control_error(
                &format!("has ended as {status}; there is nothing to {verb}"),
                None,
            ));
        }
        Ok(())
    }

    fn control_error(&self, what: &str, hint: Option<&'static str>) -> ControlError {
        ControlError {
            message: format!(
                "execution {} of workflow '{}' {what}",
                self.record.id,
                self.workflow.name()
            ),
            hint,
        }
    }

    fn interrupt_running(&mut self, now: Timestamp, changes: &mut Changes) {
        for ordinal in self.ordinals_in(TaskStatus::Running) {
            if let Some(claim) = self.task(ordinal).claim() {
                changes.interrupted.push((ordinal, claim));
            }
            let task = self.task_mut(ordinal);
            task.status = TaskStatus::Cancelled;
            task.runner = None;
            task.ended_at = Some(now);
            changes.touch(ordinal);
        }
    }

    fn close(&mut self, status: ExecutionStatus, now: Timestamp, changes: &mut Changes) {
        self.record.status = status;
        self.record.ended_at = Some(now);
        self.record.paused_at = None;
        self.count_open();
        changes.ended = true;
    }

    fn ordinals_in(&self, status: TaskStatus) -> Vec<Ordinal> {
        (0..)
            .zip(&self.record.tasks)
            .filter(|(_, task)| task.status == status)
            .map(|(ordinal, _)| ordinal)
            .collect()
    }

    fn open_ordinals(&self) -> Vec<Ordinal> {
        (0..)
            .zip(&self.record.tasks)
            .filter(|(_, task)| !task.status.is_terminal())
            .map(|(ordinal, _)| ordinal)
            .collect()
    }
}

/// Formats a time span for messages.
pub(super) fn seconds_text(span: crate::types::Micros) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let seconds = span as f64 / 1e6;
    format!("{seconds} s")
}
