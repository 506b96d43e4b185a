//! `Poll`: a trigger's function that Python calls.

use cloacina::engine::trigger::PollOutcome;
use cloacina::runtime::{self, PollEnds};
use cloacina::types;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::context::Context;

/// One call of a trigger's function.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Poll {
    poll: runtime::Poll,
    ends: PollEnds,
}

impl Poll {
    /// Returns a poll whose result goes to `ends`.
    pub const fn new(poll: runtime::Poll, ends: PollEnds) -> Self {
        Self { poll, ends }
    }
}

#[pymethods]
impl Poll {
    #[getter]
    fn name(&self) -> &str {
        &self.poll.name
    }

    #[getter]
    fn handler(&self) -> u64 {
        self.poll.handler
    }

    /// Reports the result of the call: `skip`, `fire` with a context, or `failed` with an error text.
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
                    "'{other}' is not a result of a poll"
                )));
            }
        };
        self.ends.end(self.poll.token, outcome);
        Ok(())
    }
}
