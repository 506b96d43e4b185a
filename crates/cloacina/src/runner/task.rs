//! A task in Rust: what `#[task]` makes of a function, and how it runs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Context, TaskError};
use crate::engine::Outcome;
use crate::runtime::{Assignment, TaskFunction};
use crate::types::ExecutionId;
use crate::workflow::TaskDefinition;

/// A task's future: what [`Task::run`] gives.
pub type TaskFuture<'a> = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send + 'a>>;

/// A function that `#[task]` decorated, as a type of the same name: the function stays what it is, and where a *type*
/// is asked for, as in [`DefaultRunner::register_external`](super::DefaultRunner::register_external), its name means
/// the task.
///
/// Not meant to be implemented by hand.
///
/// Since 0.1.
pub trait Task {
    /// What `workflow!` checks while it compiles.
    #[doc(hidden)]
    const OUTLINE: TaskOutline;

    /// The task's id. Since 0.1.
    const ID: &'static str = Self::OUTLINE.id;

    /// What is stored of the task.
    #[doc(hidden)]
    fn definition() -> TaskDefinition;

    /// Calls the function.
    #[doc(hidden)]
    fn run<'a>(context: &'a mut Context, handle: &'a TaskHandle) -> TaskFuture<'a>;
}

/// The names in a task's definition, known while the program compiles.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct TaskOutline {
    /// The task's id.
    pub id: &'static str,
    /// Its dependencies.
    pub dependencies: &'static [&'static str],
    /// The tasks that its trigger rule names.
    pub rule_tasks: &'static [&'static str],
}

/// What a task may return: told apart only so that the compiler's message says it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a task returns `Result<(), TaskError>`, not `{Self}`",
    label = "must be `Result<(), TaskError>`",
    note = "what the task finds goes into the context: `context.set(\"key\", value)?`"
)]
pub trait TaskOutput {
    /// The only type that has it.
    fn into_result(self) -> Result<(), TaskError>;
}

impl TaskOutput for Result<(), TaskError> {
    fn into_result(self) -> Result<(), TaskError> {
        self
    }
}

/// What a task learns about its attempt. A task function may ask for one as its second parameter.
///
/// # Examples
///
/// ```
/// use cloacina::{Context, TaskError, TaskHandle, task};
///
/// #[task]
/// async fn crunch(context: &mut Context, handle: &TaskHandle) -> Result<(), TaskError> {
///     for block in 0..1000_u32 {
///         // A future that never waits cannot be dropped by a cancel: it looks itself.
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
/// // In a test the function is called as it is.
/// let mut context = Context::new();
/// crunch(&mut context, &TaskHandle::detached()).await?;
/// assert_eq!(context.get::<u32>("block")?, 999);
/// # Ok(())
/// # }
/// ```
///
/// Since 0.1.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    execution: ExecutionId,
    task: Arc<str>,
    attempt: u32,
    cancelled: Arc<AtomicBool>,
}

impl TaskHandle {
    /// A handle that belongs to no execution, to call a task's function in a test. Since 0.1.
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

    /// Whether the execution was cancelled. A future that waits is dropped then; work on other threads, e.g. by
    /// `spawn_blocking`, has to look. Since 0.1.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Which try this is; the first is 1. Since 0.1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The execution that the task is part of. Since 0.1.
    #[must_use]
    pub const fn execution_id(&self) -> ExecutionId {
        self.execution
    }

    /// The task's id in its workflow. Since 0.1.
    #[must_use]
    pub fn task_id(&self) -> &str {
        &self.task
    }
}

/// The function of a task, by which a workflow knows it.
pub type TaskRun = for<'a> fn(&'a mut Context, &'a TaskHandle) -> TaskFuture<'a>;

/// A task as the executor calls it.
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
