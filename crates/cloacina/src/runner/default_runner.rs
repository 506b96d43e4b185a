//! `DefaultRunner`: the engine on one database, for programs in Rust.
//!
//! Every method that has to wait is `async` and waits for an event. What asks the database runs on a thread for blocking
//! work, and tasks run on threads of the runner's own. So no method ever blocks a thread of the caller's runtime, and no
//! task keeps the caller's runtime from its own work, or the other way round.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::async_engine::{AsyncEngine, blocking};
use super::workflow_handle::Following;
use super::{
    Context, EngineHandle, ExecutionFilter, ExecutionPage, OpenOptions, Submission, Task,
    WorkflowHandle, WorkflowResult,
};
use crate::runtime::{Message, RunnerConfig, Service, SubmitRequest};
use crate::types::{Error, ExecutionId, RunnerId};

/// The engine on one database: it starts when it is made, and runs every workflow that this process defines.
///
/// A clone is another way to the same runner. End it with [`shutdown`](Self::shutdown); dropping the last clone without
/// it ends the runner like a crash would: nothing is lost, and another runner takes over what ran.
///
/// It works inside any tokio runtime, also one with a single thread. Tasks run on threads of the runner's own, as many
/// as there are processors, so that a task that computes for long keeps nothing waiting but other tasks: heartbeats are
/// sent from elsewhere. A long computation still belongs into `tokio::task::spawn_blocking`, to leave those threads to
/// the other tasks.
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
/// Since 0.1.
#[derive(Clone)]
pub struct DefaultRunner {
    engine: Arc<AsyncEngine>,
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

    /// A runner for a tenant's schema of the same PostgreSQL database, which is created where it does not exist and the
    /// role may.
    ///
    /// It has the settings of this runner and shares its workers and connections: `db_pool_size` is for all of them
    /// together, and they take turns. Everything else is its own. It stops with this one at the latest.
    ///
    /// `database_url`: the tenant's own credentials, for the same database; those of this runner with `None`.
    ///
    /// # Errors
    /// `Configuration` for a schema that cannot be one, another database, a runner that is a tenant's itself, or one on
    /// SQLite, where a tenant is a file; otherwise as for [`new`](Self::new).
    ///
    /// Since 0.1.
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

    /// Runs a workflow and waits for its end.
    ///
    /// The result tells also of an execution that failed; [`WorkflowResult::into_completed`] makes that an error.
    /// Dropping the future ends the waiting alone; the execution goes on.
    ///
    /// # Errors
    /// `WorkflowNotFound`; `Database` or `Connection` when the database did not take the submission within
    /// `db_timeout`; `RunnerClosed`.
    ///
    /// Since 0.1.
    pub async fn execute(
        &self,
        workflow: impl AsRef<str>,
        context: Context,
    ) -> Result<WorkflowResult, Error> {
        self.submit(workflow, context).await?.result().await
    }

    /// Starts a workflow without waiting for its end; the submission is durable when this returns.
    ///
    /// # Errors
    /// As for [`execute`](Self::execute).
    ///
    /// Since 0.1.
    pub async fn submit(
        &self,
        workflow: impl AsRef<str>,
        context: Context,
    ) -> Result<WorkflowHandle, Error> {
        let submission = Submission::new(workflow.as_ref(), context);
        self.submit_with(submission).await
    }

    /// Starts a workflow with a key, a priority, a start time or a timeout.
    ///
    /// # Errors
    /// As for [`execute`](Self::execute); `Configuration` for an argument that is not valid.
    ///
    /// Since 0.1.
    pub async fn submit_with(&self, submission: Submission) -> Result<WorkflowHandle, Error> {
        let mut handles = self.submit_many([submission]).await?;
        handles.pop().ok_or_else(Error::runner_closed)
    }

    /// Starts many executions in one commit: all or none. The handles come in the order of the submissions.
    ///
    /// # Errors
    /// As for [`submit_with`](Self::submit_with).
    ///
    /// Since 0.1.
    pub async fn submit_many(
        &self,
        submissions: impl IntoIterator<Item = Submission>,
    ) -> Result<Vec<WorkflowHandle>, Error> {
        let handle = self.engine.handle();
        let now = handle.now();
        let requests = submissions
            .into_iter()
            .map(|submission| submission.into_request(now))
            .collect::<Result<Vec<SubmitRequest>, Error>>()?;
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.engine.catch_up().await?;
        // Subscribed before they exist: no end is missed, and no result has to be asked for.
        let mut following: Vec<Following> = requests
            .iter()
            .map(|request| Following::new(Arc::clone(handle), request.id))
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
        let handles = ids.into_iter().zip(following.drain(..));
        Ok(handles
            .map(|(id, following)| {
                // Another id is that of an execution with the same key.
                let following = Some(following).filter(|following| following.execution() == id);
                WorkflowHandle::new(Arc::clone(&self.engine), id, following)
            })
            .collect())
    }

