//! Property tests of the engine with random graphs, rules and outcomes (semantics C1–C3, D1, D6, D7, E2).
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::sync::Arc;

use cloacina::engine::{Changes, Execution, Finish, NewExecution, Outcome, TaskLimits};
use cloacina::types::{
    Backoff, Claim, Context, DefinitionId, Delta, ExecutionId, ExecutionStatus, Failure, Ordinal,
    RetryPolicy, RunnerId, SkipCause, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, TriggerRule, Workflow, WorkflowDefinition};
use proptest::prelude::*;

const LIMITS: TaskLimits = TaskLimits {
    max_context_bytes: 1 << 20,
    max_rescues: 3,
};

/// A random workflow, the random outcomes of its attempts, and the random order in which they finish.
#[derive(Clone, Debug)]
struct Plan {
    dependencies: Vec<Vec<usize>>,
    rules: Vec<u8>,
    attempts: Vec<u32>,
    outcomes: Vec<u8>,
    picks: Vec<usize>,
}

fn plan() -> impl Strategy<Value = Plan> {
    (2_usize..12).prop_flat_map(|tasks| {
        let dependencies = (0..tasks)
            .map(|index| proptest::collection::vec(0..index.max(1), 0..=index.min(4)))
            .collect::<Vec<_>>();
        (
            dependencies,
            proptest::collection::vec(0_u8..10, tasks),
            proptest::collection::vec(1_u32..4, tasks),
            proptest::collection::vec(0_u8..6, 64),
            proptest::collection::vec(0_usize..64, 256),
        )
            .prop_map(|(dependencies, rules, attempts, outcomes, picks)| Plan {
                dependencies,
                rules,
                attempts,
                outcomes,
                picks,
            })
    })
}

fn workflow(plan: &Plan) -> Arc<Workflow> {
    let tasks = plan
        .dependencies
        .iter()
        .enumerate()
        .map(|(index, dependencies)| {
            let mut unique: Vec<usize> = if index == 0 {
                Vec::new()
            } else {
                dependencies.clone()
            };
            unique.sort_unstable();
            unique.dedup();
            let first = unique.first().map(|task| format!("t{task}"));
            TaskDefinition {
                id: format!("t{index}"),
                dependencies: unique.iter().map(|task| format!("t{task}")).collect(),
                rule: match (plan.rules[index], first) {
                    (0, _) => TriggerRule::AllSuccess,
                    (1, _) => TriggerRule::AllDone,
                    (2, Some(_)) => TriggerRule::OneSuccess,
                    (3, Some(_)) => TriggerRule::OneFailed,
                    (4, Some(task)) => TriggerRule::TaskFailed { task },
                    (5, Some(task)) => TriggerRule::NoneOf {
                        conditions: vec![TriggerRule::TaskSuccess { task }],
                    },
                    _ => TriggerRule::NoneFailed,
                },
                retry: RetryPolicy {
                    max_attempts: plan.attempts[index],
                    backoff: Backoff::Fixed,
                    ..RetryPolicy::default()
                },
                ..TaskDefinition::default()
            }
        });
    let definition = WorkflowDefinition {
        name: "random".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: tasks.collect(),
        ..WorkflowDefinition::default()
    };
    Arc::new(Workflow::new(definition).unwrap())
}

/// An execution whose tasks the test claims and finishes.
struct Run {
    execution: Execution,
    running: Vec<(Ordinal, Claim)>,
    runner: RunnerId,
    now: Timestamp,
    interrupted: HashSet<(Ordinal, Claim)>,
}

impl Run {
    fn new(workflow: Arc<Workflow>) -> Self {
        let new = NewExecution {
            id: ExecutionId::generate(),
            definition: DefinitionId(1),
            input: Arc::new(Context::new()),
            key: None,
            priority: 0,
            start_at: None,
            timeout: None,
        };
        let now = Timestamp(1_000_000);
        let (execution, _) = Execution::submit(workflow, new, now);
        Self {
            execution,
            running: Vec::new(),
            runner: RunnerId::generate(),
            now,
            interrupted: HashSet::new(),
        }
    }

