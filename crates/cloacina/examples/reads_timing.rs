//! Measures how long lists, filters and counts take on a large database (workload W19).
//!
//! ```text
//! cargo run --release --example reads_timing -- sqlite:////tmp/large.db 1000000
//! ```
//!
//! The program fills an empty database with ended executions of five workflows. 0.5 % of the executions have failed, and 2 %
//! have labels. The program then runs each query 100 times, and prints one line of JSON per query: the median and the 95th
//! percentile of its times, in milliseconds.

#![expect(clippy::unwrap_used, reason = "a failing step ends the measurement")]
#![expect(clippy::print_stdout, reason = "the program prints its results")]

use std::sync::Arc;
use std::time::Instant;

use cloacina::runner::{Access, Inspector, ListFilter};
use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::sqlite::SqliteStore;
use cloacina::store::{
    Batch, ClaimRequest, DatabaseUrl, FlowWrites, QueueId, Store, Submit, TaskWrite,
};
use cloacina::types::{
    Clock, Context, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, Failure,
    FailureKind, Labels, RunnerId, SystemClock, TaskRecord, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

/// Number of executions that one commit writes.
const COMMIT: usize = 1_000;
/// Number of times that each query runs.
const ROUNDS: usize = 100;
/// Time between two submissions, in microseconds.
const APART: i64 = 50_000;

fn open(url: &str) -> Arc<dyn Store> {
    match DatabaseUrl::parse(url).unwrap() {
        DatabaseUrl::Sqlite(options) => Arc::new(SqliteStore::open(&options).unwrap()),
        DatabaseUrl::Postgres(url) => {
            let options = PostgresOptions::from_url(&url).unwrap();
            Arc::new(PostgresStore::open(&options).unwrap())
        }
    }
}

fn workflow(name: String) -> Workflow {
    Workflow::new(WorkflowDefinition {
        name,
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: vec![TaskDefinition {
            id: "load".to_owned(),
            ..TaskDefinition::default()
        }],
        ..WorkflowDefinition::default()
    })
    .unwrap()
}

/// Creates an execution and its labels. `number` determines whether it failed and which labels it has.
fn execution(
    number: usize,
    definition: DefinitionId,
    start: Timestamp,
) -> (ExecutionRecord, Labels) {
    let at = start + APART * i64::try_from(number).unwrap();
    let random = *ExecutionId::generate().as_bytes();
    let has_failed = number % 200 == 7;
    let message = format!("connection {number} refused by 10.0.0.1");
    let failure = Failure::engine(FailureKind::WorkflowTimeout, message);
    let mut task = TaskRecord::pending();
    task.status = if has_failed {
        TaskStatus::Failed
    } else {
        TaskStatus::Completed
    };
    task.attempt = 1;
    task.started_at = Some(at);
    task.ended_at = Some(at + 1_000);
    task.error = has_failed.then(|| failure.clone());
    let record = ExecutionRecord {
        id: ExecutionId::from_parts(at, random[6..].try_into().unwrap()),
        definition,
        revision: 2,
        status: if has_failed {
            ExecutionStatus::Failed
        } else {
            ExecutionStatus::Completed
        },
        priority: 0,
        key: number.is_multiple_of(100).then(|| format!("key-{number}")),
        input: Arc::new(Context::from_json(&format!(r#"{{"n":{number}}}"#)).unwrap()),
        created_at: at,
        start_at: None,
        started_at: Some(at),
        ended_at: Some(at + 1_000),
        timeout: None,
        deadline: None,
        paused_at: None,
        parent: None,
        finale: None,
        error: has_failed.then_some((Some(0), failure)),
        tasks: vec![task],
    };
    let labels = if number.is_multiple_of(50) {
        Labels::new([("order", (number % 1_000).to_string())]).unwrap()
    } else {
        Labels::NONE
    };
    (record, labels)
}

/// Submits `size` ended executions. Returns the time of the first submission.
fn fill(store: &dyn Store, size: usize) -> Timestamp {
    let now = SystemClock.now();
    let start = now + -APART * i64::try_from(size).unwrap();
    let workflows: Vec<Workflow> = (0..5).map(|n| workflow(format!("w{n}"))).collect();
    let ids: Vec<DefinitionId> = (workflows.iter())
        .map(|workflow| store.put_definition(workflow, start).unwrap())
        .collect();
    for begin in (0..size).step_by(COMMIT) {
        let numbers = begin..size.min(begin + COMMIT);
        let rows: Vec<_> = numbers
            .map(|number| (number % 5, execution(number, ids[number % 5], start)))
            .collect();
        let submits = rows.iter().map(|(at, (record, labels))| Submit {
            record,
            workflow: workflows[*at].name(),
            labels,
            tasks: vec![TaskWrite {
                ordinal: 0,
                insert: true,
                fence: None,
                queue: QueueId::of(&workflows[*at], 0),
                priority: 0,
            }],
            history: &[],
        });
        let batch = Batch {
            runner: RunnerId::generate(),
            now,
            schedules: Vec::new(),
            submits: submits.collect(),
            advances: Vec::new(),
            flow: FlowWrites::default(),
            claim: ClaimRequest::default(),
        };
        store.commit(&batch).unwrap();
    }
    start
}

/// Runs a query `ROUNDS` times and prints its times. `ask` returns the number of results.
fn measure(name: &str, mut ask: impl FnMut() -> usize) {
    let mut times = Vec::with_capacity(ROUNDS);
    let mut found = 0;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        found = ask();
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_unstable_by(f64::total_cmp);
    println!(
        r#"{{"question": "{name}", "found": {found}, "p50_ms": {:.2}, "p95_ms": {:.2}}}"#,
        times[ROUNDS / 2],
        times[ROUNDS * 95 / 100]
    );
}

fn page() -> ListFilter {
    ListFilter {
        limit: 50,
        ..ListFilter::default()
    }
}

/// Returns the names and filters of lists by workflow and state.
fn lists_of_states() -> Vec<(&'static str, ListFilter)> {
    let text = str::to_owned;
    vec![
        ("newest", page()),
        (
            "workflow",
            ListFilter {
                workflows: vec![text("w3")],
                ..page()
            },
        ),
        (
            "two workflows",
            ListFilter {
                workflows: vec![text("w1"), text("w3")],
                ..page()
            },
        ),
        (
            "failed",
            ListFilter {
                statuses: vec![ExecutionStatus::Failed],
                ..page()
            },
        ),
        (
            "running",
            ListFilter {
                statuses: vec![ExecutionStatus::Running],
                ..page()
            },
        ),
        (
            "not completed",
            ListFilter {
                not_statuses: vec![ExecutionStatus::Completed],
                ..page()
            },
        ),
    ]
}

/// Returns the names and filters of lists by other conditions. `middle` is a time in the middle of the submissions.
fn lists_of_conditions(middle: Timestamp) -> Vec<(&'static str, ListFilter)> {
    let text = str::to_owned;
    vec![
        (
            "label",
            ListFilter {
                labels: vec![(text("order"), text("350"))],
                ..page()
            },
        ),
        (
            "key",
            ListFilter {
                keys: Some(vec![text("key-500")]),
                ..page()
            },
        ),
        (
            "until the middle",
            ListFilter {
                until: Some(middle),
                ..page()
            },
        ),
        (
            "id prefix",
            ListFilter {
                id_prefix: Some(text("019")),
                ..page()
            },
        ),
        (
            "failed of a workflow",
            ListFilter {
                statuses: vec![ExecutionStatus::Failed],
                workflows: vec![text("w2")],
                ..page()
            },
        ),
        (
            "error text (scan)",
            ListFilter {
                error: Some(text("no such text")),
                ..page()
            },
        ),
        (
            "input (scan)",
            ListFilter {
                inputs: vec![(text("n"), text("-1"))],
                ..page()
            },
        ),
    ]
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .expect("the first argument is missing: the URL of an empty database");
    let size: usize = arguments
        .next()
        .map_or(100_000, |size| size.parse().unwrap());
    let store = open(&url);
    let begin = Instant::now();
    let start = fill(&*store, size);
    println!(
        r#"{{"executions": {size}, "filled_in_s": {:.1}}}"#,
        begin.elapsed().as_secs_f64()
    );
    drop(store);
    let inspector = Inspector::open(&url, None, Access::ReadOnly).unwrap();
    let middle = start + APART * i64::try_from(size / 2).unwrap();
    let list = |name: &str, filter: ListFilter| {
        measure(name, || inspector.list(&filter).unwrap().items.len());
    };
    for (name, filter) in lists_of_states() {
        list(name, filter);
    }
    for (name, filter) in lists_of_conditions(middle) {
        list(name, filter);
    }
    let cursor = inspector
        .list(&ListFilter {
            until: Some(middle),
            ..page()
        })
        .unwrap()
        .next;
    list(
        "next page",
        ListFilter {
            before: cursor,
            ..page()
        },
    );
    list(
        "previous page",
        ListFilter {
            after: cursor,
            ..page()
        },
    );
    measure("counts", || inspector.counts().unwrap().len());
    measure("failures by cause", || {
        inspector.failures(None).unwrap().len()
    });
    let now = inspector.now();
    measure("activity of 48 buckets", || {
        inspector.activity(start, now, 48).unwrap().len()
    });
    measure("home", || {
        inspector.counts().unwrap().len()
            + inspector.failures(None).unwrap().len()
            + inspector
                .activity(now + -86_400_000_000, now, 48)
                .unwrap()
                .len()
    });
}
