//! Cases for labels, and for the conditions and directions of lists.

use std::sync::Arc;
use std::time::Duration;

use cloacina::store::{
    Batch, InputCondition, ListQuery, ScanBudget, ScheduleWrite, Submit, TickWrite,
};
use cloacina::types::{
    Context, ExecutionId, ExecutionRecord, ExecutionStatus, Failure, FailureKind, Labels,
    ScheduleId, TickOutcome, Timestamp,
};

use crate::schedule::schedule;
use crate::world::{NOW, SECOND, Subject, World};

/// Returns a query without conditions.
fn all() -> ListQuery {
    ListQuery {
        limit: 1000,
        ..ListQuery::default()
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied()).unwrap()
}

/// Returns a condition on labels: each of these labels must have one of its values.
fn wanted(pairs: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let pairs = pairs.iter();
    pairs
        .map(|(name, values)| ((*name).to_owned(), owned(values)))
        .collect()
}

/// Submits an execution that was created at this time, and whose id contains the time.
fn submit(
    world: &World,
    at: Timestamp,
    labels: &Labels,
    change: impl FnOnce(&mut ExecutionRecord),
) -> ExecutionId {
    let mut record = world.ready(&[0]);
    let random = *ExecutionId::generate().as_bytes();
    record.id = ExecutionId::from_parts(at, random[6..].try_into().unwrap());
    record.created_at = at;
    change(&mut record);
    let submit = Submit {
        labels,
        ..world.submission(&record)
    };
    let batch = Batch {
        submits: vec![submit],
        ..world.batch()
    };
    world.store.commit(&batch).unwrap();
    record.id
}

fn ids(world: &World, query: &ListQuery) -> Vec<ExecutionId> {
    world.store.list(query).unwrap().ids
}

pub fn labels_are_read_back_with_their_execution(subject: Subject) {
    let world = World::new(subject, 1);
    let given = labels(&[("order", "4711"), ("üñí", "☃ \"quoted\", \\")]);
    let with = submit(&world, NOW, &given, |_| ());
    let without = submit(&world, NOW + SECOND, &Labels::NONE, |_| ());
    let summaries = world.store.summaries(&[with, without]).unwrap();
    let read: Vec<&Labels> = summaries.iter().map(|summary| &summary.labels).collect();
    assert_eq!(read, [&given, &Labels::NONE]);
}

pub fn labels_of_a_duplicate_submission_are_not_stored(subject: Subject) {
    let world = World::new(subject, 1);
    let keyed = |record: &mut ExecutionRecord| record.key = Some("key".to_owned());
    let first = submit(&world, NOW, &labels(&[("order", "1")]), keyed);
    submit(&world, NOW + SECOND, &labels(&[("order", "2")]), keyed);
    let of_second = ListQuery {
        labels: wanted(&[("order", &["2"])]),
        ..all()
    };
    assert_eq!(ids(&world, &of_second), []);
    let summary = world.store.summaries(&[first]).unwrap().remove(0);
    assert_eq!(summary.labels, labels(&[("order", "1")]));
}

pub fn lists_are_filtered_by_labels(subject: Subject) {
    let world = World::new(subject, 1);
    let one = submit(
        &world,
        NOW,
        &labels(&[("order", "1"), ("eu", "yes")]),
        |_| (),
    );
    let two = submit(&world, NOW + SECOND, &labels(&[("order", "2")]), |_| ());
    let three = submit(&world, NOW + 2 * SECOND, &labels(&[("order", "1")]), |_| ());
    submit(&world, NOW + 3 * SECOND, &Labels::NONE, |_| ());
    let list = |pairs: &[(&str, &[&str])]| {
        let labels = wanted(pairs);
        ids(&world, &ListQuery { labels, ..all() })
    };
    assert_eq!(list(&[("order", &["1"])]), [three, one]);
    assert_eq!(list(&[("order", &["1", "2"])]), [three, two, one]);
    assert_eq!(list(&[("order", &["1"]), ("eu", &["yes"])]), [one]);
    assert_eq!(list(&[("order", &["3"])]), []);
    let older = ListQuery {
        labels: wanted(&[("order", &["1"])]),
        before: Some(three),
        ..all()
    };
    assert_eq!(ids(&world, &older), [one]);
}

pub fn labels_are_deleted_with_their_execution(subject: Subject) {
    let world = World::new(subject, 1);
    let id = submit(&world, NOW, &labels(&[("order", "1")]), |record| {
        record.status = ExecutionStatus::Completed;
        record.ended_at = Some(NOW);
        record.tasks[0].status = cloacina::types::TaskStatus::Completed;
        record.tasks[0].ended_at = Some(NOW);
    });
    let of_order = ListQuery {
        labels: wanted(&[("order", &["1"])]),
        ..all()
    };
    assert_eq!(ids(&world, &of_order), [id]);
    assert_eq!(world.store.prune(NOW + SECOND, 10).unwrap().executions, 1);
    assert_eq!(ids(&world, &of_order), []);
}

