//! The engine's rules; the name of each test begins with the rule's number in the semantics.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use cloacina::engine::{Changes, Execution, Finish, NewExecution, Outcome, TaskLimits};
use cloacina::types::{
    Claim, Context, DefinitionId, Delta, ExecutionId, ExecutionRecord, ExecutionStatus, Failure,
    FailureKind, Json, RetryPolicy, RunnerId, TaskRecord, TaskStatus, Timestamp,
};
use cloacina::workflow::{Operator, TaskDefinition, TriggerRule, Workflow, WorkflowDefinition};

const LIMITS: TaskLimits = TaskLimits {
    max_context_bytes: 1000,
    max_rescues: 3,
};
const SECOND: i64 = 1_000_000;

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

fn ruled(id: &str, dependencies: &[&str], rule: TriggerRule) -> TaskDefinition {
    TaskDefinition {
        rule,
        ..task(id, dependencies)
    }
}

fn workflow(tasks: Vec<TaskDefinition>) -> WorkflowDefinition {
    WorkflowDefinition {
        name: "w".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    }
}

struct Run {
    execution: Execution,
    runner: RunnerId,
    now: Timestamp,
}

impl Run {
    fn with_timeout(tasks: Vec<TaskDefinition>, input: &str, timeout: Option<i64>) -> Self {
        let new = NewExecution {
            id: ExecutionId::generate(),
            definition: DefinitionId(1),
            input: Arc::new(Context::from_json(input).unwrap()),
            key: None,
            priority: 0,
            start_at: None,
            timeout,
        };
        let now = Timestamp(SECOND);
        let (execution, _) =
            Execution::submit(Arc::new(Workflow::new(workflow(tasks)).unwrap()), new, now);
        Self {
            execution,
            runner: RunnerId::generate(),
            now,
        }
    }

    fn new(tasks: Vec<TaskDefinition>) -> Self {
        Self::with_timeout(tasks, "{}", None)
    }

    fn try_run(&mut self, id: &str, outcome: Outcome) -> Option<Changes> {
        let ordinal = self.execution.workflow().ordinal(id).unwrap();
        let claim =
            self.execution
                .claim(ordinal, self.runner, self.now, &mut Changes::default())?;
        self.now = self.now + 1000;
        let finish = Finish {
            task: ordinal,
            claim,
            started_at: None,
            outcome,
        };
        Some(
            self.execution
                .finish(finish, LIMITS, self.now, 0.5)
                .unwrap(),
        )
    }

    fn complete(&mut self, id: &str, delta: &str) {
        let delta = Delta::from_json(delta).unwrap();
        assert!(
            self.try_run(id, Outcome::Completed(Arc::new(delta)))
                .is_some(),
            "{id} is not ready"
        );
    }

    fn fail(&mut self, id: &str) {
        assert!(
            self.try_run(id, Outcome::Failed(failure("boom"))).is_some(),
            "{id} is not ready"
        );
    }

    fn status(&self, id: &str) -> TaskStatus {
        self.execution
            .task(self.execution.workflow().ordinal(id).unwrap())
            .status
    }

    fn context_of(&mut self, id: &str) -> String {
        let ordinal = self.execution.workflow().ordinal(id).unwrap();
        self.execution.view(ordinal).to_json()
    }
}

fn failure(message: &str) -> Failure {
    Failure {
        kind: "ValueError".into(),
        message: message.into(),
        traceback: None,
        retryable: true,
        lineage: Vec::new(),
    }
}

fn task_failed(id: &str) -> TriggerRule {
    TriggerRule::TaskFailed { task: id.into() }
}

