//! Long calls from Python into Rust: each checks for a fork, detaches, answers Ctrl-C and maps errors.
//!
//! No Rust thread ever attaches to the interpreter. Python's threads detach here, wait, and attach again. If the
//! interpreter ends meanwhile, PyO3 lets such a thread sleep forever, so they must be daemon threads.

use std::time::{Duration, Instant};

use cloacina::runtime::Answer;
use cloacina::types::Error;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::Raise;
use crate::process_guard::ProcessGuard;

/// Interval at which a waiting main thread checks for Ctrl-C.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Makes a call that reads or writes the database, detached.
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

/// Like [`answer`], for a request whose sender may run the coordinator's step inline. The request is sent detached, and never
/// by the main thread, which must answer Ctrl-C.
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

/// Returns whether this may be the process's main thread, the one that receives signals. True if the system does not
/// tell.
pub fn may_be_main() -> bool {
    thread_local! {
        static MAIN: bool = std::fs::read_link("/proc/thread-self").map_or(true, |path| {
            // "process/task/thread": the main thread has the process's number.
            let thread = path.file_name();
            thread == path.iter().next()
        });
    }
    MAIN.with(|main| *main)
}

/// Waits detached until `poll` returns a value; returns `None` at `end`. Raises `KeyboardInterrupt` on Ctrl-C.
///
/// `poll` gets the time that it may block.
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
        // Only the main thread handles signals: any other thread need not wake up for them.
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
