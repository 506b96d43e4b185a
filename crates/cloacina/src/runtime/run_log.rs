//! The log events of executions and attempts (semantics E9), each emitted once it is durable.
//!
//! They have a target of their own, so that a subscriber can recognize them by their fields. The level of each event is checked
//! first, so that a disabled level costs only a comparison.

use rustc_hash::{FxHashMap, FxHashSet};
use tracing::Level;

use super::assignment::Assignment;
use crate::engine::{Changes, Execution};
use crate::types::{
    DefinitionId, ExecutionId, ExecutionStatus, Failure, HistoryEvent, HistoryKind, Micros,
    Ordinal, TaskRecord, TaskStatus,
};

/// The target of the events.
pub const RUN_TARGET: &str = "cloacina::run";

/// Maximum number of executions whose start is remembered. Beyond it, a start may be logged twice.
const MAX_STARTED: usize = 65_536;

/// Number of executions of each version that are searched for lost values.
const SEARCHED: u32 = 20;

/// Logs what happens to executions. It remembers which starts it has logged, if starts are logged at all.
#[derive(Debug, Default)]
pub(super) struct RunLog {
    started: FxHashSet<ExecutionId>,
    /// By version of a workflow, the number of its executions that were searched for lost values.
    searched: FxHashMap<DefinitionId, u32>,
}

impl RunLog {
    /// Logs the start of an execution when a worker has taken its first task. Call it before the start is noted in `execution`.
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
        // Another runner, or an earlier one, has logged the start of an execution that has run already.
        let runner = record.tasks[task as usize].runner;
        let has_run = |task: &TaskRecord| {
            let is_elsewhere = task.runner.is_some() && task.runner != runner;
            task.attempt > 1 || is_elsewhere || (task.attempt > 0 && task.status.is_terminal())
        };
        if record.started_at.is_none() && !record.tasks.iter().any(has_run) {
            let workflow = execution.workflow().name();
            tracing::info!(target: RUN_TARGET, execution_id = %record.id, workflow, "workflow '{workflow}' started");
        }
    }

    /// Logs a change of an execution that is durable.
    pub(super) fn note_change(&mut self, execution: &Execution, changes: &Changes) {
        for event in &changes.history {
            log_event(execution, event);
        }
        for task in &changes.ended_tasks {
            log_end(execution, *task);
        }
        if tracing::event_enabled!(target: RUN_TARGET, Level::DEBUG) {
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

    /// B3: warns once per version of a workflow if a task's value was lost because another task wrote the same key and neither
    /// depends on the other. Only the first executions are searched, so that it costs the later ones nothing.
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
                 the value of '{lost}' was lost; use a key for each, or let one depend on the other",
            );
        }
    }
}

/// Logs the start of an attempt, on the thread of the worker that runs it.
pub(crate) fn log_attempt_start(assignment: &Assignment) {
    if !tracing::event_enabled!(target: RUN_TARGET, Level::DEBUG) {
        return;
    }
    let (workflow, attempt) = (assignment.workflow.name(), assignment.claim.attempt);
    let id = assignment.workflow.task(assignment.task).id.as_str();
    tracing::debug!(
        target: RUN_TARGET, execution_id = %assignment.execution, workflow, task_id = id, attempt,
        "task '{id}' of workflow '{workflow}' starts (attempt {attempt})",
    );
}

/// Logs an event that is not the end of its task: above all an attempt that failed and is followed by another one.
fn log_event(execution: &Execution, event: &HistoryEvent) {
    let Some(task) = event.task else {
        return;
    };
    let happened = if event.kind == HistoryKind::TaskRetrying.name() {
        return log_retry(execution, task, event);
    } else if event.kind == HistoryKind::TaskSnoozed.name() {
        "snoozes"
    } else if event.kind == HistoryKind::TaskReleased.name() {
        "is given back before its end"
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
    let again = if execution.record().status == ExecutionStatus::Paused {
        "again after the execution is resumed".to_owned()
    } else if delay <= 0 {
        "again at once".to_owned()
    } else {
        format!("again in {}", duration(delay))
    };
    tracing::warn!(
        target: RUN_TARGET, execution_id = %execution.record().id, workflow, task_id = id, attempt,
        "task '{id}' of workflow '{workflow}' failed ({}), {again}: {}",
        attempt_of(execution, task, attempt), error_text(record.error.as_ref()),
    );
}

/// Logs the end of a task: that it completed, or failed for good.
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
            let which = if attempt == 0 {
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

/// Logs the end of an execution. A failure is logged as an error only if no task caused it, because a failed task has been
/// logged as an error already.
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

/// Returns the number of the attempt, as the retry policy counts attempts, e.g. "attempt 1 of 3".
fn attempt_of(execution: &Execution, task: Ordinal, attempt: u32) -> String {
    let most = execution.workflow().task(task).retry.max_attempts;
    let counted = attempt.saturating_sub(execution.task(task).uncounted);
    format!("attempt {counted} of {}", most.max(counted))
}

fn error_text(failure: Option<&Failure>) -> String {
    match failure {
        None => "no error is known".to_owned(),
        Some(failure) if failure.message.is_empty() => failure.short_type().to_owned(),
        Some(failure) => format!("{}: {}", failure.short_type(), failure.message),
    }
}

/// Formats a duration: in milliseconds below one second, otherwise in seconds.
fn duration(micros: Micros) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let seconds = micros as f64 / 1_000_000.0;
    if micros < 1_000_000 {
        format!("{} ms", (micros + 500) / 1000)
    } else {
        format!("{seconds:.1} s")
    }
}
