//! Recorded steps: their keys, the check of the claim, their limits, and which steps a retry deletes (semantics T1, T6, T8,
//! T9).

use std::collections::HashMap;
use std::hash::BuildHasher;

use super::control::ControlError;
use super::{Changes, ClaimLost, Execution};
use crate::types::{
    Claim, Failure, FailureKind, Ordinal, StepDrop, StepKind, StepRecord, Timestamp,
};

/// T9: maximum number of recorded steps of a task.
pub const MAX_STEPS: u32 = 10_000;

/// The number and the bytes of a task's recorded steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTotals {
    /// The number of steps.
    pub count: u32,
    /// The total size of the steps' keys and values, in bytes.
    pub bytes: u64,
}

/// The error of a step that exceeds the limits. The task fails with this failure and is not retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTooMuch(pub Failure);

impl StepTotals {
    /// Adds a step of `size` bytes to the totals.
    ///
    /// # Errors
    /// T9: returns an error if the task would have more than [`MAX_STEPS`] steps, or steps of more than `max_bytes`
    /// bytes in total.
    pub fn add(self, task: &str, size: usize, max_bytes: u64) -> Result<Self, StepTooMuch> {
        let (count, bytes) = (self.count + 1, self.bytes + size as u64);
        let refuse = |message: String| {
            Err(StepTooMuch(Failure::engine(
                FailureKind::ContextTooLarge,
                message,
            )))
        };
        if count > MAX_STEPS {
            return refuse(format!(
                "task '{task}' recorded more than {MAX_STEPS} steps, the maximum of a task; \
                 continue in another execution, or record less often"
            ));
        }
        if bytes > max_bytes {
            return refuse(format!(
                "the steps of task '{task}' hold {bytes} bytes, more than max_context_bytes {max_bytes}; \
                 store large data in a file or a table, and its name in the step"
            ));
        }
        Ok(Self { count, bytes })
    }
}

/// T1: returns the key under which a call of a step is recorded. The second call with the same key gets `key#2`, the
/// third `key#3`, and so on. `used`: the keys that this attempt has used, each with the number of its last call.
pub fn step_key<S: BuildHasher>(key: &str, used: &mut HashMap<String, u32, S>) -> String {
    let Some(calls) = used.get_mut(key) else {
        used.insert(key.to_owned(), 1);
        return key.to_owned();
    };
    let mut number = *calls;
    let mut numbered;
    loop {
        number += 1;
        numbered = format!("{key}#{number}");
        // The function may have used a key of this form explicitly.
        if !used.contains_key(&numbered) {
            break;
        }
    }
    used.insert(key.to_owned(), number);
    used.insert(numbered.clone(), 1);
    numbered
}

/// T6: finds the recorded step that has this key. Returns its task and its position.
///
/// # Errors
/// Returns an error text if no step has the key, or if `task` is `None` and steps of several tasks have the key.
pub fn first_of(
    steps: &[(Ordinal, StepRecord)],
    task: Option<Ordinal>,
    key: &str,
) -> Result<StepDrop, String> {
    let mut found = steps
        .iter()
        // Skip the steps of individual children, because the step of the call that started the children represents them.
        .filter(|(_, step)| step.kind != StepKind::Child)
        .filter(|(ordinal, step)| step.key == key && task.is_none_or(|task| task == *ordinal))
        .map(|(ordinal, step)| StepDrop::from(*ordinal, step.position));
    let Some(first) = found.next() else {
        return Err(format!("has no recorded step '{key}'"));
    };
    if found.next().is_some() {
        return Err(format!(
            "has a step '{key}' in more than one task: name the task"
        ));
    }
    Ok(first)
}

impl Execution {
    /// T8: records a step of a running attempt. The task has made progress, so earlier losses of its runner no longer count
    /// (E2).
    ///
    /// # Errors
    /// Returns an error and records nothing if the task does not run under the claim.
    pub fn record_step(
        &mut self,
        task: Ordinal,
        claim: Claim,
        step: StepRecord,
    ) -> Result<Changes, ClaimLost> {
        if !self.holds(task, claim) {
            return Err(ClaimLost);
        }
        let mut changes = Changes::default();
        changes.flow.steps.recorded.push((task, step));
        if self.task(task).rescues > 0 {
            self.task_mut(task).rescues = 0;
            changes.touch(task);
        }
        Ok(changes)
    }

    /// T6: the recorded steps that a retry with `from_task` deletes: those of the named task and of all its descendants.
    /// Without `from_task`, the list is empty, so failed tasks keep their steps.
    pub(super) fn steps_to_drop(&self, from_task: Option<Ordinal>) -> Vec<StepDrop> {
        let graph = self.workflow.graph();
        from_task
            .iter()
            .flat_map(|task| graph.with_descendants(*task))
            .filter(|task| self.task(*task).stored)
            .map(|task| StepDrop::from(task, 0))
            .collect()
    }

    /// T6: like `retry` with `from_task`, but the task runs again from one of its recorded steps. This step and all later steps
    /// are deleted, and earlier steps are kept.
    ///
    /// # Errors
    /// Returns the same errors as `retry`.
    pub fn retry_from_step(
        &mut self,
        from: StepDrop,
        now: Timestamp,
    ) -> Result<Changes, ControlError> {
        let kept = self.failed_runs_before(from.task, from.from);
        let mut changes = self.retry(Some(from.task), now)?;
        if !kept.is_empty() {
            self.change_wait(from.task, |wait| wait.failed.extend(kept), &mut changes);
        }
        for drop in &mut changes.flow.steps.dropped {
            if drop.task == from.task {
                drop.from = from.from;
            }
        }
        Ok(changes)
    }
}
