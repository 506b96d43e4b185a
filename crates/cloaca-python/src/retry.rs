//! The engine's retry decisions, for the Python package's `RetryPolicy`.

use cloacina::engine;
use cloacina::types::{Error, ErrorCode, Failure, Micros, RetryPolicy};
use pyo3::prelude::*;

use crate::errors::Raise;

/// Returns whether another attempt follows attempt number `attempt`, which has failed. `lineage` names the exception's type
/// and its base classes, the most specific type first.
#[pyfunction]
pub fn should_retry(
    py: Python<'_>,
    policy: &str,
    attempt: u32,
    lineage: Vec<String>,
    message: String,
) -> PyResult<bool> {
    let failure = Failure {
        kind: lineage.first().cloned().unwrap_or_default(),
        message,
        traceback: None,
        retryable: true,
        lineage,
    };
    let policy = read(policy).raise(py)?;
    Ok(engine::should_retry(&policy, &failure, attempt))
}

/// Returns the delay, in microseconds, after attempt number `attempt` has failed. `random`, from 0 to 1, selects the jitter.
#[pyfunction]
pub fn retry_delay_us(py: Python<'_>, policy: &str, attempt: u32, random: f64) -> PyResult<Micros> {
    let policy = read(policy).raise(py)?;
    Ok(engine::retry_delay(&policy, attempt, random))
}

fn read(policy: &str) -> Result<RetryPolicy, Error> {
    serde_json::from_str(policy).map_err(|error| {
        Error::new(
            ErrorCode::TaskInvalid,
            format!("cannot read a retry policy: {error}"),
        )
    })
}
