//! The suspects of a runner: tasks that lost their runner more than once (semantics E2).
//!
//! A task that crashes its process stops other tasks too, and nothing shows which of them was the cause. So a task that
//! lost its runner twice is started only while nothing else runs here. If the process dies again, the suspect is the cause.
//!
//! See docs/explanation/decisions/032-quarantine.md

use std::collections::VecDeque;

use super::assignment::Executor;
use crate::types::{Claim, ExecutionId, Micros, Monotonic, Ordinal};

/// Maximum time that a suspect waits for other attempts to end, in microseconds. Then it is started while they run. No
/// other task is claimed meanwhile.
const DRAIN: Micros = 10_000_000;

/// A claimed task that has to be started alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) execution: ExecutionId,
    pub(super) task: Ordinal,
    pub(super) claim: Claim,
    pub(super) executor: Executor,
    /// The number of lost runners before its start was counted, once a batch that counts the start was built. If the stored
    /// number is higher, that batch was written although its answer was lost.
    pub(super) rescues: Option<u32>,
}

/// The suspects of this runner. While there is one, the runner claims no other task.
#[derive(Default)]
pub(super) struct Quarantine {
    pub(super) waiting: VecDeque<Suspect>,
    /// The suspect that runs, or that starts in this step.
    pub(super) current: Option<Suspect>,
    /// Whether the batch of this step records the start of the current suspect. The suspect is dispatched once the batch is
    /// durable.
    pub(super) is_starting: bool,
    /// The time from which the next suspect waits for other attempts to end.
    pub(super) waits_since: Option<Monotonic>,
}

impl Quarantine {
    /// The time at which the next suspect is started although other attempts still run.
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

    /// Drops a suspect that has not been started. Returns whether there was one.
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

    /// Returns the suspect of an execution whose start is durable now, for dispatch.
    pub(super) fn take_started(&mut self, execution: ExecutionId) -> Option<Suspect> {
        let current = self.current.filter(|_| self.is_starting);
        let started = current
            .filter(|suspect| suspect.execution == execution && suspect.claim.item.is_none());
        self.is_starting &= started.is_none();
        started
    }

    /// As [`take_started`](Self::take_started), for an item of a map.
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

    /// Returns the current suspect to the queue if its start was not written.
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
