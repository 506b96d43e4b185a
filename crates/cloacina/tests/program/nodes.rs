//! Tests of nodes (tasks without a function): children, waits and approvals that `workflow!` declares (semantics L and M).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloacina::{
    Context, DefaultRunner, ErrorCode, ExecutionFilter, ExecutionStatus, Signal, TaskError,
    TaskHandle, TaskStatus, WaitFilter, Workflow, task, workflow,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::support::{PATIENCE, databases, start};

async fn run(runner: &DefaultRunner, workflow: &Workflow, input: &str) -> cloacina::WorkflowResult {
    let input = Context::from_json(input).unwrap();
    let handle = runner.submit(workflow, input).await.unwrap();
    handle.result_within(PATIENCE).await.unwrap()
}

#[test]
fn a4_nodes_have_the_same_version_as_in_python() {
    let workflow = workflow! {
        name: "only_nodes",
        cancel_on: signal("order.cancelled", key = "order_id"),
        tasks: [
            wait(
                id = "cool_down",
                wait_for = any_of(signal("go", key = "order_id"), delay("1h")),
                timeout = "2h",
                on_timeout = "continue",
                priority = 3,
            ),
            approval(
                id = "approve",
                dependencies = ["cool_down"],
                timeout = "48h",
                on_timeout = "skip",
                on_reject = "continue",
                title = "Release {order_id}?",
                to = "finance",
            ),
            child(
                id = "invoice",
                workflow = "invoices",
                input = { order = "order_id", "note" = "approve.reason" },
                dependencies = ["approve"],
                timeout = "1h",
                on_parent_end = "abandon",
                trigger_rule = "all_done",
            ),
            child(
                id = "pages",
                workflow = "render",
                over = "pages_of_order",
                input = { page = "item" },
                parallel = 20,
                tolerate = 0.1,
                batch = 2,
                retry_attempts = 3,
                retry_delay_ms = 5,
            ),
        ],
    };
    assert_eq!(workflow.version(), "1958bfe7058bf925");
}

mod invoices {
    use super::*;

    #[derive(Serialize, Deserialize)]
    pub struct Order {
        pub order: u64,
        #[serde(default = "standard")]
        pub currency: String,
    }

    fn standard() -> String {
        "EUR".to_owned()
    }

    pub static FAILURES: AtomicU32 = AtomicU32::new(0);

    #[task(retry_attempts = 1)]
    pub async fn number(order: u64, currency: String) -> Result<String, TaskError> {
        if order == 13 || (order == 7 && FAILURES.fetch_add(1, Ordering::SeqCst) == 0) {
            return Err(TaskError::new(format!("no invoice for {order}")));
        }
        Ok(format!("invoice-{order} {currency}"))
    }

    pub fn define() -> Workflow {
        workflow! { name: "node_invoices", input: Order, output: "number", tasks: [number] }
    }
}

mod order {
    use super::*;

    #[task]
    pub async fn mail(invoice: String) -> Result<String, TaskError> {
        Ok(format!("sent {invoice}"))
    }

    #[task]
    pub async fn undo_invoice(invoice: Option<String>) -> Result<String, TaskError> {
        Ok(format!("undone {invoice:?}"))
    }

    #[task(retry_attempts = 1)]
    pub async fn pay(mail: String, fails: bool) -> Result<String, TaskError> {
        if fails {
            return Err(TaskError::new("no money"));
        }
        Ok(mail)
    }

    pub fn define() -> Workflow {
        workflow! {
            name: "node_order",
            output: "pay",
            tasks: [
                mail,
                child(
                    id = "invoice",
                    workflow = "node_invoices",
                    input = { order = "ids.order" },
                    retry_attempts = 2,
                    retry_delay_ms = 1,
                    compensate = undo_invoice,
                ),
                pay,
            ],
        }
    }
}

