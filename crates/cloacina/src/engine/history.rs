//! The history of an execution: stored events, and events derived from its rows (semantics E7).

use serde_json::{Value, json};

use super::Execution;
use crate::types::{
    ExecutionStatus, HistoryEvent, HistoryKind, Json, Ordinal, TaskRecord, TaskStatus, Timestamp,
};

/// Returns the stored events and those derived from the rows, oldest first.
#[must_use]
pub fn history_of(execution: &Execution, stored: Vec<HistoryEvent>) -> Vec<HistoryEvent> {
    let record = execution.record();
    let mut events = vec![event(record.created_at, HistoryKind::Submitted, None, None)];
    if let Some(started_at) = record.started_at {
        events.push(event(started_at, HistoryKind::Started, None, None));
    }
    for stored in stored {
        events.extend(start_of(&stored));
        events.push(stored);
    }
    for (ordinal, task) in (0..).zip(&record.tasks) {
        task_events(ordinal, task, &mut events);
    }
    events.extend(execution_end(execution));
    let mut positions = vec![0; record.tasks.len()];
    for (position, ordinal) in (0..).zip(execution.workflow().graph().order()) {
        positions[*ordinal as usize] = position;
    }
    events.sort_by_key(|event| {
        let position = event.task.and_then(|task| positions.get(task as usize));
        (
            event.time,
            rank(&event.kind, position.copied(), event.attempt),
        )
    });
    events
}

/// Returns the events to store because a retry erases them from the rows: the ends of the execution and of the tasks that run
/// again.
pub(super) fn erased_by_retry<'a>(
    execution: &'a Execution,
    tasks: impl Iterator<Item = Ordinal> + 'a,
) -> impl Iterator<Item = HistoryEvent> + 'a {
    tasks
        .filter_map(|ordinal| {
            let task = execution.task(ordinal);
            task_end(ordinal, task, task.started_at)
        })
        .chain(execution_end(execution))
}

fn execution_end(execution: &Execution) -> Option<HistoryEvent> {
    let record = execution.record();
    let end = match record.status {
        ExecutionStatus::Completed => HistoryKind::Completed,
        ExecutionStatus::Failed => HistoryKind::Failed,
        _ => return None, // a cancel is a stored event
    };
    let data = record.error.as_ref().and_then(|(task, failure)| {
        let task = task.map(|task| execution.workflow().task(task).id.as_str());
        Json::encode(&json!({
            "error": { "type": failure.kind, "message": failure.message }, "task": task,
        }))
        .ok()
    });
    Some(event(record.ended_at?, end, None, data))
}

fn task_events(ordinal: Ordinal, task: &TaskRecord, events: &mut Vec<HistoryEvent>) {
    let ran = matches!(
        task.status,
        TaskStatus::Running | TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled
    );
    if let Some(started_at) = task.started_at.filter(|_| ran) {
        let kind = HistoryKind::TaskStarted;
        events.push(task_event(ordinal, task, started_at, kind, None));
    }
    events.extend(task_end(ordinal, task, None));
}

/// The end of a task, with the start of its last attempt if one is given.
fn task_end(
    ordinal: Ordinal,
    task: &TaskRecord,
    started_at: Option<Timestamp>,
) -> Option<HistoryEvent> {
    let mut data = serde_json::Map::new();
    if let Some(started_at) = started_at {
        data.insert("started_at".to_owned(), json!(started_at));
    }
    let kind = match task.status {
        TaskStatus::Completed => HistoryKind::TaskCompleted,
        TaskStatus::Failed => {
            if let Some(failure) = &task.error {
                let error = json!({ "type": failure.kind, "message": failure.message });
                data.insert("error".to_owned(), error);
            }
            HistoryKind::TaskFailed
        }
        TaskStatus::Skipped => {
            let reason = task.skip.as_ref().map(|skip| skip.reason.as_str());
            data.insert("reason".to_owned(), json!(reason));
            HistoryKind::TaskSkipped
        }
        TaskStatus::Cancelled => HistoryKind::TaskCancelled,
        TaskStatus::Pending | TaskStatus::Ready | TaskStatus::Running => return None,
    };
    let data = (!data.is_empty()).then_some(Value::Object(data));
    let data = data.and_then(|data| Json::encode(&data).ok());
    Some(task_event(ordinal, task, task.ended_at?, kind, data))
}

fn task_event(
    ordinal: Ordinal,
    task: &TaskRecord,
    time: Timestamp,
    kind: HistoryKind,
    data: Option<Json>,
) -> HistoryEvent {
    HistoryEvent {
        attempt: (task.attempt > 0).then_some(task.attempt),
        runner: task.runner,
        ..event(time, kind, Some(ordinal), data)
    }
}

/// The start of an attempt, if its stored end contains it. The start of the last attempt is in the task's row instead.
fn start_of(ended: &HistoryEvent) -> Option<HistoryEvent> {
    #[derive(serde::Deserialize)]
    struct Data {
        started_at: Option<Timestamp>,
    }
    let data: Data = ended.data.as_ref()?.decode().ok()?;
    let start = event(data.started_at?, HistoryKind::TaskStarted, ended.task, None);
    Some(HistoryEvent {
        attempt: ended.attempt,
        runner: ended.runner,
        ..start
    })
}

/// The sort key among events of the same microsecond: a task's end comes before the starts that follow from it. `position` is
/// that of the task in the topological order.
fn rank(kind: &str, position: Option<u32>, attempt: Option<u32>) -> (u8, u32, u32, u8) {
    let stage = match kind {
        "submitted" => 0,
        "started" => 1,
        "completed" | "failed" => 4,
        _ => 2 + u8::from(position.is_some()),
    };
    let is_end = u8::from(kind != "task_started");
    (
        stage,
        position.unwrap_or_default(),
        attempt.unwrap_or_default(),
        is_end,
    )
}

fn event(
    time: Timestamp,
    kind: HistoryKind,
    task: Option<Ordinal>,
    data: Option<Json>,
) -> HistoryEvent {
    HistoryEvent {
        time,
        kind: kind.name().to_owned(),
        task,
        attempt: None,
        runner: None,
        data,
    }
}
