//! One runner on one database: the object that both languages' `DefaultRunner` wrap.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::types::sync::Mutex;
use rustc_hash::FxHashMap;
use tracing::Dispatch;

use super::Inspector;
use super::listing::{ListFilter, Page};
use super::open::{Opened, StoreOptions, open_store};
use super::tenant_group::TenantGroup;
use crate::runtime::{
    Answer, Control, Coordinator, CoordinatorThread, Deferrals, Ended, Executor, Mailbox, Message,
    Metrics, PollEnds, Registration, Reply, RunnerChannels, RunnerConfig, Service,
    SharedCoordinator, SubmitRequest, Subscriptions, TokioExecutor, WorkQueue, WorkQueues,
};
use crate::store::Store;
#[cfg(feature = "postgres")]
use crate::store::postgres::PostgresStore;
use crate::types::{
    Clock, Error, ExecutionId, ExecutionStatus, HistoryEvent, Monotonic, RunnerId, SystemClock,
    Timestamp, micros,
};

/// How to open a runner.
#[derive(Default)]
pub struct OpenOptions {
    /// Settings.
    pub config: RunnerConfig,
    /// Where the runner's own threads log; none means the program's default.
    pub dispatch: Option<Dispatch>,
    /// Whether opening migrates the database.
    pub auto_migrate: bool,
}

/// A started runner. Dropping it without `stop` ends it like a crash would: nothing is lost, others take over.
pub struct EngineHandle {
    pub(super) store: Arc<dyn Store>,
    channels: RunnerChannels,
    config: RunnerConfig,
    thread: Mutex<CoordinatorThread>,
    coordinator: Arc<SharedCoordinator>,
    tasks: TokioExecutor,
    inspector: Inspector,
    pub(super) metrics: Arc<Metrics>,
    /// Tasks that this program has handlers for, by workflow.
    pub(super) own: Mutex<FxHashMap<String, Vec<String>>>,
    started_at: Timestamp,
    runner: RunnerId,
    closed: AtomicBool,
    #[cfg(feature = "postgres")]
    dispatch: Option<Dispatch>,
    #[cfg(feature = "postgres")]
    auto_migrate: bool,
    /// The store, where it is one whose connections can be shared.
    #[cfg(feature = "postgres")]
    pub(super) postgres: Option<Arc<PostgresStore>>,
    /// Set once there are tenants, and on tenants.
    pub(super) tenant_group: OnceLock<TenantGroup>,
}

impl EngineHandle {
    /// Opens the database of a URL and starts a runner on it.
    ///
    /// # Errors
    /// For a URL that cannot be read, a database that cannot be opened, or a setting that makes no sense.
    pub fn open(url: &str, options: OpenOptions) -> Result<Self, Error> {
        Self::open_in_schema(url, None, options)
    }

    /// The same within a schema of a PostgreSQL database, which is created if it is missing.
    ///
    /// # Errors
    /// As for [`Self::open`]; `Configuration` for a schema that cannot be one, or on SQLite.
    pub fn open_in_schema(
        url: &str,
        schema: Option<&str>,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        options.config.validate()?;
        // So that a caller's second try ends little after its db_timeout, and a heartbeat comes in time.
        let patience = (options.config.db_timeout / 2).min(options.config.lease_ttl / 3);
        let how = StoreOptions {
            schema,
            auto_migrate: options.auto_migrate,
            create: true,
            connections: Some(options.config.db_pool_size),
            // Two attempts fit into the time that a caller waits.
            busy_timeout: Some(options.config.db_timeout / 2),
            patience: Some(patience.max(Duration::from_secs(1))),
        };
        let opened = open_store(url, &how)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let queues = WorkQueues::default();
        Self::launch(opened, clock, options, queues, TokioExecutor::new)
    }

