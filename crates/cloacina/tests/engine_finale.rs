//! Tests of the engine's rules about final tasks and compensations. Each test name begins with the number of the tested rule in
//! the semantics. `forward` is an execution, and `final_run` is the execution of its final tasks and compensations.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use cloacina::engine::{Changes, Execution, FinalState, Finish, NewExecution, Outcome, TaskLimits};
use cloacina::types::{
    Claim, Condition, Context, DefinitionId, Delta, ExecutionId, ExecutionStatus, Failure, Json,
    Note, Park, ParkKind, RetryPolicy, RunnerId, SignalRecord, TaskStatus, Timestamp, Topic,
};
use cloacina::workflow::{
    FinalOn, FinalRole, TaskDefinition, TaskKind, Workflow, WorkflowDefinition,
};

/// One second, in microseconds.
const SECOND: i64 = 1_000_000;
const NOW: Timestamp = Timestamp(100 * SECOND);
const LIMITS: TaskLimits = TaskLimits {
    max_context_bytes: 1 << 20,
    max_rescues: 3,
};

fn task(id: &str, dependencies: &[&str]) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        dependencies: dependencies.iter().map(|id| (*id).into()).collect(),
        result: Some(id.into()),
        retry: RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    }
}

fn finale(id: &str, on: FinalOn, undoes: &[&str]) -> TaskDefinition {
    TaskDefinition {
        role: Some(FinalRole::Final {
            on,
            undoes: undoes.iter().map(|id| (*id).into()).collect(),
        }),
        ..task(id, &[])
    }
}

fn compensation(id: &str, failed: bool) -> TaskDefinition {
    TaskDefinition {
        role: Some(FinalRole::Compensation { failed }),
        result: Some(format!("{id}~undone")),
        ..task(id, &[])
    }
}

fn definition(tasks: Vec<TaskDefinition>, finals: Vec<TaskDefinition>) -> WorkflowDefinition {
    WorkflowDefinition {
        name: "trip".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        finals,
        ..WorkflowDefinition::default()
    }
}

/// Returns a workflow with the chain `a`, `b`, `c`, compensations of `a` and `c`, and the final task `clean`, which undoes `b`.
fn chain() -> Arc<Workflow> {
    let tasks = vec![task("a", &[]), task("b", &["a"]), task("c", &["b"])];
    let finals = vec![
        compensation("a", false),
        compensation("c", true),
        finale("clean", FinalOn::Always, &["b"]),
    ];
    Arc::new(Workflow::new(definition(tasks, finals)).unwrap())
}

