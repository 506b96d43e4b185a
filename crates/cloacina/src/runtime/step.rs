//! The state that one turn of the coordinator can read and change.
//!
//! A turn receives messages, decides their effects on the executions in the ledger, commits the write batch, and
//! dispatches work. Decisions and duties access the state of the runner only through a `Step`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::assignment::Executor;
use super::batch::{PendingSend, WriteBatch};
use super::capacity::{Capacity, release_message};
use super::executors::WorkQueues;
use super::ledger::{HeldClaim, Ledger};
use super::maps::Maps;
use super::message::fitting;
use super::metrics::Metrics;
use super::peers::Peers;
use super::progress_buffer::ProgressBuffer;
use super::quarantine::Quarantine;
use super::registry::Registry;
use super::run_log::RunLog;
use super::subscriptions::Subscriptions;
use super::timeline::Timeline;
use super::{Message, RunnerConfig};
use crate::engine::{Execution, TaskLimits};
use crate::store::{AttemptStart, Store, StoreError};
use crate::types::{
    Claim, Clock, DefinitionId, ExecutionId, ExecutionStatus, Micros, Monotonic, Ordinal, RunnerId,
    Timestamp, micros,
};
use crate::workflow::Workflow;

/// An internal signal that makes a duty run before the duty's timer is due, in this turn or a later one. Executions
/// do not receive such signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Poll for changes by other processes.
    PollChanges,
    /// Search for dead runners.
    Rescue,
    /// Compare the claims of this process with the database.
    Reconcile,
    /// Announce the workflows of this runner in the database, because handlers were registered, or because the runner
    /// has a new id.
    Announce,
    /// Register the runner's row.
    Register,
    /// Send a heartbeat soon, so that peers do not declare this runner dead.
    ProveLife,
    /// Write buffered log lines, because attempts have ended or the runner is stopping.
    AttemptsEnded,
    /// Query cron schedules, because this process has changed some of them.
    CronChanged,
    /// Query cron schedules soon, because other processes have written and may have changed some of them.
    CronMaybeChanged,
    /// Query triggers, because this process has changed some of them.
    TriggersChanged,
    /// Query triggers soon, because other processes have written and may have changed some of them.
    TriggersMaybeChanged,
    /// Check the waiting tasks that are due, and read the inbox.
    Waits,
}

/// The signals that are raised and that no duty has taken yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signals(u16);

impl Signals {
    pub(super) const fn raise(&mut self, signal: Signal) {
        self.0 |= 1 << signal as u16;
    }

    pub(super) const fn is_raised(self, signal: Signal) -> bool {
        self.0 & (1 << signal as u16) != 0
    }

    /// Clears a signal. Returns whether it was raised.
    pub(super) const fn take(&mut self, signal: Signal) -> bool {
        let raised = self.is_raised(signal);
        self.0 &= !(1 << signal as u16);
        raised
    }

    /// Raises the signals that make the duties query schedules and triggers.
    pub(super) const fn raise_schedules(&mut self) {
        self.raise(Signal::CronChanged);
        self.raise(Signal::TriggersChanged);
    }

    /// Raises the signals that make the duties query schedules and triggers soon, because other processes may have changed
    /// them.
    pub(super) const fn raise_maybe_changed(&mut self) {
        self.raise(Signal::CronMaybeChanged);
        self.raise(Signal::TriggersMaybeChanged);
    }
}

