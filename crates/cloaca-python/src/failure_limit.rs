//! A limit on log records of failures: when thousands of tasks fail at once, only the first 100 in a second are logged.

use std::time::{Duration, Instant};

use crate::log_record::LogRecord;
use cloacina::runtime::RUN_TARGET;

/// Maximum number of records of each kind in a window.
const LIMIT: u32 = 100;
/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);

/// A failure to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureRecord {
    /// An attempt failed, and another one follows.
    Retry,
    /// A task or an execution failed, and no attempt follows.
    End,
}

/// Counts the records of each kind of failure in the current window: those that were logged, and those that were omitted.
#[derive(Debug, Default)]
pub struct FailureLimit {
    ends_at: Option<Instant>,
    admitted: [u32; 2],
    omitted: [u64; 2],
}

impl FailureLimit {
    /// Returns whether a record may be logged. If not, counts the record as omitted.
    pub fn admit(&mut self, record: FailureRecord, now: Instant) -> bool {
        let has_omitted = self.omitted != [0; 2];
        if self.ends_at.is_none_or(|end| end <= now && !has_omitted) {
            self.ends_at = Some(now + WINDOW);
            self.admitted = [0; 2];
        }
        let index = record as usize;
        if self.admitted[index] < LIMIT {
            self.admitted[index] += 1;
            return true;
        }
        self.omitted[index] += 1;
        false
    }

    /// The time from which [`take`](Self::take) returns a record; `None` if no record was omitted.
    pub fn due(&self) -> Option<Instant> {
        self.ends_at.filter(|_| self.omitted != [0; 2])
    }

    /// Ends the window if its time is over or `at_once` is set. Returns a record that says how many records were omitted, or
    /// `None` if the window continues or no record was omitted.
    pub fn take(&mut self, now: Instant, at_once: bool) -> Option<LogRecord> {
        if !at_once && self.due()? > now {
            return None;
        }
        let [retries, ends] = std::mem::take(self).omitted;
        let message = match (ends, retries) {
            (0, 0) => return None,
            (0, retries) => format!(
                "… and {} more attempts failed and will be retried",
                grouped(retries)
            ),
            (ends, 0) => format!("… and {} more tasks or executions failed", grouped(ends)),
            (ends, retries) => format!(
                "… and {} more tasks or executions failed, and {} more attempts failed and will be retried",
                grouped(ends),
                grouped(retries)
            ),
        };
        Some(LogRecord {
            level: if ends > 0 { 40 } else { 30 },
            target: RUN_TARGET,
            message,
            fields: Vec::new(),
        })
    }
}

/// Returns a number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
