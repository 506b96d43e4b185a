//! Cases for batches: a batch is atomic, and each advance (a change of a stored execution) applies only to the revision
//! that the writer read.

use std::sync::Arc;

use cloacina::store::{Advance, Batch, StoreError, Submit, SubmitOutcome};
use cloacina::types::{DefinitionId, Delta, ExecutionId, ExecutionStatus, RunnerId, TaskStatus};

use crate::world::{
    NOW, SECOND, Subject, World, as_stored, history, record_of, register, workflow,
};

pub fn an_empty_batch_of_an_unknown_runner_does_nothing(subject: Subject) {
    let world = World::new(subject, 1);
    let batch = Batch {
        runner: RunnerId::generate(),
        ..world.batch()
    };
    assert_eq!(
        world.store.commit(&batch).unwrap(),
        cloacina::store::Committed::default()
    );
}

pub fn duplicate_key_returns_the_first_id(subject: Subject) {
    let world = World::new(subject, 1);
    let mut first = world.ready(&[0]);
    first.key = Some("order-1".to_owned());
    assert_eq!(world.submit(&first), SubmitOutcome::Accepted);
    let mut second = world.ready(&[0]);
    second.key.clone_from(&first.key);
    let events = [history("submitted")];
    let submit = Submit {
        history: &events,
        ..world.submission(&second)
    };
    let committed = world
        .store
        .commit(&Batch {
            submits: vec![submit],
            ..world.batch()
        })
        .unwrap();
    assert_eq!(committed.submits, [SubmitOutcome::Duplicate(first.id)]);
    assert_eq!(world.store.load(&[second.id]).unwrap(), []);
    assert_eq!(world.store.history(second.id).unwrap(), []);
    assert_eq!(
        world.claim(10).len(),
        1,
        "only the first execution has a task"
    );
    // The key stays in use until the execution is deleted, even after its end.
    let mut first = world.load(first.id);
    assert!(world.finish(&mut first, ExecutionStatus::Completed, NOW));
    assert_eq!(world.submit(&second), SubmitOutcome::Duplicate(first.id));
}

pub fn a_duplicate_within_one_batch_returns_the_first_id(subject: Subject) {
    let world = World::new(subject, 1);
    let mut records = [world.ready(&[0]), world.ready(&[0]), world.ready(&[0])];
    for index in [0, 2] {
        records[index].key = Some("same".to_owned());
    }
    let submits = records
        .iter()
        .map(|record| world.submission(record))
        .collect();
    let committed = world
        .store
        .commit(&Batch {
            submits,
            ..world.batch()
        })
        .unwrap();
    let expected = [
        SubmitOutcome::Accepted,
        SubmitOutcome::Accepted,
        SubmitOutcome::Duplicate(records[0].id),
    ];
    assert_eq!(committed.submits, expected);
}

pub fn the_same_key_can_be_used_for_another_workflow(subject: Subject) {
    let world = World::new(subject, 1);
    let other = workflow("other", 1);
    let definition = world.store.put_definition(&other, NOW).unwrap();
    let mut first = world.ready(&[0]);
    first.key = Some("same".to_owned());
    let mut second = record_of(definition, 1, NOW);
    second.key = Some("same".to_owned());
    world.submit(&first);
    let submit = Submit {
        workflow: "other",
        ..world.submission(&second)
    };
    let committed = world
        .store
        .commit(&Batch {
            submits: vec![submit],
            ..world.batch()
        })
        .unwrap();
    assert_eq!(committed.submits, [SubmitOutcome::Accepted]);
}

pub fn a_submission_sent_again_returns_its_own_id(subject: Subject) {
    let world = World::new(subject, 1);
    for key in [None, Some("key".to_owned())] {
        let mut record = world.ready(&[0]);
        record.key = key;
        assert_eq!(world.submit(&record), SubmitOutcome::Accepted);
        assert_eq!(world.submit(&record), SubmitOutcome::Duplicate(record.id));
        assert_eq!(world.load(record.id), as_stored(&record));
    }
}

pub fn a_key_is_free_again_after_pruning(subject: Subject) {
    let world = World::new(subject, 1);
    let mut first = world.running();
    first.key = Some("order-1".to_owned());
    world.submit(&first);
    world.finish(&mut first, ExecutionStatus::Completed, NOW);
    assert_eq!(world.store.prune(NOW + 1, 10).unwrap().executions, 1);
    let mut second = world.ready(&[0]);
    second.key.clone_from(&first.key);
    assert_eq!(world.submit(&second), SubmitOutcome::Accepted);
}

