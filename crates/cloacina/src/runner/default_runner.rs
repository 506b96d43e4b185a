//! `DefaultRunner`: the engine on one database, for programs in Rust.
//!
//! Every method that waits is `async`. Database queries run on a thread for blocking work, and tasks run on the runner's own
//! threads. So no method blocks a thread of the caller's runtime, and tasks and the caller's futures do not delay each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::async_engine::{AsyncEngine, blocking};
use super::definition::DEFINITIONS;
use super::workflow_handle::{EndSubscription, HandleOrigin};
use super::{
    Context, EngineHandle, ExecutionFilter, ExecutionPage, OpenOptions, Submission, Task,
    WorkflowHandle, WorkflowResult,
};
use crate::runtime::{Message, RunnerConfig, Service, SubmitRequest};
use crate::types::{Error, ExecutionId, RunnerId};

/// A runner on one database. It starts when it is created, and runs every workflow that this process defines.
///
/// Clones share the same runner. Stop it with [`shutdown`](Self::shutdown). Dropping the last clone without a shutdown stops
/// the runner without waiting for running tasks. Nothing is lost: another runner runs these tasks again.
///
/// A runner works in any tokio runtime, including one with a single thread. Tasks run on the runner's own threads, one for
/// each processor. A long computation in a task delays other tasks, but not heartbeats, which are sent from another thread.
/// Use `tokio::task::spawn_blocking` for long computations: it keeps the runner's threads free for other tasks.
///
/// # Examples
///
#[cfg_attr(feature = "sqlite", doc = "```")]
#[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
/// use cloacina::{Context, DefaultRunner, TaskError, task, workflow};
///
/// #[task(retry_attempts = 3, retry_delay_ms = 500)]
/// async fn extract(context: &mut Context) -> Result<(), TaskError> {
///     context.set("rows", [1, 2, 3])?;
///     Ok(())
/// }
///
/// #[task(dependencies = ["extract"])]
/// async fn total(context: &mut Context) -> Result<(), TaskError> {
///     let rows: Vec<i64> = context.get("rows")?;
///     context.set("total", rows.iter().sum::<i64>())?;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let etl = workflow! {
///     name: "etl",
///     description: "Load the daily file",
///     tasks: [extract, total],
/// };
/// let runner = DefaultRunner::new("sqlite://:memory:").await?;
/// let result = runner.execute(&etl, Context::new()).await?;
/// assert_eq!(result.final_context().get::<i64>("total")?, 6);
/// runner.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// Since 1.0.
#[derive(Clone)]
pub struct DefaultRunner {
    pub(super) engine: Arc<AsyncEngine>,
}

impl DefaultRunner {
    pub(super) async fn open(
        url: String,
        schema: Option<String>,
        options: OpenOptions,
    ) -> Result<Self, Error> {
        let open = move || EngineHandle::open_in_schema(&url, schema.as_deref(), options);
        let engine = AsyncEngine::start(blocking(open).await??).await?;
        Ok(Self { engine })
    }

    /// Starts a runner for a tenant's schema in the same PostgreSQL database. If the schema does not exist and the role is
    /// allowed to create it, the schema is created.
    ///
    /// The new runner has the settings of this runner. The two runners share their workers and connections, and nothing
    /// else. Together with the runners of the other tenants they form a tenant group, whose runners take turns.
    /// `db_pool_size` limits the connections of the whole group. The new runner stops when this runner stops.
    ///
    /// `database_url`: a URL of the same database with the tenant's credentials; `None` means this runner's URL.
    ///
    /// # Errors
    /// `Configuration` for an invalid schema name, a URL of another database, a call on a tenant's runner, or a runner on
    /// SQLite, where each tenant has its own file; the errors of [`new`](Self::new).
    ///
    /// Since 1.0.
    #[cfg(feature = "postgres")]
    pub async fn tenant(
        &self,
        schema: impl Into<String>,
        database_url: Option<String>,
    ) -> Result<Self, Error> {
        let schema = schema.into();
        let tenant = (self.engine)
            .read(move |engine| engine.open_tenant(&schema, database_url.as_deref(), || None))
            .await?;
        let engine = AsyncEngine::start(tenant).await?;
        Ok(Self { engine })
    }

    /// Begins to claim tasks, if the runner was built with [`start(false)`](super::DefaultRunnerBuilder::start). A second
    /// call does nothing.
    ///
    /// Until this call, the runner accepts submissions and control actions, but runs no tasks.
    ///
    /// Since 1.0.
    pub fn start(&self) {
        self.engine.handle().begin();
    }

