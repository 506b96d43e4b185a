//! Tests of races in which a task records steps while a rescue or a cancel takes the task's claim (semantics T2, T8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloacina::engine::Outcome;
use cloacina::runner::EngineHandle;
use cloacina::runtime::{
    Assignment, Control, Executor, Handler, Message, Registration, Reply, RunnerConfig, TaskFuture,
    TaskPort,
};
use cloacina::types::Clock;
use cloacina::types::sync::Mutex;
use cloacina::types::{
    Error, ErrorCode, ExecutionId, ExecutionStatus, Json, StepKind, StepRecord, SystemClock,
    Timestamp,
};
use cloacina::workflow::{Workflow, WorkflowDefinition};

use super::races::{Racers, groups};
use super::support::{config, done, failed, on_each_database, request, task, wait};

/// The number of steps of a task.
const STEPS: u32 = 5;
/// The number of executions in a group. The executions of a group run at the same time.
const GROUP: usize = 20;

/// The answers to the requests with which attempts record steps.
#[derive(Default)]
struct StepAnswers {
    /// The value of each acknowledged step. An acknowledged step is durable.
    acknowledged: Mutex<BTreeMap<(ExecutionId, String), String>>,
    /// The number of acknowledged steps.
    count: AtomicUsize,
    /// The number of refused steps.
    refused: AtomicUsize,
    /// The value of the next step. Each step has a different value.
    values: AtomicU64,
}