    /// Remembers the interrupted attempts.
    fn note(&mut self, changes: &Changes) {
        self.interrupted.extend(changes.interrupted.iter().copied());
    }

    /// Advances the time until all ready tasks are due, and claims them.
    fn claim_all(&mut self) {
        let tasks = self.execution.record().tasks.len();
        let due = self
            .execution
            .record()
            .tasks
            .iter()
            .filter(|task| task.status == TaskStatus::Ready)
            .filter_map(|task| task.ready_at)
            .max();
        self.now = due.map_or(self.now, |due| due.max(self.now)) + 1;
        for ordinal in 0..u32::try_from(tasks).unwrap() {
            let mut changes = Changes::default();
            let ready = self.execution.task(ordinal).status == TaskStatus::Ready;
            if let Some(claim) = self
                .execution
                .claim(ordinal, self.runner, self.now, &mut changes)
            {
                assert!(ready);
                self.assert_may_start(ordinal);
                self.running.push((ordinal, claim));
            }
        }
    }

    /// Asserts that all dependencies of a starting task have ended.
    fn assert_may_start(&self, ordinal: Ordinal) {
        for dependency in self.execution.workflow().graph().dependencies(ordinal) {
            assert!(self.execution.task(*dependency).status.is_terminal());
        }
    }

    /// Ends one of the running attempts. `pick` selects the attempt, and `outcome` its outcome.
    fn finish(&mut self, pick: usize, outcome: u8) {
        let (task, claim) = self.running.swap_remove(pick % self.running.len());
        let outcome = match outcome {
            0 | 1 => Outcome::Failed(failure()),
            2 => Outcome::Retry {
                after: Some(5),
                failure: failure(),
            },
            _ => Outcome::Completed(Arc::new(Delta::default())),
        };
        let finish = Finish {
            task,
            claim,
            started_at: None,
            outcome,
        };
        let changes = self
            .execution
            .finish(finish.clone(), LIMITS, self.now, 0.5)
            .unwrap();
        self.note(&changes);
        // A repeated result is refused.
        assert!(
            self.execution
                .finish(finish, LIMITS, self.now, 0.5)
                .is_err()
        );
    }
}

fn failure() -> Failure {
    Failure {
        kind: "ValueError".into(),
        message: "no".into(),
        traceback: None,
        retryable: true,
        lineage: Vec::new(),
    }
}

/// A simple, independent implementation of rule C3. A failed task is handled if a completed task names it in a rule, or
/// depends on it with a rule that tests for failures. The execution fails if a failed task is not handled.
fn expected_status(execution: &Execution) -> ExecutionStatus {
    let workflow = execution.workflow();
    let handled = |failed: Ordinal| {
        (0..)
            .zip(&workflow.definition().tasks)
            .any(|(ordinal, task)| {
                let names = task
                    .rule
                    .named_tasks()
                    .contains(&workflow.task(failed).id.as_str());
                let asks = task.rule.asks_for_failure()
                    && workflow.graph().dependencies(ordinal).contains(&failed);
                execution.task(ordinal).status == TaskStatus::Completed && (names || asks)
            })
    };
    let failed = (0..)
        .zip(&execution.record().tasks)
        .filter(|(_, task)| task.status == TaskStatus::Failed);
    let unhandled = failed.filter(|(ordinal, _)| !handled(*ordinal)).count();
    if unhandled > 0 {
        ExecutionStatus::Failed
    } else {
        ExecutionStatus::Completed
    }
}

