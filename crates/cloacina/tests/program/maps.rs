//! Tests of maps and waits that `#[task]` declares (semantics K and L).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloacina::{
    Context, ErrorCode, ExecutionStatus, MapResult, Signal, TaskError, TaskHandle, TaskStatus,
    task, workflow,
};
use serde::{Deserialize, Serialize};

use super::support::{PATIENCE, databases, start};

#[derive(Serialize, Deserialize)]
struct Pages {
    urls: Vec<String>,
    prefix: String,
}

#[task(over = "urls", parallel = 2, tolerate = 0.5, retry_attempts = 1)]
async fn fetch(url: String, prefix: String, handle: &TaskHandle) -> Result<String, TaskError> {
    if url == "bad" {
        return Err(TaskError::new("cannot fetch bad"));
    }
    Ok(format!(
        "{prefix}{url} {:?} {}",
        handle.index(),
        handle.task_id()
    ))
}

#[task]
async fn lenient(
    #[result_of(fetch)] pages: Vec<Option<String>>,
) -> Result<Vec<Option<String>>, TaskError> {
    Ok(pages)
}

#[task]
async fn report(fetch: MapResult<String>) -> Result<(usize, usize, Vec<(u32, String)>), TaskError> {
    let errors = fetch.errors().map(|item| {
        let error = item.error.as_ref().map(|error| error.message.clone());
        (item.index, error.unwrap_or_default())
    });
    Ok((fetch.len(), fetch.values().count(), errors.collect()))
}

#[task(retry_attempts = 1)]
async fn strict(fetch: Vec<String>) -> Result<usize, TaskError> {
    Ok(fetch.len())
}

