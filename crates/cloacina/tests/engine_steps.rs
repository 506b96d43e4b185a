//! Tests of the engine's rules about recorded steps. Each test name begins with the number of the tested rule in the semantics.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use cloacina::engine::{
    Changes, Execution, Finish, MAX_STEPS, NewExecution, Outcome, StepTotals, TaskLimits, first_of,
    history_of, step_key,
};
use cloacina::types::{
    Claim, Condition, Context, DefinitionId, Delta, ExecutionId, Failure, Json, Ordinal, Park,
    ParkKind, RetryPolicy, RunnerId, StepDrop, StepKind, StepRecord, Timestamp,
};
use cloacina::workflow::{TaskDefinition, Workflow, WorkflowDefinition};
use rustc_hash::FxHashMap;

/// One second, in microseconds.
const SECOND: i64 = 1_000_000;
const NOW: Timestamp = Timestamp(SECOND);
const LIMITS: TaskLimits = TaskLimits {
    max_context_bytes: 1000,
    max_rescues: 3,
};

fn task(id: &str, dependencies: &[&str]) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        retry: RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    }
}

fn submit(tasks: Vec<TaskDefinition>) -> Execution {
    let new = NewExecution {
        id: ExecutionId::generate(),
        definition: DefinitionId(1),
        input: Arc::new(Context::new()),
        key: None,
        priority: 0,
        start_at: None,
        timeout: None,
    };
    let workflow = Workflow::new(WorkflowDefinition {
        name: "w".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    });
    Execution::submit(Arc::new(workflow.unwrap()), new, NOW).0
}

