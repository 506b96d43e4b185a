//! `EngineHandle`: one runner on one database. The `DefaultRunner` of both languages wraps it.

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

/// A started runner. Dropping it without `stop` ends it as a crash would: nothing is lost, other runners rescue its tasks.
pub struct EngineHandle {
    pub(super) store: Arc<dyn Store>,
    channels: RunnerChannels,
    config: RunnerConfig,
    thread: Mutex<CoordinatorThread>,
    coordinator: Arc<SharedCoordinator>,
    tasks: TokioExecutor,
    inspector: Inspector,
    pub(super) metrics: Arc<Metrics>,
    /// The tasks that this program has handlers for, by workflow.
    pub(super) own_handlers: Mutex<FxHashMap<String, Vec<String>>>,
    started_at: Timestamp,
    runner: RunnerId,
    closed: AtomicBool,
    /// The runner has been asked to claim tasks.
    begun: AtomicBool,
    /// The option with which it was opened.
    begin: Begin,
    dispatch: Option<Dispatch>,
    #[cfg(feature = "postgres")]
    auto_migrate: bool,
    /// The store, if its connections can be shared.
    #[cfg(feature = "postgres")]
    pub(super) postgres: Option<Arc<PostgresStore>>,
    /// Set on the runners of a tenant group: on the parent when the first tenant starts, on tenants at their start.
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
    /// As for [`Self::open`]; `Configuration` for an invalid schema name, or a schema on SQLite.
    pub fn open_in_schema(
        url: &str,
        schema: Option<&str>,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        options.config.validate()?;
        // Short enough for a second try within a caller's `db_timeout`, and for a heartbeat before the lease expires.
        let patience = (options.config.db_timeout / 2).min(options.config.lease_ttl / 3);
        let how = StoreOptions {
            schema,
            auto_migrate: options.auto_migrate,
            create: true,
            connections: Some(options.config.db_pool_size),
            // Two attempts fit into a caller's `db_timeout`.
            busy_timeout: Some(options.config.db_timeout / 2),
            patience: Some(patience.max(Duration::from_secs(1))),
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
    /// When the runner cannot be registered in the store.
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

    /// Starts a runner with queues and an executor that it may share with other runners.
    pub(super) fn launch(
        opened: OpenedStore,
        clock: Arc<dyn Clock>,
        options: OpenOptions,
        queues: WorkQueues,
        tasks: impl FnOnce(Arc<WorkQueue>, Arc<Mailbox>, Arc<dyn Clock>) -> TokioExecutor,
    ) -> Result<Self, Error> {
        // A PostgreSQL connection blocks on a tokio runtime of its own, which is not allowed on a thread of the tasks'
        // runtime. A step there would have to start a thread, which costs more than waking the coordinator's.
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
            // Seeded by the operating system: the state of a generator in this process would be the same in a forked child.
            RunnerId::generate().uuid().as_u64_pair().1,
        )?;
        match options.begin {
            Begin::AtOnce => {}
            Begin::After(delay) => coordinator.hold(micros(delay)),
            Begin::OnRequest => coordinator.hold(Micros::MAX),
        }
        let runner = coordinator.runner();
        let metrics = coordinator.metrics();
        let inspector = Inspector::new(Arc::clone(&store), Arc::clone(&channels.clock))
            .of_runner(channels.queues.clone(), Arc::clone(&channels.mailbox));
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

    /// When the runner started.
    pub const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The id with which the runner started.
    pub const fn runner_id(&self) -> RunnerId {
        self.runner
    }

    /// Whether the runner has stopped or its coordinator has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.channels.mailbox.is_closed()
    }

    /// Begins to claim tasks, if the runner was opened with [`Begin::After`] or [`Begin::OnRequest`]. Later calls do nothing.
    pub fn begin(&self) {
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.report(Message::Begin);
        }
    }

    /// Begins before the delay of [`Begin::After`] is over, because the program uses the runner.
    pub(super) fn begin_early(&self) {
        if self.begin != Begin::OnRequest {
            self.begin();
        }
    }

    /// Whether the runner has been asked to claim tasks: it was opened with [`Begin::AtOnce`], or [`begin`](Self::begin) was
    /// called.
    pub fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// The settings.
    pub const fn config(&self) -> &RunnerConfig {
        &self.config
    }

    /// The queues that workers take dispatched tasks from.
    pub const fn queues(&self) -> &WorkQueues {
        &self.channels.queues
    }

    /// Returns the channel by which the ends of this runner's trigger polls are reported.
    pub fn poll_ends(&self) -> PollEnds {
        PollEnds::new(Arc::clone(&self.channels.mailbox))
    }

    /// Returns the handle by which tasks of an executor release and reacquire their slots while deferred (semantics G2).
    pub fn deferrals(&self, executor: Executor) -> Deferrals {
        let queue = Arc::clone(self.channels.queues.of(executor));
        Deferrals::new(executor, queue, Arc::clone(&self.channels.mailbox))
    }

