//! `EngineHandle`: one runner on one database. `DefaultRunner` wraps it in Rust and in Python.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::types::sync::Mutex;
use rustc_hash::FxHashMap;
use tracing::Dispatch;

use super::open::{OpenedStore, StoreOptions, open_store};
use super::open_options::{Begin, OpenOptions, wait_for};
use super::tenant_group::TenantGroup;
use super::{Inspector, RunnerView};
use crate::runtime::{
    Answer, Assignment, Control, Coordinator, CoordinatorThread, Deferrals, Executor, Mailbox,
    Message, Metrics, PollEnds, Registration, Reply, RunnerChannels, RunnerConfig, RunnerSlot,
    Service, SharedCoordinator, SubmitRequest, Subscriptions, TokioExecutor, WorkQueue, WorkQueues,
    log_attempt_start,
};
#[cfg(feature = "postgres")]
use crate::store::postgres::PostgresStore;
use crate::store::{ListQuery, Store};
use crate::types::{
    Clock, Error, ExecutionId, ExecutionStatus, Micros, Monotonic, RunnerId, SystemClock,
    Timestamp, micros,
};

/// A started runner. If dropped without [`stop`](Self::stop), it does not wait for running tasks; they run again later.
pub struct EngineHandle {
    pub(super) store: Arc<dyn Store>,
    channels: RunnerChannels,
    config: RunnerConfig,
    thread: Mutex<CoordinatorThread>,
    coordinator: Arc<SharedCoordinator>,
    tasks: TokioExecutor,
    inspector: Inspector,
    pub(super) metrics: Arc<Metrics>,
    /// For each workflow, the ids of the tasks for which this program has handlers.
    pub(super) own_handlers: Mutex<FxHashMap<String, Vec<String>>>,
    started_at: Timestamp,
    runner: RunnerId,
    closed: AtomicBool,
    /// Whether the runner has been asked to claim tasks.
    begun: AtomicBool,
    /// The value of [`OpenOptions::begin`] with which the runner was opened.
    pub(super) begin: Begin,
    dispatch: Option<Dispatch>,
    #[cfg(feature = "postgres")]
    auto_migrate: bool,
    /// The store, if its connections can be shared.
    #[cfg(feature = "postgres")]
    pub(super) postgres: Option<Arc<PostgresStore>>,
    /// The runner's membership in a tenant group. The parent, which starts the tenants, joins its group when the first
    /// tenant starts. Each tenant joins when it starts.
    pub(super) tenant_group: OnceLock<TenantGroup>,
}

impl EngineHandle {
    /// Opens a database and starts a runner on it.
    ///
    /// # Errors
    /// `UrlInvalid`; `Connection` or `Migration` when the database cannot be opened; `Configuration` for an invalid setting.
    pub fn open(url: &str, options: OpenOptions) -> Result<Self, Error> {
        Self::open_in_schema(url, None, options)
    }

    /// Opens a database, in a PostgreSQL schema if one is given, and starts a runner on it. A missing schema is created.
    ///
    /// # Errors
    /// The errors of [`Self::open`]; `Configuration` for an invalid schema name, or a schema on SQLite.
    pub fn open_in_schema(
        url: &str,
        schema: Option<&str>,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        options.config.validate()?;
        // How long a connection waits for an answer. The runner can then try again before `db_timeout` and its lease end.
        let patience = (options.config.db_timeout / 2).min(options.config.lease_ttl / 3);
        let how = StoreOptions {
            schema,
            auto_migrate: options.auto_migrate,
            create: true,
            connections: Some(options.config.db_pool_size),
            // Half of `db_timeout`, so that a caller's request can be tried twice.
            busy_timeout: Some(options.config.db_timeout / 2),
            patience: Some(patience.max(Duration::from_secs(1))),
            statement_timeout: None,
            read_only: false,
        };
        let opened = open_store(url, &how)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let queues = WorkQueues::default();
        Self::launch(opened, clock, options, queues, TokioExecutor::new)
    }

