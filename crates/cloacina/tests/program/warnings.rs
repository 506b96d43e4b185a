//! The warnings and errors that this test program logs. A program has one global subscriber, which its tests share.

use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// A subscriber that records all warnings of the process.
struct Warnings;

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
static RECORDED: Once = Once::new();

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = format!("{} {}", event.metadata().level(), text.0);
        TOLD.lock().unwrap().push(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Begins to record, once.
pub fn record() {
    RECORDED.call_once(|| tracing::subscriber::set_global_default(Warnings).unwrap());
}

/// Returns the recorded messages that start with a text after their level.
pub fn of(start: &str) -> Vec<String> {
    let told = TOLD.lock().unwrap();
    let of_start = told.iter().filter(|line| is_of(line, start));
    of_start.cloned().collect()
}

/// Removes the messages that start with a text.
pub fn forget(start: &str) {
    TOLD.lock().unwrap().retain(|line| !is_of(line, start));
}

fn is_of(line: &str, start: &str) -> bool {
    line.split_once(' ')
        .is_some_and(|(_, text)| text.starts_with(start))
}
