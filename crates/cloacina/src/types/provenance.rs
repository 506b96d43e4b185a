//! A value that records which write each array element and each object member comes from.

use std::rc::Rc;

use indexmap::IndexMap;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::JsonShape;
use super::context::push_key;
use super::places::Places;
use super::tree::{Members, Tree};

/// The number of a write, counted from 1 in the topological order of the tasks (semantics B2).
pub type Author = usize;

/// The author of the input, the value on which all writes build.
pub const INPUT: Author = 0;

/// The value that a task of the graph sees for a key or for a member of an object, with the writes that led to this
/// value.
#[derive(Clone, Debug)]
pub enum State<'t> {
    /// One write set the whole value.
    Fresh(Author, &'t Tree<'t>),
    /// One write removed the value.
    Removed(Author),
    /// One write changed a part of the value that its task saw.
    Changed(Rc<Changed<'t>>),
    /// Several writes set or removed the value, and none of their tasks has seen another of these writes.
    Merged(Rc<Merged<'t>>),
}

#[derive(Debug)]
pub struct Changed<'t> {
    author: Author,
    content: Content<'t>,
}

#[derive(Debug)]
pub struct Merged<'t> {
    /// The states that are merged, in the order of their authors. No author's task has seen the write of another
    /// author.
    states: Vec<State<'t>>,
    content: MergedContent<'t>,
}

#[derive(Debug)]
enum MergedContent<'t> {
    /// Every write removed the value.
    Absent,
    /// Only the last write that set a value matters. The number is the index in `states` of the state that this write
    /// produced.
    Only(usize),
    Joined(Content<'t>),
}

#[derive(Debug)]
enum Content<'t> {
    Array(Vec<Segment<'t>>),
    Object(States<'t>),
}

/// The elements that one write added to an array.
#[derive(Clone, Copy, Debug)]
struct Segment<'t> {
    author: Author,
    items: &'t [Tree<'t>],
    /// Whether the write replaced the array that its task saw, instead of adding to it.
    is_replacement: bool,
}

type States<'t> = IndexMap<&'t str, State<'t>, FxBuildHasher>;

/// The value of a state, without its history.
#[derive(Clone, Copy)]
enum View<'s, 't> {
    Absent,
    Whole(Author, &'t Tree<'t>),
    Array(&'s [Segment<'t>]),
    Object(&'s States<'t>),
}

/// The order of the tasks that wrote a key.
pub trait Order {
    /// Returns the place of an author's task in the topological order.
    fn place(&self, author: Author) -> usize;
    /// Returns the authors whose places are in the set, in ascending order. Leaves out each author whose write has been
    /// seen by the task of another author in the set.
    fn newest(&self, places: Places) -> Vec<Author>;
}

impl<'t> State<'t> {
    /// Returns the state after a task has seen this state and written `value`, and whether the write changed anything.
    pub fn write(&self, value: &'t Tree<'t>, author: Author) -> (Self, bool) {
        match (self.view(), value) {
            (View::Whole(_, Tree::Scalar(before)), Tree::Scalar(now)) => {
                (Self::Fresh(author, value), !is_same_scalar(before, now))
            }
            (view @ (View::Whole(_, Tree::Array(_)) | View::Array(_)), Tree::Array(items)) => {
                let before = write_array(view, items);
                let is_replacement = before.is_none();
                let mut segments = before.unwrap_or_default();
                let items = &items[length(&segments)..];
                let is_changed = is_replacement || !items.is_empty();
                if is_changed {
                    segments.push(Segment {
                        author,
                        items,
                        is_replacement,
                    });
                }
                (changed(author, Content::Array(segments)), is_changed)
            }
            (view @ (View::Whole(_, Tree::Object(_)) | View::Object(_)), Tree::Object(members)) => {
                write_object(view, members, author)
            }
            _ => (Self::Fresh(author, value), true),
        }
    }

    /// Merges the states after several tasks that do not depend on each other.
    pub fn merge(states: Vec<Self>, order: &dyn Order) -> Self {
        let mut parts: Vec<Self> = Vec::with_capacity(states.len());
        for state in states {
            match &state {
                Self::Merged(merged) => parts.extend_from_slice(&merged.states),
                _ => parts.push(state),
            }
        }
        parts.sort_by_key(Self::author);
        parts.dedup_by_key(|part| part.author());
        if parts.len() > 1 {
            keep_newest(&mut parts, order);
        }
        if parts.len() == 1 {
            return parts.swap_remove(0);
        }
        let content = join(&parts, order);
        Self::Merged(Rc::new(Merged {
            states: parts,
            content,
        }))
    }

