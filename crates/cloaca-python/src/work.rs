//! `Work`: a claimed task or a callback that Python runs.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cloacina::engine;
use cloacina::runtime::{self, Assignment, Callback, Deferrals, RunnerSlot};
use cloacina::types::sync::Mutex;
use cloacina::types::{Delta, Error, ErrorCode, Json, Monotonic, RootStart};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::content::ReturnedObjects;
use crate::context::Context;
use crate::errors::Raise;
use crate::outcome::Outcome;

/// The task or the callback of a [`Work`]. The number is the token of the task's attempt.
enum WorkItem {
    Task(u64, Assignment),
    Callback(Callback),
}

/// A claimed task to run, or a callback to call.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Work {
    item: WorkItem,
    entered: Monotonic,
    deferrals: Deferrals,
    /// The runner slot of the work's runner, if several runners share the workers.
    slot: Option<Arc<RunnerSlot>>,
    context: PyOnceLock<Py<Context>>,
    /// The executions that start when the task completes.
    starts: Mutex<Vec<RootStart>>,
}

impl Work {
    /// Returns the token of a task's attempt, or `None` for a callback.
    pub const fn task_token(&self) -> Option<u64> {
        match &self.item {
            WorkItem::Task(token, _) => Some(*token),
            WorkItem::Callback(_) => None,
        }
    }

    /// Returns the assignment of a task, or `None` for a callback.
    pub const fn assignment(&self) -> Option<&Assignment> {
        match &self.item {
            WorkItem::Task(_, assignment) => Some(assignment),
            WorkItem::Callback(_) => None,
        }
    }

    /// Converts the outcome of this work to the engine's type.
    pub fn outcome(&self, py: Python<'_>, outcome: &Outcome) -> engine::Outcome {
        let delta = || {
            let context = self.context.get(py);
            context.map_or_else(Delta::default, |context| context.get().delta())
        };
        outcome.to_engine(delta, || std::mem::take(&mut *self.starts.lock()))
    }

    /// Takes the lists and dicts that the function has read from the context. They are kept only to find changes in them.
    pub fn take_returned(&self, py: Python<'_>) -> ReturnedObjects {
        let context = self.context.get(py);
        context.map_or_else(ReturnedObjects::default, |context| {
            context.get().forget_returned()
        })
    }

    /// Wraps work of the engine. `entered` is the time at which the thread was attached to the interpreter.
    pub fn new(
        work: runtime::Work,
        entered: Monotonic,
        slot: Option<Arc<RunnerSlot>>,
        deferrals: Deferrals,
    ) -> Self {
        let item = match work {
            runtime::Work::Task(token, assignment) => WorkItem::Task(token, assignment),
            runtime::Work::Callback(callback) => WorkItem::Callback(callback),
        };
        Self {
            item,
            entered,
            deferrals,
            slot,
            context: PyOnceLock::new(),
            starts: Mutex::default(),
        }
    }

    /// Returns the runner slot of the work's runner, if several runners share the workers.
    pub const fn slot(&self) -> Option<&Arc<RunnerSlot>> {
        self.slot.as_ref()
    }

    /// Returns the handle by which this work releases and reacquires its worker slot.
    pub const fn deferrals(&self) -> &Deferrals {
        &self.deferrals
    }

    /// Returns the time at which the thread was attached to the interpreter. The task's duration is counted from this time.
    pub const fn entered(&self) -> Monotonic {
        self.entered
    }
}

#[pymethods]
impl Work {
    /// Adds an execution that starts when the task completes. `input` is a JSON object.
    fn start(&self, py: Python<'_>, key: String, workflow: String, input: &str) -> PyResult<()> {
        let input = Json::parse(input)
            .map_err(|error| Error::new(ErrorCode::ContextInvalid, error.to_string()))
            .raise(py)?;
        self.starts.lock().push(RootStart {
            key,
            workflow,
            input,
        });
        Ok(())
    }

    #[getter]
    fn handler(&self) -> u64 {
        match &self.item {
            WorkItem::Task(_, assignment) => assignment.handler,
            WorkItem::Callback(callback) => callback.handler,
        }
    }

    #[getter]
    fn callback(&self) -> bool {
        matches!(self.item, WorkItem::Callback(_))
    }