pub fn stale_advance_writes_nothing(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.running();
    world.submit(&record);
    let stale = record.clone();
    record.status = ExecutionStatus::Paused;
    record.paused_at = Some(NOW);
    assert!(world.advance(&mut record, vec![]));

    let mut late = stale;
    late.status = ExecutionStatus::Completed;
    late.tasks[0].status = TaskStatus::Completed;
    late.tasks[1].status = TaskStatus::Ready;
    late.revision = 2;
    let events = [history("late")];
    let tasks = vec![world.fenced(0, world.runner, 1), world.insert(1)];
    let advance = Advance {
        record: &late,
        expected: 1,
        tasks,
        history: &events,
        requires: &[],
        steps: None,
    };
    let committed = world
        .store
        .commit(&Batch {
            advances: vec![advance],
            ..world.batch()
        })
        .unwrap();
    assert_eq!(committed.advances, [false]);
    assert_eq!(world.load(record.id), as_stored(&record));
    assert_eq!(world.store.history(record.id).unwrap(), []);
}

pub fn an_advance_of_an_unknown_execution_writes_nothing(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.ready(&[0]);
    assert!(!world.advance(&mut record, vec![world.insert(0)]));
    assert_eq!(world.store.load(&[record.id]).unwrap(), []);
}

pub fn two_advances_of_one_execution_apply_in_order(subject: Subject) {
    let world = World::new(subject, 1);
    let record = world.ready(&[0]);
    world.submit(&record);
    let mut second = record.clone();
    second.revision = 2;
    second.priority = 0;
    let mut third = second.clone();
    third.revision = 3;
    third.status = ExecutionStatus::Cancelled;
    third.ended_at = Some(NOW);
    third.tasks[0].status = TaskStatus::Cancelled;
    let advances = vec![
        Advance {
            record: &second,
            expected: 1,
            tasks: vec![],
            history: &[],
            requires: &[],
            steps: None,
        },
        Advance {
            record: &third,
            expected: 2,
            tasks: vec![world.update(0)],
            history: &[],
            requires: &[],
            steps: None,
        },
        Advance {
            record: &third,
            expected: 2,
            tasks: vec![world.update(0)],
            history: &[],
            requires: &[],
            steps: None,
        },
    ];
    let committed = world
        .store
        .commit(&Batch {
            advances,
            ..world.batch()
        })
        .unwrap();
    assert_eq!(committed.advances, [true, true, false]);
    assert_eq!(world.load(record.id), as_stored(&third));
}

pub fn one_stale_advance_does_not_affect_others(subject: Subject) {
    let world = World::new(subject, 1);
    let (one, two) = (world.ready(&[0]), world.ready(&[0]));
    world.submit(&one);
    world.submit(&two);
    let mut two = two;
    two.revision = 2;
    two.paused_at = Some(NOW);
    let advances = vec![
        Advance {
            record: &one,
            expected: 9,
            tasks: vec![],
            history: &[],
            requires: &[],
            steps: None,
        },
        Advance {
            record: &two,
            expected: 1,
            tasks: vec![],
            history: &[],
            requires: &[],
            steps: None,
        },
    ];
    let committed = world
        .store
        .commit(&Batch {
            advances,
            ..world.batch()
        })
        .unwrap();
    assert_eq!(committed.advances, [false, true]);
    assert_eq!(world.load(two.id).paused_at, Some(NOW));
}

pub fn a_submitted_execution_advances_in_the_same_batch(subject: Subject) {
    let world = World::new(subject, 1);
    let record = world.ready(&[0]);
    let mut next = record.clone();
    next.revision = 2;
    next.status = ExecutionStatus::Paused;
    let batch = Batch {
        submits: vec![world.submission(&record)],
        advances: vec![Advance {
            record: &next,
            expected: 1,
            tasks: vec![],
            history: &[],
            requires: &[],
            steps: None,
        }],
        ..world.batch()
    };
    assert_eq!(world.store.commit(&batch).unwrap().advances, [true]);
    assert_eq!(world.load(record.id), as_stored(&next));
}

