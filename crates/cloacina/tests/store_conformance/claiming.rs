//! Cases for claims: order, limits, queues and due times.

use std::collections::HashSet;
use std::sync::{Arc, Barrier};

use cloacina::store::{
    Advance, AttemptStart, Batch, ClaimClass, ClaimRequest, Claimed, ListQuery, QueueId, Submit,
};
use cloacina::types::{
    Claim, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, Ordinal, TaskStatus,
    Timestamp,
};

use crate::world::{NOW, SECOND, Subject, World, record_of, register, workflow};

/// Returns the execution and the task of each claim.
fn ids(claimed: &[Claimed]) -> Vec<(ExecutionId, Ordinal)> {
    claimed
        .iter()
        .map(|claim| (claim.execution, claim.ordinal))
        .collect()
}

pub fn a_claim_makes_the_task_and_its_execution_running(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.ready(&[0]);
    world.submit(&record);
    let committed = world.request(vec![world.class(5)], NOW + 7);
    let expected = Claimed {
        execution: record.id,
        definition: world.definition,
        ordinal: 0,
        attempt: 1,
        revision: 2,
    };
    assert_eq!(committed.claimed, [expected]);
    assert_eq!(
        (committed.more.as_slice(), committed.next_due),
        ([false].as_slice(), None)
    );
    record.revision = 2;
    record.status = ExecutionStatus::Running;
    let task = &mut record.tasks[0];
    task.status = TaskStatus::Running;
    task.attempt = 1;
    task.runner = Some(world.runner);
    task.stored = true;
    assert_eq!(world.load(record.id), record);
    assert_eq!(world.claim(5), []);
}

pub fn claims_are_ordered_by_priority_age_and_declaration(subject: Subject) {
    let world = World::new(subject, 2);
    let priorities = [0, 5, -32768, 32767, 5];
    let records: Vec<ExecutionRecord> = priorities
        .map(|priority| ExecutionRecord {
            priority,
            ..world.ready(&[0, 1])
        })
        .to_vec();
    for record in records.iter().rev() {
        world.submit(record);
    }
    let order = [3, 1, 4, 0, 2].map(|index: usize| records[index].id);
    let expected: Vec<_> = order.iter().flat_map(|id| [(*id, 0), (*id, 1)]).collect();
    assert_eq!(ids(&world.claim(3)), expected[..3]);
    assert_eq!(ids(&world.claim(100)), expected[3..]);
}

pub fn a_class_claims_up_to_its_limit_and_reports_more_work(subject: Subject) {
    let world = World::new(subject, 3);
    world.submit(&world.ready(&[0, 1, 2]));
    let first = world.request(vec![world.class(2)], NOW);
    assert_eq!(
        (first.claimed.len(), first.more.as_slice()),
        (2, [true].as_slice())
    );
    let second = world.request(vec![world.class(1)], NOW);
    assert_eq!(
        (second.claimed.len(), second.more.as_slice()),
        (1, [false].as_slice())
    );
}

pub fn a_limit_of_zero_claims_nothing_but_reports_more_work(subject: Subject) {
    let world = World::new(subject, 1);
    assert_eq!(world.request(vec![world.class(0)], NOW).more, [false]);
    let record = world.ready(&[0]);
    world.submit(&record);
    let committed = world.request(vec![world.class(0)], NOW);
    assert_eq!(
        (committed.claimed.len(), committed.more.as_slice()),
        (0, [true].as_slice())
    );
    assert_eq!(world.load(record.id).revision, 1);
}

/// Stores a second workflow. Returns its queue, and the record of an execution with one ready task.
fn other(world: &World, name: &str) -> (QueueId, ExecutionRecord) {
    let definition = world.store.put_definition(&workflow(name, 1), NOW).unwrap();
    let mut record = record_of(definition, 1, NOW);
    record.tasks[0].status = TaskStatus::Ready;
    (QueueId(definition.0), record)
}

