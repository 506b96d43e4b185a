//! `Poll`: a trigger's function to call, on its way through Python.

use cloacina::engine::trigger::PollOutcome;
use cloacina::runtime::{self, PollEnds};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::context::Context;

/// A trigger's function to call.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Poll {
    poll: runtime::Poll,
    ends: PollEnds,
}

impl Poll {
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

    /// Says how it ended: `skip`, `fire` with a context, or `failed` with a text.
    #[pyo3(signature = (kind, context=None, error=None))]
    fn end(
        &self,
        kind: &str,
        context: Option<&Bound<'_, Context>>,
        error: Option<String>,
    ) -> PyResult<()> {
        let outcome = match kind {
            "skip" => PollOutcome::Skip,
            "fire" => PollOutcome::Fire(context.map_or_else(Default::default, |context| {
                (*context.get().snapshot()).clone()
            })),
            "failed" => PollOutcome::Failed(error.unwrap_or_default()),
            other => {
                return Err(PyValueError::new_err(format!(
                    "'{other}' is no end of a poll"
                )));
            }
        };
        self.ends.end(self.poll.token, outcome);
        Ok(())
    }
}
