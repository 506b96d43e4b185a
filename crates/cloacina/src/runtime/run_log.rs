//! The log events about executions and attempts (semantics E9). Most are logged after the change that they describe is
//! durable.
//!
//! The events have their own target, so that a subscriber can recognize them. Only the warning of lost values has
//! another target. The level of an event is checked before the event is built, so that a disabled level costs only a
//! comparison.

use std::borrow::Cow;

use rustc_hash::{FxHashMap, FxHashSet};
use tracing::Level;

use super::assignment::Assignment;
use crate::engine::{Changes, Execution};
use crate::types::{
    DefinitionId, ExecutionId, ExecutionStatus, Failure, HistoryEvent, HistoryKind, ItemRecord,
    Micros, Ordinal, TaskRecord, TaskStatus, Timestamp,
};

/// The target of the log events.
pub const RUN_TARGET: &str = "cloacina::run";

/// Maximum number of executions whose logged start is remembered. If there are more, a start may be logged twice.
const MAX_STARTED: usize = 65_536;

/// Maximum number of executions of each version that are searched for lost values.
const SEARCHED: u32 = 20;

/// Logs what happens to executions. Remembers the executions whose start it has logged.
#[derive(Debug, Default)]
pub(super) struct RunLog {
    started: FxHashSet<ExecutionId>,
    /// For each version of a workflow, the number of its executions that have been searched for lost values.
    searched: FxHashMap<DefinitionId, u32>,
}

impl RunLog {
    /// Logs the start of an execution after a worker has taken its first task. This must be called before the start is
    /// recorded in `execution`.
    pub(super) fn note_start(&mut self, execution: &Execution, task: Ordinal) {
        if !tracing::event_enabled!(target: RUN_TARGET, Level::INFO) {
            return;
        }
        let record = execution.record();
        if self.started.len() >= MAX_STARTED {
            self.started.clear();
        }
        if !self.started.insert(record.id) {
            return;
        }
        // If a task of the execution has run before, the start has already been logged, by another runner or an earlier
        // process.
        let runner = record.tasks[task as usize].runner;
        let has_run = |task: &TaskRecord| {
            let is_elsewhere = task.runner.is_some() && task.runner != runner;
            task.attempt > 1 || is_elsewhere || (task.attempt > 0 && task.status.is_terminal())
        };
        if record.started_at.is_none() && !record.tasks.iter().any(has_run) {
            log_start(execution);
        }
    }

    /// Logs a durable change of an execution.
    pub(super) fn note_change(&mut self, execution: &Execution, changes: &Changes) {
        if changes.flow.started
            && tracing::event_enabled!(target: RUN_TARGET, Level::INFO)
            && !self.started.contains(&execution.record().id)
        {
            log_start(execution);
        }
        for event in &changes.history {
            log_event(execution, event);
        }
        for task in &changes.ended_tasks {
            log_end(execution, *task);
        }
        if tracing::event_enabled!(target: RUN_TARGET, Level::DEBUG) {
            for (task, claim) in &changes.interrupted {
                let record = execution.task(*task);
                if record.status == TaskStatus::Cancelled && record.started_at.is_some() {
                    log_interruption(execution, *task, claim.attempt);
                }
            }
            for task in &changes.tasks {
                log_skip(execution, *task);
            }
        }
        if changes.ended {
            self.started.remove(&execution.record().id);
            log_execution_end(execution);
            self.warn_of_lost_values(execution);
        }
    }

    /// B3: warns of values that were lost because two tasks wrote the same key and neither depends on the other. For each
    /// version of a workflow, only one execution is reported and only the first `SEARCHED` executions are searched, so that
    /// later executions have no cost.
    fn warn_of_lost_values(&mut self, execution: &Execution) {
        let record = execution.record();
        if self.searched.len() >= MAX_STARTED {
            self.searched.clear();
        }
        let searched = self.searched.entry(record.definition).or_default();
        if *searched >= SEARCHED || !tracing::event_enabled!(Level::WARN) {
            return;
        }
        *searched += 1;
        let workflow = execution.workflow().name();
        for (key, kept, lost) in execution.lost_values() {
            *searched = SEARCHED;
            let (kept, lost) = (names(execution, kept).0, names(execution, lost).0);
            tracing::warn!(
                execution_id = %record.id, workflow,
                "tasks '{lost}' and '{kept}' of workflow '{workflow}' both wrote '{key}', and neither depends on the other: \
                 the value of '{lost}' was lost; use a different key for each task, or let one task depend on the other",
            );
        }
    }
}

fn log_start(execution: &Execution) {
    let (id, workflow) = (execution.record().id, execution.workflow().name());
    tracing::info!(target: RUN_TARGET, execution_id = %id, workflow, "workflow '{workflow}' started");
}

