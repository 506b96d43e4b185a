//! `LoopWaker`: wakes an asyncio event loop from a Rust thread that never attaches to the interpreter.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};

use cloacina::runner::Inspector;
use cloacina::runtime::Ended;
use cloacina::types::Error;
use cloacina::types::sync::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::exception;
use crate::execution::Execution;
use crate::process_guard::ProcessOwned;
use crate::record::record;
use crate::records::Submitted;

record! {
    /// A subscription that is over: its execution has ended, or the runner has shut down.
    EndedSubscription {
        /// The token that `Runner.subscribe` returned.
        token: u64,
        /// The ended execution; `None` if the runner has shut down.
        execution: Option<Py<Execution>>,
    }
}

record! {
    /// The answer to a submission.
    AnsweredSubmission {
        /// The token that `Runner.begin_submit` returned.
        token: u64,
        /// The executions; `None` if they were refused.
        submitted: Option<Vec<Py<Submitted>>>,
        /// Why the executions were refused; `None` if they were not.
        error: Option<Py<PyAny>>,
    }
}

record! {
    /// The answer about a step of a task.
    AnsweredStep {
        /// The token that `Runner.load_steps`, `Runner.record_step` or `Runner.end_wait` returned.
        token: u64,
        /// Why the steps could not be read or the step was refused; `None` after a success.
        error: Option<Py<PyAny>>,
    }
}

/// An answer that an event loop waits for.
enum Completed {
    /// The answer about a step.
    Stepped(Result<(), Error>),
    /// The end of an execution; `None` if the runner has shut down.
    Ended(Option<Ended>, Arc<ProcessOwned<Inspector>>),
    /// The answer to a submission.
    Submitted(Result<Vec<Submitted>, Error>),
}

impl Completed {
    fn into_object(self, py: Python<'_>, token: u64) -> PyResult<Py<PyAny>> {
        let result = match self {
            Self::Ended(ended, database) => {
                let execution = ended.map(|ended| Py::new(py, Execution::new(ended, database)));
                let ended = EndedSubscription {
                    token,
                    execution: execution.transpose()?,
                };
                return Ok(Py::new(py, ended)?.into_any());
            }
            Self::Stepped(result) => {
                let error = result.err();
                let answer = AnsweredStep {
                    token,
                    error: error.map(|error| exception(py, &error).into_value(py).into_any()),
                };
                return Ok(Py::new(py, answer)?.into_any());
            }
            Self::Submitted(result) => result,
        };
        let answer = match result {
            Ok(submitted) => AnsweredSubmission {
                token,
                submitted: Some(
                    submitted
                        .into_iter()
                        .map(|submitted| Py::new(py, submitted))
                        .collect::<PyResult<_>>()?,
                ),
                error: None,
            },
            Err(error) => AnsweredSubmission {
                token,
                submitted: None,
                error: Some(exception(py, &error).into_value(py).into_any()),
            },
        };
        Ok(Py::new(py, answer)?.into_any())
    }
}

/// The two ends of a stream. A byte in the stream means that `completed` has answers to return, or that work has arrived.
struct Streams {
    reader: UnixStream,
    writer: UnixStream,
}

#[derive(Default)]
struct WakeState {
    /// `None` once the waker is closed.
    streams: Option<Streams>,
    /// Whether a byte was written and not read yet.
    signalled: bool,
    completed: Vec<(u64, Completed)>,
}

impl WakeState {
    fn signal(&mut self) {
        if let Some(streams) = &mut self.streams
            && !self.signalled
        {
            // The stream holds at most one byte, so it is never full.
            self.signalled = streams.writer.write(&[1]).is_ok();
        }
    }

    fn acknowledge(&mut self) {
        if let Some(streams) = &mut self.streams
            && std::mem::take(&mut self.signalled)
        {
            let _ = streams.reader.read(&mut [0; 8]);
        }
    }
}

/// The side of a waker that Rust threads hold. Python closes the descriptors when it drops the waker; after that, this handle
/// wakes nothing.
#[derive(Clone)]
pub struct WakeHandle {
    state: Weak<Mutex<WakeState>>,
}

impl WakeHandle {
    /// Wakes the loop, unless a wake-up is already on its way.
    pub fn wake(&self) {
        if let Some(state) = self.state.upgrade() {
            state.lock().signal();
        }
    }

    /// Hands over the end of a subscription and wakes the loop. `None` means that the runner has shut down.
    pub fn ended(&self, token: u64, ended: Option<Ended>, database: Arc<ProcessOwned<Inspector>>) {
        self.complete(token, Completed::Ended(ended, database));
    }

    /// Hands over the answer to a submission and wakes the loop.
    pub fn submitted(&self, token: u64, answer: Result<Vec<Submitted>, Error>) {
        self.complete(token, Completed::Submitted(answer));
    }

    /// Hands over the answer about a step and wakes the loop.
    pub fn stepped(&self, token: u64, answer: Result<(), Error>) {
        self.complete(token, Completed::Stepped(answer));
    }

    fn complete(&self, token: u64, completed: Completed) {
        if let Some(state) = self.state.upgrade() {
            let mut state = state.lock();
            state.completed.push((token, completed));
            state.signal();
        }
    }
}

/// Wakes an asyncio event loop through a readable file descriptor.
#[pyclass(frozen, module = "cloaca._core")]
pub struct LoopWaker {
    state: Arc<Mutex<WakeState>>,
}

impl LoopWaker {
    /// Returns a handle by which Rust threads wake the loop.
    pub fn handle(&self) -> WakeHandle {
        WakeHandle {
            state: Arc::downgrade(&self.state),
        }
    }
}

#[pymethods]
impl LoopWaker {
    #[new]
    pub fn new() -> PyResult<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let state = WakeState {
            streams: Some(Streams { reader, writer }),
            ..WakeState::default()
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Returns the descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        let state = self.state.lock();
        let descriptor = state
            .streams
            .as_ref()
            .map(|streams| streams.reader.as_raw_fd());
        descriptor.ok_or_else(|| PyValueError::new_err("the waker is closed"))
    }

    /// Returns the answers that arrived since the last call: ended subscriptions, answered submissions and answered steps.
    /// Also clears the wake-up, so that the descriptor stops being readable. When the descriptor is readable, call this method
    /// first and take the queued work afterwards: then work that arrives in between wakes the loop again.
    fn completed(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        let mut state = self.state.lock();
        state.acknowledge();
        let completed = std::mem::take(&mut state.completed);
        drop(state);
        completed
            .into_iter()
            .map(|(token, completed)| completed.into_object(py, token))
            .collect()
    }

    /// Closes the descriptors. A closed waker wakes nothing.
    fn close(&self) {
        let mut state = self.state.lock();
        state.streams = None;
        state.signalled = false;
    }
}
