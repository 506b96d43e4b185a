//! The macros of `cloacina`. They expand to calls of the public API of `cloacina`, and report many faults of tasks and
//! workflows as compile errors.
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
/// - It takes values, and returns `Result<T, TaskError>`. The returned value is the task's result, which is stored under the
///   task's id: see *Values* below. If its first parameter is a `&Context`, it can also read the context.
///
/// A function of either style can take a `&TaskHandle`. Where a *type* is expected, the function's name refers to the task.
/// This is the case in the list of [`workflow!`](macro@workflow) and in `DefaultRunner::register_external`.
///
/// # Options
///
/// | option | meaning |
/// |---|---|
/// | `id = "…"` | the task's id (default: the function's name) |
/// | `dependencies = ["…", function]` | the tasks that must end before this task starts, each named by its id or its function |
/// | `retry_attempts = 3` | maximum number of attempts, including the first attempt; 0 means 1 |
/// | `retry_backoff = "exponential"` | how the delay grows: `fixed`, `linear` or `exponential` |
/// | `retry_delay_ms = 1000` | delay before the first retry, in milliseconds |
/// | `retry_max_delay_ms = 60000` | maximum delay before a retry, in milliseconds |
/// | `retry_condition = "all"` | which failures are retried: `never`, `transient` or `all`, or a list of strings, one of which the error must contain |
/// | `retry_jitter = true` | whether each delay varies at random by up to 25 % either way |
/// | `retry_on = ["…"]`, `never_on = ["…"]` | names of the error types that are retried, or never retried |
/// | `trigger_rule = "none_failed"` | the name of the trigger rule: the condition that decides, once all dependencies have ended, whether the task runs |
/// | `trigger_rules = all(…)` | the trigger rule as an expression: see *Trigger rules* below |
/// | `timeout_ms = 30000` | timeout of one attempt, in milliseconds (default: the runner's `task_timeout`) |
/// | `priority = 0` | priority, -32768 to 32767: tasks with a higher priority are claimed first |
/// | `max_context_bytes = 1000000` | maximum number of bytes that one attempt can write to the context |
/// | `output = "…"` | the key under which the value that the function returns is stored (default: the task's id) |
/// | `over = "urls"` | runs the task once per element of a list: see *Maps* below |
/// | `parallel = 8` | maximum number of items of a map that run at once, in all runners together |
/// | `tolerate = 0.05` | how many failed items a map tolerates: a whole number is a number of items, a number with a decimal point is a share of all items |
/// | `batch = 500` | maximum number of elements that one item receives, as a `Vec` (default: each item receives one element) |
/// | `wait_for = signal("paid", key = "order_id")` | a condition that the task waits for: see *Waits* below |
/// | `wait_timeout = "30d"` | maximum time of the wait: `"90s"`, `"10m"`, `"48h"`, `"7d"` |
/// | `on_timeout = "fail"` | what the task does when the wait times out: `"fail"`, `"skip"`, `"continue"` |
/// | `final = "always"` | makes this a final task, which runs after the execution has ended: `"always"`, or only after a `"failure"`, a cancellation (`"cancelled"`) or a `"success"`; a parameter `error: Option<ErrorInfo>` receives the error |
/// | `undoes = [a, "b"]` | the tasks that this final task undoes; a retry of the execution runs those tasks again |
/// | `compensate = refund` | the task that undoes this task if the execution does not succeed |
/// | `compensate_failed = true` | whether the compensation also runs if this task failed, was lost, or was cancelled while it ran (default: false) |
///
/// The values in the table are the defaults for `retry_attempts`, `retry_backoff`, `retry_delay_ms`, `retry_max_delay_ms`,
/// `retry_condition`, `retry_jitter`, `trigger_rule`, `priority` and `on_timeout`. For the other options they are examples.
/// The defaults of `timeout_ms` and `max_context_bytes` are the runner's settings.
///
/// # Trigger rules
///
/// A rule is one of:
///
/// - a name: `all_success`, `all_failed`, `all_done`, `one_success`, `one_failed`, `none_failed` or `always`;
/// - a condition: `task_success("a")`, `task_failed("a")`, `task_skipped("a")` or `context_value("key", operator, value)`;
/// - `all(…)`, `any(…)` or `none(…)`, which combine rules and can be nested.
///
/// The tasks that a rule names are dependencies too. An operator is one of `equals`, `not_equals`, `greater_than`,
/// `greater_or_equal`, `less_than`, `less_or_equal`, `contains`, `not_contains`, `exists` and `not_exists`. Most operators
/// also have a symbol (`==`, `>`, …). `exists` and `not_exists` take no value; the other operators compare with a literal or
/// a list of literals.
///
/// # Values
///
/// A parameter can have any type that `serde` can decode. The parameter's name determines the source of its value. Elements
/// of maps and data of signals come first: see *Maps* and *Waits* below. For any other parameter, the first of these
/// sources that exists is chosen when the workflow is defined:
///
/// 1. the result of the task in the same workflow whose id is this name; that task becomes a dependency;
/// 2. a field of the `input:` of [`workflow!`](macro@workflow);
/// 3. without an `input:`, a key of the context;
/// 4. the parameter's default: `#[default]` (the default of the type), `#[default = 0.19]` or `#[default(expression)]`.
///
/// `#[result_of(function)]` or `#[result_of("id")]` on a parameter names the task, so that the parameter can have any name.
///
/// A task that was skipped or failed has no result. A parameter that would receive the missing result gets its default
/// instead. Without a default, an `Option` is `None`; any other type makes the task fail with a `TaskInputError`, which is
/// not retried. A value that does not fit the type also makes the task fail with this error. The message then names the path
/// of the part that does not fit.
///
/// A function that returns `Result<(), TaskError>` and has no parameters, or only parameters for resources, stores nothing.
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
/// connection. A runner calls the function once, when the first task needs the object. At shutdown, the runner drops the
/// object as soon as no task uses it any more. The function takes no parameters. It returns a `Result` whose error is
/// `TaskError` or any type that implements `std::error::Error + Send + Sync + 'static`. The function can be `async`. A function
/// that is not `async` can block, because it is called on a thread for blocking work. If the function fails, the attempt fails
/// with the same error, and the next attempt calls the function again. A parameter for a resource adds no dependency and does
/// not change the workflow's version.
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
/// // A test can call the function with any object.
/// assert_eq!(mail(3, Arc::new(Smtp)).await?, "sent 3 with 1 connections");
/// # Ok(())
/// # }
/// ```
///
/// # Maps
///
/// A task with `over` is a map: it runs once per element of a list. The run for one element is an item. The list is the
/// result of a task (named by its id or its function), a field of the `input:`, or a key of the context. The element is
/// passed to the parameter that has the name of the list. If there is none, the element is passed to the one parameter
/// whose name is neither a task nor a field of the input. Alternatively, a map can name its parameters, each with its
/// list: `over = { url = "urls", name = names }`. Each item then receives one element of each list; the lists must have
/// equal lengths. The value that the function returns is the result of the item. In another task, a parameter with the
/// name of the map receives the results as `Vec<T>`, as `Vec<Option<T>>`, or as `MapResult<T>`, which also has the
/// failed items.
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
/// A condition is one of `signal("name", key = "path", since = "ever")`, `delay("1h")`, `until("path")`, `any_of(…)` and
/// `all_of(…)`. A signal needs only its name; `key` and `since` are optional. A path names a value in the context. A
/// parameter with the name of the signal receives the signal's data.
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

