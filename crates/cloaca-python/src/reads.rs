//! `Reads`: the reads that runners and inspectors offer, and the few changes that work the same way in both.

use std::sync::{Arc, Weak};

use cloacina::runner::{Count, CountKind, EngineHandle, Inspector, ShortId};
use cloacina::types::{Error, ExecutionStatus, MapRow, Micros, Offer, ScheduleKind, Timestamp};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call;
use crate::errors::Raise;
use crate::execution::Execution;
use crate::listing::{ListFilter, previous};
use crate::process_guard::ProcessOwned;
use crate::records::{
    DatabaseHealth, EventRecord, ExecutionPage, LogLineRecord, ProgressRecord, ProgressReport,
    RunnerRecord, StoredWorkflow, TickCounts, TickRecord,
};
use crate::requests;
use crate::rerun::RerunRequest;
use crate::schedule_dict::schedule_dict;
use crate::signals;
use crate::workflow::Workflow;

/// A time span: its start, its end, and the numbers of executions submitted in it and failed. A flag says whether a number is exact.
type ActivityTuple = (i64, i64, (u64, bool), (u64, bool));

/// Returns the value of a count, and whether the value is exact.
fn counted(count: Count) -> (u64, bool) {
    (count.value, count.kind == CountKind::Exact)
}

