//! Actions of callers on an execution (cancel, pause, resume, retry), and timeouts (semantics D4–D7).

use std::sync::Arc;

use super::history::erased_by_retry;
use super::rerun::Rerun;
use super::{Changes, Execution};
use crate::types::{
    ExecutionStatus, Failure, FailureKind, HistoryKind, Json, Note, Ordinal, Pause, Skip,
    SkipCause, StepDrop, TaskRecord, TaskStatus, Timestamp,
};

/// The error of an action that the execution's state does not allow. The action changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlError {
    /// The reason.
    pub message: String,
    /// A hint that names a possible action.
    pub hint: Option<&'static str>,
}

impl Execution {
    /// D6: ends the execution as `Cancelled`. None of its tasks starts afterwards, and results of running attempts are dropped.
    /// Cancelling a cancelled execution changes nothing.
    ///
    /// # Errors
    /// Returns an error if the execution has completed or failed.
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
            task.runner = task.runner.filter(|_| task.started_at.is_some());
            task.ended_at = Some(now);
            changes.touch(ordinal);
            self.close_wait(ordinal, &mut changes);
        }
        changes.record(now, HistoryKind::Cancelled, None, None);
        self.count_open();
        self.close(ExecutionStatus::Cancelled, now, &mut changes);
        Ok(changes)
    }

    /// D6: like [`cancel`](Self::cancel), but refuses an execution that is already cancelled.
    ///
    /// # Errors
    /// Returns an error if the execution has ended.
    pub fn cancel_open(&mut self, now: Timestamp) -> Result<Changes, ControlError> {
        self.refuse_ended("cancel")?;
        self.cancel(now)
    }

    /// D5: ends the execution as `Failed` with a `WorkflowTimeoutError`. Changes nothing if the execution is not
    /// running or its deadline has not passed.
    pub fn time_out(&mut self, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        let due = self.record.deadline.is_some_and(|deadline| deadline <= now);
        if !due || self.record.status != ExecutionStatus::Running {
            return changes;
        }
        self.interrupt_running(now, &mut changes);
        for ordinal in self.open_ordinals() {
            let is_running_map = self.has_open_map(ordinal);
            let task = self.task_mut(ordinal);
            task.ended_at = Some(now);
            if is_running_map {
                task.status = TaskStatus::Cancelled;
            } else {
                task.status = TaskStatus::Skipped;
                task.skip = Some(Skip {
                    cause: SkipCause::Ended,
                    reason: "the execution timed out".to_owned(),
                });
            }
            changes.touch(ordinal);
            self.close_wait(ordinal, &mut changes);
        }
        let seconds = self.record.timeout.map_or_else(String::new, seconds_text);
        let name = self.workflow.name();
        let message = format!("workflow '{name}' did not end within its timeout of {seconds}");
        self.record.error = Some((None, Failure::engine(FailureKind::WorkflowTimeout, message)));
        changes.record(now, HistoryKind::TimedOut, None, None);
        self.count_open();
        self.close(ExecutionStatus::Failed, now, &mut changes);
        changes
    }

    /// Whether the execution has ended because of its timeout.
    #[must_use]
    pub fn has_timed_out(&self) -> bool {
        let error = self.record.error.as_ref();
        error.is_some_and(|(task, failure)| {
            task.is_none() && failure.kind == FailureKind::WorkflowTimeout.type_name()
        })
    }

    /// D4: fails an attempt that overran its timeout. Returns `None` if the task does not run under this claim.
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
        self.note_overrun(ordinal, claim, &mut changes);
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

    /// D7: pauses the execution. Running attempts can finish, no further attempt starts, and timers stop. Pausing a paused
    /// execution changes nothing.
    ///
    /// # Errors
    /// Returns an error if the execution has ended.
    pub fn pause(&mut self, now: Timestamp) -> Result<Changes, ControlError> {
        let mut changes = Changes::default();
        self.refuse_ended("pause")?;
        if self.record.status == ExecutionStatus::Paused {
            return Ok(changes);
        }
        self.record.status = ExecutionStatus::Paused;
        // If this runner's clock is slow, `now` can be earlier than recorded events. The pause would then be too long, and the
        // resume would move timers too far.
        self.record.paused_at = Some(now.max(self.last_time()));
        for ordinal in self.ordinals_in(TaskStatus::Ready) {
            self.post_to_child(ordinal, Note::Pause, &mut changes);
            self.pause_map(ordinal, &mut changes);
            let task = self.task_mut(ordinal);
            task.status = TaskStatus::Pending;
            task.ready_at.get_or_insert(now);
            changes.touch(ordinal);
        }
        changes.record(now, HistoryKind::Paused, None, None);
        Ok(changes)
    }

    /// The latest recorded time of the creation or the start of the execution, or of the start or the end of an attempt.
    fn last_time(&self) -> Timestamp {
        let of_tasks = self.record.tasks.iter();
        of_tasks
            .flat_map(|task| [task.started_at, task.ended_at])
            .chain([self.record.started_at])
            .flatten()
            .fold(self.record.created_at, Ord::max)
    }

    /// D7: ends a pause. Timers continue from where they stopped. Resuming an execution that is not paused changes nothing.
    ///
    /// # Errors
    /// Returns an error if the execution has ended.
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
            if self.task(ordinal).is_waiting() {
                let pause = Pause {
                    since: paused_at,
                    held,
                };
                self.resume_wait(ordinal, pause, now, &mut changes);
                continue;
            }
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
        self.forget_pause_of_parent(&mut changes);
        changes.record(now, HistoryKind::Resumed, None, None);
        undecided.reverse();
        self.propagate(undecided, now, &mut changes);
        Ok(changes)
    }

    /// D7: runs the failed and cancelled tasks of an ended execution again, and the tasks that were skipped because of a
    /// failure or a timeout. With `from_task`, also runs that task and its descendants again.
    ///
    /// # Errors
    /// Returns an error if the execution has not ended, was cancelled, has open final tasks (Q5), or has no task to run
    /// again.
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
                    Some("wait for its end"),
                ));
            }
        }
        let graph_workflow = std::sync::Arc::clone(&self.workflow);
        let graph = graph_workflow.graph();
        let restarted: Vec<Ordinal> = from_task
            .iter()
            .flat_map(|task| graph.with_descendants(*task))
            .collect();
        self.refuse_open_finale()?;
        if !self.rerun_by_retry(&restarted).contains(&true) {
            return Err(self.control_error(
                "completed without a failure: there is nothing to retry",
                Some("name a task with from_task to run it and its descendants again"),
            ));
        }
        let Rerun {
            runs: rerun,
            starts_anew,
            waits_again,
            undone,
        } = self.plan_rerun(&restarted);
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
        changes.flow.steps.dropped = self.steps_to_drop(from_task);
        let dropped: Vec<Ordinal> = (changes.flow.steps.dropped.iter())
            .map(|drop| drop.task)
            .collect();
        let undone_only = undone.iter().filter(|task| !dropped.contains(task));
        (changes.flow.steps.dropped).extend(undone_only.map(|task| StepDrop::from(*task, 0)));
        for ordinal in restarted.iter().chain(&undone) {
            self.cancel_earlier_child(*ordinal, &mut changes);
        }
        for (ordinal, _) in ordinals() {
            if !starts_anew[ordinal as usize] {
                (changes.flow.steps.dropped).extend(self.failed_runs_to_drop(ordinal));
            }
            self.reset(ordinal, waits_again[ordinal as usize], &mut changes);
        }
        self.leave_final_tasks(&mut changes);
        self.record.status = match self.record.started_at {
            Some(_) => ExecutionStatus::Running,
            None => ExecutionStatus::Pending,
        };
        self.record.ended_at = None;
        self.record.error = None;
        self.record.deadline = None;
        self.restore_timeout(&mut changes);
        self.final_state = None;
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

    /// Resets a task, so that it can run again. The task keeps its attempt number and the part of its wait data that
    /// [`wait_kept`](Self::wait_kept) returns.
    fn reset(&mut self, ordinal: Ordinal, waits_again: bool, changes: &mut Changes) {
        let mut wait = self.wait_kept(ordinal, waits_again);
        if self.was_compensated(ordinal) {
            Arc::make_mut(wait.get_or_insert_default()).compensated += 1;
        }
        if wait.is_some() {
            changes.flow.waits.insert(ordinal);
        }
        // A wait or an approval that does not wait again completes with its earlier result.
        let keeps_result = !waits_again && self.only_waits_at(ordinal);
        let task = self.task_mut(ordinal);
        let is_completed = task.status == TaskStatus::Completed;
        *task = TaskRecord {
            delta: task.delta.take().filter(|_| keeps_result && is_completed),
            attempt: task.attempt,
            uncounted: task.attempt,
            stored: task.stored,
            wait,
            ..TaskRecord::pending()
        };
        changes.touch(ordinal);
    }

    /// D7: like [`retry`](Self::retry), but changes nothing if the execution is open, for example because it has
    /// already been retried.
    ///
    /// # Errors
    /// Returns an error if the execution was cancelled, has open final tasks (Q5), or has no task to run again.
    pub fn retry_ended(
        &mut self,
        from_task: Option<Ordinal>,
        now: Timestamp,
    ) -> Result<Changes, ControlError> {
        if self.record.status.is_terminal() {
            self.retry(from_task, now)
        } else {
            Ok(Changes::default())
        }
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

    pub(super) fn control_error(&self, what: &str, hint: Option<&'static str>) -> ControlError {
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
            task.ended_at = Some(now);
            changes.touch(ordinal);
        }
    }

    /// M3, Q1: ends the execution, notifies its parent, and requests its final tasks. This is the only function that ends an
    /// execution.
    pub(super) fn close(&mut self, status: ExecutionStatus, now: Timestamp, changes: &mut Changes) {
        self.record.status = status;
        self.record.ended_at = Some(now);
        self.record.paused_at = None;
        changes.ended = true;
        self.tell_parent(changes);
        self.request_finale(changes);
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

/// Formats a time span as a number of seconds, for messages.
pub(super) fn seconds_text(span: crate::types::Micros) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let seconds = span as f64 / 1e6;
    format!("{seconds} s")
}
