//! Cases for lists, deadlines and pruning.

use std::sync::Arc;

use cloacina::store::{Advance, Batch, ListQuery, OverdueExecutions, Submit};
use cloacina::types::ExecutionStatus::{Cancelled, Completed, Failed, Paused, Pending, Running};
use cloacina::types::{
    Context, ExecutionId, ExecutionRecord, ExecutionStatus, TaskStatus, Timestamp,
};

use crate::world::{NOW, SECOND, Subject, World, history, record_of, workflow};

/// Returns a query without conditions.
fn all() -> ListQuery {
    ListQuery {
        limit: 1000,
        ..ListQuery::default()
    }
}

/// Returns the ids of these executions, newest first.
fn newest_first(records: &[&ExecutionRecord]) -> Vec<ExecutionId> {
    let mut ids: Vec<ExecutionId> = records.iter().map(|record| record.id).collect();
    ids.sort_unstable_by(|left, right| right.cmp(left));
    ids
}

pub fn executions_are_listed_newest_first_by_page(subject: Subject) {
    let world = World::new(subject, 1);
    let records: Vec<ExecutionRecord> = (0..7).map(|_| world.ready(&[0])).collect();
    for record in &records {
        world.submit(record);
    }
    let expected = newest_first(&records.iter().collect::<Vec<_>>());
    for (workflow, statuses) in [
        (None, vec![]),
        (Some("etl".to_owned()), vec![]),
        (None, vec![ExecutionStatus::Pending]),
    ] {
        let mut seen = Vec::new();
        let mut before = None;
        loop {
            let query = ListQuery {
                workflow: workflow.clone(),
                statuses: statuses.clone(),
                before,
                limit: 3,
                ..all()
            };
            let page = world.store.list(&query).unwrap().ids;
            assert!(page.len() <= 3);
            before = page.last().copied();
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, expected);
    }
    assert_eq!(
        world
            .store
            .list(&ListQuery { limit: 0, ..all() })
            .unwrap()
            .ids,
        []
    );
}

#[expect(
    clippy::too_many_lines,
    reason = "the test sends many queries for the same rows"
)]
pub fn lists_are_filtered_by_state_workflow_definition_and_time(subject: Subject) {
    let world = World::new(subject, 1);
    let other = workflow("other", 1);
    let second_version = workflow("etl", 2);
    let other_definition = world.store.put_definition(&other, NOW).unwrap();
    let second_definition = world.store.put_definition(&second_version, NOW).unwrap();
    let submit = |definition, name: &str, created_at| {
        let record = ExecutionRecord {
            created_at,
            ..record_of(definition, 1, NOW)
        };
        let submit = Submit {
            workflow: name,
            ..world.submission(&record)
        };
        world
            .store
            .commit(&Batch {
                submits: vec![submit],
                ..world.batch()
            })
            .unwrap();
        record
    };
    let one = submit(world.definition, "etl", NOW);
    let two = submit(other_definition, "other", NOW + SECOND);
    let three = submit(second_definition, "etl", NOW + 2 * SECOND);
    let done = world.ended(ExecutionStatus::Completed, NOW);
    let failed = world.ended(ExecutionStatus::Failed, NOW);

    let list = |query: ListQuery| world.store.list(&query).unwrap().ids;
    let etl = || Some("etl".to_owned());
    assert_eq!(
        list(all()),
        newest_first(&[&one, &two, &three, &done, &failed])
    );
    assert_eq!(
        list(ListQuery {
            workflow: etl(),
            ..all()
        }),
        newest_first(&[&one, &three, &done, &failed])
    );
    assert_eq!(
        list(ListQuery {
            definitions: Some(vec![second_definition, other_definition]),
            ..all()
        }),
        newest_first(&[&two, &three])
    );
    assert_eq!(
        list(ListQuery {
            definitions: Some(vec![]),
            ..all()
        }),
        []
    );
    assert_eq!(
        list(ListQuery {
            workflow: etl(),
            definitions: Some(vec![second_definition, other_definition]),
            ..all()
        }),
        [three.id]
    );
    assert_eq!(
        list(ListQuery {
            since: Some(NOW + SECOND),
            ..all()
        }),
        newest_first(&[&two, &three])
    );
    assert_eq!(
        list(ListQuery {
            since: Some(NOW + 3 * SECOND),
            ..all()
        }),
        []
    );
    for (status, record) in [
        (ExecutionStatus::Completed, &done),
        (ExecutionStatus::Failed, &failed),
    ] {
        assert_eq!(
            list(ListQuery {
                statuses: vec![status],
                ..all()
            }),
            [record.id]
        );
        assert_eq!(
            list(ListQuery {
                statuses: vec![status],
                workflow: etl(),
                ..all()
            }),
            [record.id]
        );
        assert_eq!(
            list(ListQuery {
                statuses: vec![status],
                workflow: Some("other".to_owned()),
                ..all()
            }),
            []
        );
    }
    assert_eq!(
        list(ListQuery {
            statuses: vec![ExecutionStatus::Cancelled],
            ..all()
        }),
        []
    );
}

