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

/// A snapshot of an execution. Each attribute is decoded when it is read.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Execution {
    snapshot: Snapshot,
    /// The database. Data that the snapshot lacks is read from the database on first use. A row of a listing lacks the tasks;
    /// any other snapshot lacks the labels.
    database: Arc<ProcessOwned<Inspector>>,
    labels: OnceLock<Labels>,
}

enum Snapshot {
    Whole(Arc<engine::Execution>),
    /// A row of a listing. The tasks of its execution, without their writes, are read on first use.
    Row(Box<ListedExecution>, OnceLock<Arc<engine::Execution>>),
}

record! {
    /// Why a task or an execution failed.
    #[derive(Clone)]
    Failure {
        /// The task that failed; `None` if the execution itself failed, for example because it timed out.
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
        /// The name of the task's state.
        status: &'static str,
        /// The number of attempts so far.
        attempts: u32,
        /// When a ready task becomes due, in microseconds since 1970; `None` means now. Always `None` for other tasks.
        due_at_us: Option<i64>,
        /// When the task's last attempt started, in microseconds since 1970.
        started_at_us: Option<i64>,
        /// When the task ended, in microseconds since 1970.
        ended_at_us: Option<i64>,
        /// Why the task's last attempt failed.
        error: Option<Failure>,
        /// Why the task was skipped.
        skip_reason: Option<String>,
    }
}

impl Execution {
    /// Returns a snapshot with the execution's tasks. The labels are read from the database when they are first needed.
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

    /// Returns a snapshot of a row of a listing. Data that the row lacks is read from the database when it is first needed.
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
    /// Returns the id of the execution that runs this execution's final tasks. Returns `None` while this execution is open, and
    /// if no final tasks were started when it ended.
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
        // After a retry, the link can still name the final tasks that were started before the retry.
        let database = &self.database;
        let finale = call::detached(py, database.guard(), || database.execution(id));
        let follows = finale.is_ok_and(|finale| finale.record().created_at >= end);
        Ok(follows.then_some(id))
    }
}

/// Evaluates an expression in which `$record` is the record of the snapshot. The records of both kinds of snapshots have the
/// fields that the expressions use.
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

    /// The key of the output value, a tuple of keys if the output has several values, or `None` if there is no output.
    #[getter]
    fn output<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        output_keys(py, self.workflow())
    }

    /// The context key under which the result of each value task is stored, by the task's short id.
    #[getter]
    fn results(&self) -> BTreeMap<&str, &str> {
        result_keys(self.workflow())
    }

    #[getter]
    fn workflow_version(&self) -> &str {
        self.workflow().version()
    }

    /// The name of the execution's state.
    #[getter]
    fn status(&self) -> &'static str {
        of_either!(self, record => record.status.name())
    }

    #[getter]
    fn key(&self) -> Option<&str> {
        of_either!(self, record => record.key.as_deref())
    }

    /// The ordinal of the parent's task that started this child, the key of the call if a function started the child, and the
    /// number of the child if the call or node starts several children. `None` if the execution is not the child of a task.
    #[getter]
    fn origin(&self) -> Option<(u32, Option<&str>, Option<u32>)> {
        let link = of_either!(self, record => record.parent.as_deref())?;
        let is_child = link.finale.is_none();
        is_child.then_some((link.task, link.key.as_deref(), link.item))
    }

    #[getter]
    fn priority(&self) -> i16 {
        of_either!(self, record => record.priority)
    }

    #[getter]
    fn created_at_us(&self) -> i64 {
        of_either!(self, record => record.created_at.0)
    }

    /// The earliest time at which the execution can start, in microseconds since 1970; `None` means at once.
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

    /// The reason for a failure: the error of the first task that failed, or the execution's own error.
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

    /// Returns the input with the writes of all completed tasks. A snapshot from a listing reads this context from the database.
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

    /// The id of the execution that runs this execution's final tasks; `None` if there is none.
    #[getter]
    fn final_id(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.finale(py)?.map(|id| id.to_string()))
    }

    /// Reads the execution of the final tasks (`final_id`) from the database; returns `None` if there is none.
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

    /// Returns the states of the tasks, in the order of their declaration. A snapshot from a listing reads the states from the
    /// database.
    fn tasks(&self, py: Python<'_>) -> PyResult<Vec<TaskRecord>> {
        let execution = self.with_tasks(py)?;
        let definitions = &execution.workflow().definition().tasks;
        let tasks = definitions
            .iter()
            .zip(&execution.record().tasks)
            .map(|(definition, task)| TaskRecord {
                task_id: definition.id.clone(),
                status: task.status.name(),
                attempts: task.attempts_begun(),
                due_at_us: task
                    .ready_at
                    .filter(|_| task.status == types::TaskStatus::Ready)
                    .map(|at| at.0),
                started_at_us: task.attempt_started_at().map(|at| at.0),
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
