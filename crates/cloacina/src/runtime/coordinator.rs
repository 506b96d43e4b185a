//! The one who decides: takes messages, applies the engine, writes once, hands out work.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::assignment::Executor;
use super::backlog::Backlog;
use super::cache::Cache;
use super::draft::Draft;
use super::executors::WorkQueues;
use super::insight_book::InsightBook;
use super::liveness::Liveness;
use super::metrics::Metrics;
use super::registry::Registry;
use super::scheduling::Scheduling;
use super::shutdown::Stopping;
use super::waiters::Waiters;
use super::{Message, RunnerConfig};
use crate::engine::{Execution, TaskLimits};
use crate::store::{Store, StoreError};
use crate::types::{
    Claim, Clock, Error, ErrorCode, ExecutionId, Micros, Monotonic, Ordinal, RunnerId, Timestamp,
};

/// After an error of the database the next try waits so long, doubling up to `MAX_PAUSE`.
const FIRST_PAUSE: Micros = 20_000;
const MAX_PAUSE: Micros = 1_000_000;
/// So long a task that was expected to be short may keep others from a free worker.
const ATTEND: Micros = 1_000;

/// The database does not answer, or refuses to write.
pub(super) struct Outage {
    pub(super) next_try: Timestamp,
    pause: Micros,
    error: StoreError,
}

/// The logic of a runner, without threads: `step` it with messages, at the latest when it asked to be woken.
pub struct Coordinator {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: RunnerConfig,
    pub(super) queues: WorkQueues,
    pub(super) waiters: Arc<Waiters>,
    pub(super) random: fastrand::Rng,
    pub(super) runner: RunnerId,
    pub(super) liveness: Liveness,
    pub(super) registry: Registry,
    pub(super) scheduling: Scheduling,
    pub(super) cache: Cache,
    pub(super) backlogs: [Backlog; 3],
    /// What this process has claimed and not finished.
    pub(super) in_flight: FxHashMap<(ExecutionId, Ordinal), (Claim, Executor)>,
    /// Those of them that lend their slot while they wait.
    pub(super) lent: FxHashSet<(ExecutionId, Ordinal)>,
    pub(super) deadlines: BTreeSet<(Timestamp, ExecutionId)>,
    /// When the next waiting task becomes due, as far as known.
    pub(super) next_due: Option<Timestamp>,
    /// Messages to take again: their execution had changed, or the database did not answer.
    pub(super) again: Vec<Message>,
    pub(super) outage: Option<Outage>,
    /// An error of the database in the middle of a step, whose other work went on.
    pub(super) trouble: Option<StoreError>,
    pub(super) insight: Arc<InsightBook>,
    pub(super) next_insight: Timestamp,
    pub(super) metrics: Arc<Metrics>,
    pub(super) next_stall_look: Timestamp,
    pub(super) stopping: Option<Stopping>,
    pub(super) finished: bool,
    /// Who asked for the stop that was carried out.
    pub(super) farewells: Vec<super::Reply<()>>,
    /// When to look whether short tasks are short.
    attend_at: Option<Timestamp>,
}

