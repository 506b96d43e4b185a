//! Cases for the recorded steps of tasks.

use cloacina::store::{Advance, Batch, StoreError};
use cloacina::types::{
    ExecutionRecord, ExecutionStatus, Json, StepChanges, StepDrop, StepKind, StepRecord,
};

use crate::world::{NOW, SECOND, Subject, World};

fn step(key: &str, position: u32, value: &str) -> StepRecord {
    StepRecord {
        key: key.to_owned(),
        position,
        kind: StepKind::Step,
        attempt: 1,
        started_at: NOW,
        ended_at: NOW + SECOND,
        value: Json::parse(value).unwrap(),
    }
}

fn recorded(steps: &[(u32, StepRecord)]) -> StepChanges {
    StepChanges {
        recorded: steps.to_vec(),
        dropped: Vec::new(),
    }
}

/// Writes changed steps with a change of their execution. Returns whether the change was applied.
fn write(
    world: &World,
    record: &mut ExecutionRecord,
    changes: &StepChanges,
) -> Result<bool, StoreError> {
    let expected = record.revision;
    record.revision += 1;
    let advance = Advance {
        record,
        expected,
        tasks: Vec::new(),
        history: &[],
        requires: &[],
        steps: Some(changes),
    };
    let committed = world.store.commit(&Batch {
        advances: vec![advance],
        ..world.batch()
    })?;
    Ok(committed.advances[0])
}

pub fn steps_are_read_back_by_task_in_order(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.running();
    world.submit(&record);
    let big = format!("\"{}\"", "ü\\n".repeat(50_000));
    let steps = [
        (0, step("b", 0, "null")),
        (1, step("a", 0, "123456789012345678901234567890")),
        (0, step("a#2", 1, &big)),
        (
            0,
            StepRecord {
                kind: StepKind::Wait,
                attempt: 7,
                ..step("ünïcode '\"", 2, r#"{"k":[1.10,true]}"#)
            },
        ),
    ];
    assert!(write(&world, &mut record, &recorded(&steps[..1])).unwrap());
    assert!(write(&world, &mut record, &recorded(&steps[1..])).unwrap());
    let [first, second, third, fourth] = steps;
    let all = [first, third, fourth, second.clone()];
    assert_eq!(world.store.steps(record.id, None).unwrap(), all);
    assert_eq!(world.store.steps(record.id, Some(1)).unwrap(), [second]);
    assert_eq!(world.store.steps(record.id, Some(9)).unwrap(), []);
    assert_eq!(world.load(record.id).revision, 3);
}

pub fn t8_step_with_a_stale_revision_is_not_written(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.running();
    world.submit(&record);
    record.revision = 5;
    let changes = recorded(&[(0, step("a", 0, "1"))]);
    assert!(!write(&world, &mut record, &changes).unwrap());
    assert_eq!(world.store.steps(record.id, None).unwrap(), []);
}

pub fn t8_dead_runners_step_is_refused(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.running();
    world.submit(&record);
    let lease = NOW + 15 * SECOND;
    assert!(world.store.declare_dead(world.runner, lease, NOW).unwrap());
    let changes = recorded(&[(0, step("a", 0, "1"))]);
    let refused = write(&world, &mut record, &changes);
    assert_eq!(refused, Err(StoreError::RunnerLost));
    assert_eq!(world.store.steps(record.id, None).unwrap(), []);
}

pub fn a_step_written_again_is_stored_once(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.running();
    world.submit(&record);
    let changes = recorded(&[(0, step("a", 0, "1"))]);
    assert!(write(&world, &mut record, &changes).unwrap());
    assert!(write(&world, &mut record, &changes).unwrap());
    assert_eq!(
        world.store.steps(record.id, None).unwrap(),
        changes.recorded
    );
}

pub fn t6_steps_from_a_position_on_are_dropped(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.running();
    world.submit(&record);
    let steps = [
        (0, step("a", 0, "1")),
        (0, step("b", 1, "2")),
        (0, step("c", 2, "3")),
        (1, step("a", 0, "4")),
    ];
    assert!(write(&world, &mut record, &recorded(&steps)).unwrap());
    let drop = |task, from| StepChanges {
        recorded: Vec::new(),
        dropped: vec![StepDrop::from(task, from)],
    };
    assert!(write(&world, &mut record, &drop(0, 1)).unwrap());
    let [first, _, _, last] = steps;
    assert_eq!(
        world.store.steps(record.id, None).unwrap(),
        [first.clone(), last]
    );
    assert!(write(&world, &mut record, &drop(1, 0)).unwrap());
    assert_eq!(world.store.steps(record.id, None).unwrap(), [first]);
}

pub fn pruning_deletes_steps(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.running();
    world.submit(&record);
    let changes = recorded(&[(0, step("a", 0, "1"))]);
    assert!(write(&world, &mut record, &changes).unwrap());
    assert!(world.finish(&mut record, ExecutionStatus::Completed, NOW));
    assert_eq!(world.store.prune(NOW + SECOND, 10).unwrap().executions, 1);
    assert_eq!(world.store.steps(record.id, None).unwrap(), []);
}
