//! The macros of `cloacina`. They expand to calls of its API and report invalid tasks and workflows while a program compiles.
//!
//! Use them through `cloacina`, which re-exports them.

mod fingerprint;
mod keyword;
mod literal;
mod map;
mod node;
mod options;
mod rule;
mod signature;
mod task;
mod task_names;
mod wait;
mod workflow;

use proc_macro::TokenStream;

/// Turns an `async fn` into a task. The function itself is unchanged and can still be called, e.g. by tests.
///
/// A function is written in one of two styles:
///
/// - It takes the context as `&mut Context`, and returns `Result<(), TaskError>`. Its writes to the context are kept only if
///   it returns `Ok`.
/// - It takes values, and returns `Result<T, TaskError>`: what it returns is its result, which is stored under the task's id.
///   See *Values* below. Such a function may also read the context, as `&Context` in the first place.
///
/// Either may take a `&TaskHandle`. Where a *type* is expected, the
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
/// | `output = "…"` | the key that the result of a function with values is stored under (default: the task's id) |
/// | `over = "urls"` | runs the task once per element of a list: see *Maps* below |
/// | `parallel = 8` | maximum number of items of a map that run at once, over all runners |
/// | `tolerate = 0.05` | the number of failed items that a map tolerates, or the share of them with a decimal point |
/// | `batch = 500` | maximum number of elements of one item, which is a `Vec` then |
/// | `wait_for = signal("paid", key = "order_id")` | a condition that the task waits for: see *Waits* below |
/// | `wait_timeout = "30d"` | maximum time of that wait: `"90s"`, `"10m"`, `"48h"`, `"7d"` |
/// | `on_timeout = "fail"` | the consequence of a timeout of the wait: `"fail"`, `"skip"`, `"continue"` |
/// | `final = "always"` | a final task, which runs after the execution has ended: `"always"`, `"failure"`, `"cancelled"`, `"success"`; a parameter `error: Option<ErrorInfo>` receives the error |
/// | `undoes = [a, "b"]` | the tasks that a final task undoes: a retry of the execution runs them again |
/// | `compensate = refund` | the task that undoes this one if the execution does not succeed |
/// | `compensate_failed = true` | run it also if this task failed, was lost, or was cancelled while it ran (default: false) |
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
/// # Values
///
/// A parameter of any type that `serde` can decode is found by its name when the workflow is defined:
///
/// 1. the result of the task with this id in the same workflow, which also becomes a dependency;
/// 2. a field of the `input:` of [`workflow!`](macro@workflow);
/// 3. without an `input:`, a key of the context;
/// 4. its default, `#[default]` (of the type), `#[default = 0.19]` or `#[default(expression)]`.
///
/// `#[result_of(function)]` or `#[result_of("id")]` on a parameter names the task, so that the parameter may have any name.
///
/// A task that was skipped or failed has no result: then the parameter has its default, otherwise `None` if it is an
/// `Option`. Otherwise the task fails with a `TaskInputError`, which is not retried. A value of another type fails the task in
/// the same way, and the message names the path of the part that does not fit.
///
/// A function without parameters that returns `Result<(), TaskError>` stores nothing.
///
/// ```
/// use cloacina::{TaskError, task, workflow};
///
/// #[task]
/// async fn rows() -> Result<Vec<u64>, TaskError> {
///     Ok(vec![3, 4])
/// }
///
/// #[task]
/// async fn total(rows: Vec<u64>, #[default = 2] factor: u64) -> Result<u64, TaskError> {
///     Ok(rows.iter().sum::<u64>() * factor)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TaskError> {
/// let workflow = workflow! { name: "typed", output: "total", tasks: [rows, total] };
/// assert_eq!(workflow.dependencies("total").unwrap(), ["rows"]);
/// // The function can still be called.
/// assert_eq!(total(vec![1], 3).await?, 3);
/// # Ok(())
/// # }
/// ```
///
/// # Resources
///
/// `#[resource(function)]` on a parameter of type `Arc<T>` gives the task an object that it shares with other tasks, such as a
/// connection. A runner calls the function once, when the first task needs the object, and drops the object at its shutdown, when
/// no task uses it any more. The function takes no parameters and returns a `Result` with `TaskError` or any error that implements
/// `std::error::Error + Send + Sync + 'static`. It may be `async`; otherwise it may block, because it is called on a thread for
/// that. If it fails, the attempt fails with its error, and the next attempt calls it again. Such a parameter adds no dependency
/// and does not change the workflow's version.
///
/// ```
/// use std::sync::Arc;
///
/// use cloacina::{TaskError, task};
///
/// struct Smtp;
///
/// async fn open_smtp() -> Result<Smtp, std::io::Error> {
///     Ok(Smtp)
/// }
///
/// #[task(retry_attempts = 5)]
/// async fn mail(total: u64, #[resource(open_smtp)] smtp: Arc<Smtp>) -> Result<String, TaskError> {
///     Ok(format!("sent {total} with {} connections", Arc::strong_count(&smtp)))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), TaskError> {
/// // A test passes an object of its own.
/// assert_eq!(mail(3, Arc::new(Smtp)).await?, "sent 3 with 1 connections");
/// # Ok(())
/// # }
/// ```
///
/// # Maps
///
/// A task with `over` runs once per element of a list: the result of a task, by id or by function, a field of the `input:`, or a
/// key of the context. The parameter that has no other meaning receives the element; `over = { url = "urls", name = names }`
/// names the parameters, and runs over several lists of equal lengths. What the function returns is the result of its item.
/// A task with a parameter named like the map takes the results as `Vec<T>`, as `Vec<Option<T>>`, or as `MapResult<T>`, which
/// also has the failed items.
///
/// ```
/// use cloacina::{TaskError, TaskHandle, task, workflow};
///
/// #[task]
/// async fn urls() -> Result<Vec<String>, TaskError> {
///     Ok(vec!["a".to_owned(), "bb".to_owned()])
/// }
///
/// #[task(over = urls, parallel = 8, tolerate = 0.5)]
/// async fn fetch(url: String, handle: &TaskHandle) -> Result<usize, TaskError> {
///     Ok(url.len() + handle.index().unwrap_or(0) as usize)
/// }
///
/// #[task]
/// async fn total(fetch: Vec<usize>) -> Result<usize, TaskError> {
///     Ok(fetch.iter().sum())
/// }
///
/// let workflow = workflow! { name: "map", output: "total", tasks: [urls, fetch, total] };
/// assert_eq!(workflow.dependencies("fetch").unwrap(), ["urls"]);
/// ```
///
/// # Waits
///
/// A condition is `signal("name", key = "path", since = "ever")`, of which only the name is required, `delay("1h")`,
/// `until("path")`, `any_of(…)` or `all_of(…)`. A path leads into the context. The data of a signal is the value of the
/// parameter with the signal's name.
///
/// ```
/// use cloacina::{TaskError, task};
///
/// #[task(wait_for = any_of(signal("paid", key = "order_id"), delay("30d")))]
/// async fn book(order_id: String, paid: Option<u64>) -> Result<String, TaskError> {
///     Ok(format!("{order_id}: {paid:?}"))
/// }
/// # fn main() {}
/// ```
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
/// `name` and `tasks` are required; `description`, `tags`, `tenant`, `package`, `input`, `output` and `cancel_on` are
/// optional.
///
/// `input: Type` declares the input, a type with `serde::Serialize` and `serde::Deserialize`: an input of another shape is
/// refused by `submit`, with nothing stored, and defaults are filled in. `output: "total"`, or a list of names, is the result
/// that `WorkflowResult::output` decodes.
/// A task is the path of a
/// function with `#[task]`, or `external_task(id = "…", …)` for a task that another program runs, with the options of
/// `#[task]`. Duplicate ids, unknown dependencies, trigger rules that name unknown tasks, and cycles are compile errors at
/// the task, and so are two tasks with one result and an `output:` that no task has. A parameter that is neither a task nor a
/// field of the declared input panics when the macro is evaluated, and so does an `output:` that names a map.
///
/// `cancel_on: signal("order.cancelled", key = "order_id")`, or a list of signals, cancels an execution that gets one of them.
///
/// It replaces a workflow of the same name that was defined earlier.
///
/// # Nodes without a function
///
/// | node | what it does |
/// |---|---|
/// | `child(id = "…", workflow = "…")` | runs another workflow, whose output is its result |
/// | `wait(id = "…", wait_for = …)` | waits for a condition, see [`task`](macro@task); the data of the signal is its result |
/// | `approval(id = "…")` | waits until somebody approves or rejects it; its result has the fields `approved`, `data`, `by`, `at` and `reason` |
///
/// They hold no worker. A parameter with the id of a node takes its result. All of them take `dependencies`, `trigger_rule`,
/// `trigger_rules`, `priority`, and `timeout`, the maximum time of the child or of the wait as a text such as `"48h"`.
/// `child` also takes the options `retry_…`, `over`, `parallel`, `tolerate`, `batch`, `compensate` and `compensate_failed` of a
/// task. Without a `retry_…` it starts one child; with `over` it starts one for each element.
///
/// | option | meaning |
/// |---|---|
/// | `workflow = "invoice"` | of a child: the name of its workflow, which any program may define, in either language |
/// | `input = { order = "order_id" }` | of a child: the names of its input, each with the path of its value; the path `"item"` leads to the element of `over` (default: what a task in the node's place gets) |
/// | `on_parent_end = "cancel"` | the fate of a child when its parent is cancelled, fails or times out: `"cancel"` or `"abandon"` |
/// | `on_timeout = "fail"` | of a wait or approval, the consequence of its timeout: `"fail"`, `"skip"`, `"continue"` |
/// | `on_reject = "fail"` | of an approval, the consequence of a rejection: `"fail"`, `"skip"`, `"continue"` |
/// | `data = Type` | of an approval: the type of the data of a decision, a struct with `serde::Deserialize`; the macro panics if the type cannot be decoded from an object |
/// | `title = "Release {order_id}?"`, `to = "finance"` | of an approval: a sentence for the person who decides, and that person or group |
///
/// A workflow that would run itself without end, by its children, panics when the macro is evaluated.
///
/// ```
/// use cloacina::{TaskError, task, workflow};
///
/// #[task]
/// async fn pages(order_id: String) -> Result<Vec<String>, TaskError> {
///     Ok(vec![format!("{order_id}/1"), format!("{order_id}/2")])
/// }
///
/// #[task]
/// async fn print(rendered: Vec<String>) -> Result<usize, TaskError> {
///     Ok(rendered.len())
/// }
///
/// let book = workflow! {
///     name: "book",
///     tasks: [
///         pages,
///         child(id = "rendered", workflow = "render", over = pages, input = { page = "item" }, parallel = 20, timeout = "1h"),
///         approval(id = "release", dependencies = ["rendered"], timeout = "48h", title = "Print {order_id}?"),
///         wait(id = "cool down", wait_for = delay("10m"), dependencies = ["release"]),
///         print,
///     ],
/// };
/// assert_eq!(book.dependencies("rendered").unwrap(), ["pages"]);
/// ```
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