    /// Starts a runner on an open store.
    ///
    /// # Errors
    /// `Configuration` for an invalid setting; the error of the store, if the runner cannot be registered in it.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        options.config.validate()?;
        let queues = WorkQueues::default();
        let opened = OpenedStore::unshared(store);
        Self::launch(opened, clock, options, queues, TokioExecutor::new)
    }

    /// Starts a runner. It can share its queues and its executor with other runners.
    pub(super) fn launch(
        opened: OpenedStore,
        clock: Arc<dyn Clock>,
        options: OpenOptions,
        queues: WorkQueues,
        tasks: impl FnOnce(Arc<WorkQueue>, Arc<Mailbox>, Arc<dyn Clock>) -> TokioExecutor,
    ) -> Result<Self, Error> {
        // A PostgreSQL connection blocks on its own tokio runtime, which is not allowed on a thread of the tasks' runtime. To
        // run a step inline, that thread would have to start a new thread. Waking the coordinator's thread costs less.
        #[cfg(feature = "postgres")]
        let may_run_inline = opened.postgres.is_none();
        #[cfg(not(feature = "postgres"))]
        let may_run_inline = true;
        let store = opened.store;
        for executor in [Executor::Loop, Executor::Futures] {
            let limit = options.config.max_concurrent_async_tasks;
            queues.of(executor).limit(limit);
        }
        let channels = RunnerChannels {
            mailbox: Arc::new(Mailbox::default()),
            queues,
            subscriptions: Arc::new(Subscriptions::default()),
            clock,
        };
        let mut coordinator = Coordinator::start(
            Arc::clone(&store),
            Arc::clone(&channels.clock),
            options.config.clone(),
            channels.queues.clone(),
            Arc::clone(&channels.subscriptions),
            // The seed comes from the operating system, because a generator in this process has the same state in a forked
            // child.
            RunnerId::generate().uuid().as_u64_pair().1,
        )?;
        match options.begin {
            Begin::AtOnce => {}
            Begin::After(delay) => coordinator.hold(micros(delay)),
            Begin::OnRequest => coordinator.hold(Micros::MAX),
        }
        let runner = coordinator.runner();
        let metrics = coordinator.metrics();
        let inspector = Inspector::new(Arc::clone(&store), Arc::clone(&channels.clock)).of_runner(
            channels.queues.clone(),
            Arc::clone(&channels.mailbox),
            Arc::clone(&channels.subscriptions),
        );
        let started_at = channels.clock.now();
        let mailbox = Arc::clone(&channels.mailbox);
        store.on_change(Arc::new(move || drop(mailbox.send(Message::Watch))));
        let tasks = tasks(
            Arc::clone(channels.queues.of(Executor::Futures)),
            Arc::clone(&channels.mailbox),
            Arc::clone(&channels.clock),
        );
        let thread =
            CoordinatorThread::start(coordinator, channels.clone(), options.dispatch.clone())?;
        if may_run_inline {
            let coordinator = Arc::downgrade(thread.coordinator());
            tasks.run_inline_with(Box::new(move |message| {
                if let Some(coordinator) = coordinator.upgrade() {
                    coordinator.run_inline(message);
                }
            }));
        }
        Ok(Self {
            store,
            channels,
            config: options.config,
            coordinator: Arc::clone(thread.coordinator()),
            thread: Mutex::new(thread),
            tasks,
            inspector,
            metrics,
            own_handlers: Mutex::default(),
            started_at,
            runner,
            closed: AtomicBool::new(false),
            begun: AtomicBool::new(options.begin == Begin::AtOnce),
            begin: options.begin,
            dispatch: options.dispatch,
            #[cfg(feature = "postgres")]
            auto_migrate: options.auto_migrate,
            #[cfg(feature = "postgres")]
            postgres: opened.postgres,
            tenant_group: OnceLock::new(),
        })
    }

    /// The location of the database, without the password.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// The time at which the runner started.
    pub const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The id with which the runner started.
    pub const fn runner_id(&self) -> RunnerId {
        self.runner
    }

    /// Returns whether the runner has stopped or its coordinator has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.channels.mailbox.is_closed()
    }

    /// Begins to claim tasks, if the runner was opened with [`Begin::After`] or [`Begin::OnRequest`]. Later calls do nothing.
    pub fn begin(&self) {
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.report(Message::Begin);
        }
    }

    /// Begins to claim tasks before the delay of [`Begin::After`] is over, because the program uses the runner.
    pub(super) fn begin_early(&self) {
        if self.begin != Begin::OnRequest {
            self.begin();
        }
    }

    /// Returns whether the runner was opened with [`Begin::AtOnce`], or [`begin`](Self::begin) was called.
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// The settings.
    pub const fn config(&self) -> &RunnerConfig {
        &self.config
    }

    /// The queues from which workers take dispatched tasks.
    pub const fn queues(&self) -> &WorkQueues {
        &self.channels.queues
    }

    /// Returns the object with which workers report the outcomes of this runner's trigger polls.
    pub fn poll_ends(&self) -> PollEnds {
        PollEnds::new(Arc::clone(&self.channels.mailbox))
    }

    /// Returns the handle with which deferred tasks of an executor release and reacquire their slots (semantics G2).
    pub fn deferrals(&self, executor: Executor) -> Deferrals {
        let queue = Arc::clone(self.channels.queues.of(executor));
        Deferrals::new(executor, queue, Arc::clone(&self.channels.mailbox))
    }

    /// Logs the start of an attempt at level DEBUG, with the runner's `tracing` dispatcher.
    pub fn log_attempt_start(&self, assignment: &Assignment) {
        if !tracing::level_enabled!(tracing::Level::DEBUG) {
            return;
        }
        match &self.dispatch {
            Some(dispatch) => tracing::dispatcher::with_default(dispatch, || {
                log_attempt_start(assignment);
            }),
            None => log_attempt_start(assignment),
        }
    }

    /// Returns whether a piece of work belongs to this runner. `slot`: the slot of the work's runner, if several runners
    /// share the workers. `deferrals`: the deferrals of the runner whose workers run the work.
    pub fn owns(&self, slot: Option<&Arc<RunnerSlot>>, deferrals: &Deferrals) -> bool {
        match slot {
            Some(slot) => self
                .tenant_group
                .get()
                .is_some_and(|group| group.has_slot(slot)),
            None => deferrals.is_of(&self.channels.mailbox),
        }
    }

    /// The executor of Rust tasks.
    pub const fn tasks(&self) -> &TokioExecutor {
        &self.tasks
    }

    /// Returns the options for a tenant's runner, which are the options of this runner.
    #[cfg(feature = "postgres")]
    pub(super) fn tenant_options(&self) -> OpenOptions {
        OpenOptions {
            config: self.config.clone(),
            dispatch: self.dispatch.clone(),
            auto_migrate: self.auto_migrate,
            begin: self.begin,
        }
    }

    pub(super) const fn channels(&self) -> &RunnerChannels {
        &self.channels
    }

    /// The clock of the runner.
    pub fn clock(&self) -> &dyn Clock {
        &*self.channels.clock
    }

    /// The current time on the runner's clock.
    pub fn now(&self) -> Timestamp {
        self.channels.clock.now()
    }

    /// Sends a message to the coordinator. If the runner is closed, the message is dropped.
    pub fn report(&self, message: Message) {
        drop(self.channels.mailbox.send(message));
    }

    /// Sends a message like [`report`](Self::report), for a thread that then waits for the effect of the message. This thread
    /// can run the coordinator's step inline: see [`SharedCoordinator::run_inline`].
    pub fn report_inline(&self, message: Message) {
        self.coordinator.run_inline(message);
    }

    /// Registers a workflow with this program's handlers. The definition is durable when this method returns.
    ///
    /// # Errors
    /// `Database` or `Connection` when the definition cannot be stored; `RunnerClosed`.
    pub fn register(&self, registration: Registration) -> Result<(), Error> {
        wait_for(&self.begin_register(registration))
    }

    /// Starts [`register`](Self::register). Callers of the `begin_` methods wait for the answer in their own way.
    pub fn begin_register(&self, registration: Registration) -> Answer<()> {
        self.note_own_handlers(&registration);
        self.ask(|reply| Message::Register {
            registration,
            reply,
        })
    }

    /// Starts to register handlers for external tasks of a workflow that another program defines. The answer is an error if
    /// the options of a handler contradict the workflow's definition.
    pub fn begin_serve(&self, service: Service) -> Answer<()> {
        self.note_own_service(&service);
        self.ask(|reply| Message::Serve { service, reply })
    }

    /// Submits all of the executions, or none if one of them is refused. They are durable when this method returns.
    ///
    /// # Errors
    /// `WorkflowNotFound`; `WorkflowInvalid` for a workflow that cannot be submitted; `ContextInvalid` for an input that is too
    /// large; `Database` or `Connection` when the executions cannot be stored within `db_timeout`; `RunnerClosed`.
    pub fn submit(&self, requests: Vec<SubmitRequest>) -> Result<Vec<ExecutionId>, Error> {
        wait_for(&self.begin_submit(requests))
    }

    /// Starts [`submit`](Self::submit) and returns the pending answer.
    pub fn begin_submit(&self, requests: Vec<SubmitRequest>) -> Answer<Vec<ExecutionId>> {
        if requests.is_empty() {
            return Answer::ready(Ok(Vec::new()));
        }
        let give_up = self.give_up();
        self.ask(|reply| Message::Submit {
            requests,
            give_up,
            reply,
        })
    }

    /// Submits executions as [`submit`](Self::submit) does, and calls `reply` with the answer on the thread that runs the
    /// coordinator's step. If the runner is closed, `reply` is dropped without a call.
    pub fn submit_and_reply(&self, requests: Vec<SubmitRequest>, reply: Reply<Vec<ExecutionId>>) {
        let give_up = self.give_up();
        self.report(Message::Submit {
            requests,
            give_up,
            reply,
        });
    }

    /// Like [`submit_and_reply`](Self::submit_and_reply), for a thread that then waits for the answer. This thread can run
    /// the coordinator's step inline: see [`SharedCoordinator::run_inline`].
    pub fn submit_inline(&self, requests: Vec<SubmitRequest>, reply: Reply<Vec<ExecutionId>>) {
        let give_up = self.give_up();
        self.coordinator.run_inline(Message::Submit {
            requests,
            give_up,
            reply,
        });
    }

    /// Applies a control action to an execution, and returns the new state of the execution once it is durable.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `ExecutionState` when the state does not allow the action; `WorkflowInvalid` for an unknown task;
    /// the errors of [`DefaultRunner::approve`](super::DefaultRunner::approve); `Database` or `Connection`; `RunnerClosed`.
    pub fn control(
        &self,
        execution: ExecutionId,
        action: Control,
    ) -> Result<ExecutionStatus, Error> {
        wait_for(&self.begin_control(execution, action))
    }

    /// Starts [`control`](Self::control) and returns the pending answer.
    pub fn begin_control(
        &self,
        execution: ExecutionId,
        action: Control,
    ) -> Answer<ExecutionStatus> {
        let give_up = self.give_up();
        self.ask(|reply| Message::Control {
            execution,
            action,
            give_up,
            reply,
        })
    }

    /// The inspector of the runner's database, for states, listings, histories and explanations.
    pub const fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// Stops the runner and waits until it has stopped. Running tasks have up to `grace` to finish; the remaining claims are
    /// returned to the database (semantics D8).
    pub fn stop(&self, grace: Duration) {
        // An error means that the coordinator has already ended.
        drop(wait_for(&self.begin_stop(grace)));
        self.end_stop();
    }

    /// Starts [`stop`](Self::stop) and returns the pending answer. Call [`end_stop`](Self::end_stop) once the answer is
    /// there. The parent of a tenant group stops all its tenants too.
    pub fn begin_stop(&self, grace: Duration) -> Answer<()> {
        let grace = micros(grace);
        match self.tenant_group.get() {
            Some(group) if group.is_parent => group.begin_stop(grace),
            _ => self.ask(|reply| Message::Stop { grace, reply }),
        }
    }

    /// Returns the number of pending and running executions, at most `limit`. Returns 0 if another runner is live,
    /// because that runner can continue them. Call this method after the answer of [`begin_stop`](Self::begin_stop) and
    /// before [`end_stop`](Self::end_stop).
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn count_left_open(&self, limit: usize) -> Result<usize, Error> {
        let now = self.now();
        let is_peer = |view: &RunnerView| view.id != self.runner && view.is_alive(now);
        if self.inspector.runners()?.iter().any(is_peer) {
            return Ok(0);
        }
        let query = ListQuery {
            statuses: vec![ExecutionStatus::Pending, ExecutionStatus::Running],
            limit,
            ..ListQuery::default()
        };
        Ok(self.store.list(&query)?.ids.len())
    }

    /// Joins the thread of the stopped coordinator, shuts the executor of Rust tasks down, and closes the store.
    pub fn end_stop(&self) {
        self.thread.lock().join();
        self.closed.store(true, Ordering::Release);
        self.tasks.shutdown();
        self.store.close();
    }

    pub(super) fn give_up(&self) -> Monotonic {
        self.channels.clock.monotonic() + micros(self.config.db_timeout)
    }

    pub(super) fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Answer<T> {
        let (answer, reply) = Answer::new();
        // If the coordinator has ended, the message and its reply are dropped, and the answer is `RunnerClosed`.
        drop(self.channels.mailbox.send(message(reply)));
        answer
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Acquire) {
            self.stop(Duration::ZERO);
        }
    }
}
