//! `Execution`: a snapshot of an execution.

use std::sync::Arc;

use cloacina::engine;
use cloacina::runner::Inspector;
use cloacina::types;
use pyo3::prelude::*;

use crate::call;
use crate::context::Context;
use crate::process_guard::ProcessOwned;
use crate::record::record;

/// A snapshot of an execution. Its parts are decoded when they are read.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Execution {
    snapshot: Arc<engine::Execution>,
    /// The database that a listed execution's context is read from on request.
    database: Option<Arc<ProcessOwned<Inspector>>>,
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
    /// Returns a snapshot with its context.
    pub const fn new(snapshot: Arc<engine::Execution>) -> Self {
        Self {
            snapshot,
            database: None,
        }
    }

    /// Returns a snapshot without its context, which is read from the database on request.
    pub const fn listed(
        snapshot: Arc<engine::Execution>,
        database: Arc<ProcessOwned<Inspector>>,
    ) -> Self {
        Self {
            snapshot,
            database: Some(database),
        }
    }
}

#[pymethods]
impl Execution {
    #[getter]
    fn execution_id(&self) -> String {
        self.snapshot.record().id.to_string()
    }

    #[getter]
    fn workflow_name(&self) -> &str {
        self.snapshot.workflow().name()
    }

    #[getter]
    fn workflow_version(&self) -> &str {
        self.snapshot.workflow().version()
    }

    /// The name of its state.
    #[getter]
    fn status(&self) -> &'static str {
        self.snapshot.record().status.name()
    }

    #[getter]
    fn key(&self) -> Option<&str> {
        self.snapshot.record().key.as_deref()
    }

    #[getter]
    fn priority(&self) -> i16 {
        self.snapshot.record().priority
    }

    #[getter]
    fn created_at_us(&self) -> i64 {
        self.snapshot.record().created_at.0
    }

    /// The earliest start; `None` means at once.
    #[getter]
    fn start_at_us(&self) -> Option<i64> {
        self.snapshot.record().start_at.map(|at| at.0)
    }

    #[getter]
    fn started_at_us(&self) -> Option<i64> {
        self.snapshot.record().started_at.map(|at| at.0)
    }

    #[getter]
    fn ended_at_us(&self) -> Option<i64> {
        self.snapshot.record().ended_at.map(|at| at.0)
    }

    /// Why it failed: the first failed task's error, or the execution's own.
    #[getter]
    fn error(&self) -> Option<Failure> {
        let (task, failure) = self.snapshot.record().error.as_ref()?;
        let task = task.map(|task| self.snapshot.workflow().task(task).id.as_str());
        Some(Failure::new(task, failure))
    }

    /// Returns the input with the writes of all completed tasks. A listed execution reads it from the database.
    fn final_context(&self, py: Python<'_>) -> PyResult<Context> {
        let context = match &self.database {
            None => self.snapshot.final_context(),
            Some(database) => {
                let id = self.snapshot.record().id;
                call::detached(py, database.guard(), || database.execution(id))?.final_context()
            }
        };
        Ok(Context::plain(Arc::new(context)))
    }

    /// Returns the states of its tasks, in the order of their declaration.
    fn tasks(&self) -> Vec<TaskRecord> {
        let definitions = &self.snapshot.workflow().definition().tasks;
        let tasks =
            definitions
                .iter()
                .zip(&self.snapshot.record().tasks)
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
        tasks.collect()
    }

    fn __repr__(&self) -> String {
        let record = self.snapshot.record();
        format!(
            "<Execution {} of '{}', {}>",
            record.id,
            self.snapshot.workflow().name(),
            record.status
        )
    }
}
