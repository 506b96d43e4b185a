//! The effect of an attempt's end on its task and its execution (semantics B5–B7, C1, D1, D2, D4).

use std::sync::Arc;

use super::view::completed_delta;
use super::{Changes, Execution, retry_delay, should_retry};
use crate::types::{
    Claim, Delta, ExecutionStatus, Failure, FailureKind, HistoryKind, Json, Micros, Ordinal, Park,
    RootStart, TaskStatus, Timestamp, missing_key_of,
};

/// Maximum number of tasks that the hint about a missing key names.
const MAX_WRITERS: usize = 3;

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function returned, with its writes to the context.
    Completed(Arc<Delta>),
    /// The function returned, with its writes to the context, and asked for executions that start with this completion (T10).
    Starting {
        /// The writes.
        delta: Arc<Delta>,
        /// The executions.
        starts: Arc<[RootStart]>,
    },
    /// The function failed. Its writes are dropped.
    Failed(Failure),
    /// The function asked for another attempt, after a delay that it gave or the policy's delay.
    Retry {
        /// Delay in microseconds.
        after: Option<Micros>,
        /// The failure to store if no attempt is left.
        failure: Failure,
    },
    /// The function asked to run later. The attempt does not count.
    Snooze {
        /// Delay in microseconds.
        after: Micros,
    },
    /// The function waits: it starts again from its top when the wait ends. The attempt does not count (T5).
    Park(Box<Park>),
    /// The claim is returned before the end of the attempt, which does not count (D8).
    Released,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The task.
    pub task: Ordinal,
    /// The claim under which it ran.
    pub claim: Claim,
    /// The time at which a worker called the function.
    pub started_at: Option<Timestamp>,
    /// The outcome.
    pub outcome: Outcome,
}

/// The limits of tasks in the runner's configuration.
#[derive(Clone, Copy, Debug)]
pub struct TaskLimits {
    /// Maximum number of bytes of a delta, for tasks that do not set `max_context_bytes`.
    pub max_context_bytes: u64,
    /// Maximum number of rescues of a task.
    pub max_rescues: u32,
}

/// The error of a result whose claim was lost. The caller drops and logs the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimLost;

/// Maximum size of a traceback that the history keeps, in bytes.
const MAX_TRACEBACK: usize = 16 << 10;

/// Returns a traceback. If it is too large for the history, returns only its end, which names the error.
fn end_of(traceback: &str) -> &str {
    let mut start = traceback.len().saturating_sub(MAX_TRACEBACK);
    while !traceback.is_char_boundary(start) {
        start += 1;
    }
    &traceback[start..]
}

impl Execution {
    /// Applies the end of an attempt. `random` in 0..1 selects the delay of a retry within its jitter.
    ///
    /// # Errors
    /// When the task does not run under the claim. Nothing is changed.
    pub fn finish(
        &mut self,
        finish: Finish,
        limits: TaskLimits,
        now: Timestamp,
        random: f64,
    ) -> Result<Changes, ClaimLost> {
        if !self.holds(finish.task, finish.claim) {
            return Err(ClaimLost);
        }
        let mut changes = Changes::default();
        if let Some(started_at) = finish.started_at {
            self.note_started(finish.task, finish.claim, started_at);
        }
        changes.touch(finish.task);
        self.revert_probe(finish.task, finish.outcome == Outcome::Released, limits);
        match self.within_limits(finish.task, finish.outcome, limits) {
            // The runtime submits what the task starts.
            Outcome::Completed(delta) | Outcome::Starting { delta, .. } => {
                self.complete(finish.task, delta, now, &mut changes);
            }
            Outcome::Failed(failure) => {
                let policy = &self.definition(finish.task).retry;
                let attempt = self.counted_attempts(finish.task);
                let delay = should_retry(policy, &failure, attempt)
                    .then(|| retry_delay(policy, attempt, random));
                self.fail_attempt(finish.task, finish.claim, failure, delay, now, &mut changes);
            }
            Outcome::Retry { after, failure } => {
                let policy = &self.definition(finish.task).retry;
                let attempt = self.counted_attempts(finish.task);
                let delay = (attempt < policy.max_attempts)
                    .then(|| after.unwrap_or_else(|| retry_delay(policy, attempt, random)));
                self.fail_attempt(finish.task, finish.claim, failure, delay, now, &mut changes);
            }
            Outcome::Snooze { after } => {
                let data = Json::encode(&serde_json::json!({ "delay_us": after })).ok();
                changes.record(
                    now,
                    HistoryKind::TaskSnoozed,
                    Some((finish.task, finish.claim)),
                    data,
                );
                self.note_ran(finish.task, &mut changes);
                self.task_mut(finish.task).attempt -= 1;
                self.make_ready(finish.task, after, now, &mut changes);
            }
            Outcome::Park(park) => {
                self.park(finish.task, finish.claim, *park, now, &mut changes);
            }
            Outcome::Released => {
                changes.record(
                    now,
                    HistoryKind::TaskReleased,
                    Some((finish.task, finish.claim)),
                    None,
                );
                if finish.started_at.is_some() {
                    self.note_ran(finish.task, &mut changes);
                }
                self.task_mut(finish.task).attempt -= 1;
                self.make_ready(finish.task, 0, now, &mut changes);
            }
        }
        Ok(changes)
    }

