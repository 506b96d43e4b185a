//! Views of executions and their tasks.

use std::collections::BTreeMap;

use cloacina::runner::ListedExecution;
use cloacina::runtime::Ended;
use cloacina::types::{Failure, Labels, MapRow, TaskRecord};
use cloacina::workflow::{TaskDefinition, Workflow};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::history::EventView;
use super::map::MapView;
use super::{due, time};

/// Maximum length of an error's message in a list, in characters.
const MAX_MESSAGE: usize = 300;

/// The error of a failed execution or task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorView {
    /// The name of the error's type.
    r#type: String,
    /// The message. Lists contain only its first 300 characters.
    message: String,
    /// The task that caused the execution's error; null in the error of a task.
    task: Option<String>,
    /// The traceback; null in lists.
    traceback: Option<String>,
}

impl ErrorView {
    pub(crate) fn new(failure: &Failure, task: Option<String>) -> Self {
        Self {
            r#type: failure.kind.clone(),
            message: failure.message.clone(),
            task,
            traceback: failure.traceback.clone(),
        }
    }

    fn cut(mut self) -> Self {
        if let Some((end, _)) = self.message.char_indices().nth(MAX_MESSAGE) {
            self.message.truncate(end);
            self.message.push('…');
        }
        self.traceback = None;
        self
    }
}

/// An execution in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionSummary {
    /// The id.
    id: String,
    /// The name of the workflow.
    workflow: String,
    /// The version of the workflow.
    version: String,
    /// The state: Pending, Running, Paused, Completed, Failed or Cancelled.
    status: String,
    /// The key that the execution was submitted with.
    key: Option<String>,
    /// The labels that the execution was submitted with.
    labels: BTreeMap<String, String>,
    /// Tasks of executions with a higher priority are claimed first.
    priority: i16,
    /// The execution that started this execution, as a child or to run its final tasks; null for other executions.
    parent: Option<String>,
    /// The revision. It grows with every change, except the start of a claimed task and changes of map items.
    revision: i64,
    /// When the execution was submitted.
    #[schema(format = DateTime)]
    created_at: String,
    /// The earliest time at which the execution can start.
    #[schema(format = DateTime)]
    start_at: Option<String>,
    /// The start of the execution's first task.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// The end of the execution.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// The time from the first task's start to the end, in microseconds.
    duration_us: Option<i64>,
    /// The error of a failed execution.
    error: Option<ErrorView>,
}

fn pairs(labels: &Labels) -> BTreeMap<String, String> {
    let pairs = labels.iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

impl ExecutionSummary {
    /// Returns the view of an execution in a list. The query of the list has already shortened the error's message.
    pub(crate) fn listed(item: &ListedExecution) -> Self {
        let (record, workflow) = (item.summary(), item.workflow());
        let error = record.error.as_ref().map(|error| ErrorView {
            r#type: error.kind.clone(),
            message: if error.is_cut {
                format!("{}…", error.message)
            } else {
                error.message.clone()
            },
            task: item.failed_task().map(str::to_owned),
            traceback: None,
        });
        Self {
            id: record.id.to_string(),
            workflow: workflow.name().to_owned(),
            version: workflow.version().to_owned(),
            status: record.status.name().to_owned(),
            key: record.key.clone(),
            labels: pairs(&record.labels),
            priority: record.priority,
            parent: record
                .parent
                .as_ref()
                .map(|link| link.execution.to_string()),
            revision: record.revision,
            created_at: time(record.created_at),
            start_at: record.start_at.map(time),
            started_at: record.started_at.map(time),
            ended_at: record.ended_at.map(time),
            duration_us: record
                .started_at
                .zip(record.ended_at)
                .map(|(start, end)| end.since(start)),
            error,
        }
    }

    fn new(execution: &Ended, labels: &Labels) -> Self {
        let record = execution.record();
        let workflow = execution.workflow();
        let error = record.error.as_ref().map(|(task, failure)| {
            let task = task.map(|task| workflow.task(task).id.clone());
            ErrorView::new(failure, task).cut()
        });
        Self {
            id: record.id.to_string(),
            workflow: workflow.name().to_owned(),
            version: workflow.version().to_owned(),
            status: record.status.name().to_owned(),
            key: record.key.clone(),
            labels: pairs(labels),
            priority: record.priority,
            parent: record
                .parent
                .as_ref()
                .map(|link| link.execution.to_string()),
            revision: record.revision,
            created_at: time(record.created_at),
            start_at: record.start_at.map(time),
            started_at: record.started_at.map(time),
            ended_at: record.ended_at.map(time),
            duration_us: record
                .started_at
                .zip(record.ended_at)
                .map(|(start, end)| end.since(start)),
            error,
        }
    }
}

/// A child of an execution.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChildView {
    #[serde(flatten)]
    summary: ExecutionSummary,
    /// The task that started the child; null for the execution of the final tasks.
    task: Option<String>,
    /// A number that distinguishes the children that the task started one after the other, for example in several attempts. The
    /// first has the number 1.
    generation: Option<u32>,
}

