//! Tasks in Rust: the trait that `#[task]` implements, and the handle that a running task receives.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json_kinds::Kinds;
use super::task_steps::{self, AttemptSteps};
use super::{Context, TaskError};
use crate::engine::Outcome;
use crate::runtime::{Assignment, ResourceSlots, TaskFunction, TaskPort};
use crate::types::{Condition, ExecutionId, Ordinal, ParkKind, RetryPolicy, micros};
use crate::workflow::{Parameter, TaskDefinition, TaskKind, Workflow};

/// The future that [`Task::run`] returns.
pub type TaskFuture<'a> = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send + 'a>>;

/// A task. `#[task]` leaves a function unchanged, and implements this trait for a type with the name of the function. Where a
/// *type* is expected, as in [`DefaultRunner::register_external`](super::DefaultRunner::register_external), the name of the
/// function therefore refers to the task.
///
/// Do not implement this trait by hand.
///
/// Since 1.0.
pub trait Task {
    /// The names that the static check of `workflow!` needs.
    #[doc(hidden)]
    const NAMES: TaskNames;

    /// The task's id. Since 1.0.
    const ID: &'static str = Self::NAMES.id;

    /// The task that undoes this task.
    #[doc(hidden)]
    const COMPENSATION: Option<Compensation> = None;

    /// Returns the task's definition.
    #[doc(hidden)]
    fn definition() -> TaskDefinition;

    /// Calls the function.
    #[doc(hidden)]
    fn run<'a>(context: &'a mut Context, handle: &'a TaskHandle) -> TaskFuture<'a>;
}

/// A compensation: a task that undoes another task.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Compensation {
    /// The names in the compensation's definition.
    pub names: TaskNames,
    /// Returns the compensation's definition.
    pub definition: fn() -> TaskDefinition,
    /// The compensation's function.
    pub run: TaskRun,
    /// Whether the compensation also runs if the task that it undoes failed, was lost, or was cancelled while it ran.
    pub failed: bool,
}

/// The names in a task's definition, known at compile time.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct TaskNames {
    /// The task's id.
    pub id: &'static str,
    /// The ids of the task's dependencies.
    pub dependencies: &'static [&'static str],
    /// The ids of the tasks that the task's trigger rule names.
    pub rule_tasks: &'static [&'static str],
    /// The key of the task's result; `None` if the task has no result.
    pub result: Option<&'static str>,
    /// The parameters that receive values by name.
    pub parameters: &'static [ParameterName],
    /// The kinds of JSON values of the result, if the task's function returns the result.
    pub result_kinds: Option<fn() -> Kinds>,
    /// The names of the parameters that are resources.
    pub resources: &'static [&'static str],
}

/// A parameter whose value is found by its name.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ParameterName {
    /// The parameter's name.
    pub name: &'static str,
    /// The id of the task that `#[result_of(…)]` names, if given.
    pub task: Option<&'static str>,
    /// The kinds of JSON values of the parameter's type.
    pub kinds: fn() -> Kinds,
    /// Whether the parameter has a default.
    pub has_default: bool,
    /// Whether the parameter's type is `MapResult`: it then receives the items of a map with their states, not only their
    /// values.
    pub is_map_result: bool,
}

impl ParameterName {
    /// Returns the id of the task whose result the parameter receives, if the workflow has a task with this id.
    pub(super) const fn task_or_name(&self) -> &'static str {
        match self.task {
            Some(task) => task,
            None => self.name,
        }
    }
}

/// How the workflow resolved a parameter.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// The definition lists the parameter.
    Resolved(&'a Parameter),
    /// The definition does not list the parameter, and the parameter's name is a key of the context. This applies if
    /// the handle is detached, if the task is external, or if the workflow declares no input and the definition lists
    /// no parameters of the task.
    Named,
    /// The definition does not list the parameter, and none of the cases of `Named` applies. The parameter receives
    /// its default.
    Default,
}

