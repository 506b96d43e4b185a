//! The coordinator: turns messages into state changes, commits them in one transaction, and dispatches ready tasks.

use std::sync::Arc;

use super::assignment::Executor;
use super::duties::START_INTERVAL;
use super::executors::WorkQueues;
use super::metrics::Metrics;
use super::outage::Outage;
use super::shutdown::Shutdown;
use super::step::{Signal, Step};
use super::subscriptions::Subscriptions;
use super::turn::{Failed, Turn};
use super::{Message, Reply, RunnerConfig};
use crate::store::{Store, StoreError};
use crate::types::{Clock, Error, Micros, Monotonic, RunnerId};

/// The logic of a runner, without threads. `step` must be called for new messages, and at the time that the last call returned.
pub struct Coordinator {
    clock: Arc<dyn Clock>,
    turn: Turn,
    outage: Option<Outage>,
    /// Reply channels of the callers that wait for the end of the shutdown. `None` until the shutdown has ended.
    stop_replies: Option<Vec<Reply<()>>>,
}

impl Coordinator {
    /// Returns a coordinator that is registered in the database under a fresh runner id. `seed` seeds its ids and its jitter.
    /// Every runner on the same database must have a different seed.
    ///
    /// # Errors
    /// Returns an error if the database cannot be read or the runner's row cannot be written.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        config: RunnerConfig,
        queues: WorkQueues,
        subscriptions: Arc<Subscriptions>,
        seed: u64,
    ) -> Result<Self, Error> {
        let step = Step::new(store, &*clock, config, queues, subscriptions, seed);
        let mut turn = Turn::new(step);
        turn.duties.heartbeat.duty.register(&mut turn.step)?;
        turn.step.read_definitions()?;
        Ok(Self {
            clock,
            turn,
            outage: None,
            stop_replies: None,
        })
    }

    /// Holds the runner back for `span` microseconds (`Micros::MAX`: without a limit), or until [`Message::Begin`]. A runner
    /// that is held back claims no tasks and fires no schedules.
    pub fn hold(&mut self, span: Micros) {
        let step = &mut self.turn.step;
        let until = if span == Micros::MAX {
            Monotonic::NEVER
        } else {
            step.monotonic + span
        };
        step.capacity.hold(Some(until));
    }

    /// Whether the shutdown has ended, so that no further step is needed.
    pub const fn is_finished(&self) -> bool {
        self.stop_replies.is_some()
    }

    /// Whether the database accepts writes, as far as the runner knows.
    pub const fn is_database_up(&self) -> bool {
        self.outage.is_none()
    }

    /// The runner's current id. It changes when the runner finds out that it was declared dead.
    pub const fn runner(&self) -> RunnerId {
        self.turn.step.runner
    }

    /// An estimate of the total size, in bytes, of cached executions that have no work in this process.
    pub const fn idle_bytes(&self) -> usize {
        self.turn.step.ledger.idle_bytes()
    }

    /// The metrics of this runner.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.turn.step.metrics)
    }

    /// Takes the reply channels of the callers that wait for the end of the shutdown. These callers are answered after
    /// the mailbox is closed.
    pub(super) fn take_stop_replies(&mut self) -> Vec<Reply<()>> {
        self.stop_replies.take().unwrap_or_default()
    }

    /// Refuses the messages in the retry queue. After the last step, nothing else would answer their senders.
    pub(super) fn refuse_retries(&mut self, error: &Error) {
        for message in std::mem::take(&mut self.turn.step.retry) {
            message.refuse(error);
        }
    }

    /// Handles messages and due duties. Returns the time at which the next step is due, if no message arrives earlier.
    pub fn step(&mut self, inbox: Vec<Message>) -> Monotonic {
        let step = &mut self.turn.step;
        step.begin(&*self.clock);
        step.capacity.check_short_tasks(step.monotonic);
        step.capacity.check_hold(step.monotonic);
        let asked = inbox.iter().any(Message::is_of_caller);
        let mut messages = step.take_retry();
        messages.extend(inbox);
        let outage = self.outage.as_ref();
        if outage.is_some_and(|outage| outage.blocks(asked, step.monotonic)) {
            self.retry_later(messages);
        } else {
            let in_outage = outage.is_some();
            match self.turn.run(messages, in_outage) {
                Ok(()) => self.leave_outage(),
                Err(failed) => self.enter_outage(failed),
            }
        }
        let Turn {
            step,
            duties,
            shutdown,
            ..
        } = &mut self.turn;
        if self.stop_replies.is_none() {
            self.stop_replies = Shutdown::advance(shutdown, step, duties);
        }
        for id in step.subscriptions.release_overdue(step.monotonic) {
            tracing::warn!(execution_id = %id, "a callback of a task has not returned within 30 s after the end of its execution; callers get the result of the execution now");
        }
        step.metrics.note_in_flight(step.ledger.in_flight());
        if let Some(maps) = step.maps.changed_keys() {
            step.metrics.note_maps(maps);
        }
        step.ledger.end_turn();
        self.next_wake()
    }

    /// Enters or continues an outage: the database does not answer, or refuses to write. If the error says instead
    /// that this runner was declared dead, continues under a new id. In both cases the messages go to the retry
    /// queue.
    fn enter_outage(&mut self, (error, messages): Failed) {
        if error == StoreError::RunnerLost {
            self.turn.step.retry.extend(messages);
            return self.start_again();
        }
        // The failed call may have taken long, so the clock is read again. A caller whose time is up by now gets an error in
        // this step, not only after the next attempt.
        self.turn.step.begin(&*self.clock);
        let step = &self.turn.step;
        if self.outage.is_none() {
            step.metrics.note_outage(true);
            tracing::warn!(database = %step.store.location(), %error, "the database does not take writes; running tasks continue, and their results are kept until it does");
        }
        self.outage = Some(Outage::enter(self.outage.as_ref(), error, step.monotonic));
        self.retry_later(messages);
    }

    /// Moves messages to the retry queue. Requests to stop are handled immediately, because a shutdown must not wait for a
    /// database that may never answer.
    fn retry_later(&mut self, messages: Vec<Message>) {
        let Turn { step, shutdown, .. } = &mut self.turn;
        let mut others = Vec::with_capacity(messages.len());
        for message in messages {
            match message {
                Message::Stop { grace, reply } => Shutdown::begin(shutdown, step, grace, reply),
                other => others.push(other),
            }
        }
        let kept = match &self.outage {
            Some(outage) => outage.refuse_expired(others, step.monotonic),
            None => others,
        };
        step.retry.extend(kept);
    }

    fn leave_outage(&mut self) {
        if self.outage.take().is_some() {
            let step = &mut self.turn.step;
            step.metrics.note_outage(false);
            tracing::warn!(database = %step.store.location(), "the database takes writes again");
            step.signals.raise(Signal::Reconcile);
        }
    }

    /// E4: continues under a new id after peers declared this runner dead, for example because its process was suspended. The
    /// results of running attempts are dropped.
    fn start_again(&mut self) {
        let Turn { step, duties, .. } = &mut self.turn;
        let old = step.runner;
        step.runner = step.fresh_runner();
        tracing::warn!(old_runner_id = %old, runner_id = %step.runner, "this runner was declared dead, probably because its process was suspended; the results of its running tasks are dropped, and it continues under a new id");
        for executor in Executor::ALL {
            let queue = Arc::clone(step.capacity.queues().of(executor));
            drop(queue.take_waiting());
            queue.abandon();
        }
        step.forget_all();
        step.registry.announce_again();
        duties.start_again();
        step.signals.raise(Signal::Register);
        step.signals.raise(Signal::Announce);
    }

    fn next_wake(&mut self) -> Monotonic {
        let Turn {
            step,
            duties,
            shutdown,
            ..
        } = &mut self.turn;
        let check = step.capacity.next_check(step.monotonic);
        let starts_due = step.monotonic + START_INTERVAL;
        step.capacity.plan_start_check(starts_due);
        if let Some(outage) = &self.outage {
            return check.map_or(outage.next_try(), |at| at.min(outage.next_try()));
        }
        if !step.retry.is_empty() {
            return step.monotonic;
        }
        let due = step.capacity.next_due().filter(|_| !step.is_stopping);
        let timers = [
            check,
            step.capacity
                .held_until()
                .filter(|at| *at != Monotonic::NEVER),
            step.capacity.first_deadline(),
            step.ledger.first_deadline(),
            step.quarantine.next_wake(),
            step.subscriptions.next_overdue(),
            due.map(|due| step.instant_of(due)),
            shutdown
                .as_ref()
                .map(|shutdown| shutdown.next_wake(step.monotonic)),
        ];
        timers
            .into_iter()
            .flatten()
            .fold(duties.next_wake(step), Monotonic::min)
    }
}
