//! Records the warnings and errors that this test program logs. All tests of the program share one global subscriber.

use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// A subscriber that records all warnings and errors of the process.
struct Warnings;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
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
        LINES.lock().unwrap().push(line);
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

/// Starts recording. Further calls have no effect.
pub fn record() {
    RECORDED.call_once(|| tracing::subscriber::set_global_default(Warnings).unwrap());
}

/// Returns the recorded lines whose text after the level begins with `start`.
pub fn of(start: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let of_start = lines.iter().filter(|line| is_of(line, start));
    of_start.cloned().collect()
}

/// Removes the recorded lines whose text after the level begins with `start`.
pub fn forget(start: &str) {
    LINES.lock().unwrap().retain(|line| !is_of(line, start));
}

fn is_of(line: &str, start: &str) -> bool {
    line.split_once(' ')
        .is_some_and(|(_, text)| text.starts_with(start))
}
