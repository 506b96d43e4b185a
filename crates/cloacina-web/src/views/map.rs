//! Views of maps and their items (semantics K).

use std::collections::BTreeMap;

use cloacina::types::{ItemRecord, Json, MapRow};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::execution::ErrorView;
use super::{MAX_INLINE, due, raw, time};
use crate::problem::Problem;

/// The counts of a map's items.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Map)]
pub(crate) struct MapView {
    /// The number of items.
    total: u32,
    /// The number of items in each state. States without items are omitted. Ready items wait for another attempt; Cancelled
    /// items will not run.
    states: BTreeMap<String, u32>,
    /// Maximum number of items that run at once; null for no limit.
    parallel: Option<u32>,
    /// Maximum number of failed items that the map tolerates; null if the map never stops because of failed items.
    max_failed: Option<u32>,
}

impl MapView {
    pub(crate) fn new(row: &MapRow) -> Self {
        let states = row.states().into_iter().filter(|(_, count)| *count > 0);
        Self {
            total: row.width,
            states: states
                .map(|(state, count)| (state.name().to_owned(), count))
                .collect(),
            parallel: row.parallel,
            max_failed: row.max_failed,
        }
    }
}

/// An item of a map.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Item)]
pub(crate) struct ItemView {
    /// The index in the map's list.
    index: u32,
    /// The state: Pending, Ready, Running, Completed, Failed, Skipped or Cancelled. Ready items wait for another attempt.
    status: &'static str,
    /// The number of attempts so far, including a running attempt.
    attempts: u32,
    /// The number of times that the item was rescued from a dead runner.
    rescues: u32,
    /// The runner that runs the item.
    runner: Option<String>,
    /// When the next attempt of a ready item is due.
    #[schema(format = DateTime)]
    ready_at: Option<String>,
    /// The start of the last attempt.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// The end of the item.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// The time from the start of the last attempt to the end of the item, in microseconds.
    duration_us: Option<i64>,
    /// The last failure.
    error: Option<ErrorView>,
    /// The value that the function returned; null if the value is larger than 64 KiB, or if the caller may not see results.
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Box<RawValue>>,
    /// The size of the value as JSON, in bytes; null without a value.
    value_bytes: Option<usize>,
}

impl ItemView {
    pub(crate) fn new(item: &ItemRecord, shows_values: bool) -> Result<Self, Problem> {
        let result = item.result.as_ref().map(Json::as_str);
        let shown = result.filter(|text| shows_values && text.len() <= MAX_INLINE);
        Ok(Self {
            index: item.item,
            status: item.status.name(),
            attempts: item.attempt,
            rescues: item.rescues,
            runner: item.runner.map(|runner| runner.to_string()),
            ready_at: due(item.ready_at),
            started_at: item.started_at.map(time),
            ended_at: item.ended_at.map(time),
            duration_us: (item.started_at.zip(item.ended_at)).map(|(start, end)| end.since(start)),
            error: (item.error.as_ref()).map(|failure| ErrorView::new(failure, None)),
            value: shown.map(|text| raw(text.to_owned())).transpose()?,
            value_bytes: result.map(str::len),
        })
    }
}