/// Checks the final state of an execution and its tasks.
fn check_end(run: &Run) {
    let execution = &run.execution;
    let record = execution.record();
    assert!(
        record.tasks.iter().all(|task| task.status.is_terminal()),
        "every task ends"
    );
    assert_eq!(
        record.status,
        expected_status(execution),
        "the status follows C3"
    );
    assert_eq!(
        record.error.is_some(),
        record.status == ExecutionStatus::Failed
    );
    for (ordinal, task) in (0..).zip(&record.tasks) {
        let policy = &execution.workflow().task(ordinal).retry;
        assert!(
            task.attempt <= policy.max_attempts,
            "attempts never exceed the policy"
        );
        assert_eq!(task.skip.is_some(), task.status == TaskStatus::Skipped);
        if let Some(skip) = &task.skip
            && skip.cause == SkipCause::Failure
        {
            let blocked = execution
                .workflow()
                .graph()
                .dependencies(ordinal)
                .iter()
                .any(|dependency| {
                    let before = execution.task(*dependency);
                    before.status == TaskStatus::Failed
                        || before
                            .skip
                            .as_ref()
                            .is_some_and(|skip| skip.cause == SkipCause::Failure)
                });
            assert!(
                blocked,
                "a task skipped because of a failure has a failed or skipped dependency"
            );
        }
    }
}

/// An event that changes the claim of a task.
#[derive(Clone, Debug)]
enum TaskEvent {
    /// A runner claims a ready task. The runner starts the task, unless the task is suspected of killing runners.
    Claim { runner: usize, task: u32 },
    /// A runner starts a suspected task while no other task runs.
    Probe { task: u32 },
    /// A runner dies, and its claims are lost.
    Die { runner: usize },
    /// An attempt snoozes, or its claim is returned if the task was not started. The runner stays alive.
    Return { task: u32 },
}

fn task_event() -> impl Strategy<Value = TaskEvent> {
    let (runner, task) = (0_usize..3, 0_u32..4);
    prop_oneof![
        4 => (runner.clone(), task.clone()).prop_map(|(runner, task)| TaskEvent::Claim { runner, task }),
        3 => task.clone().prop_map(|task| TaskEvent::Probe { task }),
        3 => runner.prop_map(|runner| TaskEvent::Die { runner }),
        1 => task.prop_map(|task| TaskEvent::Return { task }),
    ]
}