impl StepAnswers {
    /// Waits until `more` further steps are acknowledged, or until no step has been acknowledged for 50 ms.
    fn until_more(&self, more: usize) {
        let aim = self.count.load(Ordering::SeqCst) + more;
        let (mut last, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_millis(50) {
            let count = self.count.load(Ordering::SeqCst);
            if count >= aim {
                return;
            }
            if count != last {
                (last, since) = (count, Instant::now());
            }
            std::thread::yield_now();
        }
    }

    fn acknowledged(&self, id: ExecutionId) -> BTreeMap<String, String> {
        let all = self.acknowledged.lock();
        let own = all.iter().filter(|((execution, _), _)| *execution == id);
        own.map(|((_, key), value)| (key.clone(), value.clone()))
            .collect()
    }
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

/// Runs an attempt: records the steps that no earlier attempt has recorded.
async fn record_all(assignment: Assignment, port: TaskPort, answers: Arc<StepAnswers>) -> Outcome {
    let (execution, task, claim) = (assignment.execution, assignment.task, assignment.claim);
    // The steps that are loaded below must contain every step that has been acknowledged by now. They may also contain
    // later steps.
    let before = answers.acknowledged(execution);
    let loaded = ask(&port, |reply| Message::LoadSteps {
        execution,
        task,
        item: None,
        reply,
    });
    let Ok(loaded) = loaded.await else {
        return failed("the runner stops");
    };
    let known: BTreeMap<String, String> = loaded
        .iter()
        .map(|step| (step.key.clone(), step.value.to_string()))
        .collect();
    for (key, value) in before {
        assert_eq!(known.get(&key), Some(&value), "step {key} of {execution}");
    }
    for position in 0..STEPS {
        let key = format!("s{position}");
        if known.contains_key(&key) {
            continue;
        }
        let value = answers.values.fetch_add(1, Ordering::SeqCst).to_string();
        let step = StepRecord {
            key: key.clone(),
            position,
            kind: StepKind::Step,
            attempt: claim.attempt,
            started_at: Timestamp(1),
            ended_at: Timestamp(2),
            value: Json::parse(&value).unwrap(),
        };
        tokio::time::sleep(Duration::from_micros(500)).await;
        let recorded = ask(&port, |reply| Message::RecordStep {
            execution,
            task,
            claim,
            step,
            reply,
        });
        match recorded.await {
            Ok(()) => {
                let mut acknowledged = answers.acknowledged.lock();
                let other = acknowledged.insert((execution, key), value);
                assert_eq!(
                    other, None,
                    "two attempts recorded the same step of {execution}"
                );
                answers.count.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                assert!(
                    matches!(error.code, ErrorCode::ClaimLost | ErrorCode::RunnerClosed),
                    "{error}"
                );
                answers.refused.fetch_add(1, Ordering::SeqCst);
                return failed("the claim is lost");
            }
        }
    }
    done()
}

fn define(engine: &EngineHandle, answers: &Arc<StepAnswers>) {
    let answers = Arc::clone(answers);
    let function = Arc::new(move |assignment: Assignment, port: TaskPort| {
        let answers = Arc::clone(&answers);
        // A spawned future continues after its attempt is aborted, like a thread.
        Box::pin(async move {
            tokio::spawn(record_all(assignment, port, answers))
                .await
                .unwrap()
        }) as TaskFuture
    });
    let handler = Handler {
        executor: Executor::Futures,
        token: engine.tasks().add(function).unwrap(),
        on_success: false,
        on_failure: false,
    };
    let workflow = Workflow::new(WorkflowDefinition {
        name: "steps".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![task("only", &[])],
        ..WorkflowDefinition::default()
    });
    engine
        .register(Registration {
            workflow: Arc::new(workflow.unwrap()),
            handlers: BTreeMap::from([("only".to_owned(), handler)]),
        })
        .unwrap();
}

/// Checks that the stored steps of an execution contain every acknowledged step, and no key or position twice. If `is_complete`
/// is true, all steps must be stored.
fn check(racers: &Racers, answers: &StepAnswers, id: ExecutionId, is_complete: bool) {
    let stored = racers.store.steps(id, None).unwrap();
    let keys: BTreeSet<&str> = stored.iter().map(|(_, step)| step.key.as_str()).collect();
    let positions: BTreeSet<u32> = stored.iter().map(|(_, step)| step.position).collect();
    assert_eq!(keys.len(), stored.len(), "{stored:?}");
    assert_eq!(positions.len(), stored.len(), "{stored:?}");
    for (key, value) in answers.acknowledged(id) {
        let found = stored.iter().find(|(_, step)| step.key == key);
        let found = found.map(|(_, step)| step.value.to_string());
        assert_eq!(found, Some(value), "step {key} of {id}");
    }
    if is_complete {
        assert_eq!(stored.len(), STEPS as usize, "{stored:?}");
    }
}

/// Declares the runner of one of these executions dead. Returns whether a runner was declared dead.
fn declare_dead(racers: &Racers, ids: &[ExecutionId]) -> bool {
    let records = racers.store.load(ids).unwrap();
    let owner = records.iter().find_map(|record| record.tasks[0].runner);
    let rows = racers.store.runners().unwrap();
    let Some(row) = rows.iter().find(|row| Some(row.id) == owner) else {
        return false;
    };
    let now = SystemClock.now();
    (racers.store)
        .declare_dead(row.id, row.lease_until, now)
        .unwrap()
}

#[test]
fn t8_attempt_whose_task_was_rescued_records_no_more_steps() {
    on_each_database(|open| {
        let racers = Racers::start(
            open,
            &RunnerConfig {
                heartbeat_interval: Duration::from_millis(300),
                lease_ttl: Duration::from_secs(30),
                max_rescues: 1_000,
                ..config()
            },
        );
        let answers = Arc::new(StepAnswers::default());
        racers
            .runners
            .iter()
            .for_each(|runner| define(runner, &answers));
        let mut rng = fastrand::Rng::with_seed(8);
        let mut lost = 0;
        for group in groups() {
            let requests = (0..GROUP).map(|_| request("steps")).collect();
            let ids = racers.runners[group % 2].submit(requests).unwrap();
            // A runner is declared dead while its attempts record steps.
            answers.until_more(rng.usize(0..GROUP * STEPS as usize));
            lost += usize::from(declare_dead(&racers, &ids));
            for id in ids {
                let ended = wait(&racers.runners[0], id);
                assert_eq!(ended.record().status, ExecutionStatus::Completed);
                check(&racers, &answers, id, true);
            }
        }
        println!(
            "{lost} runners were declared dead, {} steps were refused",
            answers.refused.load(Ordering::SeqCst)
        );
        assert!(lost > 0 && answers.refused.load(Ordering::SeqCst) > 0);
        racers.finish();
    });
}

#[test]
fn t8_attempt_of_a_cancelled_execution_records_no_more_steps() {
    on_each_database(|open| {
        let racers = Racers::start(open, &config());
        let answers = Arc::new(StepAnswers::default());
        racers
            .runners
            .iter()
            .for_each(|runner| define(runner, &answers));
        let mut rng = fastrand::Rng::with_seed(9);
        let mut cancelled = 0;
        for group in groups() {
            let requests = (0..GROUP).map(|_| request("steps")).collect();
            let ids = racers.runners[group % 2].submit(requests).unwrap();
            answers.until_more(rng.usize(0..GROUP * STEPS as usize));
            let mut stored_at_cancel = BTreeMap::new();
            for id in &ids {
                // The cancel fails if the execution has already ended.
                if racers.clients[0].control(*id, &Control::CancelOpen).is_ok() {
                    cancelled += 1;
                    let steps = racers.store.steps(*id, None).unwrap();
                    stored_at_cancel.insert(*id, steps);
                }
            }
            for id in ids {
                let ended = wait(&racers.runners[1 - group % 2], id);
                let is_cancelled = ended.record().status == ExecutionStatus::Cancelled;
                assert_eq!(is_cancelled, stored_at_cancel.contains_key(&id));
                if let Some(steps) = stored_at_cancel.get(&id) {
                    // No step is recorded after the cancel is durable.
                    let until = Instant::now() + Duration::from_micros(200);
                    while Instant::now() < until {
                        assert_eq!(racers.store.steps(id, None).unwrap(), *steps);
                    }
                }
                check(&racers, &answers, id, !is_cancelled);
            }
        }
        println!(
            "{cancelled} executions were cancelled, {} steps were refused",
            answers.refused.load(Ordering::SeqCst)
        );
        assert!(cancelled > 0);
        racers.finish();
    });
}