/// The return type of a task that writes the context. The trait exists only for the compiler's message about a wrong return
/// type.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a task that writes the context returns `Result<(), TaskError>`, not `{Self}`",
    label = "must be `Result<(), TaskError>`",
    note = "write a task's results to the context: `context.set(\"key\", value)?`"
)]
pub trait TaskOutput {
    /// Returns the value unchanged. Only one type implements the trait.
    fn into_result(self) -> Result<(), TaskError>;
}

impl TaskOutput for Result<(), TaskError> {
    fn into_result(self) -> Result<(), TaskError> {
        self
    }
}

/// The handle of a task's current attempt. A task function can take a `&TaskHandle` as a parameter.
///
/// # Examples
///
/// ```
/// use cloacina::{Context, TaskError, TaskHandle, task};
///
/// #[task]
/// async fn crunch(context: &mut Context, handle: &TaskHandle) -> Result<(), TaskError> {
///     for block in 0..1000_u32 {
///         // A cancel can drop a future only at an `.await`. This loop has no `.await`, so it checks for a cancel.
///         if handle.is_cancelled() {
///             return Err(TaskError::abort("cancelled"));
///         }
///         context.set("block", block)?;
///     }
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// // A test calls the function directly.
/// let mut context = Context::new();
/// crunch(&mut context, &TaskHandle::detached()).await?;
/// assert_eq!(context.get::<u32>("block")?, 999);
/// # Ok(())
/// # }
/// ```
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    execution: ExecutionId,
    task: Arc<str>,
    index: Option<u32>,
    attempt: u32,
    forward_key: Option<Arc<str>>,
    cancelled: Arc<AtomicBool>,
    pub(super) steps: Arc<AttemptSteps>,
    pub(super) resources: Arc<ResourceSlots>,
    /// The workflow, and the ordinal of the task in it. `None` for a detached handle.
    definition: Option<(Arc<Workflow>, Ordinal)>,
}

impl TaskHandle {
    /// Creates a detached handle, which belongs to no execution. Use it to call a task's function in a test. Since 1.0.
    #[must_use]
    pub fn detached() -> Self {
        Self {
            execution: ExecutionId::generate(),
            task: "detached".into(),
            index: None,
            attempt: 1,
            forward_key: None,
            cancelled: Arc::default(),
            steps: Arc::default(),
            resources: Arc::default(),
            definition: None,
        }
    }

    pub(super) fn new(assignment: &Assignment, port: TaskPort) -> Self {
        let id = assignment.workflow.task(assignment.task).id.as_str();
        let index = assignment.claim.item;
        Self {
            execution: assignment.execution,
            task: index.map_or_else(|| id.into(), |index| format!("{id}[{index}]").into()),
            index,
            attempt: assignment.claim.attempt,
            forward_key: assignment.forward_key.as_deref().map(Arc::from),
            cancelled: Arc::clone(&assignment.cancelled),
            resources: port.resources(),
            steps: Arc::new(AttemptSteps::new(assignment, port)),
            definition: Some((Arc::clone(&assignment.workflow), assignment.task)),
        }
    }

    /// Runs a step: a part of the task whose result is durable when the call returns. In later attempts of the task, this
    /// call returns the recorded result and does not call the function again. A loop of steps therefore continues where the
    /// last attempt ended.
    ///
    /// A step is identified by its key, so the code can change between attempts. If one attempt uses a key again, the step is
    /// recorded as `key#2`, `key#3`, … in the order of the calls. A step that fails records nothing.
    /// [`step_with_retry`](Self::step_with_retry) retries the function before the step fails.
    ///
    /// # Errors
    /// - The error of the function.
    /// - `ContextError`, not retried, if JSON cannot represent the result, or if a recorded result does not have the
    ///   shape of `T`.
    /// - `ContextError`, not retried, if the task has more than 10,000 steps, or more than `max_context_bytes` bytes of
    ///   results.
    /// - `TaskValidationError`, not retried, if an earlier attempt recorded the key with another kind of call, such as
    ///   [`sleep`](Self::sleep).
    /// - An error if the attempt has lost its claim. The result of this attempt is dropped in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// use cloacina::{Context, TaskError, TaskHandle, task};
    ///
    /// #[task]
    /// async fn support(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
    ///     let plan: Vec<String> = cx.step("plan", || async { Ok(vec!["read".to_owned(), "answer".to_owned()]) }).await?;
    ///     for item in plan {
    ///         cx.step(&format!("work-{item}"), || async { Ok(item.len()) }).await?;
    ///     }
    ///     context.set("done", true)?;
    ///     Ok(())
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// Since 1.0.
    pub fn step<T, F, R>(
        &self,
        key: &str,
        function: F,
    ) -> impl Future<Output = Result<T, TaskError>> + use<T, F, R>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> R,
        R: Future<Output = Result<T, TaskError>>,
    {
        // The key is determined before the future is polled, so repeated keys are numbered in the order of the calls.
        let key = self.steps.key(key);
        let steps = Arc::clone(&self.steps);
        async move { steps.run(key, function).await }
    }

