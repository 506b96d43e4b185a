//! Tests of child executions on real databases (semantics M).

use std::collections::BTreeMap;

use cloacina::runner::{EngineHandle, ListFilter};
use cloacina::runtime::Control;
use cloacina::types::{
    ChildSpec, ExecutionId, ExecutionStatus, ParentEnd, RetryPolicy, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, TaskKind};

use super::support::{
    Body, Counter, body, config, done, on_each_database, start, task, until, wait, wrote,
};
use super::waits::{define, new_signal, signal, waits, with_input};

fn child(id: &str, dependencies: &[&str], workflow: &str) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Engine,
        result: Some(id.to_owned()),
        child: Some(ChildSpec {
            workflow: workflow.to_owned(),
            ..ChildSpec::default()
        }),
        retry: RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        },
        ..task(id, dependencies)
    }
}

fn fails() -> Body {
    body(|_| super::support::failed("broken"))
}

fn submit(engine: &EngineHandle, name: &str, input: &str) -> ExecutionId {
    engine.submit(vec![with_input(name, input)]).unwrap()[0]
}

/// Returns the id of a node's child, if the child exists.
fn child_of(engine: &EngineHandle, id: ExecutionId, task: u32) -> Option<ExecutionId> {
    let execution = engine.inspector().execution(id).unwrap();
    execution.node_child(task).map(|child| child.id)
}

fn status(engine: &EngineHandle, id: ExecutionId) -> ExecutionStatus {
    engine.inspector().execution(id).unwrap().record().status
}

#[test]
fn m1_child_runs_and_its_output_is_the_value_of_the_node() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let triple = body(|assignment| {
            let n: i64 = assignment.context.get("n").unwrap().decode().unwrap();
            wrote("tripled", &(3 * n).to_string())
        });
        define(
            &engine,
            "triple",
            vec![(task("a", &[]), Some(triple))],
            vec![],
        );
        let node = TaskDefinition {
            child: Some(ChildSpec {
                workflow: "triple".into(),
                input: Some(BTreeMap::from([("n".to_owned(), "order.count".to_owned())])),
                ..ChildSpec::default()
            }),
            ..child("tripled", &[], "triple")
        };
        let reads = body(|assignment| {
            let value = assignment.context.get("tripled").unwrap().to_string();
            wrote("read", &value)
        });
        define(
            &engine,
            "order",
            vec![(node, None), (task("b", &["tripled"]), Some(reads))],
            vec![],
        );
        let id = submit(&engine, "order", r#"{"order":{"count":7}}"#);
        // M1: the child of a node without dependencies exists when `submit` returns.
        let child = child_of(&engine, id, 0).unwrap();
        let end = wait(&engine, id);
        assert_eq!(end.record().status, ExecutionStatus::Completed);
        let context = cloacina::engine::output(end.workflow(), end.record());
        assert!(
            context.as_str().contains(r#""read":{"n":7,"tripled":21}"#),
            "{context}"
        );
        assert_eq!(status(&engine, child), ExecutionStatus::Completed);
        // M8: by default a list contains only executions without a parent.
        let list = |children: bool| {
            let filter = ListFilter {
                children,
                limit: 10,
                ..ListFilter::default()
            };
            engine.inspector().list(&filter).unwrap().items.len()
        };
        assert_eq!((list(false), list(true)), (1, 2));
    });
}

#[test]
fn m6_retry_of_the_parent_reruns_a_failed_child_in_place() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let runs = Counter::default();
        let counted = runs.clone();
        let flaky = body(move |_| {
            counted.hit();
            if counted.get() == 1 {
                super::support::failed("broken")
            } else {
                done()
            }
        });
        define(
            &engine,
            "inner",
            vec![(task("a", &[]), Some(flaky))],
            vec![],
        );
        define(
            &engine,
            "outer",
            vec![(child("c", &[], "inner"), None)],
            vec![],
        );
        let id = submit(&engine, "outer", "{}");
        let end = wait(&engine, id);
        assert_eq!(end.record().status, ExecutionStatus::Failed);
        let error = end.task(0).error.clone().unwrap();
        assert_eq!(error.kind, "ChildFailedError");
        let first = child_of(&engine, id, 0).unwrap();
        assert!(
            error.message.contains(&first.to_string()),
            "{}",
            error.message
        );
        engine
            .control(id, Control::Retry { from_task: None })
            .unwrap();
        let end = wait(&engine, id);
        assert_eq!(end.record().status, ExecutionStatus::Completed);
        assert_eq!(child_of(&engine, id, 0), Some(first));
        engine
            .control(
                id,
                Control::Retry {
                    from_task: Some("c".into()),
                },
            )
            .unwrap();
        assert_eq!(
            wait(&engine, id).record().status,
            ExecutionStatus::Completed
        );
        assert_ne!(child_of(&engine, id, 0), Some(first));
        assert_eq!(runs.get(), 3);
    });
}