/// The state of a runner that decisions and duties can access.
pub(super) struct Step {
    /// The wall-clock time at the beginning of the turn.
    pub(super) now: Timestamp,
    /// The monotonic time at the beginning of the turn.
    pub(super) monotonic: Monotonic,
    pub(super) config: RunnerConfig,
    pub(super) runner: RunnerId,
    pub(super) store: Arc<dyn Store>,
    pub(super) ledger: Ledger,
    pub(super) capacity: Capacity,
    pub(super) registry: Registry,
    pub(super) quarantine: Quarantine,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) progress: Arc<ProgressBuffer>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) run_log: RunLog,
    pub(super) peers: Peers,
    /// The workflows whose executions fire triggers of this program when they end. When an execution of such a workflow
    /// ends in this process, the runner queries the triggers.
    pub(super) followed: BTreeSet<String>,
    pub(super) maps: Maps,
    pub(super) timeline: Timeline,
    pub(super) signals: Signals,
    pub(super) batch: WriteBatch,
    /// Whether the runner is stopping. A stopping runner claims no tasks and fires no schedules.
    pub(super) is_stopping: bool,
    /// The time before which batches contain no claim request. It is set after the database has refused a batch with
    /// a claim request, to find out whether the request is the cause.
    pub(super) claims_resume_at: Option<Monotonic>,
    /// Whether the parents of the next ended children are informed only by messages. This is set after the database has
    /// refused a batch that changed a parent.
    pub(super) skips_parents: bool,
    /// The signals to send in this turn.
    pub(super) sends: Vec<PendingSend>,
    /// The earliest time at which a wait that this runner has written must be checked.
    pub(super) waits_due: Option<Timestamp>,
    /// The retry queue: messages to decide in a later turn.
    pub(super) retry: Vec<Message>,
    /// The claims of attempts that have ended, and of items whose child must be started, according to the messages of this turn
    /// and of the retry queue. This list is filled only if this turn reconciles claims.
    pub(super) ended: Vec<(ExecutionId, Ordinal, Claim)>,
    random: fastrand::Rng,
}

impl Step {
    pub(super) fn new(
        store: Arc<dyn Store>,
        clock: &dyn Clock,
        config: RunnerConfig,
        queues: WorkQueues,
        subscriptions: Arc<Subscriptions>,
        seed: u64,
    ) -> Self {
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let mut step = Self {
            now,
            monotonic,
            capacity: Capacity::new(&config, queues),
            ledger: Ledger::new(config.cache_bytes),
            config,
            runner: RunnerId::from_parts(now, [0; 10]),
            store,
            registry: Registry::default(),
            quarantine: Quarantine::default(),
            subscriptions,
            progress: Arc::default(),
            metrics: Arc::default(),
            run_log: RunLog::default(),
            peers: Peers::default(),
            followed: BTreeSet::new(),
            maps: Maps::default(),
            timeline: Timeline::new(now, monotonic),
            signals: Signals::default(),
            batch: WriteBatch::default(),
            is_stopping: false,
            claims_resume_at: None,
            skips_parents: false,
            sends: Vec::new(),
            waits_due: None,
            retry: Vec::new(),
            ended: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        };
        step.runner = step.fresh_runner();
        step
    }

    /// Begins a turn by reading the clocks.
    pub(super) fn begin(&mut self, clock: &dyn Clock) {
        (self.now, self.monotonic) = (clock.now(), clock.monotonic());
    }

    /// The monotonic instant at which the wall clock will show `at`, if the clock is not set before then.
    pub(super) fn instant_of(&self, at: Timestamp) -> Monotonic {
        self.monotonic + at.since(self.now)
    }

    pub(super) const fn limits(&self) -> TaskLimits {
        TaskLimits {
            max_context_bytes: self.config.max_context_bytes,
            max_rescues: self.config.max_rescues,
        }
    }

    pub(super) fn lease(&self) -> Micros {
        micros(self.config.lease_ttl)
    }

    pub(super) fn random(&mut self) -> f64 {
        self.random.f64()
    }

    /// Returns a fresh runner id. The id is made from injected time and randomness, so that a simulation replays
    /// exactly.
    pub(super) fn fresh_runner(&mut self) -> RunnerId {
        RunnerId::from_parts(self.now, self.random_bits())
    }

    /// Returns a fresh execution id. The id is made in the same way as in `fresh_runner`.
    pub(super) fn fresh_execution(&mut self) -> ExecutionId {
        ExecutionId::from_parts(self.now, self.random_bits())
    }

    /// Returns a separate source of randomness, for code that needs ids while the state of the step is borrowed.
    pub(super) fn fork_random(&mut self) -> fastrand::Rng {
        self.random.fork()
    }

    fn random_bits(&mut self) -> [u8; 10] {
        let mut bits = [0; 10];
        self.random.fill(&mut bits);
        bits
    }

