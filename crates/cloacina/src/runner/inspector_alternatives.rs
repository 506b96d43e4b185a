//! Lists executions that satisfy one of several filters.

use std::cmp::Reverse;

use super::Inspector;
use super::inspector_lists::{before, successor};
use super::listing::{ListFilter, ListPage, ListedExecution, Scanned};
use crate::types::{Error, ExecutionId};

impl Inspector {
    /// Lists executions that satisfy at least one of the filters, newest first, page by page. The cursors and the limits of all
    /// filters must be the same. The filters share the limits on the examined executions.
    ///
    /// # Errors
    /// See [`list`](Self::list).
    pub fn list_any(&self, filters: &[ListFilter]) -> Result<ListPage, Error> {
        let parts = u32::try_from(filters.len()).unwrap_or(u32::MAX);
        let mut pages = Vec::new();
        for filter in filters {
            pages.push(self.list_within(filter, parts)?);
        }
        let (Some(first), true) = (filters.first(), pages.len() != 1) else {
            return Ok(pages.pop().unwrap_or_else(ListPage::empty));
        };
        let is_ascending = first.after.is_some() && first.before.is_none();
        let start = if is_ascending {
            first.after.map(successor)
        } else {
            first.before.map(before)
        };
        Ok(merge(pages, first.limit, is_ascending, start))
    }
}

/// Returns the page that consists of the first executions of several pages of the same range. `is_ascending`: the oldest
/// executions come first, because the page precedes another one. `start`: the cursor that leads back from a page without
/// executions.
fn merge(
    pages: Vec<ListPage>,
    limit: usize,
    is_ascending: bool,
    start: Option<ExecutionId>,
) -> ListPage {
    // In the order of the listing, the executions before this id are complete.
    let onward = |page: &ListPage| if is_ascending { page.prev } else { page.next };
    let back = |page: &ListPage| if is_ascending { page.next } else { page.prev };
    let is_before = |left: ExecutionId, right: ExecutionId| {
        if is_ascending {
            left < right
        } else {
            left > right
        }
    };
    let stops = pages
        .iter()
        .filter_map(|page| Some((onward(page)?, page.scanned?)));
    let stop = stops.reduce(|left, right| {
        if is_before(right.0, left.0) {
            right
        } else {
            left
        }
    });
    let examined = pages.iter().filter_map(|page| page.scanned);
    let examined = examined.map(|scanned| scanned.examined).sum();
    let mut has_more = pages.iter().any(|page| onward(page).is_some());
    let leads_back = pages.iter().any(|page| back(page).is_some());
    let items = pages.into_iter().flat_map(|page| page.items);
    let mut items: Vec<ListedExecution> = items.collect();
    items.sort_unstable_by_key(|item| Reverse(item.id));
    items.dedup_by_key(|item| item.id);
    if is_ascending {
        items.reverse();
    }
    if let Some((stop, _)) = stop {
        items.retain(|item| !is_before(stop, item.id));
    }
    has_more |= items.len() > limit;
    items.truncate(limit);
    let is_full = items.len() == limit;
    let last = items.last().map(|item| item.id).filter(|_| is_full);
    let onward = last.or(stop.map(|(id, _)| id)).filter(|_| has_more);
    let back = items.first().map(|item| item.id).or(start);
    let back = back.filter(|_| leads_back);
    if is_ascending {
        items.reverse();
    }
    let (next, prev) = if is_ascending {
        (back, onward)
    } else {
        (onward, back)
    };
    ListPage {
        items,
        next,
        prev,
        scanned: stop.filter(|_| !is_full).map(|(_, scanned)| Scanned {
            examined,
            until: scanned.until,
        }),
    }
}
