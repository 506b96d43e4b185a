//! Following and controlling one execution.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::async_engine::AsyncEngine;
use super::{EngineHandle, ExecutionEvent, WorkflowResult};
use crate::runtime::{Control, Ended, Subscription};
use crate::types::sync::Mutex;
use crate::types::{Error, ErrorCode, ExecutionId, ExecutionStatus};

type Outcome = Option<Result<Ended, Error>>;

/// One execution: its state, its result, its history, and what can be asked of it.
///
/// # Examples
///
#[cfg_attr(feature = "sqlite", doc = "```")]
#[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
/// # use cloacina::{Context, DefaultRunner, ExecutionStatus, TaskError, task, workflow};
/// #[task]
/// async fn wait_long(context: &mut Context) -> Result<(), TaskError> {
///     std::future::pending().await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let slow = workflow! { name: "slow", tasks: [wait_long] };
/// let runner = DefaultRunner::new(":memory:").await?;
/// let handle = runner.submit(&slow, Context::new()).await?;
/// handle.cancel().await?;
/// assert_eq!(handle.result().await?.status(), ExecutionStatus::Cancelled);
/// # runner.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// Since 0.1.
#[derive(Clone)]
pub struct WorkflowHandle {
    engine: Arc<AsyncEngine>,
    id: ExecutionId,
    /// Of a fresh submission: its end, as soon as it is there.
    following: Arc<Mutex<Option<Following>>>,
}

impl WorkflowHandle {
    pub(super) fn new(
        engine: Arc<AsyncEngine>,
        id: ExecutionId,
        following: Option<Following>,
    ) -> Self {
        Self {
            engine,
            id,
            following: Arc::new(Mutex::new(following)),
        }
    }

    /// The execution's id, by which any program on this database finds it. Since 0.1.
    #[must_use]
    pub const fn id(&self) -> ExecutionId {
        self.id
    }

    /// Waits for the end. The result tells also of an execution that failed.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `RunnerClosed` when the runner is shut down while waiting.
    ///
    /// Since 0.1.
    pub async fn result(&self) -> Result<WorkflowResult, Error> {
        let known = {
            let following = self.following.lock();
            following.as_ref().map(|following| following.end.clone())
        };
        let mut end = match known {
            Some(end) => end,
            None => self.follow().await?,
        };
        let ended = match end.wait_for(Option::is_some).await {
            Ok(outcome) => outcome
                .clone()
                .unwrap_or_else(|| Err(Error::runner_closed()))?,
            Err(_) => return Err(Error::runner_closed()),
        };
        // What is asked for later may be another end, after a retry.
        *self.following.lock() = None;
        Ok(WorkflowResult::new(ended))
    }

    /// Waits for the end, but not longer than this. The execution goes on.
    ///
    /// # Errors
    /// `WaitTimeout` when the time is over; as for [`result`](Self::result).
    ///
    /// Since 0.1.
    pub async fn result_within(&self, patience: Duration) -> Result<WorkflowResult, Error> {
        let timer = tokio::time::timeout(patience, self.result());
        timer.await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorCode::WaitTimeout,
                format!("execution {} has not ended within {patience:?}", self.id),
            )
            .with_hint("it goes on; ask again, or cancel it"))
        })
    }

    /// The state now.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` when the database does not answer.
    ///
    /// Since 0.1.
    pub async fn status(&self) -> Result<ExecutionStatus, Error> {
        let id = self.id;
        self.engine.read(move |engine| engine.status(id)).await
    }

    /// Everything about the execution as it is now.
    ///
    /// # Errors
    /// As for [`status`](Self::status).
    ///
    /// Since 0.1.
    pub async fn snapshot(&self) -> Result<WorkflowResult, Error> {
        Ok(WorkflowResult::new(self.engine.execution(self.id).await?))
    }

    /// Ends the execution as `Cancelled`: durable when this returns. Running futures are dropped.
    ///
    /// # Errors
    /// `ExecutionState` when it has ended otherwise; `ExecutionNotFound`; `Database`; `RunnerClosed`.
    ///
    /// Since 0.1.
    pub async fn cancel(&self) -> Result<ExecutionStatus, Error> {
        self.engine.control(self.id, Control::Cancel).await
    }

    /// Lets running tasks end and starts nothing new until [`resume`](Self::resume); timers hold.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    ///
    /// Since 0.1.
    pub async fn pause(&self) -> Result<ExecutionStatus, Error> {
        self.engine.control(self.id, Control::Pause).await
    }

    /// Goes on after a pause.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    ///
    /// Since 0.1.
    pub async fn resume(&self) -> Result<ExecutionStatus, Error> {
        self.engine.control(self.id, Control::Resume).await
    }

    /// Runs failed tasks, and those skipped for them, again; completed ones keep their results.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    ///
    /// Since 0.1.
    pub async fn retry(&self) -> Result<ExecutionStatus, Error> {
        self.retry_with(None).await
    }

    /// The same, and runs this task and all that depends on it again, also where they completed.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel); `TaskInvalid` for an unknown task.
    ///
    /// Since 0.1.
    pub async fn retry_from(&self, task: impl Into<String>) -> Result<ExecutionStatus, Error> {
        self.retry_with(Some(task.into())).await
    }

    /// What happened so far, oldest first.
    ///
    /// # Errors
    /// As for [`status`](Self::status).
    ///
    /// Since 0.1.
    pub async fn events(&self) -> Result<Vec<ExecutionEvent>, Error> {
        let id = self.id;
        let read = self.engine.read(move |engine| engine.history(id));
        let (execution, events) = read.await?;
        let events = events.into_iter();
        Ok(events
            .map(|event| ExecutionEvent::new(&execution, event))
            .collect())
    }

    async fn retry_with(&self, from_task: Option<String>) -> Result<ExecutionStatus, Error> {
        let control = Control::Retry { from_task };
        let status = self.engine.control(self.id, control).await?;
        *self.following.lock() = None;
        Ok(status)
    }

    /// Subscribes to the end of an execution that was not submitted through this handle.
    async fn follow(&self) -> Result<watch::Receiver<Outcome>, Error> {
        let id = self.id;
        let engine = Arc::clone(self.engine.handle());
        let follow = move |_: &EngineHandle| Following::existing(engine, id);
        let following = self.engine.read(follow).await?;
        let end = following.end.clone();
        *self.following.lock() = Some(following);
        Ok(end)
    }
}

impl fmt::Debug for WorkflowHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkflowHandle")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A subscription to the end of an execution, taken back when it is dropped.
pub(super) struct Following {
    engine: Arc<EngineHandle>,
    execution: ExecutionId,
    subscription: Subscription,
    end: watch::Receiver<Outcome>,
}

impl Following {
    /// Follows an execution that is about to be submitted.
    pub(super) fn new(engine: Arc<EngineHandle>, execution: ExecutionId) -> Self {
        let (sender, end) = watch::channel(None);
        let subscription = engine.when_new_ended(execution, move |outcome| {
            sender.send_replace(Some(outcome));
        });
        Self {
            engine,
            execution,
            subscription,
            end,
        }
    }

    /// Follows one that exists; may block.
    fn existing(engine: Arc<EngineHandle>, execution: ExecutionId) -> Result<Self, Error> {
        let (sender, end) = watch::channel(None);
        let subscription = engine.when_ended(execution, move |outcome| {
            sender.send_replace(Some(outcome));
        })?;
        Ok(Self {
            engine,
            execution,
            subscription,
            end,
        })
    }

    pub(super) const fn execution(&self) -> ExecutionId {
        self.execution
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.engine.forget(self.subscription);
    }
}
