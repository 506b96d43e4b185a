//! `LoopWaker`: wakes an asyncio event loop from a Rust thread that never attaches to the interpreter.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use cloacina::runtime::Ended;
use cloacina::types::sync::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::execution::Execution;
use crate::record::record;

record! {
    /// A subscription to the end of an execution that is over.
    EndedSubscription {
        /// The token that `Runner.subscribe` returned.
        token: u64,
        /// The ended execution; `None` if the runner has shut down.
        execution: Option<Py<Execution>>,
    }
}

/// The two ends of a stream. A byte in it means that there is something to fetch.
struct Streams {
    reader: UnixStream,
    writer: UnixStream,
}

#[derive(Default)]
struct WakeState {
    /// `None` once the waker is closed.
    streams: Option<Streams>,
    /// Whether a byte was written that nobody has read yet.
    signalled: bool,
    ended: Vec<(u64, Option<Ended>)>,
}

impl WakeState {
    fn signal(&mut self) {
        if let Some(streams) = &mut self.streams
            && !self.signalled
        {
            // The stream holds one byte at most, so that it is never full.
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

/// The side of a waker that Rust threads hold.
#[derive(Clone, Default)]
pub struct WakeHandle {
    state: Arc<Mutex<WakeState>>,
}

impl WakeHandle {
    /// Wakes the loop, unless a wake-up is already on its way.
    pub fn wake(&self) {
        self.state.lock().signal();
    }

    /// Hands over the end of a subscription and wakes the loop. `None` means that the runner has shut down.
    pub fn ended(&self, token: u64, ended: Option<Ended>) {
        let mut state = self.state.lock();
        state.ended.push((token, ended));
        state.signal();
    }
}

/// Wakes an asyncio event loop through a readable file descriptor.
#[pyclass(frozen, module = "cloaca._core")]
pub struct LoopWaker {
    handle: WakeHandle,
}

impl LoopWaker {
    /// Returns a handle by which Rust threads wake the loop.
    pub fn handle(&self) -> WakeHandle {
        self.handle.clone()
    }
}

#[pymethods]
impl LoopWaker {
    #[new]
    pub fn new() -> PyResult<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let waker = Self {
            handle: WakeHandle::default(),
        };
        waker.handle.state.lock().streams = Some(Streams { reader, writer });
        Ok(waker)
    }

    /// Returns the descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        let state = self.handle.state.lock();
        let descriptor = state
            .streams
            .as_ref()
            .map(|streams| streams.reader.as_raw_fd());
        descriptor.ok_or_else(|| PyValueError::new_err("the waker is closed"))
    }

    /// Returns the subscriptions that ended since the last call, and makes the descriptor unreadable: call it first when
    /// the descriptor is readable.
    fn completed(&self, py: Python<'_>) -> PyResult<Vec<EndedSubscription>> {
        let mut state = self.handle.state.lock();
        state.acknowledge();
        let ended = std::mem::take(&mut state.ended);
        drop(state);
        ended
            .into_iter()
            .map(|(token, ended)| {
                let execution = ended.map(|ended| Py::new(py, Execution::new(ended)));
                Ok(EndedSubscription {
                    token,
                    execution: execution.transpose()?,
                })
            })
            .collect()
    }

    /// Closes the descriptors. This waker wakes nothing afterwards.
    fn close(&self) {
        let mut state = self.handle.state.lock();
        state.streams = None;
        state.signalled = false;
    }
}