pub fn a_list_can_be_read_in_both_directions(subject: Subject) {
    let world = World::new(subject, 1);
    let at = |second: i64| NOW + second * SECOND;
    let all_ids: Vec<ExecutionId> = (0..6)
        .map(|second| submit(&world, at(second), &labels(&[("a", "b")]), |_| ()))
        .collect();
    let conditions = [
        ListQuery::default(),
        ListQuery {
            statuses: vec![ExecutionStatus::Pending],
            ..ListQuery::default()
        },
        ListQuery {
            workflow: Some("etl".to_owned()),
            ..ListQuery::default()
        },
        ListQuery {
            labels: wanted(&[("a", &["b"])]),
            ..ListQuery::default()
        },
        ListQuery {
            ids: Some(all_ids.clone()),
            ..ListQuery::default()
        },
    ];
    for condition in conditions {
        let newer = ListQuery {
            after: Some(all_ids[1]),
            ascending: true,
            limit: 2,
            ..condition.clone()
        };
        assert_eq!(ids(&world, &newer), all_ids[2..4], "{newer:?}");
        let between = ListQuery {
            after: Some(all_ids[1]),
            before: Some(all_ids[4]),
            limit: 9,
            ..condition
        };
        assert_eq!(ids(&world, &between), [all_ids[3], all_ids[2]]);
    }
}

pub fn lists_are_filtered_by_error_text_input_and_creation_time(subject: Subject) {
    let world = World::new(subject, 1);
    let at = |second: i64| NOW + second * SECOND;
    let failed = submit(&world, at(0), &Labels::NONE, |record| {
        record.status = ExecutionStatus::Failed;
        record.ended_at = Some(NOW);
        let message = "Connection REFUSED by 10.0.0.1".to_owned();
        let failure = Failure::engine(FailureKind::WorkflowTimeout, message);
        record.error = Some((None, failure));
    });
    let with_input = submit(&world, at(1), &Labels::NONE, |record| {
        let input = r#"{"user": {"id": 123}, "day": "2026-01-01"}"#;
        record.input = Arc::new(Context::from_json(input).unwrap());
    });
    let plain = submit(&world, at(2), &Labels::NONE, |_| ());
    let condition = |path: &[&str], value: &str| InputCondition {
        path: path.iter().map(|step| (*step).to_owned()).collect(),
        value: value.to_owned(),
    };
    let by_error = |text: &str| {
        let error = Some(text.to_owned());
        ids(&world, &ListQuery { error, ..all() })
    };
    assert_eq!(by_error("refused BY"), [failed]);
    assert_eq!(by_error("timeout"), [failed]);
    assert_eq!(by_error("other"), []);
    let by_input = |inputs: Vec<InputCondition>| ids(&world, &ListQuery { inputs, ..all() });
    assert_eq!(
        by_input(vec![condition(&["user", "id"], "123")]),
        [with_input]
    );
    assert_eq!(
        by_input(vec![
            condition(&["user", "id"], "123"),
            condition(&["day"], "2026-01-02"),
        ]),
        []
    );
    let until = |time| {
        let until = Some(time);
        ids(&world, &ListQuery { until, ..all() })
    };
    assert_eq!(until(at(2)), [with_input, failed]);
    assert_eq!(until(at(9)), [plain, with_input, failed]);
    assert_eq!(until(at(0)), []);
}

pub fn lists_are_filtered_by_schedule(subject: Subject) {
    let world = World::new(subject, 1);
    let schedule = schedule("nightly", None);
    world.store.put_schedule(&schedule, None).unwrap();
    let at = |second: i64| NOW + second * SECOND;
    let started = submit(&world, at(0), &labels(&[("a", "b")]), |_| ());
    let other = submit(&world, at(1), &labels(&[("a", "b")]), |_| ());
    let mut next = schedule.clone();
    next.revision += 1;
    let ticks = [TickWrite {
        due_at: NOW,
        outcome: TickOutcome::Fired,
        execution: Some(started),
        detail: None,
    }];
    let write = ScheduleWrite {
        record: &next,
        expected: schedule.revision,
        ticks: &ticks,
        ends: &[],
    };
    let batch = Batch {
        schedules: vec![write],
        ..world.batch()
    };
    world.store.commit(&batch).unwrap();
    let of = |schedule: ScheduleId, labels: Vec<(String, Vec<String>)>| {
        let schedule = Some(schedule);
        ids(
            &world,
            &ListQuery {
                schedule,
                labels,
                ..all()
            },
        )
    };
    assert_eq!(of(schedule.id, vec![]), [started]);
    assert_eq!(of(schedule.id, wanted(&[("a", &["b"])])), [started]);
    assert_eq!(of(ScheduleId::generate(), vec![]), []);
    assert_eq!(ids(&world, &all()), [other, started]);
}

