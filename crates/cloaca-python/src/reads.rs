//! `Reads`: everything that can be read from a database, for runners and for inspectors.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use cloacina::runner::{EngineHandle, Inspector, ShortId};
use cloacina::types::{Error, ExecutionStatus, Micros, Offer, ScheduleKind, Timestamp};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call;
use crate::errors::Raise;
use crate::execution::Execution;
use crate::process_guard::ProcessOwned;
use crate::records::{
    DatabaseHealth, EventRecord, ExecutionPage, LogLineRecord, ProgressRecord, ProgressReport,
    RunnerRecord, StoredWorkflow, TickCounts, TickRecord,
};
use crate::requests;
use crate::schedule_dict::schedule_dict;
use crate::workflow::Workflow;

/// Reads from a database: executions, runners, workflows, schedules and triggers.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Reads {
    database: Arc<ProcessOwned<Inspector>>,
    /// The runner that the reads belong to, if any. It knows the handlers of this process.
    engine: Weak<ProcessOwned<EngineHandle>>,
}

impl Reads {
    /// Returns reads without a runner.
    pub fn of_database(database: ProcessOwned<Inspector>) -> Self {
        Self {
            database: Arc::new(database),
            engine: Weak::new(),
        }
    }

    /// Returns the reads of a runner.
    pub fn of_runner(engine: &Arc<ProcessOwned<EngineHandle>>) -> Self {
        let database = ProcessOwned::new(engine.inspector().clone(), engine.guard());
        Self {
            database: Arc::new(database),
            engine: Arc::downgrade(engine),
        }
    }

    /// Returns the database.
    pub fn database(&self) -> &ProcessOwned<Inspector> {
        &self.database
    }

    /// Calls the database, detached.
    pub fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Inspector) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        call::detached(py, self.database.guard(), || call(&self.database))
    }

    /// Deletes at most `limit` executions that ended at least `older_than` microseconds ago; returns their number.
    pub fn prune(&self, py: Python<'_>, older_than: Micros, limit: usize) -> PyResult<usize> {
        self.call(py, |database| {
            let before = Timestamp(database.now().0.saturating_sub(older_than));
            database.prune(before, limit)
        })
    }

    /// Returns the handlers that this process has registered, including those that the database does not know yet.
    fn own_offers(&self) -> Vec<Offer> {
        let engine = self.engine.upgrade();
        engine.map_or_else(Vec::new, |engine| engine.own_offers())
    }

    fn schedule_dicts<'py>(
        &self,
        py: Python<'py>,
        kind: ScheduleKind,
        enabled_only: bool,
        limit: usize,
        offset: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.call(py, |database| {
            database.schedules(kind, enabled_only, limit, offset)
        })?
        .into_iter()
        .map(|record| schedule_dict(py, record))
        .collect()
    }
}

#[pymethods]
impl Reads {
    /// Returns the name of an execution's state.
    fn status(&self, py: Python<'_>, execution_id: &str) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.call(py, |database| database.status(id))
            .map(ExecutionStatus::name)
    }

