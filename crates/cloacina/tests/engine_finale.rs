//! The engine's rules about final tasks and compensations; the name of each test begins with the rule's number in the contract.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use cloacina::engine::{Changes, Execution, FinalState, Finish, NewExecution, Outcome, TaskLimits};
use cloacina::types::{
    Claim, Condition, Context, DefinitionId, Delta, ExecutionId, ExecutionStatus, Failure, Json,
    Note, Park, ParkKind, RetryPolicy, RunnerId, TaskStatus, Timestamp,
};
use cloacina::workflow::{FinalOn, FinalRole, TaskDefinition, Workflow, WorkflowDefinition};

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

/// A chain `a`, `b`, `c` and a final task. `a` and `c` can be undone.
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

fn fail_c(execution: &mut Execution) -> Changes {
    finish(execution, 0, completed("a", "1"));
    finish(execution, 1, completed("b", "2"));
    finish(execution, 2, failed())
}

#[test]
fn q1_end_and_start_of_the_final_tasks_are_one_change() {
    let mut first = submit(&chain());
    let mut changes = fail_c(&mut first);
    assert!(changes.ended);
    assert_eq!(first.record().status, ExecutionStatus::Failed);
    let (last, started) = start(&mut first, &mut changes);
    assert_eq!(last.workflow().name(), "trip~final");
    assert_eq!(last.record().priority, 5);
    assert_eq!(last.record().timeout, None);
    let link = last.record().parent.as_ref().unwrap();
    assert_eq!(link.execution, first.record().id);
    assert_eq!(link.owner(), -1);
    assert_eq!(first.record().finale.as_ref(), Some(link));
    assert_eq!(changes.history.last().unwrap().kind, "final_started");
    // `c` is compensated before `a`, and the clean-up runs last.
    assert_eq!(
        statuses(&last),
        [TaskStatus::Pending, TaskStatus::Ready, TaskStatus::Pending]
    );
    assert_eq!(started.ready, [1]);
}

