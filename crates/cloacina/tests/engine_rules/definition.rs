//! Tests of the A rules (refused definitions, and the version of a workflow), and of refused records.

use std::sync::Arc;

use cloacina::engine::{Changes, Execution};
use cloacina::types::{
    ExecutionRecord, ExecutionStatus, Failure, FailureKind, Json, TaskRecord, Timestamp,
};
use cloacina::workflow::{Operator, TaskDefinition, TriggerRule, Workflow, WorkflowDefinition};

use super::{Run, ruled, task, task_failed, workflow};

#[test]
fn a2_error_of_an_invalid_definition_names_the_cause() {
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
fn a2_definition_nested_too_deeply_is_refused() {
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
    let mut with_final = workflow(vec![task("a", &[])]);
    let deep = ruled("b", &[], nested(33, TriggerRule::Always));
    with_final.finals.push(deep);
    let error = Workflow::new(with_final).unwrap_err();
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
fn inconsistent_record_is_refused() {
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
    let damages: [(&str, Change); 11] = [
        ("3 tasks", |record| record.tasks.push(TaskRecord::pending())),
        ("0 tasks", |record| record.tasks.clear()),
        ("revision", |record| record.revision = i64::MAX),
        ("revision", |record| record.revision = -1),
        ("names task 7", |record| {
            record.error = Some((Some(7), Failure::engine(FailureKind::Rule, "x")));
        }),
        ("not all", |record| {
            record.status = ExecutionStatus::Completed;
        }),
        ("do not match this state", |record| {
            record.paused_at = Some(Timestamp(1));
        }),
        ("do not match this state", |record| {
            record.ended_at = Some(Timestamp(1));
        }),
        ("no runner", |record| record.tasks[0].runner = None),
        ("attempt 0", |record| record.tasks[0].attempt = 0),
        ("a counter of its task 'b'", |record| {
            record.tasks[1].uncounted = u32::MAX;
        }),
    ];
    for (message, change) in damages {
        let mut record = running.clone();
        change(&mut record);
        let error = restore(&record).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn a4_version_covers_code_and_timeouts_but_not_descriptions_and_tags() {
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