    /// The error text that a callback receives; `None` means success.
    #[getter]
    fn error(&self) -> Option<&str> {
        match &self.item {
            WorkItem::Task(..) => None,
            WorkItem::Callback(callback) => callback.error.as_deref(),
        }
    }

    /// The context that the function receives. Every read returns the same object.
    #[getter]
    fn context(&self, py: Python<'_>) -> PyResult<Py<Context>> {
        let context = self.context.get_or_try_init(py, || {
            let context = match &self.item {
                WorkItem::Task(_, assignment) => Context::of_task(Arc::clone(&assignment.context)),
                WorkItem::Callback(callback) => Context::plain(Arc::clone(&callback.context)),
            };
            Py::new(py, context)
        })?;
        Ok(context.clone_ref(py))
    }

    #[getter]
    fn execution_id(&self) -> String {
        match &self.item {
            WorkItem::Task(_, assignment) => assignment.execution.to_string(),
            WorkItem::Callback(callback) => callback.execution.to_string(),
        }
    }

    #[getter]
    fn workflow_name(&self) -> &str {
        match &self.item {
            WorkItem::Task(_, assignment) => assignment.workflow.name(),
            WorkItem::Callback(callback) => callback.workflow.name(),
        }
    }

    #[getter]
    fn task_id(&self) -> Cow<'_, str> {
        match &self.item {
            WorkItem::Task(_, assignment) => {
                let id = &assignment.workflow.task(assignment.task).id;
                match assignment.claim.item {
                    None => id.into(),
                    Some(item) => format!("{id}[{item}]").into(),
                }
            }
            WorkItem::Callback(callback) => callback.task.as_str().into(),
        }
    }

    /// The index of the list element that a mapped task runs for; `None` for other tasks.
    #[getter]
    fn index(&self) -> Option<u32> {
        self.assignment()
            .and_then(|assignment| assignment.claim.item)
    }

    /// The number of the attempt, from 1; 0 for a callback.
    #[getter]
    fn attempt(&self) -> u32 {
        match &self.item {
            WorkItem::Task(_, assignment) => assignment.claim.attempt,
            WorkItem::Callback(_) => 0,
        }
    }

    /// The number that identifies the running attempt in events; 0 for a callback.
    #[getter]
    fn token(&self) -> u64 {
        self.task_token().unwrap_or(0)
    }

    /// The idempotency key for the task's effects; `None` unless the workflow has final tasks or the task is a compensation.
    #[getter]
    fn forward_key(&self) -> Option<&str> {
        match &self.item {
            WorkItem::Task(_, assignment) => assignment.forward_key.as_deref(),
            WorkItem::Callback(_) => None,
        }
    }

    #[getter]
    fn timeout_us(&self) -> Option<i64> {
        match &self.item {
            WorkItem::Task(_, assignment) => assignment.timeout,
            WorkItem::Callback(_) => None,
        }
    }

    /// Releases the worker slot, because the task begins to wait. Returns `False` if the slot cannot be released.
    fn begin_deferral(&self, py: Python<'_>) -> bool {
        let token = self.task_token();
        py.detach(|| token.is_some_and(|token| self.deferrals.begin(token)))
    }

    /// Reacquires a worker slot. A worker thread blocks until a slot is free or the attempt is taken away from the thread.
    fn end_deferral(&self, py: Python<'_>) {
        if let Some(token) = self.task_token() {
            py.detach(|| self.deferrals.end(token));
        }
    }

    /// Records that the function makes progress, so that it does not count as stalled.
    fn beat(&self) {
        if let WorkItem::Task(_, assignment) = &self.item {
            assignment.pulse.beat();
        }
    }

    /// Records that a callback has returned. Callers that wait for the end of the execution are answered only after its
    /// callbacks have returned.
    fn end_callback(&self, py: Python<'_>) {
        if let WorkItem::Callback(callback) = &self.item {
            py.detach(|| callback.open.end());
        }
    }

    /// Returns whether the execution was cancelled or timed out. Also returns true once the runner has given up the
    /// attempt: at the end of the runner's grace period, or because the runner was declared dead.
    fn is_cancelled(&self) -> bool {
        match &self.item {
            WorkItem::Task(_, assignment) => assignment.cancelled.load(Ordering::Acquire),
            WorkItem::Callback(_) => false,
        }
    }
}