    /// Runs a step like [`step`](Self::step), but calls the function again, within the same attempt of the task, if it fails
    /// and `policy` retries the failure. Failed calls are not recorded, and do not count as attempts of the task. If no call
    /// succeeds, the task's retry policy decides what happens.
    ///
    /// The task occupies its worker during the delays between the calls, and its timeout includes these delays. If the
    /// function returns [`TaskError::abort`] or [`TaskError::snooze`], the step ends immediately. [`TaskError::retry_after`]
    /// sets the delay.
    ///
    /// # Errors
    /// The errors of [`step`](Self::step). The error of the function is the error of its last call.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cloacina::{Context, RetryPolicy, TaskError, TaskHandle, task};
    ///
    /// # async fn download(_page: u32) -> Result<String, TaskError> { Ok(String::new()) }
    /// #[task]
    /// async fn crawl(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
    ///     let policy = RetryPolicy::attempts(5).delay(Duration::from_millis(200));
    ///     let mut length = 0;
    ///     for page in 0..3 {
    ///         let key = format!("page-{page}");
    ///         let text = cx.step_with_retry(&key, policy.clone(), || download(page)).await?;
    ///         length += text.len();
    ///     }
    ///     context.set("length", length)?;
    ///     Ok(())
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// Since 1.0.
    pub fn step_with_retry<T, F, R>(
        &self,
        key: &str,
        policy: RetryPolicy,
        function: F,
    ) -> impl Future<Output = Result<T, TaskError>> + use<T, F, R>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut() -> R,
        R: Future<Output = Result<T, TaskError>>,
    {
        let key = self.steps.key(key);
        let steps = Arc::clone(&self.steps);
        let call = move || task_steps::call_with_retry(policy, function);
        async move { steps.run(key, call).await }
    }

    /// Sleeps without occupying a worker. The sleep continues across restarts of the program.
    ///
    /// This method returns an error; pass it on with `?`, so that the function exits. When the time is over, the function
    /// starts again from the beginning. Its recorded steps then return their results, and this call returns `Ok`. The new
    /// start does not count as an attempt.
    ///
    /// # Errors
    /// The error with which the function must exit. A task that does not pass the error on fails: see [`wait`](Self::wait).
    ///
    /// Since 1.0.
    pub fn sleep(
        &self,
        key: &str,
        duration: Duration,
    ) -> impl Future<Output = Result<(), TaskError>> + use<> {
        let key = self.steps.key(key);
        let steps = Arc::clone(&self.steps);
        let condition = Condition::Delay {
            duration: micros(duration),
        };
        async move {
            let end = steps.park(ParkKind::Sleep, key, condition, None);
            end.await.map(drop)
        }
    }

