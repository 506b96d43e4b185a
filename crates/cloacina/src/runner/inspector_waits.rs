//! Lists open waits, page by page.

use super::{Inspector, Wait, WaitFilter, WaitPage};
use crate::store::WaitQuery;
use crate::types::{Error, ErrorCode, ExecutionId, Timestamp, WaitKind, WaitRow};

/// Number of waits on a page if the filter has no limit.
const PAGE: usize = 50;
/// The first character of a cursor that leads to older waits.
const BACK: char = '-';

/// The place of a wait in a list: its start time, execution, task and slot.
type Position = (Timestamp, ExecutionId, i64, u32);

fn position(cursor: &str) -> Option<Position> {
    let mut parts = cursor.split('.');
    let position = (
        Timestamp(parts.next()?.parse().ok()?),
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some(position)
}

fn position_of(row: &WaitRow) -> Position {
    let ordinal = row.task.map_or(-1, i64::from);
    (row.since, row.execution, ordinal, row.slot)
}

fn cursor_of(row: &WaitRow) -> String {
    let (since, execution, ordinal, slot) = position_of(row);
    format!("{}.{execution}.{ordinal}.{slot}", since.0)
}

impl Inspector {
    /// Lists open waits, oldest first, page by page.
    ///
    /// # Errors
    /// `Configuration` for an invalid cursor; `Database` or `Connection`.
    pub fn waits(&self, filter: &WaitFilter) -> Result<WaitPage, Error> {
        self.waits_of_any(std::slice::from_ref(filter))
    }

    /// Lists open waits that satisfy at least one of the filters. The filters must have the same cursor, limit and execution.
    ///
    /// # Errors
    /// See [`waits`](Self::waits).
    pub fn waits_of_any(&self, filters: &[WaitFilter]) -> Result<WaitPage, Error> {
        let Some(filter) = filters.first() else {
            return Ok(WaitPage::default());
        };
        let cursor = filter.cursor.as_deref().unwrap_or_default();
        let (text, descending) = match cursor.strip_prefix(BACK) {
            Some(text) => (text, true),
            None => (cursor, false),
        };
        let after = match &filter.cursor {
            None => None,
            Some(cursor) => Some(position(text).ok_or_else(|| {
                let message = format!("'{cursor}' is not a cursor of a list of waits");
                Error::new(ErrorCode::Configuration, message)
            })?),
        };
        let limit = if filter.limit == 0 {
            PAGE
        } else {
            filter.limit
        };
        let mut rows = Vec::new();
        for filter in filters {
            rows.extend(self.waits_from(filter, after, descending, limit.saturating_add(1))?);
        }
        if filters.len() > 1 {
            rows.sort_by_key(position_of);
            rows.dedup_by_key(|row| position_of(row));
            if descending {
                rows.reverse();
            }
        }
        let more = rows.len() > limit && filter.execution.is_none();
        if filter.execution.is_none() {
            rows.truncate(limit);
        }
        if descending {
            rows.reverse();
        }
        let (first, last) = (rows.first(), rows.last());
        // A page that was reached through `prev` has a next page: the page that `prev` was taken from.
        let next = last.filter(|_| more || descending).map(cursor_of);
        let is_first = filter.cursor.is_none() || (descending && !more);
        let prev = first.filter(|_| !is_first && filter.execution.is_none());
        let prev = prev.map(|row| format!("{BACK}{}", cursor_of(row)));
        Ok(WaitPage {
            items: rows.into_iter().map(Wait::of).collect(),
            next,
            prev,
        })
    }

    /// Reads the waits that satisfy a filter, from a position on.
    fn waits_from(
        &self,
        filter: &WaitFilter,
        after: Option<Position>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<WaitRow>, Error> {
        let names = [&filter.name, &filter.workflow];
        if names.into_iter().flatten().any(|name| name.contains('\0')) {
            return Ok(Vec::new());
        }
        Ok(self.store.waits(&WaitQuery {
            name: filter.name.clone(),
            workflow: filter.workflow.clone(),
            execution: filter.execution,
            kinds: filter.kind.map_or_else(
                || vec![WaitKind::Signal, WaitKind::Approval],
                |kind| vec![kind],
            ),
            after,
            descending,
            limit,
        })?)
    }
}