    /// Starts a runner on an open store.
    ///
    /// # Errors
    /// When the store does not take the runner.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        options.config.validate()?;
        let queues = WorkQueues::default();
        let opened = Opened::alone(store);
        Self::launch(opened, clock, options, queues, TokioExecutor::new)
    }

    /// Starts a runner with queues and an executor that may be others' too.
    pub(super) fn launch(
        opened: Opened,
        clock: Arc<dyn Clock>,
        options: OpenOptions,
        queues: WorkQueues,
        tasks: impl FnOnce(Arc<WorkQueue>, Arc<Mailbox>, Arc<dyn Clock>) -> TokioExecutor,
    ) -> Result<Self, Error> {
        // A connection to PostgreSQL has a runtime of its own, which cannot run on a thread of the tasks' runtime: a step there
        // would start a thread, which costs more than to wake the coordinator's.
        #[cfg(feature = "postgres")]
        let tasks_may_lead = opened.postgres.is_none();
        #[cfg(not(feature = "postgres"))]
        let tasks_may_lead = true;
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
        let coordinator = Coordinator::start(
            Arc::clone(&store),
            Arc::clone(&channels.clock),
            options.config.clone(),
            channels.queues.clone(),
            Arc::clone(&channels.subscriptions),
            // The operating system's randomness: a generator's state would be the same in a forked child.
            RunnerId::generate().uuid().as_u64_pair().1,
        )?;
        let runner = coordinator.runner();
        let metrics = coordinator.metrics();
        let inspector = Inspector::new(Arc::clone(&store), Arc::clone(&channels.clock));
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
        if tasks_may_lead {
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
            own: Mutex::default(),
            started_at,
            runner,
            closed: AtomicBool::new(false),
            #[cfg(feature = "postgres")]
            dispatch: options.dispatch,
            #[cfg(feature = "postgres")]
            auto_migrate: options.auto_migrate,
            #[cfg(feature = "postgres")]
            postgres: opened.postgres,
            tenant_group: OnceLock::new(),
        })
    }

    /// Where the data is, without a password.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// When the runner started.
    pub const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The id under which the runner started.
    pub const fn runner_id(&self) -> RunnerId {
        self.runner
    }

    /// Whether the runner was stopped, or its coordinator has ended: nothing will come of it any more.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.channels.mailbox.is_closed()
    }

    /// The settings.
    pub const fn config(&self) -> &RunnerConfig {
        &self.config
    }

    /// The queues from which workers take.
    pub const fn queues(&self) -> &WorkQueues {
        &self.channels.queues
    }

    /// The way to say how polls of this runner's triggers ended.
    pub fn poll_ends(&self) -> PollEnds {
        PollEnds::new(Arc::clone(&self.channels.mailbox))
    }

    /// How tasks of an executor lend their slots while they wait (semantics G2).
    pub fn deferrals(&self, executor: Executor) -> Deferrals {
        let queue = Arc::clone(self.channels.queues.of(executor));
        Deferrals::new(executor, queue, Arc::clone(&self.channels.mailbox))
    }

    /// The executor of Rust tasks.
    pub const fn tasks(&self) -> &TokioExecutor {
        &self.tasks
    }

    /// Settings for a tenant: this runner's.
    #[cfg(feature = "postgres")]
    pub(super) fn tenant_options(&self) -> OpenOptions {
        OpenOptions {
            config: self.config.clone(),
            dispatch: self.dispatch.clone(),
            auto_migrate: self.auto_migrate,
        }
    }

    pub(super) const fn channels(&self) -> &RunnerChannels {
        &self.channels
    }

    /// The clocks of the runner.
    pub fn clock(&self) -> &dyn Clock {
        &*self.channels.clock
    }

    /// The time as the runner sees it.
    pub fn now(&self) -> Timestamp {
        self.channels.clock.now()
    }

    /// Tells the coordinator what a worker did. A closed runner hears nothing: the result is dropped.
    pub fn report(&self, message: Message) {
        drop(self.channels.mailbox.send(message));
    }

    /// The same for a thread with nothing else to do than to wait for what follows: it may make the coordinator's step
    /// itself, for which see [`SharedCoordinator::run_inline`].
    pub fn report_leading(&self, message: Message) {
        self.coordinator.run_inline(message);
    }

    /// Makes a workflow known, durably, with this program's handlers.
    ///
    /// # Errors
    /// When the database does not take it, or the runner is closed.
    pub fn register(&self, registration: Registration) -> Result<(), Error> {
        settled(&self.begin_register(registration))
    }

    /// [`register`](Self::register) for a caller that waits in its own way, as are the other `begin_` methods.
    pub fn begin_register(&self, registration: Registration) -> Answer<()> {
        let tasks = registration.handlers.keys().cloned().collect();
        self.own
            .lock()
            .insert(registration.workflow.name().to_owned(), tasks);
        self.ask(|reply| Message::Register {
            registration,
            reply,
        })
    }

    /// Takes handlers for external tasks of a workflow that another program defines; an error when they contradict it.
    pub fn begin_serve(&self, service: Service) -> Answer<()> {
        self.ask(|reply| Message::Serve { service, reply })
    }

    /// Starts executions, all or none; they are durable when this returns.
    ///
    /// # Errors
    /// For an unknown workflow, a database in trouble longer than `db_timeout`, or a closed runner.
    pub fn submit(&self, requests: Vec<SubmitRequest>) -> Result<Vec<ExecutionId>, Error> {
        settled(&self.begin_submit(requests))
    }

    /// The beginning of [`submit`](Self::submit).
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

    /// [`begin_submit`](Self::begin_submit) for a thread that will wait for the answer: see [`SharedCoordinator::run_inline`].
    pub fn submit_leading(&self, requests: Vec<SubmitRequest>) -> Answer<Vec<ExecutionId>> {
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

    /// Asks something of an execution; its state afterwards, durable.
    ///
    /// # Errors
    /// For an unknown id, a state that does not allow it, a database in trouble, or a closed runner.
    pub fn control(
        &self,
        execution: ExecutionId,
        action: Control,
    ) -> Result<ExecutionStatus, Error> {
        settled(&self.begin_control(execution, action))
    }

    /// The beginning of [`control`](Self::control).
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

    /// What looks at the database: states, listings, histories, explanations.
    pub const fn inspector(&self) -> &Inspector {
        &self.inspector
    }

    /// The state of an execution.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn status(&self, id: ExecutionId) -> Result<ExecutionStatus, Error> {
        self.inspector.status(id)
    }

    /// An execution as it is now.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn execution(&self, id: ExecutionId) -> Result<Ended, Error> {
        self.inspector.execution(id)
    }

    /// Executions, newest first, page by page: see [`Inspector::list`].
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn list(&self, filter: &ListFilter) -> Result<Page, Error> {
        self.inspector.list(filter)
    }

    /// The same with inputs and what tasks wrote.
    pub(super) fn list_whole(&self, filter: &ListFilter) -> Result<Page, Error> {
        let page = self.list(filter)?;
        let ids: Vec<ExecutionId> = page.items.iter().map(|item| item.record().id).collect();
        Ok(Page {
            items: self.inspector.executions(&ids)?,
            next: page.next,
        })
    }

    /// The history of an execution, oldest first.
    ///
    /// # Errors
    /// For an unknown id or a database in trouble.
    pub fn history(&self, id: ExecutionId) -> Result<(Ended, Vec<HistoryEvent>), Error> {
        self.inspector.history(id)
    }

    /// Stops gracefully and waits for it: running tasks get `grace`, the rest is given back (semantics D8).
    pub fn stop(&self, grace: Duration) {
        // A refusal means that the coordinator has ended already.
        drop(settled(&self.begin_stop(grace)));
        self.end_stop();
    }

    /// The beginning of [`stop`](Self::stop); after its answer comes [`end_stop`](Self::end_stop). Tenants stop too.
    pub fn begin_stop(&self, grace: Duration) -> Answer<()> {
        let grace = micros(grace);
        match self.tenant_group.get() {
            Some(group) if group.is_parent => group.begin_stop(grace),
            _ => self.ask(|reply| Message::Stop { grace, reply }),
        }
    }

    /// Ends the threads of a coordinator that has stopped.
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
        // Nobody reads a message that came too late: dropping it answers.
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

pub(super) fn settled<T>(answer: &Answer<T>) -> Result<T, Error> {
    answer
        .wait(Duration::MAX)
        .unwrap_or_else(|| Err(Error::runner_closed()))
}