pub fn a_scan_stops_at_its_budget_and_can_be_continued(subject: Subject) {
    let world = World::new(subject, 1);
    let at = |second: i64| NOW + second * SECOND;
    let match_id = submit(&world, at(0), &Labels::NONE, |record| {
        record.input = Arc::new(Context::from_json(r#"{"n": 1}"#).unwrap());
    });
    let all_ids: Vec<ExecutionId> = (1..=10)
        .map(|second| submit(&world, at(second), &Labels::NONE, |_| ()))
        .collect();
    let query = ListQuery {
        inputs: vec![InputCondition {
            path: vec!["n".to_owned()],
            value: "1".to_owned(),
        }],
        limit: 5,
        budget: Some(ScanBudget {
            rows: 4,
            time: Duration::from_mins(1),
        }),
        ..ListQuery::default()
    };
    let first = world.store.list(&query).unwrap();
    assert_eq!((first.ids, first.examined), (vec![], 4));
    assert_eq!(first.reached, Some((all_ids[6], at(7))));
    let mut before = first.reached.map(|(id, _)| id);
    let mut found = Vec::new();
    while before.is_some() {
        let page = world
            .store
            .list(&ListQuery {
                before,
                ..query.clone()
            })
            .unwrap();
        found.extend(page.ids);
        before = page.reached.map(|(id, _)| id);
    }
    assert_eq!(found, [match_id]);
    let unbounded = ListQuery {
        budget: None,
        ..query
    };
    assert_eq!(ids(&world, &unbounded), [match_id]);
}

pub fn executions_are_counted_by_state_up_to_a_limit(subject: Subject) {
    let world = World::new(subject, 1);
    for second in 0..3 {
        submit(&world, NOW + second * SECOND, &Labels::NONE, |_| ());
    }
    let running = world.running();
    world.submit(&running);
    for _ in 0..2 {
        world.ended(ExecutionStatus::Completed, NOW);
    }
    world.ended(ExecutionStatus::Failed, NOW);
    let counts = |limit| -> Vec<(u64, bool)> {
        let counted = world.store.count_states(limit).unwrap().into_iter();
        counted
            .map(|(_, count, is_exact)| (count, is_exact))
            .collect()
    };
    // The order of the states is pending, running, paused, completed, failed, cancelled.
    let exact = [
        (3, true),
        (1, true),
        (0, true),
        (2, true),
        (1, true),
        (0, true),
    ];
    assert_eq!(counts(10), exact);
    let capped = counts(2);
    assert_eq!(capped[0], (2, false));
    assert_eq!(capped[4], (1, true));
}

pub fn executions_between_two_ids_are_counted(subject: Subject) {
    let world = World::new(subject, 1);
    let ids: Vec<ExecutionId> = (0..5)
        .map(|second| {
            submit(&world, NOW + second * SECOND, &Labels::NONE, |record| {
                if second == 2 {
                    record.status = ExecutionStatus::Failed;
                    record.ended_at = Some(NOW);
                }
            })
        })
        .collect();
    let count = |limit| world.store.count_between(ids[0], ids[4], limit).unwrap();
    assert_eq!(count(10), (3, 1));
    assert_eq!(count(2), (2, 1));
}

pub fn a_cut_payload_reports_the_size_of_the_whole_payload(subject: Subject) {
    let world = World::new(subject, 1);
    let input = r#"{"text":"äöü"}"#;
    let id = submit(&world, NOW, &Labels::NONE, |record| {
        record.input = Arc::new(Context::from_json(input).unwrap());
    });
    let stored = world.store.payload(id, None, 1000).unwrap().unwrap();
    assert_eq!(Context::from_json(&stored.text), Context::from_json(input));
    assert_eq!(stored.size, stored.text.len() as u64);
    let cut = world.store.payload(id, None, 10).unwrap().unwrap();
    assert_eq!(cut.text.chars().count(), 10);
    assert_eq!(cut.size, stored.size);
    assert_eq!(world.store.payload(id, Some(0), 10).unwrap(), None);
    assert_eq!(
        world
            .store
            .payload(ExecutionId::generate(), None, 10)
            .unwrap(),
        None
    );
}

pub fn the_change_marker_changes_after_a_write_through_the_same_store(subject: Subject) {
    let world = World::new(subject, 1);
    let before = world.store.marker().unwrap();
    submit(&world, NOW, &Labels::NONE, |_| ());
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while world.store.marker().unwrap() == before {
        assert!(
            std::time::Instant::now() < until,
            "the change marker did not change within 20 seconds of the write"
        );
        std::thread::yield_now();
    }
}
