//! Cases for runners: leases, deaths and claims.

use cloacina::types::{ExecutionStatus, RunnerId, TaskStatus};

use crate::world::{NOW, SECOND, Subject, World, register, runner_row};

pub fn a_registered_runner_is_listed_and_can_heartbeat(subject: Subject) {
    let store = subject.store;
    let mut row = runner_row(RunnerId::generate(), NOW);
    "höst".clone_into(&mut row.host);
    row.workflows = vec!["a".to_owned(), "b\"c".to_owned()];
    store.register_runner(&row).unwrap();
    assert_eq!(store.runners().unwrap(), [row.clone()]);
    assert!(store.heartbeat(row.id, NOW + 5, NOW + 20).unwrap());
    let listed = store.runners().unwrap().remove(0);
    // PostgreSQL uses its own clock, so the times may differ by up to a second.
    let lease = listed.lease_until.since(listed.heartbeat_at);
    assert_eq!(lease, 15);
    assert!(listed.heartbeat_at.since(NOW + 5).abs() < SECOND);
    row.heartbeat_at = listed.heartbeat_at;
    row.lease_until = listed.lease_until;
    assert_eq!(listed, row);
    assert!(!store.heartbeat(RunnerId::generate(), NOW, NOW).unwrap());
}

pub fn a_runner_with_an_extended_lease_is_not_declared_dead(subject: Subject) {
    let store = subject.store;
    let id = register(&*store);
    assert!(store.heartbeat(id, NOW + 5, NOW + 20 * SECOND).unwrap());
    assert!(
        !store
            .declare_dead(id, NOW + 15 * SECOND, NOW + 16 * SECOND)
            .unwrap()
    );
    assert!(store.heartbeat(id, NOW + 6, NOW + 21 * SECOND).unwrap());
    assert!(!store.declare_dead(RunnerId::generate(), NOW, NOW).unwrap());
    assert_eq!(store.dead_runners().unwrap(), []);
}

pub fn a_dead_runner_stays_dead(subject: Subject) {
    let store = subject.store;
    let (dead, other) = (register(&*store), register(&*store));
    assert!(
        store
            .declare_dead(dead, NOW + 15 * SECOND, NOW + 16 * SECOND)
            .unwrap()
    );
    assert!(
        !store
            .declare_dead(dead, NOW + 15 * SECOND, NOW + 16 * SECOND)
            .unwrap(),
        "a dead runner is not declared dead again"
    );
    assert!(
        !store
            .heartbeat(dead, NOW + 17 * SECOND, NOW + 32 * SECOND)
            .unwrap()
    );
    assert_eq!(store.dead_runners().unwrap(), [dead]);
    let living: Vec<RunnerId> = store.runners().unwrap().iter().map(|row| row.id).collect();
    assert_eq!(living, [other]);
}

pub fn claims_of_a_runner_include_those_in_paused_executions(subject: Subject) {
    let world = World::new(subject, 2);
    let (running, mut paused, done) = (
        world.running(),
        world.running(),
        world.ended(ExecutionStatus::Completed, NOW),
    );
    world.submit(&running);
    world.submit(&paused);
    world.submit(&world.ready(&[0]));
    paused.status = ExecutionStatus::Paused;
    paused.paused_at = Some(NOW);
    assert!(world.advance(&mut paused, vec![]));
    let other = register(&*world.store);
    assert_eq!(world.store.claims_of(other).unwrap(), []);
    let mut claims = world.store.claims_of(world.runner).unwrap();
    claims.sort_unstable();
    assert_eq!(claims, [running.id, paused.id]);
    assert!(!claims.contains(&done.id));
}

pub fn a_runner_with_claims_cannot_be_retired(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.running();
    world.submit(&record);
    assert!(world.store.retire_runner(world.runner).is_err());
    assert_eq!(world.store.runners().unwrap().len(), 1);
    record.tasks[0].status = TaskStatus::Ready;
    record.tasks[0].attempt = 0;
    record.tasks[0].runner = None;
    assert!(world.advance(&mut record, vec![world.fenced(0, world.runner, 1)]));
    world.store.retire_runner(world.runner).unwrap();
    assert_eq!(world.store.runners().unwrap(), []);
}

pub fn a_retired_runner_is_deleted(subject: Subject) {
    let store = subject.store;
    let (one, two) = (register(&*store), register(&*store));
    store.retire_runner(one).unwrap();
    assert!(!store.heartbeat(one, NOW, NOW).unwrap());
    assert!(store.declare_dead(two, NOW + 15 * SECOND, NOW).unwrap());
    store.retire_runner(two).unwrap();
    assert_eq!(store.dead_runners().unwrap(), []);
    assert_eq!(store.runners().unwrap(), []);
    store.retire_runner(two).unwrap();
}

pub fn registering_a_dead_runner_again_changes_nothing(subject: Subject) {
    let store = subject.store;
    let row = runner_row(RunnerId::generate(), NOW);
    store.register_runner(&row).unwrap();
    assert!(store.declare_dead(row.id, row.lease_until, NOW).unwrap());
    store.register_runner(&row).unwrap();
    assert_eq!(store.runners().unwrap(), []);
    assert_eq!(store.dead_runners().unwrap(), [row.id]);
}