pub fn lists_are_filtered_by_keys(subject: Subject) {
    let world = World::new(subject, 1);
    let other = workflow("other", 1);
    let other_definition = world.store.put_definition(&other, NOW).unwrap();
    let submit = |definition, name: &str, key: Option<&str>| {
        let record = ExecutionRecord {
            key: key.map(str::to_owned),
            ..record_of(definition, 1, NOW)
        };
        let submit = Submit {
            workflow: name,
            ..world.submission(&record)
        };
        let batch = Batch {
            submits: vec![submit],
            ..world.batch()
        };
        world.store.commit(&batch).unwrap();
        record
    };
    let one = submit(world.definition, "etl", Some("one"));
    let two = submit(world.definition, "etl", Some("two"));
    submit(world.definition, "etl", None);
    let other_one = submit(other_definition, "other", Some("one"));

    let list = |query: ListQuery| world.store.list(&query).unwrap().ids;
    let keys = |keys: &[&str]| Some(keys.iter().map(|key| (*key).to_owned()).collect());
    let by_keys = |given: &[&str]| ListQuery {
        keys: keys(given),
        ..all()
    };
    let etl = || Some("etl".to_owned());
    assert_eq!(list(by_keys(&["one"])), newest_first(&[&one, &other_one]));
    assert_eq!(
        list(by_keys(&["two", "one", "three"])),
        newest_first(&[&one, &two, &other_one])
    );
    assert_eq!(list(by_keys(&[])), []);
    let page = ListQuery {
        workflow: etl(),
        limit: 1,
        ..by_keys(&["one", "two"])
    };
    let expected = newest_first(&[&one, &two]);
    assert_eq!(list(page.clone()), expected[..1]);
    let rest = ListQuery {
        before: Some(expected[0]),
        ..page
    };
    assert_eq!(list(rest), expected[1..]);
    let of_etl = |statuses, since| ListQuery {
        workflow: etl(),
        statuses,
        since,
        ..by_keys(&["one"])
    };
    assert_eq!(list(of_etl(vec![], None)), [one.id]);
    assert_eq!(list(of_etl(vec![one.status], Some(NOW))), [one.id]);
    assert_eq!(list(of_etl(vec![Cancelled], None)), []);
    assert_eq!(list(of_etl(vec![], Some(NOW + SECOND))), []);
    let of_other = ListQuery {
        definitions: Some(vec![other_definition]),
        ..by_keys(&["one"])
    };
    assert_eq!(list(of_other), [other_one.id]);
}

