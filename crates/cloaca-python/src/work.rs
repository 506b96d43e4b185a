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

use crate::context::Context;
use crate::errors::Raise;
use crate::outcome::Outcome;

enum Item {
    Task(u64, Assignment),
    Callback(Callback),
}

/// A claimed task to run, or a callback to call.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Work {
    item: Item,
    entered: Monotonic,
    deferrals: Deferrals,
    /// The slot of the work's runner, if several runners share the workers.
    slot: Option<Arc<RunnerSlot>>,
    context: PyOnceLock<Py<Context>>,
    /// The executions that start with the completion of the task.
    starts: Mutex<Vec<RootStart>>,
}

impl Work {
    /// Returns the token of a task's attempt, or `None` for a callback.
    pub const fn task_token(&self) -> Option<u64> {
        match &self.item {
            Item::Task(token, _) => Some(*token),
            Item::Callback(_) => None,
        }
    }

    /// Returns the assignment of a task, or `None` for a callback.
    pub const fn assignment(&self) -> Option<&Assignment> {
        match &self.item {
            Item::Task(_, assignment) => Some(assignment),
            Item::Callback(_) => None,
        }
    }

    /// Returns the engine's outcome of this work.
    pub fn outcome(&self, py: Python<'_>, outcome: &Outcome) -> engine::Outcome {
        let delta = || {
            let context = self.context.get(py);
            context.map_or_else(Delta::default, |context| context.get().delta())
        };
        outcome.to_engine(delta, || std::mem::take(&mut *self.starts.lock()))
    }

    /// Returns work that a thread begins at `entered`, attached to the interpreter.
    pub fn new(
        work: runtime::Work,
        entered: Monotonic,
        slot: Option<Arc<RunnerSlot>>,
        deferrals: Deferrals,
    ) -> Self {
        let item = match work {
            runtime::Work::Task(token, assignment) => Item::Task(token, assignment),
            runtime::Work::Callback(callback) => Item::Callback(callback),
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

    /// Returns the slot of the work's runner, if several runners share the workers.
    pub const fn slot(&self) -> Option<&Arc<RunnerSlot>> {
        self.slot.as_ref()
    }

    /// Returns the handle by which this work releases its slot.
    pub const fn deferrals(&self) -> &Deferrals {
        &self.deferrals
    }

    /// Returns the time at which the thread was attached to the interpreter. Time before it does not count as the
    /// task's duration.
    pub const fn entered(&self) -> Monotonic {
        self.entered
    }
}

#[pymethods]
impl Work {
    /// Starts an execution with the completion of the task. `input` is a JSON object.
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
            Item::Task(_, assignment) => assignment.handler,
            Item::Callback(callback) => callback.handler,
        }
    }

    #[getter]
    fn callback(&self) -> bool {
        matches!(self.item, Item::Callback(_))
    }

    /// The error text that a callback receives; `None` means success.
    #[getter]
    fn error(&self) -> Option<&str> {
        match &self.item {
            Item::Task(..) => None,
            Item::Callback(callback) => callback.error.as_deref(),
        }
    }

    /// The context that the function gets; always the same object.
    #[getter]
    fn context(&self, py: Python<'_>) -> PyResult<Py<Context>> {
        let context = self.context.get_or_try_init(py, || {
            let context = match &self.item {
                Item::Task(_, assignment) => Context::of_task(Arc::clone(&assignment.context)),
                Item::Callback(callback) => Context::plain(Arc::clone(&callback.context)),
            };
            Py::new(py, context)
        })?;
        Ok(context.clone_ref(py))
    }

    #[getter]
    fn execution_id(&self) -> String {
        match &self.item {
            Item::Task(_, assignment) => assignment.execution.to_string(),
            Item::Callback(callback) => callback.execution.to_string(),
        }
    }

    #[getter]
    fn workflow_name(&self) -> &str {
        match &self.item {
            Item::Task(_, assignment) => assignment.workflow.name(),
            Item::Callback(callback) => callback.workflow.name(),
        }
    }

    #[getter]
    fn task_id(&self) -> Cow<'_, str> {
        match &self.item {
            Item::Task(_, assignment) => {
                let id = &assignment.workflow.task(assignment.task).id;
                match assignment.claim.item {
                    None => id.into(),
                    Some(item) => format!("{id}[{item}]").into(),
                }
            }
            Item::Callback(callback) => callback.task.as_str().into(),
        }
    }

    /// The index of the element that a mapped task runs for; `None` for other tasks.
    #[getter]
    fn index(&self) -> Option<u32> {
        self.assignment()
            .and_then(|assignment| assignment.claim.item)
    }

    /// The number of the attempt, from 1; 0 for a callback.
    #[getter]
    fn attempt(&self) -> u32 {
        match &self.item {
            Item::Task(_, assignment) => assignment.claim.attempt,
            Item::Callback(_) => 0,
        }
    }

    /// The number that identifies the running attempt in events; 0 for a callback.
    #[getter]
    fn token(&self) -> u64 {
        self.task_token().unwrap_or(0)
    }

    /// The idempotency key of the task's effects, if the workflow has final tasks.
    #[getter]
    fn forward_key(&self) -> Option<&str> {
        match &self.item {
            Item::Task(_, assignment) => assignment.forward_key.as_deref(),
            Item::Callback(_) => None,
        }
    }

    #[getter]
    fn timeout_us(&self) -> Option<i64> {
        match &self.item {
            Item::Task(_, assignment) => assignment.timeout,
            Item::Callback(_) => None,
        }
    }

    /// Releases the worker's slot while the task waits; returns `False` if that is not possible.
    fn begin_deferral(&self, py: Python<'_>) -> bool {
        let token = self.task_token();
        py.detach(|| token.is_some_and(|token| self.deferrals.begin(token)))
    }

    /// Reacquires a slot; a thread waits for a free one.
    fn end_deferral(&self, py: Python<'_>) {
        if let Some(token) = self.task_token() {
            py.detach(|| self.deferrals.end(token));
        }
    }

    /// Records that the function makes progress, so that it does not count as stalled.
    fn beat(&self) {
        if let Item::Task(_, assignment) = &self.item {
            assignment.pulse.beat();
        }
    }

    /// Records that a callback has returned, so that callers that wait for the end of its execution can be answered.
    fn end_callback(&self, py: Python<'_>) {
        if let Item::Callback(callback) = &self.item {
            py.detach(|| callback.open.end());
        }
    }

    /// Returns whether the execution was cancelled.
    fn is_cancelled(&self) -> bool {
        match &self.item {
            Item::Task(_, assignment) => assignment.cancelled.load(Ordering::Acquire),
            Item::Callback(_) => false,
        }
    }
}
