//! The bodies of answers, and how they are made from the engine's values.

pub(crate) mod execution;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod history;
pub(crate) mod map;
pub(crate) mod people;
pub(crate) mod schedule;
pub(crate) mod workflow;

use cloacina::Timestamp;
use cloacina::types::Context;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::problem::Problem;

/// Size above which a value is sent only if it is asked for, in bytes.
pub(crate) const MAX_INLINE: usize = 64 * 1024;

/// A page of a list. `next` and `prev` are cursors for this list with the same filter; null at the ends.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// The cursor of the next page.
    pub(crate) next: Option<String>,
    /// The cursor of the page before.
    pub(crate) prev: Option<String>,
}

impl<T> Page<T> {
    /// A list that fits on one page.
    pub(crate) const fn whole(items: Vec<T>) -> Self {
        Self {
            items,
            next: None,
            prev: None,
        }
    }
}

/// The text of a time: RFC 3339 in UTC with microseconds.
pub(crate) fn time(time: Timestamp) -> String {
    time.to_rfc3339()
}

/// JSON whose numbers keep their digits.
pub(crate) fn raw(text: String) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(text).map_err(|_| Problem::new("internal", "a stored value is not JSON"))
}

/// A context as a JSON object.
pub(crate) fn context(context: &Context) -> Result<Box<RawValue>, Problem> {
    raw(context.to_json())
}
