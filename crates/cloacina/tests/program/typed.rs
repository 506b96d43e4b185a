//! Tests of tasks with typed parameters: values that are found by name, the declared input, the output, and external tasks.

use cloacina::{
    Context, ErrorCode, ExecutionStatus, Submission, Task, TaskError, TaskHandle, TaskStatus, task,
    workflow,
};
use serde::{Deserialize, Serialize};

use super::support::{PATIENCE, databases, start};

#[derive(Debug, Serialize, Deserialize)]
struct Purchase {
    order_id: String,
    urls: Vec<String>,
    #[serde(default = "standard")]
    tax: f64,
}

fn standard() -> f64 {
    0.25
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    url: String,
    price: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Total {
    order_id: String,
    sum: u64,
    tax: f64,
}

#[task]
async fn rows(urls: Vec<String>) -> Result<Vec<Row>, TaskError> {
    let row = |(price, url)| Row { url, price };
    Ok((100..).zip(urls).map(row).collect())
}

#[task]
async fn total(
    rows: Vec<Row>,
    order_id: String,
    tax: f64,
    #[default = 1] factor: u64,
) -> Result<Total, TaskError> {
    let sum = rows.iter().map(|row| row.price).sum::<u64>() * factor;
    Ok(Total { order_id, sum, tax })
}

#[task(output = "mail_id", id = "send mail")]
async fn mail(handle: &TaskHandle, #[result_of(total)] bill: Total) -> Result<String, TaskError> {
    Ok(format!(
        "{}/{}/{}",
        bill.order_id,
        bill.sum,
        handle.attempt()
    ))
}

fn order() -> Context {
    let urls = vec!["a".to_owned(), "b".to_owned()];
    Context::encode(&serde_json::json!({ "order_id": "o-1", "urls": urls })).unwrap()
}

#[tokio::test]
async fn j1_values_come_from_tasks_and_the_input_by_name() {
    for database in databases() {
        let workflow = workflow! {
            name: "typed",
            input: Purchase,
            output: ["mail_id", "total"],
            tasks: [mail, total, rows],
        };
        assert_eq!(workflow.dependencies("total").unwrap(), ["rows"]);
        assert_eq!(workflow.dependencies("send mail").unwrap(), ["total"]);
        assert_eq!(workflow.output(), ["mail_id", "total"]);
        let schema = workflow.input_schema().unwrap().as_str();
        assert_eq!(
            schema,
            r#"{"properties":{"order_id":{"type":"string"},"tax":{"type":"number"},"urls":{"type":"array"}},"required":["order_id","urls"],"title":"Purchase","type":"object"}"#
        );
        let runner = start(&database).await;
        let result = runner.execute(&workflow, order()).await.unwrap();
        let (id, bill): (String, Total) = result.output().unwrap();
        assert_eq!(id, "o-1/201/1");
        assert_eq!(bill, result.of("total").unwrap());
        assert_eq!(bill.sum, 201);
        assert!((bill.tax - 0.25).abs() < f64::EPSILON);
        let found: Vec<Row> = result.of(rows::ID).unwrap();
        assert_eq!(found.len(), 2);
        // Each result is stored only under its result key.
        let context = result.final_context();
        let keys: Vec<&str> = context.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 6, "{keys:?}");
        assert!(context.contains_key("mail_id") && !context.contains_key("send mail"));
        let error = result.of::<u8>("total").unwrap_err();
        assert!(
            error
                .message
                .starts_with("the result of task 'total' is not a u8")
        );
        let error = result.of::<u8>("totl").unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean 'total'?"));
        runner.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn typed_function_can_still_be_called() {
    let row = Row {
        url: "a".into(),
        price: 7,
    };
    let bill = total(vec![row], "o-1".to_owned(), 0.5, 2).await.unwrap();
    assert_eq!(bill.sum, 14);
}

#[tokio::test]
async fn j5_wrong_input_of_a_schedule_is_refused() {
    for database in databases() {
        let workflow = workflow! { name: "typed_schedule", input: Purchase, tasks: [rows] };
        let runner = start(&database).await;
        let wrong = Context::from_json(r#"{"order_id":"o","urls":["a",7]}"#).unwrap();
        let nightly = || cloacina::CronSchedule::new(&workflow, "@daily");
        let added = runner.add_cron_schedule(nightly().input(wrong)).await;
        let error = added.unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkflowInputInvalid);
        let expected = "the input of the schedule of workflow 'typed_schedule' is not a valid Purchase: `urls[1]`";
        assert!(error.message.starts_with(expected), "{error}");
        assert_eq!(runner.list_cron_schedules(false).await.unwrap().len(), 0);
        runner
            .add_cron_schedule(nightly().input(order()))
            .await
            .unwrap();
        runner.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn j5_wrong_input_stores_nothing_and_names_the_path() {
    for database in databases() {
        let workflow = workflow! { name: "typed_input", input: Purchase, tasks: [rows] };
        let runner = start(&database).await;
        let wrong = Context::from_json(r#"{"order_id":"o","urls":["a",7]}"#).unwrap();
        let submissions = [
            Submission::new(&workflow, order()),
            Submission::new(&workflow, wrong),
        ];
        let error = runner.submit_many(submissions).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkflowInputInvalid);
        assert!(
            error.message.contains("is not a valid Purchase: `urls[1]`"),
            "{error}"
        );
        let listed = runner
            .list_executions(cloacina::ExecutionFilter::new())
            .await;
        assert_eq!(listed.unwrap().items.len(), 0);
        let result = runner.execute(&workflow, order()).await.unwrap();
        let context = result.final_context();
        assert_eq!(context.get_json("tax").unwrap().as_str(), "0.25");
        runner.shutdown().await.unwrap();
    }
}

#[task]
async fn broken(_context: &Context) -> Result<u32, TaskError> {
    Err(TaskError::abort("no"))
}

#[task(trigger_rule = "all_done")]
async fn tolerant(
    broken: Option<u32>,
    #[result_of(broken)]
    #[default = 7]
    other: u32,
) -> Result<String, TaskError> {
    Ok(format!("{broken:?} {other}"))
}

#[task(trigger_rule = "all_done", retry_attempts = 5)]
async fn strict(broken: u32) -> Result<u32, TaskError> {
    Ok(broken)
}

#[tokio::test]
async fn j7_absent_result_becomes_the_default_or_none_or_fails_the_task() {
    for database in databases() {
        let workflow = workflow! {
            name: "typed_absent",
            output: "tolerant",
            tasks: [broken, tolerant, strict],
        };
        let runner = start(&database).await;
        // The input has a key with the name of a task. The value of this key is not used as the task's result.
        let input = Context::from_json(r#"{"broken":1}"#).unwrap();
        let result = runner.execute(&workflow, input).await.unwrap();
        assert_eq!(result.output::<String>().unwrap(), "None 7");
        let strict = result.task("strict").unwrap();
        assert_eq!((strict.status, strict.attempts), (TaskStatus::Failed, 1));
        let error = strict.error.unwrap();
        assert_eq!(error.kind, "TaskInputError");
        assert_eq!(
            error.message,
            "parameter 'broken' of task 'strict' has no value: the result of task 'broken' is absent"
        );
        assert_eq!(result.of::<Option<u32>>("broken").unwrap(), None);
        let absent = result.of::<u32>("broken").unwrap_err();
        assert_eq!(absent.message, "task 'broken' has no result: it is Failed");
        runner.shutdown().await.unwrap();
    }
}

#[task(retry_attempts = 5)]
async fn wants_rows(rows: Vec<Row>) -> Result<usize, TaskError> {
    Ok(rows.len())
}

#[tokio::test]
async fn j9_task_whose_parameter_does_not_decode_is_not_retried() {
    for database in databases() {
        let workflow = workflow! { name: "typed_wrong", tasks: [wants_rows] };
        let runner = start(&database).await;
        let input = Context::from_json(r#"{"rows":[{"url":"a","price":-1}]}"#).unwrap();
        let result = runner.execute(&workflow, input).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Failed);
        let failed = result.task("wants_rows").unwrap();
        assert_eq!(failed.attempts, 1);
        let message = failed.error.unwrap().message;
        assert!(
            message.starts_with(
                "parameter 'rows' of task 'wants_rows' takes key 'rows' of the context, but its value is not a valid"
            ) && message.contains("`[0].price`: invalid value"),
            "{message}"
        );
        runner.shutdown().await.unwrap();
    }
}

#[task]
async fn count(context: &mut Context, rows: Vec<Row>) -> Result<(), TaskError> {
    context.set("count", rows.len())?;
    Ok(())
}

#[task]
async fn ping() -> Result<(), TaskError> {
    Ok(())
}

#[tokio::test]
async fn j3_writes_of_a_task_that_takes_the_context_are_stored() {
    for database in databases() {
        let workflow = workflow! { name: "typed_mixed", tasks: [ping, rows, count] };
        let runner = start(&database).await;
        let result = runner.execute(&workflow, order()).await.unwrap();
        let context = result.final_context();
        assert_eq!(context.get::<usize>("count").unwrap(), 2);
        assert!(!context.contains_key("ping"));
        runner.shutdown().await.unwrap();
    }
}

#[task]
async fn shout(text: String, #[default = "!"] end: String) -> Result<String, TaskError> {
    Ok(text.to_uppercase() + &end)
}

#[tokio::test]
async fn external_task_can_have_typed_parameters() {
    for database in databases() {
        let worker = start(&database).await;
        worker
            .register_external::<shout>("typed_external")
            .await
            .unwrap();
        let workflow = workflow! { name: "typed_external", tasks: [external_task(id = "shout")] };
        let input = Context::from_json(r#"{"text":"hi"}"#).unwrap();
        let other = start(&database).await;
        let id = other.submit(&workflow, input).await.unwrap().id();
        let result = worker.handle(id).result_within(PATIENCE).await.unwrap();
        assert_eq!(result.of::<String>("shout").unwrap(), "HI!");
        other.shutdown().await.unwrap();
        worker.shutdown().await.unwrap();
    }
}

/// An input type whose field `number` has a default function that returns a new value at each call, and tasks that read
/// it.
mod defaults {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    pub static CALLS: AtomicU32 = AtomicU32::new(0);

    fn next() -> u32 {
        CALLS.fetch_add(1, Ordering::SeqCst) + 1
    }

    #[derive(Serialize, Deserialize)]
    pub struct Items {
        items: Vec<u32>,
        #[serde(default = "next")]
        number: u32,
    }

    #[task(over = "items")]
    pub async fn each(item: u32, number: u32) -> Result<(u32, u32), TaskError> {
        Ok((item, number))
    }

    #[task]
    pub async fn all(
        each: Vec<(u32, u32)>,
        number: u32,
        items: Vec<u32>,
    ) -> Result<bool, TaskError> {
        let numbers = each.iter().map(|(_, number)| *number);
        Ok(numbers.chain([number]).all(|one| one == number) && each.len() == items.len())
    }

    #[task]
    pub async fn own(#[default = 0] number: u32) -> Result<u32, TaskError> {
        Ok(number)
    }
}

#[tokio::test]
async fn j5_input_default_of_a_child_is_not_computed_per_item() {
    let _ = workflow! {
        name: "typed_defaults",
        input: defaults::Items,
        output: ["all", "own"],
        tasks: [defaults::each, defaults::all, defaults::own],
    };
    let parent = workflow! {
        name: "typed_defaults_parent",
        output: "inner",
        tasks: [child(id = "inner", workflow = "typed_defaults")],
    };
    for database in databases() {
        let runner = start(&database).await;
        let before = defaults::CALLS.load(std::sync::atomic::Ordering::SeqCst);
        let items = Context::encode(&serde_json::json!({ "items": vec![1; 200] })).unwrap();
        let result = runner.execute(&parent, items).await.unwrap();
        assert_eq!(result.output::<(bool, u32)>().unwrap(), (true, 0));
        let calls = defaults::CALLS.load(std::sync::atomic::Ordering::SeqCst) - before;
        assert!(calls < 50, "{calls} calls for 200 items");
        runner.shutdown().await.unwrap();
    }
}

/// Tasks whose results contain references.
mod borrowed {
    use super::*;

    #[task]
    pub async fn kind() -> Result<&'static str, TaskError> {
        Ok("book")
    }

    #[task]
    pub async fn prices() -> Result<Vec<(&'static str, u32)>, TaskError> {
        Ok(vec![("a", 7)])
    }

    #[task]
    pub async fn own_id(handle: &TaskHandle) -> Result<&str, TaskError> {
        Ok(handle.task_id())
    }

    #[task]
    pub async fn all(
        kind: String,
        prices: Vec<(String, u32)>,
        own_id: String,
    ) -> Result<String, TaskError> {
        Ok(format!("{kind} {prices:?} {own_id}"))
    }
}

#[tokio::test]
async fn j3_results_can_contain_references() {
    for database in databases() {
        let workflow = workflow! {
            name: "typed_borrowed",
            output: "all",
            tasks: [borrowed::kind, borrowed::prices, borrowed::own_id, borrowed::all],
        };
        let runner = start(&database).await;
        let result = runner.execute(&workflow, Context::new()).await.unwrap();
        let all: String = result.output().unwrap();
        assert_eq!(all, r#"book [("a", 7)] own_id"#);
        runner.shutdown().await.unwrap();
    }
}

#[test]
#[should_panic(
    expected = "parameter 'kind' of task 'wrong' of workflow 'typed_borrowed_kinds' takes a number, but the result of task 'kind' is a string"
)]
fn j6_json_kind_of_a_borrowed_result_is_checked() {
    #[task]
    async fn wrong(kind: u8) -> Result<u8, TaskError> {
        Ok(kind)
    }
    drop(workflow! { name: "typed_borrowed_kinds", tasks: [borrowed::kind, wrong] });
}

/// A type that is stored as a JSON string but decoded from a JSON object.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String")]
struct Price {
    cents: u32,
}

impl From<Price> for String {
    fn from(price: Price) -> Self {
        format!("{} ct", price.cents)
    }
}

/// A type of this program that has the same name as a type of `cloacina`.
#[derive(Serialize, Deserialize)]
struct MapResult {
    count: u32,
}

mod named {
    use super::*;

    #[task]
    pub async fn price() -> Result<Price, TaskError> {
        Ok(Price { cents: 7 })
    }

    #[task]
    pub async fn counted() -> Result<MapResult, TaskError> {
        Ok(MapResult { count: 2 })
    }

    #[task]
    pub async fn shown(price: String, counted: MapResult) -> Result<String, TaskError> {
        Ok(format!("{} * {price}", counted.count))
    }
}

#[tokio::test]
async fn j6_types_of_unknown_json_kind_are_not_checked() {
    for database in databases() {
        let workflow = workflow! {
            name: "typed_asymmetric",
            output: "shown",
            tasks: [named::price, named::counted, named::shown],
        };
        let runner = start(&database).await;
        let result = runner.execute(&workflow, Context::new()).await.unwrap();
        assert_eq!(result.output::<String>().unwrap(), "2 * 7 ct");
        runner.shutdown().await.unwrap();
    }
}

#[derive(Serialize, Deserialize)]
struct Small {
    text: String,
}

#[test]
#[should_panic(
    expected = "parameter 'urls' of task 'wrong' of workflow 'typed_kinds' takes a string, but field 'urls' of the input is an array"
)]
fn j6_parameter_whose_kind_differs_from_its_field_is_refused() {
    #[task]
    async fn wrong(urls: String) -> Result<String, TaskError> {
        Ok(urls)
    }
    drop(workflow! { name: "typed_kinds", input: Purchase, tasks: [wrong] });
}

#[test]
#[should_panic(
    expected = "parameter 'bill' of task 'wrong' of workflow 'typed_kinds' takes null or a number, but the result of task 'rows' is an array"
)]
fn j6_parameter_whose_kind_differs_from_the_result_is_refused() {
    #[task]
    async fn wrong(#[result_of(rows)] bill: Option<f64>) -> Result<u8, TaskError> {
        Ok(bill.map_or(0, |_| 1))
    }
    drop(workflow! { name: "typed_kinds", input: Purchase, tasks: [rows, total, wrong] });
}

#[test]
#[should_panic(
    expected = "has a parameter 'texts', which is neither a task nor a field of the input"
)]
fn j1_unknown_parameter_is_refused_when_the_workflow_is_defined() {
    #[task]
    async fn wrong(texts: String) -> Result<String, TaskError> {
        Ok(texts)
    }
    drop(workflow! { name: "typed_unknown", input: Small, tasks: [wrong] });
}