/// Submits an execution of the workflow `name`, with its tasks in `queue`.
fn submit_to(world: &World, queue: QueueId, name: &str, record: &ExecutionRecord) {
    let mut submit = Submit {
        workflow: name,
        ..world.submission(record)
    };
    for write in &mut submit.tasks {
        write.queue = queue;
    }
    world
        .store
        .commit(&Batch {
            submits: vec![submit],
            ..world.batch()
        })
        .unwrap();
}

pub fn queues_of_one_class_share_its_limit_and_order(subject: Subject) {
    let world = World::new(subject, 1);
    let first = world.ready(&[0]);
    let (queue, mut second) = other(&world, "other");
    second.priority = 1;
    let third = world.ready(&[0]);
    for record in [&first, &third] {
        world.submit(record);
    }
    submit_to(&world, queue, "other", &second);
    let class = ClaimClass {
        queues: vec![world.queue(), queue],
        excluded: vec![],
        limit: 2,
    };
    let committed = world.request(vec![class], NOW);
    assert_eq!(ids(&committed.claimed), [(second.id, 0), (first.id, 0)]);
    assert_eq!(committed.claimed[0].definition, second.definition);
    assert_eq!(committed.more, [true]);
}

pub fn classes_do_not_share_their_limits(subject: Subject) {
    let world = World::new(subject, 1);
    let (queue, _) = other(&world, "other");
    for _ in 0..3 {
        world.submit(&world.ready(&[0]));
        let (_, record) = other(&world, "other");
        submit_to(&world, queue, "other", &record);
    }
    let classes = vec![
        world.class(1),
        ClaimClass {
            queues: vec![queue],
            excluded: vec![],
            limit: 5,
        },
        ClaimClass {
            queues: vec![],
            excluded: vec![],
            limit: 5,
        },
    ];
    let committed = world.request(classes, NOW);
    assert_eq!(committed.claimed.len(), 4);
    assert_eq!(committed.more, [true, false, false]);
    assert_eq!(committed.claimed[0].definition, world.definition);
}

pub fn two_classes_of_one_queue_claim_distinct_tasks(subject: Subject) {
    let world = World::new(subject, 3);
    let mut record = world.ready(&[0, 1, 2]);
    record.tasks[2].ready_at = Some(NOW);
    world.submit(&record);
    let committed = world.request(vec![world.class(1), world.class(1), world.class(5)], NOW);
    assert_eq!(
        ids(&committed.claimed),
        [(record.id, 0), (record.id, 1), (record.id, 2)]
    );
    assert_eq!(committed.more, [true, true, false]);
}

pub fn a_queue_named_twice_returns_each_task_once(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.ready(&[0, 1]);
    record.tasks[1].ready_at = Some(NOW);
    world.submit(&record);
    let class = ClaimClass {
        queues: vec![world.queue(), world.queue()],
        ..world.class(2)
    };
    let committed = world.request(vec![class], NOW);
    assert_eq!(ids(&committed.claimed), [(record.id, 0), (record.id, 1)]);
    assert_eq!(committed.more, [false]);
}

pub fn tasks_of_other_queues_are_not_claimed(subject: Subject) {
    let world = World::new(subject, 1);
    let record = world.ready(&[0]);
    world.submit(&record);
    let queue = world.queue().0;
    let foreign = ClaimClass {
        queues: vec![QueueId(queue - 1), QueueId(queue + 1)],
        excluded: vec![],
        limit: 5,
    };
    let committed = world.request(vec![foreign], NOW);
    assert_eq!(
        (committed.claimed.len(), committed.more.as_slice()),
        (0, [false].as_slice())
    );
    assert_eq!(world.load(record.id).revision, 1);
}

