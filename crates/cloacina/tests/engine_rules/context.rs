//! Tests of the B rules: the context of a task, and how writes are merged.

use cloacina::engine::Outcome;
use cloacina::types::{Json, TaskStatus};
use cloacina::workflow::{Operator, TriggerRule};

use super::{Run, failure, ruled, task};

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
fn b3_parallel_writes_merge_and_win_over_removals() {
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
fn b3_parallel_additions_to_one_array_are_all_kept() {
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
fn b3_trigger_rule_reads_the_merged_value() {
    let has_both_additions = TriggerRule::ContextValue {
        key: "list".into(),
        operator: Operator::Equals,
        value: Json::parse("[0,4,4]").unwrap(),
    };
    let mut run = Run::with_timeout(
        vec![
            task("l", &[]),
            task("r", &[]),
            ruled("join", &["l", "r"], has_both_additions),
        ],
        r#"{"list":[0]}"#,
        None,
    );
    run.complete("l", r#"{"s":{"list":[0,4]}}"#);
    run.complete("r", r#"{"s":{"list":[0,4]}}"#);
    assert_eq!(run.status("join"), TaskStatus::Ready);
}

#[test]
fn b2_missing_key_error_names_parallel_tasks_that_wrote_the_key() {
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
