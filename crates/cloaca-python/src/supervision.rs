//! What the supervisor thread of a runner hears: workers that are wanted or overran, and log records.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cloacina::runtime::{Notice, Poll, PollEnds, WorkQueue};
use cloacina::types::sync::{Condvar, Mutex};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::logs::{Field, Record};
use crate::poll;

/// More log records than this do not wait: the oldest go, and are counted.
const LOG_CAPACITY: usize = 10_000;

/// Something for the supervisor thread to do.
pub enum Event {
    /// Start another worker thread.
    WorkerWanted,
    /// A worker overran its task's timeout: interrupt it.
    Interrupt {
        /// Whom.
        worker: u64,
        /// What it runs.
        token: u64,
    },
    /// Start the event loop's thread.
    LoopWanted,
    /// Call a trigger's function.
    Poll(Poll, PollEnds),
    /// The supervisor thread asked to be woken by now.
    Timeout,
    /// Write to the log.
    Log(Record),
    /// An execution ended that was to be told of.
    Ended {
        /// Which.
        execution: String,
        /// How.
        status: &'static str,
        /// When, in microseconds.
        ended_at_us: Option<i64>,
        /// Why it failed.
        error: Option<String>,
    },
}

impl Event {
    /// The tuple that Python gets.
    pub fn into_tuple(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let tuple = match self {
            Self::WorkerWanted => ("worker_wanted",).into_pyobject(py)?,
            Self::Interrupt { worker, token } => ("interrupt", worker, token).into_pyobject(py)?,
            Self::Ended {
                execution,
                status,
                ended_at_us,
                error,
            } => ("ended", execution, status, ended_at_us, error).into_pyobject(py)?,
            Self::LoopWanted => ("loop_wanted",).into_pyobject(py)?,
            Self::Timeout => ("timeout",).into_pyobject(py)?,
            Self::Poll(poll, ends) => ("poll", poll::Poll::new(poll, ends)).into_pyobject(py)?,
            Self::Log(record) => {
                let fields = PyDict::new(py);
                for (name, value) in record.fields {
                    match value {
                        Field::Text(text) => fields.set_item(name, text)?,
                        Field::Integer(number) => fields.set_item(name, number)?,
                        Field::Float(number) => fields.set_item(name, number)?,
                        Field::Bool(flag) => fields.set_item(name, flag)?,
                    }
                }
                ("log", record.level, record.target, record.message, fields).into_pyobject(py)?
            }
        };
        Ok(tuple.into_any())
    }
}

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    logs: VecDeque<Record>,
    lost_logs: u64,
    closed: bool,
}

/// The queue between Rust's threads and the supervisor thread.
#[derive(Default)]
pub struct Supervision {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

impl Supervision {
    /// Tells the supervisor thread something.
    pub fn push(&self, event: Event) {
        let mut inner = self.inner.lock();
        match event {
            Event::Log(record) => {
                if inner.logs.len() == LOG_CAPACITY {
                    inner.logs.pop_front();
                    inner.lost_logs += 1;
                }
                inner.logs.push_back(record);
            }
            other => inner.events.push_back(other),
        }
        drop(inner);
        self.arrived.notify_one();
    }

    /// Passes the notices of the threads' queue on, and its end.
    pub fn collect(&self, threads: &WorkQueue) {
        // Then whoever shares it collects.
        if threads.is_shared() {
            return;
        }
        for notice in threads.notices(Duration::ZERO) {
            match notice {
                Notice::WorkerWanted => self.push(Event::WorkerWanted),
                Notice::Overrun { worker, token } => self.push(Event::Interrupt { worker, token }),
                // A function learns of it from `Work.is_cancelled`.
                Notice::Cancelled { .. } => {}
            }
        }
        if threads.is_closed() {
            self.end();
        }
    }

    /// Nothing more will come.
    pub fn end(&self) {
        self.inner.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Everything that waits, as soon as there is something. Empty: there will be nothing more.
    pub fn wait(&self, patience: Duration) -> Option<Vec<Event>> {
        let until = Instant::now().checked_add(patience);
        let mut inner = self.inner.lock();
        while inner.events.is_empty() && inner.logs.is_empty() && !inner.closed {
            match until {
                Some(until) if self.arrived.wait_until(&mut inner, until).timed_out() => break,
                Some(_) => {}
                None => self.arrived.wait(&mut inner),
            }
        }
        let mut events: Vec<Event> = inner.events.drain(..).collect();
        let lost = std::mem::take(&mut inner.lost_logs);
        events.extend((lost > 0).then(|| Event::Log(Record::of_lost(lost))));
        events.extend(inner.logs.drain(..).map(Event::Log));
        (inner.closed || !events.is_empty()).then_some(events)
    }
}
