//! Tests of the engine's rules about child executions. Most test names begin with the number of the tested rule in the
//! semantics.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::engine::{Changes, ChildFound, ChildStart, Execution, NewExecution};
use cloacina::types::{
    ChildEnd, ChildSpec, Context, DefinitionId, ExecutionId, ExecutionStatus, Json,
    MAX_CHILD_DEPTH, MapSpec, Note, ParentEnd, ParentLink, RetryPolicy, RunnerId, TaskStatus,
    Timestamp,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

/// One second, in microseconds.
const SECOND: i64 = 1_000_000;
const NOW: Timestamp = Timestamp(100 * SECOND);

/// Returns a node that runs a child.
fn node(id: &str, spec: ChildSpec) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        kind: TaskKind::Engine,
        child: Some(spec),
        retry: RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    }
}

/// Returns the settings of a node that runs the workflow `inner`.
fn inner() -> ChildSpec {
    ChildSpec {
        workflow: "inner".into(),
        ..ChildSpec::default()
    }
}

fn workflow(name: &str, tasks: Vec<TaskDefinition>) -> WorkflowDefinition {
    WorkflowDefinition {
        name: name.into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    }
}

/// Returns a workflow with one task.
fn plain(name: &str) -> Arc<Workflow> {
    let task = TaskDefinition {
        id: "a".into(),
        ..TaskDefinition::default()
    };
    Arc::new(Workflow::new(workflow(name, vec![task])).unwrap())
}

fn new(input: &str) -> NewExecution {
    NewExecution {
        id: ExecutionId::generate(),
        definition: DefinitionId(1),
        input: Arc::new(Context::from_json(input).unwrap()),
        key: None,
        priority: 5,
        start_at: None,
        timeout: None,
    }
}

fn submit(node: TaskDefinition, input: &str) -> (Execution, Changes) {
    let outer = Arc::new(Workflow::new(workflow("outer", vec![node])).unwrap());
    Execution::submit(outer, new(input), NOW)
}

/// Returns the workflow `inner` as a runner finds it in the database.
fn found() -> ChildFound {
    ChildFound {
        definition: DefinitionId(2),
        workflow: plain("inner"),
        default_timeout: None,
    }
}

/// Starts the child of the parent's only node, as a runner does.
fn start(parent: &mut Execution) -> ChildStart {
    let mut changes = Changes::default();
    parent
        .start_child(0, &found(), ExecutionId::generate(), NOW, &mut changes)
        .unwrap()
}

/// Returns the end of a child. A completed child has the output 7.
fn ended(child: ExecutionId, status: ExecutionStatus) -> ChildEnd {
    ChildEnd {
        child,
        item: None,
        number: None,
        task: 0,
        status,
        output: (status == ExecutionStatus::Completed).then(|| Json::parse("7").unwrap()),
        error: None,
    }
}