fn submit(workflow: &Arc<Workflow>) -> Execution {
    let new = NewExecution {
        id: ExecutionId::generate(),
        definition: DefinitionId(1),
        input: Arc::new(Context::from_json(r#"{"order":1,"c":"input"}"#).unwrap()),
        key: None,
        priority: 5,
        start_at: None,
        timeout: None,
    };
    Execution::submit(Arc::clone(workflow), new, NOW).0
}

fn claim(execution: &mut Execution, ordinal: u32) -> Claim {
    let mut changes = Changes::default();
    let runner = RunnerId::generate();
    execution.claim(ordinal, runner, NOW, &mut changes).unwrap()
}

/// Claims a task and ends its attempt with an outcome.
fn finish(execution: &mut Execution, ordinal: u32, outcome: Outcome) -> Changes {
    let claim = claim(execution, ordinal);
    let finish = Finish {
        task: ordinal,
        claim,
        started_at: Some(NOW),
        outcome,
    };
    execution.finish(finish, LIMITS, NOW, 0.5).unwrap()
}

fn completed(key: &str, value: &str) -> Outcome {
    let mut delta = Delta::default();
    delta.set.insert(key.into(), Json::parse(value).unwrap());
    Outcome::Completed(Arc::new(delta))
}

fn failed() -> Outcome {
    Outcome::Failed(Failure {
        kind: "ValueError".into(),
        message: "no".into(),
        traceback: Some("line 1".into()),
        retryable: true,
        lineage: Vec::new(),
    })
}

/// Starts the final tasks of an execution that has ended.
fn start(execution: &mut Execution, changes: &mut Changes) -> (Execution, Changes) {
    let due = changes.flow.finale.take().unwrap();
    let id = ExecutionId::generate();
    let start = execution
        .start_finale(due, id, DefinitionId(2), NOW, changes)
        .unwrap();
    let finals = Arc::clone(execution.workflow().finals().unwrap());
    Execution::submit_finale(finals, start, NOW)
}

fn statuses(execution: &Execution) -> Vec<TaskStatus> {
    execution
        .record()
        .tasks
        .iter()
        .map(|task| task.status)
        .collect()
}

/// Completes the tasks `a` and `b`, and fails the task `c`.
fn fail_c(execution: &mut Execution) -> Changes {
    finish(execution, 0, completed("a", "1"));
    finish(execution, 1, completed("b", "2"));
    finish(execution, 2, failed())
}

#[test]
fn q1_execution_ends_and_final_tasks_start_in_one_change() {
    let mut forward = submit(&chain());
    let mut changes = fail_c(&mut forward);
    assert!(changes.ended);
    assert_eq!(forward.record().status, ExecutionStatus::Failed);
    let (final_run, started) = start(&mut forward, &mut changes);
    assert_eq!(final_run.workflow().name(), "trip~final");
    assert_eq!(final_run.record().priority, 5);
    assert_eq!(final_run.record().timeout, None);
    let link = final_run.record().parent.as_ref().unwrap();
    assert_eq!(link.execution, forward.record().id);
    assert_eq!(link.owner(), -1);
    assert_eq!(forward.record().finale.as_ref(), Some(link));
    assert_eq!(changes.history.last().unwrap().kind, "final_started");
    // `c` is compensated before `a`, and `clean` runs last.
    assert_eq!(
        statuses(&final_run),
        [TaskStatus::Pending, TaskStatus::Ready, TaskStatus::Pending]
    );
    assert_eq!(started.ready, [1]);
}

#[test]
fn q2_input_of_final_tasks_has_existing_results_and_the_error() {
    let tasks = vec![task("a", &[]), task("c", &["a"])];
    let reader = TaskDefinition {
        parameters: vec![serde_json::from_str(r#"{"name":"c","from":"task","task":"c"}"#).unwrap()],
        ..finale("clean", FinalOn::Always, &[])
    };
    let workflow = Arc::new(Workflow::new(definition(tasks, vec![reader])).unwrap());
    let mut forward = submit(&workflow);
    finish(&mut forward, 0, completed("a", "1"));
    let mut changes = finish(&mut forward, 1, failed());
    let (final_run, _) = start(&mut forward, &mut changes);
    let input = final_run.record().input.to_json();
    let input: serde_json::Value = serde_json::from_str(&input).unwrap();
    assert_eq!(
        input,
        serde_json::json!({
            "order": 1, "a": 1,
            "error": {"type": "ValueError", "message": "no", "task": "c", "traceback": "line 1"},
        })
    );
}

#[test]
fn q2_final_tasks_start_after_running_attempts_have_ended() {
    let mut forward = submit(&chain());
    let claim = claim(&mut forward, 0);
    let mut changes = forward.cancel(NOW).unwrap();
    let (mut final_run, started) = start(&mut forward, &mut changes);
    assert_eq!(started.ready, Vec::<u32>::new());
    let [held] = *final_run.held_attempts() else {
        panic!("expected one held attempt");
    };
    assert_eq!((held.runner, held.attempt), (claim.runner, claim.attempt));
    assert_eq!(
        changes.flow.posts.last().unwrap().note,
        Note::AttemptEnded(held)
    );
    // A resume does not start the final tasks either, because they still wait for the attempt.
    final_run.pause(NOW).unwrap();
    assert_eq!(final_run.resume(NOW).unwrap().ready, Vec::<u32>::new());
    let released = final_run.attempt_ended(held, NOW);
    assert!(released.flow.link);
    assert_eq!(released.ready, [2]);
    assert_eq!(final_run.attempt_ended(held, NOW), Changes::default());
}

#[test]
fn q2_final_tasks_wait_for_an_attempt_that_timed_out() {
    let retried = TaskDefinition {
        retry: RetryPolicy::default(),
        ..task("a", &[])
    };
    let finals = vec![finale("clean", FinalOn::Always, &[])];
    let workflow = Workflow::new(definition(vec![retried], finals)).unwrap();
    let mut forward = submit(&Arc::new(workflow));
    let overran = claim(&mut forward, 0);
    let timed_out = forward.time_out_task(0, overran, SECOND, LIMITS, NOW, 0.5);
    assert!(timed_out.unwrap().flow.waits.contains(&0));
    assert_eq!(forward.task(0).status, TaskStatus::Ready);
    let mut changes = forward.cancel(NOW).unwrap();
    let (mut final_run, started) = start(&mut forward, &mut changes);
    assert_eq!(started.ready, Vec::<u32>::new());
    let [held] = *final_run.held_attempts() else {
        panic!("expected one held attempt");
    };
    assert_eq!(
        (held.runner, held.attempt),
        (overran.runner, overran.attempt)
    );
    assert_eq!(final_run.attempt_ended(held, NOW).ready.len(), 1);
}

#[test]
fn q3_completed_execution_and_skipped_tasks_are_not_undone() {
    let mut forward = submit(&chain());
    finish(&mut forward, 0, completed("a", "1"));
    finish(&mut forward, 1, completed("b", "2"));
    let mut changes = finish(&mut forward, 2, completed("c", "3"));
    let (final_run, _) = start(&mut forward, &mut changes);
    assert_eq!(
        statuses(&final_run),
        [TaskStatus::Skipped, TaskStatus::Skipped, TaskStatus::Ready]
    );
    let mut forward = submit(&chain());
    finish(&mut forward, 0, completed("a", "1"));
    let mut changes = finish(&mut forward, 1, failed());
    let (final_run, _) = start(&mut forward, &mut changes);
    // `c` was skipped, so its compensation is skipped too.
    assert_eq!(
        statuses(&final_run),
        [TaskStatus::Ready, TaskStatus::Skipped, TaskStatus::Pending]
    );
}

#[test]
fn q3_final_task_runs_after_a_failed_compensation() {
    let mut forward = submit(&chain());
    let mut changes = fail_c(&mut forward);
    let (mut final_run, _) = start(&mut forward, &mut changes);
    finish(&mut final_run, 1, failed());
    assert_eq!(
        statuses(&final_run),
        [TaskStatus::Skipped, TaskStatus::Failed, TaskStatus::Ready]
    );
    finish(&mut final_run, 2, completed("clean", "1"));
    assert_eq!(final_run.record().status, ExecutionStatus::Failed);
}

#[test]
fn q5_retry_is_refused_until_final_tasks_end_and_reruns_undone_tasks() {
    let mut forward = submit(&chain());
    let mut changes = fail_c(&mut forward);
    assert!(forward.retry(None, NOW).is_err());
    let (mut final_run, _) = start(&mut forward, &mut changes);
    assert!(forward.retry(None, NOW).is_err());
    let workflow = chain();
    forward.learn_final_state(FinalState::of(&final_run, &workflow));
    let refused = forward.retry(None, NOW).unwrap_err();
    assert!(
        refused.message.contains("final tasks are open"),
        "{refused:?}"
    );
    assert_eq!(
        final_run.forward_key(0, None),
        forward
            .forward_key(0, None)
            .map(|key| key.trim_end_matches("/2").to_owned())
    );
    for ordinal in [1, 0, 2] {
        finish(&mut final_run, ordinal, completed("x", "1"));
    }
    assert_eq!(final_run.record().status, ExecutionStatus::Completed);
    forward.learn_final_state(FinalState::of(&final_run, &workflow));
    forward.retry(None, NOW).unwrap();
    // All tasks run again: `a` was compensated, `clean` undid `b`, and `c` failed.
    assert_eq!(
        statuses(&forward),
        [TaskStatus::Ready, TaskStatus::Pending, TaskStatus::Pending]
    );
    let id = forward.record().id;
    assert_eq!(forward.forward_key(0, None), Some(format!("{id}/a/2")));
    assert_eq!(
        forward.forward_key(0, Some(3)),
        Some(format!("{id}/a[3]/2"))
    );
    assert_eq!(final_run.forward_key(0, None), Some(format!("{id}/a")));
    // When the execution fails again, its final tasks run again.
    let mut changes = fail_c(&mut forward);
    let (final_run, _) = start(&mut forward, &mut changes);
    assert_eq!(final_run.record().parent.as_ref().unwrap().generation, 2);
    assert_eq!(final_run.forward_key(0, None), Some(format!("{id}/a/2")));
}

#[test]
fn q5_retry_reruns_dependents_of_undone_tasks_but_keeps_ended_waits() {
    let mut paid = task("paid", &["b"]);
    paid.kind = TaskKind::Engine;
    paid.wait_for = Some(Condition::signal("paid", None));
    let tasks = vec![
        task("a", &[]),
        task("b", &["a"]),
        paid,
        task("c", &["paid"]),
    ];
    let finals = vec![compensation("a", false)];
    let workflow = Arc::new(Workflow::new(definition(tasks, finals)).unwrap());
    let mut forward = submit(&workflow);
    finish(&mut forward, 0, completed("a", "1"));
    finish(&mut forward, 1, completed("b", "2"));
    let signal = SignalRecord {
        seq: 1,
        topic: Topic::keyed("paid", None),
        data: Json::parse("7").unwrap(),
        sent_at: NOW,
        sender: None,
    };
    forward.look(2, &[signal], NOW);
    let mut changes = finish(&mut forward, 3, failed());
    let (mut final_run, _) = start(&mut forward, &mut changes);
    finish(&mut final_run, 0, completed("x", "1"));
    forward.learn_final_state(FinalState::of(&final_run, &workflow));
    let changes = forward.retry(None, NOW).unwrap();
    let expected = [
        TaskStatus::Ready,
        TaskStatus::Pending,
        TaskStatus::Pending,
        TaskStatus::Pending,
    ];
    assert_eq!(statuses(&forward), expected);
    // The failed task keeps its steps (T6). The undone task and its dependent lose their steps.
    let dropped = changes.flow.steps.dropped.iter();
    let dropped: Vec<u32> = dropped.map(|drop| drop.task).collect();
    assert_eq!(dropped, [0, 1]);
    finish(&mut forward, 0, completed("a", "3"));
    finish(&mut forward, 1, completed("b", "4"));
    assert_eq!(
        statuses(&forward)[2],
        TaskStatus::Completed,
        "the wait completes again without a second signal"
    );
    finish(&mut forward, 3, completed("c", "5"));
    assert_eq!(forward.record().status, ExecutionStatus::Completed);
    let context = forward.final_context();
    assert_eq!(context.get("paid").unwrap().as_str(), "7");
}

#[test]
fn q3_forward_key_changes_only_after_a_completed_compensation() {
    let mut forward = submit(&chain());
    let id = forward.record().id;
    let mut changes = fail_c(&mut forward);
    let (mut final_run, _) = start(&mut forward, &mut changes);
    // The compensation of `c` fails, so `a` is not compensated.
    finish(&mut final_run, 1, failed());
    finish(&mut final_run, 2, completed("x", "1"));
    forward.learn_final_state(FinalState::of(&final_run, &chain()));
    forward.retry(None, NOW).unwrap();
    assert_eq!(forward.forward_key(0, None), Some(format!("{id}/a")));
    assert_eq!(forward.forward_key(2, None), Some(format!("{id}/c")));
    finish(&mut forward, 1, completed("b", "2"));
    let mut changes = finish(&mut forward, 2, failed());
    let (mut final_run, _) = start(&mut forward, &mut changes);
    assert_eq!(final_run.forward_key(1, None), Some(format!("{id}/c")));
    for ordinal in [1, 0, 2] {
        finish(&mut final_run, ordinal, completed("x", "1"));
    }
    forward.learn_final_state(FinalState::of(&final_run, &chain()));
    forward.retry(None, NOW).unwrap();
    assert_eq!(forward.forward_key(0, None), Some(format!("{id}/a/2")));
    let stored = Execution::restore(chain(), forward.record().clone()).unwrap();
    assert_eq!(stored.forward_key(2, None), Some(format!("{id}/c/2")));
}

#[test]
fn q3_parked_or_snoozed_task_is_compensated_after_a_cancel() {
    let park = || {
        Outcome::Park(Box::new(Park {
            kind: ParkKind::Sleep,
            key: "nap".into(),
            position: 1,
            condition: Condition::Delay { duration: SECOND },
            timeout: None,
            runs: None,
        }))
    };
    let snooze = || Outcome::Snooze { after: SECOND };
    for outcome in [park(), snooze()] {
        let tasks = vec![task("c", &[]), task("d", &["c"])];
        let finals = vec![compensation("c", true), compensation("d", true)];
        let workflow = Arc::new(Workflow::new(definition(tasks, finals)).unwrap());
        let mut forward = submit(&workflow);
        finish(&mut forward, 0, outcome);
        let mut changes = forward.cancel(NOW).unwrap();
        let (final_run, _) = start(&mut forward, &mut changes);
        assert_eq!(
            statuses(&final_run),
            [TaskStatus::Ready, TaskStatus::Skipped]
        );
    }
}

#[test]
fn q1_reserved_name_and_undoing_an_unknown_task_are_refused() {
    let mut taken = definition(vec![task("a", &[])], Vec::new());
    taken.name = "trip~final".into();
    assert!(Workflow::new(taken).is_err());
    let unknown = definition(vec![task("a", &[])], vec![compensation("b", false)]);
    assert!(Workflow::new(unknown).is_err());
    let undoes = definition(
        vec![task("a", &[])],
        vec![finale("clean", FinalOn::Always, &["b"])],
    );
    assert!(Workflow::new(undoes).is_err());
}

#[test]
fn q1_version_changes_with_final_tasks_and_the_statuses_they_follow() {
    let version = |finals| {
        let definition = definition(vec![task("a", &[])], finals);
        Workflow::new(definition).unwrap().version().to_owned()
    };
    let plain = version(Vec::new());
    let always = version(vec![finale("clean", FinalOn::Always, &[])]);
    let failure = version(vec![finale("clean", FinalOn::Failure, &[])]);
    assert_ne!(plain, always);
    assert_ne!(always, failure);
}
