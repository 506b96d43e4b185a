//! Tests of the C rules: readiness, trigger rules and failures.

use cloacina::types::{ExecutionStatus, Json, TaskStatus};
use cloacina::workflow::{Operator, TriggerRule};

use super::{Run, ruled, task, task_failed};

#[test]
fn c1_failure_skips_only_the_tasks_that_depend_on_it() {
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
fn c1_task_skipped_by_its_rule_does_not_block_dependents() {
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
fn c2_rules_without_arguments_follow_the_outcomes_of_dependencies() {
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
            .contains("cannot compare a JSON string with a JSON number"),
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
