//! `Inspector`: a database to look at, and executions in it to control, without a runner.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runner::{self, Access, schema_versions};
use cloacina::runtime::Ended;
use cloacina::types::{ExecutionId, ExecutionStatus, Micros, Offer, Timestamp};
use pyo3::prelude::*;

use crate::call;
use crate::errors::Raise;
use crate::execution::{Execution, Part};
use crate::process_guard::{ProcessGuard, ProcessOwned};
use crate::requests;
use crate::workflow::Workflow;

/// `time_us`, type, `execution_id`, `task_id`, attempt, `runner_id`, data.
pub type EventParts = (
    i64,
    String,
    String,
    Option<String>,
    Option<u32>,
    Option<String>,
    Option<String>,
);
/// Task id, attempt, done, total, message, `time_us`.
type ProgressParts = (String, u32, f64, f64, Option<String>, i64);
/// Task id, attempt, `time_us`, level, logger, message.
type LogParts = (String, u32, i64, i64, String, String);
/// Id, host, pid, `started_at_us`, `heartbeat_at_us`, `lease_until_us`, whether it lives, workflows.
type RunnerParts = (String, String, i64, i64, i64, i64, bool, Vec<String>);

/// A database to look at.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Inspector {
    inner: ProcessOwned<runner::Inspector>,
    /// Handlers of this process, where a runner of it is asked.
    own: Vec<Offer>,
}

impl Inspector {
    /// What a runner looks at its database with.
    pub fn of_runner(inner: runner::Inspector, guard: ProcessGuard, own: Vec<Offer>) -> Self {
        Self {
            inner: ProcessOwned::new(inner, guard),
            own,
        }
    }

    pub const fn guard(&self) -> ProcessGuard {
        self.inner.guard()
    }

    pub fn inner(&self) -> &runner::Inspector {
        &self.inner
    }

    /// An execution with all that belongs to it.
    pub fn whole(&self, py: Python<'_>, id: ExecutionId) -> PyResult<Ended> {
        call::detached(py, self.guard(), || self.inner.execution(id))
    }
}

/// The newest version of a database's schema, if it has any, and those that it lacks.
#[pyfunction]
#[pyo3(signature = (database_url, schema=None))]
pub fn schema_state(
    py: Python<'_>,
    database_url: &str,
    schema: Option<&str>,
) -> PyResult<(Option<String>, Vec<String>)> {
    let versions = call::detached(py, ProcessGuard::here(), || {
        schema_versions(database_url, schema)
    })?;
    Ok((versions.current, versions.pending))
}

#[pymethods]
impl Inspector {
    #[new]
    #[pyo3(signature = (database_url, schema=None, migrate=false))]
    fn new(
        py: Python<'_>,
        database_url: &str,
        schema: Option<&str>,
        migrate: bool,
    ) -> PyResult<Self> {
        let guard = ProcessGuard::here();
        let access = if migrate {
            Access::Migrating
        } else {
            Access::Existing
        };
        let inner = call::detached(py, guard, || {
            runner::Inspector::open(database_url, schema, access)
        })?;
        Ok(Self::of_runner(inner, guard, Vec::new()))
    }

    /// The database, without a password.
    #[getter]
    fn location(&self) -> String {
        self.inner.location()
    }

    fn status(&self, py: Python<'_>, execution_id: &str) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        call::detached(py, self.guard(), || self.inner.status(id)).map(ExecutionStatus::name)
    }

    fn execution(&self, py: Python<'_>, execution_id: &str) -> PyResult<Execution> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.whole(py, id).map(Execution::new)
    }