/// E4: a runner that was declared dead finishes its task after another runner has rescued the task.
pub fn late_finish_of_a_lost_claim_is_refused(subject: Subject) {
    let world = World::new(subject, 1);
    let record = world.running();
    world.submit(&record);
    let rescuer = register(&*world.store);
    assert!(
        world
            .store
            .declare_dead(world.runner, NOW + 15 * SECOND, NOW)
            .unwrap()
    );
    let mut rescued = record.clone();
    rescued.tasks[0].status = TaskStatus::Ready;
    rescued.tasks[0].runner = None;
    rescued.tasks[0].rescues = 1;
    rescued.revision = 2;
    let tasks = vec![world.update(0)];
    let advance = Advance {
        record: &rescued,
        expected: 1,
        tasks,
        history: &[],
        requires: &[],
        steps: None,
    };
    let batch = Batch {
        runner: rescuer,
        advances: vec![advance],
        ..world.batch()
    };
    assert_eq!(world.store.commit(&batch).unwrap().advances, [true]);

    let mut late = record;
    late.tasks[0].status = TaskStatus::Completed;
    late.tasks[0].delta = Some(Arc::new(Delta::default()));
    late.status = ExecutionStatus::Completed;
    late.revision = 2;
    let tasks = vec![world.fenced(0, world.runner, 1)];
    assert_eq!(
        world.try_advance(&late, 1, tasks.clone()),
        Err(StoreError::RunnerLost)
    );
    // The write is also refused under a new runner id, because the revision has changed.
    let reborn = register(&*world.store);
    let advance = Advance {
        record: &late,
        expected: 1,
        tasks,
        history: &[],
        requires: &[],
        steps: None,
    };
    let batch = Batch {
        runner: reborn,
        advances: vec![advance],
        ..world.batch()
    };
    assert_eq!(world.store.commit(&batch).unwrap().advances, [false]);
    assert_eq!(world.load(late.id), as_stored(&rescued));
}

/// Submits two executions and commits a batch whose second advance fails. Checks that no part of the batch was written.
fn assert_rolls_back(world: &World, break_it: impl Fn(&World) -> cloacina::store::TaskWrite) {
    let (one, two) = (world.running(), world.running());
    world.submit(&one);
    world.submit(&two);
    let new = world.ready(&[0]);
    let change = |record: &cloacina::types::ExecutionRecord| {
        let mut record = record.clone();
        record.revision = 2;
        record.status = ExecutionStatus::Completed;
        record.ended_at = Some(NOW);
        record.tasks[0].status = TaskStatus::Completed;
        record
    };
    let (changed_one, changed_two) = (change(&one), change(&two));
    let events = [history("lost")];
    let mut claim = world.batch().claim;
    claim.classes.push(world.class(10));
    let batch = Batch {
        submits: vec![Submit {
            history: &events,
            ..world.submission(&new)
        }],
        advances: vec![
            Advance {
                record: &changed_one,
                expected: 1,
                tasks: vec![world.fenced(0, world.runner, 1)],
                history: &events,
                requires: &[],
                steps: None,
            },
            Advance {
                record: &changed_two,
                expected: 1,
                tasks: vec![break_it(world)],
                history: &events,
                requires: &[],
                steps: None,
            },
        ],
        claim,
        ..world.batch()
    };
    let error = world.store.commit(&batch).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    assert_eq!(world.load(one.id), as_stored(&one));
    assert_eq!(world.load(two.id), as_stored(&two));
    assert_eq!(world.store.load(&[new.id]).unwrap(), []);
    for id in [one.id, two.id, new.id] {
        assert_eq!(world.store.history(id).unwrap(), []);
    }
    assert_eq!(world.claim(10), []);
    // A later batch can be written.
    assert_eq!(world.submit(&new), SubmitOutcome::Accepted);
    assert_eq!(world.claim(10).len(), 1);
}

pub fn a_failed_fence_rolls_back_the_batch(subject: Subject) {
    let world = World::new(subject, 2);
    assert_rolls_back(&world, |world| world.fenced(0, world.runner, 2));
    assert_rolls_back(&world, |world| world.fenced(0, RunnerId::generate(), 1));
    assert_rolls_back(&world, |world| world.fenced(1, world.runner, 1));
}

