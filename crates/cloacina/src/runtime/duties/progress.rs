//! Writes the progress and the log lines of tasks ten times a second. Log lines are also written when an attempt ends.

use rustc_hash::FxHashSet;

use super::duty::Duty;
use super::starts::store_starts;
use crate::runtime::step::{Signal, Step};
use crate::store::{AttemptStart, StoreError};
use crate::types::{LogChunk, Micros, Monotonic, Progress};

/// Time between two writes, in microseconds.
const INTERVAL: Micros = 100_000;

/// The duty that writes the progress buffer.
#[derive(Default)]
pub(in crate::runtime) struct ProgressWriter {
    next: Monotonic,
}

impl Duty for ProgressWriter {
    const ACTION: &'static str = "write the progress and the log lines of tasks";

    fn next_wake(&self, step: &Step) -> Monotonic {
        if !step.progress.has_some() {
            return Monotonic::NEVER;
        }
        if step.signals.is_raised(Signal::AttemptsEnded) && step.progress.has_logs() {
            return step.monotonic;
        }
        self.next
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        self.next = step.monotonic + INTERVAL;
        let (progress, logs) = step.progress.take();
        // A task that reports progress has started, so its start is stored too.
        let reports: FxHashSet<_> = (progress.iter())
            .map(|report| (report.execution, report.task))
            .collect();
        let has_reported = |start: &AttemptStart| reports.contains(&(start.execution, start.task));
        let written = if reports.is_empty() {
            Ok(())
        } else {
            store_starts(step, Micros::MIN, has_reported)
        };
        let written = written.and_then(|()| step.store.note_insight(&progress, &logs));
        match written {
            Err(error) if error.is_of_item() => write_apart(step, progress, logs),
            Err(_) => {
                step.progress.put_back(progress, logs);
                written
            }
            Ok(()) => written,
        }
    }
}

/// Writes each item separately. Logs and drops an item that the database refuses, so that the others are written.
fn write_apart(
    step: &Step,
    progress: Vec<Progress>,
    logs: Vec<LogChunk>,
) -> Result<(), StoreError> {
    let mut left = (progress.into_iter(), logs.into_iter());
    loop {
        let (item, chunk) = match left.0.next() {
            Some(item) => (vec![item], Vec::new()),
            None => match left.1.next() {
                Some(chunk) => (Vec::new(), vec![chunk]),
                None => return Ok(()),
            },
        };
        match step.store.note_insight(&item, &chunk) {
            Ok(()) => {}
            Err(error) if error.is_of_item() => {
                tracing::warn!(%error, "the database refuses the progress or the log lines of a task, which are dropped");
            }
            Err(error) => {
                let progress = item.into_iter().chain(left.0).collect();
                let logs = chunk.into_iter().chain(left.1).collect();
                step.progress.put_back(progress, logs);
                return Err(error);
            }
        }
    }
}
