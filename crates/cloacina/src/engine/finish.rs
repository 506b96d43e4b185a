//! The end of an attempt, and its effect on the task and the execution (semantics B5–B7, C1, D1, D2, D4).

use std::sync::Arc;

use super::view::completed_delta;
use super::{Changes, Execution, retry_delay, should_retry};
use crate::types::{
    Claim, Delta, ExecutionStatus, Failure, FailureKind, HistoryKind, Json, Micros, Ordinal, Park,
    RootStart, TaskStatus, Timestamp, missing_key_of,
};

/// Maximum number of tasks that the hint about a missing key lists.
const MAX_WRITERS: usize = 3;

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function returned, after these writes to the context.
    Completed(Arc<Delta>),
    /// The function returned, and requested executions that start when this completion is stored (T10).
    Starting {
        /// The function's writes to the context.
        delta: Arc<Delta>,
        /// The executions to start.
        starts: Arc<[RootStart]>,
    },
    /// The function failed. Its writes are dropped.
    Failed(Failure),
    /// The function requested another attempt after a delay.
    Retry {
        /// The delay in microseconds. `None`: the delay of the retry policy.
        after: Option<Micros>,
        /// The failure of this attempt.
        failure: Failure,
    },
    /// The function requested another run after a delay. The attempt is not counted.
    Snooze {
        /// Delay in microseconds.
        after: Micros,
    },
    /// The function exited in order to wait. When the wait ends, the function starts again from the top. The attempt is
    /// not counted (T5).
    Park(Box<Park>),
    /// The claim was returned before the attempt ended. The attempt is not counted (D8).
    Released,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The task.
    pub task: Ordinal,
    /// The claim under which the attempt ran.
    pub claim: Claim,
    /// The time at which a worker called the function.
    pub started_at: Option<Timestamp>,
    /// The outcome.
    pub outcome: Outcome,
}

/// The limits for tasks from the runner's configuration.
#[derive(Clone, Copy, Debug)]
pub struct TaskLimits {
    /// Maximum number of bytes of a task's writes, for tasks that do not set `max_context_bytes`.
    pub max_context_bytes: u64,
    /// Maximum number of rescues of a task.
    pub max_rescues: u32,
}

/// The error for a result that arrives after its claim was lost. The caller drops and logs the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimLost;

/// Maximum size of a traceback that the history keeps, in bytes.
const MAX_TRACEBACK: usize = 16 << 10;

/// Returns the error of a failed attempt, as the history keeps it.
pub(super) fn error_of(failure: &Failure) -> serde_json::Value {
    let mut error = serde_json::json!({ "type": failure.kind, "message": failure.message });
    if let Some(traceback) = &failure.traceback {
        error["traceback"] = serde_json::json!(end_of(traceback));
    }
    error
}

/// Returns the given traceback, or only its end if it is too long for the history. The end names the error.
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
    /// Returns an error and changes nothing if the task does not run under the claim.
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
            // The runtime submits the executions in `starts`.
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
                // The event stores the start time, because the row of the task no longer contains it.
                let started_at = self.task(finish.task).unrecorded_start();
                let data = serde_json::json!({ "delay_us": after, "started_at": started_at });
                let data = Json::encode(&data).ok();
                changes.record(
                    now,
                    HistoryKind::TaskSnoozed,
                    Some((finish.task, finish.claim)),
                    data,
                );
                self.note_ran(finish.task, &mut changes);
                self.task_mut(finish.task).attempt -= 1;
                self.forget_first_start(finish.task, &mut changes);
                self.make_ready(finish.task, after, now, &mut changes);
            }
            Outcome::Park(park) => {
                self.park(finish.task, finish.claim, *park, now, &mut changes);
            }
            Outcome::Released => {
                let started_at = self.task(finish.task).unrecorded_start();
                let data = started_at.map(|at| serde_json::json!({ "started_at": at }));
                changes.record(
                    now,
                    HistoryKind::TaskReleased,
                    Some((finish.task, finish.claim)),
                    data.and_then(|data| Json::encode(&data).ok()),
                );
                if finish.started_at.is_some() {
                    self.note_ran(finish.task, &mut changes);
                    self.forget_first_start(finish.task, &mut changes);
                }
                self.task_mut(finish.task).attempt -= 1;
                self.make_ready(finish.task, 0, now, &mut changes);
            }
        }
        Ok(changes)
    }

    /// The number of the task's attempts that count for the retry policy.
    pub(super) fn counted_attempts(&self, task: Ordinal) -> u32 {
        let task = self.task(task);
        task.attempt.saturating_sub(task.uncounted)
    }

    /// B6: turns an outcome whose delta is too large into a failure that is not retried.
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
        task.ended_at = Some(now);
        task.delta = Some(delta);
        task.error = None;
        changes.ended_tasks.push(ordinal);
        self.propagate_end(ordinal, now, changes);
    }

    /// B7 and D1: schedules another attempt after `delay` microseconds, or fails the task if `delay` is `None`.
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
            let data = serde_json::json!({
                "error": error_of(&failure),
                "delay_us": delay,
                "started_at": self.task(ordinal).unrecorded_start(),
            });
            changes.record(
                now,
                HistoryKind::TaskRetrying,
                Some((ordinal, claim)),
                Json::encode(&data).ok(),
            );
            self.task_mut(ordinal).error = Some(failure);
            self.forget_first_start(ordinal, changes);
            self.make_ready(ordinal, delay, now, changes);
        } else {
            self.fail_task(ordinal, failure, now, changes);
        }
    }

    /// If a task failed because a key is missing in its context, adds a hint to the failure. The hint lists the tasks that
    /// wrote the key but are not ancestors of the task.
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
        task.ended_at = Some(now);
        task.error = Some(failure);
        changes.touch(ordinal);
        changes.ended_tasks.push(ordinal);
        self.propagate_end(ordinal, now, changes);
    }

    /// Removes the first start of an attempt whose function has waited, because the attempt has ended (T5).
    pub(super) fn forget_first_start(&mut self, ordinal: Ordinal, changes: &mut Changes) {
        let wait = self.task(ordinal).wait.as_ref();
        if wait.is_some_and(|wait| wait.begun.is_some()) {
            self.change_wait(ordinal, |wait| wait.begun = None, changes);
        }
    }

    /// Makes a task ready after `delay` microseconds. In a paused execution, the delay begins when the execution is resumed
    /// (D7).
    pub(super) fn make_ready(
        &mut self,
        ordinal: Ordinal,
        delay: Micros,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let is_paused = self.record.status == ExecutionStatus::Paused;
        let due = self.timers_at(now) + delay;
        let task = self.task_mut(ordinal);
        task.runner = None;
        task.started_at = None;
        changes.touch(ordinal);
        if is_paused {
            task.status = TaskStatus::Pending;
            task.ready_at = Some(due);
        } else {
            task.status = TaskStatus::Ready;
            task.ready_at = (delay > 0).then_some(due);
            changes.ready.push(ordinal);
        }
    }

    /// D7: the time from which a delay that starts now is counted. In a paused execution this is the start of the pause, because
    /// the resume moves all due times by the length of the pause.
    pub(super) fn timers_at(&self, now: Timestamp) -> Timestamp {
        let is_paused = self.record.status == ExecutionStatus::Paused;
        self.record.paused_at.filter(|_| is_paused).unwrap_or(now)
    }
}