#[test]
fn q2_input_lacks_missing_results_and_has_the_error() {
    let tasks = vec![task("a", &[]), task("c", &["a"])];
    let reader = TaskDefinition {
        parameters: vec![serde_json::from_str(r#"{"name":"c","from":"task","task":"c"}"#).unwrap()],
        ..finale("clean", FinalOn::Always, &[])
    };
    let workflow = Arc::new(Workflow::new(definition(tasks, vec![reader])).unwrap());
    let mut first = submit(&workflow);
    finish(&mut first, 0, completed("a", "1"));
    let mut changes = finish(&mut first, 1, failed());
    let (last, _) = start(&mut first, &mut changes);
    let input = last.record().input.to_json();
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
fn q2_no_final_task_starts_before_the_running_attempts_have_ended() {
    let mut first = submit(&chain());
    let claim = claim(&mut first, 0);
    let mut changes = first.cancel(NOW).unwrap();
    let (mut last, started) = start(&mut first, &mut changes);
    assert_eq!(started.ready, Vec::<u32>::new());
    let [held] = *last.held_attempts() else {
        panic!("one attempt is held");
    };
    assert_eq!((held.runner, held.attempt), (claim.runner, claim.attempt));
    assert_eq!(
        changes.flow.posts.last().unwrap().note,
        Note::AttemptEnded(held)
    );
    // A resume of the held execution starts nothing either.
    last.pause(NOW).unwrap();
    assert_eq!(last.resume(NOW).unwrap().ready, Vec::<u32>::new());
    let released = last.attempt_ended(held, NOW);
    assert!(released.flow.link);
    assert_eq!(released.ready, [2]);
    assert_eq!(last.attempt_ended(held, NOW), Changes::default());
}

#[test]
fn q2_attempt_that_timed_out_earlier_holds_the_final_tasks() {
    let retried = TaskDefinition {
        retry: RetryPolicy::default(),
        ..task("a", &[])
    };
    let finals = vec![finale("clean", FinalOn::Always, &[])];
    let workflow = Workflow::new(definition(vec![retried], finals)).unwrap();
    let mut first = submit(&Arc::new(workflow));
    let overran = claim(&mut first, 0);
    let timed_out = first.time_out_task(0, overran, SECOND, LIMITS, NOW, 0.5);
    assert!(timed_out.unwrap().flow.waits.contains(&0));
    assert_eq!(first.task(0).status, TaskStatus::Ready);
    let mut changes = first.cancel(NOW).unwrap();
    let (mut last, started) = start(&mut first, &mut changes);
    assert_eq!(started.ready, Vec::<u32>::new());
    let [held] = *last.held_attempts() else {
        panic!("one attempt is held");
    };
    assert_eq!(
        (held.runner, held.attempt),
        (overran.runner, overran.attempt)
    );
    assert_eq!(last.attempt_ended(held, NOW).ready.len(), 1);
}

#[test]
fn q3_completed_tasks_are_undone_in_reverse_order() {
    let mut first = submit(&chain());
    finish(&mut first, 0, completed("a", "1"));
    finish(&mut first, 1, completed("b", "2"));
    let mut changes = finish(&mut first, 2, completed("c", "3"));
    let (last, _) = start(&mut first, &mut changes);
    assert_eq!(
        statuses(&last),
        [TaskStatus::Skipped, TaskStatus::Skipped, TaskStatus::Ready]
    );
    let mut first = submit(&chain());
    finish(&mut first, 0, completed("a", "1"));
    let mut changes = finish(&mut first, 1, failed());
    let (last, _) = start(&mut first, &mut changes);
    // `c` was skipped and has no effects, so its compensation is skipped.
    assert_eq!(
        statuses(&last),
        [TaskStatus::Ready, TaskStatus::Skipped, TaskStatus::Pending]
    );
}

#[test]
fn q3_clean_up_follows_a_failed_compensation() {
    let mut first = submit(&chain());
    let mut changes = fail_c(&mut first);
    let (mut last, _) = start(&mut first, &mut changes);
    finish(&mut last, 1, failed());
    assert_eq!(
        statuses(&last),
        [TaskStatus::Skipped, TaskStatus::Failed, TaskStatus::Ready]
    );
    finish(&mut last, 2, completed("clean", "1"));
    assert_eq!(last.record().status, ExecutionStatus::Failed);
}

#[test]
fn q5_retry_waits_for_the_final_tasks_and_runs_undone_tasks_again() {
    let mut first = submit(&chain());
    let mut changes = fail_c(&mut first);
    assert!(first.retry(None, NOW).is_err());
    let (mut last, _) = start(&mut first, &mut changes);
    assert!(first.retry(None, NOW).is_err());
    let workflow = chain();
    first.learn_final_state(FinalState::of(&last, &workflow));
    let refused = first.retry(None, NOW).unwrap_err();
    assert!(
        refused.message.contains("final tasks are open"),
        "{refused:?}"
    );
    assert_eq!(
        last.forward_key(0),
        first
            .forward_key(0)
            .map(|key| key.trim_end_matches("/2").to_owned())
    );
    for ordinal in [1, 0, 2] {
        finish(&mut last, ordinal, completed("x", "1"));
    }
    assert_eq!(last.record().status, ExecutionStatus::Completed);
    first.learn_final_state(FinalState::of(&last, &workflow));
    first.retry(None, NOW).unwrap();
    // `a` was compensated, `b` undone by the clean-up, and `c` had failed.
    assert_eq!(
        statuses(&first),
        [TaskStatus::Ready, TaskStatus::Pending, TaskStatus::Pending]
    );
    let id = first.record().id;
    assert_eq!(first.forward_key(0), Some(format!("{id}/a/2")));
    assert_eq!(last.forward_key(0), Some(format!("{id}/a")));
    // The next end starts the next execution of the final tasks.
    let mut changes = fail_c(&mut first);
    let (last, _) = start(&mut first, &mut changes);
    assert_eq!(last.record().parent.as_ref().unwrap().generation, 2);
    assert_eq!(last.forward_key(0), Some(format!("{id}/a/2")));
}

#[test]
fn q3_key_changes_only_with_a_completed_compensation() {
    let mut first = submit(&chain());
    let id = first.record().id;
    let mut changes = fail_c(&mut first);
    let (mut last, _) = start(&mut first, &mut changes);
    // The partial effects of `c` are not undone, so `a` is not undone either.
    finish(&mut last, 1, failed());
    finish(&mut last, 2, completed("x", "1"));
    first.learn_final_state(FinalState::of(&last, &chain()));
    first.retry(None, NOW).unwrap();
    assert_eq!(first.forward_key(0), Some(format!("{id}/a")));
    assert_eq!(first.forward_key(2), Some(format!("{id}/c")));
    finish(&mut first, 1, completed("b", "2"));
    let mut changes = finish(&mut first, 2, failed());
    let (mut last, _) = start(&mut first, &mut changes);
    assert_eq!(last.forward_key(1), Some(format!("{id}/c")));
    for ordinal in [1, 0, 2] {
        finish(&mut last, ordinal, completed("x", "1"));
    }
    first.learn_final_state(FinalState::of(&last, &chain()));
    first.retry(None, NOW).unwrap();
    assert_eq!(first.forward_key(0), Some(format!("{id}/a/2")));
    let stored = Execution::restore(chain(), first.record().clone()).unwrap();
    assert_eq!(stored.forward_key(2), Some(format!("{id}/c/2")));
}

#[test]
fn q3_cancelled_function_that_parked_or_snoozed_has_partial_effects() {
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
        let mut first = submit(&workflow);
        finish(&mut first, 0, outcome);
        let mut changes = first.cancel(NOW).unwrap();
        let (last, _) = start(&mut first, &mut changes);
        assert_eq!(statuses(&last), [TaskStatus::Ready, TaskStatus::Skipped]);
    }
}

#[test]
fn q1_names_of_derived_workflows_cannot_be_taken() {
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
fn q1_version_changes_with_final_tasks_and_with_their_roles() {
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
