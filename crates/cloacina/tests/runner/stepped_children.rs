//! Tests of ended children, with coordinators that the test steps by hand (semantics M).

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runtime::{Control, Executor, Handler, Message, Registration};
use cloacina::store::{InboxMessage, Store, StoreError};
use cloacina::types::{ChildSpec, Clock, ExecutionId, ExecutionStatus, InboxId, TaskStatus};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

use super::stepped::{SECOND, SteppedRunner};
use super::support::{config, done, request, task};

/// Registers the workflow `parent`: a node that runs the workflow `w`, and a task that depends on the node.
fn register(runner: &mut SteppedRunner) {
    let node = TaskDefinition {
        kind: TaskKind::Engine,
        result: Some("node".to_owned()),
        child: Some(ChildSpec {
            workflow: "w".to_owned(),
            ..ChildSpec::default()
        }),
        ..task("node", &[])
    };
    let after = TaskDefinition {
        kind: TaskKind::Sync,
        ..task("after", &["node"])
    };
    let definition = WorkflowDefinition {
        name: "parent".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![node, after],
        ..WorkflowDefinition::default()
    };
    let handler = Handler {
        executor: Executor::Threads,
        token: 0,
        on_success: false,
        on_failure: false,
    };
    runner.step(Message::Register {
        registration: Registration {
            workflow: Arc::new(Workflow::new(definition).unwrap()),
            handlers: BTreeMap::from([("after".to_owned(), handler)]),
        },
        reply: Box::new(|registered| registered.unwrap()),
    });
}

fn node_status(runner: &SteppedRunner, parent: ExecutionId) -> TaskStatus {
    runner.task(parent).status
}

fn inbox_size(runner: &SteppedRunner) -> usize {
    let due = runner.store.due_waits(cloacina::types::Timestamp(0), 10);
    due.unwrap().inbox.len()
}

#[test]
fn m3_parent_continues_in_the_turn_that_ends_its_child() {
    let mut runner = SteppedRunner::new(config());
    register(&mut runner);
    let parent = runner.submit(request("parent"));
    let child = runner.start_next().unwrap();
    let id = child.1.execution;
    assert_ne!(id, parent);
    runner.finish(child, done());
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
    assert_eq!(node_status(&runner, parent), TaskStatus::Completed);
    assert_eq!(inbox_size(&runner), 0);
    let after = runner.start_next().unwrap();
    assert_eq!(after.1.execution, parent);
    runner.finish(after, done());
    assert_eq!(runner.status(parent), ExecutionStatus::Completed);
}

#[test]
fn m3_concurrently_changed_parent_gets_a_message_about_the_end() {
    let mut runner = SteppedRunner::new(config());
    register(&mut runner);
    let parent = runner.submit(request("parent"));
    let child = runner.start_next().unwrap();
    // Another process changes the parent between the read and the commit of the turn.
    let others = runner.others.clone();
    let paused = std::sync::atomic::AtomicBool::new(false);
    runner.refuse(move |batch| {
        let changes_parent = batch.advances.iter().any(|one| !one.requires.is_empty());
        if changes_parent && !paused.swap(true, std::sync::atomic::Ordering::SeqCst) {
            others.control(parent, &Control::Pause).unwrap();
        }
        None
    });
    let id = child.1.execution;
    runner.finish(child, done());
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
    assert_eq!(runner.status(parent), ExecutionStatus::Paused);
    // One message tells the parent that the child has ended. The other message tells the child to pause.
    assert_eq!(inbox_size(&runner), 2);
    runner.pass(1);
    runner.control(parent, Control::Resume);
    for _ in 0..3 {
        runner.pass(1);
    }
    assert_eq!(inbox_size(&runner), 0);
    assert_eq!(node_status(&runner, parent), TaskStatus::Completed);
}

#[test]
fn m3_child_ends_although_the_database_refuses_its_parent() {
    let mut runner = SteppedRunner::new(config());
    register(&mut runner);
    let parent = runner.submit(request("parent"));
    let child = runner.start_next().unwrap();
    runner.refuse(move |batch| {
        let is_parent = batch.advances.iter().any(|one| one.record.id == parent);
        is_parent.then(|| StoreError::Refused("no such character".to_owned()))
    });
    let id = child.1.execution;
    runner.finish(child, done());
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
    runner.refuse(|_| None);
    for _ in 0..40 {
        runner.pass(SECOND);
    }
    assert_eq!(node_status(&runner, parent), TaskStatus::Completed);
}

#[test]
fn m3_child_is_cancelled_although_the_database_refuses_its_parent() {
    let mut runner = SteppedRunner::new(config());
    register(&mut runner);
    let parent = runner.submit(request("parent"));
    let child = runner.start_next().unwrap();
    let id = child.1.execution;
    let other = runner.submit(request("w"));
    runner.refuse(move |batch| {
        let is_parent = batch.advances.iter().any(|one| one.record.id == parent);
        is_parent.then(|| StoreError::Refused("no such character".to_owned()))
    });
    // The child is cancelled by an inbox message, so the batch that the database refuses contains no request of a caller.
    let cancel = InboxMessage {
        id: InboxId::generate(),
        kind: "cancel".to_owned(),
        target: Some(id.to_string()),
        body: None,
        created_at: runner.clock.now(),
        note: None,
    };
    runner.store.post(&cancel).unwrap();
    runner.step(Message::Watch);
    for _ in 0..40 {
        runner.pass(SECOND);
    }
    assert_eq!(runner.status(id), ExecutionStatus::Cancelled);
    // Other executions continue while the database refuses the parent.
    let next = runner.start_next().unwrap();
    assert_eq!(next.1.execution, other);
    runner.finish(next, done());
    assert_eq!(runner.status(other), ExecutionStatus::Completed);
}
