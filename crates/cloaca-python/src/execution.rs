//! `Execution`: a snapshot of an execution.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use cloacina::engine;
use cloacina::runner::{Inspector, ListedExecution};
use cloacina::types::{self, ExecutionId, Labels};
use cloacina::workflow::Workflow;
use pyo3::prelude::*;

use crate::call;
use crate::context::Context;
use crate::process_guard::ProcessOwned;
use crate::record::record;
use crate::workflow::{output_keys, result_keys};

/// A snapshot of an execution. Its parts are decoded when they are read.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Execution {
    snapshot: Snapshot,
    /// The database, from which labels and data that a listing omits are read on request.
    database: Arc<ProcessOwned<Inspector>>,
    labels: OnceLock<Labels>,
}

enum Snapshot {
    Whole(Arc<engine::Execution>),
    /// The row of a listing, and its tasks without their writes once they were read.
    Row(Box<ListedExecution>, OnceLock<Arc<engine::Execution>>),
}

record! {
    /// Why a task or an execution failed.
    #[derive(Clone)]
    Failure {
        /// The task that failed; `None` if the execution itself failed, for example by its timeout.
        task_id: Option<String>,
        /// The qualified name of the exception's type.
        r#type: String,
        /// The exception's message.
        message: String,
        /// The text of the traceback.
        traceback: Option<String>,
    }
}

impl Failure {
    fn new(task_id: Option<&str>, failure: &types::Failure) -> Self {
        Self {
            task_id: task_id.map(str::to_owned),
            r#type: failure.kind.clone(),
            message: failure.message.clone(),
            traceback: failure.traceback.clone(),
        }
    }
}

record! {
    /// The state of one task of an execution.
    TaskRecord {
        /// The task.
        task_id: String,
        /// The name of its state.
        status: &'static str,
        /// The number of attempts so far.
        attempts: u32,
        /// When a ready task becomes due, in microseconds since 1970; `None` means now.
        due_at_us: Option<i64>,
        /// When its last attempt started, in microseconds since 1970.
        started_at_us: Option<i64>,
        /// When it ended, in microseconds since 1970.
        ended_at_us: Option<i64>,
        /// Why its last attempt failed.
        error: Option<Failure>,
        /// Why it was skipped.
        skip_reason: Option<String>,
    }
}

impl Execution {
    /// Returns a snapshot with all its data.
    pub const fn new(
        snapshot: Arc<engine::Execution>,
        database: Arc<ProcessOwned<Inspector>>,
    ) -> Self {
        Self {
            snapshot: Snapshot::Whole(snapshot),
            database,
            labels: OnceLock::new(),
        }
    }

    /// Returns a snapshot of an execution's row. The rest is read from the database on request.
    pub fn listed(item: ListedExecution, database: Arc<ProcessOwned<Inspector>>) -> Self {
        let labels = OnceLock::from(item.summary().labels.clone());
        Self {
            snapshot: Snapshot::Row(Box::new(item), OnceLock::new()),
            database,
            labels,
        }
    }

    fn id(&self) -> ExecutionId {
        match &self.snapshot {
            Snapshot::Whole(execution) => execution.record().id,
            Snapshot::Row(row, _) => row.id,
        }
    }

    fn workflow(&self) -> &Workflow {
        match &self.snapshot {
            Snapshot::Whole(execution) => execution.workflow(),
            Snapshot::Row(row, _) => row.workflow(),
        }
    }

    /// Returns the execution with its tasks.
    fn with_tasks(&self, py: Python<'_>) -> PyResult<&Arc<engine::Execution>> {
        let (row, tasks) = match &self.snapshot {
            Snapshot::Whole(execution) => return Ok(execution),
            Snapshot::Row(row, tasks) => (row, tasks),
        };
        if let Some(known) = tasks.get() {
            return Ok(known);
        }
        let (database, id) = (&self.database, row.id);
        let read = call::detached(py, database.guard(), || database.outline(id))?;
        Ok(tasks.get_or_init(|| read))
    }
}

impl Execution {
    /// The last execution of its final tasks.
    fn finale(&self, py: Python<'_>) -> PyResult<Option<ExecutionId>> {
        if self.workflow().finals().is_none() {
            return Ok(None);
        }
        let record = self.with_tasks(py)?.record();
        let link = record.finale.as_ref();
        let known = link.and_then(|link| Some(link.finale.as_ref()?.id));
        let (Some(id), Some(end)) = (known, record.ended_at) else {
            return Ok(None);
        };
        // The link may still name the final tasks of an earlier end. This end may have started none.
        let database = &self.database;
        let finale = call::detached(py, database.guard(), || database.execution(id));
        let follows = finale.is_ok_and(|finale| finale.record().created_at >= end);
        Ok(follows.then_some(id))
    }
}

/// Defines getters of values that both the row and the whole execution have.
macro_rules! of_either {
    ($self:ident, $record:ident => $value:expr) => {
        match &$self.snapshot {
            Snapshot::Whole(execution) => {
                let $record = execution.record();
                $value
            }
            Snapshot::Row(row, _) => {
                let $record = row.summary();
                $value
            }
        }
    };
}

#[pymethods]
impl Execution {
    #[getter]
    fn execution_id(&self) -> String {
        self.id().to_string()
    }

    #[getter]
    fn workflow_name(&self) -> &str {
        self.workflow().name()
    }

