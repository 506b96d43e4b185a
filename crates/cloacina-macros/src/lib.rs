//! The macros of `cloacina`. They expand to calls of its API and report invalid tasks and workflows while a program compiles.
//!
//! Use them through `cloacina`, which re-exports them.

mod fingerprint;
mod keyword;
mod literal;
mod options;
mod rule;
mod signature;
mod task;
mod task_names;
mod workflow;

use proc_macro::TokenStream;

/// Turns an `async fn` into a task. The function itself is unchanged and can still be called, e.g. by tests.
///
/// The function takes the context as `&mut Context`, optionally a `&TaskHandle` after it, and returns
/// `Result<(), TaskError>`. Its writes to the context are kept only if it returns `Ok`. Where a *type* is expected, the
/// function's name means the task: in the list of [`workflow!`](macro@workflow), and in
/// `DefaultRunner::register_external`.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `id = "…"` | the task's id (default: the function's name) |
/// | `dependencies = ["…", function]` | tasks that must have ended before this one starts, by id or by function |
/// | `retry_attempts = 3` | maximum number of attempts, the first one included; 0 means 1 |
/// | `retry_backoff = "exponential"` | how the delay grows: `fixed`, `linear` or `exponential` |
/// | `retry_delay_ms = 1000` | delay before the first retry, in milliseconds |
/// | `retry_max_delay_ms = 60000` | maximum delay, in milliseconds |
/// | `retry_condition = "all"` | the retried failures: `never`, `transient` or `all`, or a list of texts to find in the error |
/// | `retry_jitter = true` | whether each delay varies at random by up to 25 % either way |
/// | `retry_on = ["…"]`, `never_on = ["…"]` | names of the error types that are retried, or never retried |
/// | `trigger_rule = "none_failed"` | the condition to start once its dependencies have ended, by name |
/// | `trigger_rules = all(…)` | the same as an expression, see below |
/// | `timeout_ms = 30000` | timeout of one attempt, in milliseconds (default: the runner's `task_timeout`) |
/// | `priority = 0` | priority, -32768 to 32767: tasks with a higher one are claimed first |
/// | `max_context_bytes = 1000000` | maximum size of what one attempt writes to the context |
///
/// Where an option has a default, the table shows it. The defaults of `timeout_ms` and `max_context_bytes` are the runner's
/// settings.
///
/// # Trigger rules
///
/// The names `all_success`, `all_failed`, `all_done`, `one_success`, `one_failed`, `none_failed` and `always`; the
/// conditions `task_success("a")`, `task_failed("a")`, `task_skipped("a")` and `context_value("key", operator, value)`;
/// and `all(…)`, `any(…)` and `none(…)`, which combine conditions and can be nested. The tasks that a rule names count as
/// dependencies. An operator is one of `equals`, `not_equals`, `greater_than`, `greater_or_equal`, `less_than`, `less_or_equal`,
/// `contains`, `not_contains`, `exists` and `not_exists`, or its symbol (`==`, `>`, …); the last two take no value.
/// A value is a literal or a list of literals.
///
/// # Example
///
/// ```
/// use cloacina::{Context, TaskError, task};
///
/// #[task(
///     dependencies = ["measure"],
///     retry_attempts = 5,
///     retry_condition = "transient",
///     trigger_rules = all(task_success("measure"), context_value("level", >, 80)),
///     timeout_ms = 10_000,
/// )]
/// async fn warn(context: &mut Context) -> Result<(), TaskError> {
///     let level: u32 = context.get("level")?;
///     context.set("warning", format!("the level is {level}"))?;
///     Ok(())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// // The function can still be called.
/// let mut context = Context::from_json(r#"{"level": 91}"#)?;
/// warn(&mut context).await?;
/// assert_eq!(context.get::<String>("warning")?, "the level is 91");
/// # Ok(())
/// # }
/// ```
///
/// Since 1.0.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    task::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Creates a workflow and defines it in this process, so that every runner of the process can run it by its name. The value
/// is a `cloacina::Workflow`.
///
/// `name` and `tasks` are required; `description`, `tags`, `tenant` and `package` are optional. A task is the path of a
/// function with `#[task]`, or `external_task(id = "…", …)` for a task that another program runs, with the options of
/// `#[task]`. Duplicate ids, unknown dependencies, trigger rules that name unknown tasks, and cycles are compile errors at
/// the task.
///
/// It replaces a workflow of the same name that was defined earlier.
///
/// # Example
///
/// ```
/// use cloacina::{Context, TaskError, task, workflow};
///
/// #[task]
/// async fn fetch(context: &mut Context) -> Result<(), TaskError> {
///     context.set("path", "photo.png")?;
///     Ok(())
/// }
///
/// let workflow = workflow! {
///     name: "images",
///     description: "Fetch and resize",
///     tags: { "team": "media" },
///     tasks: [
///         fetch,
///         // A program in Python runs this task.
///         external_task(id = "resize", dependencies = [fetch], timeout_ms = 60_000),
///     ],
/// };
/// assert_eq!(workflow.tasks().collect::<Vec<_>>(), ["fetch", "resize"]);
/// ```
///
/// Since 1.0.
#[proc_macro]
pub fn workflow(input: TokenStream) -> TokenStream {
    workflow::expand(input.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