#[tokio::test]
async fn k9_dependents_read_the_results_of_a_map() {
    for database in databases() {
        let pages = workflow! {
            name: "pages",
            input: Pages,
            tasks: [fetch, lenient, report, strict],
        };
        assert_eq!(pages.dependencies("report").unwrap(), ["fetch"]);
        let runner = start(&database).await;
        let input = Context::from_json(r#"{"urls":["a","bad","c"],"prefix":"x/"}"#).unwrap();
        let result = runner.execute(&pages, input).await.unwrap();
        let holes: Vec<Option<String>> = result.of("lenient").unwrap();
        assert_eq!(
            holes,
            [
                Some("x/a Some(0) fetch[0]".to_owned()),
                None,
                Some("x/c Some(2) fetch[2]".to_owned())
            ]
        );
        let report: (usize, usize, Vec<(u32, String)>) = result.of("report").unwrap();
        assert_eq!(report, (3, 2, vec![(1, "cannot fetch bad".to_owned())]));
        let strict = result.task("strict").unwrap();
        assert_eq!(strict.status, TaskStatus::Failed);
        assert_eq!(strict.error.unwrap().kind, "TaskInputError");
        // K4: the program also reads the missing results as `None`.
        assert_eq!(result.of::<Vec<Option<String>>>("fetch").unwrap(), holes);
        let hole = result.of::<Vec<String>>("fetch").unwrap_err();
        assert_eq!(hole.code, ErrorCode::ContextInvalid);
        assert!(hole.message.contains("`[1]`: invalid type: null"), "{hole}");
        runner.shutdown().await.unwrap();
        let late = result.of::<Vec<Option<String>>>("fetch").unwrap_err();
        assert_eq!(late.code, ErrorCode::RunnerClosed);
    }
}

#[task(over = "numbers", tolerate = 1, retry_attempts = 1)]
async fn halved(number: u64) -> Result<Option<u64>, TaskError> {
    if number == 3 {
        return Err(TaskError::of_type("OddError", "3 is odd"));
    }
    Ok((number > 0).then_some(number / 2))
}

#[tokio::test]
async fn k4_program_reads_the_items_of_a_map_page_by_page() {
    for database in databases() {
        let halves = workflow! { name: "halves", tasks: [halved] };
        let runner = start(&database).await;
        let numbers: Vec<u64> = (0..1_500).map(|n| if n == 3 { 3 } else { 2 * n }).collect();
        let input = Context::encode(&serde_json::json!({ "numbers": numbers })).unwrap();
        let result = runner.execute(&halves, input).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        let id = result.execution_id();
        let first = runner.items::<Option<u64>>(id, "halved", None, None);
        let first = first.await.unwrap();
        assert_eq!((first.items.len(), first.next), (1_000, Some(1_000)));
        assert_eq!(
            first.items[0].value,
            Some(None),
            "the function returned `None`"
        );
        assert_eq!(first.items[2].value, Some(Some(2)));
        assert_eq!(first.items[2].attempts, 1);
        let last = runner.items::<Option<u64>>(id, "halved", None, first.next);
        let last = last.await.unwrap();
        assert_eq!((last.items.len(), last.next), (500, None));
        assert_eq!(last.items[499].index, 1_499);
        let failed = Some(TaskStatus::Failed);
        let failed = runner.items::<u64>(id, "halved", failed, None).await;
        let failed = failed.unwrap().items;
        assert_eq!((failed.len(), failed[0].index), (1, 3));
        let error = failed[0].error.as_ref().unwrap();
        assert_eq!(
            error.to_string(),
            "task 'halved[3]' failed: OddError: 3 is odd"
        );
        let wrong = runner.items::<u64>(id, "halved", None, None).await;
        let wrong = wrong.unwrap_err();
        assert_eq!(wrong.code, ErrorCode::ContextInvalid);
        let expected = "the result of item halved[0] is not a u64: invalid type: null";
        assert!(wrong.message.starts_with(expected), "{wrong}");
        let unknown = runner.items::<u64>(id, "halve", None, None).await;
        assert_eq!(unknown.unwrap_err().code, ErrorCode::TaskInvalid);
        let ended = runner.set_map(id, "halved", Some(2)).await.unwrap_err();
        assert_eq!(ended.code, ErrorCode::ExecutionState);
        runner.shutdown().await.unwrap();
    }
}

static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
/// The number of items that have started.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Waits until the test adds a permit to `GATE`.
#[task(over = "numbers", parallel = 1)]
async fn gated(number: u64) -> Result<u64, TaskError> {
    STARTED.fetch_add(1, Ordering::SeqCst);
    GATE.acquire().await?.forget();
    Ok(number)
}

#[tokio::test]
async fn k5_program_changes_how_many_items_run_in_parallel() {
    for database in databases() {
        let gates = workflow! { name: "gates", tasks: [gated] };
        let runner = start(&database).await;
        STARTED.store(0, Ordering::SeqCst);
        let input = Context::from_json(r#"{"numbers":[1,2,3,4]}"#).unwrap();
        let handle = runner.submit(&gates, input).await.unwrap();
        let until_started = |count: u32| async move {
            while STARTED.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, until_started(1))
            .await
            .unwrap();
        let zero = runner.set_map(handle.id(), "gated", Some(0)).await;
        assert_eq!(zero.unwrap_err().code, ErrorCode::TaskInvalid);
        runner.set_map(handle.id(), "gated", Some(4)).await.unwrap();
        tokio::time::timeout(PATIENCE, until_started(4))
            .await
            .unwrap();
        GATE.add_permits(4);
        let result = handle.result_within(PATIENCE).await.unwrap();
        assert_eq!(result.of::<Vec<u64>>("gated").unwrap(), [1, 2, 3, 4]);
        runner.shutdown().await.unwrap();
    }
}

#[task(over = { a = "xs", b = "ys" })]
async fn multiply(a: u64, b: u64) -> Result<u64, TaskError> {
    Ok(a * b)
}

#[task(over = multiply, batch = 2)]
async fn summed(parts: Vec<u64>) -> Result<u64, TaskError> {
    Ok(parts.iter().sum())
}

#[task]
async fn sums(summed: Vec<u64>) -> Result<Vec<u64>, TaskError> {
    Ok(summed)
}

#[tokio::test]
async fn k_lists_are_zipped_and_batched() {
    for database in databases() {
        let products =
            workflow! { name: "products", output: "sums", tasks: [multiply, summed, sums] };
        assert_eq!(products.dependencies("summed").unwrap(), ["multiply"]);
        let runner = start(&database).await;
        let input = Context::from_json(r#"{"xs":[1,2,3],"ys":[10,20,30]}"#).unwrap();
        let result = runner.execute(&products, input).await.unwrap();
        assert_eq!(result.output::<Vec<u64>>().unwrap(), [50, 90]);
        let input = Context::from_json(r#"{"xs":[1,2],"ys":[10]}"#).unwrap();
        let result = runner.execute(&products, input).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Failed);
        let message = result.error_message().unwrap();
        assert!(message.contains("lists of different lengths"), "{message}");
        runner.shutdown().await.unwrap();
    }
}

#[task(over = "rows")]
async fn either(left: u64, right: u64) -> Result<u64, TaskError> {
    Ok(left + right)
}

#[test]
#[should_panic(
    expected = "task 'either' of workflow 'unclear' runs over 'rows' and has several parameters that could receive the element: left, right"
)]
fn k_ambiguous_element_parameter_of_a_map_is_refused() {
    let _ = workflow! { name: "unclear", tasks: [either] };
}

#[task]
async fn of_items(multiplied: MapResult<u64>) -> Result<usize, TaskError> {
    Ok(multiplied.len())
}

#[test]
#[should_panic(
    expected = "parameter 'multiplied' of task 'of_items' of workflow 'no_map' takes the items of a map, but task 'multiplied' is not a map"
)]
fn k9_map_result_of_an_ordinary_task_is_refused() {
    #[task]
    async fn multiplied() -> Result<u64, TaskError> {
        Ok(6)
    }
    let _ = workflow! { name: "no_map", tasks: [multiplied, of_items] };
}

