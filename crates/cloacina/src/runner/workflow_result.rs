//! `WorkflowResult`: a snapshot of an execution.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::Context;
use super::async_engine::{AsyncEngine, read_on_a_thread};
use super::decoding::{absent, decode_text};
use super::error_info::ErrorInfo;
use crate::engine::{self, Execution};
use crate::runtime::Ended;
use crate::types::{
    Error, ErrorCode, ExecutionId, ExecutionStatus, HistoryEvent, Json, RunnerId, TaskRecord,
    TaskStatus, Timestamp, nearest,
};

/// A snapshot of an execution with all its tasks. Contexts and errors are decoded when they are read.
///
/// Since 1.0.
#[derive(Clone)]
pub struct WorkflowResult {
    execution: Ended,
    /// The runner that read the execution. It also reads the items of maps.
    engine: Weak<AsyncEngine>,
}

/// The state of one task.
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TaskResult {
    /// The task's id.
    pub task_id: String,
    /// The task's state.
    pub status: TaskStatus,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The time at which the last attempt started.
    pub started_at: Option<Timestamp>,
    /// The time at which the task ended.
    pub ended_at: Option<Timestamp>,
    /// The last error.
    pub error: Option<ErrorInfo>,
    /// The reason why the task was skipped.
    pub skip_reason: Option<String>,
}

impl WorkflowResult {
    pub(super) fn new(execution: Ended, engine: &Arc<AsyncEngine>) -> Self {
        Self {
            execution,
            engine: Arc::downgrade(engine),
        }
    }

    /// The execution's id. Since 1.0.
    #[must_use]
    pub fn execution_id(&self) -> ExecutionId {
        self.execution.record().id
    }

    /// The workflow's name. Since 1.0.
    #[must_use]
    pub fn workflow_name(&self) -> &str {
        self.execution.workflow().name()
    }

    /// The id of the execution that runs the final tasks and compensations; `None` if there are none.
    /// [`DefaultRunner::handle`](super::DefaultRunner::handle) returns a handle to it. Since 1.0.
    #[must_use]
    pub fn final_execution(&self) -> Option<ExecutionId> {
        let link = self.execution.record().finale.as_ref()?;
        link.finale.as_ref().map(|finale| finale.id)
    }

    /// The version of the workflow that the execution runs. Since 1.0.
    #[must_use]
    pub fn workflow_version(&self) -> &str {
        self.execution.workflow().version()
    }

