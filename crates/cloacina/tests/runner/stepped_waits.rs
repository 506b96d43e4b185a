//! Tests of waits, with coordinators that the test steps by hand (semantics D5, L14).

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runtime::{Message, Registration, SubmitRequest};
use cloacina::store::Store;
use cloacina::types::{Clock, Condition, ExecutionStatus};
use cloacina::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

use super::stepped::{MILLISECOND, SECOND, SteppedRunner};
use super::support::{config, request};
use super::waits::{node, signal};

fn register(runner: &mut SteppedRunner, name: &str, tasks: Vec<TaskDefinition>) {
    let definition = WorkflowDefinition {
        name: name.into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    };
    runner.step(Message::Register {
        registration: Registration {
            workflow: Arc::new(Workflow::new(definition).unwrap()),
            handlers: BTreeMap::new(),
        },
        reply: Box::new(|registered| registered.unwrap()),
    });
}

#[test]
fn d5_deadline_of_a_waiting_execution_survives_a_restart() {
    let mut first = SteppedRunner::new(config());
    register(
        &mut first,
        "slow",
        vec![node("go", &[], signal("go", None))],
    );
    let id = first.submit(SubmitRequest {
        timeout: Some(3_600 * SECOND),
        ..request("slow")
    });
    // The first runner stops making steps, and a second runner continues.
    let mut second = first.peer(config());
    for _ in 0..10 {
        second.pass(SECOND);
    }
    assert_eq!(second.status(id), ExecutionStatus::Running);
    let deadline = second.clock.monotonic() + 3_600 * SECOND;
    assert!(second.coordinator.step(Vec::new()) <= deadline);
    second.pass(3_600 * SECOND);
    second.pass(MILLISECOND);
    assert_eq!(second.status(id), ExecutionStatus::Failed);
}

#[test]
fn l14_all_timers_of_many_executions_fire() {
    let mut runner = SteppedRunner::new(config());
    let delay = || Condition::Delay { duration: SECOND };
    let timers = ["a", "b", "c"].map(|id| node(id, &[], delay()));
    register(&mut runner, "timers", timers.to_vec());
    let ids: Vec<_> = (0..200).map(|_| runner.submit(request("timers"))).collect();
    runner.pass(2 * SECOND);
    for _ in 0..20 {
        runner.pass(MILLISECOND);
    }
    let states = runner.store.statuses(&ids).unwrap();
    let left = states
        .iter()
        .filter(|(_, status)| *status != ExecutionStatus::Completed);
    assert_eq!(left.count(), 0);
}

#[test]
fn l14_unreadable_executions_do_not_block_other_timers() {
    let mut first = SteppedRunner::new(config());
    let delay = || Condition::Delay { duration: SECOND };
    let timers = ["a", "b", "c"].map(|id| node(id, &[], delay()));
    register(&mut first, "blocked", timers.to_vec());
    let ids: Vec<_> = (0..401).map(|_| first.submit(request("blocked"))).collect();
    let mut second = first.peer(config());
    register(&mut second, "blocked", timers.to_vec());
    // These 400 executions have the timers that are due first.
    second.faulty.unreadable.lock().extend(&ids[..400]);
    drop(first.coordinator);
    second.pass(2 * SECOND);
    for _ in 0..20 {
        second.pass(MILLISECOND);
    }
    assert_eq!(second.status(ids[400]), ExecutionStatus::Completed);
    let due = second.coordinator.step(Vec::new());
    assert!(
        due > second.clock.monotonic(),
        "the coordinator does not pause between steps"
    );
}
