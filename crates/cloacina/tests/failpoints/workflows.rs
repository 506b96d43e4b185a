//! The workflows of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina::engine::Outcome;
use cloacina::runner::EngineHandle;
use cloacina::runtime::{Assignment, Executor, Handler, Registration, TaskFuture};
use cloacina::store::Store;
use cloacina::types::{
    Backoff, Delta, Failure, Json, LogChunk, LogLine, Progress, RetryPolicy, Timestamp,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

pub fn task(id: &str, dependencies: &[&str]) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        kind: TaskKind::Async,
        retry: RetryPolicy {
            max_attempts: 2,
            backoff: Backoff::Fixed,
            initial_delay: 1_000,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    }
}

/// Returns `life`, which is submitted, and `ticked`, which a schedule starts.
pub fn workflows() -> Vec<Arc<Workflow>> {
    let life = vec![
        task("first", &[]),
        task("left", &["first"]),
        task("right", &["first"]),
        task("fails", &["first"]),
        task("last", &["left", "right"]),
    ];
    let ticked = vec![task("only", &[])];
    [("life", life), ("ticked", ticked)]
        .into_iter()
        .map(|(name, tasks)| {
            let definition = WorkflowDefinition {
                name: name.into(),
                tenant: "public".into(),
                package: "embedded".into(),
                tasks,
                ..WorkflowDefinition::default()
            };
            Arc::new(Workflow::new(definition).unwrap())
        })
        .collect()
}

/// Returns a registration with handlers for all tasks of a workflow. `observer` is a connection without failpoints.
pub fn registration(
    engine: &EngineHandle,
    workflow: &Arc<Workflow>,
    observer: &Arc<dyn Store>,
) -> Registration {
    let tasks = workflow.definition().tasks.iter();
    let handlers: BTreeMap<String, Handler> = tasks
        .map(|task| {
            let observer = Arc::clone(observer);
            let function = Arc::new(move |assignment: Assignment| {
                let observer = Arc::clone(&observer);
                Box::pin(async move { run(&assignment, &observer).await }) as TaskFuture
            });
            let handler = Handler {
                executor: Executor::Futures,
                token: engine.tasks().add(function).unwrap(),
                on_success: false,
                on_failure: false,
            };
            (task.id.clone(), handler)
        })
        .collect();
    Registration {
        workflow: Arc::clone(workflow),
        handlers,
    }
}

async fn run(assignment: &Assignment, observer: &Arc<dyn Store>) -> Outcome {
    let id = assignment.workflow.task(assignment.task).id.clone();
    match id.as_str() {
        "fails" => {
            return Outcome::Failed(Failure {
                kind: "ValueError".into(),
                message: "always".into(),
                traceback: None,
                retryable: true,
                lineage: Vec::new(),
            });
        }
        "first" => report(assignment, observer).await,
        _ => {}
    }
    let seen = assignment.context.iter().count();
    let mut delta = Delta::default();
    delta
        .set
        .insert(id.into(), Json::parse(&seen.to_string()).unwrap());
    Outcome::Completed(Arc::new(delta))
}

/// Reports progress and logs a line, and runs until the start and the report of the attempt are stored.
async fn report(assignment: &Assignment, observer: &Arc<dyn Store>) {
    let (execution, task) = (assignment.execution, assignment.task);
    let attempt = assignment.claim.attempt;
    let time = Timestamp(1_000_000);
    assignment.insight.note_progress(Progress {
        execution,
        task,
        attempt,
        done: 1.0,
        total: 2.0,
        message: Some("half".to_owned()),
        time,
    });
    assignment.insight.note_logs(LogChunk {
        execution,
        task,
        attempt,
        lines: vec![LogLine {
            time,
            level: 20,
            logger: "life".to_owned(),
            message: "begun".to_owned(),
        }],
    });
    let is_stored = || {
        let reports = observer.progress(execution).unwrap_or_default();
        reports.iter().any(|report| report.attempt == attempt)
    };
    while !is_stored() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
