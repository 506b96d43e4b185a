//! The events of `Runner.supervise` as Python classes. The event to call a trigger's function is a `Poll`.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::events::SupervisorEvent;
use crate::log_record::Value;
use crate::poll::Poll;
use crate::record::record;

/// Another worker thread is needed.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WorkerWanted;

/// The event loop's thread is needed. Sent once.
#[pyclass(frozen, module = "cloaca._core")]
pub struct LoopWanted;

/// `Runner.supervise` timed out without another event.
#[pyclass(frozen, module = "cloaca._core")]
pub struct SuperviseTimeout;

record! {
    /// A worker's task overran its timeout and must be interrupted.
    InterruptWorker {
        /// The worker's number.
        worker: u64,
        /// The token of the attempt that it runs.
        token: u64,
    }
}

record! {
    /// A log record of the engine.
    LogRecord {
        /// The level as a number of Python's `logging`; 5 for the engine's finest level.
        level: u8,
        /// The Rust module that logged it; it begins with `cloacina`.
        target: &'static str,
        /// The message.
        message: String,
        /// Its fields: text, numbers and booleans by name.
        fields: Py<PyDict>,
    }
}

record! {
    /// An execution that `Runner.announce_end` watches has ended.
    ExecutionEnded {
        /// The execution.
        execution_id: String,
        /// The name of its final state.
        status: &'static str,
        /// The time of its end, in microseconds since 1970.
        ended_at_us: Option<i64>,
        /// The type and message of its failure.
        error: Option<String>,
    }
}

/// Returns the object that Python gets for an event.
pub fn event_object(py: Python<'_>, event: SupervisorEvent) -> PyResult<Bound<'_, PyAny>> {
    let object = match event {
        SupervisorEvent::WorkerWanted => Bound::new(py, WorkerWanted)?.into_any(),
        SupervisorEvent::LoopWanted => Bound::new(py, LoopWanted)?.into_any(),
        SupervisorEvent::Timeout => Bound::new(py, SuperviseTimeout)?.into_any(),
        SupervisorEvent::Interrupt { worker, token } => {
            Bound::new(py, InterruptWorker { worker, token })?.into_any()
        }
        SupervisorEvent::Poll(poll, ends, database) => {
            Bound::new(py, Poll::new(poll, ends, database))?.into_any()
        }
        SupervisorEvent::Ended {
            execution,
            status,
            ended_at_us,
            error,
        } => {
            let ended = ExecutionEnded {
                execution_id: execution,
                status,
                ended_at_us,
                error,
            };
            Bound::new(py, ended)?.into_any()
        }
        SupervisorEvent::Log(record) => {
            let fields = PyDict::new(py);
            for (name, value) in record.fields {
                match value {
                    Value::Text(text) => fields.set_item(name, text)?,
                    Value::Integer(number) => fields.set_item(name, number)?,
                    Value::Float(number) => fields.set_item(name, number)?,
                    Value::Bool(flag) => fields.set_item(name, flag)?,
                }
            }
            let record = LogRecord {
                level: record.level,
                target: record.target,
                message: record.message,
                fields: fields.unbind(),
            };
            Bound::new(py, record)?.into_any()
        }
    };
    Ok(object)
}