    /// Runs a workflow and waits for its end.
    ///
    /// A failed execution is not an error of this method; [`WorkflowResult::into_completed`] turns it into an error. If the
    /// future is dropped, the execution continues.
    ///
    /// # Errors
    /// `WorkflowNotFound`; `WorkflowInvalid` for a workflow that this release cannot run; `WorkflowInputInvalid` for an
    /// input that does not have the type that `workflow!` declares (nothing is stored in this case); `ContextInvalid` for
    /// an input that is larger than `max_context_bytes`; `Database` or `Connection` when the submission could not be stored
    /// within `db_timeout`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn execute(
        &self,
        workflow: impl AsRef<str>,
        context: Context,
    ) -> Result<WorkflowResult, Error> {
        self.submit(workflow, context).await?.result().await
    }

    /// Submits an execution without waiting for its end. The submission is durable when this method returns.
    ///
    /// # Errors
    /// The errors of [`execute`](Self::execute).
    ///
    /// Since 1.0.
    pub async fn submit(
        &self,
        workflow: impl AsRef<str>,
        context: Context,
    ) -> Result<WorkflowHandle, Error> {
        let submission = Submission::new(workflow.as_ref(), context);
        self.submit_with(submission).await
    }

    /// Submits an execution with options, such as a key, a priority, a start time or a timeout.
    ///
    /// # Errors
    /// The errors of [`execute`](Self::execute); `Configuration` for an invalid option.
    ///
    /// Since 1.0.
    pub async fn submit_with(&self, submission: Submission) -> Result<WorkflowHandle, Error> {
        let mut handles = self.submit_many([submission]).await?;
        handles.pop().ok_or_else(Error::runner_closed)
    }

    /// Submits many executions in one transaction. The handles are in the order of the submissions.
    ///
    /// # Errors
    /// The errors of [`submit_with`](Self::submit_with).
    ///
    /// Since 1.0.
    pub async fn submit_many(
        &self,
        submissions: impl IntoIterator<Item = Submission>,
    ) -> Result<Vec<WorkflowHandle>, Error> {
        let handle = self.engine.handle();
        let now = handle.now();
        let requests = submissions
            .into_iter()
            .map(|submission| {
                let mut request = submission.into_request(now)?;
                DEFINITIONS.validate(&request.workflow, &mut request.input)?;
                Ok(request)
            })
            .collect::<Result<Vec<SubmitRequest>, Error>>()?;
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.register_new_definitions().await?;
        handle.begin_early();
        // Subscribe before the executions exist, so that no end is missed and no result needs a query.
        let mut subscriptions: Vec<EndSubscription> = requests
            .iter()
            .map(|request| EndSubscription::new(Arc::clone(handle), request.id))
            .collect();
        let keys: Vec<Option<Arc<str>>> = requests
            .iter()
            .map(|request| request.key.as_deref().map(Arc::from))
            .collect();
        let give_up = handle.give_up();
        let ids = self
            .engine
            .ask(|reply| Message::Submit {
                requests,
                give_up,
                reply,
            })
            .await?;
        let handles = ids.into_iter().zip(keys).zip(subscriptions.drain(..));
        Ok(handles
            .map(|((id, key), subscription)| {
                // If the returned id differs, an execution with the same key already exists.
                let subscription =
                    Some(subscription).filter(|subscription| subscription.execution() == id);
                let created = subscription.is_some();
                let origin = HandleOrigin::Submitted { key, created };
                WorkflowHandle::new(Arc::clone(&self.engine), id, origin, subscription)
            })
            .collect())
    }

    /// Returns a handle to an existing execution, whichever program submitted it. The id is not checked here: if it is
    /// unknown, the handle's methods return an error. Since 1.0.
    #[must_use]
    pub fn handle(&self, execution: ExecutionId) -> WorkflowHandle {
        let engine = Arc::clone(&self.engine);
        WorkflowHandle::new(engine, execution, HandleOrigin::Id, None)
    }

    /// Returns a handle to the execution that any program submitted for this workflow with this key; `None` if no such
    /// execution exists.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    ///
    /// # Examples
    ///
    #[cfg_attr(feature = "sqlite", doc = "```")]
    #[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
    /// # use cloacina::{Context, DefaultRunner, Submission, TaskError, task, workflow};
    /// # #[task]
    /// # async fn load(context: &mut Context) -> Result<(), TaskError> {
    /// #     Ok(())
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etl = workflow! { name: "etl_by_key", tasks: [load] };
    /// # let runner = DefaultRunner::new(":memory:").await?;
    /// let submission = Submission::new(&etl, Context::new()).key("2026-01-01");
    /// let submitted = runner.submit_with(submission).await?;
    /// let found = runner.find(&etl, "2026-01-01").await?;
    /// assert_eq!(found.map(|handle| handle.id()), Some(submitted.id()));
    /// assert!(runner.find(&etl, "2026-01-02").await?.is_none());
    /// # runner.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Since 1.0.
    pub async fn find(
        &self,
        workflow: impl AsRef<str>,
        key: impl AsRef<str>,
    ) -> Result<Option<WorkflowHandle>, Error> {
        let (workflow, key) = (workflow.as_ref().to_owned(), Arc::from(key.as_ref()));
        let wanted = Arc::clone(&key);
        let found = (self.engine)
            .read(move |engine| engine.inspector().find(&workflow, &wanted))
            .await?;
        Ok(found.map(|id| {
            let origin = HandleOrigin::Found { key };
            WorkflowHandle::new(Arc::clone(&self.engine), id, origin, None)
        }))
    }

    /// Returns the current state of an execution.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection` when the database fails or does not answer.
    ///
    /// Since 1.0.
    pub async fn execution(&self, execution: ExecutionId) -> Result<WorkflowResult, Error> {
        let state = self.engine.execution(execution).await?;
        Ok(WorkflowResult::new(state, &self.engine))
    }

    /// Explains what an execution waits for, or why it ended. Returns one sentence for each reason.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection` when the database fails or does not answer.
    ///
    /// Since 1.0.
    pub async fn explain(&self, execution: ExecutionId) -> Result<Vec<String>, Error> {
        (self.engine)
            .read(move |engine| {
                let reasons = engine.explain(execution)?;
                let now = engine.now();
                Ok(reasons.iter().map(|reason| reason.sentence(now)).collect())
            })
            .await
    }

    /// Lists executions, newest first, page by page.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    ///
    /// Since 1.0.
    pub async fn list_executions(&self, filter: ExecutionFilter) -> Result<ExecutionPage, Error> {
        let filter = filter.into_inner();
        let page = self
            .engine
            .read(move |engine| engine.inspector().list_with_contexts(&filter))
            .await?;
        Ok(ExecutionPage::new(page, &self.engine))
    }

    /// Registers this program's function for an external task. The workflow of the task is defined by another program, in
    /// Rust or Python.
    ///
    /// The task is given as a type: `runner.register_external::<resize>("images")`. After this call, the runner claims the
    /// task `resize` of every execution of the workflow `images`, whichever program submitted the execution.
    ///
    /// **The program that defines the workflow decides the options of its tasks.** For an external task, `#[task]` needs to
    /// declare only the task's id. If it declares other options (dependencies, rules, retries, timeout, priority),
    /// their values must be equal to the values in the workflow's definition; a different value is refused. If the
    /// definition is not stored yet, the options are compared when it is stored. If they differ at that time, this
    /// runner logs the difference and does not claim the task. The function's code is not part of the workflow's
    /// version.
    ///
    /// # Errors
    /// `TaskInvalid` when the latest version of the workflow has no such task, does not declare it as external, or has a
    /// different value for an option that `#[task]` declares. A workflow that is not stored yet is not an error.
    ///
    /// # Examples
    ///
    #[cfg_attr(feature = "sqlite", doc = "```")]
    #[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
    /// # use cloacina::{Context, DefaultRunner, TaskError, task};
    /// #[task]
    /// async fn resize(context: &mut Context) -> Result<(), TaskError> {
    ///     context.set("width", 640)?;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runner = DefaultRunner::new(":memory:").await?;
    /// runner.register_external::<resize>("images").await?;
    /// # runner.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Since 1.0.
    pub async fn register_external<T: Task>(&self, workflow: impl AsRef<str>) -> Result<(), Error> {
        let handler = self.engine.handler(T::run)?;
        let service = Service {
            workflow: workflow.as_ref().to_owned(),
            tasks: vec![(T::definition(), handler)],
        };
        self.engine.handle().note_own_service(&service);
        (self.engine)
            .ask(|reply| Message::Serve { service, reply })
            .await
    }

    /// Stops the runner: it starts no more tasks, waits up to `shutdown_timeout` for running tasks, and returns the remaining
    /// claims to the database. A second call has no effect.
    ///
    /// # Errors
    /// `Database` when the thread for the call cannot be started.
    ///
    /// Since 1.0.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.shutdown_within(self.config().shutdown_timeout).await
    }

    /// Stops as [`shutdown`](Self::shutdown) does, but waits up to `grace` for running tasks. Both methods also stop the
    /// runners that this runner started for tenants.
    ///
    /// # Errors
    /// `Database` when the thread for the call cannot be started.
    ///
    /// Since 1.0.
    pub async fn shutdown_within(&self, grace: Duration) -> Result<(), Error> {
        let engine = Arc::clone(self.engine.handle());
        blocking(move || engine.stop(grace)).await
    }

    /// Returns whether the runner has stopped. Since 1.0.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.engine.handle().is_closed()
    }

    /// Returns the location of the database, without the password. Since 1.0.
    #[must_use]
    pub fn location(&self) -> String {
        self.engine.handle().location()
    }

    /// Returns the id of the runner. Since 1.0.
    #[must_use]
    pub fn runner_id(&self) -> RunnerId {
        self.engine.handle().runner_id()
    }

    /// Returns the runner's settings. Since 1.0.
    #[must_use]
    pub fn config(&self) -> &RunnerConfig {
        self.engine.handle().config()
    }

    pub(super) const fn engine(&self) -> &Arc<AsyncEngine> {
        &self.engine
    }
}

impl fmt::Debug for DefaultRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultRunner")
            .field("location", &self.location())
            .field("closed", &self.is_closed())
            .finish()
    }
}