pub fn lists_are_filtered_by_several_states(subject: Subject) {
    let world = World::new(subject, 1);
    let pending = world.ready(&[0]);
    world.submit(&pending);
    let running = world.running();
    world.submit(&running);
    let mut paused = world.running();
    world.submit(&paused);
    paused.status = ExecutionStatus::Paused;
    assert!(world.advance(&mut paused, vec![]));
    let ended = [
        ExecutionStatus::Completed,
        ExecutionStatus::Failed,
        ExecutionStatus::Cancelled,
    ]
    .map(|status| world.ended(status, NOW));
    let list = |statuses: &[ExecutionStatus], limit| {
        world
            .store
            .list(&ListQuery {
                statuses: statuses.to_vec(),
                limit,
                ..all()
            })
            .unwrap()
            .ids
    };
    assert_eq!(
        list(&[Pending, Running, Paused], 9),
        newest_first(&[&pending, &running, &paused])
    );
    assert_eq!(
        list(&[Paused, Pending, Pending], 9),
        newest_first(&[&pending, &paused])
    );
    assert_eq!(
        list(&[Failed, Cancelled], 9),
        newest_first(&[&ended[1], &ended[2]])
    );
    assert_eq!(
        list(&[Completed, Running], 9),
        newest_first(&[&running, &ended[0]])
    );
    let newest = newest_first(&[&pending, &running, &paused, &ended[1], &ended[2]]);
    assert_eq!(
        list(&[Pending, Running, Paused, Failed, Cancelled], 2),
        newest[..2]
    );
}

pub fn the_list_of_an_unknown_workflow_is_empty(subject: Subject) {
    let world = World::new(subject, 1);
    world.submit(&world.ready(&[0]));
    let query = ListQuery {
        workflow: Some("et%l' OR 1=1 --".to_owned()),
        ..all()
    };
    assert_eq!(world.store.list(&query).unwrap().ids, []);
}

/// Submits a running execution with this deadline.
fn with_deadline(world: &World, deadline: Timestamp) -> ExecutionRecord {
    let record = ExecutionRecord {
        timeout: Some(1),
        deadline: Some(deadline),
        ..world.running()
    };
    world.submit(&record);
    record
}

pub fn overdue_returns_overdue_executions_and_the_next_deadline(subject: Subject) {
    let world = World::new(subject, 1);
    assert_eq!(
        world.store.overdue(NOW).unwrap(),
        OverdueExecutions::default()
    );
    let later = with_deadline(&world, NOW + 2 * SECOND);
    let now = with_deadline(&world, NOW);
    let past = with_deadline(&world, NOW - SECOND);
    let due = world.store.overdue(NOW).unwrap();
    assert_eq!(due.executions, [past.id, now.id]);
    assert_eq!(due.next, Some(NOW + 2 * SECOND));
    let due = world.store.overdue(NOW + 2 * SECOND).unwrap();
    assert_eq!(due.executions, [past.id, now.id, later.id]);
    assert_eq!(due.next, None);
}

pub fn only_a_running_execution_can_be_overdue(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = with_deadline(&world, NOW);
    record.status = ExecutionStatus::Paused;
    assert!(world.advance(&mut record, vec![]));
    assert_eq!(
        world.store.overdue(NOW).unwrap(),
        OverdueExecutions::default()
    );
    record.status = ExecutionStatus::Running;
    record.deadline = Some(NOW + SECOND);
    assert!(world.advance(&mut record, vec![]));
    assert_eq!(
        world.store.overdue(NOW).unwrap(),
        OverdueExecutions {
            executions: vec![],
            next: Some(NOW + SECOND),
            has_waits: false,
        }
    );
    assert!(world.finish(&mut record, ExecutionStatus::Failed, NOW));
    assert_eq!(
        world.store.overdue(NOW + SECOND).unwrap(),
        OverdueExecutions::default()
    );
}