    /// The key of the value that is the output, a tuple of keys, or `None`.
    #[getter]
    fn output<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        output_keys(py, self.workflow())
    }

    /// The key of the context that each value task's result is stored under, by the task's short id.
    #[getter]
    fn results(&self) -> BTreeMap<&str, &str> {
        result_keys(self.workflow())
    }

    #[getter]
    fn workflow_version(&self) -> &str {
        self.workflow().version()
    }

    /// The name of its state.
    #[getter]
    fn status(&self) -> &'static str {
        of_either!(self, record => record.status.name())
    }

    #[getter]
    fn key(&self) -> Option<&str> {
        of_either!(self, record => record.key.as_deref())
    }

    #[getter]
    fn priority(&self) -> i16 {
        of_either!(self, record => record.priority)
    }

    #[getter]
    fn created_at_us(&self) -> i64 {
        of_either!(self, record => record.created_at.0)
    }

    /// The earliest start; `None` means at once.
    #[getter]
    fn start_at_us(&self) -> Option<i64> {
        of_either!(self, record => record.start_at.map(|at| at.0))
    }

    #[getter]
    fn started_at_us(&self) -> Option<i64> {
        of_either!(self, record => record.started_at.map(|at| at.0))
    }

    #[getter]
    fn ended_at_us(&self) -> Option<i64> {
        of_either!(self, record => record.ended_at.map(|at| at.0))
    }

    /// The labels, by name.
    #[getter]
    fn labels(&self, py: Python<'_>) -> PyResult<BTreeMap<String, String>> {
        let labels = if let Some(known) = self.labels.get() {
            known
        } else {
            let (database, id) = (&self.database, self.id());
            let read = call::detached(py, database.guard(), || database.labels(id))?;
            self.labels.get_or_init(|| read)
        };
        let pairs = labels.iter();
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    /// Why it failed: the first failed task's error, or the execution's own.
    #[getter]
    fn error(&self, py: Python<'_>) -> PyResult<Option<Failure>> {
        if let Snapshot::Row(row, _) = &self.snapshot
            && row.error.is_none()
        {
            return Ok(None);
        }
        let execution = self.with_tasks(py)?;
        let error = execution.record().error.as_ref();
        Ok(error.map(|(task, failure)| {
            let task = task.map(|task| execution.workflow().task(task).id.as_str());
            Failure::new(task, failure)
        }))
    }

    /// Returns the input with the writes of all completed tasks. A listed execution reads it from the database.
    fn final_context(&self, py: Python<'_>) -> PyResult<Context> {
        let context = match &self.snapshot {
            Snapshot::Whole(execution) => execution.final_context(),
            Snapshot::Row(row, _) => {
                let (database, id) = (&self.database, row.id);
                call::detached(py, database.guard(), || database.execution(id))?.final_context()
            }
        };
        Ok(Context::plain(Arc::new(context)))
    }

    /// The last execution of its final tasks, if there is one.
    #[getter]
    fn final_id(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.finale(py)?.map(|id| id.to_string()))
    }

    /// Returns the last execution of its final tasks, as the database has it.
    fn r#final(&self, py: Python<'_>) -> PyResult<Option<Self>> {
        let Some(id) = self.finale(py)? else {
            return Ok(None);
        };
        let database = &self.database;
        let execution = call::detached(py, database.guard(), || database.execution(id))?;
        Ok(Some(Self::new(execution, Arc::clone(database))))
    }

    /// Returns whether a task is a map.
    fn is_map(&self, py: Python<'_>, task_id: &str) -> PyResult<bool> {
        let execution = self.with_tasks(py)?;
        let workflow = execution.workflow();
        let ordinal = workflow.ordinal(task_id);
        Ok(ordinal.is_some_and(|ordinal| workflow.task(ordinal).over.is_some()))
    }

    /// Returns the results of a map's items as JSON texts, in the order of the list; `None` for an item without a result.
    fn item_results(&self, py: Python<'_>, task_id: &str) -> PyResult<Vec<Option<String>>> {
        let id = self.with_tasks(py)?.record().id;
        let database = &self.database;
        let items = call::detached(py, database.guard(), || database.all_items(id, task_id))?;
        let results = items
            .into_iter()
            .map(|item| item.result.map(|result| result.to_string()));
        Ok(results.collect())
    }

    /// Returns the states of its tasks, in the order of their declaration. A listed execution reads them from the database.
    fn tasks(&self, py: Python<'_>) -> PyResult<Vec<TaskRecord>> {
        let execution = self.with_tasks(py)?;
        let definitions = &execution.workflow().definition().tasks;
        let tasks = definitions
            .iter()
            .zip(&execution.record().tasks)
            .map(|(definition, task)| TaskRecord {
                task_id: definition.id.clone(),
                status: task.status.name(),
                attempts: task.attempt,
                due_at_us: task
                    .ready_at
                    .filter(|_| task.status == types::TaskStatus::Ready)
                    .map(|at| at.0),
                started_at_us: task.started_at.map(|at| at.0),
                ended_at_us: task.ended_at.map(|at| at.0),
                error: task
                    .error
                    .as_ref()
                    .map(|failure| Failure::new(Some(&definition.id), failure)),
                skip_reason: task.skip.as_ref().map(|skip| skip.reason.clone()),
            });
        Ok(tasks.collect())
    }

    fn __repr__(&self) -> String {
        format!(
            "<Execution {} of '{}', {}>",
            self.id(),
            self.workflow().name(),
            self.status()
        )
    }
}