/// A result is not recorded twice, although the row of the task still names the runner of the ended attempt.
pub fn an_attempt_that_has_ended_cannot_be_finished_again(subject: Subject) {
    let world = World::new(subject, 1);
    for status in [
        TaskStatus::Completed,
        TaskStatus::Failed,
        TaskStatus::Ready,
        TaskStatus::Cancelled,
    ] {
        let mut record = world.running();
        world.submit(&record);
        record.tasks[0].status = status;
        assert!(world.advance(&mut record, vec![world.fenced(0, world.runner, 1)]));
        let mut again = record.clone();
        again.revision = 3;
        again.tasks[0].status = TaskStatus::Completed;
        again.tasks[0].ended_at = Some(NOW);
        let write = world.fenced(0, world.runner, 1);
        let error = world.try_advance(&again, 2, vec![write]).unwrap_err();
        assert!(
            matches!(error, StoreError::Corrupt(_)),
            "{status}: {error:?}"
        );
        assert_eq!(world.load(record.id), as_stored(&record));
    }
}

pub fn an_insert_over_a_row_rolls_back_the_batch(subject: Subject) {
    assert_rolls_back(&World::new(subject, 2), |world| world.insert(0));
}

pub fn an_update_without_a_row_rolls_back_the_batch(subject: Subject) {
    let world = World::new(subject, 2);
    assert_rolls_back(&world, |world| world.update(1));
    assert_rolls_back(&world, |world| world.update(2));
}

pub fn a_submission_of_an_unknown_definition_refuses_the_batch(subject: Subject) {
    let world = World::new(subject, 1);
    let good = world.ready(&[0]);
    let bad = record_of(DefinitionId(999), 1, NOW);
    let submits = vec![world.submission(&good), world.submission(&bad)];
    let error = world
        .store
        .commit(&Batch {
            submits,
            ..world.batch()
        })
        .unwrap_err();
    assert!(matches!(error, StoreError::DefinitionGone(_)), "{error:?}");
    assert_eq!(world.store.load(&[good.id, bad.id]).unwrap(), []);
}

pub fn dead_runners_commit_with_a_claim_is_refused(subject: Subject) {
    let world = World::new(subject, 1);
    let open = world.running();
    world.submit(&open);
    let ready = world.ready(&[0]);
    world.submit(&ready);
    assert!(
        world
            .store
            .declare_dead(world.runner, NOW + 15 * SECOND, NOW)
            .unwrap()
    );

    let claimed = world.running();
    let batch = Batch {
        submits: vec![world.submission(&claimed)],
        ..world.batch()
    };
    assert_eq!(
        world.store.commit(&batch),
        Err(StoreError::RunnerLost),
        "a submission with a claim"
    );
    assert_eq!(world.store.load(&[claimed.id]).unwrap(), []);

    let mut finished = open.clone();
    finished.revision = 2;
    finished.tasks[0].status = TaskStatus::Completed;
    let write = world.fenced(0, world.runner, 1);
    assert_eq!(
        world.try_advance(&finished, 1, vec![write]),
        Err(StoreError::RunnerLost),
        "a fenced write"
    );

    let mut batch = world.batch();
    batch.claim.classes.push(world.class(1));
    assert_eq!(
        world.store.commit(&batch),
        Err(StoreError::RunnerLost),
        "a claim"
    );
    assert_eq!(world.load(open.id), as_stored(&open));
    assert_eq!(world.load(ready.id), as_stored(&ready));
}

pub fn a_runner_that_never_registered_cannot_claim(subject: Subject) {
    let world = World::new(subject, 1);
    world.submit(&world.ready(&[0]));
    let mut batch = Batch {
        runner: RunnerId::generate(),
        ..world.batch()
    };
    batch.claim.classes.push(world.class(1));
    assert_eq!(world.store.commit(&batch), Err(StoreError::RunnerLost));
}

pub fn submission_and_cancellation_without_claims_need_no_live_runner(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.ready(&[0]);
    let submits = vec![world.submission(&record)];
    let outsider = RunnerId::generate();
    world
        .store
        .commit(&Batch {
            runner: outsider,
            submits,
            ..world.batch()
        })
        .unwrap();
    record.revision = 2;
    record.status = ExecutionStatus::Cancelled;
    record.tasks[0].status = TaskStatus::Cancelled;
    let advance = Advance {
        record: &record,
        expected: 1,
        tasks: vec![world.update(0)],
        history: &[],
        requires: &[],
        steps: None,
    };
    let batch = Batch {
        runner: outsider,
        advances: vec![advance],
        ..world.batch()
    };
    assert_eq!(world.store.commit(&batch).unwrap().advances, [true]);
    assert_eq!(world.store.load(&[ExecutionId::generate()]).unwrap(), []);
}
