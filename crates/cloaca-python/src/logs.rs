//! The engine's log events on their way to Python's `logging`.
//!
//! A subscriber of a runner's own threads, never a global one. It only queues: the supervisor thread hands the records
//! to Python, so that a log line neither waits for the interpreter nor for a handler.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::field::{Field as Name, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Dispatch, Event as LogEvent, Level, Metadata};

use crate::supervision::{Event, Supervision};

/// What the engine's events are filed under.
const TARGET: &str = "cloacina";

/// A value beside a log message.
pub enum Field {
    /// Text, or what has no better form.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// True or false.
    Bool(bool),
}

/// A log event as it waits for the supervisor thread.
pub struct Record {
    /// As Python numbers it.
    pub level: u8,
    /// The module that it is from.
    pub target: &'static str,
    /// The sentence.
    pub message: String,
    /// What belongs to it.
    pub fields: Vec<(&'static str, Field)>,
}

impl Record {
    /// Stands for records that were dropped.
    pub fn of_lost(count: u64) -> Self {
        Self {
            level: number_of(Level::WARN),
            target: TARGET,
            message: format!(
                "{count} log records were dropped: they came faster than they were written"
            ),
            fields: Vec::new(),
        }
    }
}

impl Visit for Record {
    fn record_str(&mut self, name: &Name, value: &str) {
        if name.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields
                .push((name.name(), Field::Text(value.to_owned())));
        }
    }

    fn record_i64(&mut self, name: &Name, value: i64) {
        self.fields.push((name.name(), Field::Integer(value)));
    }

    fn record_u64(&mut self, name: &Name, value: u64) {
        let value = i64::try_from(value);
        self.fields
            .push((name.name(), Field::Integer(value.unwrap_or(i64::MAX))));
    }

    fn record_f64(&mut self, name: &Name, value: f64) {
        self.fields.push((name.name(), Field::Float(value)));
    }

    fn record_bool(&mut self, name: &Name, value: bool) {
        self.fields.push((name.name(), Field::Bool(value)));
    }

    fn record_debug(&mut self, name: &Name, value: &dyn Debug) {
        let mut text = String::new();
        // A value that cannot be shown is shown as far as it can.
        let _ = write!(text, "{value:?}");
        self.record_str(name, &text);
    }
}

/// Which levels are queued; shared with the runner, which may change it.
#[derive(Clone)]
pub struct Threshold(Arc<AtomicU8>);

impl Threshold {
    /// INFO and above.
    pub fn info() -> Self {
        Self(Arc::new(AtomicU8::new(number_of(Level::INFO))))
    }

    /// Queues this level of Python's and those above.
    pub fn set(&self, level: i64) {
        let level = level.clamp(0, u8::MAX.into());
        self.0
            .store(u8::try_from(level).unwrap_or(u8::MAX), Ordering::Release);
        tracing::callsite::rebuild_interest_cache();
    }

    fn admits(&self, level: Level) -> bool {
        number_of(level) >= self.0.load(Ordering::Acquire)
    }
}

/// A subscriber that wants nothing, and is always there.
///
/// While a program has a single subscriber, `tracing` asks the thread that first reaches a log line, or changes a level,
/// for the one of that thread; where it has none, that line is switched off for all. With two, all of them are asked.
struct Nobody;

impl Subscriber for Nobody {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn event(&self, _: &LogEvent<'_>) {}

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A way to a runner's queue for the threads of the engine.
pub fn dispatch(queue: LogQueue) -> Dispatch {
    static NOBODY: OnceLock<Dispatch> = OnceLock::new();
    NOBODY.get_or_init(|| Dispatch::new(Nobody));
    Dispatch::new(queue)
}

/// The subscriber.
pub struct LogQueue {
    supervision: Arc<Supervision>,
    threshold: Threshold,
}

impl LogQueue {
    pub fn new(supervision: Arc<Supervision>, threshold: Threshold) -> Self {
        Self {
            supervision,
            threshold,
        }
    }
}

impl Subscriber for LogQueue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with(TARGET)
            && self.threshold.admits(*metadata.level())
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN];
        let lowest = levels
            .into_iter()
            .find(|level| self.threshold.admits(*level));
        Some(lowest.unwrap_or(Level::ERROR).into())
    }

    fn event(&self, event: &LogEvent<'_>) {
        let metadata = event.metadata();
        let mut record = Record {
            level: number_of(*metadata.level()),
            target: metadata.target(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        self.supervision.push(Event::Log(record));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Python's number of a level.
const fn number_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}
