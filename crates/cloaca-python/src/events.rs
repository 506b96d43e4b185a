//! Events for a runner's supervisor thread: workers to start or to interrupt, polls of triggers, and log records.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use cloacina::runner::Inspector;
use cloacina::runtime::{Notice, Poll, PollEnds, WorkQueue};
use cloacina::types::sync::{Condvar, Mutex};

use crate::failure_limit::{FailureLimit, FailureRecord};
use crate::log_record::LogRecord;
use crate::process_guard::ProcessOwned;

/// Maximum number of waiting log records. If more arrive, the oldest records are dropped and counted.
const LOG_CAPACITY: usize = 10_000;
/// Maximum time that a caller waits until the queued log records are written. A slow handler of `logging` delays no result
/// longer than this.
const LOG_PATIENCE: Duration = Duration::from_millis(500);

/// An event for the supervisor thread: a request or a notification.
pub enum SupervisorEvent {
    /// Start another worker thread.
    WorkerWanted,
    /// Interrupt a worker whose task overran its timeout.
    Interrupt {
        /// The worker's number.
        worker: u64,
        /// The token of the attempt that the worker runs.
        token: u64,
    },
    /// Start the event loop's thread.
    LoopWanted,
    /// Call a trigger's function. The inspector lets the function read executions from the database.
    Poll(Poll, PollEnds, Arc<ProcessOwned<Inspector>>),
    /// The supervisor thread's wait timed out.
    Timeout,
    /// Write a record to the log.
    Log(LogRecord),
    /// An execution that `announce_end` watches has ended.
    Ended {
        /// The execution's id.
        execution: String,
        /// The name of the execution's final state.
        status: &'static str,
        /// The time at which the execution ended, in microseconds since 1970.
        ended_at_us: Option<i64>,
        /// The type and message of the execution's failure.
        error: Option<String>,
    },
}

#[derive(Default)]
struct QueueState {
    events: VecDeque<SupervisorEvent>,
    logs: VecDeque<LogRecord>,
    lost_logs: u64,
    failures: FailureLimit,
    closed: bool,
    /// The number of log records, counted from the start, that the supervisor thread has taken.
    taken_logs: u64,
    /// The supervisor thread, after its first wait.
    reader: Option<ThreadId>,
}

/// The queue between Rust threads and the supervisor thread.
#[derive(Default)]
pub struct SupervisorQueue {
    state: Mutex<QueueState>,
    arrived: Condvar,
    /// The number of log records, counted from the start, that were queued.
    queued_logs: AtomicU64,
    /// The number of log records, counted from the start, that the supervisor thread has passed to Python's `logging`.
    written_logs: AtomicU64,
    /// Notified after `written_logs` has changed.
    logs_written: Condvar,
}

impl SupervisorQueue {
    /// Queues an event and wakes the supervisor thread.
    pub fn push(&self, event: SupervisorEvent) {
        let mut state = self.state.lock();
        match event {
            SupervisorEvent::Log(record) => {
                if state.logs.len() == LOG_CAPACITY {
                    state.logs.pop_front();
                    state.lost_logs += 1;
                }
                state.logs.push_back(record);
                self.queued_logs.fetch_add(1, Ordering::Release);
            }
            other => state.events.push_back(other),
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Whether log records were queued that are not written yet.
    pub fn has_queued_logs(&self) -> bool {
        self.written_logs.load(Ordering::Acquire) < self.queued_logs.load(Ordering::Acquire)
    }

    /// Waits until the log records that are queued now are written, so that a caller who learns of an execution's end also
    /// finds the records of the execution. Waits at most half a second, and not on the supervisor thread.
    pub fn settle_logs(&self) {
        let queued = self.queued_logs.load(Ordering::Acquire);
        let is_settled = || self.written_logs.load(Ordering::Acquire) >= queued;
        let until = Instant::now() + LOG_PATIENCE;
        let mut state = self.state.lock();
        while !is_settled() && state.reader != Some(thread::current().id()) {
            if self.logs_written.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    /// Returns whether a failure may be logged. Failures beyond the limit are counted, and a later record reports the count.
    pub fn admit_failure(&self, record: FailureRecord) -> bool {
        let mut state = self.state.lock();
        let is_admitted = state.failures.admit(record, Instant::now());
        drop(state);
        if !is_admitted {
            self.arrived.notify_one(); // the supervisor thread sets the time at which it will report the count
        }
        is_admitted
    }

    /// Moves the notices of `threads`, the worker threads' queue, into this queue. Ends this queue if `threads` has ended.
    pub fn collect(&self, threads: &WorkQueue) {
        // If several runners share the worker threads, their worker host collects the notices.
        if threads.is_shared() {
            return;
        }
        for notice in threads.notices(Duration::ZERO) {
            match notice {
                Notice::WorkerWanted => self.push(SupervisorEvent::WorkerWanted),
                Notice::Overrun { worker, token } => {
                    self.push(SupervisorEvent::Interrupt { worker, token });
                }
                // A function on a thread checks `Work.is_cancelled` itself, so nothing is sent.
                Notice::Cancelled { .. } => {}
            }
        }
        if threads.is_closed() {
            self.end();
        }
    }

    /// Ends the queue: no further event will come.
    pub fn end(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Waits until an event arrives, and returns all queued events. Returns an empty list once the queue has ended, and
    /// `None` if no event arrives within `patience`.
    pub fn wait(&self, patience: Duration) -> Option<Vec<SupervisorEvent>> {
        let until = Instant::now().checked_add(patience);
        let mut state = self.state.lock();
        state.reader.get_or_insert_with(|| thread::current().id());
        // The supervisor thread has handled all events of its previous wait.
        if self.written_logs.swap(state.taken_logs, Ordering::AcqRel) != state.taken_logs {
            self.logs_written.notify_all();
        }
        while state.events.is_empty() && state.logs.is_empty() && !state.closed {
            let due = state.failures.due();
            let wake = until.into_iter().chain(due).min();
            match wake {
                Some(wake) if self.arrived.wait_until(&mut state, wake).timed_out() => break,
                Some(_) => {}
                None => self.arrived.wait(&mut state),
            }
        }
        let mut events: Vec<SupervisorEvent> = state.events.drain(..).collect();
        let lost = std::mem::take(&mut state.lost_logs);
        events.extend((lost > 0).then(|| SupervisorEvent::Log(LogRecord::of_lost(lost))));
        events.extend(state.logs.drain(..).map(SupervisorEvent::Log));
        state.taken_logs = self.queued_logs.load(Ordering::Acquire);
        let is_closed = state.closed;
        let omitted = state.failures.take(Instant::now(), is_closed);
        events.extend(omitted.map(SupervisorEvent::Log));
        (state.closed || !events.is_empty()).then_some(events)
    }
}
