//! `LogRecord`: a log event of the engine, as data for Python.

use std::fmt::{Debug, Write};

use tracing::Level;
use tracing::field::{Field, Visit};

/// The root of the engine's log targets.
pub const TARGET: &str = "cloacina";

/// The value of a field of a log record.
pub enum Value {
    /// Text, or the debug text of a value of any other type.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

/// A log event that waits for the supervisor thread.
pub struct LogRecord {
    /// The level as `logging` numbers it.
    pub level: u8,
    /// The target that the log statement names, or else its Rust module.
    pub target: &'static str,
    /// The message.
    pub message: String,
    /// The fields by name, in the order of the log statement.
    pub fields: Vec<(&'static str, Value)>,
}

impl LogRecord {
    /// Returns a record that reports how many records were dropped.
    pub fn of_lost(count: u64) -> Self {
        Self {
            level: number_of(Level::WARN),
            target: TARGET,
            message: format!(
                "{count} log records were dropped because they arrived faster than they could be written"
            ),
            fields: Vec::new(),
        }
    }
}

impl Visit for LogRecord {
    fn record_str(&mut self, name: &Field, value: &str) {
        if name.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields
                .push((name.name(), Value::Text(value.to_owned())));
        }
    }

    fn record_i64(&mut self, name: &Field, value: i64) {
        self.fields.push((name.name(), Value::Integer(value)));
    }

    fn record_u64(&mut self, name: &Field, value: u64) {
        let value = i64::try_from(value);
        self.fields
            .push((name.name(), Value::Integer(value.unwrap_or(i64::MAX))));
    }

    fn record_f64(&mut self, name: &Field, value: f64) {
        self.fields.push((name.name(), Value::Float(value)));
    }

    fn record_bool(&mut self, name: &Field, value: bool) {
        self.fields.push((name.name(), Value::Bool(value)));
    }

    fn record_debug(&mut self, name: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // If a `Debug` implementation fails, the text that it has written so far is kept.
        let _ = write!(text, "{value:?}");
        self.record_str(name, &text);
    }
}

/// Returns the number of a level in `logging`.
pub const fn number_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}