    /// Executions, newest first, and where the next part starts.
    #[expect(clippy::too_many_arguments, reason = "Python's side names them")]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "arguments of Python come as values"
    )]
    fn list(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        workflow: Option<String>,
        statuses: Vec<String>,
        tags: Option<BTreeMap<String, String>>,
        since_us: Option<i64>,
        limit: usize,
        cursor: Option<&str>,
    ) -> PyResult<Part> {
        let filter = requests::list_filter(workflow, &statuses, tags, since_us, limit, cursor);
        let filter = filter.raise(py)?;
        let this = slf.get();
        let page = call::detached(py, this.guard(), || this.inner.list(&filter))?;
        Ok(Execution::page(py, slf.as_unbound(), page))
    }

    /// The history of an execution, oldest first.
    fn events(&self, py: Python<'_>, execution_id: &str) -> PyResult<Vec<EventParts>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let (execution, events) = call::detached(py, self.guard(), || self.inner.history(id))?;
        let parts = events.into_iter().map(|event| {
            (
                event.time.0,
                event.kind,
                id.to_string(),
                event
                    .task
                    .map(|task| execution.workflow().task(task).id.clone()),
                event.attempt,
                event.runner.map(|runner| runner.to_string()),
                event.data.map(|data| data.to_string()),
            )
        });
        Ok(parts.collect())
    }

    /// Does `cancel`, `pause`, `resume` or `retry`; the state after it is durable.
    #[pyo3(signature = (execution_id, action, from_task=None))]
    fn control(
        &self,
        py: Python<'_>,
        execution_id: &str,
        action: &str,
        from_task: Option<String>,
    ) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let action = requests::control(action, from_task).raise(py)?;
        let status = call::detached(py, self.guard(), || self.inner.control(id, &action))?;
        Ok(status.name())
    }

    /// The trace context that an execution was submitted with, as JSON.
    fn trace(&self, py: Python<'_>, execution_id: &str) -> PyResult<Option<String>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        call::detached(py, self.guard(), || self.inner.trace(id))
    }

    /// Why an execution is where it is, or what a schedule waits for, in sentences.
    fn explain(&self, py: Python<'_>, id: &str) -> PyResult<Vec<String>> {
        let id = requests::execution_id(id).raise(py)?;
        call::detached(py, self.guard(), || self.inner.explain_id(id, &self.own))
    }

    /// The runners that were not declared dead.
    fn runners(&self, py: Python<'_>) -> PyResult<Vec<RunnerParts>> {
        let views = call::detached(py, self.guard(), || self.inner.runners())?;
        let now = self.inner.now();
        let parts = views.into_iter().map(|view| {
            let alive = view.is_alive(now);
            let presence = view.presence;
            (
                presence.id.to_string(),
                presence.host,
                presence.pid,
                presence.started_at.0,
                presence.heartbeat_at.0,
                presence.lease_until.0,
                alive,
                view.workflows,
            )
        });
        Ok(parts.collect())
    }

    /// Version number in the database and workflow, oldest first.
    fn workflows(&self, py: Python<'_>) -> PyResult<Vec<(i64, Workflow)>> {
        let known = call::detached(py, self.guard(), || self.inner.workflows())?;
        let parts = known
            .into_iter()
            .map(|(stored, workflow)| (stored.id.0, Workflow::new(Arc::clone(&workflow))));
        Ok(parts.collect())
    }

    /// An execution, and how far its running tasks say they are.
    fn progress(
        &self,
        py: Python<'_>,
        execution_id: &str,
    ) -> PyResult<(Execution, Vec<ProgressParts>)> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let (execution, said) = call::detached(py, self.guard(), || self.inner.progress(id))?;
        let parts = said
            .into_iter()
            .map(|said| {
                let task = execution.workflow().task(said.task).id.clone();
                (
                    task,
                    said.attempt,
                    said.done,
                    said.total,
                    said.message,
                    said.time.0,
                )
            })
            .collect();
        Ok((Execution::new(execution), parts))
    }

    /// The captured log lines of an execution.
    fn logs(&self, py: Python<'_>, execution_id: &str) -> PyResult<Vec<LogParts>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let (execution, chunks) = call::detached(py, self.guard(), || self.inner.logs(id))?;
        let mut parts = Vec::new();
        for chunk in chunks {
            let task = execution.workflow().task(chunk.task).id.clone();
            parts.extend(chunk.lines.into_iter().map(|line| {
                (
                    task.clone(),
                    chunk.attempt,
                    line.time.0,
                    line.level,
                    line.logger,
                    line.message,
                )
            }));
        }
        Ok(parts)
    }

    /// Deletes at most `limit` executions that ended longer ago than this; how many it deleted.
    fn prune(&self, py: Python<'_>, older_than_us: Micros, limit: usize) -> PyResult<usize> {
        let before = Timestamp(self.inner.now().0.saturating_sub(older_than_us));
        call::detached(py, self.guard(), || self.inner.prune(before, limit))
    }

    /// Problems, bytes on disk, bytes of them that hold nothing, and advice.
    fn check(&self, py: Python<'_>) -> PyResult<(Vec<String>, u64, u64, Vec<String>)> {
        let health = call::detached(py, self.guard(), || self.inner.check())?;
        Ok((health.problems, health.size, health.free, health.advice))
    }
}
