//! Tasks in Rust: the trait that `#[task]` implements, and how the executor runs a task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Context, TaskError};
use crate::engine::Outcome;
use crate::runtime::{Assignment, TaskFunction};
use crate::types::ExecutionId;
use crate::workflow::TaskDefinition;

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

    /// The task's definition, as it is stored.
    #[doc(hidden)]
    fn definition() -> TaskDefinition;

    /// Calls the function.
    #[doc(hidden)]
    fn run<'a>(context: &'a mut Context, handle: &'a TaskHandle) -> TaskFuture<'a>;
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
    attempt: u32,
    cancelled: Arc<AtomicBool>,
}

impl TaskHandle {
    /// Creates a handle without an execution, to call a task's function in a test. Since 1.0.
    #[must_use]
    pub fn detached() -> Self {
        Self {
            execution: ExecutionId::generate(),
            task: "detached".into(),
            attempt: 1,
            cancelled: Arc::default(),
        }
    }

    pub(super) fn new(assignment: &Assignment) -> Self {
        Self {
            execution: assignment.execution,
            task: assignment.workflow.task(assignment.task).id.as_str().into(),
            attempt: assignment.claim.attempt,
            cancelled: Arc::clone(&assignment.cancelled),
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

    /// The id of the task's execution. Since 1.0.
    #[must_use]
    pub const fn execution_id(&self) -> ExecutionId {
        self.execution
    }

    /// The task's id in its workflow. Since 1.0.
    #[must_use]
    pub fn task_id(&self) -> &str {
        &self.task
    }
}

/// The function that runs a task.
pub type TaskRun = for<'a> fn(&'a mut Context, &'a TaskHandle) -> TaskFuture<'a>;

/// Wraps a task's function for the executor.
pub(super) fn task_function(run: TaskRun) -> TaskFunction {
    Arc::new(move |assignment: Assignment| {
        Box::pin(async move {
            let handle = TaskHandle::new(&assignment);
            let mut context = Context::from_values(assignment.context, true);
            match run(&mut context, &handle).await {
                Ok(()) => Outcome::Completed(Arc::new(context.delta())),
                Err(error) => error.into_outcome(),
            }
        })
    })
}