    /// The number of attempts that the retry policy counts.
    pub(super) fn counted_attempts(&self, task: Ordinal) -> u32 {
        let task = self.task(task);
        task.attempt.saturating_sub(task.uncounted)
    }

    /// B6: replaces a delta that is too large by a failure that is not retried.
    fn within_limits(&self, task: Ordinal, outcome: Outcome, limits: TaskLimits) -> Outcome {
        let (Outcome::Completed(delta) | Outcome::Starting { delta, .. }) = &outcome else {
            return outcome;
        };
        let limit = self
            .definition(task)
            .max_context_bytes
            .unwrap_or(limits.max_context_bytes);
        let size = delta.size();
        if size as u64 <= limit {
            return outcome;
        }
        Outcome::Failed(Failure::engine(
            FailureKind::ContextTooLarge,
            format!(
                "task '{}' wrote {size} bytes to the context, more than max_context_bytes {limit}; \
                 store large data in a file or a table, and its name in the context",
                self.definition(task).id
            ),
        ))
    }

    pub(super) fn complete(
        &mut self,
        ordinal: Ordinal,
        delta: Arc<Delta>,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Completed;
        task.runner = None;
        task.ended_at = Some(now);
        task.delta = Some(delta);
        task.error = None;
        changes.ended_tasks.push(ordinal);
        self.propagate_end(ordinal, now, changes);
    }

    /// B7 and D1: schedules another attempt after `delay`, or fails the task if `delay` is `None`.
    pub(super) fn fail_attempt(
        &mut self,
        ordinal: Ordinal,
        claim: Claim,
        mut failure: Failure,
        delay: Option<Micros>,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        failure.lineage = Vec::new();
        self.add_writers_of_missing_key(ordinal, &mut failure);
        if let Some(delay) = delay {
            let mut error = serde_json::json!({ "type": failure.kind, "message": failure.message });
            if let Some(traceback) = &failure.traceback {
                error["traceback"] = serde_json::json!(end_of(traceback));
            }
            let data = serde_json::json!({
                "error": error,
                "delay_us": delay,
                "started_at": self.task(ordinal).started_at,
            });
            changes.record(
                now,
                HistoryKind::TaskRetrying,
                Some((ordinal, claim)),
                Json::encode(&data).ok(),
            );
            self.task_mut(ordinal).error = Some(failure);
            self.make_ready(ordinal, delay, now, changes);
        } else {
            self.fail_task(ordinal, failure, now, changes);
        }
    }

    /// If a task failed because its context lacks a key, adds a hint that names tasks that wrote the key but are not ancestors.
    fn add_writers_of_missing_key(&self, ordinal: Ordinal, failure: &mut Failure) {
        let Some(key) = missing_key_of(&failure.message) else {
            return;
        };
        let graph = self.workflow.graph();
        let writers: Vec<String> = graph
            .order()
            .iter()
            .filter(|other| **other != ordinal && !graph.is_ancestor(**other, ordinal))
            .filter(|other| {
                let delta = completed_delta(&self.record, **other);
                delta.is_some_and(|delta| delta.set.contains_key(key))
            })
            .take(MAX_WRITERS)
            .map(|other| format!("'{}'", self.definition(*other).id))
            .collect();
        let hint = match writers.as_slice() {
            [] => return,
            [writer] => format!(
                "'{key}' is written by {writer}, which is not an ancestor of this task: add it to dependencies"
            ),
            _ => format!(
                "'{key}' is written by {}, which are not ancestors of this task: add them to dependencies",
                writers.join(", ")
            ),
        };
        failure.message = format!("{}\nhint: {hint}", failure.message);
    }

    pub(super) fn fail_task(
        &mut self,
        ordinal: Ordinal,
        failure: Failure,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Failed;
        task.runner = None;
        task.ended_at = Some(now);
        task.error = Some(failure);
        changes.touch(ordinal);
        changes.ended_tasks.push(ordinal);
        self.propagate_end(ordinal, now, changes);
    }

    /// Makes a task ready after `delay`. In a paused execution the delay starts at `resume` (D7).
    pub(super) fn make_ready(
        &mut self,
        ordinal: Ordinal,
        delay: Micros,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let paused_at = self
            .record
            .paused_at
            .filter(|_| self.record.status == ExecutionStatus::Paused);
        let task = self.task_mut(ordinal);
        task.runner = None;
        task.started_at = None;
        changes.touch(ordinal);
        if let Some(paused_at) = paused_at {
            task.status = TaskStatus::Pending;
            task.ready_at = Some(paused_at + delay);
        } else {
            task.status = TaskStatus::Ready;
            task.ready_at = (delay > 0).then_some(now + delay);
            changes.ready.push(ordinal);
        }
    }
}
