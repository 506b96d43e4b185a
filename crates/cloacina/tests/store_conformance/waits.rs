//! Cases for waits, signals and the inbox (semantics L).

use std::collections::HashSet;

use cloacina::store::{
    Advance, Batch, FlowWrites, InboxMessage, QueueId, SEND_WAKES, Submit, WaitQuery, WaitWrite,
};
use cloacina::types::{
    Cursor, ExecutionId, ExecutionRecord, InboxId, Json, NewSignal, Timestamp, Topic, WaitKind,
    WaitRow,
};

use crate::world::{NOW, SECOND, Subject, World};

fn signal(name: &str, key: Option<&str>) -> NewSignal {
    NewSignal {
        name: name.to_owned(),
        key: key.map(str::to_owned),
        to: None,
        data: Json::parse(r#"{"n":123456789012345678901234567890,"text":"\u0000ü"}"#).unwrap(),
        id: None,
        sender: Some("shop".to_owned()),
    }
}

/// Returns a cursor at the beginning of a topic.
fn cursor(topic: Topic) -> Cursor {
    Cursor {
        topic,
        after: 0,
        since: None,
    }
}

/// Returns the row of an open wait. Its kind is `Cancel` if `task` is `None`, `Approval` if `cursor` is `None`, and
/// otherwise `Signal`.
fn row(record: &ExecutionRecord, task: Option<u32>, cursor: Option<Cursor>) -> WaitRow {
    WaitRow {
        execution: record.id,
        task,
        slot: 0,
        kind: match (&cursor, task) {
            (_, None) => WaitKind::Cancel,
            (None, _) => WaitKind::Approval,
            (Some(_), _) => WaitKind::Signal,
        },
        workflow: "etl".to_owned(),
        task_id: "t0".to_owned(),
        name: "go".to_owned(),
        key: Some("o-1".to_owned()),
        cursor,
        since: NOW,
        deadline: Some(NOW + SECOND),
        detail: Json::parse(r#"{"title":"Release?"}"#).ok(),
    }
}

/// Returns the write that replaces the open waits of a task with these rows.
fn wait(record: &ExecutionRecord, task: Option<u32>, rows: Vec<WaitRow>) -> WaitWrite {
    WaitWrite {
        execution: record.id,
        task,
        state: task.map(|_| r#"{"passed":true}"#.to_owned()),
        queue: QueueId::WAITING,
        rows,
    }
}

/// Submits an execution whose first task waits. Returns whether a signal for the task was already stored.
fn submit(world: &World, record: &ExecutionRecord, waits: Vec<WaitWrite>) -> bool {
    let mut insert = world.insert(0);
    insert.queue = QueueId::WAITING;
    let committed = world
        .store
        .commit(&Batch {
            submits: vec![Submit {
                record,
                labels: &cloacina::types::Labels::NONE,
                workflow: world.workflow.name(),
                tasks: vec![insert],
                history: &[],
            }],
            flow: FlowWrites {
                waits,
                settled: Vec::new(),
                ..FlowWrites::default()
            },
            ..world.batch()
        })
        .unwrap();
    !committed.due.is_empty()
}

/// Returns an execution whose first task waits without a timeout.
fn waiting(world: &World) -> ExecutionRecord {
    let mut record = world.ready(&[0]);
    record.tasks[0].ready_at = Some(Timestamp(i64::MAX));
    record
}

/// Returns the executions with a due wait.
fn due(world: &World, now: Timestamp) -> Vec<ExecutionId> {
    world.store.due_waits(now, 10_000).unwrap().executions
}

/// Returns a query for all waits of these kinds.
fn all(kinds: &[WaitKind]) -> WaitQuery {
    WaitQuery {
        kinds: kinds.to_vec(),
        limit: 10_000,
        ..WaitQuery::default()
    }
}

pub fn l1_signals_are_read_in_the_order_in_which_they_were_sent(subject: Subject) {
    let world = World::new(subject, 1);
    let topic = Topic::keyed("go", Some("o-1"));
    let sent = world
        .store
        .send(
            None,
            &[
                signal("go", Some("o-1")),
                signal("go", Some("o-2")),
                signal("go", Some("o-1")),
            ],
            &[],
            NOW,
        )
        .unwrap();
    assert!(sent[0].seq < sent[1].seq && sent[1].seq < sent[2].seq);
    let first = world.store.signals(&[cursor(topic.clone())]).unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].seq, sent[0].seq);
    assert_eq!(first[0].data, signal("go", None).data);
    assert_eq!(first[0].sender.as_deref(), Some("shop"));
    assert_eq!(first[0].sent_at, NOW);
    let behind = |after: i64, since: Option<Timestamp>| {
        let place = Cursor {
            topic: topic.clone(),
            after,
            since,
        };
        let found = world.store.signals(&[place.clone(), place]).unwrap();
        found.iter().map(|signal| signal.seq).collect::<Vec<_>>()
    };
    assert_eq!(behind(sent[0].seq, None), [sent[2].seq]);
    assert_eq!(behind(sent[2].seq, None), Vec::<i64>::new());
    assert_eq!(behind(0, Some(NOW)), [sent[0].seq]);
    assert_eq!(behind(0, Some(NOW + 1)), Vec::<i64>::new());
    let others = world.store.count_other_signals("go", &[topic], 10).unwrap();
    assert_eq!(others, 1);
    assert_eq!(world.store.count_other_signals("go", &[], 2).unwrap(), 2);
    assert_eq!(world.store.count_other_signals("g", &[], 2).unwrap(), 0);
}

pub fn l2_signal_with_a_stored_id_is_not_stored_again(subject: Subject) {
    let world = World::new(subject, 1);
    let once = NewSignal {
        id: Some("evt-1".to_owned()),
        ..signal("go", None)
    };
    let sent = world
        .store
        .send(None, &[once.clone(), once.clone()], &[], NOW)
        .unwrap();
    assert_eq!(sent[0].seq, sent[1].seq);
    let again = world.store.send(None, &[once], &[], NOW + SECOND).unwrap();
    assert_eq!((again[0].seq, again[0].is_new), (sent[0].seq, false));
}

pub fn l5_registration_finds_an_earlier_signal(subject: Subject) {
    let world = World::new(subject, 1);
    let topic = || Topic::keyed("go", Some("o-1"));
    let late = waiting(&world);
    let rows = |record: &ExecutionRecord| vec![row(record, Some(0), Some(cursor(topic())))];
    assert!(!submit(
        &world,
        &late,
        vec![wait(&late, Some(0), rows(&late))]
    ));
    assert_eq!(due(&world, NOW + SECOND), []);
    world
        .store
        .send(None, &[signal("go", Some("o-1"))], &[], NOW)
        .unwrap();
    let early = waiting(&world);
    assert!(submit(
        &world,
        &early,
        vec![wait(&early, Some(0), rows(&early))]
    ));
    let found: HashSet<ExecutionId> = due(&world, NOW).into_iter().collect();
    assert_eq!(found, HashSet::from([late.id, early.id]));
    // The signal raised the revision of `late`, which was already waiting.
    assert_eq!(world.load(late.id).revision, 2);
    let due_at = world.load(late.id).tasks[0].ready_at;
    assert!(due_at.is_some_and(|at| at <= NOW), "{due_at:?}");
    assert!(world.load(late.id).tasks[0].wait.as_ref().unwrap().passed);
}

pub fn l5_stale_change_registers_nothing(subject: Subject) {
    let world = World::new(subject, 1);
    let record = waiting(&world);
    submit(&world, &record, vec![]);
    let mut stale = record.clone();
    stale.revision = 9;
    let committed = world
        .store
        .commit(&Batch {
            advances: vec![Advance {
                record: &stale,
                expected: 8,
                tasks: vec![],
                history: &[],
                requires: &[],
                steps: None,
            }],
            flow: FlowWrites {
                waits: vec![wait(&record, Some(0), vec![row(&record, Some(0), None)])],
                settled: Vec::new(),
                ..FlowWrites::default()
            },
            ..world.batch()
        })
        .unwrap();
    assert_eq!(committed.advances, [false]);
    assert_eq!(world.store.waits(&all(WaitKind::ALL)).unwrap(), []);
    assert_eq!(world.load(record.id).tasks[0].wait, None);
}

pub fn l6_waits_are_listed_until_they_are_replaced(subject: Subject) {
    let world = World::new(subject, 1);
    let record = waiting(&world);
    let listed = row(&record, Some(0), None);
    submit(
        &world,
        &record,
        vec![wait(&record, Some(0), vec![listed.clone()])],
    );
    let found = |query: &WaitQuery| world.store.waits(query).unwrap();
    assert_eq!(found(&all(WaitKind::ALL)), std::slice::from_ref(&listed));
    assert_eq!(found(&all(&[WaitKind::Signal])), []);
    let named = |name: &str| WaitQuery {
        name: Some(name.to_owned()),
        ..all(WaitKind::ALL)
    };
    assert_eq!(found(&named("go")).len(), 1);
    assert_eq!(found(&named("stop")), []);
    let of = |execution: ExecutionId| WaitQuery {
        execution: Some(execution),
        ..all(WaitKind::ALL)
    };
    assert_eq!(found(&of(record.id)).len(), 1);
    assert_eq!(found(&of(ExecutionId::generate())), []);
    let mut next = record.clone();
    next.revision = 2;
    world
        .store
        .commit(&Batch {
            advances: vec![Advance {
                record: &next,
                expected: 1,
                tasks: vec![],
                history: &[],
                requires: &[],
                steps: None,
            }],
            flow: FlowWrites {
                waits: vec![wait(&record, Some(0), vec![])],
                settled: Vec::new(),
                ..FlowWrites::default()
            },
            ..world.batch()
        })
        .unwrap();
    assert_eq!(found(&all(WaitKind::ALL)), []);
}

pub fn l10_signal_posts_a_message_for_tasks_beyond_the_wake_limit(subject: Subject) {
    let world = World::new(subject, 1);
    let records: Vec<ExecutionRecord> = (0..SEND_WAKES + 2).map(|_| waiting(&world)).collect();
    for (index, record) in records.iter().enumerate() {
        let mut waiting = row(record, Some(0), Some(cursor(Topic::keyed("go", None))));
        if index > SEND_WAKES {
            waiting.deadline = Some(NOW + 1_000 * SECOND);
        }
        submit(&world, record, vec![wait(record, Some(0), vec![waiting])]);
    }
    let sent = world
        .store
        .send(None, &[signal("go", None)], &[], NOW)
        .unwrap();
    assert_eq!(sent[0].woken, SEND_WAKES);
    // L7: if a task that the signal does not wake at once is close to its deadline, the signal raises the revision of
    // the task's execution. A timeout that was decided before the signal can then no longer be written. The last task
    // is far from its deadline.
    let rest = [SEND_WAKES, SEND_WAKES + 1].map(|index| world.load(records[index].id).revision);
    assert_eq!(rest, [2, 1]);
    assert_eq!(due(&world, NOW).len(), SEND_WAKES);
    let inbox = world.store.due_waits(NOW, 10).unwrap().inbox;
    assert_eq!(inbox.len(), 1);
    assert_eq!(world.store.advance_inbox(&inbox[0], NOW).unwrap(), 2);
    assert_eq!(due(&world, NOW).len(), SEND_WAKES + 2);
    assert_eq!(world.store.due_waits(NOW, 10).unwrap().inbox, []);
}

pub fn cancelling_signal_posts_a_message_for_the_execution_to_cancel(subject: Subject) {
    let world = World::new(subject, 1);
    let (one, two) = (waiting(&world), waiting(&world));
    for (record, key) in [(&one, "1"), (&two, "2")] {
        let rows = vec![row(
            record,
            None,
            Some(cursor(Topic::keyed("stop", Some(key)))),
        )];
        submit(&world, record, vec![wait(record, None, rows)]);
    }
    world
        .store
        .send(None, &[signal("stop", Some("1"))], &[], NOW)
        .unwrap();
    let inbox = world.store.due_waits(NOW, 10).unwrap().inbox;
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].kind, "cancel");
    assert_eq!(inbox[0].target, Some(one.id.to_string()));
    assert_eq!(world.load(one.id).revision, 1);
    // The commit that applies the message also deletes it.
    let mut next = world.load(one.id);
    next.revision = 2;
    world
        .store
        .commit(&Batch {
            advances: vec![Advance {
                record: &next,
                expected: 1,
                tasks: vec![],
                history: &[],
                requires: &[],
                steps: None,
            }],
            flow: FlowWrites {
                waits: vec![],
                settled: vec![(inbox[0].id, one.id)],
                ..FlowWrites::default()
            },
            ..world.batch()
        })
        .unwrap();
    assert_eq!(world.store.due_waits(NOW, 10).unwrap().inbox, []);
}