    /// The key with which the execution was submitted, if any. Since 1.0.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.execution.record().key.as_deref()
    }

    /// The execution's state. Since 1.0.
    #[must_use]
    pub fn status(&self) -> ExecutionStatus {
        self.execution.record().status
    }

    /// The time at which the execution was submitted. Since 1.0.
    #[must_use]
    pub fn submitted_at(&self) -> Timestamp {
        self.execution.record().created_at
    }

    /// The time at which the first task started. Since 1.0.
    #[must_use]
    pub fn started_at(&self) -> Option<Timestamp> {
        self.execution.record().started_at
    }

    /// The time at which the execution ended. Since 1.0.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.execution.record().ended_at
    }

    /// The time from the start of the first task to the end of the execution; `None` before the end. Since 1.0.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        let span = self.ended_at()?.since(self.started_at()?);
        u64::try_from(span).ok().map(Duration::from_micros)
    }

    /// The input, merged with the writes of all completed tasks. Since 1.0.
    #[must_use]
    pub fn final_context(&self) -> Context {
        Context::from_values(self.execution.final_context().into(), false)
    }

    /// Decodes the output. If the workflow names one result as its `output`, the output is this result. If it names several,
    /// the output is an array of these results. If it names none, the output is the final context. A result that no task
    /// produced is `null`; decode it as an `Option`.
    ///
    /// # Errors
    /// `ContextInvalid` when the output does not have the type `T`. The message names the path of the part that does not fit.
    ///
    /// Since 1.0.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let output = engine::output(self.execution.workflow(), self.execution.record());
        decode_text(output.as_str()).map_err(|problem| {
            let workflow = self.workflow_name();
            Self::not_a::<T>(&format!("the output of workflow '{workflow}'"), &problem)
        })
    }

    /// Decodes the result of a task. For a task with values, this is the value that the function returned. For a task that
    /// writes the context, it is the value that the task stored under its own id. Use an `Option` as `T` for a task that may
    /// not have run.
    ///
    /// The result of a map is the list of its items' results, in the order of the elements: a `Vec<T>`, or a `Vec<Option<T>>`
    /// if the map tolerates failed items. For a map, this call reads the current results of the items from the database, which
    /// blocks the thread. [`DefaultRunner::items`](super::DefaultRunner::items) reads them page by page without blocking.
    ///
    /// # Errors
    /// `TaskInvalid` for an unknown task; `ContextInvalid` when the task has no result, or when the result does not have the
    /// type `T`; for a map also `RunnerClosed` after the runner has been shut down, and `Database` or `Connection`.
    ///
    /// Since 1.0.
    pub fn of<T: DeserializeOwned>(&self, task: impl AsRef<str>) -> Result<T, Error> {
        let (task, workflow) = (task.as_ref(), self.execution.workflow());
        let Some(ordinal) = workflow.ordinal(task) else {
            let message = format!("workflow '{}' has no task '{task}'", workflow.name());
            let error = Error::new(ErrorCode::TaskInvalid, message);
            let tasks = workflow.definition().tasks.iter();
            return Err(match nearest(task, tasks.map(|task| task.id.as_str())) {
                Some(near) => error.with_hint(format!("did you mean '{near}'?")),
                None => error,
            });
        };
        let is_map = workflow.task(ordinal).over.is_some();
        let result = if is_map && self.execution.task(ordinal).status == TaskStatus::Completed {
            Some(self.items_of(task)?)
        } else {
            engine::result(workflow, self.execution.record(), ordinal)
        };
        match result {
            Some(result) => decode_text(result.as_str()).map_err(|problem| {
                Self::not_a::<T>(&format!("the result of task '{task}'"), &problem)
            }),
            None => absent().ok_or_else(|| {
                let status = self.execution.task(ordinal).status;
                let message = format!("task '{task}' has no result: it is {status}");
                Error::new(ErrorCode::ContextInvalid, message)
                    .with_hint("decode an Option for a task that may not have run")
            }),
        }
    }

    /// Returns the results of a map's items as an array. The entry of an item without a result is `null`.
    fn items_of(&self, task: &str) -> Result<Json, Error> {
        let engine = self.engine.upgrade();
        let Some(engine) = engine.filter(|engine| !engine.handle().is_closed()) else {
            return Err(Error::runner_closed().with_hint(format!(
                "read the results of map '{task}' before the shutdown"
            )));
        };
        let id = self.execution_id();
        let items = read_on_a_thread(|| engine.handle().inspector().all_items(id, task))??;
        let results = items.iter().map(|item| item.result.as_ref());
        let results: Vec<&str> = results
            .map(|result| result.map_or("null", Json::as_str))
            .collect();
        Ok(Json::from_encoder(format!("[{}]", results.join(","))))
    }

    fn not_a<T>(what: &str, problem: &str) -> Error {
        let name = std::any::type_name::<T>();
        let message = format!("{what} is not a {name}: {problem}");
        Error::new(ErrorCode::ContextInvalid, message)
    }

    /// The error; `None` unless the execution failed. Since 1.0.
    #[must_use]
    pub fn error(&self) -> Option<ErrorInfo> {
        let (task, failure) = self.execution.record().error.as_ref()?;
        let task = task.map(|task| self.execution.workflow().task(task).id.clone());
        Some(ErrorInfo::new(failure, task))
    }

    /// The error as one sentence, which names the failed task, if any. Since 1.0.
    #[must_use]
    pub fn error_message(&self) -> Option<String> {
        self.error().map(|error| error.to_string())
    }

    /// The tasks, in declaration order. Since 1.0.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskResult> {
        let definitions = &self.execution.workflow().definition().tasks;
        let records = &self.execution.record().tasks;
        let tasks = definitions.iter().zip(records);
        tasks
            .map(|(definition, record)| TaskResult::new(&definition.id, record))
            .collect()
    }

    /// Returns the task that has this id; `None` if the workflow has no such task. Since 1.0.
    #[must_use]
    pub fn task(&self, id: &str) -> Option<TaskResult> {
        let workflow = self.execution.workflow();
        let ordinal = workflow.ordinal(id)?;
        let id = &workflow.task(ordinal).id;
        Some(TaskResult::new(id, self.execution.task(ordinal)))
    }

    /// Returns the result if the execution completed.
    ///
    /// # Errors
    /// An [`ExecutionError`], which contains the result, if the execution did not complete.
    ///
    /// Since 1.0.
    pub fn into_completed(self) -> Result<Self, ExecutionError> {
        if self.status() == ExecutionStatus::Completed {
            return Ok(self);
        }
        Err(ExecutionError {
            result: Box::new(self),
        })
    }

    /// The number of tasks in each state. Since 1.0.
    #[must_use]
    pub fn progress(&self) -> BTreeMap<TaskStatus, usize> {
        let mut counts = BTreeMap::new();
        for task in &self.execution.record().tasks {
            *counts.entry(task.status).or_default() += 1;
        }
        counts
    }
}

