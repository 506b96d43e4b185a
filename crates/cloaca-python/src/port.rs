//! `Port`: how Rust wakes an event loop, without ever attaching to the interpreter.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use cloacina::runtime::Ended;
use cloacina::types::sync::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::execution::Execution;

/// The two ends of a stream; a byte in it means that there is something to fetch.
struct Streams {
    reader: UnixStream,
    writer: UnixStream,
}

#[derive(Default)]
struct Inner {
    streams: Option<Streams>,
    /// A byte was written and not read yet.
    signalled: bool,
    ended: Vec<(u64, Option<Ended>)>,
}

impl Inner {
    fn signal(&mut self) {
        if let Some(streams) = &mut self.streams
            && !self.signalled
        {
            // A stream that holds one byte at most is never full; a closed reader hears nothing.
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

/// The side of a port that Rust's threads hold.
#[derive(Clone, Default)]
pub struct Bell {
    inner: Arc<Mutex<Inner>>,
}

impl Bell {
    /// Wakes the loop, if it was not woken already.
    pub fn ring(&self) {
        self.inner.lock().signal();
    }

    /// Hands over the end of a subscription, and wakes the loop. `None`: the runner is gone.
    pub fn ended(&self, token: u64, ended: Option<Ended>) {
        let mut inner = self.inner.lock();
        inner.ended.push((token, ended));
        inner.signal();
    }
}

/// Wakes an asyncio loop from Rust through a readable file descriptor.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Port {
    bell: Bell,
}

impl Port {
    /// A way for Rust's threads to wake who reads the port.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

#[pymethods]
impl Port {
    #[new]
    pub fn new() -> PyResult<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let port = Self {
            bell: Bell::default(),
        };
        port.bell.inner.lock().streams = Some(Streams { reader, writer });
        Ok(port)
    }

    /// The descriptor to watch for reading.
    fn fileno(&self) -> PyResult<i32> {
        let inner = self.bell.inner.lock();
        let descriptor = inner
            .streams
            .as_ref()
            .map(|streams| streams.reader.as_raw_fd());
        descriptor.ok_or_else(|| PyValueError::new_err("the port is closed"))
    }

    /// Subscriptions that ended since the last call. Call it first when the port is readable: it makes it unreadable.
    fn completed(&self) -> Vec<(u64, Option<Execution>)> {
        let mut inner = self.bell.inner.lock();
        inner.acknowledge();
        let ended = std::mem::take(&mut inner.ended);
        drop(inner);
        ended
            .into_iter()
            .map(|(token, ended)| (token, ended.map(Execution::new)))
            .collect()
    }

    /// Closes the descriptors. Nothing wakes through this port any more.
    fn close(&self) {
        let mut inner = self.bell.inner.lock();
        inner.streams = None;
        inner.signalled = false;
    }
}