impl Coordinator {
    /// A coordinator with a fresh runner id, registered in the database. Its ids and its jitter come from `seed`, which
    /// no other runner of the database may have.
    ///
    /// # Errors
    /// When the database does not take the runner's row.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        config: RunnerConfig,
        queues: WorkQueues,
        waiters: Arc<Waiters>,
        seed: u64,
    ) -> Result<Self, Error> {
        let backlogs = [
            Backlog::new(config.max_concurrent_tasks),
            Backlog::new(config.max_concurrent_async_tasks),
            Backlog::new(config.max_concurrent_async_tasks),
        ];
        let started_at = clock.now();
        let mut random = fastrand::Rng::with_seed(seed);
        let runner = fresh_runner(&*clock, &mut random);
        let mut coordinator = Self {
            store,
            clock,
            config,
            queues,
            waiters,
            random,
            runner,
            liveness: Liveness::default(),
            registry: Registry::default(),
            scheduling: Scheduling::new(started_at),
            cache: Cache::default(),
            backlogs,
            in_flight: FxHashMap::default(),
            lent: FxHashSet::default(),
            deadlines: BTreeSet::new(),
            next_due: None,
            again: Vec::new(),
            outage: None,
            trouble: None,
            insight: Arc::default(),
            next_insight: Timestamp(0),
            metrics: Arc::default(),
            next_stall_look: Timestamp(0),
            stopping: None,
            finished: false,
            farewells: Vec::new(),
            attend_at: None,
        };
        let now = coordinator.clock.now();
        coordinator.register_runner(now)?;
        coordinator.read_definitions()?;
        Ok(coordinator)
    }

    /// Whether a stop has been carried out: there is nothing more to step.
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the database answers, as far as is known.
    pub const fn is_calm(&self) -> bool {
        self.outage.is_none()
    }

    /// This runner's present id; it changes when the runner was declared dead and went on.
    pub const fn runner(&self) -> RunnerId {
        self.runner
    }

    /// The counters.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Takes messages, does what is due, and says when it wants to be stepped again at the latest.
    pub fn step(&mut self, inbox: Vec<Message>) -> Monotonic {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        monotonic + self.step_at(inbox, now).since(now)
    }

    fn step_at(&mut self, inbox: Vec<Message>, now: Timestamp) -> Timestamp {
        self.look_for_stalls(now);
        if self.attend_at.is_some_and(|at| at <= now) {
            self.attend_at = None;
            self.queues.of(Executor::Threads).attend();
        }
        let mut messages = std::mem::take(&mut self.again);
        let asked = inbox.iter().any(Message::is_of_caller);
        messages.extend(inbox);
        if self.outage.as_ref().is_some_and(|outage| {
            // Where an error does not pass by itself callers are not kept waiting: each asks the database anew.
            let patient = matches!(outage.error, StoreError::Unavailable(_)) || !asked;
            patient && now < outage.next_try
        }) {
            self.keep(messages, now);
            self.continue_stop(now);
            return self.next_wake(now);
        }
        messages.extend(self.due_messages(now));
        match self.work(messages, now) {
            Ok(()) => self.recovered(),
            Err((error, messages)) => {
                self.suffer(error, messages, now);
                self.continue_stop(now);
            }
        }
        self.tell_work();
        self.metrics.note_in_flight(self.in_flight.len());
        self.next_wake(now)
    }

    fn work(
        &mut self,
        messages: Vec<Message>,
        now: Timestamp,
    ) -> Result<(), (StoreError, Vec<Message>)> {
        if let Err(error) = self.prepare(&messages, now) {
            return Err((error, messages));
        }
        let mut draft = Draft::default();
        for message in messages {
            self.handle(message, &mut draft, now);
        }
        let rescued = self.rescue(&mut draft, now);
        let fired = self.fire_due(&mut draft, now);
        self.claim_direct(&mut draft, now);
        self.commit(draft, now)?;
        self.continue_stop(now);
        match self.trouble.take() {
            Some(error) => Err((error, Vec::new())),
            None => rescued.and(fired).map_err(|error| (error, Vec::new())),
        }
    }

    /// What must be read before the messages can be decided.
    fn prepare(&mut self, messages: &[Message], now: Timestamp) -> Result<(), StoreError> {
        self.keep_alive(now)?;
        self.reconcile(messages)?;
        self.look_around(now)?;
        self.prune(now)?;
        self.flush_insight(messages, now)?;
        let wanted = messages.iter().filter_map(|message| match message {
            Message::Finished { execution, .. }
            | Message::Started { execution, .. }
            | Message::Overdue { execution, .. }
            | Message::Deadline { execution }
            | Message::Control { execution, .. } => Some(*execution),
            _ => None,
        });
        let mut missing: Vec<ExecutionId> = wanted.filter(|id| !self.cache.contains(*id)).collect();
        if self.outage.is_some() {
            // A submission that got no answer may have been stored all the same.
            let submitted = messages.iter().filter_map(|message| match message {
                Message::Submit { requests, .. } => Some(requests.iter().map(|request| request.id)),
                _ => None,
            });
            missing.extend(submitted.flatten());
        }
        // What callers ask is judged by what is so now: others may have ended the execution, or gone on with it.
        for message in messages {
            if let Message::Control { execution, .. } = message
                && self.cache.remove(*execution).is_some()
            {
                missing.push(*execution);
            }
        }
        missing.sort_unstable();
        missing.dedup();
        self.load(&missing)
    }

    /// Reads executions into the cache.
    pub(super) fn load(&mut self, ids: &[ExecutionId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        for record in self.store.load(ids)? {
            if self.registry.definition(record.definition).is_none()
                && let Some(stored) = self.store.definition(record.definition)?
                && let Err(error) = self.registry.add_stored(stored.id, &stored.body)
            {
                return Err(StoreError::Corrupt(error.to_string()));
            }
            let Some(workflow) = self.registry.definition(record.definition) else {
                tracing::error!(execution_id = %record.id, "execution refers to a workflow definition that is not stored");
                continue;
            };
            let id = record.id;
            if let Some(deadline) = record.deadline.filter(|_| !record.status.is_terminal()) {
                self.deadlines.insert((deadline, id));
            }
            let in_flight = self
                .in_flight
                .keys()
                .filter(|(execution, _)| *execution == id)
                .count();
            let execution = Execution::load(Arc::clone(workflow), record);
            self.cache
                .insert(execution, u32::try_from(in_flight).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn handle(&mut self, message: Message, draft: &mut Draft, now: Timestamp) {
        match message {
            Message::Submit {
                requests,
                give_up,
                reply,
            } => self.submit(requests, give_up, reply, draft, now),
            Message::Finished {
                execution,
                finish,
                executor,
                ran,
            } => {
                self.finish(execution, finish, executor, ran, draft, now);
            }
            Message::Started {
                execution,
                task,
                claim,
                at,
            } => self.note_start(execution, task, claim, at, draft),
            Message::Overdue {
                execution,
                task,
                claim,
                timeout,
            } => {
                self.overdue(execution, task, claim, timeout, draft, now);
            }
            Message::Deadline { execution } => self.deadline(execution, draft, now),
            Message::Control {
                execution,
                action,
                give_up,
                reply,
            } => {
                self.control(execution, action, give_up, reply, draft, now);
            }
            Message::Register {
                registration,
                reply,
            } => self.register(registration, reply, now),
            Message::Serve { service, reply } => self.serve(service, reply, now),
            Message::RegisterTrigger {
                trigger,
                handler,
                reply,
            } => self.register_trigger(trigger, handler, reply, now),
            Message::Polled { token, outcome } => self.polled(token, outcome, draft, now),
            Message::RunNow {
                schedule,
                give_up,
                reply,
            } => self.run_now(schedule, give_up, reply, draft, now),
            Message::Deferred {
                execution,
                task,
                claim,
                lent,
            } => self.note_deferral(execution, task, claim, lent),
            Message::Rescheduled => self.scheduling.look_now(),
            Message::Stop { grace, reply } => self.stop(grace, reply, now),
            Message::Watch => self.liveness.look_now(),
            Message::Poke => {}
        }
    }

    pub(super) const fn limits(&self) -> TaskLimits {
        TaskLimits {
            max_context_bytes: self.config.max_context_bytes,
            max_rescues: self.config.max_rescues,
        }
    }

    /// The database is in trouble: keep what must not be lost, and try again later.
    pub(super) fn suffer(&mut self, error: StoreError, messages: Vec<Message>, now: Timestamp) {
        if error == StoreError::RunnerLost {
            self.again.extend(messages);
            self.start_anew();
            return;
        }
        let pause = self
            .outage
            .as_ref()
            .map_or(FIRST_PAUSE, |outage| (outage.pause * 2).min(MAX_PAUSE));
        if self.outage.is_none() {
            self.metrics.note_outage(true);
            tracing::warn!(database = %self.store.location(), %error, "the database does not take writes; running tasks go on, results are kept until it does");
        }
        self.outage = Some(Outage {
            next_try: now + pause,
            pause,
            error,
        });
        self.keep(messages, now);
    }

    /// Keeps messages for the next try; callers whose patience is over get the error.
    fn keep(&mut self, messages: Vec<Message>, now: Timestamp) {
        let error = self.outage.as_ref().map(|outage| outage.error.clone());
        let passes = matches!(error, Some(StoreError::Unavailable(_)) | None);
        for message in messages {
            let over = |give_up: Timestamp| !passes || give_up <= now;
            let error = || {
                error.clone().map_or_else(
                    || Error::new(ErrorCode::Database, "the database failed"),
                    Error::from,
                )
            };
            match message {
                Message::Submit { give_up, reply, .. } if over(give_up) => reply(Err(error())),
                Message::Control { give_up, reply, .. } if over(give_up) => reply(Err(error())),
                Message::Register { reply, .. } | Message::Serve { reply, .. } if !passes => {
                    reply(Err(error()));
                }
                Message::RunNow { give_up, reply, .. } if over(give_up) => reply(Err(error())),
                Message::RegisterTrigger { reply, .. } if !passes => reply(Err(error())),
                // Stopping must not wait for a database that may never answer.
                Message::Stop { grace, reply } => self.stop(grace, reply, now),
                other => self.again.push(other),
            }
        }
    }

    /// The database answers again.
    pub(super) fn recovered(&mut self) {
        if self.outage.take().is_some() {
            self.metrics.note_outage(false);
            tracing::warn!(database = %self.store.location(), "the database takes writes again");
            self.liveness.reconcile_now();
        }
    }

    fn next_wake(&mut self, now: Timestamp) -> Timestamp {
        if self.attend_at.is_none() && self.queues.of(Executor::Threads).needs_attention() {
            self.attend_at = Some(now + ATTEND);
        }
        if let Some(outage) = &self.outage {
            return self
                .attend_at
                .map_or(outage.next_try, |at| at.min(outage.next_try));
        }
        if !self.again.is_empty() {
            return now;
        }
        let monotonic = self.clock.monotonic();
        let first_deadlines = Executor::ALL
            .iter()
            .filter_map(|executor| self.queues.of(*executor).first_deadline())
            .map(|deadline| now + deadline.since(monotonic));
        let due = self.next_due.filter(|_| self.stopping.is_none());
        let schedules = self.scheduling.next_wake(self.config.enable_cron);
        first_deadlines
            .chain(schedules.filter(|_| self.stopping.is_none()))
            .chain(due)
            .chain(self.attend_at)
            .chain(self.deadlines.first().map(|(deadline, _)| *deadline))
            .chain(
                self.stopping
                    .as_ref()
                    .map(|stopping| stopping.next_look(now)),
            )
            .chain(std::iter::once(self.insight_due()))
            .fold(self.liveness.next_wake(), Timestamp::min)
    }
}

/// A fresh id out of injected time and randomness, so that a simulation replays exactly.
pub(super) fn fresh_runner(clock: &dyn Clock, random: &mut fastrand::Rng) -> RunnerId {
    let mut bits = [0; 10];
    random.fill(&mut bits);
    RunnerId::from_parts(clock.now(), bits)
}
