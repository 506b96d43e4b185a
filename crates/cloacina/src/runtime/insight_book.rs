//! What running tasks say of themselves, on its way to the database: collected, and written a few times a second.

use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};

use super::Message;
use super::coordinator::Coordinator;
use crate::store::StoreError;
use crate::types::sync::Mutex;
use crate::types::{ExecutionId, LogChunk, Micros, Ordinal, Progress, Timestamp};

/// Between two writes.
const PACE: Micros = 250_000;
/// More bytes of log lines than this do not wait for a database that does not answer.
const LOG_BYTES: usize = 16 << 20;

/// What waits to be written. Only the last word of an attempt about its progress counts.
#[derive(Debug, Default)]
pub struct InsightBook {
    waits: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    progress: FxHashMap<(ExecutionId, Ordinal), Progress>,
    logs: Vec<LogChunk>,
    log_bytes: usize,
}

impl InsightBook {
    /// Takes note of how far an attempt is; `true`: nothing waited before, the coordinator is to be told.
    pub fn note_progress(&self, progress: Progress) -> bool {
        let mut inner = self.inner.lock();
        inner
            .progress
            .insert((progress.execution, progress.task), progress);
        !self.waits.swap(true, Atomic::AcqRel)
    }

    /// Takes log lines; `true`: nothing waited before, the coordinator is to be told.
    pub fn note_logs(&self, chunk: LogChunk) -> bool {
        let mut inner = self.inner.lock();
        let bytes: usize = chunk.lines.iter().map(|line| line.message.len() + 64).sum();
        if inner.log_bytes + bytes > LOG_BYTES {
            tracing::warn!(execution_id = %chunk.execution, "captured log lines are dropped: the database does not take them");
            return false;
        }
        inner.log_bytes += bytes;
        inner.logs.push(chunk);
        !self.waits.swap(true, Atomic::AcqRel)
    }

    fn waits(&self) -> bool {
        self.waits.load(Atomic::Acquire)
    }

    fn has_logs(&self) -> bool {
        !self.inner.lock().logs.is_empty()
    }

    fn take(&self) -> (Vec<Progress>, Vec<LogChunk>) {
        let mut inner = self.inner.lock();
        self.waits.store(false, Atomic::Release);
        inner.log_bytes = 0;
        let progress = std::mem::take(&mut inner.progress);
        (
            progress.into_values().collect(),
            std::mem::take(&mut inner.logs),
        )
    }

    /// What was taken and not written. Whatever an attempt has said meanwhile is newer.
    fn put_back(&self, progress: Vec<Progress>, logs: Vec<LogChunk>) {
        if !progress.is_empty() {
            let mut inner = self.inner.lock();
            for said in progress {
                let place = (said.execution, said.task);
                inner.progress.entry(place).or_insert(said);
            }
            self.waits.store(true, Atomic::Release);
        }
        for chunk in logs {
            self.note_logs(chunk);
        }
    }
}

impl Coordinator {
    /// Writes what tasks said: now and then, and log lines before the end of the attempt that logged them.
    pub(super) fn flush_insight(
        &mut self,
        messages: &[Message],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if !self.insight.waits() {
            return Ok(());
        }
        let ends = messages
            .iter()
            .any(|message| matches!(message, Message::Finished { .. } | Message::Stop { .. }));
        if now < self.next_insight && !(ends && self.insight.has_logs()) {
            return Ok(());
        }
        let (progress, logs) = self.insight.take();
        self.next_insight = now + PACE;
        let written = self.store.note_insight(&progress, &logs);
        if written.is_err() {
            self.insight.put_back(progress, logs);
        }
        written
    }

    /// When the next write is due.
    pub(super) fn insight_due(&self) -> Timestamp {
        if self.insight.waits() {
            self.next_insight
        } else {
            Timestamp(i64::MAX)
        }
    }
}