#[test]
fn m0_child_gets_the_values_at_the_paths_of_its_input() {
    let spec = ChildSpec {
        input: Some(BTreeMap::from([("order".into(), "cart.id".into())])),
        ..inner()
    };
    let (mut parent, changes) = submit(node("c", spec.clone()), r#"{"cart":{"id":3}}"#);
    assert_eq!(changes.flow.starts.len(), 1);
    assert_eq!(start(&mut parent).new.input.to_json(), r#"{"order":3}"#);
    let (parent, changes) = submit(node("c", spec), "{}");
    assert!(changes.flow.starts.is_empty());
    assert_eq!(parent.task(0).status, TaskStatus::Failed);
    let message = &parent.task(0).error.as_ref().unwrap().message;
    assert!(message.contains("from the path 'cart.id'"), "{message}");
}

#[test]
fn m2_node_starts_one_child() {
    let (mut parent, _) = submit(node("c", inner()), "{}");
    let first = start(&mut parent);
    assert_eq!((first.parent.generation, first.parent.task), (1, 0));
    let mut changes = Changes::default();
    assert!(
        parent
            .start_child(0, &found(), ExecutionId::generate(), NOW, &mut changes)
            .is_none()
    );
    assert_eq!(changes, Changes::default());
}

#[test]
fn m3_cancelled_or_timed_out_child_notifies_its_parent() {
    let (mut parent, _) = submit(node("c", inner()), "{}");
    let link = start(&mut parent).parent;
    let notifies = |changes: &Changes, status: ExecutionStatus| {
        matches!(changes.flow.posts.as_slice(), [post]
            if matches!(&post.note, Note::ChildEnded(end) if end.status == status))
    };
    let submit_child = || {
        let child = NewExecution {
            timeout: Some(SECOND),
            ..new("{}")
        };
        let (child, _) =
            Execution::submit_child(plain("inner"), child, Some(Arc::clone(&link)), NOW);
        child
    };
    let cancelled = submit_child().cancel(NOW).unwrap();
    assert!(notifies(&cancelled, ExecutionStatus::Cancelled));
    let mut child = submit_child();
    let runner = cloacina::types::RunnerId::generate();
    let mut changes = Changes::default();
    let claim = child.claim(0, runner, NOW, &mut changes).unwrap();
    let _ = child.start(0, claim, NOW);
    let timed_out = child.time_out(NOW + 2 * SECOND);
    assert!(notifies(&timed_out, ExecutionStatus::Failed));
}

#[test]
fn m3_unknown_or_repeated_child_end_changes_nothing() {
    let (mut parent, _) = submit(node("c", inner()), "{}");
    let child = start(&mut parent).new.id;
    let other = ended(ExecutionId::generate(), ExecutionStatus::Completed);
    assert_eq!(parent.child_ended(other, NOW, 0.5), Changes::default());
    let end = ended(child, ExecutionStatus::Completed);
    let changes = parent.child_ended(end.clone(), NOW, 0.5);
    assert!(changes.ended);
    assert_eq!(parent.record().status, ExecutionStatus::Completed);
    assert_eq!(parent.child_ended(end, NOW, 0.5), Changes::default());
}

#[test]
fn m4_open_children_are_cancelled_or_abandoned_when_the_parent_ends() {
    for (on_parent_end, count) in [(ParentEnd::Cancel, 1), (ParentEnd::Abandon, 0)] {
        let spec = ChildSpec {
            on_parent_end,
            ..inner()
        };
        let (mut parent, _) = submit(node("c", spec), "{}");
        let child = start(&mut parent).new.id;
        let posts = parent.cancel(NOW).unwrap().flow.posts.clone();
        assert_eq!(posts.len(), count);
        assert!(
            posts
                .iter()
                .all(|post| post.target == child && post.note == Note::Cancel)
        );
    }
}

#[test]
fn m4_parent_resumes_only_children_that_it_paused() {
    let (mut parent, _) = submit(node("c", inner()), "{}");
    let start = start(&mut parent);
    let (mut child, _) =
        Execution::submit_child(plain("inner"), start.new, Some(start.parent), NOW);
    assert_eq!(parent.pause(NOW).unwrap().flow.posts[0].note, Note::Pause);
    assert!(child.hear_parent(&Note::Pause, NOW).flow.link);
    assert_eq!(child.record().status, ExecutionStatus::Paused);
    assert_eq!(parent.resume(NOW).unwrap().flow.posts[0].note, Note::Resume);
    assert!(child.hear_parent(&Note::Resume, NOW).flow.link);
    assert_eq!(child.record().status, ExecutionStatus::Pending);
    child.pause(NOW).unwrap();
    assert_eq!(child.hear_parent(&Note::Pause, NOW), Changes::default());
    assert_eq!(child.hear_parent(&Note::Resume, NOW), Changes::default());
    assert_eq!(child.record().status, ExecutionStatus::Paused);
}

#[test]
fn m4_child_end_during_a_pause_takes_effect_at_the_resume() {
    let (mut parent, _) = submit(node("c", inner()), "{}");
    let child = start(&mut parent).new.id;
    parent.pause(NOW).unwrap();
    parent.child_ended(ended(child, ExecutionStatus::Completed), NOW, 0.5);
    assert_eq!(parent.record().status, ExecutionStatus::Paused);
    parent.resume(NOW).unwrap();
    assert_eq!(parent.due_waits(NOW), [0]);
    assert!(parent.look(0, &[], NOW).ended);
    assert_eq!(parent.record().status, ExecutionStatus::Completed);
}

#[test]
fn m4_child_inherits_the_parents_priority_and_remaining_timeout() {
    let outer = Arc::new(Workflow::new(workflow("outer", vec![node("c", inner())])).unwrap());
    let limited = NewExecution {
        timeout: Some(10 * SECOND),
        ..new("{}")
    };
    let (mut parent, _) = Execution::submit(outer, limited, NOW);
    let child = start(&mut parent).new;
    assert_eq!((child.priority, child.timeout), (5, Some(10 * SECOND)));
}

#[test]
fn m5_unsuccessful_child_fails_or_retries_its_node() {
    let (mut parent, _) = submit(node("c", inner()), "{}");
    let child = start(&mut parent).new.id;
    parent.child_ended(ended(child, ExecutionStatus::Cancelled), NOW, 0.5);
    assert_eq!(
        parent.task(0).error.as_ref().unwrap().kind,
        "ChildFailedError"
    );
    let retried = TaskDefinition {
        retry: RetryPolicy {
            max_attempts: 2,
            ..RetryPolicy::default()
        },
        ..node("c", inner())
    };
    let (mut parent, _) = submit(retried, "{}");
    let child = start(&mut parent).new.id;
    parent.child_ended(ended(child, ExecutionStatus::Failed), NOW, 0.5);
    assert!(!parent.record().status.is_terminal());
    let due = parent.task(0).ready_at.unwrap();
    assert!(due > NOW);
    assert_eq!(parent.look(0, &[], due).flow.starts.len(), 1);
    let second = start(&mut parent);
    assert_eq!(second.parent.generation, 2);
    parent.child_ended(ended(second.new.id, ExecutionStatus::Failed), NOW, 0.5);
    assert_eq!(parent.record().status, ExecutionStatus::Failed);
}

#[test]
fn m6_retry_reruns_a_failed_child_and_replaces_a_cancelled_one() {
    for (status, starts, posts) in [
        (ExecutionStatus::Failed, 0, 1),
        (ExecutionStatus::Cancelled, 1, 0),
    ] {
        let (mut parent, _) = submit(node("c", inner()), "{}");
        let child = start(&mut parent).new.id;
        parent.child_ended(ended(child, status), NOW, 0.5);
        let changes = parent.retry(None, NOW).unwrap();
        assert_eq!(
            (changes.flow.starts.len(), changes.flow.posts.len()),
            (starts, posts)
        );
        if posts == 1 {
            assert_eq!(changes.flow.posts[0].note, Note::Retry);
            let end = ended(child, ExecutionStatus::Completed);
            assert!(parent.child_ended(end, NOW, 0.5).ended);
        }
    }
}

#[test]
fn m6_child_that_cannot_be_retried_reports_its_end_again() {
    let (mut parent, _) = submit(node("c", inner()), "{}");
    let start = start(&mut parent);
    let (mut child, _) =
        Execution::submit_child(plain("inner"), start.new, Some(start.parent), NOW);
    child.cancel(NOW).unwrap();
    let changes = child.hear_parent(&Note::Retry, NOW);
    assert!(matches!(changes.flow.posts[0].note, Note::ChildEnded(_)));
}

#[test]
fn m4_retried_child_has_its_own_default_timeout() {
    let outer = Arc::new(Workflow::new(workflow("outer", vec![node("c", inner())])).unwrap());
    let limited = NewExecution {
        timeout: Some(60 * SECOND),
        ..new("{}")
    };
    let (mut parent, _) = Execution::submit(outer, limited, NOW);
    let found = ChildFound {
        default_timeout: Some(300 * SECOND),
        ..found()
    };
    let (later, id) = (NOW + 59 * SECOND, ExecutionId::generate());
    let mut changes = Changes::default();
    let start = parent.start_child(0, &found, id, later, &mut changes);
    let start = start.unwrap();
    assert_eq!(
        start.new.timeout,
        Some(SECOND),
        "the child gets the remaining time of its parent"
    );
    let (mut child, _) =
        Execution::submit_child(plain("inner"), start.new, Some(start.parent), later);
    let runner = RunnerId::generate();
    let claim = child.claim(0, runner, later, &mut changes).unwrap();
    child.start(0, claim, later);
    child.time_out(later + SECOND);
    assert_eq!(child.record().status, ExecutionStatus::Failed);
    assert!(child.hear_parent(&Note::Retry, later + SECOND).flow.link);
    let stored = Execution::restore(plain("inner"), child.record().clone()).unwrap();
    assert_eq!(stored.record().timeout, Some(300 * SECOND));
    assert_eq!(child.record().timeout, Some(300 * SECOND));
}

#[test]
fn m4_retried_parent_gets_a_new_deadline() {
    let outer = Arc::new(Workflow::new(workflow("outer", vec![node("c", inner())])).unwrap());
    let limited = NewExecution {
        timeout: Some(60 * SECOND),
        ..new("{}")
    };
    let (mut parent, _) = Execution::submit(outer, limited, NOW);
    let start = start(&mut parent);
    parent.child_ended(ended(start.new.id, ExecutionStatus::Failed), NOW, 0.5);
    let later = NOW + 100 * SECOND;
    parent.retry(None, later).unwrap();
    assert_eq!(parent.record().status, ExecutionStatus::Running);
    assert_eq!(parent.record().deadline, Some(later + 60 * SECOND));
}

#[test]
fn m4_abandoned_child_of_a_paused_parent_is_resumed() {
    let abandoned = ChildSpec {
        on_parent_end: ParentEnd::Abandon,
        ..inner()
    };
    let (mut parent, _) = submit(node("c", abandoned), "{}");
    start(&mut parent);
    parent.pause(NOW).unwrap();
    let changes = parent.cancel(NOW).unwrap();
    assert_eq!(changes.flow.posts.len(), 1);
    assert_eq!(changes.flow.posts[0].note, Note::Resume);
}

#[test]
fn m7_chain_of_children_ends_at_the_maximum_depth() {
    let outer = Arc::new(Workflow::new(workflow("outer", vec![node("c", inner())])).unwrap());
    let link = ParentLink {
        execution: ExecutionId::generate(),
        task: 0,
        generation: 1,
        key: None,
        item: None,
        depth: MAX_CHILD_DEPTH,
        paused: false,
        timeout: None,
        finale: None,
    };
    let (mut last, _) = Execution::submit_child(outer, new("{}"), Some(Arc::new(link)), NOW);
    let mut changes = Changes::default();
    assert!(
        last.start_child(0, &found(), ExecutionId::generate(), NOW, &mut changes)
            .is_none()
    );
    assert_eq!(last.record().status, ExecutionStatus::Failed);
}

#[test]
fn m7_workflow_that_runs_itself_unconditionally_is_refused() {
    let itself = ChildSpec {
        workflow: "outer".into(),
        ..ChildSpec::default()
    };
    let error = Workflow::new(workflow("outer", vec![node("c", itself)])).unwrap_err();
    assert!(
        error.message.contains("without a condition"),
        "{}",
        error.message
    );
}

#[test]
fn m7_workflow_that_runs_itself_once_per_item_is_allowed() {
    let itself = ChildSpec {
        workflow: "outer".into(),
        ..ChildSpec::default()
    };
    let per_item = TaskDefinition {
        over: Some(MapSpec {
            lists: BTreeMap::from([("branch".to_owned(), "branches".to_owned())]),
            ..MapSpec::default()
        }),
        ..node("c", itself)
    };
    // An empty list ends the recursion.
    Workflow::new(workflow("outer", vec![per_item])).unwrap();
}

#[test]
fn m3_only_one_function_ends_an_execution() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.join("engine"), source.join("runtime")];
    let mut ends = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(&path) else {
                folders.push(path);
                continue;
            };
            for line in text.split("#[cfg(test)]").next().unwrap().lines() {
                let sets = |end: &str| {
                    line.contains("record.status = ")
                        && line.contains(&format!("ExecutionStatus::{end}"))
                };
                let sets_end = line.contains("changes.ended = true")
                    || line.contains("record.ended_at = Some")
                    || ["Completed", "Failed", "Cancelled"].into_iter().any(sets);
                if sets_end && !line.trim_start().starts_with("//") {
                    ends.push(path.file_name().unwrap().to_owned());
                }
            }
        }
    }
    // Only `Execution::close` ends an execution and notifies its parent. It contains the only two
    // lines that match.
    assert_eq!(ends, ["control.rs", "control.rs"]);
}

#[test]
fn version_changes_with_the_childs_workflow() {
    let version = |spec: ChildSpec| {
        let workflow = Workflow::new(workflow("outer", vec![node("c", spec)])).unwrap();
        assert_eq!(workflow.definition().needs, ["child"]);
        workflow.version().to_owned()
    };
    let other = ChildSpec {
        workflow: "other".into(),
        ..ChildSpec::default()
    };
    assert_ne!(version(inner()), version(other));
}