pub fn excluded_tasks_are_not_claimed(subject: Subject) {
    let world = World::new(subject, 3);
    let mut record = world.ready(&[0, 1, 2]);
    record.tasks[2].ready_at = Some(NOW + SECOND);
    world.submit(&record);
    let excluded = vec![
        (world.definition, 0),
        (world.definition, 2),
        (DefinitionId(world.definition.0 + 1), 1),
    ];
    let committed = world.request(
        vec![ClaimClass {
            excluded,
            ..world.class(1)
        }],
        NOW,
    );
    assert_eq!(ids(&committed.claimed), [(record.id, 1)]);
    assert_eq!(
        committed.more,
        [false],
        "excluded tasks are not reported as more work"
    );
    assert_eq!(
        committed.next_due, None,
        "excluded tasks are not reported as due"
    );
}

pub fn each_claimed_task_increases_the_revision(subject: Subject) {
    let world = World::new(subject, 3);
    let (one, two) = (world.ready(&[0, 1, 2]), world.ready(&[0]));
    world.submit(&one);
    world.submit(&two);
    let revisions: Vec<_> = world
        .claim(10)
        .iter()
        .map(|claim| (claim.execution, claim.revision))
        .collect();
    assert_eq!(
        revisions,
        [(one.id, 2), (one.id, 3), (one.id, 4), (two.id, 2)]
    );
    assert_eq!(world.load(one.id).revision, 4);
    assert_eq!(world.load(two.id).revision, 2);
}

pub fn a_batch_can_claim_tasks_that_it_makes_ready(subject: Subject) {
    let world = World::new(subject, 2);
    let mut first = world.running();
    world.submit(&first);
    first.tasks[0].status = TaskStatus::Completed;
    first.tasks[1].status = TaskStatus::Ready;
    first.revision = 2;
    let second = world.ready(&[0]);
    let batch = Batch {
        submits: vec![world.submission(&second)],
        advances: vec![Advance {
            record: &first,
            expected: 1,
            tasks: vec![world.fenced(0, world.runner, 1), world.insert(1)],
            history: &[],
            requires: &[],
            steps: None,
        }],
        claim: ClaimRequest {
            classes: vec![world.class(5)],
        },
        ..world.batch()
    };
    let committed = world.store.commit(&batch).unwrap();
    let claimed: Vec<_> = committed
        .claimed
        .iter()
        .map(|claim| (claim.execution, claim.ordinal, claim.revision))
        .collect();
    assert_eq!(claimed, [(first.id, 1, 3), (second.id, 0, 2)]);
}

/// Submits an execution whose first task must not be claimed before `ready_at`.
fn delayed(world: &World, priority: i16, ready_at: Timestamp) -> ExecutionRecord {
    let mut record = ExecutionRecord {
        priority,
        ..world.ready(&[0])
    };
    record.tasks[0].ready_at = Some(ready_at);
    world.submit(&record);
    record
}

pub fn a_delayed_task_is_claimed_when_it_is_due(subject: Subject) {
    let world = World::new(subject, 1);
    let record = delayed(&world, 0, NOW + SECOND);
    let early = world.request(vec![world.class(5)], NOW + SECOND - 1);
    assert_eq!(
        (early.claimed.len(), early.more.as_slice()),
        (0, [false].as_slice())
    );
    assert_eq!(early.next_due, Some(NOW + SECOND));
    let due = world.request(vec![world.class(5)], NOW + SECOND);
    assert_eq!(ids(&due.claimed), [(record.id, 0)]);
    assert_eq!(due.next_due, None);
    assert_eq!(world.load(record.id).tasks[0].ready_at, None);
}