    /// Appends the value's text. Appends nothing for a state without a value.
    pub fn print(&self, out: &mut String) {
        match self.view() {
            View::Absent => {}
            View::Whole(_, tree) => tree.write(out),
            View::Array(segments) => {
                out.push('[');
                let items = segments.iter().flat_map(|segment| segment.items);
                for (index, item) in items.enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            View::Object(members) => {
                out.push('{');
                let mut is_first = true;
                for (key, member) in members {
                    if member.is_absent() {
                        continue;
                    }
                    if !is_first {
                        out.push(',');
                    }
                    is_first = false;
                    push_key(out, key);
                    member.print(out);
                }
                out.push('}');
            }
        }
    }

    /// Returns the author of a state. If several writes set its value, returns the last author.
    fn author(&self) -> Author {
        match self {
            Self::Fresh(author, _) | Self::Removed(author) => *author,
            Self::Changed(changed) => changed.author,
            Self::Merged(merged) => merged.states.last().map_or(INPUT, Self::author),
        }
    }

    fn is_absent(&self) -> bool {
        matches!(self.view(), View::Absent)
    }

    fn view(&self) -> View<'_, 't> {
        let content = match self {
            Self::Fresh(author, tree) => return View::Whole(*author, tree),
            Self::Removed(_) => return View::Absent,
            Self::Changed(changed) => &changed.content,
            Self::Merged(merged) => match &merged.content {
                MergedContent::Absent => return View::Absent,
                MergedContent::Only(index) => return merged.states[*index].view(),
                MergedContent::Joined(content) => content,
            },
        };
        match content {
            Content::Array(segments) => View::Array(segments),
            Content::Object(members) => View::Object(members),
        }
    }
}

impl<'t> View<'_, 't> {
    fn shape(&self) -> Option<JsonShape> {
        match self {
            Self::Absent => None,
            Self::Whole(_, tree) => Some(tree.shape()),
            Self::Array(_) => Some(JsonShape::Array),
            Self::Object(_) => Some(JsonShape::Object),
        }
    }

    /// Returns the segments of an array.
    fn segments(&self) -> Option<Vec<Segment<'t>>> {
        match self {
            Self::Whole(author, Tree::Array(items)) => Some(vec![Segment {
                author: *author,
                items,
                is_replacement: false,
            }]),
            Self::Array(segments) => Some(segments.to_vec()),
            _ => None,
        }
    }

    fn member(&self, key: &str) -> Option<State<'t>> {
        match self {
            Self::Whole(author, Tree::Object(members)) => {
                members.get(key).map(|tree| State::Fresh(*author, tree))
            }
            Self::Object(members) => members.get(key).cloned(),
            _ => None,
        }
    }
}

fn changed(author: Author, content: Content<'_>) -> State<'_> {
    State::Changed(Rc::new(Changed { author, content }))
}

/// Returns the elements that the task saw before its write, if the written array `items` starts with them.
fn write_array<'t>(view: View<'_, 't>, items: &'t [Tree<'t>]) -> Option<Vec<Segment<'t>>> {
    let segments = view.segments()?;
    if items.len() < length(&segments) {
        return None;
    }
    let before = segments.iter().flat_map(|segment| segment.items);
    before
        .zip(items)
        .all(|(before, now)| is_same(before, now))
        .then_some(segments)
}

fn length(segments: &[Segment<'_>]) -> usize {
    segments.iter().map(|segment| segment.items.len()).sum()
}

fn write_object<'t>(
    view: View<'_, 't>,
    value: &'t Members<'t>,
    author: Author,
) -> (State<'t>, bool) {
    let mut members = States::with_capacity_and_hasher(value.len(), FxBuildHasher);
    let mut is_changed = false;
    for (key, now) in value {
        let (state, is_written) = match view.member(key) {
            Some(before) if !before.is_absent() => match before.write(now, author) {
                (state, true) => (state, true),
                (_, false) => (before, false),
            },
            _ => (State::Fresh(author, now), true),
        };
        is_changed |= is_written;
        members.insert(key, state);
    }
    match view {
        View::Whole(_, Tree::Object(before)) => {
            for key in before.keys().filter(|key| !value.contains_key(*key)) {
                is_changed = true;
                members.insert(key, State::Removed(author));
            }
        }
        View::Object(before) => {
            for (key, state) in before.iter().filter(|(key, _)| !value.contains_key(**key)) {
                let state = if state.is_absent() {
                    state.clone()
                } else {
                    is_changed = true;
                    State::Removed(author)
                };
                members.insert(key, state);
            }
        }
        _ => {}
    }
    (changed(author, Content::Object(members)), is_changed)
}

/// Removes each state whose write has been seen by the task of another state. Also removes the input, which every task
/// has seen.
fn keep_newest(parts: &mut Vec<State<'_>>, order: &dyn Order) {
    if parts[0].author() == INPUT {
        parts.remove(0);
    }
    if parts.len() > 1 {
        let places = Places::of(parts.iter().map(|part| order.place(part.author())));
        let newest = order.newest(places);
        if newest.len() < parts.len() {
            parts.retain(|part| newest.binary_search(&part.author()).is_ok());
        }
    }
}

fn join<'t>(parts: &[State<'t>], order: &dyn Order) -> MergedContent<'t> {
    let with_value = |index: &usize| !parts[*index].is_absent();
    let Some(last) = (0..parts.len()).rev().find(with_value) else {
        return MergedContent::Absent;
    };
    let shape = parts[last].view().shape();
    // A value of another shape replaces all earlier values.
    let alike: Vec<View<'_, 't>> = parts[..=last]
        .iter()
        .rev()
        .map(State::view)
        .filter(|view| view.shape().is_some())
        .take_while(|view| view.shape() == shape)
        .collect();
    if alike.len() == 1 {
        return MergedContent::Only(last);
    }
    match shape {
        Some(JsonShape::Array) => MergedContent::Joined(Content::Array(join_arrays(&alike))),
        Some(JsonShape::Object) => {
            MergedContent::Joined(Content::Object(join_objects(&alike, order)))
        }
        _ => MergedContent::Only(last),
    }
}

