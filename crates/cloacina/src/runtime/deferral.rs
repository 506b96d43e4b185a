//! Tasks that wait for something and lend their worker's slot meanwhile (semantics G2).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::assignment::{Executor, WorkToken};
use super::work::WorkQueue;
use super::{Mailbox, Message};
use crate::types::{Claim, ExecutionId, Ordinal};

/// Each lent slot is a thread that waits: so many at most, and further ones keep theirs.
const MAX_LENT: usize = 256;

/// A worker that waits for its slot is told when one is free; this long at a time, should it have been taken away instead.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way in which tasks of one executor lend their slots.
pub struct Deferrals {
    executor: Executor,
    queue: Arc<WorkQueue>,
    mailbox: Arc<Mailbox>,
}

impl Deferrals {
    /// For the tasks of an executor.
    pub(crate) const fn new(
        executor: Executor,
        queue: Arc<WorkQueue>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        Self {
            executor,
            queue,
            mailbox,
        }
    }

    /// Lends the slot of a running attempt: another task may run in its place. `false`: it is lent already, too many are, or the
    /// attempt was taken away.
    pub fn begin(&self, token: WorkToken) -> bool {
        let Some(attempt) = self.queue.lend_slot(token) else {
            return false;
        };
        self.tell(attempt, true);
        true
    }

    /// Takes the slot back; a thread waits for a free one. Returns at once if the attempt was taken away.
    pub fn end(&self, token: WorkToken) {
        let attempt = loop {
            match self.queue.regain_slot(token, self.executor, PATIENCE) {
                Regained::Yes(attempt) => break attempt,
                Regained::Gone => return,
                Regained::NotYet => {}
            }
        };
        self.tell(attempt, false);
    }

    fn tell(&self, (execution, task, claim): (ExecutionId, Ordinal, Claim), lent: bool) {
        drop(self.mailbox.send(Message::Deferred {
            execution,
            task,
            claim,
            lent,
        }));
    }
}

/// What became of a wish for a slot.
enum Regained {
    Yes((ExecutionId, Ordinal, Claim)),
    /// The attempt is not this worker's any more.
    Gone,
    NotYet,
}

impl WorkQueue {
    fn lend_slot(&self, token: WorkToken) -> Option<(ExecutionId, Ordinal, Claim)> {
        let mut inner = self.inner.lock();
        // Workers that serve several runners are not asked for by one of them.
        if inner.shared || (inner.max_workers > 0 && inner.deferred >= MAX_LENT) {
            return None;
        }
        let running = inner.running.get_mut(&token)?;
        if std::mem::replace(&mut running.deferred, true) {
            return None;
        }
        let attempt = (running.execution, running.task, running.claim);
        inner.deferred += 1;
        inner.workers = inner.workers.saturating_sub(1);
        self.regained.notify_one();
        self.wake_one(&mut inner);
        drop(inner);
        self.call_hook();
        Some(attempt)
    }

    fn regain_slot(&self, token: WorkToken, executor: Executor, patience: Duration) -> Regained {
        let mut inner = self.inner.lock();
        if !inner.running.contains_key(&token) {
            return Regained::Gone;
        }
        // Coroutines have no slots of their own: one that waited goes on at once.
        if executor == Executor::Threads && !inner.shared && inner.busy() >= inner.max_workers {
            inner.regaining += 1;
            self.regained.wait_for(&mut inner, patience);
            inner.regaining -= 1;
            if inner.running.contains_key(&token)
                && !inner.shared
                && inner.busy() >= inner.max_workers
            {
                return Regained::NotYet;
            }
        }
        let Some(running) = inner.running.get_mut(&token) else {
            return Regained::Gone;
        };
        running.deferred = false;
        let attempt = (running.execution, running.task, running.claim);
        inner.deferred -= 1;
        // One of those who share the workers from now on.
        if inner.shared {
            return Regained::Yes(attempt);
        }
        inner.workers += 1;
        let is_surplus = inner.workers > inner.max_workers;
        self.surplus.fetch_or(is_surplus, Ordering::AcqRel);
        Regained::Yes(attempt)
    }

    /// Whether the calling worker must end: another one took its place while it lent it, and there are more than allowed now.
    pub fn leave_if_surplus(&self) -> bool {
        if !self.surplus.load(Ordering::Acquire) {
            return false;
        }
        let mut inner = self.inner.lock();
        if inner.workers <= inner.max_workers {
            self.surplus.store(false, Ordering::Release);
            return false;
        }
        inner.workers -= 1;
        self.wake_one(&mut inner);
        true
    }
}