/// Logs the start of an attempt. This is called on the thread that has taken the task from the work queue.
pub(crate) fn log_attempt_start(assignment: &Assignment) {
    if !tracing::event_enabled!(target: RUN_TARGET, Level::DEBUG) {
        return;
    }
    let (workflow, attempt) = (assignment.workflow.name(), assignment.claim.attempt);
    let id = assignment.workflow.task(assignment.task).id.as_str();
    let id = &*name_of(id, assignment.claim.item);
    let kind = assignment.claim.item.map_or("task", |_| "item");
    tracing::debug!(
        target: RUN_TARGET, execution_id = %assignment.execution, workflow, task_id = id, attempt,
        "{kind} '{id}' of workflow '{workflow}' starts (attempt {attempt})",
    );
}

/// Logs that an attempt was interrupted because its execution ended.
fn log_interruption(execution: &Execution, task: Ordinal, attempt: u32) {
    let (id, workflow) = names(execution, task);
    tracing::debug!(
        target: RUN_TARGET, execution_id = %execution.record().id, workflow, task_id = id, attempt,
        "task '{id}' of workflow '{workflow}' was interrupted (attempt {attempt})",
    );
}

/// Logs an event that does not end its task, such as a failed attempt that is followed by another attempt.
fn log_event(execution: &Execution, event: &HistoryEvent) {
    let Some(task) = event.task else {
        return;
    };
    let happened = if event.kind == HistoryKind::TaskRetrying.name() {
        return log_retry(execution, task, event);
    } else if event.kind == HistoryKind::TaskSnoozed.name() {
        "snoozes"
    } else if event.kind == HistoryKind::TaskReleased.name() {
        "was not finished, and its runner returned the claim"
    } else if event.kind == HistoryKind::TaskRescued.name() {
        "was lost with its runner"
    } else {
        return;
    };
    let (id, workflow) = names(execution, task);
    tracing::debug!(
        target: RUN_TARGET, execution_id = %execution.record().id, workflow, task_id = id, attempt = event.attempt,
        "task '{id}' of workflow '{workflow}' {happened} (attempt {})", event.attempt.unwrap_or(0),
    );
}

fn log_retry(execution: &Execution, task: Ordinal, event: &HistoryEvent) {
    if !tracing::event_enabled!(target: RUN_TARGET, Level::WARN) {
        return;
    }
    let (id, workflow) = names(execution, task);
    let record = execution.task(task);
    let attempt = event.attempt.unwrap_or(record.attempt);
    let data = event
        .data
        .as_ref()
        .and_then(|data| data.decode::<serde_json::Value>().ok());
    let delay = data.and_then(|data| data["delay_us"].as_i64()).unwrap_or(0);
    let retry = if execution.record().status == ExecutionStatus::Paused {
        "retrying after the execution is resumed".to_owned()
    } else {
        retrying(delay)
    };
    tracing::warn!(
        target: RUN_TARGET, execution_id = %execution.record().id, workflow, task_id = id, attempt,
        "task '{id}' of workflow '{workflow}' failed ({}), {retry}: {}",
        attempt_of(execution, task, attempt), error_text(record.error.as_ref()),
    );
}

/// Logs the durable end of an item's attempt. An item that fails for good is logged only at the debug level. If it makes the map
/// fail, the failure of the map is logged as an error.
pub(super) fn log_item(execution: &Execution, task: Ordinal, item: &ItemRecord, now: Timestamp) {
    let is_enabled = if item.status.is_terminal() {
        tracing::event_enabled!(target: RUN_TARGET, Level::DEBUG)
    } else {
        tracing::event_enabled!(target: RUN_TARGET, Level::WARN)
    };
    if !is_enabled {
        return;
    }
    let (id, workflow) = names(execution, task);
    let (id, attempt) = (&*name_of(id, Some(item.item)), item.attempt);
    let execution_id = execution.record().id;
    match (item.status, &item.error) {
        (TaskStatus::Completed, _) => tracing::debug!(
            target: RUN_TARGET, %execution_id, workflow, task_id = id, attempt,
            "item '{id}' of workflow '{workflow}' completed (attempt {attempt})",
        ),
        (TaskStatus::Failed, failure) => tracing::debug!(
            target: RUN_TARGET, %execution_id, workflow, task_id = id, attempt,
            "item '{id}' of workflow '{workflow}' failed (attempt {attempt}): {}", error_text(failure.as_ref()),
        ),
        (TaskStatus::Ready, Some(failure)) if item.runner.is_none() => {
            let delay = item.ready_at.map_or(0, |at| at.since(now).max(0));
            let most = execution.workflow().task(task).retry.max_attempts;
            let counted = attempt.saturating_sub(item.uncounted);
            tracing::warn!(
                target: RUN_TARGET, %execution_id, workflow, task_id = id, attempt,
                "item '{id}' of workflow '{workflow}' failed (attempt {counted} of {}), {}: {}",
                most.max(counted), retrying(delay), error_text(Some(failure)),
            );
        }
        _ => {}
    }
}

