//! The suspects of a runner: tasks that may be crashing the process (semantics E2).
//!
//! When a process crashes, all its tasks are lost, and nothing shows which task was the cause. So a task that has lost its
//! runner twice (once if `max_rescues` is 1) is a suspect: it is started only while nothing else runs in this process, or after
//! a limited wait. If the process crashes while the suspect runs alone, the suspect is the cause.
//!
//! See docs/explanation/decisions/032-quarantine.md

use std::collections::VecDeque;

use super::assignment::Executor;
use crate::types::{Claim, ExecutionId, Micros, Monotonic, Ordinal};

/// Maximum time, in microseconds, that a suspect waits for other attempts to end. After this time it is started although they
/// are still running. While it waits, no other task is claimed.
const DRAIN: Micros = 10_000_000;

/// A claimed task that must be started alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) execution: ExecutionId,
    pub(super) task: Ordinal,
    pub(super) claim: Claim,
    pub(super) executor: Executor,
    /// The number of lost runners before the suspect's start was counted. `None` until a batch that counts the start
    /// has been built. If the stored number is higher, that batch was written although its reply was lost.
    pub(super) rescues: Option<u32>,
}

/// The suspects of this runner. As long as there are any, the runner claims no other task.
#[derive(Default)]
pub(super) struct Quarantine {
    pub(super) waiting: VecDeque<Suspect>,
    /// The suspect that is running or that starts in this step.
    pub(super) current: Option<Suspect>,
    /// Whether the batch of this step counts the start of the current suspect. The suspect is dispatched once the batch is
    /// durable.
    pub(super) is_starting: bool,
    /// The time since which the next suspect has been waiting for other attempts to end.
    pub(super) waits_since: Option<Monotonic>,
}

impl Quarantine {
    /// The time at which the next suspect is started even if other attempts are still running.
    pub(super) fn next_wake(&self) -> Option<Monotonic> {
        let waits = self.current.is_none() && !self.waiting.is_empty();
        self.waits_since
            .filter(|_| waits)
            .map(|since| since + DRAIN)
    }

    /// Takes the suspects that have not been started.
    pub(super) fn take_waiting(&mut self) -> Vec<Suspect> {
        self.waits_since = None;
        std::mem::take(&mut self.waiting).into()
    }

    /// Drops a suspect that has not been started. Returns whether there was such a suspect.
    pub(super) fn withdraw(
        &mut self,
        execution: ExecutionId,
        task: Ordinal,
        item: Option<u32>,
    ) -> bool {
        let before = self.waiting.len();
        let key = (execution, task, item);
        self.waiting
            .retain(|suspect| (suspect.execution, suspect.task, suspect.claim.item) != key);
        self.waiting.len() < before
    }

    /// If the batch that counts the start of an execution's suspect is now durable, returns this suspect for dispatch.
    pub(super) fn take_started(&mut self, execution: ExecutionId) -> Option<Suspect> {
        let current = self.current.filter(|_| self.is_starting);
        let started = current
            .filter(|suspect| suspect.execution == execution && suspect.claim.item.is_none());
        self.is_starting &= started.is_none();
        started
    }

    /// Does the same as [`take_started`](Self::take_started) for a suspect that is an item of a map. `items`: returns whether
    /// the batch writes an item.
    pub(super) fn take_started_item(
        &mut self,
        (execution, task): (ExecutionId, Ordinal),
        items: impl Fn(u32) -> bool,
    ) -> Option<Suspect> {
        let current = self.current.filter(|_| self.is_starting);
        let started = current.filter(|suspect| {
            (suspect.execution, suspect.task) == (execution, task)
                && suspect.claim.item.is_some_and(&items)
        });
        self.is_starting &= started.is_none();
        started
    }

    /// If the start of the current suspect was not written, puts the suspect back into the queue.
    pub(super) fn put_back(&mut self) {
        if std::mem::take(&mut self.is_starting)
            && let Some(suspect) = self.current.take()
        {
            self.waiting.push_front(suspect);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