    /// A way to follow and control an execution that was started elsewhere or earlier. An unknown id shows at its first
    /// use. Since 0.1.
    #[must_use]
    pub fn handle(&self, execution: ExecutionId) -> WorkflowHandle {
        WorkflowHandle::new(Arc::clone(&self.engine), execution, None)
    }

    /// An execution as it is now.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` when the database does not answer.
    ///
    /// Since 0.1.
    pub async fn execution(&self, execution: ExecutionId) -> Result<WorkflowResult, Error> {
        let found = self.engine.execution(execution).await?;
        Ok(WorkflowResult::new(found))
    }

    /// Why an execution is where it is: plain sentences, one for each reason.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` when the database does not answer.
    ///
    /// Since 0.1.
    pub async fn explain(&self, execution: ExecutionId) -> Result<Vec<String>, Error> {
        (self.engine)
            .read(move |engine| {
                let reasons = engine.explain(execution)?;
                let now = engine.now();
                Ok(reasons.iter().map(|reason| reason.sentence(now)).collect())
            })
            .await
    }

    /// Executions, newest first, page by page.
    ///
    /// # Errors
    /// When the database does not answer.
    ///
    /// Since 0.1.
    pub async fn list_executions(&self, filter: ExecutionFilter) -> Result<ExecutionPage, Error> {
        let filter = filter.into_inner();
        let page = self
            .engine
            .read(move |engine| engine.list_whole(&filter))
            .await?;
        Ok(ExecutionPage::new(page))
    }

    /// Runs an external task of a workflow that another program defines, be it in Rust or in Python.
    ///
    /// The task is named as a type: `runner.register_external::<resize>("images")`. From now on this runner claims the
    /// task `resize` in every execution of the workflow `images`, whoever submitted it.
    ///
    /// **The program that defines the workflow governs it.** The task's id is all that `#[task]` has to say here. What it
    /// declares beyond that (dependencies, rules, retries, timeout, priority) must be what the definition says; a
    /// contradiction is refused, here if the definition is known, else when it comes up: then this runner leaves the task
    /// alone and logs why. The function's code is not part of the workflow's version, which belongs to the other program.
    ///
    /// # Errors
    /// `TaskInvalid`, when the latest version of the workflow has no such task, does not name it as external, or says
    /// something else about it than `#[task]` does. A workflow that is not stored yet is no error: the task is held
    /// against it when it comes.
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
    /// Since 0.1.
    pub async fn register_external<T: Task>(&self, workflow: impl AsRef<str>) -> Result<(), Error> {
        let handler = self.engine.handler(T::run)?;
        let service = Service {
            workflow: workflow.as_ref().to_owned(),
            tasks: vec![(T::definition(), handler)],
        };
        (self.engine)
            .ask(|reply| Message::Serve { service, reply })
            .await
    }

    /// Stops: no new task starts, running ones get `shutdown_timeout` to end, the rest is given back. Doing it twice is
    /// harmless.
    ///
    /// # Errors
    /// None at present.
    ///
    /// Since 0.1.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.shutdown_within(self.config().shutdown_timeout).await
    }

    /// Stops with another time for running tasks than the settings'. Runners of tenants that this one has made stop too.
    ///
    /// # Errors
    /// None at present.
    ///
    /// Since 0.1.
    pub async fn shutdown_within(&self, grace: Duration) -> Result<(), Error> {
        let engine = Arc::clone(self.engine.handle());
        blocking(move || engine.stop(grace)).await
    }

    /// Whether the runner was shut down. Since 0.1.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.engine.handle().is_closed()
    }

    /// Where the data is, without a password. Since 0.1.
    #[must_use]
    pub fn location(&self) -> String {
        self.engine.handle().location()
    }

    /// The id under which the runner started. Since 0.1.
    #[must_use]
    pub fn runner_id(&self) -> RunnerId {
        self.engine.handle().runner_id()
    }

    /// The settings. Since 0.1.
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
