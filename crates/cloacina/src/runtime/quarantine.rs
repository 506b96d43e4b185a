//! The suspects of a runner: tasks whose runner died more than once while it held them (semantics E2).
//!
//! A task that ends its process takes harmless tasks with it, and which of them did it cannot be seen from outside. So what
//! died twice with its runner is started only while nothing else runs here. If the process dies again, the suspect did it.

use std::collections::VecDeque;

use super::assignment::Executor;
use crate::types::{Claim, ExecutionId, Micros, Monotonic, Ordinal};

/// How long a suspect waits for other attempts to end. After that it is started beside them; nothing else starts meanwhile.
const DRAIN: Micros = 10_000_000;

/// A claimed task that has to be started alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) execution: ExecutionId,
    pub(super) task: Ordinal,
    pub(super) claim: Claim,
    pub(super) executor: Executor,
    /// Its lost runners before its start was to be counted, where it is not known whether that was written.
    pub(super) rescues: Option<u32>,
}

/// The suspects of this runner. While there is one, the runner claims nothing else.
#[derive(Default)]
pub(super) struct Quarantine {
    pub(super) waiting: VecDeque<Suspect>,
    /// The one whose turn it is.
    pub(super) current: Option<Suspect>,
    /// Its start is recorded in the batch of this turn, and follows once that is durable.
    pub(super) is_starting: bool,
    pub(super) waits_since: Option<Monotonic>,
}

impl Quarantine {
    /// When a suspect is started although other attempts still run.
    pub(super) fn next_wake(&self) -> Option<Monotonic> {
        let waits = self.current.is_none() && !self.waiting.is_empty();
        self.waits_since
            .filter(|_| waits)
            .map(|since| since + DRAIN)
    }

    /// The suspects that have not been started.
    pub(super) fn take_waiting(&mut self) -> Vec<Suspect> {
        self.waits_since = None;
        std::mem::take(&mut self.waiting).into()
    }

    /// Drops a suspect that has not been started. `true` if there was one.
    pub(super) fn withdraw(&mut self, execution: ExecutionId, task: Ordinal) -> bool {
        let before = self.waiting.len();
        self.waiting
            .retain(|suspect| (suspect.execution, suspect.task) != (execution, task));
        self.waiting.len() < before
    }

    /// The suspect to start now that the record of its start is durable.
    pub(super) fn started(&mut self, execution: ExecutionId) -> Option<Suspect> {
        let current = self.current.filter(|_| self.is_starting);
        let started = current.filter(|suspect| suspect.execution == execution);
        self.is_starting &= started.is_none();
        started
    }

    /// The record of the start was not written: the suspect waits again.
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