impl ChildView {
    pub(crate) fn new(item: &ListedExecution, parent: &Workflow) -> Self {
        let link = item.summary().parent.as_ref();
        let tasks = &parent.definition().tasks;
        // The execution of final tasks belongs to the parent execution, not to one of its tasks.
        let of_task = link.filter(|link| link.finale.is_none());
        let task = of_task.and_then(|link| tasks.get(link.task as usize));
        Self {
            summary: ExecutionSummary::listed(item),
            task: task.map(|task| task.id.clone()),
            generation: link.map(|link| link.generation),
        }
    }
}

/// An execution.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionView {
    #[serde(flatten)]
    summary: ExecutionSummary,
    /// The timeout of the execution, in microseconds.
    timeout_us: Option<i64>,
    /// When the timeout ends the execution.
    #[schema(format = DateTime)]
    deadline_at: Option<String>,
    /// The start of the current pause.
    #[schema(format = DateTime)]
    paused_at: Option<String>,
    /// The number of tasks in each state.
    tasks: BTreeMap<String, usize>,
    /// The URL of the trace in which the execution was submitted, if the server has a template for such URLs.
    trace_url: Option<String>,
}

impl ExecutionView {
    pub(crate) fn new(execution: &Ended, labels: &Labels, trace_url: Option<String>) -> Self {
        let record = execution.record();
        let mut summary = ExecutionSummary::new(execution, labels);
        summary.error = record.error.as_ref().map(|(task, failure)| {
            let task = task.map(|task| execution.workflow().task(task).id.clone());
            ErrorView::new(failure, task)
        });
        let mut tasks = BTreeMap::new();
        for task in &record.tasks {
            *tasks.entry(task.status.name().to_owned()).or_default() += 1;
        }
        Self {
            summary,
            timeout_us: record.timeout,
            deadline_at: due(record.deadline),
            paused_at: record.paused_at.map(time),
            tasks,
            trace_url,
        }
    }
}

/// A task of an execution, without its input and result.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskView {
    /// The id.
    id: String,
    /// The state: Pending, Ready, Waiting, Running, Completed, Failed, Skipped or Cancelled.
    status: String,
    /// The number of attempts so far, including a running attempt.
    attempts: u32,
    /// The maximum number of attempts that the task's retry policy allows.
    max_attempts: u32,
    /// The number of times that the task was rescued from a dead runner.
    rescues: u32,
    /// The tasks that must end before this task can start.
    dependencies: Vec<String>,
    /// The runner that runs the task, or ran the last attempt of a task that has ended.
    runner: Option<String>,
    /// The earliest time at which a ready task can start, or at which a waiting task is due; null if no such time is set.
    #[schema(format = DateTime)]
    ready_at: Option<String>,
    /// The start of the last attempt.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// The end of the task.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// The time from the start of the last attempt to the end of the task, in microseconds.
    duration_us: Option<i64>,
    /// The last failure.
    error: Option<ErrorView>,
    /// Why the task was skipped.
    skip_reason: Option<String>,
    /// The counts of a map's items. Null if the task is not a map, or if the map's list has not been read yet.
    map: Option<MapView>,
}

impl TaskView {
    pub(crate) fn new(
        definition: &TaskDefinition,
        record: &TaskRecord,
        map: Option<&MapRow>,
        whole: bool,
    ) -> Self {
        let error = record
            .error
            .as_ref()
            .map(|failure| ErrorView::new(failure, None));
        Self {
            id: definition.id.clone(),
            status: record.status.name().to_owned(),
            attempts: record.attempts_begun(),
            max_attempts: definition.retry.max_attempts,
            rescues: record.rescues,
            dependencies: definition.dependencies.clone(),
            runner: record.runner.map(|runner| runner.to_string()),
            ready_at: due(record.ready_at),
            started_at: record.attempt_started_at().map(time),
            ended_at: record.ended_at.map(time),
            duration_us: record
                .attempt_started_at()
                .zip(record.ended_at)
                .map(|(start, end)| end.since(start)),
            error: error.map(|error| if whole { error } else { error.cut() }),
            skip_reason: record.skip.as_ref().map(|skip| skip.reason.clone()),
            map: map.map(MapView::new),
        }
    }
}

/// An attempt of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptView {
    /// The number of the attempt, counted from 1.
    pub(crate) attempt: u32,
    /// The events about the attempt, oldest first. They include its error and traceback.
    pub(crate) events: Vec<EventView>,
}

/// The states of all tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatesView {
    /// The revision of the execution.
    pub(crate) revision: i64,
    /// One character per task, for the state of the task. The tasks are in the order of their declaration.
    pub(crate) states: String,
}

/// A value and its size. A value that is too large is omitted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Payload {
    /// The value; null if the task has written nothing, or if the value is larger than 64 KiB and `full` is not true.
    #[schema(value_type = Option<serde_json::Value>)]
    pub(crate) value: Option<Box<RawValue>>,
    /// The size of the JSON text, in bytes.
    pub(crate) size_bytes: usize,
    /// Whether the value was omitted because of its size.
    pub(crate) is_cut: bool,
}

/// The result of a submission.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubmittedView {
    /// The id of the execution; null for a dry run.
    pub(crate) id: Option<String>,
    /// Whether the submission created the execution; false in a dry run, or if an earlier execution has the key.
    pub(crate) created: bool,
    /// Whether this was a dry run, which submitted nothing.
    pub(crate) dry_run: bool,
}

/// The state of an execution after a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ControlledView {
    /// The id of the execution.
    pub(crate) id: String,
    /// The new state.
    pub(crate) status: String,
}