impl fmt::Debug for WorkflowResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkflowResult")
            .field("workflow", &self.workflow_name())
            .field("execution_id", &self.execution_id())
            .field("status", &self.status())
            .field("error", &self.error_message())
            .finish_non_exhaustive()
    }
}

impl TaskResult {
    fn new(id: &str, record: &TaskRecord) -> Self {
        let error = record.error.as_ref();
        Self {
            task_id: id.to_owned(),
            status: record.status,
            attempts: record.attempts_begun(),
            started_at: record.attempt_started_at(),
            ended_at: record.ended_at,
            error: error.map(|failure| ErrorInfo::new(failure, Some(id.to_owned()))),
            skip_reason: record.skip.as_ref().map(|skip| skip.reason.clone()),
        }
    }

    /// The time from the start of the last attempt to the task's end; `None` before the end. Since 1.0.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        let span = self.ended_at?.since(self.started_at?);
        u64::try_from(span).ok().map(Duration::from_micros)
    }
}

/// An execution that did not complete.
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct ExecutionError {
    result: Box<WorkflowResult>,
}

impl ExecutionError {
    /// The snapshot of the execution. Since 1.0.
    #[must_use]
    pub fn result(&self) -> &WorkflowResult {
        &self.result
    }
}

impl fmt::Display for ExecutionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = &self.result;
        write!(
            f,
            "execution {} of workflow '{}' is {}",
            result.execution_id(),
            result.workflow_name(),
            result.status()
        )?;
        match result.error() {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ExecutionError {}

/// One event of an execution's history.
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExecutionEvent {
    /// The time of the event.
    pub time: Timestamp,
    /// The event's type, e.g. `submitted`, `task_completed` or `paused`.
    pub kind: String,
    /// The execution.
    pub execution_id: ExecutionId,
    /// The task that the event is about, if any.
    pub task_id: Option<String>,
    /// The attempt that the event is about, if any.
    pub attempt: Option<u32>,
    /// The runner that caused the event, if any.
    pub runner_id: Option<RunnerId>,
    /// Details of the event. They depend on its type, for example an error, a delay or a reason.
    pub data: Option<Json>,
}

impl ExecutionEvent {
    pub(super) fn new(execution: &Execution, event: HistoryEvent) -> Self {
        let task = event.task.map(|task| execution.workflow().task(task));
        Self {
            time: event.time,
            kind: event.kind,
            execution_id: execution.record().id,
            task_id: task.map(|task| task.id.clone()),
            attempt: event.attempt,
            runner_id: event.runner,
            data: event.data,
        }
    }
}