pub fn message_that_could_not_be_applied_is_not_due(subject: Subject) {
    let world = World::new(subject, 1);
    let message = |body: &str| InboxMessage {
        id: InboxId::generate(),
        kind: "signal".to_owned(),
        target: None,
        body: Some(body.to_owned()),
        created_at: NOW,
        note: None,
    };
    let (first, second) = (message("one"), message("two"));
    world.store.post(&first).unwrap();
    world.store.post(&second).unwrap();
    let open = || world.store.due_waits(NOW, 10).unwrap().inbox;
    assert_eq!(open(), [first.clone(), second.clone()]);
    world
        .store
        .note_inbox(first.id, Some("it is not JSON"))
        .unwrap();
    assert_eq!(open(), std::slice::from_ref(&second));
    // `send` deletes the inbox message that contains the signal. If this message no longer exists, `send` stores
    // nothing.
    let sent = world
        .store
        .send(None, &[signal("go", None)], &[second.id], NOW)
        .unwrap();
    assert_eq!(sent.len(), 1);
    let again = world
        .store
        .send(None, &[signal("go", None)], &[second.id], NOW)
        .unwrap();
    assert_eq!(again, []);
    assert_eq!(open(), []);
    world.store.note_inbox(first.id, None).unwrap();
}

pub fn l14_next_check_is_the_earliest_due_time_of_a_wait(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = waiting(&world);
    submit(&world, &record, vec![wait(&record, Some(0), vec![])]);
    let next = world.store.due_waits(NOW, 10).unwrap().next;
    assert_eq!(next, None, "a wait without a timeout is never due");
    record = waiting(&world);
    record.tasks[0].ready_at = Some(NOW + SECOND);
    submit(&world, &record, vec![wait(&record, Some(0), vec![])]);
    let found = world.store.due_waits(NOW, 10).unwrap();
    assert_eq!((found.executions, found.next), (vec![], Some(NOW + SECOND)));
    let found = world.store.due_waits(NOW + SECOND, 10).unwrap();
    assert_eq!((found.executions, found.next), (vec![record.id], None));
}

