//! The macros of `cloacina`: they turn tokens into calls of its API, and refuse what they can while a program compiles.
//!
//! Use them through `cloacina`, which re-exports them.

mod fingerprint;
mod literal;
mod options;
mod outline;
mod rule;
mod signature;
mod task;
mod word;
mod workflow;

use proc_macro::TokenStream;

/// Makes a task of an `async fn`, which stays as it is: callable and testable.
///
/// The function takes the context as `&mut Context`, if it likes a `&TaskHandle` after it, and returns
/// `Result<(), TaskError>`. What it writes to the context counts when it returns `Ok`. Where a *type* is asked for, the
/// function's name means the task: in the list of [`workflow!`](macro@workflow), and in
/// `DefaultRunner::register_external`.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `id = "…"` | the task's id; the function's name where left out |
/// | `dependencies = ["…", function]` | tasks that must have ended before, by id or by function |
/// | `retry_attempts = 3` | all tries together; 0 and 1 both mean one |
/// | `retry_backoff = "exponential"` | `fixed`, `linear` or `exponential` |
/// | `retry_delay_ms = 1000` | the first delay in milliseconds |
/// | `retry_max_delay_ms = 60000` | no delay is longer |
/// | `retry_condition = "all"` | `never`, `transient` or `all`, or a list of texts to look for in the error |
/// | `retry_jitter = true` | whether a delay varies by a quarter up or down |
/// | `retry_on = ["…"]`, `never_on = ["…"]` | names of the error types that are, or are not, retried |
/// | `trigger_rule = "none_failed"` | when it starts, once its dependencies have ended: a name |
/// | `trigger_rules = all(…)` | the same as a condition, see below |
/// | `timeout_ms = 30000` | limit of one attempt; the runner's `task_timeout` where left out |
/// | `priority = 0` | the place among what waits for a worker, -32768 to 32767; higher first |
/// | `max_context_bytes = 1000000` | how much it may write to the context |
///
/// The values above are the defaults, where there is one.
///
/// # Trigger rules
///
/// The names `all_success`, `all_failed`, `all_done`, `one_success`, `one_failed`, `none_failed` and `always`; the
/// conditions `task_success("a")`, `task_failed("a")`, `task_skipped("a")` and `context_value("key", operator, value)`;
/// and `all(…)`, `any(…)` and `none(…)` around them, nested freely. The tasks that a rule names count as dependencies. An
/// operator is one of `equals`, `not_equals`, `greater_than`, `greater_or_equal`, `less_than`, `less_or_equal`,
/// `contains`, `not_contains`, `exists` and `not_exists`, or the sign for it (`==`, `>`, …); the last two take no value.
/// A value is a literal, or a list of them.
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
/// // It is still a function.
/// let mut context = Context::from_json(r#"{"level": 91}"#)?;
/// warn(&mut context).await?;
/// assert_eq!(context.get::<String>("warning")?, "the level is 91");
/// # Ok(())
/// # }
/// ```
///
/// Since 0.1.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    task::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a workflow of tasks and defines it in this process, so that every runner of the process runs it by its name. The
/// value is a `cloacina::Workflow`.
///
/// `name` and `tasks` must be given; `description`, `tags`, `tenant` and `package` may be. The tasks are functions with
/// `#[task]`, by their paths, and `external_task(id = "…", …)` for what another program runs, with the options of
/// `#[task]`. Duplicate ids, unknown dependencies, rules that name unknown tasks, and cycles are errors of the compiler
/// that point at the task.
///
/// A workflow of the same name that was defined before is replaced.
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
///         // A program in Python has this one.
///         external_task(id = "resize", dependencies = [fetch], timeout_ms = 60_000),
///     ],
/// };
/// assert_eq!(workflow.tasks().collect::<Vec<_>>(), ["fetch", "resize"]);
/// ```
///
/// Since 0.1.
#[proc_macro]
pub fn workflow(input: TokenStream) -> TokenStream {
    workflow::expand(input.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
