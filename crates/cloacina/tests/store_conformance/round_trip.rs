//! Cases that check that stored data is read back unchanged.

use std::sync::Arc;

use cloacina::store::{Batch, Submit};
use cloacina::types::{
    Context, Delta, ExecutionId, ExecutionStatus, Failure, FailureKind, HistoryEvent, Json,
    RunnerId, Skip, SkipCause, TaskRecord, TaskStatus, Timestamp,
};

use crate::world::{NOW, SECOND, Subject, World, as_stored, history};

fn failure() -> Failure {
    Failure {
        kind: "package.CustomError".to_owned(),
        message: "it \"broke\" \u{0} 🦀\n".to_owned(),
        traceback: Some("Traceback …".to_owned()),
        retryable: false,
        lineage: vec!["package.CustomError".to_owned(), "Exception".to_owned()],
    }
}

pub fn every_execution_column_is_read_back(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.running();
    record.priority = -32768;
    record.key = Some("order 🦀 'x' \" 4711".to_owned());
    record.input = Arc::new(Context::from_json(r#"{"day":"2026-01-01"}"#).unwrap());
    record.start_at = Some(NOW + 1);
    record.started_at = Some(NOW + 2);
    record.timeout = Some(3);
    record.deadline = Some(NOW + 4);
    world.submit(&record);
    assert_eq!(world.load(record.id), as_stored(&record));

    record.status = ExecutionStatus::Paused;
    record.paused_at = Some(NOW + 5);
    record.deadline = Some(NOW + 6);
    assert!(world.advance(&mut record, vec![]));
    assert_eq!(world.load(record.id), as_stored(&record));

    record.status = ExecutionStatus::Failed;
    record.paused_at = None;
    record.ended_at = Some(Timestamp(i64::MAX));
    record.error = Some((Some(0), failure()));
    assert!(world.advance(&mut record, vec![]));
    assert_eq!(world.load(record.id), as_stored(&record));

    record.error = Some((
        None,
        Failure::engine(FailureKind::WorkflowTimeout, "too long"),
    ));
    record.deadline = None;
    assert!(world.advance(&mut record, vec![]));
    assert_eq!(world.load(record.id), as_stored(&record));
}

pub fn an_outline_has_no_input_and_no_task_results(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.ready(&[0, 1]);
    record.input = Arc::new(Context::from_json(r#"{"day":"2026-01-01"}"#).unwrap());
    record.tasks[1] = TaskRecord {
        status: TaskStatus::Completed,
        attempt: 1,
        started_at: Some(NOW),
        ended_at: Some(NOW + 1),
        delta: Some(Arc::new(Delta::from_json(r#"{"s":{"k":1}}"#).unwrap())),
        error: Some(failure()),
        stored: true,
        ..TaskRecord::pending()
    };
    world.submit(&record);
    let unknown = ExecutionId::generate();
    let outlines = world.store.outlines(&[unknown, record.id]).unwrap();
    record.input = Arc::default();
    record.tasks[1].delta = None;
    assert_eq!(outlines, [as_stored(&record)]);
}

pub fn every_task_column_is_read_back(subject: Subject) {
    let world = World::new(subject, 4);
    let mut record = world.ready(&[0, 1, 2]);
    record.tasks[1].ready_at = Some(NOW + SECOND);
    record.tasks[2] = TaskRecord {
        status: TaskStatus::Failed,
        attempt: u32::MAX,
        uncounted: 3,
        rescues: 2,
        runner: Some(RunnerId::generate()),
        ready_at: Some(Timestamp(-1)),
        started_at: Some(NOW),
        ended_at: Some(NOW + 1),
        delta: Some(Arc::new(
            Delta::from_json(r#"{"s":{"k":1},"r":["gone"]}"#).unwrap(),
        )),
        error: Some(failure()),
        skip: Some(Skip {
            cause: SkipCause::Rule,
            reason: "because".to_owned(),
        }),
        wait: None,
        stored: true,
    };
    world.submit(&record);
    assert_eq!(world.load(record.id), as_stored(&record));

    // An update of another task writes the same columns.
    let mut full = record.tasks[2].clone();
    full.status = TaskStatus::Skipped;
    record.tasks[0] = full;
    record.tasks[2] = TaskRecord {
        status: TaskStatus::Cancelled,
        ..TaskRecord::pending()
    };
    assert!(world.advance(&mut record, vec![world.update(0), world.update(2)]));
    assert_eq!(world.load(record.id), as_stored(&record));
}

pub fn contexts_keep_unicode_escapes_big_numbers_and_order(subject: Subject) {
    let world = World::new(subject, 1);
    let text = r#"{"z":123456789012345678901234567890,"é🦀":"\u0000\"\\\n","a":[1.10,-0,1e400,{"":null}],"b'b":"it's"}"#;
    let mut record = world.running();
    record.input = Arc::new(Context::from_json(text).unwrap());
    world.submit(&record);
    record.tasks[0].delta = Some(Arc::new(
        Delta::from_json(&format!(r#"{{"s":{text},"r":["x\u0000y"]}}"#)).unwrap(),
    ));
    record.tasks[0].status = TaskStatus::Completed;
    assert!(world.advance(&mut record, vec![world.fenced(0, world.runner, 1)]));
    let loaded = world.load(record.id);
    assert_eq!(loaded.input.to_json(), text);
    assert_eq!(
        loaded.tasks[0].delta.as_ref().unwrap().to_json(),
        record.tasks[0].delta.as_ref().unwrap().to_json()
    );
}

pub fn a_pending_task_has_a_row_only_if_it_was_ready_before(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = world.ready(&[0]);
    world.submit(&record);
    let loaded = world.load(record.id);
    assert!(loaded.tasks[0].stored);
    assert_eq!(loaded.tasks[1], TaskRecord::pending());

    // A pause makes a ready task pending again.
    record.tasks[0].status = TaskStatus::Pending;
    record.tasks[0].ready_at = Some(NOW);
    assert!(world.advance(&mut record, vec![world.update(0)]));
    let loaded = world.load(record.id);
    assert!(loaded.tasks[0].stored);
    assert_eq!(loaded.tasks[0].ready_at, Some(NOW));
    assert_eq!(loaded.tasks[0].status, TaskStatus::Pending);
}

pub fn load_keeps_the_order_and_omits_unknown_ids(subject: Subject) {
    let world = World::new(subject, 1);
    let records = [world.ready(&[0]), world.ready(&[0]), world.ready(&[0])];
    for record in &records {
        world.submit(record);
    }
    let asked = [
        records[2].id,
        ExecutionId::generate(),
        records[0].id,
        records[2].id,
    ];
    let loaded: Vec<ExecutionId> = world
        .store
        .load(&asked)
        .unwrap()
        .iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(loaded, [records[2].id, records[0].id, records[2].id]);
    assert_eq!(world.store.load(&[]).unwrap(), []);
}

pub fn statuses_omit_unknown_ids(subject: Subject) {
    let world = World::new(subject, 1);
    let open = world.ready(&[0]);
    world.submit(&open);
    let ended = world.ended(ExecutionStatus::Failed, NOW);
    let mut statuses = world
        .store
        .statuses(&[ended.id, ExecutionId::generate(), open.id])
        .unwrap();
    statuses.sort_unstable();
    assert_eq!(
        statuses,
        [
            (open.id, ExecutionStatus::Pending),
            (ended.id, ExecutionStatus::Failed)
        ]
    );
}

pub fn history_is_oldest_first(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.ready(&[0]);
    let full = HistoryEvent {
        time: NOW + 1,
        kind: "task_retrying".to_owned(),
        task: Some(0),
        attempt: Some(2),
        runner: Some(world.runner),
        data: Some(Json::parse(r#"{"delay_us":1234567890123456789012}"#).unwrap()),
    };
    let first = [history("submitted")];
    let submit = Submit {
        history: &first,
        ..world.submission(&record)
    };
    world
        .store
        .commit(&Batch {
            submits: vec![submit],
            ..world.batch()
        })
        .unwrap();
    record.revision = 2;
    let later = [full.clone(), history("paused")];
    let advance = cloacina::store::Advance {
        record: &record,
        expected: 1,
        tasks: vec![],
        history: &later,
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
    let stale = cloacina::store::Advance {
        record: &record,
        expected: 1,
        tasks: vec![],
        history: &later,
        requires: &[],
        steps: None,
    };
    world
        .store
        .commit(&Batch {
            advances: vec![stale],
            ..world.batch()
        })
        .unwrap();
    assert_eq!(
        world.store.history(record.id).unwrap(),
        [history("submitted"), full, history("paused")]
    );
    assert_eq!(world.store.history(ExecutionId::generate()).unwrap(), []);
}

pub fn an_execution_can_have_ten_thousand_tasks(subject: Subject) {
    const TASKS: u32 = 10_000;
    let world = World::new(subject, TASKS as usize);
    let mut record = world.ready(&(0..TASKS).collect::<Vec<_>>());
    world.submit(&record);
    let claimed = world.claim(TASKS as usize * 2);
    assert_eq!(claimed.len(), TASKS as usize);
    assert_eq!(claimed.last().unwrap().revision, i64::from(TASKS) + 1);
    for task in &mut record.tasks {
        task.status = TaskStatus::Completed;
        task.attempt = 1;
        task.runner = Some(world.runner);
        task.started_at = Some(NOW);
        task.delta = Some(Arc::new(Delta::default()));
    }
    record.revision = i64::from(TASKS) + 1;
    record.status = ExecutionStatus::Completed;
    record.started_at = Some(NOW);
    record.ended_at = Some(NOW);
    let writes = (0..TASKS)
        .map(|ordinal| world.fenced(ordinal, world.runner, 1))
        .collect();
    assert!(world.advance(&mut record, writes));
    assert_eq!(world.load(record.id), as_stored(&record));
}

pub fn a_large_input_survives_many_updates(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = world.ready(&[0]);
    let big = format!(r#"{{"rows":"{}"}}"#, "x".repeat(3 << 20));
    record.input = Arc::new(Context::from_json(&big).unwrap());
    world.submit(&record);
    for _ in 0..20 {
        assert!(world.advance(&mut record, vec![world.update(0)]));
    }
    assert_eq!(world.load(record.id).input.to_json(), big);
}