/// Creates a workflow and defines it in this process: every runner of the process can then run it by its name. The macro
/// returns a `cloacina::Workflow`. An earlier workflow with the same name is replaced.
///
/// `name` and `tasks` are required; `description`, `tags`, `tenant`, `package`, `input`, `output` and `cancel_on` are
/// optional.
///
/// `input: Type` declares the type of the input, which must implement `serde::Serialize` and `serde::Deserialize`. `submit`
/// refuses an input that does not fit this type, and stores nothing. `submit` also fills in the defaults of absent fields.
///
/// `output: "total"`, or a list of names, declares the results that `WorkflowResult::output` decodes.
///
/// `cancel_on: signal("order.cancelled", key = "order_id")`, or a list of signals, declares which signals cancel an execution
/// that receives them.
///
/// Each entry of `tasks` is the path of a function with `#[task]`, or a node without a function (see below). The entry
/// `external_task(id = "…", …)` is a task that another program runs; it has the options of `#[task]`.
///
/// The following are compile errors at the task: a duplicate id, an unknown dependency, a trigger rule that names an
/// unknown task, a cycle, and two tasks that store their results under the same key. An `output:` that is not the result of
/// a task is a compile error too, unless the workflow has an `input:`, or a task without a result, which may write the key.
///
/// When the macro is evaluated, it panics if the definition is not valid for another reason: for example, if a parameter
/// without a default names neither a task nor a field of the declared input, if a result cannot fit its parameter, or if an
/// `output:` names a map.
///
/// # Nodes without a function
///
/// | node | what it does |
/// |---|---|
/// | `child(id = "…", workflow = "…")` | runs another workflow; the output of that workflow is the node's result |
/// | `wait(id = "…", wait_for = …)` | waits for a condition, see *Waits* in [`task`](macro@task); the data of the signal is the node's result |
/// | `approval(id = "…")` | waits until a person approves or rejects the node; its result has the fields `approved`, `data`, `by`, `at` and `reason` |
///
/// These nodes do not occupy a worker. A parameter with the id of a node receives the node's result. Every node has the
/// options `dependencies`, `trigger_rule`, `trigger_rules`, `priority` and `timeout`. `timeout` is the maximum time of the
/// child or of the wait, as a string such as `"48h"`. `child` also has these options of a task: `retry_…`, `never_on`, `over`,
/// `parallel`, `tolerate`, `batch`, `compensate` and `compensate_failed`. If neither `never_on` nor a `retry_…` option is
/// given, a child that fails is not started again. With `over`, the node starts one child for each element.
///
/// | option | meaning |
/// |---|---|
/// | `workflow = "invoice"` | child: the name of the workflow to run; any program can define it, in Rust or Python |
/// | `input = { order = "order_id" }` | child: the fields of its input, each with the path of its value in the context; the path `"item"` is the element of `over` (default: the context that a task would receive in the node's place) |
/// | `on_parent_end = "cancel"` | child: what happens to it when its parent is cancelled, fails or times out: `"cancel"` or `"abandon"` |
/// | `on_timeout = "fail"` | wait or approval: what the node does when it times out: `"fail"`, `"skip"`, `"continue"` |
/// | `on_reject = "fail"` | approval: what the node does when it is rejected: `"fail"`, `"skip"`, `"continue"` |
/// | `data = Type` | approval: the type of the data that a decision carries, a struct with `serde::Deserialize`; the macro panics if the type cannot be decoded from an object |
/// | `title = "Release {order_id}?"`, `to = "finance"` | approval: a question for the person who decides, and the person or group that decides |
///
/// When the macro is evaluated, it also panics if the workflow would run itself endlessly through its children.
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
