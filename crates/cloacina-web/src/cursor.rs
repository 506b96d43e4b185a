//! Cursors of lists: opaque strings that are valid only with the filter of the list that returned them.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use cloacina::ExecutionId;
use cloacina::runner::ListFilter;

use crate::problem::Problem;
use crate::query::Query;
use crate::views::Page;

/// The parameters that select a page of a list, but not the items of the list.
const NOT_CONDITIONS: &[&str] = &["limit", "cursor"];

/// Returns a hash of the path and the conditions of a list, as text. Every cursor of the list ends with this text.
pub(crate) fn condition(query: &Query) -> String {
    let mut hasher = DefaultHasher::new();
    query.path().hash(&mut hasher);
    let mut pairs: Vec<_> = query.pairs().collect();
    pairs.retain(|(name, _)| !NOT_CONDITIONS.contains(name));
    pairs.sort_unstable();
    pairs.hash(&mut hasher);
    // Half of the hash is enough to detect a cursor of another list.
    format!("{:08x}", hasher.finish() >> 32)
}

/// Returns the cursor of the page that follows an execution.
pub(crate) fn next(id: ExecutionId, condition: &str) -> String {
    format!("n{}{condition}", id.uuid().simple())
}

/// Returns the cursor of the page that precedes an execution.
pub(crate) fn prev(id: ExecutionId, condition: &str) -> String {
    format!("p{}{condition}", id.uuid().simple())
}

/// Changes a filter so that it selects the page to which a cursor leads.
pub(crate) fn apply(text: &str, condition: &str, filter: &mut ListFilter) -> Result<(), Problem> {
    let (direction, rest) = text.split_at_checked(1).ok_or_else(unreadable)?;
    let (id, of) = rest.split_at_checked(32).ok_or_else(unreadable)?;
    let id: ExecutionId = id.parse().map_err(|_| unreadable())?;
    match direction {
        "n" => filter.before = Some(id),
        "p" => filter.after = Some(id),
        _ => return Err(unreadable()),
    }
    check_condition(of, condition)
}

/// Refuses a cursor of a list with other conditions.
fn check_condition(of_cursor: &str, of_list: &str) -> Result<(), Problem> {
    if of_cursor == of_list {
        return Ok(());
    }
    let detail = "it belongs to another list, or to a list with another filter";
    Err(Problem::invalid("cursor", detail).hint(
        "use the same path and filter parameters as in the request that returned this cursor",
    ))
}

/// A request for a part of a list whose items are ordered by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange<'a> {
    /// The key next to which the range begins; the range does not contain the item of this key. `None`: the range begins at
    /// the start of the list, or at its end if `is_back`.
    pub(crate) key: Option<&'a str>,
    /// Whether to read towards the start of the list.
    pub(crate) is_back: bool,
    /// Maximum number of items.
    pub(crate) limit: usize,
}

/// Reads a page of a list whose items are ordered by a key. `read` returns the items of a range, beginning with the item next
/// to the range's key. If items are added or deleted between two pages, no other item is repeated or left out.
pub(crate) fn page_by_key<T>(
    query: &Query,
    limit: usize,
    key_of: impl Fn(&T) -> String,
    read: impl Fn(KeyRange<'_>) -> Result<Vec<T>, Problem>,
) -> Result<Page<T>, Problem> {
    let condition = condition(query);
    let cursor = query
        .get("cursor")
        .map(|text| key_position(text, &condition))
        .transpose()?;
    let range = KeyRange {
        key: cursor.map(|(_, key)| key).filter(|key| !key.is_empty()),
        is_back: cursor.is_some_and(|(is_back, _)| is_back),
        limit: limit + 1,
    };
    let items = read(range)?;
    if range.is_back && items.is_empty() {
        // All items before the cursor were deleted, so the first page is returned.
        let first = KeyRange {
            key: None,
            is_back: false,
            ..range
        };
        return Ok(key_page(read(first)?, first, limit, &condition, key_of));
    }
    Ok(key_page(items, range, limit, &condition, key_of))
}

fn key_page<T>(
    mut items: Vec<T>,
    range: KeyRange<'_>,
    limit: usize,
    condition: &str,
    key_of: impl Fn(&T) -> String,
) -> Page<T> {
    let has_more = items.len() > limit;
    items.truncate(limit);
    if range.is_back {
        items.reverse();
    }
    let key = |item: Option<&T>| item.map(&key_of).unwrap_or_default();
    let follows = if range.is_back {
        range.key.is_some()
    } else {
        has_more
    };
    let precedes = if range.is_back {
        has_more
    } else {
        range.key.is_some()
    };
    Page {
        next: follows.then(|| format!("n{}.{condition}", key(items.last()))),
        // If the page is empty, the cursor has no key and leads to the last page.
        prev: precedes.then(|| format!("p{}.{condition}", key(items.first()))),
        items,
    }
}

/// Reads a cursor: whether it leads to the previous page, and the key.
fn key_position<'a>(text: &'a str, condition: &str) -> Result<(bool, &'a str), Problem> {
    let (rest, of) = text.rsplit_once('.').ok_or_else(unreadable)?;
    let is_back = rest.starts_with('p');
    let key = rest.strip_prefix(['n', 'p']).ok_or_else(unreadable)?;
    check_condition(of, condition)?;
    Ok((is_back, key))
}

/// Converts a cursor of the engine to a cursor of the list.
pub(crate) fn of_engine(cursor: &str, query: &Query) -> String {
    format!("{cursor}.{}", condition(query))
}

/// Returns the engine's cursor that the query's cursor contains; `None` if the query has no cursor.
pub(crate) fn for_engine(query: &Query) -> Result<Option<String>, Problem> {
    let Some(text) = query.get("cursor") else {
        return Ok(None);
    };
    let (cursor, of) = text.rsplit_once('.').ok_or_else(unreadable)?;
    check_condition(of, &condition(query))?;
    Ok(Some(cursor.to_owned()))
}