#[test]
fn m4_cancel_and_pause_reach_open_children() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let waiting = (waits("a", &[], signal("go", None)), Some(body(|_| done())));
        define(&engine, "inner", vec![waiting], vec![]);
        let kept = TaskDefinition {
            child: Some(ChildSpec {
                workflow: "inner".into(),
                on_parent_end: ParentEnd::Abandon,
                ..ChildSpec::default()
            }),
            ..child("kept", &[], "inner")
        };
        define(
            &engine,
            "outer",
            vec![(child("c", &[], "inner"), None), (kept, None)],
            vec![],
        );
        let id = submit(&engine, "outer", "{}");
        let (own, kept) = (
            child_of(&engine, id, 0).unwrap(),
            child_of(&engine, id, 1).unwrap(),
        );
        engine.control(kept, Control::Pause).unwrap();
        engine.control(id, Control::Pause).unwrap();
        until("the child is paused", || {
            status(&engine, own) == ExecutionStatus::Paused
        });
        engine.control(id, Control::Resume).unwrap();
        until("the child is resumed", || {
            status(&engine, own) != ExecutionStatus::Paused
        });
        // The parent resumes only the child that it paused itself.
        assert_eq!(status(&engine, kept), ExecutionStatus::Paused);
        engine.control(kept, Control::Resume).unwrap();
        engine.control(id, Control::Cancel).unwrap();
        until("the child is cancelled", || {
            status(&engine, own) == ExecutionStatus::Cancelled
        });
        engine.send(vec![new_signal("go", None, "1")]).unwrap();
        assert_eq!(
            wait(&engine, kept).record().status,
            ExecutionStatus::Completed
        );
    });
}

#[test]
fn m3_cancel_of_a_child_alone_fails_its_node() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let waiting = (waits("a", &[], signal("go", None)), Some(body(|_| done())));
        define(&engine, "inner", vec![waiting], vec![]);
        define(
            &engine,
            "outer",
            vec![(child("c", &[], "inner"), None)],
            vec![],
        );
        let id = submit(&engine, "outer", "{}");
        let own = child_of(&engine, id, 0).unwrap();
        engine.control(own, Control::Cancel).unwrap();
        let end = wait(&engine, id);
        assert_eq!(end.record().status, ExecutionStatus::Failed);
        assert!(
            end.task(0)
                .error
                .as_ref()
                .unwrap()
                .message
                .ends_with("was cancelled")
        );
    });
}

#[test]
fn m7_node_waits_until_its_workflow_is_defined() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "outer",
            vec![(child("c", &[], "later"), None)],
            vec![],
        );
        let id = submit(&engine, "outer", "{}");
        until("the node waits", || {
            let execution = engine.inspector().execution(id).unwrap();
            execution.task(0).status == TaskStatus::Waiting
        });
        assert_eq!(child_of(&engine, id, 0), None);
        define(
            &engine,
            "later",
            vec![(task("a", &[]), Some(body(|_| done())))],
            vec![],
        );
        assert_eq!(
            wait(&engine, id).record().status,
            ExecutionStatus::Completed
        );
    });
}

#[test]
fn m5_retry_policy_of_a_node_starts_new_children() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "inner",
            vec![(task("a", &[]), Some(fails()))],
            vec![],
        );
        let node = TaskDefinition {
            retry: RetryPolicy {
                max_attempts: 3,
                initial_delay: 1000,
                ..RetryPolicy::default()
            },
            ..child("c", &[], "inner")
        };
        define(&engine, "outer", vec![(node, None)], vec![]);
        let id = submit(&engine, "outer", "{}");
        let end = wait(&engine, id);
        assert_eq!(end.record().status, ExecutionStatus::Failed);
        let filter = ListFilter {
            children: true,
            limit: 10,
            ..ListFilter::default()
        };
        assert_eq!(engine.inspector().list(&filter).unwrap().items.len(), 4);
    });
}

#[test]
fn m1_output_of_a_child_reaches_the_root_through_four_levels() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "d",
            vec![(task("a", &[]), Some(body(|_| wrote("x", "1"))))],
            vec![],
        );
        for (name, inner) in [("c", "d"), ("b", "c"), ("a", "b")] {
            define(
                &engine,
                name,
                vec![(child("inner", &[], inner), None)],
                vec![],
            );
        }
        let ids: Vec<ExecutionId> = (0..4).map(|_| submit(&engine, "a", "{}")).collect();
        for id in ids {
            let end = wait(&engine, id);
            assert_eq!(end.record().status, ExecutionStatus::Completed);
            let output = cloacina::engine::output(end.workflow(), end.record());
            assert!(output.as_str().contains(r#""x":1"#), "{output}");
        }
    });
}

#[test]
fn m8_prune_deletes_children_with_their_root() {
    on_each_database(|open| {
        let store = open();
        let engine = start(store.clone(), config());
        define(
            &engine,
            "inner",
            vec![(task("a", &[]), Some(body(|_| done())))],
            vec![],
        );
        let held = (
            waits("b", &["c"], signal("go", None)),
            Some(body(|_| done())),
        );
        define(
            &engine,
            "outer",
            vec![(child("c", &[], "inner"), None), held],
            vec![],
        );
        let id = submit(&engine, "outer", "{}");
        let own = child_of(&engine, id, 0).unwrap();
        wait(&engine, own);
        let later = Timestamp(i64::MAX / 2);
        assert_eq!(store.prune(later, 100).unwrap().executions, 0);
        engine.send(vec![new_signal("go", None, "1")]).unwrap();
        wait(&engine, id);
        while store.prune(later, 100).unwrap().executions > 0 {}
        assert!(store.load(&[id, own]).unwrap().is_empty());
    });
}
