//! The `tracing` subscriber that sends the engine's log events to Python's `logging`.
//!
//! The subscriber is active only on a runner's own threads, never globally. It only queues records; the supervisor thread
//! passes them to Python. An engine thread that logs therefore never waits for the interpreter or a handler of `logging`.
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

/// The lowest level that is queued. Python can change it at any time (`Runner.set_log_level`).
///
/// A level above INFO applies only to the events of executions and attempts, which are frequent. All other events from INFO
/// upwards are always queued. These other events wake the supervisor thread, which then notices if the program has lowered
/// the level.
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

/// A second subscriber, which ignores every event.
///
/// While a program has a single subscriber, the first thread that reaches a log statement decides for all threads whether
/// the statement is enabled. If that thread does not use the subscriber, the statement is disabled everywhere. As soon as a
/// second subscriber exists, `tracing` asks both subscribers instead.
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

/// Returns the `tracing` dispatch that a runner's engine threads use.
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