#[tokio::test]
async fn m0_node_runs_a_child_workflow() {
    let _ = invoices::define();
    let order = order::define();
    assert_eq!(order.dependencies("mail").unwrap(), ["invoice"]);
    for database in databases() {
        let runner = start(&database).await;
        let result = run(&runner, &order, r#"{"ids":{"order":5},"fails":false}"#).await;
        let paid: String = result.output().unwrap();
        assert_eq!(paid, "sent invoice-5 EUR");
        assert_eq!(result.of::<String>("invoice").unwrap(), "invoice-5 EUR");
        let children = ExecutionFilter::new().parent(result.execution_id());
        let children = runner.list_executions(children).await.unwrap().items;
        assert_eq!(children.len(), 1);
        assert_eq!(children[0].workflow_name(), "node_invoices");
        assert_eq!(
            children[0].final_context().to_json(),
            r#"{"order":5,"number":"invoice-5 EUR"}"#
        );

        // M5: each attempt is a new child.
        invoices::FAILURES.store(0, Ordering::SeqCst);
        let result = run(&runner, &order, r#"{"ids":{"order":7},"fails":true}"#).await;
        assert_eq!(result.task("invoice").unwrap().attempts, 2);
        assert_eq!(result.of::<String>("invoice").unwrap(), "invoice-7 EUR");
        let last = result.final_execution().unwrap();
        let last = runner.handle(last).result_within(PATIENCE).await.unwrap();
        let undone: String = last.final_context().get("invoice~undone").unwrap();
        assert_eq!(undone, "undone Some(\"invoice-7 EUR\")");

        let result = run(&runner, &order, r#"{"ids":{"order":13},"fails":false}"#).await;
        let invoice = result.task("invoice").unwrap();
        assert_eq!(invoice.attempts, 2);
        let error = invoice.error.unwrap();
        assert_eq!(error.kind, "ChildFailedError");
        assert!(error.message.contains("no invoice for 13"), "{error}");

        let result = run(&runner, &order, r#"{"ids":{},"fails":false}"#).await;
        assert_eq!(result.status(), ExecutionStatus::Failed);
        let error = result.task("invoice").unwrap().error.unwrap();
        assert!(error.message.contains("ids.order"), "{error}");
        runner.shutdown().await.unwrap();
    }
}

mod pages {
    use super::*;

    #[task]
    pub async fn orders(count: u64) -> Result<Vec<u64>, TaskError> {
        Ok((10..10 + count).collect())
    }

    #[task]
    pub async fn known(invoices: Vec<Option<String>>) -> Result<usize, TaskError> {
        Ok(invoices.iter().flatten().count())
    }

    #[task]
    pub async fn all_sizes(sizes: Vec<u64>) -> Result<Vec<u64>, TaskError> {
        Ok(sizes)
    }

    pub fn define() -> Workflow {
        workflow! {
            name: "node_pages",
            output: ["known", "all_sizes"],
            tasks: [
                orders,
                child(
                    id = "invoices",
                    workflow = "node_invoices",
                    over = orders,
                    input = { order = "item", currency = "currency" },
                    parallel = 2,
                    tolerate = 1,
                ),
                child(
                    id = "sizes",
                    workflow = "node_sizes",
                    over = { left = "left", right = orders },
                    input = { a = "left", b = "right" },
                ),
                known,
                all_sizes,
            ],
        }
    }
}

mod sizes {
    use super::*;

    #[task]
    pub async fn sum(a: u64, b: u64) -> Result<u64, TaskError> {
        Ok(a + b)
    }

    pub fn define() -> Workflow {
        workflow! { name: "node_sizes", output: "sum", tasks: [sum] }
    }
}

#[tokio::test]
async fn k13_node_starts_a_child_for_each_element() {
    let _ = (invoices::define(), sizes::define());
    let pages = pages::define();
    assert_eq!(pages.dependencies("invoices").unwrap(), ["orders"]);
    assert_eq!(pages.dependencies("sizes").unwrap(), ["orders"]);
    for database in databases() {
        let runner = start(&database).await;
        let input = r#"{"count":4,"currency":"USD","left":[1,2,3,4]}"#;
        let result = run(&runner, &pages, input).await.into_completed().unwrap();
        let expected = [10, 11, 12, 13].map(|order| {
            let number = format!("invoice-{order} USD");
            (order != 13).then_some(number)
        });
        let found: Vec<Option<String>> = result.of("invoices").unwrap();
        assert_eq!(found, expected);
        assert_eq!(result.of::<Vec<u64>>("sizes").unwrap(), [11, 13, 15, 17]);
        let output: (usize, Vec<u64>) = result.output().unwrap();
        assert_eq!(output, (3, vec![11, 13, 15, 17]));
        assert_eq!(result.of::<usize>("known").unwrap(), 3);
        let id = result.execution_id();
        let failed = Some(TaskStatus::Failed);
        let failed = runner.items::<String>(id, "invoices", failed, None).await;
        let failed = failed.unwrap().items;
        assert_eq!((failed.len(), failed[0].index), (1, 3));
        let error = failed[0].error.as_ref().unwrap();
        assert_eq!(error.kind, "ChildFailedError");
        runner.shutdown().await.unwrap();
    }
}

mod ends {
    use super::*;

    #[task]
    pub async fn never(_context: &Context, cx: &TaskHandle) -> Result<u8, TaskError> {
        cx.sleep("long", Duration::from_hours(1)).await?;
        Ok(1)
    }

    pub fn define() -> Workflow {
        let _ = workflow! { name: "node_slow", tasks: [never] };
        workflow! {
            name: "node_ends",
            tasks: [
                child(id = "kept", workflow = "node_slow", on_parent_end = "abandon"),
                child(id = "late", workflow = "node_slow", timeout = "50ms"),
                child(
                    id = "skipped",
                    workflow = "node_slow",
                    dependencies = ["late"],
                    trigger_rule = "all_success",
                ),
            ],
        }
    }
}

#[tokio::test]
async fn m4_child_is_abandoned_timed_out_or_skipped_as_declared() {
    let workflow = ends::define();
    for database in databases() {
        let runner = start(&database).await;
        let handle = runner.submit(&workflow, Context::new()).await.unwrap();
        let late = async {
            loop {
                let state = handle.snapshot().await.unwrap();
                let late = state.task("late").unwrap();
                if late.status == TaskStatus::Failed {
                    return (late, state.task("skipped").unwrap());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (late, skipped) = tokio::time::timeout(PATIENCE, late).await.unwrap();
        assert!(late.error.unwrap().message.contains("timeout of 0.05 s"));
        assert_eq!(skipped.status, TaskStatus::Skipped);
        handle.cancel().await.unwrap();
        let children = ExecutionFilter::new().parent(handle.id());
        let mut children = runner.list_executions(children).await.unwrap().items;
        children.retain(|child| child.status() != ExecutionStatus::Failed);
        assert_eq!(
            children.len(),
            1,
            "the child with `abandon` is not cancelled"
        );
        let kept = runner.handle(children[0].execution_id());
        assert_eq!(kept.status().await.unwrap(), ExecutionStatus::Running);
        kept.cancel().await.unwrap();
        runner.shutdown().await.unwrap();
    }
}

mod release {
    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "the type declares the data of the approval")]
    pub struct Decision {
        limit: u64,
    }

    #[derive(Deserialize)]
    pub struct Approved {
        approved: bool,
        data: Option<Limit>,
    }

    #[derive(Deserialize)]
    pub struct Limit {
        limit: u64,
    }

    #[task]
    pub async fn book(approve: Approved, ready: String) -> Result<(bool, u64, String), TaskError> {
        let limit = approve.data.map_or(0, |data| data.limit);
        Ok((approve.approved, limit, ready))
    }

    #[task(trigger_rule = "all_done")]
    pub async fn after(#[result_of("given_up")] nothing: Option<u8>) -> Result<bool, TaskError> {
        Ok(nothing.is_none())
    }

    pub fn define() -> Workflow {
        workflow! {
            name: "node_release",
            cancel_on: [signal("stop", key = "order_id"), signal("stop.all")],
            tasks: [
                wait(id = "ready", wait_for = signal("ready", key = "order_id")),
                approval(
                    id = "approve",
                    dependencies = ["ready"],
                    data = Decision,
                    title = "Release {order_id}?",
                    to = "finance",
                    on_reject = "continue",
                ),
                wait(
                    id = "given_up",
                    wait_for = all_of(signal("never"), delay("1h")),
                    timeout = "1ms",
                    on_timeout = "skip",
                ),
                book,
                after,
            ],
        }
    }
}

#[tokio::test]
async fn l_nodes_wait_for_signals_and_decisions() {
    let workflow = release::define();
    assert_eq!(workflow.dependencies("book").unwrap(), ["approve", "ready"]);
    for database in databases() {
        let runner = start(&database).await;
        let input = |order: &str| Context::encode(&json!({ "order_id": order })).unwrap();
        let first = runner.submit(&workflow, input("o-1")).await.unwrap();
        let second = runner.submit(&workflow, input("o-2")).await.unwrap();
        let ready = Signal::new("ready").key("o-1").data("now").unwrap();
        runner.send(ready).await.unwrap();
        let open = async {
            loop {
                let filter = WaitFilter {
                    name: Some("approve".to_owned()),
                    execution: Some(first.id()),
                    ..WaitFilter::default()
                };
                if let Some(wait) = runner.waits(filter).await.unwrap().items.pop() {
                    return wait;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let open = tokio::time::timeout(PATIENCE, open).await.unwrap();
        assert_eq!(open.title.as_deref(), Some("Release o-1?"));
        assert_eq!(open.to.as_deref(), Some("finance"));
        let schema = open.schema.unwrap();
        assert!(schema.as_str().contains(r#""limit""#), "{schema}");
        let data = json!({ "limit": 5 });
        let by = Some("ann");
        runner
            .approve(first.id(), "approve", &data, by)
            .await
            .unwrap();
        let result = first.result_within(PATIENCE).await.unwrap();
        let booked: (bool, u64, String) = result.of("book").unwrap();
        assert_eq!(booked, (true, 5, "now".to_owned()));
        assert_eq!(result.task("given_up").unwrap().status, TaskStatus::Skipped);
        assert!(result.of::<bool>("after").unwrap());

        let stop = Signal::new("stop").key("o-2");
        runner.send(stop).await.unwrap();
        let result = second.result_within(PATIENCE).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Cancelled);
        runner.shutdown().await.unwrap();
    }
}

#[test]
#[should_panic(
    expected = "workflow 'node_map_output': output='sizes' is a map, whose results are not in the context"
)]
fn j8_map_cannot_be_the_output() {
    let _ = workflow! {
        name: "node_map_output",
        output: "sizes",
        tasks: [child(id = "sizes", workflow = "node_sizes", over = "rows")],
    };
}

#[test]
#[should_panic(expected = "the data of approval 'release' is not an object: u8 is a number")]
fn l_data_of_an_approval_must_be_an_object() {
    let _ = workflow! {
        name: "node_number",
        tasks: [approval(id = "release", data = u8)],
    };
}

#[test]
fn l_data_type_of_an_approval_can_be_a_map_or_option() {
    let workflow = workflow! {
        name: "node_objects",
        tasks: [
            approval(id = "map", data = std::collections::HashMap<String, u8>),
            approval(id = "optional", data = Option<release::Limit>),
            approval(id = "any", data = serde_json::Value),
        ],
    };
    assert_eq!(workflow.tasks().count(), 3);
}

/// A workflow whose input accepts any field, and a workflow that runs it as a child.
mod open {
    use std::collections::HashMap;

    use super::*;

    #[derive(Serialize, Deserialize)]
    pub struct Anything {
        #[serde(flatten)]
        rest: HashMap<String, u64>,
    }

    #[task]
    pub async fn double(number: u64) -> Result<u64, TaskError> {
        Ok(2 * number)
    }

    pub fn define() -> Workflow {
        let _ = workflow! { name: "node_open", input: Anything, output: "double", tasks: [double] };
        workflow! {
            name: "node_open_parent",
            output: "inner",
            tasks: [child(id = "inner", workflow = "node_open")],
        }
    }
}

#[tokio::test]
async fn m0_child_that_accepts_any_field_gets_the_whole_context() {
    let workflow = open::define();
    for database in databases() {
        let runner = start(&database).await;
        let result = run(&runner, &workflow, r#"{"number":21}"#).await;
        assert_eq!(result.output::<u64>().unwrap(), 42);
        runner.shutdown().await.unwrap();
    }
}

#[test]
#[should_panic(
    expected = "workflow 'node_cycle_b' would run itself without end: 'node_cycle_b' -> 'node_cycle_a' -> 'node_cycle_b'"
)]
fn m7_cycle_of_children_is_refused_when_it_is_defined() {
    let _ = workflow! {
        name: "node_cycle_a",
        tasks: [child(id = "next", workflow = "node_cycle_b")],
    };
    let _ = workflow! {
        name: "node_cycle_b",
        tasks: [child(id = "next", workflow = "node_cycle_a")],
    };
}

#[tokio::test]
async fn m7_explain_names_the_unknown_workflow_of_a_child() {
    for database in databases() {
        let workflow = workflow! {
            name: "node_unknown",
            tasks: [child(id = "next", workflow = "undefined_workflow")],
        };
        let runner = start(&database).await;
        let handle = runner.submit(&workflow, Context::new()).await.unwrap();
        let reasons = runner.explain(handle.id()).await.unwrap().join(" ");
        assert!(reasons.contains("undefined_workflow"), "{reasons}");
        let waiting = handle.result_within(Duration::from_millis(1)).await;
        assert_eq!(waiting.unwrap_err().code, ErrorCode::WaitTimeout);
        handle.cancel().await.unwrap();
        runner.shutdown().await.unwrap();
    }
}
