//! Tasks in Rust: the trait that `#[task]` implements, and how the executor runs a task.

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

/// A task, which `#[task]` defines from a function: it leaves the function unchanged and implements this trait for a type of
/// the same name. Where a *type* is expected, as in
/// [`DefaultRunner::register_external`](super::DefaultRunner::register_external), the name therefore means the task.
///
/// Do not implement it by hand.
///
/// Since 1.0.
pub trait Task {
    /// The names that the static check of `workflow!` needs.
    #[doc(hidden)]
    const NAMES: TaskNames;

    /// The task's id. Since 1.0.
    const ID: &'static str = Self::NAMES.id;

    /// The task that undoes it.
    #[doc(hidden)]
    const COMPENSATION: Option<Compensation> = None;

    /// The task's definition, as it is stored.
    #[doc(hidden)]
    fn definition() -> TaskDefinition;

    /// Calls the function.
    #[doc(hidden)]
    fn run<'a>(context: &'a mut Context, handle: &'a TaskHandle) -> TaskFuture<'a>;
}

/// The task that undoes another one.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Compensation {
    /// Its names.
    pub names: TaskNames,
    /// Its definition.
    pub definition: fn() -> TaskDefinition,
    /// Its function.
    pub run: TaskRun,
    /// Whether it also runs if the task failed, was lost, or was cancelled while it ran.
    pub failed: bool,
}

/// The names in a task's definition, known at compile time.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct TaskNames {
    /// The task's id.
    pub id: &'static str,
    /// The ids of its dependencies.
    pub dependencies: &'static [&'static str],
    /// The ids of the tasks that its trigger rule names.
    pub rule_tasks: &'static [&'static str],
    /// The key of its result; `None` if it writes the context itself.
    pub result: Option<&'static str>,
    /// The values that it takes by name.
    pub parameters: &'static [ParameterName],
    /// The kinds of JSON of its result, if it is the result of a function.
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
    /// The id of the task whose result it is, if that is said explicitly.
    pub task: Option<&'static str>,
    /// The kinds of JSON of its type.
    pub kinds: fn() -> Kinds,
    /// Whether it has a default.
    pub has_default: bool,
    /// Whether it takes the items of a map with their states, instead of the list of their values.
    pub is_map_result: bool,
}

impl ParameterName {
    /// The id of the task whose result it is, if the workflow has such a task.
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
    /// As the definition says.
    Resolved(&'a Parameter),
    /// The definition lists no parameters of the task, like that of an external task: the name is a key of the context.
    Named,
    /// The definition does not list the parameter: it has its default.
    Default,
}

/// The return type of a task. The trait exists only for the compiler's message about a wrong return type.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a task returns `Result<(), TaskError>`, not `{Self}`",
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

/// Information about a task's current attempt. A task function can take one as its second parameter.
///
/// # Examples
///
/// ```
/// use cloacina::{Context, TaskError, TaskHandle, task};
///
/// #[task]
/// async fn crunch(context: &mut Context, handle: &TaskHandle) -> Result<(), TaskError> {
///     for block in 0..1000_u32 {
///         // A cancel drops a future only while it waits; this one never does, so it checks.
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
    /// The workflow and the task in it. `None` for a detached handle.
    definition: Option<(Arc<Workflow>, Ordinal)>,
}

impl TaskHandle {
    /// Creates a handle without an execution, to call a task's function in a test. Since 1.0.
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

    /// Runs a part of the task whose result is durable when the call returns. Any later attempt of the task gets the recorded
    /// result, and the function is not called again: a loop of steps continues where the last attempt ended.
    ///
    /// Steps are found by their keys, so the code may change between attempts. A key that is used again in one attempt is
    /// recorded as `key#2`, `key#3`, … in the order of the calls. A step that fails records nothing;
    /// [`step_with_retry`](Self::step_with_retry) calls its function again first.
    ///
    /// # Errors
    /// The function's error; `ContextError`, not retried, when JSON cannot represent the result, a recorded result does not
    /// have the shape of `T`, or the task has more than 10,000 steps or `max_context_bytes` bytes of results;
    /// `TaskValidationError`, not retried, when an earlier attempt recorded the key with another call, such as
    /// [`sleep`](Self::sleep); an error when the attempt has lost its claim, whose result is dropped in any case.
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
        // Before the first poll, so that keys are numbered in the order of the calls.
        let key = self.steps.key(key);
        let steps = Arc::clone(&self.steps);
        async move { steps.run(key, function).await }
    }

    /// Runs a step like [`step`](Self::step), and calls its function again in place after a failure that the policy retries.
    /// Nothing is recorded in between, and no attempt of the task is counted: if no call succeeds, the task's own retry
    /// policy decides.
    ///
    /// The task keeps its worker during the delays, and its timeout includes them. [`TaskError::abort`] and
    /// [`TaskError::snooze`] end the step at once, and [`TaskError::retry_after`] sets the delay.
    ///
    /// # Errors
    /// As for [`step`](Self::step); the error is that of the last call.
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

    /// Sleeps for a time that survives restarts, without holding a worker: the function exits with an error, which `?`
    /// passes on, and starts again from its top when the time is over. Its recorded steps then return their values. No attempt
    /// is counted.
    ///
    /// # Errors
    /// The error that leaves the function. A function that does not pass it on fails: see [`wait`](Self::wait).
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

    /// Waits until a condition holds, at most for `timeout`, without holding a worker, like [`sleep`](Self::sleep). It returns at
    /// once if the condition already holds.
    /// Returns the data of the signal, `null` for a timer, and for several conditions an object of the data by the names of
    /// the signals. `None`: the time is over, also on later attempts.
    ///
    /// # Errors
    /// The error that leaves the function; an error when the data does not have the shape of `T`.
    ///
    /// Pass the first one on with `?`, and do not make another error of it. A function that completes, retries or snoozes
    /// instead fails with `TaskValidationError` and is not retried, and so does one that returns an error with the text of
    /// this one, such as `TaskError::new(error.to_string())`. An error without that text, such as
    /// `.map_err(|_| TaskError::new("no answer"))`, cannot be told from the failure of another future of a `join!`: the
    /// task fails with it, its retry policy applies, and it never waits.
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

    /// Whether the execution has been cancelled. A cancel drops the task's future while it waits; work on other threads, e.g.
    /// in `spawn_blocking`, must check this. Since 1.0.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// The number of the attempt, counted from 1. Since 1.0.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A key that makes the effects of the task idempotent: the same in all its attempts, and in its compensation. It changes
    /// once the task was compensated. Since 1.0.
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

    /// The index of the element that the function gets, of a task that runs over a list. Since 1.0.
    #[must_use]
    pub const fn index(&self) -> Option<u32> {
        self.index
    }

    /// The task's id in its workflow; of an item of a map a text such as `fetch[17]`. Since 1.0.
    #[must_use]
    pub fn task_id(&self) -> &str {
        &self.task
    }

    /// How the workflow resolved a parameter of the task.
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
