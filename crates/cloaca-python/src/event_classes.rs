//! Python classes for the events that `Runner.supervise` returns. The request to call a trigger's function is a `Poll`.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::events::SupervisorEvent;
use crate::log_record::Value;
use crate::poll::Poll;
use crate::record::record;

/// The request to start another worker thread.
#[pyclass(frozen, module = "cloaca._core")]
pub struct WorkerWanted;

/// The request to start the event loop's thread. A runner sends it once.
#[pyclass(frozen, module = "cloaca._core")]
pub struct LoopWanted;

/// The event that `Runner.supervise` returns if no other event arrived before its timeout.
#[pyclass(frozen, module = "cloaca._core")]
pub struct SuperviseTimeout;

record! {
    /// The request to interrupt a worker whose task has overrun its timeout.
    InterruptWorker {
        /// The worker's number.
        worker: u64,
        /// The token of the attempt that the worker runs.
        token: u64,
    }
}

record! {
    /// A log record of the engine.
    LogRecord {
        /// The level as a number of Python's `logging`; 5 for the engine's level TRACE.
        level: u8,
        /// The target that the log statement names, or else its Rust module. Begins with `cloacina`.
        target: &'static str,
        /// The message.
        message: String,
        /// The fields by name: text, numbers and booleans.
        fields: Py<PyDict>,
    }
}

record! {
    /// The event that reports the end of an execution watched by `Runner.announce_end`.
    ExecutionEnded {
        /// The execution.
        execution_id: String,
        /// The name of the execution's final state.
        status: &'static str,
        /// The time at which the execution ended, in microseconds since 1970.
        ended_at_us: Option<i64>,
        /// The type and message of the execution's failure.
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