pub fn next_due_covers_only_the_requested_queues(subject: Subject) {
    let world = World::new(subject, 1);
    let (queue, mut foreign) = other(&world, "other");
    foreign.tasks[0].ready_at = Some(NOW + 1);
    submit_to(&world, queue, "other", &foreign);
    delayed(&world, 0, NOW + 3 * SECOND);
    delayed(&world, 9, NOW + 2 * SECOND);
    assert_eq!(
        world.request(vec![world.class(0)], NOW).next_due,
        Some(NOW + 2 * SECOND)
    );
    let both = ClaimClass {
        queues: vec![world.queue(), queue],
        excluded: vec![],
        limit: 1,
    };
    assert_eq!(world.request(vec![both], NOW).next_due, Some(NOW + 1));
    // A batch without a claim request returns no due time.
    let record = world.record();
    let batch = Batch {
        submits: vec![world.submission(&record)],
        ..world.batch()
    };
    assert_eq!(world.store.commit(&batch).unwrap().next_due, None);
}

pub fn a_delayed_task_is_ordered_by_priority_and_age(subject: Subject) {
    let world = World::new(subject, 1);
    let old_retry = delayed(&world, 0, NOW);
    let fresh = world.ready(&[0]);
    world.submit(&fresh);
    let urgent_retry = delayed(&world, 3, NOW - SECOND);
    let late = delayed(&world, 9, NOW + SECOND);
    assert_eq!(
        ids(&world.claim(2)),
        [(urgent_retry.id, 0), (old_retry.id, 0)]
    );
    assert_eq!(ids(&world.claim(2)), [(fresh.id, 0)]);
    assert_eq!(
        ids(&world.request(vec![world.class(2)], NOW + SECOND).claimed),
        [(late.id, 0)]
    );
}

pub fn delayed_tasks_are_claimed_up_to_the_limit(subject: Subject) {
    let world = World::new(subject, 1);
    let records: Vec<_> = (0..5)
        .map(|index| delayed(&world, 0, NOW - 10 + index))
        .collect();
    delayed(&world, 0, NOW + SECOND);
    let first = world.request(vec![world.class(2)], NOW);
    assert_eq!(
        ids(&first.claimed),
        [(records[0].id, 0), (records[1].id, 0)]
    );
    assert_eq!(
        (first.more.as_slice(), first.next_due),
        ([true].as_slice(), Some(NOW + SECOND))
    );
    let rest = world.request(vec![world.class(3)], NOW);
    assert_eq!(
        (rest.claimed.len(), rest.more.as_slice()),
        (3, [false].as_slice())
    );
    assert_eq!(rest.next_due, Some(NOW + SECOND));
}

pub fn a_paused_execution_is_not_claimed(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.ready(&[0, 1]);
    record.tasks[1].ready_at = Some(NOW);
    world.submit(&record);
    record.status = ExecutionStatus::Paused;
    record.paused_at = Some(NOW);
    for task in &mut record.tasks {
        task.status = TaskStatus::Pending;
        task.ready_at.get_or_insert(NOW);
    }
    assert!(world.advance(&mut record, vec![world.update(0), world.update(1)]));
    let committed = world.request(vec![world.class(5)], NOW + SECOND);
    assert_eq!(
        (committed.claimed.len(), committed.more.as_slice()),
        (0, [false].as_slice())
    );
    assert_eq!(committed.next_due, None);
    // The engine never writes a ready task of a paused execution. Even so, the store does not claim such a row.
    record.tasks[0].status = TaskStatus::Ready;
    record.tasks[0].ready_at = None;
    assert!(world.advance(&mut record, vec![world.update(0)]));
    assert_eq!(world.claim(5), []);
    assert_eq!(world.load(record.id).status, ExecutionStatus::Paused);
}

pub fn a_retried_task_is_claimed_with_its_next_attempt(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.running();
    world.submit(&record);
    record.tasks[0].status = TaskStatus::Ready;
    record.tasks[0].ready_at = Some(NOW + 5);
    assert!(world.advance(&mut record, vec![world.fenced(0, world.runner, 1)]));
    let claimed = world.request(vec![world.class(5)], NOW + 5).claimed;
    assert_eq!((claimed[0].attempt, claimed[0].revision), (2, 3));
    let loaded = world.load(record.id);
    assert_eq!(loaded.tasks[0].attempt, 2);
    assert_eq!(loaded.tasks[0].started_at, None);
    assert_eq!(loaded.started_at, Some(NOW));
}