    /// Waits until a condition holds, for at most `timeout`. Like [`sleep`](Self::sleep), it does not occupy a worker, and
    /// the function exits with an error. If the condition already holds, this method returns immediately.
    ///
    /// Returns the data of the signal, and `null` for a timer. For several conditions, it returns an object with the data of
    /// the signals by their names. `None`: the wait has timed out. In later attempts, this call returns the same value.
    ///
    /// # Errors
    /// The error with which the function must exit; another error if the data does not have the shape of `T`.
    ///
    /// Pass the first error on with `?`, and do not convert it. If the function completes, retries or snoozes instead, the
    /// task fails with `TaskValidationError` and is not retried. The same happens if the function returns an error that
    /// contains the text of this error, such as `TaskError::new(error.to_string())`. An error without this text, such as
    /// `.map_err(|_| TaskError::new("no answer"))`, looks like the failure of another future of a `join!`: the task does not
    /// wait, but fails with that error, and its retry policy applies.
    ///
    /// Since 1.0.
    pub fn wait<T: DeserializeOwned>(
        &self,
        key: &str,
        condition: Condition,
        timeout: Option<Duration>,
    ) -> impl Future<Output = Result<Option<T>, TaskError>> + use<T> {
        let key = self.steps.key(key);
        let steps = Arc::clone(&self.steps);
        async move {
            let end = steps.park(ParkKind::Wait, key.clone(), condition, timeout.map(micros));
            task_steps::ended_wait(&key, &end.await?)
        }
    }

    /// Returns whether the execution has been cancelled. Also returns `true` after the execution has timed out, or
    /// after the runner was declared dead. A cancel drops the task's future at its next `.await`. Work on other
    /// threads, e.g. in `spawn_blocking`, must call this method to notice a cancel. Since 1.0.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// The number of the attempt, counted from 1. Since 1.0.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns a key that makes the effects of the task idempotent. The key is the same in all attempts of the task and in
    /// its compensation. It changes after the task has been compensated. Since 1.0.
    #[must_use]
    pub fn forward_key(&self) -> String {
        let own = || format!("{}/{}", self.execution, self.task);
        self.forward_key.as_deref().map_or_else(own, str::to_owned)
    }

    /// The id of the task's execution. Since 1.0.
    #[must_use]
    pub const fn execution_id(&self) -> ExecutionId {
        self.execution
    }

    /// The index of this item in its map; `None` if the task is not a map. Since 1.0.
    #[must_use]
    pub const fn index(&self) -> Option<u32> {
        self.index
    }

    /// The task's id in its workflow. For an item of a map, it is a text such as `fetch[17]`. Since 1.0.
    #[must_use]
    pub fn task_id(&self) -> &str {
        &self.task
    }

    /// Returns how the workflow resolved a parameter of the task.
    pub(super) fn parameter(&self, name: &str) -> Source<'_> {
        let Some((workflow, task)) = &self.definition else {
            return Source::Named;
        };
        let parameters = &workflow.task(*task).parameters;
        match parameters.iter().find(|known| known.name == name) {
            Some(parameter) => Source::Resolved(parameter),
            None if parameters.is_empty() && workflow.definition().input.is_none() => Source::Named,
            None if workflow.task(*task).kind == TaskKind::External => Source::Named,
            None => Source::Default,
        }
    }

    /// The name of the workflow. `None` for a detached handle.
    pub(super) fn workflow_name(&self) -> Option<&str> {
        Some(self.definition.as_ref()?.0.name())
    }

    /// The key of the task's result, if the workflow's definition has one.
    pub(super) fn result_key(&self) -> Option<&str> {
        let (workflow, task) = self.definition.as_ref()?;
        workflow.task(*task).result.as_deref()
    }
}

/// The function that runs a task.
pub type TaskRun = for<'a> fn(&'a mut Context, &'a TaskHandle) -> TaskFuture<'a>;

/// Wraps a task's function for the executor.
pub(super) fn task_function(run: TaskRun) -> TaskFunction {
    Arc::new(move |assignment: Assignment, port: TaskPort| {
        Box::pin(async move {
            let handle = TaskHandle::new(&assignment, port);
            let mut context = Context::from_values(assignment.context, true);
            let outcome = match run(&mut context, &handle).await {
                Ok(()) => Outcome::Completed(Arc::new(context.delta())),
                Err(error) => error.into_outcome(),
            };
            handle.steps.checked(outcome)
        })
    })
}
