//! The `tracing` subscriber that sends the engine's log events to Python's `logging`.
//!
//! It subscribes to a runner's own threads, never globally. It only queues: the supervisor thread hands the records to
//! Python, so that logging waits neither for the interpreter nor for a handler.
//!
//! See docs/explanation/decisions/081-logs-and-traces.md

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use cloacina::runtime::RUN_TARGET;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Dispatch, Event as LogEvent, Level, Metadata};

use crate::events::{SupervisorEvent, SupervisorQueue};
use crate::failure_limit::FailureRecord;
use crate::log_record::{LogRecord, TARGET, number_of};

/// The lowest level that is queued. The runner may change it at any time.
///
/// It applies to the events of executions and attempts, which are frequent. All other events are queued from INFO up in any
/// case, so that the supervisor thread notices when the program lowers the level.
#[derive(Clone)]
pub struct Threshold(Arc<AtomicU8>);

impl Threshold {
    /// Returns the threshold INFO.
    pub fn info() -> Self {
        Self(Arc::new(AtomicU8::new(number_of(Level::INFO))))
    }

    /// Sets the lowest level, as a number of Python's `logging`.
    pub fn set(&self, level: i64) {
        let level = level.clamp(0, u8::MAX.into());
        self.0
            .store(u8::try_from(level).unwrap_or(u8::MAX), Ordering::Release);
        tracing::callsite::rebuild_interest_cache();
    }

    fn admits(&self, level: Level, target: &str) -> bool {
        let lowest = self.0.load(Ordering::Acquire);
        let lowest = if target == RUN_TARGET {
            lowest
        } else {
            lowest.min(number_of(Level::INFO))
        };
        number_of(level) >= lowest
    }
}

/// A second subscriber, which takes no event.
///
/// If a program has a single subscriber, `tracing` decides about a log statement by the subscriber of the thread that
/// reaches it first; if that thread has none, the statement is disabled for all threads. With two subscribers, it asks
/// both.
struct NullSubscriber;

impl Subscriber for NullSubscriber {
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

/// Returns the dispatch that a runner's engine threads log to.
pub fn dispatch(queue: LogQueue) -> Dispatch {
    static NULL: OnceLock<Dispatch> = OnceLock::new();
    NULL.get_or_init(|| Dispatch::new(NullSubscriber));
    Dispatch::new(queue)
}

/// The subscriber that queues log events for a runner's supervisor thread.
pub struct LogQueue {
    supervisor: Arc<SupervisorQueue>,
    threshold: Threshold,
}

impl LogQueue {
    pub fn new(supervisor: Arc<SupervisorQueue>, threshold: Threshold) -> Self {
        Self {
            supervisor,
            threshold,
        }
    }
}

impl Subscriber for LogQueue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && metadata.target().starts_with(TARGET)
            && self.threshold.admits(*metadata.level(), metadata.target())
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
            .find(|level| self.threshold.admits(*level, TARGET));
        Some(lowest.unwrap_or(Level::ERROR).into())
    }

    fn event(&self, event: &LogEvent<'_>) {
        let metadata = event.metadata();
        if metadata.target() == RUN_TARGET {
            let failure = match *metadata.level() {
                Level::ERROR => Some(FailureRecord::End),
                Level::WARN => Some(FailureRecord::Retry),
                _ => None,
            };
            if failure.is_some_and(|failure| !self.supervisor.admit_failure(failure)) {
                return;
            }
        }
        let mut record = LogRecord {
            level: number_of(*metadata.level()),
            target: metadata.target(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut record);
        self.supervisor.push(SupervisorEvent::Log(record));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
