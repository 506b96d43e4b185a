//! Tests of the engine's rules about children that a task's function runs. Each test name begins with the number of the
//! tested rule in the semantics.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use cloacina::engine::{
    Changes, ChildFound, ChildStart, Execution, Finish, NEVER, NewExecution, Outcome, TaskLimits,
    item_key,
};
use cloacina::types::{
    ChildEnd, Claim, Condition, Context, DefinitionId, ExecutionId, ExecutionStatus, Failure,
    FailureKind, Json, Note, Park, ParkKind, RunInput, RunnerId, Runs, StepDrop, StepKind,
    TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

/// One second, in microseconds.
const SECOND: i64 = 1_000_000;
const NOW: Timestamp = Timestamp(100 * SECOND);
const LIMITS: TaskLimits = TaskLimits {
    max_context_bytes: 1 << 20,
    max_rescues: 3,
};

fn workflow(name: &str) -> Arc<Workflow> {
    let task = TaskDefinition {
        id: "a".into(),
        ..TaskDefinition::default()
    };
    let definition = WorkflowDefinition {
        name: name.into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![task],
        ..WorkflowDefinition::default()
    };
    Arc::new(Workflow::new(definition).unwrap())
}

/// An execution of one task. The task's function runs children.
struct Run(Execution);

impl Run {
    fn new() -> Self {
        let new = NewExecution {
            id: ExecutionId::generate(),
            definition: DefinitionId(1),
            input: Arc::new(Context::new()),
            key: None,
            priority: 5,
            start_at: None,
            timeout: None,
        };
        Self(Execution::submit(workflow("outer"), new, NOW).0)
    }

    fn finish(&mut self, outcome: Outcome) -> Changes {
        let mut changes = Changes::default();
        let claim: Claim = (self.0)
            .claim(0, RunnerId::generate(), NOW, &mut changes)
            .unwrap();
        self.0.note_written(changes.tasks);
        let finish = Finish {
            task: 0,
            claim,
            started_at: None,
            outcome,
        };
        self.0.finish(finish, LIMITS, NOW, 0.5).unwrap()
    }

    /// Ends an attempt whose function waits for children. The function has called `run_many` with `count` children, or
    /// `run` if `count` is `None`.
    fn park(&mut self, count: Option<u32>, parallel: Option<u32>) -> Changes {
        let inputs = (0..count.unwrap_or(1)).collect();
        self.park_for(inputs, count, parallel)
    }

    fn park_for(&mut self, inputs: Vec<u32>, count: Option<u32>, parallel: Option<u32>) -> Changes {
        let inputs = inputs.into_iter().map(|index| RunInput {
            index,
            input: Json::parse(&format!(r#"{{"n":{index}}}"#)).unwrap(),
        });
        let runs = Runs {
            workflow: "inner".into(),
            inputs: inputs.collect(),
            count,
            parallel,
            ..Runs::default()
        };
        self.finish(Outcome::Park(Box::new(Park {
            kind: ParkKind::Run,
            key: "pages".into(),
            position: 4,
            condition: Condition::AllOf {
                conditions: Vec::new(),
            },
            timeout: None,
            runs: Some(Box::new(runs)),
        })))
    }

    /// Starts the children that the function waits for, as a runner does.
    fn start(&mut self) -> Vec<ChildStart> {
        let found = ChildFound {
            definition: DefinitionId(2),
            workflow: workflow("inner"),
            default_timeout: None,
        };
        let mut changes = Changes::default();
        (self.0).start_runs(0, &found, ExecutionId::generate, NOW, &mut changes)
    }

    fn end(&mut self, child: ExecutionId, status: ExecutionStatus) -> Changes {
        self.end_with(child, None, status)
    }

    fn end_with(
        &mut self,
        child: ExecutionId,
        number: Option<u32>,
        status: ExecutionStatus,
    ) -> Changes {
        let is_done = status == ExecutionStatus::Completed;
        let is_failed = status == ExecutionStatus::Failed;
        let end = ChildEnd {
            child,
            item: None,
            number,
            task: 0,
            status,
            output: is_done.then(|| Json::parse("7").unwrap()),
            error: is_failed.then(|| Failure::engine(FailureKind::Rule, "broken")),
        };
        self.0.child_ended(end, NOW, 0.5)
    }
}

#[test]
fn t5_child_of_a_function_starts_when_the_function_parks() {
    let mut run = Run::new();
    let changes = run.park(None, None);
    assert!(changes.flow.starts.contains(&0));
    assert_eq!(run.0.wanted_workflow(0), Some("inner"));
    let [start] = run.start().try_into().unwrap();
    assert_eq!(start.new.input.to_json(), r#"{"n":0}"#);
    assert_eq!((start.new.priority, start.parent.depth), (5, 1));
    assert_eq!(
        (start.parent.key.as_deref(), start.parent.item),
        (Some("pages"), None)
    );
    assert_eq!(run.0.task(0).ready_at, Some(NEVER));
    assert_eq!(run.0.task(0).attempt, 0);
    assert!(run.start().is_empty(), "the child is started once");
    let changes = run.end(start.new.id, ExecutionStatus::Completed);
    let (_, step) = &changes.flow.steps.recorded[0];
    assert_eq!(
        (step.key.as_str(), step.position, step.kind),
        ("pages", 4, StepKind::Run)
    );
    assert_eq!(step.value.as_str(), r#"{"value":7}"#);
    assert_eq!(changes.ready, [0]);
    assert_eq!(
        run.end(start.new.id, ExecutionStatus::Completed),
        Changes::default()
    );
}

#[test]
fn t5_run_many_limits_parallel_children_and_waits_for_all() {
    let mut run = Run::new();
    run.park(Some(3), Some(2));
    let first = run.start();
    assert_eq!(first.len(), 2);
    assert_eq!(run.0.wanted_workflow(0), None);
    let changes = run.end(first[1].new.id, ExecutionStatus::Completed);
    assert!(changes.flow.starts.contains(&0) && changes.ready.is_empty());
    assert_eq!(changes.flow.steps.recorded[0].1.key, item_key("pages", 1));
    assert_eq!(changes.flow.steps.recorded[0].1.position, 6);
    let [last] = run.start().try_into().unwrap();
    assert_eq!(last.parent.item, Some(2));
    run.end(last.new.id, ExecutionStatus::Completed);
    let changes = run.end(first[0].new.id, ExecutionStatus::Completed);
    let (_, step) = changes.flow.steps.recorded.last().unwrap();
    assert_eq!((step.key.as_str(), step.position), ("pages", 4));
    assert_eq!(step.value.as_str(), r#"{"count":3}"#);
    assert_eq!(changes.ready, [0]);
}

#[test]
fn m3_child_end_with_a_wrong_number_is_ignored() {
    let mut run = Run::new();
    run.park(Some(3), None);
    let ids: Vec<ExecutionId> = run.start().iter().map(|start| start.new.id).collect();

    let status = ExecutionStatus::Completed;
    let wrong = run.end_with(ids[1], Some(2), status);
    assert!(wrong.flow.steps.recorded.is_empty());
    let right = run.end_with(ids[1], Some(1), status);
    assert_eq!(right.flow.steps.recorded[0].1.key, item_key("pages", 1));
    let again = run.end_with(ids[1], Some(1), status);
    assert!(again.flow.steps.recorded.is_empty());
    let open: Vec<u32> = run.0.open_runs(0).unwrap().open.keys().copied().collect();
    assert_eq!(open, [0, 2]);
}

#[test]
fn m6_retry_reruns_failed_children_and_replaces_cancelled_ones() {
    let mut run = Run::new();
    run.park(Some(3), None);
    let starts = run.start();
    run.end(starts[0].new.id, ExecutionStatus::Completed);
    run.end(starts[1].new.id, ExecutionStatus::Failed);
    run.end(starts[2].new.id, ExecutionStatus::Cancelled);
    let mut failure = Failure::engine(FailureKind::ChildFailed, "a child failed");
    failure.retryable = false;
    run.finish(Outcome::Failed(failure));
    assert_eq!(run.0.record().status, ExecutionStatus::Failed);
    let changes = run.0.retry(None, NOW).unwrap();
    let drops = [6, 7, 4].map(|position| StepDrop::one(0, position));
    assert_eq!(changes.flow.steps.dropped, drops);
    run.park_for(vec![1, 2], Some(3), None);
    let found = run.start();
    let [again] = found.as_slice() else {
        panic!("expected one new child")
    };
    assert_eq!((again.parent.item, again.parent.generation), (Some(2), 2));
    let open = &run.0.open_runs(0).unwrap().open;
    assert_eq!(open[&1], starts[1].new.id);
}

#[test]
fn m4_cancel_pause_and_resume_reach_every_open_child() {
    let mut run = Run::new();
    run.park(Some(2), None);
    let starts = run.start();
    let targets = |changes: &Changes, note: &Note| {
        let posts = changes.flow.posts.iter().filter(|post| post.note == *note);
        posts.map(|post| post.target).collect::<Vec<_>>()
    };
    let ids = [starts[0].new.id, starts[1].new.id];
    assert_eq!(targets(&run.0.pause(NOW).unwrap(), &Note::Pause), ids);
    // A child's end during the pause is recorded. The task is checked after the resume.
    run.end(ids[0], ExecutionStatus::Completed);
    assert_eq!(
        targets(&run.0.resume(NOW).unwrap(), &Note::Resume),
        [ids[1]]
    );
    assert_eq!(run.0.due_waits(NOW), [0]);
    assert_eq!(
        targets(&run.0.cancel(NOW).unwrap(), &Note::Cancel),
        [ids[1]]
    );
    let late = run.end(ids[1], ExecutionStatus::Completed);
    assert_eq!(late, Changes::default());
}

#[test]
fn t6_retry_from_the_task_starts_new_children() {
    let mut run = Run::new();
    run.park(None, None);
    let [start] = run.start().try_into().unwrap();
    run.end(start.new.id, ExecutionStatus::Failed);
    run.finish(Outcome::Completed(Arc::default()));
    assert_eq!(run.0.record().status, ExecutionStatus::Completed);
    let changes = run.0.retry(Some(0), NOW).unwrap();
    assert_eq!(changes.flow.steps.dropped, [StepDrop::from(0, 0)]);
    run.park(None, None);
    let [again] = run.start().try_into().unwrap();
    assert_eq!(again.parent.generation, 2);
}

#[test]
fn t10_function_that_called_start_waits_until_the_workflow_is_known() {
    let mut run = Run::new();
    let runs = Runs {
        workflow: "inner".into(),
        ..Runs::default()
    };
    run.finish(Outcome::Park(Box::new(Park {
        kind: ParkKind::Start,
        key: "audit".into(),
        position: 0,
        condition: Condition::AllOf {
            conditions: Vec::new(),
        },
        timeout: None,
        runs: Some(Box::new(runs)),
    })));
    assert_eq!(run.0.wanted_workflow(0), Some("inner"));
    let mut changes = Changes::default();
    run.0.await_workflow(0, NOW, &mut changes);
    assert_eq!(run.0.task(0).ready_at, Some(NOW + SECOND));
    assert!(run.start().is_empty());
    assert_eq!(run.0.task(0).status, TaskStatus::Ready);
    assert!(!run.0.task(0).is_waiting());
}