/// Joins arrays, with every segment once. The arrays are joined in groups: each replacement with the arrays that extend
/// it, and all other arrays together. Within a group, the added segments have the order of their authors. The groups
/// follow each other in the order of their oldest arrays.
fn join_arrays<'t>(newest_first: &[View<'_, 't>]) -> Vec<Segment<'t>> {
    // The arrays that extend the same replacement, by the replacement's author. `None` stands for all other arrays.
    let mut groups: IndexMap<Option<Author>, Vec<Vec<Segment<'t>>>, FxBuildHasher> =
        IndexMap::default();
    for segments in newest_first.iter().rev().filter_map(View::segments) {
        let first = segments.first().filter(|first| first.is_replacement);
        let group = groups.entry(first.map(|first| first.author));
        group.or_default().push(segments);
    }
    let is_mixed = groups.len() > 1;
    let mut joined: Vec<Segment<'t>> = groups.into_values().flat_map(join_extensions).collect();
    if is_mixed {
        let mut authors = FxHashSet::default();
        joined.retain(|segment| authors.insert(segment.author));
    }
    joined
}

/// Joins arrays of one group. The segments that all of them begin with stay in place.
fn join_extensions(mut arrays: Vec<Vec<Segment<'_>>>) -> Vec<Segment<'_>> {
    let mut joined = arrays.swap_remove(0);
    let common = |array: &Vec<Segment<'_>>| {
        let pairs = array.iter().zip(&joined);
        pairs
            .take_while(|(one, other)| one.author == other.author)
            .count()
    };
    let shared = arrays.iter().map(common).min();
    if let Some(shared) = shared {
        joined.extend(arrays.iter().flat_map(|array| &array[shared..]));
        joined[shared..].sort_by_key(|segment| segment.author);
        joined.dedup_by_key(|segment| segment.author);
    }
    joined
}

fn join_objects<'t>(newest_first: &[View<'_, 't>], order: &dyn Order) -> States<'t> {
    let mut members: IndexMap<&'t str, Vec<State<'t>>, FxBuildHasher> = IndexMap::default();
    for view in newest_first.iter().rev() {
        match view {
            View::Whole(author, Tree::Object(object)) => {
                for (key, tree) in &**object {
                    let state = State::Fresh(*author, tree);
                    members.entry(key).or_default().push(state);
                }
            }
            View::Object(states) => {
                for (key, state) in *states {
                    members.entry(key).or_default().push(state.clone());
                }
            }
            _ => {}
        }
    }
    // This is a loop, because iterator adapters need more stack at each level of the recursion.
    let mut joined = States::with_capacity_and_hasher(members.len(), FxBuildHasher);
    for (key, states) in members {
        joined.insert(key, State::merge(states, order));
    }
    joined
}

/// Returns whether a program that reads `left` and writes it unchanged can produce `right`. The order of members, the
/// notation of fractions and the escapes can differ.
fn is_same(left: &Tree<'_>, right: &Tree<'_>) -> bool {
    match (left, right) {
        (Tree::Scalar(left), Tree::Scalar(right)) => is_same_scalar(left, right),
        (Tree::Array(left), Tree::Array(right)) => {
            if left.len() != right.len() {
                return false;
            }
            for (left, right) in left.iter().zip(right) {
                if !is_same(left, right) {
                    return false;
                }
            }
            true
        }
        (Tree::Object(left), Tree::Object(right)) => {
            if left.len() != right.len() {
                return false;
            }
            for (key, left) in &**left {
                if !right.get(key).is_some_and(|right| is_same(left, right)) {
                    return false;
                }
            }
            true
        }
        _ => false,
    }
}

fn is_same_scalar(left: &str, right: &str) -> bool {
    if left == right {
        return true;
    }
    let shape = JsonShape::of(left);
    if shape != JsonShape::of(right) {
        return false;
    }
    let text = |quoted| serde_json::from_str::<String>(quoted).ok();
    let is_fraction = |number: &str| number.contains(['.', 'e', 'E']);
    match shape {
        JsonShape::String => text(left).is_some_and(|left| Some(left) == text(right)),
        JsonShape::Number if is_fraction(left) && is_fraction(right) => {
            let bits = |number: &str| number.parse().map(f64::to_bits).ok();
            bits(left).is_some_and(|left| Some(left) == bits(right))
        }
        // Every integer except zero has only one notation.
        JsonShape::Number => {
            left.trim_start_matches('-') == "0" && right.trim_start_matches('-') == "0"
        }
        _ => false,
    }
}