/// A map: its task's id, the number of its items in each state, and the maximum number that run at once.
type MapCounts = (String, Vec<(&'static str, u32)>, Option<u32>);

/// Returns the number of a map's items in each state.
fn states(row: &MapRow) -> Vec<(&'static str, u32)> {
    let states = row.possible_states();
    states.map(|(state, count)| (state.name(), count)).collect()
}

/// Reads executions, runners, workflows, schedules and triggers. Also prunes, reruns executions and changes running maps.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Reads {
    database: Arc<ProcessOwned<Inspector>>,
    /// The runner that the reads belong to, if any. The runner knows the handlers of this process.
    engine: Weak<ProcessOwned<EngineHandle>>,
}

impl Reads {
    /// Returns the reads of a database without a runner.
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

    /// Returns a handle of the database, for objects that outlive this one.
    pub fn shared_database(&self) -> Arc<ProcessOwned<Inspector>> {
        Arc::clone(&self.database)
    }

    /// Calls the database, detached from the interpreter.
    pub fn call<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&Inspector) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        call::detached(py, self.database.guard(), || call(&self.database))
    }

    /// Deletes executions that ended at least `older_than` microseconds ago, and other old rows. See `Inspector::prune`.
    pub fn prune(&self, py: Python<'_>, older_than: Micros, limit: usize) -> PyResult<usize> {
        self.call(py, |database| {
            let before = Timestamp(database.now().0.saturating_sub(older_than));
            database.prune(before, limit)
        })
    }

    /// Returns the handlers of the runner (none without a runner), including those that the database does not know yet.
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

    /// Returns the ids of at most `limit` executions that a shortened id can stand for, newest first.
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

    /// Returns the number of executions in each state: the name of the state, the number, and whether the number is exact.
    fn counts(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, u64, bool)>> {
        let counts = self.call(py, Inspector::counts)?;
        let tuples = counts.into_iter().map(|(status, count)| {
            let (value, is_exact) = counted(count);
            (status.name(), value, is_exact)
        });
        Ok(tuples.collect())
    }

    /// For each of several equal time spans, oldest first, counts the submitted executions and how many of these have failed.
    fn activity(
        &self,
        py: Python<'_>,
        since_us: i64,
        until_us: i64,
        buckets: usize,
    ) -> PyResult<Vec<ActivityTuple>> {
        let (since, until) = (Timestamp(since_us), Timestamp(until_us));
        let found = self.call(py, |database| database.activity(since, until, buckets))?;
        let tuples = found.into_iter().map(|bucket| {
            let (submitted, failed) = (counted(bucket.submitted), counted(bucket.failed));
            (bucket.since.0, bucket.until.0, submitted, failed)
        });
        Ok(tuples.collect())
    }

    /// Returns the newest 1,000 failed executions submitted since a time, grouped by cause. The newest group comes first.
    #[pyo3(signature = (since_us=None))]
    fn failures<'py>(
        &self,
        py: Python<'py>,
        since_us: Option<i64>,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let groups = self.call(py, |database| database.failures(since_us.map(Timestamp)))?;
        let dicts = groups.into_iter().map(|group| {
            let dict = PyDict::new(py);
            dict.set_item("workflow", group.workflow)?;
            dict.set_item("task_id", group.task)?;
            dict.set_item("type", group.kind)?;
            dict.set_item("cause", group.cause)?;
            dict.set_item("message", group.message)?;
            dict.set_item("count", group.count)?;
            dict.set_item("first_us", group.first.0)?;
            dict.set_item("last_us", group.last.0)?;
            let ids: Vec<String> = group.executions.iter().map(ToString::to_string).collect();
            dict.set_item("execution_ids", ids)?;
            Ok(dict)
        });
        dicts.collect()
    }

    /// Returns a page of open waits, oldest first.
    #[pyo3(signature = (name=None, workflow=None, execution_id=None, kind=None, limit=50, cursor=None))]
    #[expect(clippy::too_many_arguments, reason = "each filter is an argument")]
    fn waits(
        &self,
        py: Python<'_>,
        name: Option<String>,
        workflow: Option<String>,
        execution_id: Option<&str>,
        kind: Option<&str>,
        limit: usize,
        cursor: Option<String>,
    ) -> PyResult<signals::WaitPage> {
        let filter =
            signals::wait_filter(name, workflow, execution_id, kind, limit, cursor).raise(py)?;
        let page = self.call(py, |database| database.waits(&filter))?;
        signals::wait_page(py, page)
    }

    /// Returns a page of a map's items as JSON objects, and the index of the next page's first item, if there is one.
    #[pyo3(signature = (execution_id, task_id, status, first, limit))]
    fn items(
        &self,
        py: Python<'_>,
        execution_id: &str,
        task_id: &str,
        status: Option<&str>,
        first: u32,
        limit: usize,
    ) -> PyResult<(Vec<String>, Option<u32>)> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let status = requests::task_status(status).raise(py)?;
        let page = self.call(py, |database| {
            database.items(id, task_id, status, first, limit)
        })?;
        let items = page.items.iter().map(cloacina::types::ItemRecord::to_json);
        Ok((items.collect(), page.next))
    }

    /// Returns an execution's maps, except those whose list has not been read yet. For each map: the task's id, the number of
    /// items in each state, and the maximum number of items that run at once.
    fn maps(&self, py: Python<'_>, execution_id: &str) -> PyResult<Vec<MapCounts>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let maps = self.call(py, |database| database.maps(id))?;
        let counts = maps.into_iter();
        let counts = counts.map(|(task, row)| (task, states(&row), row.parallel));
        Ok(counts.collect())
    }

    /// Changes how many items of a running map may run at once; `None` removes the limit.
    fn set_map(
        &self,
        py: Python<'_>,
        execution_id: &str,
        task_id: &str,
        parallel: Option<u32>,
    ) -> PyResult<()> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.call(py, |database| database.set_map(id, task_id, parallel))
    }

    /// Submits a copy of an earlier execution. Once the copy is durable, returns its id.
    pub fn rerun(&self, py: Python<'_>, request: &Bound<'_, RerunRequest>) -> PyResult<String> {
        let (id, rerun) = request.get().parts();
        let submitted = self.call(py, |database| database.rerun(id, rerun))?;
        Ok(submitted.id.to_string())
    }

    /// Returns a snapshot of an execution.
    fn execution(&self, py: Python<'_>, execution_id: &str) -> PyResult<Execution> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.call(py, |database| database.execution(id))
            .map(|execution| Execution::new(execution, self.shared_database()))
    }

    /// Returns a page of executions, newest first.
    #[pyo3(signature = (filter, limit, cursor=None))]
    fn executions(
        &self,
        py: Python<'_>,
        filter: &Bound<'_, ListFilter>,
        limit: usize,
        cursor: Option<&str>,
    ) -> PyResult<ExecutionPage> {
        let filter = filter.get().page(limit, cursor).raise(py)?;
        let page = self.call(py, |database| database.list(&filter))?;
        let executions = page
            .items
            .into_iter()
            .map(|item| Py::new(py, Execution::listed(item, self.shared_database())))
            .collect::<PyResult<_>>()?;
        Ok(ExecutionPage {
            executions,
            next_cursor: page.next.map(|id| id.to_string()),
            prev_cursor: page.prev.map(previous),
            scanned_until_us: page.scanned.map(|scanned| scanned.until.0),
        })
    }

    /// Returns the id of the workflow's execution that has the given key, or `None` if no execution has the key.
    fn find(&self, py: Python<'_>, workflow: &str, key: &str) -> PyResult<Option<String>> {
        let found = self.call(py, |database| database.find(workflow, key))?;
        Ok(found.map(|id| id.to_string()))
    }

    /// Returns the key that an execution was submitted with, if any.
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

    /// Returns the trace context that an execution was submitted with, as JSON, if any.
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
        let (execution, reported, maps) = self.call(py, |database| {
            let (execution, reported) = database.progress(id)?;
            let maps = database.maps_of(&execution)?;
            Ok((execution, reported, maps))
        })?;
        let tasks = reported.into_iter().map(|progress| {
            let map = maps.iter().find(|row| row.task == progress.task);
            let record = ProgressRecord {
                task_id: execution.workflow().task(progress.task).id.clone(),
                attempt: progress.attempt,
                done: progress.done,
                total: progress.total,
                message: progress.message,
                items: map.map(states),
                parallel: map.and_then(|row| row.parallel),
                time_us: progress.time.0,
            };
            Py::new(py, record)
        });
        let tasks = tasks.collect::<PyResult<_>>()?;
        Ok(ProgressReport {
            execution: Py::new(py, Execution::new(execution, self.shared_database()))?,
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

    /// Returns the runners that have not been declared dead.
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
            schema_version: health.schema_version,
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

    /// Returns a trigger, or `None` if no trigger has this name.
    fn trigger<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = self.call(py, |database| database.trigger(name))?;
        found.map(|record| schedule_dict(py, record)).transpose()
    }
}
