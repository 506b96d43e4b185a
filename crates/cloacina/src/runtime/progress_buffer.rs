//! A buffer for the progress and the log lines of running tasks until they are written.
//!
//! See docs/explanation/decisions/080-metrics-and-progress.md

use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};

use crate::types::sync::Mutex;
use crate::types::{ExecutionId, LogChunk, Ordinal, Progress};

/// Maximum size of the buffered log lines, in bytes. Further lines are dropped. The buffer becomes full only while the database
/// does not answer.
const LOG_BYTES: usize = 16 << 20;

/// Progress and log lines that have not been written. Of each task's progress, only the last report is kept.
#[derive(Debug, Default)]
pub struct ProgressBuffer {
    has_some: AtomicBool,
    buffered: Mutex<Buffered>,
}

#[derive(Debug, Default)]
struct Buffered {
    progress: FxHashMap<(ExecutionId, Ordinal), Progress>,
    logs: Vec<LogChunk>,
    log_bytes: usize,
}

impl ProgressBuffer {
    /// Adds a progress report of an attempt. Returns `true` if the buffer was empty. The caller must then wake the coordinator.
    pub fn note_progress(&self, progress: Progress) -> bool {
        let mut buffered = self.buffered.lock();
        buffered
            .progress
            .insert((progress.execution, progress.task), progress);
        !self.has_some.swap(true, Atomic::AcqRel)
    }

    /// Adds log lines. Returns `true` if the buffer was empty. The caller must then wake the coordinator.
    pub fn note_logs(&self, chunk: LogChunk) -> bool {
        let (bytes, execution) = (size(&chunk), chunk.execution);
        let mut buffered = self.buffered.lock();
        if buffered.log_bytes + bytes > LOG_BYTES {
            drop(buffered);
            tracing::warn!(execution_id = %execution, "captured log lines were dropped: the buffer is full because the database does not answer");
            return false;
        }
        buffered.log_bytes += bytes;
        let last = buffered.logs.last_mut();
        match last.filter(|last| is_of_same_attempt(last, &chunk)) {
            Some(last) => last.lines.extend(chunk.lines),
            None => buffered.logs.push(chunk),
        }
        !self.has_some.swap(true, Atomic::AcqRel)
    }

    pub(super) fn has_some(&self) -> bool {
        self.has_some.load(Atomic::Acquire)
    }

    pub(super) fn has_logs(&self) -> bool {
        !self.buffered.lock().logs.is_empty()
    }

    pub(super) fn take(&self) -> (Vec<Progress>, Vec<LogChunk>) {
        let mut buffered = self.buffered.lock();
        self.has_some.store(false, Atomic::Release);
        buffered.log_bytes = 0;
        let progress = std::mem::take(&mut buffered.progress);
        (
            progress.into_values().collect(),
            std::mem::take(&mut buffered.logs),
        )
    }

    /// Puts back progress and log lines that were taken but not written. Log lines are put before the lines that were added
    /// since. A progress report is dropped if a newer report of the task was added since.
    pub(super) fn put_back(&self, progress: Vec<Progress>, mut logs: Vec<LogChunk>) {
        let mut buffered = self.buffered.lock();
        for earlier in progress {
            let key = (earlier.execution, earlier.task);
            buffered.progress.entry(key).or_insert(earlier);
        }
        buffered.log_bytes += logs.iter().map(size).sum::<usize>();
        logs.append(&mut buffered.logs);
        buffered.logs = logs;
        self.has_some.store(true, Atomic::Release);
    }
}

/// Whether two chunks belong to the same attempt. Consecutive lines of one attempt are stored in one row.
fn is_of_same_attempt(one: &LogChunk, other: &LogChunk) -> bool {
    (one.execution, one.task, one.attempt) == (other.execution, other.task, other.attempt)
}

fn size(chunk: &LogChunk) -> usize {
    chunk.lines.iter().map(|line| line.message.len() + 64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogLine, Timestamp};

    fn chunk(text: &str) -> LogChunk {
        LogChunk {
            execution: ExecutionId::from_bytes([1; 16]),
            task: 0,
            attempt: 1,
            lines: vec![LogLine {
                time: Timestamp(0),
                level: 20,
                logger: "tests".to_owned(),
                message: text.to_owned(),
            }],
        }
    }

    #[test]
    fn b17_log_lines_keep_their_order_after_a_failed_write() {
        let buffer = ProgressBuffer::default();
        buffer.note_logs(chunk("first"));
        let (progress, logs) = buffer.take();
        buffer.note_logs(chunk("second"));
        buffer.put_back(progress, logs);
        let (_, logs) = buffer.take();
        let texts: Vec<&str> = (logs.iter().flat_map(|chunk| &chunk.lines))
            .map(|line| line.message.as_str())
            .collect();
        assert_eq!(texts, ["first", "second"]);
    }
}