fn four_tasks() -> Run {
    let definition = WorkflowDefinition {
        name: "four".into(),
        tasks: (0..4)
            .map(|index| TaskDefinition {
                id: format!("t{index}"),
                ..TaskDefinition::default()
            })
            .collect(),
        tenant: "public".into(),
        package: "embedded".into(),
        ..WorkflowDefinition::default()
    };
    Run::new(Arc::new(Workflow::new(definition).unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn e2_only_a_task_started_alone_fails_when_its_runner_dies(
        events in proptest::collection::vec(task_event(), 1..200), max_rescues in 1_u32..5,
    ) {
        let limits = TaskLimits { max_rescues, ..LIMITS };
        let mut run = four_tasks();
        let runners: Vec<RunnerId> = (0..3).map(|_| RunnerId::generate()).collect();
        let mut is_alone = [false; 4];
        let mut deaths = [0; 4];
        for event in events {
            match event {
                TaskEvent::Claim { runner, task } => {
                    let claim = run.execution.claim(task, runners[runner], run.now, &mut Changes::default());
                    is_alone[task as usize] &= claim.is_none();
                }
                TaskEvent::Probe { task } => {
                    let claim = run.execution.task(task).claim();
                    if let Some(claim) = claim.filter(|_| run.execution.is_suspect(task, limits) && !is_alone[task as usize]) {
                        run.execution.probe(task, claim);
                        is_alone[task as usize] = true;
                    }
                }
                TaskEvent::Die { runner } => {
                    let held = |task: &u32| run.execution.task(*task).claim().is_some_and(|claim| claim.runner == runners[runner]);
                    let lost: Vec<u32> = (0..4).filter(held).collect();
                    run.execution.rescue(runners[runner], limits, run.now);
                    for task in lost {
                        deaths[task as usize] += 1;
                        let failed = run.execution.task(task).status == TaskStatus::Failed;
                        prop_assert!(!failed || is_alone[task as usize], "a task failed although it did not run alone");
                        prop_assert!(!failed || deaths[task as usize] > max_rescues, "the task failed too early");
                    }
                }
                TaskEvent::Return { task } => {
                    if let Some(claim) = run.execution.task(task).claim() {
                        let was_started = is_alone[task as usize] || !run.execution.is_suspect(task, limits);
                        let outcome = if was_started { Outcome::Snooze { after: 0 } } else { Outcome::Released };
                        let finish = Finish { task, claim, started_at: None, outcome };
                        run.execution.finish(finish, limits, run.now, 0.5).unwrap();
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn c3_every_execution_ends_with_the_expected_status(plan in plan()) {
        let mut run = Run::new(workflow(&plan));
        let mut picks = plan.picks.iter().cycle();
        let mut outcomes = plan.outcomes.iter().cycle();
        let mut steps = 0;
        while !run.execution.record().status.is_terminal() {
            run.claim_all();
            prop_assert!(!run.running.is_empty(), "an execution that has not ended has running tasks");
            run.finish(*picks.next().unwrap(), *outcomes.next().unwrap());
            steps += 1;
            prop_assert!(steps < 200);
        }
        check_end(&run);
        // D7: a retried execution ends too, and completed tasks keep their results.
        if run.execution.record().status == ExecutionStatus::Failed {
            let completed: Vec<Ordinal> = (0..).zip(&run.execution.record().tasks)
                .filter(|(_, task)| task.status == TaskStatus::Completed).map(|(ordinal, _)| ordinal).collect();
            run.execution.retry(None, run.now).unwrap();
            run.claim_all();
            for (task, _) in &run.running {
                prop_assert!(!completed.contains(task), "a completed task does not run again");
            }
            while !run.execution.record().status.is_terminal() {
                run.claim_all();
                prop_assert!(!run.running.is_empty());
                run.finish(0, 5);
            }
            for task in completed {
                prop_assert_eq!(run.execution.task(task).status, TaskStatus::Completed);
            }
        }
    }

    #[test]
    fn d6_cancelled_execution_stays_cancelled(plan in plan(), steps in 0_usize..8) {
        let mut run = Run::new(workflow(&plan));
        let mut picks = plan.picks.iter().cycle();
        for outcome in plan.outcomes.iter().take(steps) {
            run.claim_all();
            if run.running.is_empty() { break; }
            run.finish(*picks.next().unwrap(), *outcome);
        }
        run.claim_all();
        let running: HashSet<(Ordinal, Claim)> = run.running.iter().copied().collect();
        match run.execution.cancel(run.now) {
            Ok(changes) => {
                run.note(&changes);
                prop_assert_eq!(&run.interrupted, &running, "exactly the running tasks are interrupted");
                prop_assert_eq!(run.execution.record().status, ExecutionStatus::Cancelled);
            }
            Err(_) => prop_assert!(run.execution.record().status.is_terminal()),
        }
        let before = run.execution.record().clone();
        for (task, claim) in running {
            let finish = Finish { task, claim, started_at: None, outcome: Outcome::Completed(Arc::new(Delta::default())) };
            prop_assert!(run.execution.finish(finish, LIMITS, run.now, 0.5).is_err(), "a late result is refused");
        }
        if before.status == ExecutionStatus::Cancelled {
            prop_assert!(run.execution.retry(None, run.now).is_err(), "a cancelled execution cannot be retried");
        }
        prop_assert_eq!(run.execution.record(), &before);
    }

    #[test]
    fn d7_nothing_starts_in_a_pause_and_a_resume_continues_the_execution(plan in plan(), steps in 0_usize..6) {
        let mut run = Run::new(workflow(&plan));
        let mut picks = plan.picks.iter().cycle();
        for outcome in plan.outcomes.iter().take(steps) {
            run.claim_all();
            if run.running.is_empty() { break; }
            run.finish(*picks.next().unwrap(), *outcome);
        }
        if run.execution.pause(run.now).is_ok() {
            while !run.running.is_empty() {
                run.finish(0, 5);
                let before = run.running.len();
                run.claim_all();
                prop_assert_eq!(run.running.len(), before, "nothing starts while paused");
            }
            if !run.execution.record().status.is_terminal() {
                run.now = run.now + 3_600_000_000;
                run.execution.resume(run.now).unwrap();
            }
        }
        while !run.execution.record().status.is_terminal() {
            run.claim_all();
            prop_assert!(!run.running.is_empty(), "a resumed execution has running tasks");
            run.finish(0, 5);
        }
        check_end(&run);
    }
}
