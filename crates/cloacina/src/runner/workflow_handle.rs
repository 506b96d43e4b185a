//! `WorkflowHandle`: follows and controls one execution.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::async_engine::AsyncEngine;
use super::{EngineHandle, ExecutionEvent, WorkflowResult};
use crate::runtime::{Control, Ended, Subscription};
use crate::types::sync::Mutex;
use crate::types::{Error, ErrorCode, ExecutionId, ExecutionStatus};

/// The end of an execution, or an error if waiting for the end failed; `None` while the execution has not ended.
type EndState = Option<Result<Ended, Error>>;

/// How a handle was created.
#[derive(Clone, Debug)]
pub(super) enum HandleOrigin {
    /// A submission with this key returned the handle. `created` is false if the submission found an earlier execution.
    Submitted {
        key: Option<Arc<str>>,
        created: bool,
    },
    /// A look-up of this key returned the handle.
    Found { key: Arc<str> },
    /// The program passed the id of the execution.
    Id,
}

/// A handle to one execution. It reads the state, result and history of the execution, and controls the execution.
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
/// Since 1.0.
#[derive(Clone)]
pub struct WorkflowHandle {
    engine: Arc<AsyncEngine>,
    id: ExecutionId,
    origin: HandleOrigin,
    /// The subscription to the execution's end, if the handle has one.
    subscription: Arc<Mutex<Option<EndSubscription>>>,
}

impl WorkflowHandle {
    pub(super) fn new(
        engine: Arc<AsyncEngine>,
        id: ExecutionId,
        origin: HandleOrigin,
        subscription: Option<EndSubscription>,
    ) -> Self {
        Self {
            engine,
            id,
            origin,
            subscription: Arc::new(Mutex::new(subscription)),
        }
    }

    /// The execution's id, which any program on this database can use. Since 1.0.
    #[must_use]
    pub const fn id(&self) -> ExecutionId {
        self.id
    }

    /// Returns the key with which the execution was submitted, if any. A handle that was created from an id reads the key
    /// from the database.
    ///
    /// # Errors
    /// The errors of [`status`](Self::status), if the handle was created from an id.
    ///
    /// Since 1.0.
    pub async fn key(&self) -> Result<Option<String>, Error> {
        let key = match &self.origin {
            HandleOrigin::Submitted { key, .. } => key.as_deref(),
            HandleOrigin::Found { key } => Some(&**key),
            HandleOrigin::Id => {
                let id = self.id;
                return self
                    .engine
                    .read(move |engine| engine.inspector().key(id))
                    .await;
            }
        };
        Ok(key.map(str::to_owned))
    }

    /// Returns whether the submission that returned this handle created the execution. `false` if an earlier execution has
    /// the submission's key, or if the handle does not come from a submission. Since 1.0.
    #[must_use]
    pub const fn created(&self) -> bool {
        matches!(self.origin, HandleOrigin::Submitted { created: true, .. })
    }

    /// Returns whether the execution has ended.
    ///
    /// # Errors
    /// The errors of [`status`](Self::status).
    ///
    /// Since 1.0.
    pub async fn done(&self) -> Result<bool, Error> {
        Ok(self.status().await?.is_terminal())
    }

    /// Waits until the execution and its final tasks, if any, have ended. A failed execution is not an error of this method.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `RunnerClosed` when the runner is shut down during the wait; `Database` or `Connection`
    /// when the execution has ended but cannot be read.
    ///
    /// Since 1.0.
    pub async fn result(&self) -> Result<WorkflowResult, Error> {
        let result = self.result_without_final().await?;
        if let Some(id) = result.final_execution() {
            let finale = Self::new(Arc::clone(&self.engine), id, HandleOrigin::Id, None);
            finale.result_without_final().await?;
        }
        Ok(result)
    }

    /// Waits until the execution has ended. Does not wait for its final tasks.
    ///
    /// # Errors
    /// The errors of [`result`](Self::result).
    ///
    /// Since 1.0.
    pub async fn result_without_final(&self) -> Result<WorkflowResult, Error> {
        let known = {
            let subscription = self.subscription.lock();
            subscription
                .as_ref()
                .map(|subscription| subscription.end.clone())
        };
        let mut end = match known {
            Some(end) => end,
            None => self.subscribe().await?,
        };
        let ended = match end.wait_for(Option::is_some).await {
            Ok(outcome) => outcome
                .clone()
                .unwrap_or_else(|| Err(Error::runner_closed()))?,
            Err(_) => return Err(Error::runner_closed()),
        };
        // After a retry, a later call must wait for the next end.
        *self.subscription.lock() = None;
        Ok(WorkflowResult::new(ended, &self.engine))
    }