#[task(over = "url")]
async fn misspelled(page: String) -> Result<usize, TaskError> {
    Ok(page.len())
}

#[test]
#[should_panic(expected = "runs over 'url', which is neither a task nor a field of the input")]
fn k_unknown_list_of_a_map_is_refused() {
    let _ = workflow! { name: "unknown_list", input: Pages, tasks: [misspelled] };
}

#[task(wait_for = signal("paid", key = "order_id"), wait_timeout = "30d", on_timeout = "fail")]
async fn book(order_id: String, paid: u64) -> Result<String, TaskError> {
    Ok(format!("{order_id}: {paid}"))
}

#[task(wait_for = any_of(signal("go", since = "ever"), delay("20ms")))]
async fn cooled(go: Option<u64>) -> Result<bool, TaskError> {
    Ok(go.is_none())
}

#[task(wait_for = all_of(signal("never")), wait_timeout = "1ms", on_timeout = "continue")]
async fn given_up(#[default = 7] never: u64) -> Result<u64, TaskError> {
    Ok(never)
}

#[tokio::test]
async fn l_tasks_wait_for_the_conditions_in_their_options() {
    for database in databases() {
        let order = workflow! { name: "order_of_waits", tasks: [book, cooled, given_up] };
        let runner = start(&database).await;
        let input = Context::from_json(r#"{"order_id":"o-1"}"#).unwrap();
        let handle = runner.submit(&order, input).await.unwrap();
        let other = Signal::new("paid").key("o-2").data(&1).unwrap();
        runner.send(other).await.unwrap();
        let signal = Signal::new("paid").key("o-1").data(&12).unwrap();
        runner.send(signal).await.unwrap();
        let result = tokio::time::timeout(PATIENCE, handle.result()).await;
        let result = result.unwrap().unwrap();
        assert_eq!(result.of::<String>("book").unwrap(), "o-1: 12");
        assert!(result.of::<bool>("cooled").unwrap());
        assert_eq!(result.of::<u64>("given_up").unwrap(), 7);
        runner.shutdown().await.unwrap();
    }
}