    /// Logs the start of an attempt, at DEBUG, to the dispatcher of this runner.
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

    /// Whether work belongs to this runner: `slot` is its slot if several runners share the workers, `deferrals` are those of
    /// the runner whose workers run it.
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

    /// The options for a tenant's runner: those of this runner.
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

    /// The clocks of the runner.
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

    /// As [`report`](Self::report), for a thread that would only wait for the consequences: it may run the coordinator's step
    /// inline, see [`SharedCoordinator::run_inline`].
    pub fn report_inline(&self, message: Message) {
        self.coordinator.run_inline(message);
    }

    /// Registers a workflow with this program's handlers. The definition is durable when this returns.
    ///
    /// # Errors
    /// `Database` or `Connection` when the definition cannot be stored; `RunnerClosed`.
    pub fn register(&self, registration: Registration) -> Result<(), Error> {
        wait_for(&self.begin_register(registration))
    }

    /// Starts [`register`](Self::register) and returns its pending answer. All `begin_` methods are for callers that wait for
    /// the answer in their own way.
    pub fn begin_register(&self, registration: Registration) -> Answer<()> {
        let tasks = registration.handlers.keys().cloned().collect();
        self.own_handlers
            .lock()
            .insert(registration.workflow.name().to_owned(), tasks);
        self.ask(|reply| Message::Register {
            registration,
            reply,
        })
    }

    /// Starts to register handlers for external tasks of a workflow that another program defines. The answer is an error when
    /// a declaration contradicts the definition.
    pub fn begin_serve(&self, service: Service) -> Answer<()> {
        self.ask(|reply| Message::Serve { service, reply })
    }

    /// Submits executions, all or none. They are durable when this returns.
    ///
    /// # Errors
    /// `WorkflowNotFound`; `Database` or `Connection` when they cannot be stored within `db_timeout`; `RunnerClosed`.
    pub fn submit(&self, requests: Vec<SubmitRequest>) -> Result<Vec<ExecutionId>, Error> {
        wait_for(&self.begin_submit(requests))
    }

    /// Starts [`submit`](Self::submit) and returns its pending answer.
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

    /// As [`begin_submit`](Self::begin_submit), for a thread that will wait for the answer: it may run the coordinator's step
    /// inline, see [`SharedCoordinator::run_inline`].
    pub fn submit_inline(&self, requests: Vec<SubmitRequest>) -> Answer<Vec<ExecutionId>> {
        if requests.is_empty() {
            return Answer::ready(Ok(Vec::new()));
        }
        let give_up = self.give_up();
        let (answer, reply) = Answer::new();
        self.coordinator.run_inline(Message::Submit {
            requests,
            give_up,
            reply,
        });
        answer
    }

    /// Submits executions as [`submit`](Self::submit) does, and calls `reply` with the answer on the coordinator's thread. If
    /// the runner is closed, `reply` is dropped without a call.
    pub fn submit_and_reply(&self, requests: Vec<SubmitRequest>, reply: Reply<Vec<ExecutionId>>) {
        let give_up = self.give_up();
        self.report(Message::Submit {
            requests,
            give_up,
            reply,
        });
    }

    /// Applies a control action to an execution and returns its new state, which is durable.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `ExecutionState` when the state does not allow the action; `Database` or `Connection`;
    /// `RunnerClosed`.
    pub fn control(
        &self,
        execution: ExecutionId,
        action: Control,
    ) -> Result<ExecutionStatus, Error> {
        wait_for(&self.begin_control(execution, action))
    }

    /// Starts [`control`](Self::control) and returns its pending answer.
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

    /// Stops the runner and waits until it has stopped: running tasks get up to `grace` to finish, the remaining claims are
    /// returned (semantics D8).
    pub fn stop(&self, grace: Duration) {
        // An error means that the coordinator has already ended.
        drop(wait_for(&self.begin_stop(grace)));
        self.end_stop();
    }

    /// Starts [`stop`](Self::stop) and returns its pending answer. Call [`end_stop`](Self::end_stop) after the answer. The
    /// parent of a tenant group stops all its tenants too.
    pub fn begin_stop(&self, grace: Duration) -> Answer<()> {
        let grace = micros(grace);
        match self.tenant_group.get() {
            Some(group) if group.is_parent => group.begin_stop(grace),
            _ => self.ask(|reply| Message::Stop { grace, reply }),
        }
    }

    /// The number of executions that are pending or running, at most `limit`, if no other live runner can continue them; 0
    /// if one can. Call it between the answer of [`begin_stop`](Self::begin_stop) and [`end_stop`](Self::end_stop).
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

    /// Joins the threads of a stopped coordinator and closes the store.
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
        // If the coordinator has ended, the message is dropped, and its reply then answers `RunnerClosed`.
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