#[test]
fn b2_task_sees_writes_and_removals_of_all_ancestors() {
    let mut run = Run::with_timeout(
        vec![
            task("a", &[]),
            task("b", &["a"]),
            task("c", &["b"]),
            task("other", &[]),
        ],
        r#"{"day":1,"drop":true}"#,
        None,
    );
    run.complete("other", r#"{"s":{"unseen":1}}"#);
    run.complete("a", r#"{"s":{"x":1},"r":["drop"]}"#);
    run.complete("b", r#"{"s":{"y":2,"x":3}}"#);
    assert_eq!(run.context_of("c"), r#"{"day":1,"x":3,"y":2}"#);
    run.complete("c", "{}");
    assert_eq!(
        run.execution.final_context().to_json(),
        r#"{"day":1,"x":3,"y":2,"unseen":1}"#
    );
}

#[test]
fn b3_unordered_writes_merge_and_win_over_removals() {
    let mut run = Run::with_timeout(
        vec![
            task("root", &[]),
            task("l", &["root"]),
            task("r", &["root"]),
            task("join", &["l", "r"]),
        ],
        r#"{"gone":1,"both":1}"#,
        None,
    );
    run.complete("root", r#"{"s":{"o":{"base":0},"n":0}}"#);
    run.complete(
        "r",
        r#"{"s":{"o":{"r":1},"list":[2,3],"n":2,"both":7},"r":["gone"]}"#,
    );
    run.complete(
        "l",
        r#"{"s":{"o":{"l":1},"list":[1,2],"n":1},"r":["both"]}"#,
    );
    assert_eq!(
        run.context_of("join"),
        r#"{"both":7,"o":{"l":1,"r":1},"n":2,"list":[1,2,2,3]}"#
    );
}

#[test]
fn b3_unordered_additions_to_one_array_are_all_kept() {
    let mut run = Run::with_timeout(
        vec![
            task("root", &[]),
            task("l", &["root"]),
            task("r", &["root"]),
            task("after_l", &["l"]),
            task("join", &["after_l", "r"]),
        ],
        r#"{"list":["input"]}"#,
        None,
    );
    run.complete("root", r#"{"s":{"list":["input","root"]}}"#);
    run.complete("r", r#"{"s":{"list":["input","root","same"]}}"#);
    run.complete("l", r#"{"s":{"list":["input","root","same"]}}"#);
    run.complete(
        "after_l",
        r#"{"s":{"list":["input","root","same","last"]}}"#,
    );
    let expected = r#"{"list":["input","root","same","same","last"]}"#;
    assert_eq!(run.context_of("join"), expected);
    run.complete("join", "{}");
    assert_eq!(run.execution.final_context().to_json(), expected);
}

#[test]
fn b3_rules_judge_the_merged_value() {
    let all_four = TriggerRule::ContextValue {
        key: "list".into(),
        operator: Operator::Equals,
        value: Json::parse("[0,4,4]").unwrap(),
    };
    let mut run = Run::with_timeout(
        vec![
            task("l", &[]),
            task("r", &[]),
            ruled("join", &["l", "r"], all_four),
        ],
        r#"{"list":[0]}"#,
        None,
    );
    run.complete("l", r#"{"s":{"list":[0,4]}}"#);
    run.complete("r", r#"{"s":{"list":[0,4]}}"#);
    assert_eq!(run.status("join"), TaskStatus::Ready);
}

#[test]
fn b2_missing_key_names_the_task_beside_that_wrote_it() {
    fn run() -> Run {
        let mut run = Run::new(vec![
            task("extract", &[]),
            task("also", &[]),
            task("before", &[]),
            task("load", &["before"]),
        ]);
        run.complete("before", r#"{"s":{"seen":1}}"#);
        run.complete("extract", r#"{"s":{"rows":1}}"#);
        run
    }
    fn failed(mut run: Run, message: &str) -> String {
        let ended = run.try_run("load", Outcome::Failed(failure(message)));
        assert!(ended.is_some());
        let load = run.execution.workflow().ordinal("load").unwrap();
        run.execution.task(load).error.clone().unwrap().message
    }
    let no_rows = "the context has no key 'rows'; it has: seen";
    assert_eq!(
        failed(run(), no_rows),
        "the context has no key 'rows'; it has: seen\nhint: 'rows' is written by 'extract', \
         which is not an ancestor of this task: add it to dependencies"
    );
    for other in ["the context has no key 'seen'; it has: x", "'rows'"] {
        assert_eq!(failed(run(), other), other);
    }
    let mut two = run();
    two.complete("also", r#"{"s":{"rows":2}}"#);
    let message = failed(two, no_rows);
    assert!(message.contains("by 'extract', 'also', which are not ancestors"));
}

#[test]
fn b6_oversized_delta_fails_without_retry() {
    let mut big = task("a", &[]);
    big.retry.max_attempts = 5;
    let mut run = Run::new(vec![big]);
    let delta = format!(r#"{{"s":{{"k":"{}"}}}}"#, "x".repeat(2000));
    run.complete("a", &delta);
    assert_eq!(run.status("a"), TaskStatus::Failed);
    let (task, error) = run.execution.record().error.clone().unwrap();
    assert_eq!((task, error.kind.as_str()), (Some(0), "ContextError"));
}

#[test]
fn c1_failure_skips_dependents_but_no_other_branch() {
    let mut run = Run::new(vec![
        task("a", &[]),
        task("b", &["a"]),
        task("c", &["b"]),
        task("free", &[]),
    ]);
    run.fail("a");
    assert_eq!(
        (run.status("b"), run.status("c"), run.status("free")),
        (TaskStatus::Skipped, TaskStatus::Skipped, TaskStatus::Ready)
    );
    assert_eq!(run.execution.record().status, ExecutionStatus::Running);
    run.complete("free", "{}");
    assert_eq!(run.execution.record().status, ExecutionStatus::Failed);
}

#[test]
fn c1_skip_by_own_rule_does_not_block_dependents() {
    let never = TriggerRule::ContextValue {
        key: "go".into(),
        operator: Operator::Equals,
        value: Json::parse("true").unwrap(),
    };
    let mut run = Run::new(vec![
        task("a", &[]),
        ruled("b", &["a"], never),
        task("c", &["b"]),
    ]);
    run.complete("a", r#"{"s":{"go":false}}"#);
    assert_eq!(
        (run.status("b"), run.status("c")),
        (TaskStatus::Skipped, TaskStatus::Ready)
    );
}

#[test]
fn c2_named_rules_follow_the_outcomes_of_dependencies() {
    use TaskStatus::{Ready, Skipped};
    // Outcomes of the two dependencies: c completed, f failed, s skipped by its own rule.
    let cases = [
        (TriggerRule::AllSuccess, [Ready, Skipped, Skipped, Skipped]),
        (TriggerRule::AllFailed, [Skipped, Skipped, Ready, Skipped]),
        (TriggerRule::AllDone, [Ready, Ready, Ready, Ready]),
        (TriggerRule::OneSuccess, [Ready, Ready, Skipped, Ready]),
        (TriggerRule::OneFailed, [Skipped, Ready, Ready, Skipped]),
        (TriggerRule::NoneFailed, [Ready, Skipped, Skipped, Ready]),
        (TriggerRule::Always, [Ready, Ready, Ready, Ready]),
    ];
    for (rule, expected) in cases {
        for (pair, wanted) in ["cc", "cf", "ff", "cs"].iter().zip(expected) {
            let second = if pair.ends_with('s') {
                ruled("y", &["z"], TriggerRule::TaskFailed { task: "z".into() })
            } else {
                task("y", &["z"])
            };
            let mut run = Run::new(vec![
                task("z", &[]),
                task("x", &["z"]),
                second,
                ruled("t", &["x", "y"], rule.clone()),
            ]);
            run.complete("z", "{}");
            for (id, outcome) in ["x", "y"].iter().zip(pair.chars()) {
                match outcome {
                    'c' => run.complete(id, "{}"),
                    'f' => run.fail(id),
                    _ => assert_eq!(run.status(id), Skipped),
                }
            }
            assert_eq!(run.status("t"), wanted, "{rule:?} after {pair}");
        }
    }
}

#[test]
fn c2_rule_that_cannot_be_evaluated_fails_its_task() {
    let odd = TriggerRule::ContextValue {
        key: "n".into(),
        operator: Operator::GreaterThan,
        value: Json::parse("1").unwrap(),
    };
    let mut run = Run::new(vec![task("a", &[]), ruled("b", &["a"], odd)]);
    run.complete("a", r#"{"s":{"n":"text"}}"#);
    assert_eq!(run.status("b"), TaskStatus::Failed);
    let (_, error) = run.execution.record().error.clone().unwrap();
    assert!(
        error
            .message
            .contains("cannot compare a string with a number"),
        "{}",
        error.message
    );
}

#[test]
fn c3_failure_is_handled_by_rules_that_test_for_it() {
    let cases = [
        (task_failed("a"), ExecutionStatus::Completed),
        (TriggerRule::OneFailed, ExecutionStatus::Completed),
        (TriggerRule::AllFailed, ExecutionStatus::Completed),
        (TriggerRule::AllDone, ExecutionStatus::Failed),
        (TriggerRule::Always, ExecutionStatus::Failed),
    ];
    for (rule, expected) in cases {
        let mut run = Run::new(vec![task("a", &[]), ruled("after", &["a"], rule.clone())]);
        run.fail("a");
        run.complete("after", "{}");
        assert_eq!(run.execution.record().status, expected, "{rule:?}");
    }
}

#[test]
fn c4_first_unhandled_failure_is_the_error() {
    let mut run = Run::new(vec![task("late", &[]), task("early", &[])]);
    run.fail("early");
    run.fail("late");
    assert_eq!(
        run.execution.record().error.as_ref().unwrap().0,
        run.execution.workflow().ordinal("early")
    );
}

#[test]
fn d2_retry_counts_as_attempt_but_snooze_and_release_do_not() {
    let mut run = Run::new(vec![TaskDefinition {
        retry: RetryPolicy {
            max_attempts: 2,
            ..RetryPolicy::default()
        },
        ..task("a", &[])
    }]);
    run.try_run("a", Outcome::Snooze { after: SECOND }).unwrap();
    assert!(run.try_run("a", Outcome::Released).is_none(), "not due yet");
    run.now = run.now + SECOND;
    run.try_run("a", Outcome::Released).unwrap();
    run.try_run(
        "a",
        Outcome::Retry {
            after: Some(0),
            failure: failure("again"),
        },
    )
    .unwrap();
    assert_eq!(run.status("a"), TaskStatus::Ready);
    run.try_run(
        "a",
        Outcome::Retry {
            after: Some(0),
            failure: failure("again"),
        },
    )
    .unwrap();
    assert_eq!(
        (run.status("a"), run.execution.task(0).attempt),
        (TaskStatus::Failed, 2)
    );
}

#[test]
fn d5_timeout_counts_from_the_first_start_and_ends_all_tasks() {
    let mut run = Run::with_timeout(
        vec![task("a", &[]), task("b", &["a"]), task("c", &[])],
        "{}",
        Some(10 * SECOND),
    );
    assert!(
        !run.execution.time_out(run.now + 100 * SECOND).ended,
        "nothing has started"
    );
    let claim = run
        .execution
        .claim(0, run.runner, run.now, &mut Changes::default())
        .unwrap();
    run.execution.start(0, claim, run.now);
    assert!(!run.execution.time_out(run.now + 9 * SECOND).ended);
    let changes = run.execution.time_out(run.now + 10 * SECOND);
    assert!(changes.ended);
    assert_eq!(changes.interrupted, [(0, claim)]);
    assert_eq!(
        [run.status("a"), run.status("b"), run.status("c")],
        [
            TaskStatus::Cancelled,
            TaskStatus::Skipped,
            TaskStatus::Skipped
        ]
    );
    assert_eq!(
        run.execution.record().error.as_ref().unwrap().1.kind,
        "WorkflowTimeoutError"
    );
}

#[test]
fn d7_timers_hold_while_paused() {
    let mut run = Run::new(vec![TaskDefinition {
        retry: RetryPolicy {
            max_attempts: 3,
            ..RetryPolicy::default()
        },
        ..task("a", &[])
    }]);
    run.try_run(
        "a",
        Outcome::Retry {
            after: Some(10 * SECOND),
            failure: failure("x"),
        },
    )
    .unwrap();
    let retried_at = run.now;
    run.execution.pause(retried_at + 4 * SECOND).unwrap();
    run.execution.resume(retried_at + 100 * SECOND).unwrap();
    assert_eq!(
        run.execution.task(0).ready_at,
        Some(retried_at + 106 * SECOND)
    );
}

#[test]
fn d7_retry_runs_only_failed_and_skipped_tasks() {
    let mut run = Run::new(vec![
        task("a", &[]),
        task("l", &["a"]),
        task("r", &["a"]),
        task("join", &["l", "r"]),
    ]);
    run.complete("a", "{}");
    run.complete("l", "{}");
    run.fail("r");
    assert_eq!(run.execution.record().status, ExecutionStatus::Failed);
    run.execution.retry(None, run.now).unwrap();
    assert_eq!(
        [
            run.status("a"),
            run.status("l"),
            run.status("r"),
            run.status("join")
        ],
        [
            TaskStatus::Completed,
            TaskStatus::Completed,
            TaskStatus::Ready,
            TaskStatus::Pending
        ]
    );
    run.complete("r", "{}");
    run.complete("join", "{}");
    assert_eq!(run.execution.record().status, ExecutionStatus::Completed);
    let from = run.execution.workflow().ordinal("l");
    run.execution.retry(from, run.now).unwrap();
    assert_eq!(
        [
            run.status("a"),
            run.status("l"),
            run.status("r"),
            run.status("join")
        ],
        [
            TaskStatus::Completed,
            TaskStatus::Ready,
            TaskStatus::Completed,
            TaskStatus::Pending
        ]
    );
}

/// Claims task 0, starts it alone if it is a suspect, and then has its runner die.
fn die(run: &mut Run, limits: TaskLimits) -> Claim {
    let claim = run
        .execution
        .claim(0, run.runner, run.now, &mut Changes::default())
        .unwrap();
    if run.execution.is_suspect(0, limits) {
        assert_eq!(run.execution.probe(0, claim).tasks, [0].into());
    }
    assert_eq!(run.execution.rescue(run.runner, limits, run.now).rescued, 1);
    claim
}

#[test]
fn e2_rescued_task_runs_again_and_its_old_result_is_refused() {
    let mut run = Run::new(vec![task("a", &[])]);
    for _ in 0..LIMITS.max_rescues {
        let claim = die(&mut run, LIMITS);
        assert_eq!(run.status("a"), TaskStatus::Ready);
        let late = Finish {
            task: 0,
            claim,
            started_at: None,
            outcome: Outcome::Completed(Arc::new(Delta::default())),
        };
        assert!(run.execution.finish(late, LIMITS, run.now, 0.5).is_err());
    }
    die(&mut run, LIMITS);
    assert_eq!(run.status("a"), TaskStatus::Failed);
    let message = &run.execution.record().error.as_ref().unwrap().1.message;
    assert!(message.contains("lost its runner 4 times, more than max_rescues 3"));
}

#[test]
fn e2_task_fails_at_the_first_death_beyond_max_rescues() {
    for max_rescues in 0..6 {
        let limits = TaskLimits {
            max_rescues,
            ..LIMITS
        };
        let mut run = Run::new(vec![task("a", &[])]);
        for _ in 0..max_rescues {
            die(&mut run, limits);
            assert_eq!(run.status("a"), TaskStatus::Ready);
        }
        die(&mut run, limits);
        assert_eq!(run.status("a"), TaskStatus::Failed, "{max_rescues}");
    }
}

#[test]
fn a2_invalid_definition_is_refused_with_the_task_named() {
    let cycle = vec![task("a", &["c"]), task("b", &["a"]), task("c", &["b"])];
    let cases: Vec<(Vec<TaskDefinition>, &str, &str)> = vec![
        (vec![], "Workflow cannot be empty", ""),
        (
            vec![task("a", &[]), task("a", &[])],
            "two tasks with the id 'a'",
            "",
        ),
        (
            vec![task("extract", &[]), task("b", &["exract"])],
            "unknown task 'exract'",
            "did you mean 'extract'?",
        ),
        (cycle, "a -> b -> c -> a", ""),
        (vec![task("a", &["a"])], "a -> a", ""),
        (
            vec![ruled("a", &[], task_failed("b"))],
            "names unknown task 'b'",
            "",
        ),
        (
            vec![TaskDefinition {
                timeout: Some(0),
                ..task("a", &[])
            }],
            "timeout",
            "",
        ),
        (
            vec![ruled("a", &[], TriggerRule::AllOf { conditions: vec![] })],
            "without conditions",
            "",
        ),
    ];
    for (tasks, message, hint) in cases {
        let error = Workflow::new(workflow(tasks)).unwrap_err();
        assert!(error.message.contains(message), "{}", error.message);
        assert!(error.hint.unwrap_or_default().contains(hint));
    }
}

#[test]
fn a2_definition_nested_too_deeply_to_be_read_back_is_refused() {
    let nested = |levels: usize, innermost: TriggerRule| {
        (0..levels).fold(innermost, |rule, _| TriggerRule::AllOf {
            conditions: vec![rule],
        })
    };
    let define = |rule| Workflow::new(workflow(vec![task("a", &[]), ruled("b", &["a"], rule)]));
    let most = define(nested(32, TriggerRule::Always)).unwrap();
    let read: WorkflowDefinition = serde_json::from_str(most.stored().as_str()).unwrap();
    assert_eq!(&read, most.definition());
    let error = define(nested(33, TriggerRule::Always)).unwrap_err();
    assert!(error.message.contains("nested deeper than 32 levels"));
    let value = format!("{}{}", "[".repeat(511), "]".repeat(511));
    let error = define(TriggerRule::ContextValue {
        key: "k".into(),
        operator: Operator::Equals,
        value: Json::parse(&value).unwrap(),
    });
    let message = error.unwrap_err().message;
    assert!(message.contains("nested deeper than 512"), "{message}");
}

#[test]
fn a13_inconsistent_record_is_refused() {
    type Change = fn(&mut ExecutionRecord);
    let mut run = Run::new(vec![task("a", &[]), task("b", &["a"])]);
    let mut ready = run.execution.record().clone();
    ready.revision = 1;
    run.execution
        .claim(0, run.runner, run.now, &mut Changes::default())
        .unwrap();
    let mut running = run.execution.record().clone();
    running.revision = 2;
    let restore = |record: &ExecutionRecord| {
        Execution::restore(Arc::clone(run.execution.workflow()), record.clone())
    };
    for record in [&ready, &running] {
        assert_eq!(restore(record).unwrap().record(), record);
    }
    let nonsense: [(&str, Change); 11] = [
        ("3 tasks", |record| record.tasks.push(TaskRecord::pending())),
        ("0 tasks", |record| record.tasks.clear()),
        ("revision", |record| record.revision = i64::MAX),
        ("revision", |record| record.revision = -1),
        ("blames task 7", |record| {
            record.error = Some((Some(7), Failure::engine(FailureKind::Rule, "x")));
        }),
        ("not all", |record| {
            record.status = ExecutionStatus::Completed;
        }),
        ("another status", |record| {
            record.paused_at = Some(Timestamp(1));
        }),
        ("another status", |record| {
            record.ended_at = Some(Timestamp(1));
        }),
        ("no runner", |record| record.tasks[0].runner = None),
        ("attempt 0", |record| record.tasks[0].attempt = 0),
        ("counts", |record| record.tasks[1].uncounted = u32::MAX),
    ];
    for (message, change) in nonsense {
        let mut record = running.clone();
        change(&mut record);
        let error = restore(&record).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn a4_version_depends_only_on_what_affects_execution() {
    let version =
        |definition: WorkflowDefinition| Workflow::new(definition).unwrap().version().to_owned();
    let base = workflow(vec![task("a", &[]), task("b", &["a"])]);
    let described = WorkflowDefinition {
        description: "text".into(),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        ..base.clone()
    };
    assert_eq!(version(base.clone()), version(described));
    assert_eq!(version(base.clone()).len(), 16);
    let mut changed = base.clone();
    changed.tasks[0].fingerprint = "other".into();
    assert_ne!(version(base.clone()), version(changed));
    let mut changed = base.clone();
    changed.tasks[1].timeout = Some(5);
    assert_ne!(version(base), version(changed));
}
