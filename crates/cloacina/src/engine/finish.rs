//! What the end of an attempt means for its task and its execution (semantics B5–B7, C1, D1, D2, D4).

use std::sync::Arc;

use super::{Changes, Execution, retry_delay, should_retry};
use crate::types::{
    Claim, Delta, ExecutionStatus, Failure, FailureKind, HistoryKind, Json, Micros, Ordinal,
    TaskStatus, Timestamp,
};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Well, with what it wrote.
    Completed(Arc<Delta>),
    /// Badly. What it wrote is dropped.
    Failed(Failure),
    /// It asked for another attempt, after a delay of its own or the policy's.
    Retry {
        /// Delay in microseconds.
        after: Option<Micros>,
        /// What to keep if no attempt is left.
        failure: Failure,
    },
    /// It asked to run later without counting this attempt.
    Snooze {
        /// Delay in microseconds.
        after: Micros,
    },
    /// It was given back unfinished; the attempt does not count (D8).
    Released,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The task.
    pub task: Ordinal,
    /// Under which claim it ran.
    pub claim: Claim,
    /// When the function was really entered.
    pub started_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Limits that the runner's configuration gives.
#[derive(Clone, Copy, Debug)]
pub struct TaskLimits {
    /// Bytes of one delta, where the task names no limit.
    pub max_context_bytes: u64,
    /// Rescues of one task.
    pub max_rescues: u32,
}

/// The claim was lost: the result is dropped and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Execution {
    /// Applies the end of an attempt. `random` in 0..1 places a retry within its jitter.
    ///
    /// # Errors
    /// When the claim is not the task's any more: nothing changed.
    pub fn finish(
        &mut self,
        finish: Finish,
        limits: TaskLimits,
        now: Timestamp,
        random: f64,
    ) -> Result<Changes, Refused> {
        if !self.holds(finish.task, finish.claim) {
            return Err(Refused);
        }
        let mut changes = Changes::default();
        let task = self.task_mut(finish.task);
        if let Some(started_at) = finish.started_at {
            task.started_at = Some(started_at);
        }
        changes.touch(finish.task);
        self.survived(finish.task, finish.outcome == Outcome::Released, limits);
        match self.within_limits(finish.task, finish.outcome, limits) {
            Outcome::Completed(delta) => self.complete(finish.task, delta, now, &mut changes),
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
                self.task_mut(finish.task).attempt -= 1;
                self.make_ready(finish.task, after, now, &mut changes);
            }
            Outcome::Released => {
                changes.record(
                    now,
                    HistoryKind::TaskReleased,
                    Some((finish.task, finish.claim)),
                    None,
                );
                self.task_mut(finish.task).attempt -= 1;
                self.make_ready(finish.task, 0, now, &mut changes);
            }
        }
        Ok(changes)
    }

    /// Attempts that the retry policy counts.
    pub(super) fn counted_attempts(&self, task: Ordinal) -> u32 {
        let task = self.task(task);
        task.attempt.saturating_sub(task.uncounted)
    }

    /// B6: too large a delta is a failure that no retry can mend.
    fn within_limits(&self, task: Ordinal, outcome: Outcome, limits: TaskLimits) -> Outcome {
        let Outcome::Completed(delta) = outcome else {
            return outcome;
        };
        let limit = self
            .definition(task)
            .max_context_bytes
            .unwrap_or(limits.max_context_bytes);
        let size = delta.size();
        if size as u64 <= limit {
            return Outcome::Completed(delta);
        }
        Outcome::Failed(Failure::engine(
            FailureKind::ContextTooLarge,
            format!(
                "task '{}' wrote {size} bytes to the context, more than max_context_bytes {limit}; \
                 keep large data in a file or table and its name in the context",
                self.definition(task).id
            ),
        ))
    }

    fn complete(
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

    /// B7 and D1: another attempt after `delay`, or the task's end.
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
        if let Some(delay) = delay {
            let data = serde_json::json!({
                "error": { "type": failure.kind, "message": failure.message },
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

    /// Ready again after `delay`; while paused the remaining time is kept and starts to run at `resume` (D7).
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
