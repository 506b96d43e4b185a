//! `Outcome`: how an attempt ended.

use std::sync::Arc;

use cloacina::engine;
use cloacina::types::{Delta, Error, ErrorCode, Failure, Micros, Park, ParkKind, RootStart};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::Raise;

/// The result of an attempt.
///
/// An outcome is read for each attempt, so reading it must be cheap. All completed attempts share one Python object.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Outcome {
    ending: Ending,
}

enum Ending {
    Completed,
    Failed(Failure),
    Retry {
        after: Option<Micros>,
        failure: Failure,
    },
    Snooze {
        after: Micros,
    },
    Park(Box<Park>),
}

impl Outcome {
    /// Converts this outcome to the engine's type. For a completed task, `delta` returns the task's writes, and `starts`
    /// returns the executions that start when the task completes.
    pub fn to_engine(
        &self,
        delta: impl FnOnce() -> Delta,
        starts: impl FnOnce() -> Vec<RootStart>,
    ) -> engine::Outcome {
        match &self.ending {
            Ending::Completed => {
                let (delta, starts) = (Arc::new(delta()), starts());
                if starts.is_empty() {
                    return engine::Outcome::Completed(delta);
                }
                engine::Outcome::Starting {
                    delta,
                    starts: starts.into(),
                }
            }
            Ending::Failed(failure) => engine::Outcome::Failed(failure.clone()),
            Ending::Retry { after, failure } => engine::Outcome::Retry {
                after: *after,
                failure: failure.clone(),
            },
            Ending::Snooze { after } => engine::Outcome::Snooze { after: *after },
            Ending::Park(park) => engine::Outcome::Park(park.clone()),
        }
    }

    const fn failure(&self) -> Option<&Failure> {
        match &self.ending {
            Ending::Failed(failure) | Ending::Retry { failure, .. } => Some(failure),
            Ending::Completed | Ending::Snooze { .. } | Ending::Park(_) => None,
        }
    }
}

/// Returns the text of a user's exception. Lone surrogates are replaced, because an error here would lose the outcome.
fn lossy(text: &Bound<'_, PyString>) -> String {
    text.to_string_lossy().into_owned()
}

#[pymethods]
impl Outcome {
    /// The function returned. The writes of `Work.context` are recorded.
    #[staticmethod]
    const fn completed() -> Self {
        Self {
            ending: Ending::Completed,
        }
    }

    /// The function raised an exception. `lineage` names the exception's type and its base classes, the most specific type
    /// first.
    #[staticmethod]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "PyO3 passes arguments by value"
    )]
    fn failed(
        r#type: &Bound<'_, PyString>,
        message: &Bound<'_, PyString>,
        traceback: Option<&Bound<'_, PyString>>,
        lineage: Vec<Bound<'_, PyString>>,
        retryable: bool,
    ) -> Self {
        let failure = Failure {
            kind: lossy(r#type),
            message: lossy(message),
            traceback: traceback.map(lossy),
            lineage: lineage.iter().map(lossy).collect(),
            retryable,
        };
        Self {
            ending: Ending::Failed(failure),
        }
    }

    /// The function asked for another attempt: after `after_us`, or after the retry policy's delay if `after_us` is `None`.
    #[staticmethod]
    fn retry(
        after_us: Option<Micros>,
        r#type: &Bound<'_, PyString>,
        message: &Bound<'_, PyString>,
        traceback: Option<&Bound<'_, PyString>>,
    ) -> Self {
        let failure = Failure {
            kind: lossy(r#type),
            message: lossy(message),
            traceback: traceback.map(lossy),
            lineage: Vec::new(),
            retryable: true,
        };
        Self {
            ending: Ending::Retry {
                after: after_us,
                failure,
            },
        }
    }

    /// The function asked to run again after `after_us`. The call that has ended does not count as an attempt.
    #[staticmethod]
    const fn snooze(after_us: Micros) -> Self {
        Self {
            ending: Ending::Snooze { after: after_us },
        }
    }

    /// The function waits for `condition` (JSON). It is called again, within the same attempt, when the condition holds or
    /// after `timeout_us`. The end of the wait is recorded as the step `key` at `position`. `call` is `sleep`, `wait` or
    /// `run`. `runs` describes the child executions that the function waits for (JSON).
    #[staticmethod]
    fn park(
        py: Python<'_>,
        call: &str,
        key: String,
        position: u32,
        condition: &str,
        timeout_us: Option<Micros>,
        runs: Option<&str>,
    ) -> PyResult<Self> {
        let invalid = |problem: String| Error::new(ErrorCode::TaskInvalid, problem);
        let condition = serde_json::from_str(condition)
            .map_err(|error| {
                invalid(format!(
                    "cannot read the condition of step '{key}': {error}"
                ))
            })
            .raise(py)?;
        let runs = (runs.map(serde_json::from_str).transpose())
            .map_err(|error| invalid(format!("cannot read the children of step '{key}': {error}")))
            .raise(py)?;
        let kind = match call {
            "sleep" => ParkKind::Sleep,
            "run" => ParkKind::Run,
            _ => ParkKind::Wait,
        };
        Ok(Self {
            ending: Ending::Park(Box::new(Park {
                kind,
                key,
                position,
                condition,
                timeout: timeout_us,
                runs,
            })),
        })
    }

    /// `completed`, `failed`, `retry`, `snooze` or `park`.
    #[getter]
    const fn kind(&self) -> &'static str {
        match self.ending {
            Ending::Completed => "completed",
            Ending::Failed(_) => "failed",
            Ending::Retry { .. } => "retry",
            Ending::Snooze { .. } => "snooze",
            Ending::Park(_) => "park",
        }
    }

    /// The qualified name of the exception's type, if there is an exception.
    #[getter]
    fn r#type(&self) -> Option<&str> {
        self.failure().map(|failure| failure.kind.as_str())
    }

    /// The exception's message.
    #[getter]
    fn message(&self) -> Option<&str> {
        self.failure().map(|failure| failure.message.as_str())
    }

    /// The text of the exception's traceback.
    #[getter]
    fn traceback(&self) -> Option<&str> {
        self.failure()?.traceback.as_deref()
    }

    fn __repr__(&self) -> String {
        match self.failure() {
            None => format!("<Outcome {}>", self.kind()),
            Some(failure) => format!(
                "<Outcome {} {}: {}>",
                self.kind(),
                failure.kind,
                failure.message
            ),
        }
    }
}
