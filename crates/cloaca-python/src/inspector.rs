//! `Inspector`: reads and changes a database without a runner.

use std::collections::BTreeMap;

use cloacina::runner::{self, Access, did_cancel, schema_versions};
use cloacina::runtime::Control;
use cloacina::types::Micros;
use pyo3::prelude::*;

use crate::call;
use crate::context::Context;
use crate::errors::Raise;
use crate::process_guard::{ProcessGuard, ProcessOwned};
use crate::reads::Reads;
use crate::records::{SchemaState, Submitted};
use crate::requests::{self, SubmitRequest};
use crate::rerun::RerunRequest;
use crate::signals::{self, SentSignal};

/// A database that is read and changed without a runner.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Inspector {
    reads: Py<Reads>,
}

/// Returns the newest migration that was applied to a database, and the migrations that were not applied. Does not change the
/// database.
#[pyfunction]
#[pyo3(signature = (database_url, schema=None))]
pub fn schema_state(
    py: Python<'_>,
    database_url: &str,
    schema: Option<&str>,
) -> PyResult<SchemaState> {
    let versions = call::detached(py, ProcessGuard::here(), || {
        schema_versions(database_url, schema)
    })?;
    Ok(SchemaState {
        current: versions.current,
        pending: versions.pending,
    })
}

impl Inspector {
    /// Returns the database.
    pub fn database(&self) -> &ProcessOwned<runner::Inspector> {
        self.reads.get().database()
    }
}

#[pymethods]
impl Inspector {
    /// Opens a database. With `migrate`, a missing database is created, and the schema is migrated. Without `migrate`, the
    /// database must exist. `read_only` makes the database refuse every change.
    #[new]
    #[pyo3(signature = (database_url, schema=None, migrate=false, read_only=false))]
    fn new(
        py: Python<'_>,
        database_url: &str,
        schema: Option<&str>,
        migrate: bool,
        read_only: bool,
    ) -> PyResult<Self> {
        let guard = ProcessGuard::here();
        let access = if read_only {
            Access::ReadOnly
        } else if migrate {
            Access::Migrating
        } else {
            Access::Existing
        };
        let database = call::detached(py, guard, || {
            runner::Inspector::open(database_url, schema, access)
        })?;
        let reads = Reads::of_database(ProcessOwned::new(database, guard));
        Ok(Self {
            reads: Py::new(py, reads)?,
        })
    }

    /// The location of the database, without a password.
    #[getter]
    fn location(&self) -> String {
        self.database().location()
    }

    /// The object that reads from the database.
    #[getter]
    fn reads(&self, py: Python<'_>) -> Py<Reads> {
        self.reads.clone_ref(py)
    }

    /// Submits an execution without a runner; once the execution is durable, returns its id and whether it is new.
    fn submit(&self, py: Python<'_>, request: &Bound<'_, SubmitRequest>) -> PyResult<Submitted> {
        let request = requests::submission(py, request.get(), self.database().now())?;
        let reads = self.reads.get();
        let submitted = reads.call(py, |database| database.submit_request(request))?;
        Ok(Submitted {
            execution_id: submitted.id.to_string(),
            created: submitted.is_new,
        })
    }

    /// Submits a copy of an earlier execution. Once the copy is durable, returns its id. The copy's history names the
    /// earlier execution.
    #[pyo3(signature = (execution_id, input=None, latest=false, labels=None, actor=None, note=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments are the parts of a rerun"
    )]
    fn rerun(
        &self,
        py: Python<'_>,
        execution_id: &str,
        input: Option<&Bound<'_, Context>>,
        latest: bool,
        labels: Option<BTreeMap<String, String>>,
        actor: Option<String>,
        note: Option<String>,
    ) -> PyResult<String> {
        let request = RerunRequest::new(py, execution_id, input, latest, labels, actor, note)?;
        self.reads.get().rerun(py, &Bound::new(py, request)?)
    }

    /// Cancels, pauses, resumes or retries an execution; returns its new state once the change is durable.
    #[pyo3(signature = (execution_id, action, from_task=None, from_step=None))]
    fn control(
        &self,
        py: Python<'_>,
        execution_id: &str,
        action: &str,
        from_task: Option<String>,
        from_step: Option<String>,
    ) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let action = requests::control(action, from_task, from_step).raise(py)?;
        let reads = self.reads.get();
        let status = reads.call(py, |database| database.control(id, &action))?;
        Ok(status.name())
    }

    /// Sends a signal with JSON data. Once the signal is durable, returns its number and the number of tasks that it woke.
    #[pyo3(signature = (name, data, key=None, to=None, id=None, sender=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments are the parts of a signal"
    )]
    fn send(
        &self,
        py: Python<'_>,
        name: String,
        data: &str,
        key: Option<String>,
        to: Option<&str>,
        id: Option<String>,
        sender: Option<String>,
    ) -> PyResult<SentSignal> {
        let signal = signals::new_signal(name, data, key, to, id, sender).raise(py)?;
        let sent = (self.reads.get()).call(py, |database| database.send(&[signal]))?;
        signals::sent(&sent)
    }

    /// Approves or rejects an approval; returns the state of the execution once the decision is durable.
    #[pyo3(signature = (execution_id, task, approved, data, by=None, reason=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments are the parts of a decision"
    )]
    fn decide(
        &self,
        py: Python<'_>,
        execution_id: &str,
        task: String,
        approved: bool,
        data: &str,
        by: Option<String>,
        reason: Option<String>,
    ) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let action = signals::decision(task, approved, data, by, reason).raise(py)?;
        let status = (self.reads.get()).call(py, |database| database.control(id, &action))?;
        Ok(status.name())
    }

    /// Moves the due time of a timer or of a retry delay to `at_us`, or to `after_us` from now if `at_us` is `None`. Returns
    /// the state of the execution once the change is durable.
    #[pyo3(signature = (execution_id, task, at_us=None, after_us=0))]
    fn reschedule(
        &self,
        py: Python<'_>,
        execution_id: &str,
        task: String,
        at_us: Option<i64>,
        after_us: i64,
    ) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let action = signals::reschedule(task, at_us, after_us, self.database().now());
        let status = (self.reads.get()).call(py, |database| database.control(id, &action))?;
        Ok(status.name())
    }

    /// Cancels an execution. Returns once the cancellation is durable: `true` if the execution was open.
    fn cancel(&self, py: Python<'_>, execution_id: &str) -> PyResult<bool> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let reads = self.reads.get();
        reads.call(py, |database| {
            did_cancel(database.control(id, &Control::CancelOpen))
        })
    }

    /// Deletes at most `limit` executions that ended at least `older_than_us` ago, and other old rows. Returns the number
    /// that the engine's `Inspector::prune` returns.
    fn prune(&self, py: Python<'_>, older_than_us: Micros, limit: usize) -> PyResult<usize> {
        self.reads.get().prune(py, older_than_us, limit)
    }
}
