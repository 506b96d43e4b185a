//! The workflows of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina::engine::Outcome;
use cloacina::runner::EngineHandle;
use cloacina::runtime::{
    Assignment, Executor, Handler, Message, Registration, Reply, TaskFuture, TaskPort,
};
use cloacina::store::Store;
use cloacina::types::{
    Approval, Backoff, ChildSpec, Condition, Delta, Error, Failure, Json, LogChunk, LogLine,
    MapSpec, ParentEnd, Park, ParkKind, Progress, RetryPolicy, RunInput, Runs, StepKind,
    StepRecord, Timestamp, Tolerance,
};
use cloacina::workflow::{
    FinalOn, FinalRole, TaskDefinition, TaskKind, Workflow, WorkflowDefinition,
};

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

/// Returns the workflows that a run submits (`life`, `waits`, `maps`, `family`), and `ticked`, which is started by
/// schedules, triggers and `family`.
pub fn workflows() -> Vec<Arc<Workflow>> {
    let life = vec![
        task("first", &[]),
        task("left", &["first"]),
        task("right", &["first"]),
        task("fails", &["first"]),
        task("last", &["left", "right"]),
    ];
    let ticked = vec![task("only", &[])];
    let node = |id: &str, condition: Option<Condition>| TaskDefinition {
        kind: TaskKind::Engine,
        wait_for: condition,
        ..task(id, &[])
    };
    let delay = Condition::Delay { duration: 1_000 };
    let waits = vec![
        node("go", Some(Condition::signal("go", None))),
        TaskDefinition {
            approval: Some(Approval::default()),
            ..node("ok", None)
        },
        node("later", Some(delay)),
        task("naps", &[]),
    ];
    let mapped = TaskDefinition {
        over: Some(MapSpec {
            lists: BTreeMap::from([("row".to_owned(), "source".to_owned())]),
            parallel: Some(2),
            batch: None,
            tolerate: Some(Tolerance::Count(1)),
        }),
        ..task("mapped", &["source"])
    };
    let aligned = TaskDefinition {
        over: Some(MapSpec {
            lists: BTreeMap::from([("item".to_owned(), "mapped".to_owned())]),
            ..MapSpec::default()
        }),
        ..task("aligned", &["mapped"])
    };
    let maps = vec![task("source", &[]), mapped, aligned];
    let all = [
        ("life", life),
        ("ticked", ticked),
        ("waits", waits),
        ("maps", maps),
        ("family", family()),
    ];
    all.into_iter()
        .map(|(name, tasks)| {
            let (finals, tasks) = tasks.into_iter().partition(|task| task.role.is_some());
            let definition = WorkflowDefinition {
                finals,
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

/// Returns the tasks of `family`: a task with a compensation, a node and a function that run children, a task that fails after
/// the children have ended, and a final task.
fn family() -> Vec<TaskDefinition> {
    let node = TaskDefinition {
        kind: TaskKind::Engine,
        child: Some(ChildSpec {
            workflow: "ticked".into(),
            input: None,
            on_parent_end: ParentEnd::Cancel,
        }),
        ..task("node", &["order"])
    };
    let role = |role, id: &str| TaskDefinition {
        role: Some(role),
        ..task(id, &[])
    };
    vec![
        task("order", &[]),
        node,
        task("calls", &["order"]),
        task("fails", &["node", "calls"]),
        role(FinalRole::Compensation { failed: false }, "order"),
        role(
            FinalRole::Final {
                on: FinalOn::Always,
                undoes: Vec::new(),
            },
            "clean",
        ),
    ]
}

/// Returns a registration with handlers for all tasks of a workflow. `observer` is a connection without failpoints.
pub fn registration(
    engine: &EngineHandle,
    workflow: &Arc<Workflow>,
    observer: &Arc<dyn Store>,
) -> Registration {
    // A node has no function, so it needs no handler. With a handler, runners would claim it like a task.
    let definition = workflow.definition();
    let tasks = definition.tasks.iter().chain(&definition.finals);
    let functions = tasks.filter(|task| !task.is_node());
    let handlers: BTreeMap<String, Handler> = functions
        .map(|task| {
            let observer = Arc::clone(observer);
            let function = Arc::new(move |assignment: Assignment, port: TaskPort| {
                let observer = Arc::clone(&observer);
                Box::pin(async move { run(&assignment, &observer, &port).await }) as TaskFuture
            });
            let handler = Handler {
                executor: Executor::Futures,
                token: engine.tasks().add(function).unwrap(),
                on_success: false,
                on_failure: false,
            };
            let is_compensation = matches!(task.role, Some(FinalRole::Compensation { .. }));
            let suffix = if is_compensation { "~final" } else { "" };
            (format!("{}{suffix}", task.id), handler)
        })
        .collect();
    Registration {
        workflow: Arc::clone(workflow),
        handlers,
    }
}

/// Runs one attempt of a task.
async fn run(assignment: &Assignment, observer: &Arc<dyn Store>, port: &TaskPort) -> Outcome {
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
        "source" => {
            let list = Json::parse("[10,20,30,40,50]").unwrap();
            let mut delta = Delta::default();
            delta.set.insert("source".into(), list);
            return Outcome::Completed(Arc::new(delta));
        }
        "mapped" => return map_one(assignment, port).await,
        "aligned" => {
            let mut delta = Delta::default();
            let element = assignment.context.get("item").cloned();
            delta.set.insert("aligned".into(), element.unwrap());
            return Outcome::Completed(Arc::new(delta));
        }
        "naps" => return nap(assignment, port).await,
        "calls" => return call(assignment, port).await,
        "left" if record_step(assignment, port).await.is_err() => return Outcome::Released,
        _ => {}
    }
    let seen = assignment.context.iter().count();
    let mut delta = Delta::default();
    delta
        .set
        .insert(id.into(), Json::parse(&seen.to_string()).unwrap());
    Outcome::Completed(Arc::new(delta))
}

/// Runs an item of the map `mapped`. Item 0 records a step, and item 3 fails.
async fn map_one(assignment: &Assignment, port: &TaskPort) -> Outcome {
    let index = assignment.claim.item.unwrap_or_default();
    if index == 0 && record_step(assignment, port).await.is_err() {
        return Outcome::Released;
    }
    if index == 3 {
        return Outcome::Failed(Failure {
            kind: "ValueError".into(),
            message: "always".into(),
            traceback: None,
            retryable: true,
            lineage: Vec::new(),
        });
    }
    let mut delta = Delta::default();
    let value = assignment.context.get("row").cloned();
    delta.set.insert("mapped".into(), value.unwrap());
    Outcome::Completed(Arc::new(delta))
}

/// Parks the task in a sleep. The attempt after the sleep completes the task.
async fn nap(assignment: &Assignment, port: &TaskPort) -> Outcome {
    let nap = Park {
        kind: ParkKind::Sleep,
        key: "nap".to_owned(),
        position: 0,
        condition: Condition::Delay { duration: 1_000 },
        timeout: None,
        runs: None,
    };
    park_once(assignment, port, nap).await
}

/// Parks the task until its child has ended. The next attempt completes the task.
async fn call(assignment: &Assignment, port: &TaskPort) -> Outcome {
    let input = RunInput {
        index: 0,
        input: Json::parse("{}").unwrap(),
    };
    let call = Park {
        kind: ParkKind::Run,
        key: "call".to_owned(),
        position: 0,
        condition: Condition::AllOf { conditions: vec![] },
        timeout: None,
        runs: Some(Box::new(Runs {
            workflow: "ticked".to_owned(),
            inputs: [input].into(),
            ..Runs::default()
        })),
    };
    park_once(assignment, port, call).await
}

/// Parks the task. If the task already has a recorded step, the wait has ended, and this function completes the task
/// instead.
async fn park_once(assignment: &Assignment, port: &TaskPort, park: Park) -> Outcome {
    let (execution, task) = (assignment.execution, assignment.task);
    let loaded = ask(port, |reply| Message::LoadSteps {
        execution,
        task,
        item: None,
        reply,
    });
    match loaded.await {
        Err(_) => Outcome::Released,
        Ok(steps) if steps.is_empty() => Outcome::Park(Box::new(park)),
        Ok(_) => Outcome::Completed(Arc::default()),
    }
}

/// Records a step, unless an earlier attempt has already recorded it.
async fn record_step(assignment: &Assignment, port: &TaskPort) -> Result<(), Error> {
    let (execution, task, claim) = (assignment.execution, assignment.task, assignment.claim);
    let loaded = ask(port, |reply| Message::LoadSteps {
        execution,
        task,
        item: claim.item,
        reply,
    });
    if !loaded.await?.is_empty() {
        return Ok(());
    }
    let step = StepRecord {
        key: "once".to_owned(),
        position: 0,
        kind: StepKind::Step,
        attempt: claim.attempt,
        started_at: Timestamp(1),
        ended_at: Timestamp(2),
        value: Json::parse("1").unwrap(),
    };
    ask(port, |reply| Message::RecordStep {
        execution,
        task,
        claim,
        step,
        reply,
    })
    .await
}

async fn ask<T: Send + 'static>(
    port: &TaskPort,
    message: impl FnOnce(Reply<T>) -> Message,
) -> Result<T, Error> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    port.send(message(Box::new(move |answer| drop(sender.send(answer)))));
    receiver
        .await
        .unwrap_or_else(|_| Err(Error::runner_closed()))
}

/// Reports progress, logs a line, and returns when the progress report is stored.
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
