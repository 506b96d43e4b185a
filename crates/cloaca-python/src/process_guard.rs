//! Fork detection: threads and database connections belong to the process that opened them.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

use cloacina::types::{Error, ErrorCode};
use pyo3::prelude::*;

use crate::errors::exception;

/// The number of forks between the first process and this process. Objects that an ancestor made carry a lower number.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Marks this process as a forked child: every engine object that its parent made raises `ForkedProcessError`.
#[pyfunction]
pub fn after_fork_child() {
    GENERATION.fetch_add(1, Ordering::AcqRel);
}

/// The process in which an object was made.
#[derive(Clone, Copy)]
pub struct ProcessGuard {
    generation: u32,
    process: u32,
}

impl ProcessGuard {
    /// Returns the guard of the current process.
    pub fn here() -> Self {
        Self {
            generation: GENERATION.load(Ordering::Acquire),
            process: std::process::id(),
        }
    }

    /// Returns whether the current process is the guarded one.
    fn is_here(self) -> bool {
        self.is_same_generation() && self.process == std::process::id()
    }

    /// Like `is_here`, but makes no system call, and so misses forks that bypass Python's `os.fork`.
    fn is_same_generation(self) -> bool {
        self.generation == GENERATION.load(Ordering::Acquire)
    }

    /// Raises `ForkedProcessError` in a forked child.
    pub fn check(self, py: Python<'_>) -> PyResult<()> {
        if self.is_here() {
            Ok(())
        } else {
            Err(forked(py))
        }
    }

    /// Like `check`, but makes no system call. For calls that are made for every task.
    pub fn check_fast(self, py: Python<'_>) -> PyResult<()> {
        if self.is_same_generation() {
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
        "this process was forked after its parent had opened the runner or database, and a forked process can use \
         neither the threads nor the connections of its parent",
    );
    exception(
        py,
        &error.with_hint(
            "start the process with 'spawn' instead of 'fork', or open a runner in the child; if the child opens the same \
            SQLite file, shut down the parent's runner before the fork",
        ),
    )
}

/// A value with threads or connections. A forked child leaks the value instead of dropping it, because the threads and
/// connections belong to the parent.
pub struct ProcessOwned<T> {
    value: ManuallyDrop<T>,
    guard: ProcessGuard,
}

impl<T> ProcessOwned<T> {
    /// Wraps a value that the process of `guard` opened.
    pub const fn new(value: T, guard: ProcessGuard) -> Self {
        Self {
            value: ManuallyDrop::new(value),
            guard,
        }
    }

    /// Returns the guard of the process that opened the value.
    pub const fn guard(&self) -> ProcessGuard {
        self.guard
    }
}

impl<T> Deref for ProcessOwned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for ProcessOwned<T> {
    fn drop(&mut self) {
        if self.guard.is_here() {
            // SAFETY: nothing uses the field after `drop`.
            #[expect(unsafe_code, reason = "a forked child must not drop the field")]
            unsafe {
                ManuallyDrop::drop(&mut self.value);
            }
        }
    }
}
