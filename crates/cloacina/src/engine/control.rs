//! The actions of callers on an execution (cancel, pause, resume, retry), and its timeout (semantics D5–D7).

use std::sync::Arc;

use super::history::erased_by_retry;
use super::{Changes, Execution};
use crate::types::{
    ExecutionStatus, Failure, FailureKind, HistoryKind, Json, Note, Ordinal, Skip, SkipCause,
    StepDrop, TaskRecord, TaskStatus, Timestamp,
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
            self.close_wait(ordinal, &mut changes);
        }
        changes.record(now, HistoryKind::Cancelled, None, None);
        self.count_open();
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
        // A runner whose clock is behind must not hold the timers for longer than the pause lasts.
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

    /// The latest recorded time at which the execution was created or started, or an attempt started or ended.
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
            if self.task(ordinal).is_waiting() {
                self.resume_wait(ordinal, held, now, &mut changes);
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
        let restarted: Vec<Ordinal> = from_task
            .iter()
            .flat_map(|task| graph.with_descendants(*task))
            .collect();
        self.refuse_open_finale()?;
        let mut rerun = self.rerun_by_retry(&restarted);
        if !rerun.contains(&true) {
            return Err(self.control_error(
                "completed without a failure: there is nothing to retry",
                Some("name a task with from_task to run it and its descendants again"),
            ));
        }
        let mut undone = self.undone_by_finale();
        for ordinal in &undone {
            rerun[*ordinal as usize] = true;
        }
        let is_new = |task| restarted.contains(&task) || undone.contains(&task);
        let mut maps = self.maps_with_new_lists(&rerun, is_new);
        maps.retain(|map| !restarted.contains(map) && !undone.contains(map));
        undone.append(&mut maps);
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
            let is_new = restarted.contains(&ordinal) || undone.contains(&ordinal);
            if !is_new {
                (changes.flow.steps.dropped).extend(self.failed_runs_to_drop(ordinal));
            }
            self.reset(ordinal, is_new, &mut changes);
        }
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

    /// Returns a task that runs again to its first state.
    fn reset(&mut self, ordinal: Ordinal, is_new: bool, changes: &mut Changes) {
        let mut wait = self.wait_kept(ordinal, is_new);
        if self.was_compensated(ordinal) {
            Arc::make_mut(wait.get_or_insert_default()).compensated += 1;
        }
        if wait.is_some() {
            changes.flow.waits.insert(ordinal);
        }
        let task = self.task_mut(ordinal);
        *task = TaskRecord {
            attempt: task.attempt,
            uncounted: task.attempt,
            stored: task.stored,
            wait,
            ..TaskRecord::pending()
        };
        changes.touch(ordinal);
    }

    /// K10: the maps that run again and may get a new list, because a task that they depend on runs again. The source of an
    /// aligned map makes a new list only if it starts from scratch; otherwise its completed items keep their results.
    fn maps_with_new_lists(
        &self,
        rerun: &[bool],
        is_new: impl Fn(Ordinal) -> bool,
    ) -> Vec<Ordinal> {
        let graph = self.workflow.graph();
        let mut new: Vec<Ordinal> = Vec::new();
        for ordinal in graph.order().iter().copied() {
            let source = self.workflow.source_of(ordinal);
            let has_new_list = graph.dependencies(ordinal).iter().any(|task| {
                rerun[*task as usize]
                    && (Some(*task) != source || is_new(*task) || new.contains(task))
            });
            if self.task_map(ordinal).is_some() && rerun[ordinal as usize] && has_new_list {
                new.push(ordinal);
            }
        }
        new
    }

    /// D7: whether each task runs again, by ordinal. `restarted`: the tasks that the caller asked to run again, with their
    /// descendants.
    fn rerun_by_retry(&self, restarted: &[Ordinal]) -> Vec<bool> {
        let graph = self.workflow.graph();
        let mut rerun = vec![false; self.record.tasks.len()];
        for (index, task) in self.record.tasks.iter().enumerate() {
            let upstream = task
                .skip
                .as_ref()
                .is_some_and(|skip| skip.cause != SkipCause::Rule);
            rerun[index] =
                upstream || matches!(task.status, TaskStatus::Failed | TaskStatus::Cancelled);
        }
        for ordinal in restarted {
            rerun[*ordinal as usize] = true;
        }
        // If a dependency of a skipped task runs again, the task's rule may hold afterwards.
        for ordinal in graph.order() {
            let skipped = self.task(*ordinal).status == TaskStatus::Skipped;
            let before = graph
                .dependencies(*ordinal)
                .iter()
                .any(|dependency| rerun[*dependency as usize]);
            rerun[*ordinal as usize] |= skipped && before;
        }
        rerun
    }

    /// D7: as [`retry`](Self::retry), but changes nothing if the execution has not ended, because it was retried already.
    ///
    /// # Errors
    /// When it was cancelled, or has no task to run again.
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
            task.runner = None;
            task.ended_at = Some(now);
            changes.touch(ordinal);
        }
    }

    /// M3, Q1: ends the execution, tells its parent, and asks for its final tasks. No other function ends one.
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

/// Formats a time span for messages.
pub(super) fn seconds_text(span: crate::types::Micros) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let seconds = span as f64 / 1e6;
    format!("{seconds} s")
}
