//! Cursors of lists: opaque texts that are valid only with the filter of the list that returned them.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use cloacina::ExecutionId;
use cloacina::runner::ListFilter;

use crate::problem::Problem;
use crate::query::Query;
use crate::views::Page;

/// Parameters that are not conditions.
const NOT_CONDITIONS: &[&str] = &["limit", "cursor"];

/// The conditions of a list as a text that its cursors end with.
pub(crate) fn condition(query: &Query) -> String {
    let mut hasher = DefaultHasher::new();
    let mut pairs: Vec<_> = query.pairs().collect();
    pairs.retain(|(name, _)| !NOT_CONDITIONS.contains(name));
    pairs.sort_unstable();
    pairs.hash(&mut hasher);
    // Half of the hash is enough to notice a mistake.
    format!("{:08x}", hasher.finish() >> 32)
}

/// The cursor of the page behind an execution.
pub(crate) fn next(id: ExecutionId, condition: &str) -> String {
    format!("n{}{condition}", id.uuid().simple())
}

/// The cursor of the page before an execution.
pub(crate) fn prev(id: ExecutionId, condition: &str) -> String {
    format!("p{}{condition}", id.uuid().simple())
}

/// Moves a filter to the page that a cursor means.
pub(crate) fn apply(text: &str, condition: &str, filter: &mut ListFilter) -> Result<(), Problem> {
    let refused = || Problem::invalid("cursor", "it is not the `next` or `prev` of a list");
    let (direction, rest) = text.split_at_checked(1).ok_or_else(refused)?;
    let (id, of) = rest.split_at_checked(32).ok_or_else(refused)?;
    let id: ExecutionId = id.parse().map_err(|_| refused())?;
    match direction {
        "n" => filter.before = Some(id),
        "p" => filter.after = Some(id),
        _ => return Err(refused()),
    }
    if of != condition {
        let detail = "it belongs to a list with another filter";
        return Err(Problem::invalid("cursor", detail).hint("send the parameters of that list too"));
    }
    Ok(())
}

/// The value of the header `Link` for a page of a list: the queries of the pages before and behind it.
pub(crate) fn links(query: &Query, next: Option<&str>, prev: Option<&str>) -> Option<String> {
    let link = |(relation, cursor): (&str, Option<&str>)| {
        let mut link = form_urlencoded::Serializer::new(String::new());
        let stays = |name: &str| !["cursor", "after"].contains(&name);
        link.extend_pairs(query.pairs().filter(|(name, _)| stays(name)));
        let query = link.append_pair("cursor", cursor?).finish();
        Some(format!("<?{query}>; rel=\"{relation}\""))
    };
    let links: Vec<String> = [("next", next), ("prev", prev)]
        .into_iter()
        .filter_map(link)
        .collect();
    (!links.is_empty()).then(|| links.join(", "))
}

/// The start of a cursor that leads to the items before a place.
const BACK: char = '<';

/// The place of a page in a list whose items have indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The items from this index on.
    From(usize),
    /// The items just before this index.
    Before(usize),
}

impl Place {
    /// The place that the parameters `cursor` and `after` of a query mean.
    pub(crate) fn of(query: &Query) -> Result<Self, Problem> {
        let most = u32::MAX as usize;
        let refused = || Problem::invalid("cursor", "it is not the `next` or `prev` of this list");
        if let Some(text) = query.get("cursor") {
            let (text, back) = match text.strip_prefix(BACK) {
                Some(text) => (text, true),
                None => (text, false),
            };
            let index = text.parse::<usize>().ok().filter(|index| *index <= most);
            let index = index.ok_or_else(refused)?;
            return Ok(if back {
                Self::Before(index)
            } else {
                Self::From(index + 1)
            });
        }
        if query.get("after").is_none() {
            return Ok(Self::From(0));
        }
        Ok(Self::From(query.number("after", 0, 0..=most)? + 1))
    }
}

/// A page of a list whose items have indexes.
#[derive(Debug)]
pub(crate) struct Window<T> {
    pub(crate) items: Vec<T>,
    /// The index of the last item, if more follow.
    pub(crate) next: Option<usize>,
    /// The index of the first item, if others precede it.
    pub(crate) prev: Option<usize>,
}

impl<T> Window<T> {
    /// Reads a page from all items of a list, with their indexes in ascending order.
    pub(crate) fn of(all: impl Iterator<Item = (usize, T)>, place: Place, limit: usize) -> Self {
        let mut items: VecDeque<(usize, T)> = VecDeque::new();
        let (mut precedes, mut follows) = (false, false);
        for (index, item) in all {
            match place {
                Place::From(start) if index < start => precedes = true,
                Place::From(_) if items.len() == limit => {
                    follows = true;
                    break;
                }
                Place::Before(end) if index >= end => {
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
        let empty = match place {
            Place::From(start) => start,
            Place::Before(end) => end,
        };
        let first = items.front().map_or(empty, |(index, _)| *index);
        let last = items.back().map_or(empty, |(index, _)| *index);
        Self {
            next: follows.then_some(last),
            prev: precedes.then_some(first),
            items: items.into_iter().map(|(_, item)| item).collect(),
        }
    }

    /// The page with the cursors of its neighbours.
    pub(crate) fn into_page(self) -> Page<T> {
        Page {
            items: self.items,
            next: self.next.map(|index| index.to_string()),
            prev: self.prev.map(|index| format!("{BACK}{index}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Window};

    #[test]
    fn pages_lead_both_ways() {
        let all = || {
            (0..10)
                .map(|index| (index, index))
                .filter(|(index, _)| index % 2 == 0)
        };
        let first = Window::of(all(), Place::From(0), 2);
        assert_eq!(
            (first.items, first.next, first.prev),
            (vec![0, 2], Some(2), None)
        );
        let second = Window::of(all(), Place::From(3), 2);
        assert_eq!(
            (second.items, second.next, second.prev),
            (vec![4, 6], Some(6), Some(4))
        );
        let last = Window::of(all(), Place::From(7), 2);
        assert_eq!((last.items, last.next, last.prev), (vec![8], None, Some(8)));
        let back = Window::of(all(), Place::Before(8), 2);
        assert_eq!(
            (back.items, back.next, back.prev),
            (vec![4, 6], Some(6), Some(4))
        );
        let start = Window::of(all(), Place::Before(4), 2);
        assert_eq!(
            (start.items, start.next, start.prev),
            (vec![0, 2], Some(2), None)
        );
    }
}