/// Logs the end of a task that completed or failed.
fn log_end(execution: &Execution, task: Ordinal) {
    let record = execution.task(task);
    match record.status {
        TaskStatus::Completed if tracing::event_enabled!(target: RUN_TARGET, Level::DEBUG) => {
            let (id, workflow) = names(execution, task);
            let attempt = record.attempt;
            let took = record.started_at.zip(record.ended_at);
            let took = took.map_or(0, |(from, to)| to.since(from).max(0));
            tracing::debug!(
                target: RUN_TARGET, execution_id = %execution.record().id, workflow, task_id = id, attempt,
                "task '{id}' of workflow '{workflow}' completed in {} (attempt {attempt})", duration(took),
            );
        }
        TaskStatus::Failed if tracing::event_enabled!(target: RUN_TARGET, Level::ERROR) => {
            let (id, workflow) = names(execution, task);
            let attempt = record.attempt;
            let failure = record.error.as_ref();
            let traceback = failure.and_then(|failure| failure.traceback.as_deref());
            // The retry policy counts no attempt if the task never started, or if all its attempts were lost with their runners.
            let which = if attempt <= record.uncounted {
                String::new()
            } else {
                format!(" ({})", attempt_of(execution, task, attempt))
            };
            tracing::error!(
                target: RUN_TARGET, execution_id = %execution.record().id, workflow, task_id = id, attempt, traceback,
                "task '{id}' of workflow '{workflow}' failed{which}: {}", error_text(failure),
            );
        }
        _ => {}
    }
}

fn log_skip(execution: &Execution, task: Ordinal) {
    let record = execution.task(task);
    if let (TaskStatus::Skipped, Some(skip)) = (record.status, &record.skip) {
        let (id, workflow) = names(execution, task);
        tracing::debug!(
            target: RUN_TARGET, execution_id = %execution.record().id, workflow, task_id = id,
            "task '{id}' of workflow '{workflow}' was skipped: {}", skip.reason,
        );
    }
}

/// Logs the end of an execution. A failure that a task caused is not logged as an error here, because the failed task has
/// already been logged as an error.
fn log_execution_end(execution: &Execution) {
    let record = execution.record();
    let workflow = execution.workflow().name();
    if let (ExecutionStatus::Failed, Some((None, failure))) = (record.status, &record.error) {
        tracing::error!(
            target: RUN_TARGET, execution_id = %record.id, workflow,
            "workflow '{workflow}' failed: {}", error_text(Some(failure)),
        );
    }
    if !tracing::event_enabled!(target: RUN_TARGET, Level::INFO) {
        return;
    }
    let how = match record.status {
        ExecutionStatus::Completed => "completed",
        ExecutionStatus::Cancelled => "was cancelled",
        _ => "failed",
    };
    let took = record.started_at.zip(record.ended_at);
    let took = took.map_or_else(String::new, |(from, to)| {
        format!(" after {}", duration(to.since(from).max(0)))
    });
    tracing::info!(target: RUN_TARGET, execution_id = %record.id, workflow, "workflow '{workflow}' {how}{took}");
}

fn names(execution: &Execution, task: Ordinal) -> (&str, &str) {
    let workflow = execution.workflow();
    (&workflow.task(task).id, workflow.name())
}

/// Returns the number of the attempt as the retry policy counts it, for example "attempt 1 of 3".
fn attempt_of(execution: &Execution, task: Ordinal, attempt: u32) -> String {
    let most = execution.workflow().task(task).retry.max_attempts;
    let counted = attempt.saturating_sub(execution.task(task).uncounted);
    format!("attempt {counted} of {}", most.max(counted))
}

/// Says when the next attempt starts.
fn retrying(delay: Micros) -> String {
    if delay <= 0 {
        "retrying immediately".to_owned()
    } else {
        format!("retrying in {}", duration(delay))
    }
}

/// Returns the name of a task, or of an item of a map: `fetch[17]`.
fn name_of(id: &str, item: Option<u32>) -> Cow<'_, str> {
    match item {
        None => id.into(),
        Some(item) => format!("{id}[{item}]").into(),
    }
}

fn error_text(failure: Option<&Failure>) -> String {
    match failure {
        None => "no error is known".to_owned(),
        Some(failure) if failure.message.is_empty() => failure.short_type().to_owned(),
        Some(failure) => format!("{}: {}", failure.short_type(), failure.message),
    }
}

/// Formats a duration: below one second in milliseconds, otherwise in seconds.
fn duration(micros: Micros) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let seconds = micros as f64 / 1_000_000.0;
    if micros < 1_000_000 {
        format!("{} ms", (micros + 500) / 1000)
    } else {
        format!("{seconds:.1} s")
    }
}