pub fn open_waits_are_counted_by_kind(subject: Subject) {
    let world = World::new(subject, 1);
    let record = waiting(&world);
    let listed = row(&record, Some(0), None);
    let kind = listed.kind;
    assert_eq!(world.store.count_waits(kind, 10).unwrap(), 0);
    submit(&world, &record, vec![wait(&record, Some(0), vec![listed])]);
    let others = WaitKind::ALL.iter().filter(|other| **other != kind);
    for other in others {
        assert_eq!(world.store.count_waits(*other, 10).unwrap(), 0);
    }
    assert_eq!(world.store.count_waits(kind, 10).unwrap(), 1);
    assert_eq!(world.store.count_waits(kind, 0).unwrap(), 0);
}

pub fn overdue_reports_whether_waits_exist(subject: Subject) {
    let world = World::new(subject, 1);
    let has_waits = || world.store.overdue(NOW).unwrap().has_waits;
    assert!(!has_waits(), "the database is empty");
    world.submit(&world.ready(&[0]));
    assert!(!has_waits(), "a ready task does not wait");
    let message = InboxMessage {
        id: InboxId::generate(),
        kind: "signal".to_owned(),
        target: None,
        body: None,
        created_at: NOW,
        note: None,
    };
    world.store.post(&message).unwrap();
    assert!(has_waits(), "an inbox message must be applied");
    world
        .store
        .note_inbox(message.id, Some("it is not JSON"))
        .unwrap();
    assert!(
        !has_waits(),
        "a message with a recorded failure is not applied"
    );
    let record = waiting(&world);
    submit(&world, &record, vec![wait(&record, Some(0), vec![])]);
    assert!(has_waits(), "a task waits without a timeout");
}

pub fn l15_signals_of_an_open_wait_are_not_pruned(subject: Subject) {
    let world = World::new(subject, 1);
    let sent = world
        .store
        .send(
            None,
            &[signal("go", Some("1")), signal("go", Some("2"))],
            &[],
            NOW,
        )
        .unwrap();
    let record = waiting(&world);
    let rows = vec![row(
        &record,
        Some(0),
        Some(cursor(Topic::keyed("go", Some("1")))),
    )];
    submit(&world, &record, vec![wait(&record, Some(0), rows)]);
    assert_eq!(world.store.prune_signals(NOW, 10).unwrap(), 0);
    assert_eq!(world.store.prune_signals(NOW + 1, 10).unwrap(), 1);
    let kept = [
        cursor(Topic::keyed("go", Some("1"))),
        cursor(Topic::keyed("go", Some("2"))),
    ];
    let kept = world.store.signals(&kept).unwrap();
    assert_eq!(
        kept.iter().map(|signal| signal.seq).collect::<Vec<_>>(),
        [sent[0].seq]
    );
}
