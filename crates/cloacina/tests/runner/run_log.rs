//! Tests of the log events of executions (semantics E9).

use std::sync::{Arc, LazyLock, Mutex};

use cloacina::runtime::{Message, RunnerConfig};
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Metadata, Subscriber, span};

use super::stepped::{SECOND, SteppedRunner, with_timeout};
use super::support::{config, done, request};

/// A subscriber that records the events of executions.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn count(&self, text: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).count()
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == cloacina::runtime::RUN_TARGET
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Creates a recorder and makes it the subscriber of this thread until the guard is dropped.
fn record() -> (Recorder, DefaultGuard) {
    // If only one subscriber exists, and a thread without a subscriber is the first to reach an event, `tracing` disables this
    // event for all threads. A second subscriber prevents this.
    static OTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Recorder::default()));
    LazyLock::force(&OTHER);
    let recorder = Recorder::default();
    let guard = tracing::subscriber::set_default(recorder.clone());
    (recorder, guard)
}

#[test]
fn e9_start_is_logged_when_a_worker_takes_the_first_task() {
    let (recorder, _guard) = record();
    let mut runner = SteppedRunner::new(RunnerConfig {
        max_concurrent_tasks: 1,
        ..config()
    });
    // The runner runs one task at a time, so the second task is prefetched.
    runner.submit(request("w"));
    runner.submit(request("w"));
    runner.pass(SECOND);
    assert_eq!(
        recorder.count("started"),
        0,
        "the tasks are claimed but not started"
    );
    let first = runner.start_next().unwrap();
    runner.step(Message::Poke);
    runner.pass(SECOND);
    assert_eq!(recorder.count("started"), 1);
    runner.finish(first, done());
    assert_eq!(recorder.count("started"), 1);
    let second = runner.start_next().unwrap();
    runner.finish(second, done());
    assert_eq!(recorder.count("started"), 2);
}

#[test]
fn e9_start_of_an_execution_with_a_timeout_is_logged_once() {
    let (recorder, _guard) = record();
    let mut runner = SteppedRunner::new(config());
    runner.submit(with_timeout());
    assert_eq!(recorder.count("started"), 0);
    let attempt = runner.start_next().unwrap();
    assert_eq!(recorder.count("started"), 1);
    runner.finish(attempt, done());
    assert_eq!(recorder.count("started"), 1);
}
