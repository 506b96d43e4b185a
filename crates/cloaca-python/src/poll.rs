//! `Poll`: the request to call a trigger's Python function.

use std::sync::Arc;

use cloacina::engine::trigger::PollOutcome;
use cloacina::runner::Inspector;
use cloacina::runtime::{self, PollEnds};
use cloacina::types::sync::Mutex;
use cloacina::types::{self, ErrorCode};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::call;
use crate::context::Context;
use crate::decoding::decode;
use crate::errors::Raise;
use crate::execution::Execution;
use crate::process_guard::ProcessOwned;
use crate::requests;

/// The request to call a trigger's function: once if the trigger is polled, otherwise once for each ended execution.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Poll {
    work: runtime::Poll,
    /// Reports outcomes to the engine.
    ends: PollEnds,
    database: Arc<ProcessOwned<Inspector>>,
    /// The outcomes of the calls so far, if the function is called for ended executions.
    outcomes: Mutex<Vec<PollOutcome>>,
}

impl Poll {
    /// Returns a poll that reports its outcome to `ends`.
    pub const fn new(
        poll: runtime::Poll,
        ends: PollEnds,
        database: Arc<ProcessOwned<Inspector>>,
    ) -> Self {
        Self {
            work: poll,
            ends,
            database,
            outcomes: Mutex::new(Vec::new()),
        }
    }

    /// Reports the outcome of a polled trigger's call at once. The outcome of a call for an ended execution is stored until
    /// `end_all` reports it.
    fn note(&self, outcome: PollOutcome) {
        if self.work.ends.is_some() {
            self.outcomes.lock().push(outcome);
        } else {
            self.ends.end(self.work.token, outcome);
        }
    }
}

#[pymethods]
impl Poll {
    #[getter]
    fn name(&self) -> &str {
        &self.work.name
    }

    #[getter]
    fn handler(&self) -> u64 {
        self.work.handler
    }

    /// The state that the function's last call asked to keep, or `None`.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let state = self.work.state.as_ref();
        state.map(|state| decode(py, state)).transpose()
    }

    /// The ended executions; `None` if the trigger is polled. Python calls the function once for each execution, in this
    /// order, and passes the outcome of each call to `end` or `end_many`. After the last call, Python calls `end_all`.
    #[getter]
    fn executions(&self) -> Option<Vec<String>> {
        let ends = self.work.ends.as_ref()?;
        Some(ends.iter().map(|end| end.execution.to_string()).collect())
    }

    /// Returns a snapshot of an execution, or `None` if it is deleted.
    fn execution(&self, py: Python<'_>, execution_id: &str) -> PyResult<Option<Execution>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let found = call::detached(py, self.database.guard(), || {
            match self.database.execution(id) {
                Err(error) if error.code == ErrorCode::ExecutionNotFound => Ok(None),
                found => found.map(Some),
            }
        })?;
        Ok(found.map(|execution| Execution::new(execution, Arc::clone(&self.database))))
    }

    /// Reports the outcomes of all calls for ended executions.
    fn end_all(&self) {
        let outcomes = std::mem::take(&mut *self.outcomes.lock());
        self.ends.end(self.work.token, PollOutcome::Ends(outcomes));
    }

    /// Sets the outcome of the call: the executions to start, each with its context and its key, and the state to keep (JSON).
    #[pyo3(signature = (fires, state=None))]
    fn end_many(
        &self,
        fires: Vec<(Bound<'_, Context>, Option<String>)>,
        state: Option<&str>,
    ) -> PyResult<()> {
        let fires = fires.into_iter().map(|(context, key)| {
            let snapshot = context.get().snapshot(context.py())?;
            Ok(((*snapshot).clone(), key))
        });
        let fires = fires.collect::<PyResult<_>>()?;
        let state = state
            .map(types::Json::parse)
            .transpose()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.note(PollOutcome::Many { fires, state });
        Ok(())
    }

    /// Sets the outcome of the call: `skip`, `fire` with a context, or `failed` with an error text.
    #[pyo3(signature = (kind, context=None, error=None))]
    fn end(
        &self,
        kind: &str,
        context: Option<&Bound<'_, Context>>,
        error: Option<String>,
    ) -> PyResult<()> {
        let outcome = match kind {
            "skip" => PollOutcome::Skip,
            "fire" => PollOutcome::Fire(match context {
                Some(context) => (*context.get().snapshot(context.py())?).clone(),
                None => types::Context::default(),
            }),
            "failed" => PollOutcome::Failed(error.unwrap_or_default()),
            other => {
                return Err(PyValueError::new_err(format!(
                    "'{other}' is not the outcome of a poll: use skip, fire or failed"
                )));
            }
        };
        self.note(outcome);
        Ok(())
    }
}
