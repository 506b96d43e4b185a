//! Graceful shutdown (semantics D8): stop claiming, let running tasks end, give the rest back.

use super::Reply;
use super::assignment::Executor;
use super::coordinator::Coordinator;
use crate::store::StoreError;
use crate::types::{Micros, Timestamp};

/// How often the end of running tasks is looked for, where no message tells of it.
const LOOK: Micros = 20_000;
/// The database gets so long to take what is given back.
const LAST_WRITES: Micros = 5_000_000;

/// A shutdown under way.
pub(super) struct Stopping {
    deadline: Timestamp,
    replies: Vec<Reply<()>>,
    abandoned: bool,
}

impl Stopping {
    pub(super) fn next_look(&self, now: Timestamp) -> Timestamp {
        self.deadline.max(now).min(now + LOOK)
    }
}

impl Coordinator {
    /// Begins to stop; a second call shortens the grace.
    pub(super) fn stop(&mut self, grace: Micros, reply: Reply<()>, now: Timestamp) {
        let deadline = now + grace.max(0);
        match &mut self.stopping {
            Some(stopping) => {
                stopping.deadline = stopping.deadline.min(deadline);
                stopping.replies.push(reply);
            }
            None => {
                self.stopping = Some(Stopping {
                    deadline,
                    replies: vec![reply],
                    abandoned: false,
                });
            }
        }
        for executor in Executor::ALL {
            for assignment in self.queues.of(executor).take_waiting() {
                let (execution, task) = (assignment.execution, assignment.task);
                self.release(execution, task, assignment.claim, executor);
            }
        }
    }

    /// Ends the stop when nothing runs any more, or gives back what overran the grace.
    pub(super) fn continue_stop(&mut self, now: Timestamp) {
        let Some(stopping) = &self.stopping else {
            return;
        };
        let (deadline, abandoned) = (stopping.deadline, stopping.abandoned);
        let idle = Executor::ALL
            .iter()
            .all(|executor| self.queues.of(*executor).is_idle());
        let given_up = abandoned && now >= deadline + LAST_WRITES;
        if (idle || abandoned) && ((self.again.is_empty() && self.in_flight.is_empty()) || given_up)
        {
            self.end(given_up);
        } else if now >= deadline && !abandoned {
            if let Some(stopping) = &mut self.stopping {
                stopping.abandoned = true;
            }
            for executor in Executor::ALL {
                for running in self.queues.of(executor).abandon() {
                    self.release(running.execution, running.task, running.claim, executor);
                }
            }
        }
    }

    fn end(&mut self, given_up: bool) {
        self.finished = true;
        if !given_up {
            self.give_up_polls(self.clock.now());
        }
        if given_up {
            tracing::warn!(
                "shut down without the database: another runner takes the open tasks when the lease ends"
            );
        } else if let Err(error) = self.leave() {
            tracing::warn!(%error, "the runner's row could not be removed; it ends with its lease");
        }
        if let Some(stopping) = self.stopping.take() {
            self.farewells = stopping.replies;
        }
    }

    /// Who asked for the stop: to be answered when nothing takes messages any more.
    pub(super) fn take_farewells(&mut self) -> Vec<Reply<()>> {
        std::mem::take(&mut self.farewells)
    }

    /// Takes the runner's row away; should it still have claims, others are told to take them at once.
    fn leave(&mut self) -> Result<(), StoreError> {
        self.withdraw(self.clock.now())?;
        if self.store.claims_of(self.runner)?.is_empty() {
            return self.store.retire_runner(self.runner);
        }
        let rows = self.store.runners()?;
        if let Some(row) = rows.iter().find(|row| row.id == self.runner) {
            self.store
                .declare_dead(row.id, row.lease_until, self.clock.now())?;
        }
        Ok(())
    }
}
