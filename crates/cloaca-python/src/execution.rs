//! `Execution`: what is known of an execution at one instant.

use std::sync::Arc;

use cloacina::engine;
use cloacina::runner::Page;
use pyo3::prelude::*;

use crate::context::Context;
use crate::inspector::Inspector;

/// What is known of an execution at one instant; parts are decoded when they are read.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Execution {
    inner: Arc<engine::Execution>,
    /// Where a listed execution's context is read when it is wanted.
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

/// Executions, and where the next part of a listing starts.
pub type Part = (Vec<Execution>, Option<String>);

impl Execution {
    pub const fn new(inner: Arc<engine::Execution>) -> Self {
        Self { inner, place: None }
    }

    /// A part of a listing.
    pub fn page(py: Python<'_>, place: &Py<Inspector>, page: Page) -> Part {
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

    /// The input with what all completed tasks wrote; of a listed execution, what that is now.
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
