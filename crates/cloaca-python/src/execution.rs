//! `Execution`: a snapshot of an execution.

use std::sync::Arc;

use cloacina::engine;
use cloacina::runner::ListPage;
use pyo3::prelude::*;

use crate::context::Context;
use crate::inspector::Inspector;

/// A snapshot of an execution. Its parts are decoded when they are read.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Execution {
    inner: Arc<engine::Execution>,
    /// The database that a listed execution's context is read from on request.
    place: Option<Py<Inspector>>,
}

/// Type, message and traceback.
type FailureParts<'a> = (&'a str, &'a str, Option<&'a str>);
/// Id, status, attempts, start, end, failure, and the reason of a skip.
type TaskParts<'a> = (
    &'a str,
    &'static str,
    u32,
    Option<i64>,
    Option<i64>,
    Option<FailureParts<'a>>,
    Option<&'a str>,
);

/// Executions, and the cursor of the next page.
pub type Part = (Vec<Execution>, Option<String>);

impl Execution {
    /// Returns a snapshot with its context.
    pub const fn new(inner: Arc<engine::Execution>) -> Self {
        Self { inner, place: None }
    }

    /// Returns a page of a listing, whose executions have no context yet.
    pub fn page(py: Python<'_>, place: &Py<Inspector>, page: ListPage) -> Part {
        let item = |inner| Self {
            inner,
            place: Some(place.clone_ref(py)),
        };
        let items = page.items.into_iter().map(item).collect();
        (items, page.next.map(|id| id.to_string()))
    }
}

#[pymethods]
impl Execution {
    #[getter]
    fn execution_id(&self) -> String {
        self.inner.record().id.to_string()
    }

    #[getter]
    fn workflow_name(&self) -> &str {
        self.inner.workflow().name()
    }

    #[getter]
    fn workflow_version(&self) -> &str {
        self.inner.workflow().version()
    }

    #[getter]
    fn status(&self) -> &'static str {
        self.inner.record().status.name()
    }

    #[getter]
    fn key(&self) -> Option<&str> {
        self.inner.record().key.as_deref()
    }

    #[getter]
    fn priority(&self) -> i16 {
        self.inner.record().priority
    }

    #[getter]
    fn created_at_us(&self) -> i64 {
        self.inner.record().created_at.0
    }

    #[getter]
    fn started_at_us(&self) -> Option<i64> {
        self.inner.record().started_at.map(|at| at.0)
    }

    #[getter]
    fn ended_at_us(&self) -> Option<i64> {
        self.inner.record().ended_at.map(|at| at.0)
    }

    /// Task id, type, message, traceback.
    #[getter]
    fn error(&self) -> Option<(Option<&str>, &str, &str, Option<&str>)> {
        let (task, failure) = self.inner.record().error.as_ref()?;
        let task = task.map(|task| self.inner.workflow().task(task).id.as_str());
        Some((
            task,
            &failure.kind,
            &failure.message,
            failure.traceback.as_deref(),
        ))
    }

    /// Returns the input with the writes of all completed tasks. A listed execution reads it from the database.
    fn final_context(&self, py: Python<'_>) -> PyResult<Context> {
        let context = match &self.place {
            None => self.inner.final_context(),
            Some(place) => place
                .get()
                .whole(py, self.inner.record().id)?
                .final_context(),
        };
        Ok(Context::plain(Arc::new(context)))
    }

    /// Per task: id, status, attempts, `started_at_us`, `ended_at_us`, (type, message, traceback), skip reason.
    fn tasks(&self) -> Vec<TaskParts<'_>> {
        let definitions = &self.inner.workflow().definition().tasks;
        let tasks = definitions
            .iter()
            .zip(&self.inner.record().tasks)
            .map(|(definition, task)| {
                let failure = task.error.as_ref().map(|failure| {
                    (
                        failure.kind.as_str(),
                        failure.message.as_str(),
                        failure.traceback.as_deref(),
                    )
                });
                (
                    definition.id.as_str(),
                    task.status.name(),
                    task.attempt,
                    task.started_at.map(|at| at.0),
                    task.ended_at.map(|at| at.0),
                    failure,
                    task.skip.as_ref().map(|skip| skip.reason.as_str()),
                )
            });
        tasks.collect()
    }

    fn __repr__(&self) -> String {
        let record = self.inner.record();
        format!(
            "<Execution {} of '{}', {}>",
            record.id,
            self.inner.workflow().name(),
            record.status
        )
    }
}