/// Returns the problem of a cursor that cannot be read.
pub(crate) fn unreadable() -> Problem {
    Problem::invalid(
        "cursor",
        "it is not a cursor that this list returned as `next` or `prev`",
    )
}

/// Returns the value of the header `Link` for a page of a list: the queries of the next and the previous page.
pub(crate) fn links(query: &Query, next: Option<&str>, prev: Option<&str>) -> Option<String> {
    let link = |(relation, cursor): (&str, Option<&str>)| {
        let mut link = form_urlencoded::Serializer::new(String::new());
        link.extend_pairs(query.pairs().filter(|(name, _)| *name != "cursor"));
        let query = link.append_pair("cursor", cursor?).finish();
        Some(format!("<?{query}>; rel=\"{relation}\""))
    };
    let links: Vec<String> = [("next", next), ("prev", prev)]
        .into_iter()
        .filter_map(link)
        .collect();
    (!links.is_empty()).then(|| links.join(", "))
}

/// The position of a page in a list whose items have indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PagePosition {
    /// The page begins at this index.
    From(usize),
    /// The page ends just before this index.
    Before(usize),
}

impl PagePosition {
    /// Reads the position from the parameter `cursor` of a query.
    pub(crate) fn of(query: &Query) -> Result<Self, Problem> {
        let most = u32::MAX as usize;
        if let Some(text) = query.get("cursor") {
            let (is_back, key) = key_position(text, &condition(query))?;
            let index = key.parse::<usize>().ok().filter(|index| *index <= most);
            let index = index.ok_or_else(unreadable)?;
            return Ok(if is_back {
                Self::Before(index)
            } else {
                Self::From(index + 1)
            });
        }
        Ok(Self::From(0))
    }
}

/// Returns the index of the first item that a list may contain: 0, or the index that follows the parameter `after`.
pub(crate) fn first_index(query: &Query) -> Result<usize, Problem> {
    if query.get("after").is_none() {
        return Ok(0);
    }
    Ok(query.number("after", 0, 0..=u32::MAX as usize)? + 1)
}

/// A page of a list whose items have indexes.
#[derive(Debug)]
pub(crate) struct IndexedPage<T> {
    pub(crate) items: Vec<T>,
    /// The index of the last item, if a next page exists.
    pub(crate) next: Option<usize>,
    /// The index of the first item, if a previous page exists.
    pub(crate) prev: Option<usize>,
}

impl<T> IndexedPage<T> {
    /// Selects a page from all items of a list. `all` has the items with their indexes, in ascending order.
    pub(crate) fn of(
        all: impl Iterator<Item = (usize, T)>,
        place: PagePosition,
        limit: usize,
    ) -> Self {
        let mut items: VecDeque<(usize, T)> = VecDeque::new();
        let (mut precedes, mut follows) = (false, false);
        for (index, item) in all {
            match place {
                PagePosition::From(start) if index < start => precedes = true,
                PagePosition::From(_) if items.len() == limit => {
                    follows = true;
                    break;
                }
                PagePosition::Before(end) if index >= end => {
                    follows = true;
                    break;
                }
                _ => items.push_back((index, item)),
            }
            if items.len() > limit {
                items.pop_front();
                precedes = true;
            }
        }
        // If the page is empty, the next page begins at the page's `end`, or the previous page ends before its `start`.
        let (empty_first, empty_last) = match place {
            PagePosition::From(start) => (start, start),
            PagePosition::Before(end) => (end, end.saturating_sub(1)),
        };
        let first = items.front().map_or(empty_first, |(index, _)| *index);
        let last = items.back().map_or(empty_last, |(index, _)| *index);
        Self {
            next: follows.then_some(last),
            prev: precedes.then_some(first),
            items: items.into_iter().map(|(_, item)| item).collect(),
        }
    }

    /// Converts the positions of the next and the previous page to cursors. `query` is the query that asked for this page.
    pub(crate) fn into_page(self, query: &Query) -> Page<T> {
        let condition = condition(query);
        Page {
            items: self.items,
            next: self.next.map(|index| format!("n{index}.{condition}")),
            prev: self.prev.map(|index| format!("p{index}.{condition}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IndexedPage, PagePosition};

    #[test]
    fn page_has_the_positions_of_next_and_previous_page() {
        let all = || {
            (0..10)
                .map(|index| (index, index))
                .filter(|(index, _)| index % 2 == 0)
        };
        let first = IndexedPage::of(all(), PagePosition::From(0), 2);
        assert_eq!(
            (first.items, first.next, first.prev),
            (vec![0, 2], Some(2), None)
        );
        let second = IndexedPage::of(all(), PagePosition::From(3), 2);
        assert_eq!(
            (second.items, second.next, second.prev),
            (vec![4, 6], Some(6), Some(4))
        );
        let last = IndexedPage::of(all(), PagePosition::From(7), 2);
        assert_eq!((last.items, last.next, last.prev), (vec![8], None, Some(8)));
        let back = IndexedPage::of(all(), PagePosition::Before(8), 2);
        assert_eq!(
            (back.items, back.next, back.prev),
            (vec![4, 6], Some(6), Some(4))
        );
        let start = IndexedPage::of(all(), PagePosition::Before(4), 2);
        assert_eq!(
            (start.items, start.next, start.prev),
            (vec![0, 2], Some(2), None)
        );
        let empty = IndexedPage::of(all().skip(2), PagePosition::Before(4), 2);
        assert_eq!(
            (empty.items, empty.next, empty.prev),
            (vec![], Some(3), None)
        );
    }
}
