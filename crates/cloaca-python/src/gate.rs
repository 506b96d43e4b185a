//! The one way of long calls from Python into Rust: fork check, detach, Ctrl-C, errors.
//!
//! No Rust thread ever attaches to the interpreter. Threads of Python detach here, wait, and attach again; where the
//! interpreter ends meanwhile, PyO3 keeps such a thread asleep for good, which is what daemon threads are for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cloacina::runtime::Answer;
use cloacina::types::{Error, ErrorCode};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::errors::{Raise, exception};

/// How long the main thread waits before it looks for Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// Counts forks: what an ancestor of this process made has a lower number.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Marks this process as a forked child: what was made before refuses to work.
#[pyfunction]
pub fn after_fork_child() {
    GENERATION.fetch_add(1, Ordering::AcqRel);
}

/// The process in which an object was made. Threads and database handles do not survive a fork.
#[derive(Clone, Copy)]
pub struct Birthplace {
    generation: u32,
    process: u32,
}

impl Birthplace {
    /// This process.
    pub fn here() -> Self {
        Self {
            generation: GENERATION.load(Ordering::Acquire),
            process: std::process::id(),
        }
    }

    /// Whether this is still the same process.
    pub fn is_here(self) -> bool {
        self.seems_here() && self.process == std::process::id()
    }

    /// The same without asking the operating system: blind to forks that Python does not know of.
    fn seems_here(self) -> bool {
        self.generation == GENERATION.load(Ordering::Acquire)
    }

    /// Refuses a forked child.
    pub fn check(self, py: Python<'_>) -> PyResult<()> {
        if self.is_here() {
            Ok(())
        } else {
            Err(forked(py))
        }
    }

    /// Refuses a forked child, on the hot path.
    pub fn check_fast(self, py: Python<'_>) -> PyResult<()> {
        if self.seems_here() {
            Ok(())
        } else {
            Err(forked(py))
        }
    }
}

#[cold]
fn forked(py: Python<'_>) -> PyErr {
    let error = Error::new(
        ErrorCode::Forked,
        "this process was forked after the runner had started, and a fork inherits neither its threads nor its \
         connections",
    );
    exception(
        py,
        &error.with_hint(
            "start the process with 'spawn' instead of 'fork', or open a runner in the child; on the same SQLite file \
             only after the parent has shut its own down before the fork",
        ),
    )
}

/// A call that reads or writes the database itself.
pub fn call<T: Send>(
    py: Python<'_>,
    birthplace: Birthplace,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> PyResult<T> {
    birthplace.check(py)?;
    py.detach(work).raise(py)
}

/// Waits for an answer of the coordinator.
pub fn answer<T: Send>(
    py: Python<'_>,
    birthplace: Birthplace,
    ask: impl FnOnce() -> Answer<T>,
) -> PyResult<T> {
    birthplace.check(py)?;
    let answer = ask();
    let result = wait(py, None, |patience| answer.wait(patience))?;
    result
        .unwrap_or_else(|| Err(Error::runner_closed()))
        .raise(py)
}

/// The same for an asking that may make the coordinator's step: detached, and not on the main thread, which has to react
/// to Ctrl-C.
pub fn answer_leading<T: Send>(
    py: Python<'_>,
    birthplace: Birthplace,
    ask: impl FnOnce() -> Answer<T> + Send,
) -> PyResult<T> {
    birthplace.check(py)?;
    let mut ask = Some(ask);
    let mut asked = None;
    let result = wait(py, None, |patience| {
        if let Some(ask) = ask.take() {
            asked = Some(ask());
        }
        asked.as_ref()?.wait(patience)
    })?;
    result
        .unwrap_or_else(|| Err(Error::runner_closed()))
        .raise(py)
}

/// Whether this may be the process's main thread, the one that gets signals: yes where the system does not tell.
pub fn may_be_main() -> bool {
    thread_local! {
        static MAIN: bool = std::fs::read_link("/proc/thread-self").map_or(true, |path| {
            // "process/task/thread", and the main thread has the process's number.
            let thread = path.file_name();
            thread == path.iter().next()
        });
    }
    MAIN.with(|main| *main)
}

/// Waits detached until `look` finds something; `None` when it found nothing until `end`. Ctrl-C raises from here.
pub fn wait<T: Send>(
    py: Python<'_>,
    end: Option<Instant>,
    mut look: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let mut slice = SLICE;
    loop {
        let left = end.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        });
        let found = py.detach(|| look(slice.min(left)));
        if found.is_some() {
            return Ok(found);
        }
        py.check_signals()?;
        if left <= slice {
            return Ok(None);
        }
        // Signals are handled by the main thread alone: another one has no reason to wake up.
        if slice == SLICE && !is_main_thread(py)? {
            slice = Duration::MAX;
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