    /// Returns the ids of at most `limit` executions that a shortened id means, newest first.
    fn find_executions(
        &self,
        py: Python<'_>,
        short_id: &str,
        limit: usize,
    ) -> PyResult<Vec<String>> {
        let short: ShortId = short_id.parse().raise(py)?;
        let found = self.call(py, |database| database.find_short(&short, limit))?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    /// Returns a snapshot of an execution.
    fn execution(&self, py: Python<'_>, execution_id: &str) -> PyResult<Execution> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.call(py, |database| database.execution(id))
            .map(Execution::new)
    }

    /// Returns a page of executions, newest first.
    #[expect(clippy::too_many_arguments, reason = "Python's side names them")]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "arguments of Python come as values"
    )]
    #[pyo3(signature = (workflow, statuses, tags, since_us, limit, cursor, keys=None))]
    fn executions(
        &self,
        py: Python<'_>,
        workflow: Option<String>,
        statuses: Vec<String>,
        tags: Option<BTreeMap<String, String>>,
        since_us: Option<i64>,
        limit: usize,
        cursor: Option<&str>,
        keys: Option<Vec<String>>,
    ) -> PyResult<ExecutionPage> {
        let filter =
            requests::list_filter(workflow, &statuses, tags, keys, since_us, limit, cursor);
        let filter = filter.raise(py)?;
        let page = self.call(py, |database| database.list(&filter))?;
        let executions = page
            .items
            .into_iter()
            .map(|item| Py::new(py, Execution::listed(item, Arc::clone(&self.database))))
            .collect::<PyResult<_>>()?;
        Ok(ExecutionPage {
            executions,
            next_cursor: page.next.map(|id| id.to_string()),
        })
    }

    /// Returns the id of a workflow's execution with a key, or `None` if there is none.
    fn find(&self, py: Python<'_>, workflow: &str, key: &str) -> PyResult<Option<String>> {
        let found = self.call(py, |database| database.find(workflow, key))?;
        Ok(found.map(|id| id.to_string()))
    }

    /// Returns the key that an execution was submitted with.
    fn key(&self, py: Python<'_>, execution_id: &str) -> PyResult<Option<String>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.call(py, |database| database.key(id))
    }

    /// Returns the history of an execution, oldest event first.
    fn events(&self, py: Python<'_>, execution_id: &str) -> PyResult<Vec<EventRecord>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let (execution, events) = self.call(py, |database| database.history(id))?;
        let records = events.into_iter().map(|event| EventRecord {
            time_us: event.time.0,
            r#type: event.kind,
            execution_id: id.to_string(),
            task_id: event
                .task
                .map(|task| execution.workflow().task(task).id.clone()),
            attempt: event.attempt,
            runner_id: event.runner.map(|runner| runner.to_string()),
            data: event.data.map(|data| data.to_string()),
        });
        Ok(records.collect())
    }

    /// Returns the trace context that an execution was submitted with, as JSON.
    fn trace(&self, py: Python<'_>, execution_id: &str) -> PyResult<Option<String>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.call(py, |database| database.trace(id))
    }

    /// Returns sentences that say why an execution is in its state, or what a schedule waits for.
    fn explain(&self, py: Python<'_>, id: &str) -> PyResult<Vec<String>> {
        let id = requests::execution_id(id).raise(py)?;
        let own = self.own_offers();
        self.call(py, |database| database.explain_id(id, &own))
    }

    /// Returns an execution with the progress of its running tasks.
    fn progress(&self, py: Python<'_>, execution_id: &str) -> PyResult<ProgressReport> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let (execution, reported) = self.call(py, |database| database.progress(id))?;
        let tasks = reported.into_iter().map(|progress| {
            let record = ProgressRecord {
                task_id: execution.workflow().task(progress.task).id.clone(),
                attempt: progress.attempt,
                done: progress.done,
                total: progress.total,
                message: progress.message,
                time_us: progress.time.0,
            };
            Py::new(py, record)
        });
        let tasks = tasks.collect::<PyResult<_>>()?;
        Ok(ProgressReport {
            execution: Py::new(py, Execution::new(execution))?,
            tasks,
        })
    }

    /// Returns the captured log lines of an execution.
    fn logs(&self, py: Python<'_>, execution_id: &str) -> PyResult<Vec<LogLineRecord>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let (execution, chunks) = self.call(py, |database| database.logs(id))?;
        let mut records = Vec::new();
        for chunk in chunks {
            let task = &execution.workflow().task(chunk.task).id;
            records.extend(chunk.lines.into_iter().map(|line| LogLineRecord {
                task_id: task.clone(),
                attempt: chunk.attempt,
                time_us: line.time.0,
                level: line.level,
                logger: line.logger,
                message: line.message,
            }));
        }
        Ok(records)
    }

    /// Returns the runners that were not declared dead.
    fn runners(&self, py: Python<'_>) -> PyResult<Vec<RunnerRecord>> {
        let views = self.call(py, Inspector::runners)?;
        let now = self.database.now();
        let records = views.into_iter().map(|view| {
            let is_alive = view.is_alive(now);
            let presence = view.presence;
            RunnerRecord {
                runner_id: presence.id.to_string(),
                host: presence.host,
                pid: presence.pid,
                started_at_us: presence.started_at.0,
                heartbeat_at_us: presence.heartbeat_at.0,
                lease_until_us: presence.lease_until.0,
                is_alive,
                workflows: view.workflows,
            }
        });
        Ok(records.collect())
    }

    /// Returns the stored versions of all workflows, oldest first.
    fn workflows(&self, py: Python<'_>) -> PyResult<Vec<StoredWorkflow>> {
        let stored = self.call(py, Inspector::workflows)?;
        let records = stored.into_iter().map(|(definition, workflow)| {
            Ok(StoredWorkflow {
                number: definition.id.0,
                workflow: Py::new(py, Workflow::new(workflow))?,
            })
        });
        records.collect()
    }

    /// Returns whether a definition of a workflow is stored.
    fn is_workflow_stored(&self, py: Python<'_>, workflow: &str) -> PyResult<bool> {
        self.call(py, |database| database.is_workflow_stored(workflow))
    }

    /// Checks whether the database is sound.
    fn check(&self, py: Python<'_>) -> PyResult<DatabaseHealth> {
        let health = self.call(py, Inspector::check)?;
        Ok(DatabaseHealth {
            problems: health.problems,
            size_bytes: health.size,
            free_bytes: health.free,
            advice: health.advice,
        })
    }

    /// Returns schedules, oldest first.
    fn schedules<'py>(
        &self,
        py: Python<'py>,
        enabled_only: bool,
        limit: usize,
        offset: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.schedule_dicts(py, ScheduleKind::Cron, enabled_only, limit, offset)
    }

    /// Returns a schedule.
    fn schedule<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Bound<'py, PyDict>> {
        let id = requests::schedule_id(id).raise(py)?;
        schedule_dict(py, self.call(py, |database| database.schedule(id))?)
    }

    /// Returns ticks of a schedule or polls of a trigger, newest first.
    fn schedule_history(
        &self,
        py: Python<'_>,
        id: &str,
        limit: usize,
        offset: usize,
    ) -> PyResult<Vec<TickRecord>> {
        let id = requests::schedule_id(id).raise(py)?;
        let ticks = self.call(py, |database| database.schedule_history(id, limit, offset))?;
        let records = ticks.into_iter().map(|tick| TickRecord {
            schedule_id: tick.schedule.to_string(),
            due_us: tick.due_at.0,
            outcome: tick.outcome.name(),
            execution_id: tick.execution.map(|id| id.to_string()),
            created_us: tick.created_at.0,
            updated_us: tick.updated_at.0,
            detail: tick.detail,
        });
        Ok(records.collect())
    }

    /// Returns the number of ticks of all schedules since a time, by outcome.
    fn tick_counts(&self, py: Python<'_>, since_us: i64) -> PyResult<TickCounts> {
        let counts = self.call(py, |database| {
            database.count_ticks(ScheduleKind::Cron, Timestamp(since_us))
        })?;
        Ok(TickCounts {
            fired: counts.fired,
            missed: counts.missed,
            skipped: counts.skipped,
            overlapped: counts.overlapped,
            queued: counts.queued,
        })
    }

    /// Returns triggers, oldest first.
    fn triggers<'py>(
        &self,
        py: Python<'py>,
        enabled_only: bool,
        limit: usize,
        offset: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.schedule_dicts(py, ScheduleKind::Trigger, enabled_only, limit, offset)
    }

    /// Returns a trigger, or `None` if there is none of this name.
    fn trigger<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = self.call(py, |database| database.trigger(name))?;
        found.map(|record| schedule_dict(py, record)).transpose()
    }
}
