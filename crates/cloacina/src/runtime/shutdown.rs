//! Graceful shutdown (semantics D8): stops claiming, waits for running tasks, and returns the
//! remaining claims to the database.

use super::Reply;
use super::assignment::Executor;
use super::duties::Duties;
use super::step::{Signal, Step};
use crate::store::StoreError;
use crate::types::{Micros, Monotonic};

/// Interval, in microseconds, at which the coordinator checks whether the shutdown can end.
const INTERVAL: Micros = 20_000;
/// Maximum time, in microseconds, to wait after the grace period until the database has stored the
/// last writes, e.g. returned claims.
const LAST_WRITES: Micros = 5_000_000;

/// A shutdown that has begun and has not ended.
pub(super) struct Shutdown {
    deadline: Monotonic,
    /// Reply channels of the callers that wait for the end of the shutdown.
    replies: Vec<Reply<()>>,
    /// Whether the grace period has ended and the running attempts were abandoned.
    is_abandoned: bool,
}

impl Shutdown {
    /// Begins a shutdown. If a shutdown has already begun, shortens its grace period if necessary.
    pub(super) fn begin(
        current: &mut Option<Self>,
        step: &mut Step,
        grace: Micros,
        reply: Reply<()>,
    ) {
        let deadline = step.monotonic + grace.max(0);
        let shutdown = current.get_or_insert(Self {
            deadline,
            replies: Vec::new(),
            is_abandoned: false,
        });
        shutdown.deadline = shutdown.deadline.min(deadline);
        shutdown.replies.push(reply);
        step.is_stopping = true;
        for executor in Executor::ALL {
            let waiting = step.capacity.queues().of(executor).take_waiting();
            for assignment in waiting {
                let (execution, task) = (assignment.execution, assignment.task);
                step.release(execution, task, assignment.claim, executor);
            }
        }
        for suspect in step.quarantine.take_waiting() {
            step.release(
                suspect.execution,
                suspect.task,
                suspect.claim,
                suspect.executor,
            );
        }
    }

    pub(super) fn next_wake(&self, monotonic: Monotonic) -> Monotonic {
        self.deadline.max(monotonic).min(monotonic + INTERVAL)
    }

    /// Continues the shutdown. Once the shutdown has ended, returns its reply channels.
    pub(super) fn advance(
        current: &mut Option<Self>,
        step: &mut Step,
        duties: &mut Duties,
    ) -> Option<Vec<Reply<()>>> {
        let shutdown = current.as_mut()?;
        let is_idle = step.capacity.is_idle();
        let is_given_up =
            shutdown.is_abandoned && step.monotonic >= shutdown.deadline + LAST_WRITES;
        let is_written = step.retry.is_empty() && step.ledger.in_flight() == 0;
        if (is_idle || shutdown.is_abandoned) && (is_written || is_given_up) {
            leave(step, duties, is_given_up);
            return current.take().map(|shutdown| shutdown.replies);
        }
        if step.monotonic >= shutdown.deadline && !shutdown.is_abandoned {
            shutdown.is_abandoned = true;
            for executor in Executor::ALL {
                let abandoned = step.capacity.queues().of(executor).abandon();
                for attempt in abandoned {
                    step.release(attempt.execution, attempt.task, attempt.claim, executor);
                }
            }
        }
        None
    }
}

fn leave(step: &mut Step, duties: &mut Duties, is_given_up: bool) {
    if is_given_up {
        tracing::warn!(
            "the runner has stopped before the database stored its last writes; another runner rescues the open tasks when this runner's lease ends"
        );
        return;
    }
    duties.triggers.duty.return_leases(step);
    if let Err(error) = remove_row(step, duties) {
        tracing::warn!(%error, "cannot remove the runner's row; peers remove it when the runner's lease ends");
    }
}

/// Removes the runner's row. If the runner still has claims, declares it dead instead, so that peers rescue the tasks
/// immediately.
fn remove_row(step: &mut Step, duties: &mut Duties) -> Result<(), StoreError> {
    step.signals.take(Signal::Register);
    duties.announcer.duty.withdraw(step)?;
    let has_items = step.registry.has_maps() && !step.store.items_of(step.runner, 1)?.is_empty();
    if step.store.claims_of(step.runner)?.is_empty() && !has_items {
        return step.store.retire_runner(step.runner);
    }
    let rows = step.store.runners()?;
    if let Some(row) = rows.iter().find(|row| row.id == step.runner) {
        step.store.declare_dead(row.id, row.lease_until, step.now)?;
    }
    Ok(())
}
