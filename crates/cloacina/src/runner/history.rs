//! The whole history of an execution: what is stored, and what its rows tell anyway (semantics E7).

use crate::engine::Execution;
use crate::types::{
    ExecutionStatus, HistoryEvent, HistoryKind, Json, Ordinal, TaskRecord, TaskStatus, Timestamp,
};

/// Stored events and those that follow from the rows, oldest first.
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
    if let Some(ended_at) = record.ended_at {
        let end = match record.status {
            ExecutionStatus::Completed => Some(HistoryKind::Completed),
            ExecutionStatus::Failed => Some(HistoryKind::Failed),
            _ => None, // a cancel is stored itself
        };
        let data = record.error.as_ref().and_then(|(task, failure)| {
            let task = task.map(|task| execution.workflow().task(task).id.as_str());
            Json::encode(&serde_json::json!({
                "error": { "type": failure.kind, "message": failure.message }, "task": task,
            }))
            .ok()
        });
        events.extend(end.map(|end| event(ended_at, end, None, data)));
    }
    let mut places = vec![0; record.tasks.len()];
    for (place, ordinal) in (0..).zip(execution.workflow().graph().order()) {
        places[*ordinal as usize] = place;
    }
    events.sort_by_key(|event| {
        let place = event.task.and_then(|task| places.get(task as usize));
        (event.time, rank(&event.kind, place.copied(), event.attempt))
    });
    events
}

fn task_events(ordinal: Ordinal, task: &TaskRecord, events: &mut Vec<HistoryEvent>) {
    let at = |time, kind, data| HistoryEvent {
        task: Some(ordinal),
        attempt: (task.attempt > 0).then_some(task.attempt),
        runner: task.runner,
        ..event(time, kind, None, data)
    };
    let ran = matches!(
        task.status,
        TaskStatus::Running | TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled
    );
    if let Some(started_at) = task.started_at.filter(|_| ran) {
        events.push(at(started_at, HistoryKind::TaskStarted, None));
    }
    let Some(ended_at) = task.ended_at else {
        return;
    };
    match task.status {
        TaskStatus::Completed => events.push(at(ended_at, HistoryKind::TaskCompleted, None)),
        TaskStatus::Failed => {
            let data = task.error.as_ref().and_then(|failure| {
                Json::encode(&serde_json::json!({
                    "error": { "type": failure.kind, "message": failure.message },
                }))
                .ok()
            });
            events.push(at(ended_at, HistoryKind::TaskFailed, data));
        }
        TaskStatus::Skipped => {
            let reason = task.skip.as_ref().map(|skip| skip.reason.as_str());
            let data = Json::encode(&serde_json::json!({ "reason": reason })).ok();
            events.push(at(ended_at, HistoryKind::TaskSkipped, data));
        }
        TaskStatus::Cancelled => events.push(at(ended_at, HistoryKind::TaskCancelled, None)),
        TaskStatus::Pending | TaskStatus::Ready | TaskStatus::Running => {}
    }
}

/// An attempt that is not the last one keeps its start with its end.
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

/// Order among events of the same microsecond: a task's end comes before the starts that it brings about. `place` is that
/// of the task in the workflow.
fn rank(kind: &str, place: Option<u32>, attempt: Option<u32>) -> (u8, u32, u32, u8) {
    let stage = match kind {
        "submitted" => 0,
        "started" => 1,
        "completed" | "failed" => 4,
        _ => 2 + u8::from(place.is_some()),
    };
    let is_end = u8::from(kind != "task_started");
    (
        stage,
        place.unwrap_or_default(),
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