    /// Waits like [`result`](Self::result), but at most for `timeout`. The execution continues after a timeout.
    ///
    /// # Errors
    /// `WaitTimeout` when the execution has not ended in time; the errors of [`result`](Self::result).
    ///
    /// Since 1.0.
    pub async fn result_within(&self, timeout: Duration) -> Result<WorkflowResult, Error> {
        let timer = tokio::time::timeout(timeout, self.result());
        timer.await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorCode::WaitTimeout,
                format!("execution {} has not ended within {timeout:?}", self.id),
            )
            .with_hint("it continues; wait again, or cancel it"))
        })
    }

    /// Returns the current state of the execution.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection` when the database fails or does not answer.
    ///
    /// Since 1.0.
    pub async fn status(&self) -> Result<ExecutionStatus, Error> {
        let id = self.id;
        self.engine
            .read(move |engine| engine.inspector().status(id))
            .await
    }

    /// Returns the current state of the execution with all its tasks.
    ///
    /// # Errors
    /// The errors of [`status`](Self::status).
    ///
    /// Since 1.0.
    pub async fn snapshot(&self) -> Result<WorkflowResult, Error> {
        let state = self.engine.execution(self.id).await?;
        Ok(WorkflowResult::new(state, &self.engine))
    }

    /// Cancels the execution. The futures of its running tasks are dropped. Returns `true` once the cancellation is durable,
    /// and `false` if the execution had already ended.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn cancel(&self) -> Result<bool, Error> {
        did_cancel(self.engine.control(self.id, Control::CancelOpen).await)
    }

    /// Pauses the execution: running tasks can finish, but no task starts until [`resume`](Self::resume) is called. The
    /// pause also stops delays and the timeouts of waits, but not timers that fire at an absolute time.
    ///
    /// # Errors
    /// The errors of [`cancel`](Self::cancel); `ExecutionState` when the state of the execution does not allow the action.
    ///
    /// Since 1.0.
    pub async fn pause(&self) -> Result<ExecutionStatus, Error> {
        self.engine.control(self.id, Control::Pause).await
    }

    /// Resumes a paused execution.
    ///
    /// # Errors
    /// The errors of [`pause`](Self::pause).
    ///
    /// Since 1.0.
    pub async fn resume(&self) -> Result<ExecutionStatus, Error> {
        self.engine.control(self.id, Control::Resume).await
    }

    /// Retries an ended execution: runs the failed tasks again, and the tasks that were skipped because of them. Completed
    /// tasks keep their results.
    ///
    /// # Errors
    /// The errors of [`pause`](Self::pause).
    ///
    /// Since 1.0.
    pub async fn retry(&self) -> Result<ExecutionStatus, Error> {
        self.retry_with(None).await
    }

    /// Retries like [`retry`](Self::retry), and also reruns `task` and all tasks that depend on it, even if they
    /// completed.
    ///
    /// # Errors
    /// The errors of [`pause`](Self::pause); `WorkflowInvalid` for an unknown task.
    ///
    /// Since 1.0.
    pub async fn retry_from(&self, task: impl Into<String>) -> Result<ExecutionStatus, Error> {
        self.retry_with(Some(task.into())).await
    }

    /// Returns the history of the execution, oldest event first.
    ///
    /// # Errors
    /// The errors of [`status`](Self::status).
    ///
    /// Since 1.0.
    pub async fn events(&self) -> Result<Vec<ExecutionEvent>, Error> {
        let id = self.id;
        let read = self
            .engine
            .read(move |engine| engine.inspector().history(id));
        let (execution, events) = read.await?;
        let events = events.into_iter();
        Ok(events
            .map(|event| ExecutionEvent::new(&execution, event))
            .collect())
    }

    async fn retry_with(&self, from_task: Option<String>) -> Result<ExecutionStatus, Error> {
        let control = Control::Retry { from_task };
        let status = self.engine.control(self.id, control).await?;
        *self.subscription.lock() = None;
        Ok(status)
    }

    /// Subscribes to the end of the execution. Used when the handle has no subscription.
    async fn subscribe(&self) -> Result<watch::Receiver<EndState>, Error> {
        let id = self.id;
        let engine = Arc::clone(self.engine.handle());
        let subscribe = move |_: &EngineHandle| EndSubscription::existing(engine, id);
        let subscription = self.engine.read(subscribe).await?;
        let end = subscription.end.clone();
        *self.subscription.lock() = Some(subscription);
        Ok(end)
    }
}

impl fmt::Debug for WorkflowHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkflowHandle")
            .field("id", &self.id)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// A subscription to the end of an execution. Dropping it cancels the subscription.
pub(super) struct EndSubscription {
    engine: Arc<EngineHandle>,
    execution: ExecutionId,
    subscription: Subscription,
    end: watch::Receiver<EndState>,
}

impl EndSubscription {
    /// Subscribes to the end of an execution that is about to be submitted.
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

    /// Subscribes to the end of an existing execution. Blocks while it reads from the database.
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

impl Drop for EndSubscription {
    fn drop(&mut self) {
        self.engine.forget(self.subscription);
    }
}

/// Returns whether a [`Control::CancelOpen`] has cancelled its execution: `false` if the execution had already ended.
///
/// # Errors
/// All errors of `answer`, except the error for an execution that has ended.
pub fn did_cancel(answer: Result<ExecutionStatus, Error>) -> Result<bool, Error> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.code == ErrorCode::ExecutionState => Ok(false),
        Err(error) => Err(error),
    }
}