    /// Reads executions into the ledger. Skips unreadable executions, and reports each of them once.
    pub(super) fn load(&mut self, ids: &[ExecutionId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let records = match self.store.load(ids) {
            Ok(records) => records,
            Err(StoreError::Corrupt(reason)) => return self.load_apart(ids, &reason),
            Err(error) => return Err(error),
        };
        for record in records {
            let id = record.id;
            match self.workflow_of(record.definition)? {
                Ok(workflow) => match Execution::restore(workflow, record) {
                    Ok(execution) => self.admit(execution),
                    Err(unreadable) => self.set_unreadable(id, unreadable.reason()),
                },
                Err(reason) => self.set_unreadable(id, &reason),
            }
        }
        Ok(())
    }

    /// Reads each half of the list separately, because at least one execution is unreadable.
    fn load_apart(&mut self, ids: &[ExecutionId], reason: &str) -> Result<(), StoreError> {
        if let [id] = ids {
            self.set_unreadable(*id, reason);
            return Ok(());
        }
        let (first, second) = ids.split_at(ids.len() / 2);
        self.load(first)?;
        self.load(second)
    }

    /// Returns the workflow of a definition, or the reason why the definition cannot be read.
    fn workflow_of(
        &mut self,
        id: DefinitionId,
    ) -> Result<Result<Arc<Workflow>, String>, StoreError> {
        if self.registry.definition(id).is_none()
            && let Some(stored) = self.store.definition(id)?
            && let Err(error) = self.registry.add_stored(&stored)
        {
            return Ok(Err(error.to_string()));
        }
        let known = self.registry.definition(id).map(Arc::clone);
        Ok(known.ok_or_else(|| "its workflow definition is not stored".to_owned()))
    }

    fn admit(&mut self, execution: Execution) {
        let record = execution.record();
        // The deadline of a paused execution is suspended until the execution is resumed.
        if record.status == ExecutionStatus::Running
            && let Some(deadline) = self.deadline_of(&execution)
        {
            self.ledger.watch_deadline(record.id, deadline);
        }
        self.ledger.insert(execution);
    }

    /// Ignores an execution that cannot be read, or whose changes the database refuses. Logs this once.
    pub(super) fn set_unreadable(&mut self, id: ExecutionId, reason: &str) {
        self.ledger.remove(id);
        if self.ledger.note_unreadable(id) {
            tracing::error!(execution_id = %id, "cannot process execution {id}; it is ignored: {reason}");
        }
    }

    /// The instant at which an execution times out. This is `timeout` after the instant at which the wall clock showed
    /// `deadline - timeout`. It does not depend on whether the wall clock is set afterwards (semantics D5).
    pub(super) fn deadline_of(&self, execution: &Execution) -> Option<Monotonic> {
        let record = execution.record();
        let (deadline, timeout) = (record.deadline?, record.timeout?);
        Some(self.timeline.instant_of(deadline + -timeout) + timeout)
    }

    /// Sets the timer for the deadline of an execution in the ledger, if the execution has a deadline.
    pub(super) fn watch_deadline(&mut self, id: ExecutionId) {
        let deadline = self
            .ledger
            .get(id)
            .and_then(|execution| self.deadline_of(execution));
        if let Some(at) = deadline {
            self.ledger.watch_deadline(id, at);
        }
    }

    /// Records a claim of this process.
    pub(super) fn note_claim(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        executor: Executor,
    ) {
        // The old attempt may still be running. Its result will not match the new claim, so it must not free a slot.
        if let Some(former) = self.ledger.hold(id, task, claim, executor) {
            self.free_slot(former);
        }
        self.capacity.take_slot(executor);
    }

    /// Records that a worker of this process has taken a task. The first call for an attempt counts the attempt and may
    /// log the execution's start.
    pub(super) fn note_running(&mut self, start: AttemptStart) {
        let AttemptStart {
            execution: id,
            task,
            claim,
            at,
        } = start;
        let is_first = self.ledger.set_started(id, task, claim);
        if let Some(execution) = self.ledger.get_mut(id) {
            if is_first {
                self.metrics.count_started(execution, task);
                self.run_log.note_start(execution, task);
            }
            execution.note_started(task, claim, at);
        }
    }

    /// Records the starts of an execution's attempts that run in this process. This is needed before a decision that
    /// can end these attempts.
    pub(super) fn note_starts_of(&mut self, id: ExecutionId) {
        let claims: Vec<_> = self.ledger.claims_of(id).collect();
        if claims.is_empty() {
            return;
        }
        let queues = self.capacity.queues();
        let starts = Executor::ALL.map(|executor| queues.of(executor).starts_of(id));
        for held in claims {
            let key = (id, held.task, held.claim);
            if let Some(at) = starts[held.executor.index()].get(&key) {
                self.note_running(AttemptStart {
                    execution: id,
                    task: held.task,
                    claim: held.claim,
                    at: *at,
                });
            }
        }
    }

    /// Drops a claim of this process. Returns `false` if the process does not hold this claim.
    pub(super) fn drop_claim(&mut self, id: ExecutionId, task: Ordinal, claim: Claim) -> bool {
        let dropped = self.ledger.drop_claim(id, task, claim);
        if let Some(held) = dropped {
            self.free_slot(held);
        }
        dropped.is_some()
    }

    /// Frees the slot of a dropped claim, unless its attempt is deferred and has already released the slot.
    fn free_slot(&mut self, held: HeldClaim) {
        if !held.is_deferred {
            self.capacity.free_slot(held.executor);
        }
    }

    /// Returns a claim to the database in the next turn.
    pub(super) fn release(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        executor: Executor,
    ) {
        self.retry.push(release_message(id, task, claim, executor));
    }

    /// Records that an attempt has released or reacquired its slot.
    pub(super) fn note_deferral(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        deferred: bool,
    ) {
        if let Some(held) = self.ledger.set_deferred(id, task, claim, deferred) {
            if deferred {
                self.capacity.free_slot(held.executor);
            } else {
                self.capacity.take_slot(held.executor);
            }
        }
    }

    /// Takes as many messages from the retry queue as fit into the transaction of one turn.
    pub(super) fn take_retry(&mut self) -> Vec<Message> {
        let end = fitting(&self.retry);
        let rest = self.retry.split_off(end);
        std::mem::replace(&mut self.retry, rest)
    }

    /// Raises `AttemptsEnded` if the messages end attempts or stop the runner. If this turn reconciles claims, fills `ended`.
    pub(super) fn note_ends(&mut self, messages: &[Message]) {
        self.ended.clear();
        self.signals.take(Signal::AttemptsEnded);
        let is_end = |message: &Message| {
            matches!(
                message,
                Message::Finished { .. } | Message::Overdue { .. } | Message::Stop { .. }
            )
        };
        if messages.iter().any(is_end) {
            self.signals.raise(Signal::AttemptsEnded);
        }
        if !self.signals.is_raised(Signal::Reconcile) {
            return;
        }
        for message in messages.iter().chain(&self.retry) {
            match message {
                Message::Finished {
                    execution, finish, ..
                } => self.ended.push((*execution, finish.task, finish.claim)),
                Message::Overdue { attempt, .. } => {
                    (self.ended).push((attempt.execution, attempt.task, attempt.claim));
                }
                Message::StartItem {
                    execution,
                    task,
                    item,
                    ..
                } => {
                    let claim = item.claim();
                    self.ended
                        .extend(claim.map(|claim| (*execution, *task, claim)));
                }
                _ => {}
            }
        }
    }

    /// Reads the executions that are needed to decide the messages.
    pub(super) fn load_for(&mut self, messages: &[Message]) -> Result<(), StoreError> {
        let mut missing = Vec::new();
        for message in messages {
            let Some(id) = message.execution() else {
                continue;
            };
            // A caller's action must be decided on the stored state, because peers may have changed the execution.
            if matches!(message, Message::Control { .. })
                && !self.batch.executions.contains_key(&id)
            {
                self.ledger.remove(id);
            }
            if !self.ledger.contains(id) {
                missing.push(id);
            }
        }
        missing.sort_unstable();
        missing.dedup();
        self.load(&missing)
    }

    /// Drops all state that belongs to the runner's previous id.
    pub(super) fn forget_all(&mut self) {
        for (_, held) in self.ledger.clear() {
            self.free_slot(held);
        }
        self.quarantine.clear();
        self.maps.clear();
        self.capacity.set_paused(false);
        self.capacity.set_stale();
    }
}
