//! Polls for changes by other processes: new work, new definitions, and ended executions.

use super::duty::Duty;
use crate::runtime::decide::unreadable_execution;
use crate::runtime::peers::PROOF_INTERVAL;
use crate::runtime::step::{Signal, Step};
use crate::store::StoreError;
use crate::types::{ExecutionId, Micros, Monotonic, Timestamp, micros};

/// How long, in microseconds, polls are more frequent after another process has written, because that process may soon write
/// more.
const FAST_POLLING: Micros = 1_000_000;
/// Time between two polls during [`FAST_POLLING`], in microseconds.
const FAST_INTERVAL: Micros = 5_000;

/// The duty that polls for changes.
#[derive(Default)]
pub(in crate::runtime) struct ChangePoller {
    next: Monotonic,
    fast_until: Monotonic,
    /// The last change marker whose changes have all been processed.
    marker: Option<i64>,
    /// The next deadline of any execution in the database. This process may not have read the execution.
    deadline: Option<Timestamp>,
    /// The store's count of retries of ended executions, as it was last read.
    revivals: Option<u64>,
}

impl ChangePoller {
    fn follow(&mut self, step: &mut Step, revivals: Option<u64>) -> Result<(), StoreError> {
        if revivals.is_none() || revivals != self.revivals {
            self.revivals = revivals;
            step.subscriptions.forget_recent(None);
        }
        step.capacity.set_stale();
        step.maps.set_stale();
        step.maps.forget_idle();
        step.read_definitions()?;
        step.signals.raise_maybe_changed();
        if self.check_deadlines(step)? {
            step.signals.raise(Signal::Waits);
        }
        step.follow_ends()
    }

    /// D5: sets the deadline timers of executions whose stored deadlines have passed. Returns whether any task waits or
    /// the inbox has a message, which the same store request reports.
    fn check_deadlines(&mut self, step: &mut Step) -> Result<bool, StoreError> {
        let overdue = step.store.overdue(step.now)?;
        self.deadline = overdue.next;
        for id in overdue.executions {
            if step.ledger.contains(id) {
                step.watch_deadline(id);
            } else {
                step.ledger.watch_deadline(id, step.monotonic);
            }
        }
        Ok(overdue.has_waits)
    }
}

impl Duty for ChangePoller {
    const ACTION: &'static str = "poll for changes of other processes";
    const IS_ESSENTIAL: bool = true;

    fn next_wake(&self, step: &Step) -> Monotonic {
        if step.signals.is_raised(Signal::PollChanges) {
            return step.monotonic;
        }
        let deadline = self.deadline.map(|at| step.instant_of(at));
        deadline.map_or(self.next, |deadline| deadline.min(self.next))
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if step.signals.take(Signal::PollChanges) {
            self.marker = None;
        }
        let busy = (step.ledger.in_flight() > 0).then_some(step.runner);
        let changes = step.store.changes(busy)?;
        let mut interval = micros(step.config.poll_interval);
        if changes.must_prove_life {
            step.signals.raise(Signal::ProveLife);
            interval = interval.min(PROOF_INTERVAL);
        }
        if !changes.vanished.is_empty() {
            step.peers.suspect(changes.vanished);
            step.signals.raise(Signal::Rescue);
        }
        if self.marker != Some(changes.marker) {
            if self.marker.is_some() {
                self.fast_until = step.monotonic + FAST_POLLING;
            }
            self.follow(step, changes.revivals)?;
            // The marker is set last, so that the next poll processes the changes again if something above fails.
            self.marker = Some(changes.marker);
        } else if self.deadline.is_some_and(|at| at <= step.now) {
            self.check_deadlines(step)?;
        }
        if step.monotonic < self.fast_until {
            interval = interval.min(FAST_INTERVAL);
        }
        self.next = step.monotonic + interval;
        Ok(())
    }
}

impl Step {
    /// Processes executions that have ended in other processes: answers their callers, and interrupts their attempts in this
    /// process.
    pub(super) fn follow_ends(&mut self) -> Result<(), StoreError> {
        let mut ids = self.subscriptions.awaited();
        ids.extend(self.ledger.busy());
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let states = self.store.statuses(&ids)?;
        let ended: Vec<ExecutionId> = states
            .into_iter()
            .filter(|(_, status)| status.is_terminal())
            .map(|(id, _)| id)
            .collect();
        let readable = |id: &&ExecutionId| !self.ledger.is_unreadable(**id);
        let wanted: Vec<ExecutionId> = ended.iter().filter(readable).copied().collect();
        self.load(&wanted)?;
        for id in ended {
            let claims: Vec<_> = self.ledger.claims_of(id).collect();
            for held in claims {
                let execution = self.ledger.get(id);
                let priority = execution.map_or(0, |execution| execution.priority(held.task));
                self.interrupt(id, held.task, held.claim, priority);
            }
            self.ledger.drop_deadline(id);
            self.maps.forget_execution(id);
            if let Some(execution) = self.ledger.remove(id) {
                let ended = std::sync::Arc::new(execution);
                self.subscriptions.notify(&ended, self.monotonic);
            } else if self.ledger.is_unreadable(id) {
                self.subscriptions.fail(id, &unreadable_execution(id));
            }
        }
        Ok(())
    }
}