pub fn prune_deletes_old_ended_executions_with_all_their_rows(subject: Subject) {
    let world = World::new(subject, 1);
    let mut old = world.running();
    old.input = Arc::new(Context::from_json(r#"{"a":1}"#).unwrap());
    world.submit(&old);
    let events = [history("paused")];
    old.tasks[0].status = TaskStatus::Completed;
    old.status = ExecutionStatus::Completed;
    old.ended_at = Some(NOW);
    old.revision = 2;
    let tasks = vec![world.fenced(0, world.runner, 1)];
    let advance = Advance {
        record: &old,
        expected: 1,
        tasks,
        history: &events,
        requires: &[],
        steps: None,
    };
    world
        .store
        .commit(&Batch {
            advances: vec![advance],
            ..world.batch()
        })
        .unwrap();
    let young = world.ended(ExecutionStatus::Completed, NOW + SECOND);
    assert_eq!(
        world.store.prune(NOW, 10).unwrap().executions,
        0,
        "`before` is exclusive"
    );
    assert_eq!(world.store.prune(NOW + SECOND, 10).unwrap().executions, 1);
    assert_eq!(world.store.load(&[old.id]).unwrap(), []);
    assert_eq!(world.store.history(old.id).unwrap(), []);
    assert_eq!(world.store.list(&all()).unwrap().ids, [young.id]);
    // All rows were deleted, so the same id can be submitted again with all its rows.
    old.revision = 1;
    assert_eq!(world.submit(&old), cloacina::store::SubmitOutcome::Accepted);
}

pub fn prune_keeps_open_and_younger_executions(subject: Subject) {
    let world = World::new(subject, 1);
    let open = [world.ready(&[0]), world.running()];
    for record in &open {
        world.submit(record);
    }
    let ended = world.ended(ExecutionStatus::Failed, NOW + 1);
    let young = world.ended(ExecutionStatus::Cancelled, NOW + 5 * SECOND);
    assert_eq!(world.store.prune(NOW + SECOND, 10).unwrap().executions, 1);
    assert_eq!(
        world.store.list(&all()).unwrap().ids,
        newest_first(&[&open[0], &open[1], &young])
    );
    assert!(!world.store.list(&all()).unwrap().ids.contains(&ended.id));
    // The tasks of the other executions are kept.
    assert_eq!(world.claim(5).len(), 1);
    assert_eq!(world.store.claims_of(world.runner).unwrap().len(), 2);
}

pub fn prune_stops_at_its_limit(subject: Subject) {
    let world = World::new(subject, 1);
    let records: Vec<_> = (0..5)
        .map(|_| world.ended(ExecutionStatus::Completed, NOW))
        .collect();
    assert_eq!(world.store.prune(NOW + 1, 0).unwrap().executions, 0);
    assert_eq!(world.store.prune(NOW + 1, 2).unwrap().executions, 2);
    let left = newest_first(&[&records[2], &records[3], &records[4]]);
    assert_eq!(
        world.store.list(&all()).unwrap().ids,
        left,
        "the oldest are pruned first"
    );
    assert_eq!(world.store.prune(NOW + 1, 100).unwrap().executions, 3);
    assert_eq!(world.store.prune(NOW + 1, 100).unwrap().executions, 0);
}

pub fn prune_continues_past_open_executions(subject: Subject) {
    let world = World::new(subject, 1);
    for _ in 0..4 {
        world.submit(&world.ready(&[0]));
        world.ended(ExecutionStatus::Completed, NOW);
    }
    let deleted = [2, 2, 2].map(|limit| world.store.prune(NOW + 1, limit).unwrap().executions);
    assert_eq!(deleted, [2, 2, 0]);
    assert_eq!(world.store.list(&all()).unwrap().ids.len(), 4);
}

pub fn an_ended_execution_that_runs_again_is_not_pruned(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.ended(ExecutionStatus::Failed, NOW);
    record.status = ExecutionStatus::Running;
    record.ended_at = None;
    record.tasks[0].status = TaskStatus::Ready;
    assert!(world.advance(&mut record, vec![world.update(0)]));
    assert_eq!(world.store.prune(NOW + SECOND, 10).unwrap().executions, 0);
    assert_eq!(world.claim(5).len(), 1);
}
