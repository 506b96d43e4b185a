//! The history of an execution: stored events, and events that are derived from its rows (semantics E7).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::finish::error_of;
use super::{Changes, Execution};
use crate::types::{
    Audit, ExecutionId, ExecutionStatus, HistoryEvent, HistoryKind, Json, Labels, Micros, Ordinal,
    StepKind, StepRecord, TaskRecord, TaskStatus, Timestamp,
};

/// Maximum size, in bytes, of a step's value that is copied into the step's event. For a larger value, the event contains only
/// the size.
const MAX_VALUE: usize = 64 * 1024;

/// Returns the stored events and the events derived from the rows of the execution, its tasks and their `steps`, oldest first.
#[must_use]
pub fn history_of(
    execution: &Execution,
    labels: &Labels,
    stored: Vec<HistoryEvent>,
    steps: &[(Ordinal, StepRecord)],
) -> Vec<HistoryEvent> {
    let record = execution.record();
    let pairs: BTreeMap<&str, &str> = labels.iter().collect();
    let data = (!pairs.is_empty()).then(|| json!({ "labels": pairs }));
    let data = data.and_then(|data| Json::encode(&data).ok());
    let mut events = vec![event(record.created_at, HistoryKind::Submitted, None, data)];
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
    // Steps of individual children are left out, because the end of each child is already a stored event.
    let own = steps
        .iter()
        .filter(|(_, step)| step.kind != StepKind::Child);
    events.extend(own.map(|(task, step)| step_event(*task, step)));
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

/// Adds the caller's name and reason to the events of the caller's action.
pub fn attribute(changes: &mut Changes, audit: &Audit) {
    if audit.is_empty() {
        return;
    }
    let actions = [
        HistoryKind::Cancelled,
        HistoryKind::Paused,
        HistoryKind::Resumed,
        HistoryKind::Retried,
    ];
    for event in &mut changes.history {
        if actions.iter().any(|action| action.name() == event.kind) {
            let known = event.data.as_ref().and_then(|data| data.decode().ok());
            let data = attributed(known.unwrap_or_default(), audit);
            event.data = Json::encode(&data).ok();
        }
    }
}

/// Returns the event that records the origin of an execution: the caller and the reason of its submission, and the execution
/// that it repeats (`rerun_of`). Returns `None` if none of these is known.
#[must_use]
pub fn origin(
    rerun_of: Option<ExecutionId>,
    audit: &Audit,
    now: Timestamp,
) -> Option<HistoryEvent> {
    if rerun_of.is_none() && audit.is_empty() {
        return None;
    }
    let mut data = serde_json::Map::new();
    let kind = if let Some(id) = rerun_of {
        data.insert("execution_id".to_owned(), json!(id));
        HistoryKind::RerunOf
    } else {
        HistoryKind::SubmittedBy
    };
    let data = Json::encode(&attributed(data, audit)).ok();
    Some(event(now, kind, None, data))
}

fn attributed(
    mut data: serde_json::Map<String, Value>,
    audit: &Audit,
) -> serde_json::Map<String, Value> {
    for (name, value) in [("actor", &audit.actor), ("note", &audit.note)] {
        if let Some(value) = value {
            data.insert(name.to_owned(), json!(value));
        }
    }
    data
}

/// Returns events that must be stored now: the end of the execution, and the ends of the tasks that run again. A retry
/// overwrites the rows from which these events are derived.
pub(super) fn erased_by_retry<'a>(
    execution: &'a Execution,
    tasks: impl Iterator<Item = Ordinal> + 'a,
) -> impl Iterator<Item = HistoryEvent> + 'a {
    tasks
        .filter_map(|ordinal| {
            let task = execution.task(ordinal);
            task_end(ordinal, task, task.unrecorded_start())
        })
        .chain(execution_end(execution))
}

fn execution_end(execution: &Execution) -> Option<HistoryEvent> {
    let record = execution.record();
    let end = match record.status {
        ExecutionStatus::Completed => HistoryKind::Completed,
        ExecutionStatus::Failed => HistoryKind::Failed,
        _ => return None, // the end of a cancelled execution is a stored event
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

/// The data of the event of a recorded step.
#[derive(Serialize)]
struct StepData<'a> {
    duration_us: Micros,
    key: &'a str,
    kind: &'static str,
    /// The value as its exact text, because decoding would round numbers with many digits. `None` for a large value.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_bytes: Option<usize>,
}

/// T7: returns the event of a recorded step.
fn step_event(task: Ordinal, step: &StepRecord) -> HistoryEvent {
    let bytes = step.value.as_str().len();
    let is_large = bytes > MAX_VALUE;
    let data = StepData {
        duration_us: step.duration(),
        key: &step.key,
        kind: step.kind.name(),
        value: (!is_large).then_some(&step.value),
        value_bytes: is_large.then_some(bytes),
    };
    HistoryEvent {
        attempt: Some(step.attempt),
        ..event(
            step.ended_at,
            HistoryKind::StepRecorded,
            Some(task),
            Json::encode(&data).ok(),
        )
    }
}

fn task_events(ordinal: Ordinal, task: &TaskRecord, events: &mut Vec<HistoryEvent>) {
    let ran = matches!(
        task.status,
        TaskStatus::Running | TaskStatus::Completed | TaskStatus::Failed | TaskStatus::Cancelled
    );
    if let Some(started_at) = task.unrecorded_start().filter(|_| ran) {
        let kind = HistoryKind::TaskStarted;
        events.push(task_event(ordinal, task, started_at, kind, None));
    }
    events.extend(task_end(ordinal, task, None));
}

/// Returns the event of a task's end. The event also contains the start of the task's last attempt, if `started_at` is given.
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
                data.insert("error".to_owned(), error_of(failure));
            }
            HistoryKind::TaskFailed
        }
        TaskStatus::Skipped => {
            let reason = task.skip.as_ref().map(|skip| skip.reason.as_str());
            data.insert("reason".to_owned(), json!(reason));
            HistoryKind::TaskSkipped
        }
        TaskStatus::Cancelled => HistoryKind::TaskCancelled,
        TaskStatus::Pending | TaskStatus::Ready | TaskStatus::Running | TaskStatus::Waiting => {
            return None;
        }
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
        attempt: Some(task.attempts_begun()).filter(|attempt| *attempt > 0),
        runner: task.runner,
        ..event(time, kind, Some(ordinal), data)
    }
}

/// Returns the event of an attempt's start, if the stored event of the attempt's end contains the start. The start of a task's
/// last attempt is in the task's row instead.
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

/// The sort key of events with equal times. The end of a task comes before the starts that it causes. `position`: the position
/// of the event's task in the topological order.
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