fn step(key: &str, position: u32) -> StepRecord {
    StepRecord {
        key: key.into(),
        position,
        kind: StepKind::Step,
        attempt: 1,
        started_at: NOW,
        ended_at: NOW + 5,
        value: Json::parse(r#"{"rows":[1]}"#).unwrap(),
    }
}

fn claim(execution: &mut Execution, ordinal: Ordinal, runner: RunnerId) -> Claim {
    let mut changes = Changes::default();
    let claim = execution.claim(ordinal, runner, NOW, &mut changes).unwrap();
    execution.note_written(changes.tasks);
    claim
}

fn finish(execution: &mut Execution, task: Ordinal, claim: Claim, outcome: Outcome) {
    let finish = Finish {
        task,
        claim,
        started_at: None,
        outcome,
    };
    execution.finish(finish, LIMITS, NOW, 0.5).unwrap();
}

fn done() -> Outcome {
    Outcome::Completed(Arc::new(Delta::default()))
}

fn failed() -> Outcome {
    Outcome::Failed(Failure {
        kind: "ValueError".into(),
        message: "boom".into(),
        traceback: None,
        retryable: true,
        lineage: Vec::new(),
    })
}

#[test]
fn l6_sleep_that_begins_in_a_pause_counts_from_the_resume() {
    let mut execution = submit(vec![task("a", &[])]);
    let claim = claim(&mut execution, 0, RunnerId::generate());
    execution.pause(NOW).unwrap();
    let sleep = Park {
        kind: ParkKind::Sleep,
        key: "nap".into(),
        position: 0,
        condition: Condition::Delay {
            duration: 10 * SECOND,
        },
        timeout: None,
        runs: None,
    };
    let finish = Finish {
        task: 0,
        claim,
        started_at: None,
        outcome: Outcome::Park(Box::new(sleep)),
    };
    let (begun, resumed) = (NOW + 10 * SECOND, NOW + 100 * SECOND);
    execution.finish(finish, LIMITS, begun, 0.5).unwrap();
    execution.resume(resumed).unwrap();
    execution.look(0, &[], resumed);
    assert_eq!(execution.task(0).ready_at, Some(resumed + 10 * SECOND));
}

#[test]
fn t1_repeated_key_is_numbered_in_the_order_of_calls() {
    let mut used = FxHashMap::default();
    let mut keys = |key: &str| step_key(key, &mut used);
    assert_eq!(keys("a"), "a");
    assert_eq!(keys("a"), "a#2");
    assert_eq!(keys("b"), "b");
    assert_eq!(keys("a"), "a#3");
    assert_eq!(keys(""), "");
    assert_eq!(keys(""), "#2");
}

#[test]
fn t1_numbered_key_differs_from_keys_that_the_function_uses() {
    let mut used = FxHashMap::default();
    let mut keys = |key: &str| step_key(key, &mut used);
    assert_eq!(keys("a#2"), "a#2");
    assert_eq!(keys("a"), "a");
    assert_eq!(keys("a"), "a#3");
    assert_eq!(keys("a#3"), "a#3#2");
}

#[test]
fn t8_step_is_recorded_only_under_the_current_claim() {
    let mut execution = submit(vec![task("a", &[])]);
    let (mine, other) = (RunnerId::generate(), RunnerId::generate());
    let held = claim(&mut execution, 0, mine);
    let changes = execution.record_step(0, held, step("plan", 0)).unwrap();
    assert_eq!(changes.flow.steps.recorded, [(0, step("plan", 0))]);
    assert!(
        changes.tasks.is_empty() && changes.history.is_empty(),
        "a step writes only its own row"
    );
    let stale = [
        Claim { attempt: 2, ..held },
        Claim {
            runner: other,
            ..held
        },
    ];
    for stale in stale {
        assert!(execution.record_step(0, stale, step("next", 1)).is_err());
    }
    execution.rescue(mine, LIMITS, NOW);
    assert!(execution.record_step(0, held, step("next", 1)).is_err());
    let again = claim(&mut execution, 0, other);
    assert!(execution.record_step(0, held, step("next", 1)).is_err());
    assert!(execution.record_step(0, again, step("next", 1)).is_ok());
    assert!(execution.record_step(7, again, step("next", 1)).is_err());
}

#[test]
fn e2_recorded_step_resets_the_count_of_lost_runners() {
    let mut execution = submit(vec![task("a", &[])]);
    for position in 0..10 {
        let runner = RunnerId::generate();
        let held = claim(&mut execution, 0, runner);
        let changes = execution.record_step(0, held, step("x", position)).unwrap();
        assert_eq!(changes.tasks.contains(&0), position > 0);
        execution.rescue(runner, LIMITS, NOW);
        assert_eq!(execution.task(0).rescues, 1);
    }
    for lost in 2..=LIMITS.max_rescues {
        let runner = RunnerId::generate();
        let held = claim(&mut execution, 0, runner);
        if execution.is_suspect(0, LIMITS) {
            execution.probe(0, held);
        }
        execution.rescue(runner, LIMITS, NOW);
        assert_eq!(execution.task(0).rescues, lost);
    }
}

#[test]
fn t9_number_and_bytes_of_a_tasks_steps_are_limited() {
    let mut totals = StepTotals::default();
    for _ in 0..MAX_STEPS {
        totals = totals.add("a", 1, 1_000_000).unwrap();
    }
    let refused = totals.add("a", 1, 1_000_000).unwrap_err().0;
    assert_eq!(refused.kind, "ContextError");
    assert!(!refused.retryable);
    assert!(
        refused
            .message
            .contains("task 'a' recorded more than 10000 steps")
    );
    let refused = StepTotals::default().add("a", 11, 10).unwrap_err().0;
    assert!(
        refused
            .message
            .contains("11 bytes, more than max_context_bytes 10")
    );
    assert!(StepTotals::default().add("a", 10, 10).is_ok());
}

#[test]
fn t6_retry_keeps_steps_unless_it_starts_from_a_task_or_step() {
    let tasks = || vec![task("a", &[]), task("b", &["a"]), task("c", &["b"])];
    let runner = RunnerId::generate();
    let ended = || {
        let mut execution = submit(tasks());
        for ordinal in 0..2 {
            let held = claim(&mut execution, ordinal, runner);
            let outcome = if ordinal == 0 { done() } else { failed() };
            finish(&mut execution, ordinal, held, outcome);
        }
        execution.note_written(0..3);
        execution
    };
    let kept = ended().retry(None, NOW).unwrap();
    assert_eq!(kept.flow.steps.dropped, []);
    let mut dropped = ended()
        .retry(Some(1), NOW)
        .unwrap()
        .flow
        .steps
        .dropped
        .clone();
    dropped.sort_unstable_by_key(|drop| drop.task);
    assert_eq!(dropped, [StepDrop::from(1, 0), StepDrop::from(2, 0)]);
    let from = StepDrop::from(1, 4);
    let mut dropped = ended()
        .retry_from_step(from, NOW)
        .unwrap()
        .flow
        .steps
        .dropped
        .clone();
    dropped.sort_unstable_by_key(|drop| drop.task);
    assert_eq!(dropped, [from, StepDrop::from(2, 0)]);
}

#[test]
fn t6_step_key_of_two_tasks_needs_a_named_task() {
    let steps = [
        (0, step("plan", 0)),
        (0, step("work", 1)),
        (1, step("work", 0)),
    ];
    assert_eq!(
        first_of(&steps, None, "plan").unwrap(),
        StepDrop::from(0, 0)
    );
    assert_eq!(
        first_of(&steps, Some(0), "work").unwrap(),
        StepDrop::from(0, 1)
    );
    let error = first_of(&steps, None, "work").unwrap_err();
    assert!(error.contains("name the task"), "{error}");
    let error = first_of(&steps, Some(1), "plan").unwrap_err();
    assert_eq!(error, "has no recorded step 'plan'");
}

#[test]
fn t7_history_has_key_duration_and_value_of_each_step() {
    let mut execution = submit(vec![task("a", &[])]);
    let held = claim(&mut execution, 0, RunnerId::generate());
    execution.note_started(0, held, NOW);
    let large = StepRecord {
        value: Json::encode(&"x".repeat(70_000)).unwrap(),
        ..step("large", 1)
    };
    let events = history_of(
        &execution,
        &cloacina::types::Labels::NONE,
        Vec::new(),
        &[(0, step("plan", 0)), (0, large)],
    );
    let data: Vec<&str> = events
        .iter()
        .filter(|event| event.kind == "step_recorded")
        .map(|event| event.data.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(
        data,
        [
            r#"{"duration_us":5,"key":"plan","kind":"step","value":{"rows":[1]}}"#,
            r#"{"duration_us":5,"key":"large","kind":"step","value_bytes":70002}"#
        ]
    );
}
