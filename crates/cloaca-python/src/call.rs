//! Long calls from Python into Rust. They detach from the interpreter, and check for forks and Ctrl-C.
//!
//! No Rust thread ever attaches to the interpreter. Python's threads detach here, wait, and attach again. If the
//! interpreter exits while a thread waits, PyO3 lets this thread sleep forever, so waiting threads must be daemon threads.

use std::time::{Duration, Instant};

use cloacina::runtime::Answer;
use cloacina::types::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::Raise;
use crate::process_guard::ProcessGuard;

/// Interval at which a waiting main thread checks for Ctrl-C.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Detaches from the interpreter and makes a call that reads or writes the database.
pub fn detached<T: Send>(
    py: Python<'_>,
    guard: ProcessGuard,
    call: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    guard.check(py)?;
    py.detach(call).raise(py)
}

/// Sends a request to the coordinator and waits for its answer.
pub fn answer<T: Send>(
    py: Python<'_>,
    guard: ProcessGuard,
    ask: impl FnOnce() -> Answer<T>,
) -> PyResult<T> {
    guard.check(py)?;
    let answer = ask();
    let result = wait(py, None, |patience| answer.wait(patience))?;
    result
        .unwrap_or_else(|| Err(Error::runner_closed()))
        .raise(py)
}

/// Like [`answer`], for a request whose sender can run the coordinator's step inline. The sender is detached while it runs the
/// step. It must not be the main thread, because the main thread must react to Ctrl-C.
pub fn answer_inline<T: Send>(
    py: Python<'_>,
    guard: ProcessGuard,
    ask: impl FnOnce() -> Answer<T> + Send,
) -> PyResult<T> {
    guard.check(py)?;
    let mut ask = Some(ask);
    let mut answer = None;
    let result = wait(py, None, |patience| {
        if let Some(ask) = ask.take() {
            answer = Some(ask());
        }
        answer.as_ref()?.wait(patience)
    })?;
    result
        .unwrap_or_else(|| Err(Error::runner_closed()))
        .raise(py)
}

/// Returns whether the current thread may be the process's main thread, which receives signals. Also returns true if the
/// operating system does not say which thread this is.
pub fn may_be_main() -> bool {
    thread_local! {
        static MAIN: bool = std::fs::read_link("/proc/thread-self").map_or(true, |path| {
            // The link is "process/task/thread". The main thread has the same number as the process.
            let thread = path.file_name();
            thread == path.iter().next()
        });
    }
    MAIN.with(|main| *main)
}

/// Detaches and waits until `poll` returns a value; returns `None` at `end`. Raises `KeyboardInterrupt` on Ctrl-C.
///
/// The argument of `poll` is the maximum time that the call may block.
pub fn wait<T: Send>(
    py: Python<'_>,
    end: Option<Instant>,
    mut poll: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let mut interval = SIGNAL_CHECK_INTERVAL;
    loop {
        let left = end.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        });
        let found = py.detach(|| poll(interval.min(left)));
        if found.is_some() {
            return Ok(found);
        }
        py.check_signals()?;
        if left <= interval {
            return Ok(None);
        }
        // Only the main thread handles signals, so other threads do not wake up to check for them.
        if interval == SIGNAL_CHECK_INTERVAL && !is_main_thread(py)? {
            interval = Duration::MAX;
        }
    }
}

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    static MAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let main = MAIN.import(py, "threading", "main_thread")?.call0()?;
    Ok(CURRENT
        .import(py, "threading", "current_thread")?
        .call0()?
        .is(&main))
}