pub fn a_claimed_execution_is_pending_until_its_start_is_written(subject: Subject) {
    let world = World::new(subject, 2);
    let record = world.ready(&[0, 1]);
    world.submit(&record);
    world.request(vec![world.class(5)], NOW + 1);
    let in_state = |status, started: &[ExecutionId]| {
        let query = ListQuery {
            statuses: vec![status],
            started: started.to_vec(),
            limit: 5,
            ..ListQuery::default()
        };
        world.store.list(&query).unwrap().ids
    };
    let status = || world.store.statuses(&[record.id]).unwrap()[0].1;
    assert_eq!(status(), ExecutionStatus::Pending);
    assert_eq!(in_state(ExecutionStatus::Pending, &[]), [record.id]);
    assert_eq!(in_state(ExecutionStatus::Running, &[]), []);
    assert_eq!(in_state(ExecutionStatus::Pending, &[record.id]), []);
    assert_eq!(
        in_state(ExecutionStatus::Running, &[record.id]),
        [record.id]
    );

    let start = |task, attempt, at| AttemptStart {
        execution: record.id,
        task,
        claim: Claim {
            runner: world.runner,
            attempt,
            item: None,
        },
        at: NOW + at,
    };
    world.store.note_starts(&[start(0, 2, 1)]).unwrap();
    assert_eq!(
        status(),
        ExecutionStatus::Pending,
        "the start of another attempt is ignored"
    );
    let starts = [start(0, 1, 3), start(1, 1, 2)];
    world.store.note_starts(&starts).unwrap();
    let loaded = world.load(record.id);
    assert_eq!(
        loaded.started_at,
        Some(NOW + 2),
        "the execution has the earliest start of its tasks"
    );
    let starts = loaded.tasks.iter().map(|task| task.started_at);
    assert_eq!(starts.collect::<Vec<_>>(), [Some(NOW + 3), Some(NOW + 2)]);
    assert_eq!(status(), ExecutionStatus::Running);
    assert_eq!(in_state(ExecutionStatus::Pending, &[]), []);
    assert_eq!(in_state(ExecutionStatus::Running, &[]), [record.id]);
}

pub fn an_advance_keeps_the_earliest_start(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.running();
    world.submit(&record);
    for at in [None, Some(NOW + 2)] {
        record.started_at = at;
        assert!(world.advance(&mut record, vec![]));
        assert_eq!(world.load(record.id).started_at, Some(NOW));
    }
    record.started_at = Some(NOW + -1);
    assert!(world.advance(&mut record, vec![]));
    assert_eq!(world.load(record.id).started_at, Some(NOW + -1));
}

pub fn an_ended_task_keeps_its_stored_start_if_the_writer_has_none(subject: Subject) {
    let world = World::new(subject, 2);
    for status in [TaskStatus::Failed, TaskStatus::Cancelled] {
        let record = world.running();
        world.submit(&record);
        // A peer ends the task with a record that it cached before the start was stored.
        let mut cached = record.clone();
        cached.tasks[0].started_at = None;
        cached.tasks[0].status = status;
        cached.tasks[0].runner = None;
        let write = world.fenced(0, world.runner, 1);
        assert!(world.advance(&mut cached, vec![write]));
        assert_eq!(world.load(record.id).tasks[0].started_at, Some(NOW));
    }
}

