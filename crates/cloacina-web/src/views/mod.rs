//! The views: the bodies of answers, which are made from the engine's values.

pub(crate) mod execution;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod history;
pub(crate) mod map;
pub(crate) mod schedule;
pub(crate) mod server;
pub(crate) mod workflow;

use cloacina::Timestamp;
use cloacina::engine::NEVER;
use cloacina::types::Context;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::problem::Problem;

/// Maximum size, in bytes, of a value that an answer contains by default. A larger value is sent only if the route
/// has the parameter `full` and the request sets it.
pub(crate) const MAX_INLINE: usize = 64 * 1024;

/// A page of a list. `next` and `prev` are cursors for the same list with the same filter.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// The cursor of the next page; null on the last page.
    pub(crate) next: Option<String>,
    /// The cursor of the previous page; null on the first page.
    pub(crate) prev: Option<String>,
}

impl<T> Page<T> {
    /// Returns a page that contains the whole list.
    pub(crate) const fn whole(items: Vec<T>) -> Self {
        Self {
            items,
            next: None,
            prev: None,
        }
    }
}

/// Returns the text of a time: RFC 3339 in UTC with microseconds.
pub(crate) fn time(time: Timestamp) -> String {
    time.to_rfc3339()
}

/// Returns the text of a time at which something is due; `None` if it is never due.
pub(crate) fn due(due: Option<Timestamp>) -> Option<String> {
    due.filter(|due| *due != NEVER).map(time)
}

/// Returns a JSON text as a value whose numbers keep their digits.
pub(crate) fn raw(text: String) -> Result<Box<RawValue>, Problem> {
    RawValue::from_string(text).map_err(|_| Problem::new("internal", "a stored value is not JSON"))
}

/// Returns a context as a JSON object.
pub(crate) fn context(context: &Context) -> Result<Box<RawValue>, Problem> {
    raw(context.to_json())
}
