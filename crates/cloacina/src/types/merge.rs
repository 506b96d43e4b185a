//! Merges the writes of one key into one value, also if some of them are unordered (semantics B3).
//!
//! The merge knows what each task saw, hence what it changed: of an array that starts with the one that its task saw only the rest is
//! new, and a member of an object that equals the one that its task saw is not a write. A value is therefore kept as a
//! [`State`], which remembers for each array and each member which task wrote it.
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
    /// The task's place in the order of B2.
    pub place: usize,
    /// The places of the task's ancestors, as a bit set.
    pub seen: &'a [u64],
    /// The value that it wrote; `None` if it removed the key.
    pub value: Option<&'a Json>,
}

/// The value of a key after all of its writes, which are in the order of B2. `None` if it has no value.
///
/// Writes that a later one has seen do not count. Of the others, a write beats a removal, objects merge member by member
/// by these same rules, arrays keep every element, and else the last write wins.
#[must_use]
pub fn merge_writes(input: Option<&Json>, writes: &[Write<'_>]) -> Option<Json> {
    let frontier = frontier(writes, Places::of(writes.iter().map(|write| write.place)));
    let values: Vec<usize> = frontier
        .into_iter()
        .filter(|index| writes[*index].value.is_some())
        .collect();
    let value = |index: usize| writes[index].value;
    let last = value(*values.last()?)?;
    let shape = last.shape();
    let is_alike = |index: &&usize| value(**index).is_some_and(|other| other.shape() == shape);
    let alike = values.iter().rev().take_while(is_alike).count();
    if alike == 1 || !matches!(shape, JsonShape::Object | JsonShape::Array) {
        return Some(last.clone());
    }
    let (input, writes) = relevant(input, writes, &values[values.len() - alike..]);
    // Text that an encoder wrote always splits.
    replay(input, &writes).or_else(|| Some(last.clone()))
}

/// The writes that `last` came from, without those that every later one builds on: the newest such write is the input of the rest.
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

/// Indexes of the writes at `places` that no later one of them has seen, in order.
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

/// Replays the writes: derives the state that each task saw, and applies its write to it. `None` if a text cannot be split.
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
    // By the newest writes that tasks saw: those behind one fan-in saw the same.
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
    reason = "tables, and plans of writes in which a task may write nothing, a removal or a value"
)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A graph of tasks, in order: for each the earlier tasks that it has seen.
    #[derive(Clone, Debug)]
    struct Dag(Vec<Vec<u64>>);

    impl Dag {
        fn of(dependencies: &[Vec<usize>]) -> Self {
            let mut seen: Vec<Vec<u64>> = Vec::new();
            for own in dependencies {
                let mut places = Places::of(own.iter().copied());
                for dependency in own {
                    places.add_all(&seen[*dependency]);
                }
                seen.push(places.words().to_vec());
            }
            Self(seen)
        }

        fn has_seen(&self, task: usize, other: usize) -> bool {
            Places::from_words(&self.0[task]).contains(other)
        }

        /// The value that a task sees; the final value for a task beyond the last.
        fn view(
            &self,
            input: Option<&Json>,
            values: &[Option<Option<Json>>],
            task: usize,
        ) -> Option<Json> {
            let mut writes = Vec::new();
            for (place, value) in values.iter().enumerate() {
                let is_seen = self.0.get(task).is_none() || self.has_seen(task, place);
                if let (true, Some(value)) = (is_seen, value) {
                    writes.push(Write {
                        place,
                        seen: &self.0[place],
                        value: value.as_ref(),
                    });
                }
            }
            if writes.is_empty() {
                return input.cloned();
            }
            merge_writes(input, &writes)
        }
    }

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    /// The merge of values by tasks with the given dependencies.
    fn merged(input: Option<&str>, writes: &[(&[usize], &str)]) -> String {
        let dependencies: Vec<Vec<usize>> = writes.iter().map(|write| write.0.to_vec()).collect();
        let dag = Dag::of(&dependencies);
        let values: Vec<Option<Option<Json>>> = writes
            .iter()
            .map(|(_, text)| match *text {
                "unwritten" => None,
                "removed" => Some(None),
                text => Some(Some(json(text))),
            })
            .collect();
        let value = dag.view(input.map(json).as_ref(), &values, values.len());
        value.map_or_else(|| "absent".to_owned(), |value| value.as_str().to_owned())
    }

    #[test]
    fn a2_values_of_the_greatest_depth_merge_on_a_small_stack() {
        let nested = |leaf: &str| format!("{}{leaf}{}", "{\"a\":".repeat(510), "}".repeat(510));
        let merge = move || {
            let writes: [(&[usize], &str); 2] =
                [(&[], &nested("[0,1]")), (&[], &nested("[0,{\"b\":2}]"))];
            assert_eq!(merged(None, &writes), nested("[0,1,0,{\"b\":2}]"));
            assert_eq!(
                merged(Some(&nested("[0]")), &writes),
                nested("[0,1,{\"b\":2}]")
            );
        };
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(merge);
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn b3_table_of_unordered_writes() {
        let cases: &[(&[&str], &str)] = &[
            (&["1", "2"], "2"),
            (&["[1,2]", "[2,3]"], "[1,2,2,3]"),
            (&["[4]", "[4]", "[4]"], "[4,4,4]"),
            (&["[1,1]", "[]"], "[1,1]"),
            (
                &[r#"{"a":1,"l":[1]}"#, r#"{"b":2,"l":[1]}"#],
                r#"{"a":1,"l":[1,1],"b":2}"#,
            ),
            (
                &[r#"{"a":{"x":1}}"#, r#"{"a":{"y":2}}"#],
                r#"{"a":{"x":1,"y":2}}"#,
            ),
            (&[r#"{"a":1}"#, "5", r#"{"b":1}"#], r#"{"b":1}"#),
            (&[r#"{"a":1}"#, "null"], "null"),
            (&["{}", "[2,2]"], "[2,2]"),
            (
                &[r#"{"a":[1]}"#, r#"{"a":{}}"#, r#"{"a":[2,2]}"#],
                r#"{"a":[2,2]}"#,
            ),
            (
                &[r#"{"a\n":1,"b":[1]}"#, r#"{"\u0062":[2]}"#],
                r#"{"a\n":1,"b":[1,2]}"#,
            ),
            (&[r#"["{"]"#, r#"["{","}"]"#], r#"["{","{","}"]"#),
            (
                &["[12345678901234567890123]", "[1.10]"],
                "[12345678901234567890123,1.10]",
            ),
            (&["1", "removed"], "1"),
            (&["[1]", "removed", "[1]"], "[1,1]"),
            (&["removed", "removed"], "absent"),
        ];
        for (values, expected) in cases {
            let writes: Vec<(&[usize], &str)> =
                values.iter().map(|value| (&[][..], *value)).collect();
            assert_eq!(merged(None, &writes), *expected, "{values:?}");
        }
    }

    #[test]
    fn b3_table_of_changes_to_what_tasks_saw() {
        let (left, right, after): (&[usize], &[usize], &[usize]) = (&[0], &[0], &[0, 1]);
        let cases: &[(Option<&str>, &[(&[usize], &str)], &str)] = &[
            // Both extended the array that they saw; as the input, and as a task's.
            (Some("[0]"), &[(&[], "[0,1]"), (&[], "[0,1]")], "[0,1,1]"),
            (
                None,
                &[(&[], "[0]"), (left, "[0,1,2]"), (right, "[0,3]")],
                "[0,1,2,3]",
            ),
            // One of them extends the other.
            (
                Some("[0]"),
                &[(&[], "[0,1]"), (&[], "[0,2]"), (&[0], "[0,1,3]")],
                "[0,1,2,3]",
            ),
            // A third array extends what both wrote, while another one extends the first.
            (
                Some("[0]"),
                &[
                    (&[], "[0,1]"),
                    (&[], "[0,2]"),
                    (after, "[0,1,2,9]"),
                    (&[0], "[0,1,3]"),
                ],
                "[0,1,2,9,3]",
            ),
            // An array that does not start with what its task saw is kept next to the other.
            (Some("[0]"), &[(&[], "[7]"), (&[], "[0,1]")], "[0,7,1]"),
            (Some("[0]"), &[(&[], "[0,1]"), (&[], "[7]")], "[0,1,7]"),
            (Some("[0]"), &[(&[], "[7]"), (&[], "[8]")], "[7,8]"),
            // Every branch writes the members that it saw, and changes one.
            (
                Some(r#"{"a":1,"l":[1]}"#),
                &[(&[], r#"{"a":2,"l":[1]}"#), (&[], r#"{"a":1,"l":[1,1]}"#)],
                r#"{"a":2,"l":[1,1]}"#,
            ),
            (
                Some(r#"{"a":1,"b":{"c":1,"d":1}}"#),
                &[
                    (&[], r#"{"a":1,"b":{"c":2,"d":1}}"#),
                    (&[], r#"{"a":1,"b":{"c":1,"d":2}}"#),
                ],
                r#"{"a":1,"b":{"c":2,"d":2}}"#,
            ),
            // A removed member is a change, a member carried along is not; a write beats the removal.
            (
                Some(r#"{"a":1,"b":1}"#),
                &[(&[], r#"{"b":1}"#), (&[], r#"{"a":1,"b":2}"#)],
                r#"{"b":2}"#,
            ),
            (
                Some(r#"{"a":1}"#),
                &[(&[], r#"{"a":2}"#), (&[], "{}")],
                r#"{"a":2}"#,
            ),
            // A removed member stays removed for a branch behind, and returns if it is set there.
            (
                Some(r#"{"a":1}"#),
                &[(&[], "{}"), (&[0], r#"{"b":1}"#), (&[], r#"{"a":1,"c":1}"#)],
                r#"{"b":1,"c":1}"#,
            ),
            (
                Some(r#"{"a":1}"#),
                &[(&[], "{}"), (&[0], r#"{"a":3}"#), (&[], r#"{"a":1,"c":1}"#)],
                r#"{"a":3,"c":1}"#,
            ),
            // Another notation of the seen value is not a change.
            (
                Some(r#"{"n":1.10,"t":"\u0062","z":{"x":1,"y":2}}"#),
                &[
                    (&[], r#"{"n":1.1,"t":"b","z":{"y":2,"x":1},"l":1}"#),
                    (&[], r#"{"n":2.5,"t":"b","z":{"y":2,"x":1},"r":1}"#),
                ],
                r#"{"n":2.5,"t":"\u0062","z":{"x":1,"y":2},"l":1,"r":1}"#,
            ),
            (
                Some("[1.10]"),
                &[(&[], "[1.1,2]"), (&[], "[1.1,2]")],
                "[1.10,2,2]",
            ),
            (Some("[1]"), &[(&[], "[1.0]"), (&[], "[1,2]")], "[1,1.0,2]"),
            // One write that all others build on.
            (
                None,
                &[
                    (&[], "[1]"),
                    (&[], "[2]"),
                    (after, "[1,2,3]"),
                    (&[2], "[1,2,3,4]"),
                    (&[2], "[1,2,3,5]"),
                ],
                "[1,2,3,4,5]",
            ),
            (
                None,
                &[
                    (&[], "[1]"),
                    (&[0], "removed"),
                    (&[1], "[2]"),
                    (&[1], "[2]"),
                ],
                "[2,2]",
            ),
            (
                None,
                &[
                    (&[], r#"{"a":1}"#),
                    (&[0], "5"),
                    (&[1], "7"),
                    (&[1], r#"{"b":1}"#),
                ],
                r#"{"b":1}"#,
            ),
        ];
        for (input, writes, expected) in cases {
            assert_eq!(merged(*input, writes), *expected, "{input:?} {writes:?}");
        }
    }

    fn dependencies() -> impl Strategy<Value = Vec<Vec<usize>>> {
        (1_usize..10).prop_flat_map(|tasks| {
            (0..tasks)
                .map(|index| proptest::collection::vec(0..index.max(1), 0..=index.min(3)))
                .collect::<Vec<_>>()
        })
    }

    /// Tasks with what each of them does, if anything.
    fn plan() -> impl Strategy<Value = (Dag, Vec<Option<Vec<Step>>>)> {
        let step = (0_usize..3, 0_usize..3, 0_u8..4).prop_map(|(object, member, kind)| Step {
            path: (object, member),
            kind,
        });
        let steps = proptest::option::weighted(0.7, proptest::collection::vec(step, 0..4));
        (dependencies(), proptest::collection::vec(steps, 10)).prop_map(|(mut own, steps)| {
            own[0].clear();
            let tasks = own.len();
            (Dag::of(&own), steps[..tasks].to_vec())
        })
    }

    #[derive(Clone, Debug)]
    struct Step {
        path: (usize, usize),
        kind: u8,
    }

    type Document = BTreeMap<String, BTreeMap<String, serde_json::Value>>;

    proptest! {
        #[test]
        fn b3_every_added_element_is_there_exactly_once(
            (dag, plan) in plan(),
            has_input in any::<bool>(),
        ) {
            let input = has_input.then(|| json("[\"in\",\"in\"]"));
            let mut values: Vec<Option<Option<Json>>> = Vec::new();
            let expected = |plan: &[Option<Vec<Step>>], task: usize| {
                let mut all: Vec<String> = if has_input { vec!["in".into(); 2] } else { Vec::new() };
                for (other, steps) in plan.iter().enumerate() {
                    if dag.0.get(task).is_none() || dag.has_seen(task, other) {
                        let added = steps.as_ref().map_or(0, Vec::len);
                        all.extend(std::iter::repeat_n(format!("{other}"), added));
                    }
                }
                all
            };
            for task in 0..=plan.len() {
                let saw = dag.view(input.as_ref(), &values, task);
                let mut items: Vec<String> = saw.map_or_else(Vec::new, |saw| saw.decode().unwrap());
                prop_assert_eq!(&items, &expected(&plan, task));
                if let Some(Some(steps)) = plan.get(task) {
                    items.extend(std::iter::repeat_n(format!("{task}"), steps.len()));
                    values.push(Some(Some(Json::encode(&items).unwrap())));
                } else {
                    values.push(None);
                }
            }
        }

        #[test]
        fn b3_members_are_what_the_writes_of_each_of_them_say((dag, plan) in plan()) {
            let input = json(r#"{"0":{"0":"in","1":"in"},"1":{"0":"in"},"2":{}}"#);
            let mut values: Vec<Option<Option<Json>>> = Vec::new();
            // By member: its writes, `None` for a removal.
            let mut writes: BTreeMap<(usize, usize), Vec<(usize, Option<String>)>> = BTreeMap::new();
            for task in 0..=plan.len() {
                let saw = dag.view(Some(&input), &values, task).unwrap();
                let mut document: Document = saw.decode().unwrap();
                let mut expected: Document = input.decode().unwrap();
                for ((object, member), writes) in &writes {
                    let seen: Vec<_> = writes.iter().filter(|(other, _)| {
                        dag.0.get(task).is_none() || dag.has_seen(task, *other)
                    }).collect();
                    let newest = seen.iter().filter(|(other, _)| {
                        !seen.iter().any(|(later, _)| dag.has_seen(*later, *other))
                    });
                    let newest: Vec<_> = newest.collect();
                    if newest.is_empty() {
                        continue;
                    }
                    let members = expected.get_mut(&object.to_string()).unwrap();
                    match newest.iter().rev().find_map(|(_, value)| value.clone()) {
                        Some(value) => members.insert(member.to_string(), value.into()),
                        None => members.remove(&member.to_string()),
                    };
                }
                prop_assert_eq!(&document, &expected);
                let Some(Some(steps)) = plan.get(task) else {
                    values.push(None);
                    continue;
                };
                let mut own: BTreeMap<(usize, usize), Option<String>> = BTreeMap::new();
                for step in steps {
                    let members = document.get_mut(&step.path.0.to_string()).unwrap();
                    let name = step.path.1.to_string();
                    if step.kind == 0 {
                        if members.remove(&name).is_some() {
                            own.insert(step.path, None);
                        }
                    } else {
                        members.insert(name, task.to_string().into());
                        own.insert(step.path, Some(task.to_string()));
                    }
                }
                for (path, value) in own {
                    let was_there = expected[&path.0.to_string()].contains_key(&path.1.to_string());
                    // If one task sets and removes a new member, that is not a write.
                    if value.is_some() || was_there {
                        writes.entry(path).or_default().push((task, value));
                    }
                }
                values.push(Some(Some(Json::encode(&document).unwrap())));
            }
        }
    }
}
