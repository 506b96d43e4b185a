//! Merges the writes of one key into one value, even if the tasks that wrote the key do not depend on each other
//! (semantics B3).
//!
//! The merge determines which value each task read, and derives from this value what the task changed. If an array
//! begins with the elements that the task read, only the elements after them are new. If a member of an object still
//! has the value that the task read, the task did not write this member. A value is therefore kept as a [`State`],
//! which records which task wrote each part of an array and each member of an object.
//!
//! A task has *seen* the writes of its ancestors in the graph, and no others.
//!
//! See docs/explanation/decisions/024-arrays-and-changes-in-place.md

use rustc_hash::FxHashMap;

use super::places::Places;
use super::provenance::{Author, INPUT, Order, State};
use super::tree::Tree;
use super::{Json, JsonShape};

/// A task's write of the key.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The task's place in the topological order (semantics B2).
    pub place: usize,
    /// The places of the task's ancestors, as a bit set.
    pub seen: &'a [u64],
    /// The value that the task wrote; `None` if the task removed the key.
    pub value: Option<&'a Json>,
}

/// Returns the value of a key after all of its writes; `None` if the key has no value. `writes` are in topological order
/// (semantics B2).
///
/// If the task of a later write has seen a write, the later write replaces it. The remaining writes are merged by these
/// rules: a value takes precedence over a removal; objects are merged member by member by the same rules; arrays keep
/// every element; in all other cases, for example for values of different types, the last write wins.
#[must_use]
pub fn merge_writes(input: Option<&Json>, writes: &[Write<'_>]) -> Option<Json> {
    let values = newest_values(writes);
    let value = |index: usize| writes[index].value;
    let last = value(*values.last()?)?;
    let shape = last.shape();
    let is_alike = |index: &&usize| value(**index).is_some_and(|other| other.shape() == shape);
    let alike = values.iter().rev().take_while(is_alike).count();
    if alike == 1 || !merges(shape) {
        return Some(last.clone());
    }
    let (input, writes) = relevant(input, writes, &values[values.len() - alike..]);
    // `replay` cannot fail for text that an encoder wrote.
    replay(input, &writes).or_else(|| Some(last.clone()))
}

/// Returns the last write of a key, and a lost write. The last write replaces the lost write, although the task of the
/// last write has not seen the lost write. Returns `None` if no write is lost.
#[must_use]
pub fn lost_write<'a>(writes: &[Write<'a>]) -> Option<(Write<'a>, Write<'a>)> {
    let mut values = newest_values(writes).into_iter().map(|index| writes[index]);
    let last = values.next_back()?;
    let is_kept = |other: &Write<'_>| {
        let shapes = [last, *other].map(|write| write.value.map(Json::shape));
        other.value == last.value || shapes[0] == shapes[1] && shapes[0].is_some_and(merges)
    };
    let lost = values.rev().find(|other| !is_kept(other))?;
    Some((last, lost))
}

/// Returns the indexes of the writes that set a value and that no task of a later write has seen, in ascending order.
fn newest_values(writes: &[Write<'_>]) -> Vec<usize> {
    let mut newest = frontier(writes, Places::of(writes.iter().map(|write| write.place)));
    newest.retain(|index| writes[*index].value.is_some());
    newest
}

const fn merges(shape: JsonShape) -> bool {
    matches!(shape, JsonShape::Object | JsonShape::Array)
}

/// Returns the writes that led to the writes `last`, and the input on which they build. If the task of a write has seen
/// all earlier writes, and all later tasks have seen this write, then the value of this write is used as the input.
/// This write and all earlier writes are then left out.
fn relevant<'a>(
    input: Option<&'a Json>,
    writes: &[Write<'a>],
    last: &[usize],
) -> (Option<&'a Json>, Vec<Write<'a>>) {
    let mut wanted = Places::of(last.iter().map(|index| writes[*index].place));
    for index in last {
        wanted.add_all(writes[*index].seen);
    }
    let mut kept: Vec<Write<'a>> = writes
        .iter()
        .filter(|write| wanted.contains(write.place))
        .copied()
        .collect();
    let mut earlier = Places::of(kept.iter().map(|write| write.place));
    let mut seen_by_later: Option<Places> = None;
    for index in (0..kept.len()).rev() {
        let Write { place, seen, value } = kept[index];
        earlier.remove(place);
        let is_common = seen_by_later
            .as_ref()
            .is_none_or(|seen| seen.contains(place));
        if is_common && earlier.is_within(seen) {
            kept.drain(..=index);
            return (value, kept);
        }
        let common = seen_by_later.get_or_insert_with(|| Places::from_words(seen));
        common.keep_only(seen);
        if common.is_empty() {
            break;
        }
    }
    (input, kept)
}

/// Returns the indexes of the writes at `places` that no task of a later write at `places` has seen, in ascending order.
fn frontier(writes: &[Write<'_>], mut places: Places) -> Vec<usize> {
    let mut found = Vec::new();
    while let Some(place) = places.pop_last() {
        if let Ok(index) = writes.binary_search_by_key(&place, |write| write.place) {
            places.remove_all(writes[index].seen);
            found.push(index);
        }
    }
    found.reverse();
    found
}

struct Writes<'w, 'a>(&'w [Write<'a>]);

impl Order for Writes<'_, '_> {
    fn place(&self, author: Author) -> usize {
        self.0[author - 1].place
    }

    fn newest(&self, places: Places) -> Vec<Author> {
        let newest = frontier(self.0, places).into_iter();
        newest.map(|index| index + 1).collect()
    }
}

/// Replays the writes: derives the state that each task read, and applies the task's write to this state. `None` if the
/// text of a value is not compact JSON.
fn replay(input: Option<&Json>, writes: &[Write<'_>]) -> Option<Json> {
    let split = |json| Tree::of(json).ok_or(());
    let input = input.map(split).transpose().ok()?;
    let values = writes
        .iter()
        .map(|write| write.value.map(split).transpose());
    let values: Vec<Option<Tree<'_>>> = values.collect::<Result<_, ()>>().ok()?;
    let order = Writes(writes);
    let all = Places::of(writes.iter().map(|write| write.place));
    let mut states: Vec<State<'_>> = Vec::with_capacity(writes.len());
    // The merged states that tasks read, by the newest writes in them. Tasks that have seen the same writes share a state.
    let mut merged: FxHashMap<Vec<Author>, State<'_>> = FxHashMap::default();
    for (index, write) in writes.iter().enumerate() {
        let mut seen = Places::from_words(write.seen);
        seen.keep_only(all.words());
        let newest = order.newest(seen);
        let saw = match newest.as_slice() {
            [] => input.as_ref().map(|tree| State::Fresh(INPUT, tree)),
            [only] => Some(states[only - 1].clone()),
            _ => {
                let state = merged.get(&newest).cloned().unwrap_or_else(|| {
                    let parts = newest.iter().map(|author| states[author - 1].clone());
                    State::merge(parts.collect(), &order)
                });
                merged.insert(newest, state.clone());
                Some(state)
            }
        };
        let author = index + 1;
        states.push(match (&values[index], saw) {
            (None, _) => State::Removed(author),
            (Some(value), None) => State::Fresh(author, value),
            (Some(value), Some(saw)) => saw.write(value, author).0,
        });
    }
    let last = order.newest(all).into_iter();
    let parts = last.map(|author| states[author - 1].clone()).collect();
    let mut text = String::new();
    State::merge(parts, &order).print(&mut text);
    Some(Json::from_encoder(text))
}

#[cfg(test)]
#[expect(
    clippy::option_option,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "in the tables of the tests, a task writes nothing, a removal or a value"
)]
mod tests;
