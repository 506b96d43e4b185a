//! Frozen classes for the rows and other plain data that `_core` returns to Python.

use pyo3::prelude::*;

use crate::execution::Execution;
use crate::record::{self, record};
use crate::workflow::Workflow;

record! {
    /// A page of a listing of executions.
    ExecutionPage {
        /// The executions, newest first.
        executions: Vec<Py<Execution>>,
        /// The cursor of the next page; `None` on the last one.
        next_cursor: Option<String>,
        /// The cursor of the previous page; `None` on the first one.
        prev_cursor: Option<String>,
        /// The submission time of the last execution that the search examined, in microseconds since 1970, if the search
        /// reached its limit of rows or of time before the page was full; otherwise `None`.
        scanned_until_us: Option<i64>,
    }
}

record! {
    /// The result of a submission.
    Submitted {
        /// The id of the execution.
        execution_id: String,
        /// Whether the submission created the execution; false if an earlier execution already had the submission's key.
        created: bool,
    }
}

record! {
    /// One event of an execution's history.
    EventRecord {
        /// When it happened, in microseconds since 1970.
        time_us: i64,
        /// The kind of event, for example `task_started`.
        r#type: String,
        /// The execution.
        execution_id: String,
        /// The task, if the event is about a task.
        task_id: Option<String>,
        /// The attempt, if the event is about an attempt.
        attempt: Option<u32>,
        /// The runner that caused the event, if it is known.
        runner_id: Option<String>,
        /// Details as a JSON object.
        data: Option<String>,
    }
}

record! {
    /// The progress that a running task reported.
    ProgressRecord {
        /// The task.
        task_id: String,
        /// The attempt.
        attempt: u32,
        /// The amount of work that is done.
        done: f64,
        /// The total amount of work.
        total: f64,
        /// The message that the task reported with its progress.
        message: Option<String>,
        /// The number of a map's items in each state; `None` for a task that is not a map.
        items: Option<Vec<(&'static str, u32)>>,
        /// Maximum number of a map's items that run at once; `None` if there is no limit, or if the task is not a map.
        parallel: Option<u32>,
        /// When the task reported it, in microseconds since 1970.
        time_us: i64,
    }
}

record! {
    /// An execution with the progress of its running tasks.
    ProgressReport {
        /// The execution.
        execution: Py<Execution>,
        /// The latest progress of each task that reported any.
        tasks: Vec<Py<ProgressRecord>>,
    }
}

record! {
    /// A captured log line of a task.
    LogLineRecord {
        /// The task.
        task_id: String,
        /// The attempt.
        attempt: u32,
        /// When it was logged, in microseconds since 1970.
        time_us: i64,
        /// The level as `logging` numbers it.
        level: i64,
        /// The logger's name.
        logger: String,
        /// The message.
        message: String,
    }
}

record! {
    /// A runner that is registered in the database.
    RunnerRecord {
        /// Its id.
        runner_id: String,
        /// The host that it runs on.
        host: String,
        /// Its process id on that host.
        pid: i64,
        /// When it started, in microseconds since 1970.
        started_at_us: i64,
        /// The time of its last heartbeat, in microseconds since 1970.
        heartbeat_at_us: i64,
        /// The end of its lease, in microseconds since 1970.
        lease_until_us: i64,
        /// Whether its lease is valid and its process is not known to have ended.
        is_alive: bool,
        /// The workflows that it has handlers for.
        workflows: Vec<String>,
    }
}

record! {
    /// A version of a workflow that is stored in the database.
    StoredWorkflow {
        /// Its number in the database; later versions have higher numbers.
        number: i64,
        /// The workflow.
        workflow: Py<Workflow>,
    }
}

record! {
    /// The result of a check of a database.
    DatabaseHealth {
        /// The problems that were found; empty if the database is sound.
        problems: Vec<String>,
        /// The size on disk, in bytes.
        size_bytes: u64,
        /// The unused part of that size, in bytes.
        free_bytes: u64,
        /// Recommendations.
        advice: Vec<String>,
        /// The newest migration that was applied.
        schema_version: String,
    }
}

record! {
    /// The version of a database's schema.
    SchemaState {
        /// The newest migration that was applied, if any.
        current: Option<String>,
        /// The migrations that have not been applied yet.
        pending: Vec<String>,
    }
}

record! {
    /// One tick of a schedule, or one poll of a trigger, and its outcome.
    TickRecord {
        /// The schedule or trigger.
        schedule_id: String,
        /// When it was due, in microseconds since 1970.
        due_us: i64,
        /// The outcome, for example `fired`.
        outcome: &'static str,
        /// The execution that it started, if any.
        execution_id: Option<String>,
        /// When it was recorded, in microseconds since 1970.
        created_us: i64,
        /// When its record last changed, in microseconds since 1970.
        updated_us: i64,
        /// An explanation of the outcome.
        detail: Option<String>,
    }
}

record! {
    /// The number of ticks with each outcome.
    TickCounts {
        /// Ticks that started an execution.
        fired: u64,
        /// Ticks that were due while no runner was live, and that the catch-up rule did not fire later.
        missed: u64,
        /// Ticks that did not fire because no definition of the workflow was stored.
        skipped: u64,
        /// Ticks that the overlap rule skipped because an execution of the schedule was open.
        overlapped: u64,
        /// Ticks that fire when the open execution of the schedule has ended.
        queued: u64,
    }
}

record! {
    /// A time at which a cron expression fires.
    FireTime {
        /// The time in microseconds since 1970.
        at_us: i64,
        /// The time zone's offset from UTC at that time, in seconds.
        offset_seconds: i32,
    }
}

/// A tenant with its credentials. Its `__repr__` shows no password.
#[pyclass(frozen, get_all, module = "cloaca._core")]
pub struct TenantCredentials {
    /// The database role.
    pub username: String,
    /// The role's password.
    pub password: String,
    /// The schema.
    pub schema_name: String,
    /// The database URL that a program of the tenant connects to, with the password.
    pub connection_string: String,
}

#[pymethods]
impl TenantCredentials {
    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        record::repr_of(slf.as_any(), &["username", "schema_name"])
    }
}

record! {
    /// A tenant of a database.
    TenantRecord {
        /// The schema.
        schema_name: String,
        /// The role that was created for the schema, if it still exists.
        username: Option<String>,
    }
}

/// The number of running tasks, and the number of tasks and callbacks that wait for a worker.
#[pyclass(frozen, eq, get_all, module = "cloaca._core")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WorkLoad {
    /// The number of running tasks.
    pub running: usize,
    /// The number of tasks and callbacks that wait for a worker.
    pub waiting: usize,
}

impl From<(usize, usize)> for WorkLoad {
    fn from((running, waiting): (usize, usize)) -> Self {
        Self { running, waiting }
    }
}

#[pymethods]
impl WorkLoad {
    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        record::repr_of(slf.as_any(), &["running", "waiting"])
    }
}

/// The running and waiting work of a runner on a [`Bench`](crate::testing::Bench).
#[pyclass(frozen, eq, get_all, module = "cloaca._core")]
#[derive(PartialEq, Eq)]
pub struct BenchLoad {
    /// The tasks and callbacks of the worker threads.
    pub threads: WorkLoad,
    /// The tasks and callbacks of the event loop.
    pub event_loop: WorkLoad,
}

#[pymethods]
impl BenchLoad {
    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        record::repr_of(slf.as_any(), &["threads", "event_loop"])
    }
}