pub fn a_retried_or_snoozed_task_has_no_start_time(subject: Subject) {
    let world = World::new(subject, 2);
    for attempt in [0, 1] {
        let mut record = world.running();
        world.submit(&record);
        let task = &mut record.tasks[0];
        // After a retry, the attempt number stays 1. After a snooze it is 0 again, because a snoozed attempt does not count.
        task.attempt = attempt;
        task.status = TaskStatus::Ready;
        task.runner = None;
        task.started_at = None;
        let write = world.fenced(0, world.runner, 1);
        assert!(world.advance(&mut record, vec![write]));
        assert_eq!(world.load(record.id).tasks[0].started_at, None);
    }
    // A snoozed task that is claimed again in the same batch keeps its attempt number, but not its start time.
    let mut record = world.running();
    world.submit(&record);
    record.tasks[0].started_at = None;
    let write = world.fenced(0, world.runner, 1);
    assert!(world.advance(&mut record, vec![write]));
    assert_eq!(world.load(record.id).tasks[0].started_at, None);
    let mut ended = world.ended(ExecutionStatus::Completed, NOW);
    ended.status = ExecutionStatus::Running;
    ended.ended_at = None;
    ended.tasks[0].status = TaskStatus::Pending;
    ended.tasks[0].started_at = None;
    let write = world.update(0);
    assert!(world.advance(&mut ended, vec![write]));
    assert_eq!(world.load(ended.id).tasks[0].started_at, None);
}

/// Each task is claimed once.
pub fn concurrent_claimers_get_distinct_tasks(subject: Subject) {
    const CLAIMERS: usize = 4;
    const EXECUTIONS: usize = 60;
    let world = World::new(subject, 3);
    let records: Vec<_> = (0..EXECUTIONS).map(|_| world.ready(&[0, 1, 2])).collect();
    let submits = records
        .iter()
        .map(|record| world.submission(record))
        .collect();
    world
        .store
        .commit(&Batch {
            submits,
            ..world.batch()
        })
        .unwrap();
    let barrier = Arc::new(Barrier::new(CLAIMERS));
    let threads: Vec<_> = (0..CLAIMERS)
        .map(|_| {
            let (store, barrier, class) = (
                Arc::clone(&world.store),
                Arc::clone(&barrier),
                world.class(7),
            );
            std::thread::spawn(move || {
                let runner = register(&*store);
                barrier.wait();
                let mut claimed = Vec::new();
                loop {
                    let claim = ClaimRequest {
                        classes: vec![class.clone()],
                    };
                    let batch = Batch {
                        runner,
                        now: NOW,
                        schedules: vec![],
                        flow: cloacina::store::FlowWrites::default(),
                        submits: vec![],
                        advances: vec![],
                        claim,
                    };
                    let committed = store.commit(&batch).unwrap();
                    if committed.claimed.is_empty() {
                        return claimed;
                    }
                    claimed.extend(ids(&committed.claimed));
                }
            })
        })
        .collect();
    let all: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(all.len(), EXECUTIONS * 3);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), EXECUTIONS * 3);
}

pub fn ready_executions_are_found_in_each_queue(subject: Subject) {
    let world = World::new(subject, 2);
    let first: Vec<ExecutionId> = (0..3)
        .map(|_| {
            let record = world.ready(&[0, 1]);
            world.submit(&record);
            record.id
        })
        .collect();
    let (queue, foreign) = other(&world, "other");
    submit_to(&world, queue, "other", &foreign);
    let late = delayed(&world, 0, NOW);
    delayed(&world, 0, NOW + SECOND);
    world.submit(&world.running());
    let found = |per_queue, limit| {
        let mut found = (world.store)
            .ready_executions(NOW, per_queue, limit)
            .unwrap();
        found.sort_unstable();
        found
    };
    let sorted = |mut ids: Vec<ExecutionId>| {
        ids.sort_unstable();
        ids
    };
    let all = sorted([&first[..], &[foreign.id, late.id]].concat());
    assert_eq!(found(100, 100), all);
    // The first two ready tasks of the queue belong to the first execution.
    let some = sorted(vec![first[0], foreign.id, late.id]);
    assert_eq!(found(2, 100), some);
    assert_eq!(found(100, 2).len(), 2);
}
