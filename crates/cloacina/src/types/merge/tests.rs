//! Tests of the merge, with tables and with a model that records the writes of each member.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A graph of tasks in topological order. It has, for each task, the places of the earlier tasks that the task has seen, as a
/// bit set.
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

    /// Returns the value that a task sees. If `task` is the number of tasks, returns the final value.
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

/// Merges the values that tasks with the given dependencies wrote.
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
fn b3_values_of_maximum_depth_merge_on_a_small_stack() {
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
fn b3_unordered_writes_merge_as_in_the_table() {
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
        let writes: Vec<(&[usize], &str)> = values.iter().map(|value| (&[][..], *value)).collect();
        assert_eq!(merged(None, &writes), *expected, "{values:?}");
    }
}

#[test]
fn b3_changes_to_seen_values_merge_as_in_the_table() {
    let (left, right, after): (&[usize], &[usize], &[usize]) = (&[0], &[0], &[0, 1]);
    let cases: &[(Option<&str>, &[(&[usize], &str)], &str)] = &[
        // Both tasks extend the array that they saw: in the first case the input, in the second case the array of a task.
        (Some("[0]"), &[(&[], "[0,1]"), (&[], "[0,1]")], "[0,1,1]"),
        (
            None,
            &[(&[], "[0]"), (left, "[0,1,2]"), (right, "[0,3]")],
            "[0,1,2,3]",
        ),
        // A third task extends the array of one of two other tasks.
        (
            Some("[0]"),
            &[(&[], "[0,1]"), (&[], "[0,2]"), (&[0], "[0,1,3]")],
            "[0,1,2,3]",
        ),
        // A third task extends the merged array of two tasks, while a fourth task extends the array of the first.
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
        // An array that does not start with the elements that its task saw is kept in addition to the other array.
        (Some("[0]"), &[(&[], "[7]"), (&[], "[0,1]")], "[7,0,1]"),
        (Some("[0]"), &[(&[], "[0,1]"), (&[], "[7]")], "[0,1,7]"),
        (Some("[0]"), &[(&[], "[7]"), (&[], "[8]")], "[7,8]"),
        // Every branch writes all members that it saw, and changes one of them.
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
        // Removing a member is a change; writing it unchanged is not. A write takes precedence over a removal.
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
        // A removed member stays removed if a later task of the branch does not set it, and exists again if the task sets it.
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
        (Some("[1]"), &[(&[], "[1.0]"), (&[], "[1,2]")], "[1.0,1,2]"),
        // One task replaces the array, and others add to it.
        (Some("[1]"), &[(&[], "[5]"), (&[], "[1,2]")], "[5,1,2]"),
        (Some("[1]"), &[(&[], "[1,2]"), (&[], "[5]")], "[1,2,5]"),
        (
            Some("[1]"),
            &[
                (&[], "[1,2]"),
                (&[], "[5]"),
                (&[], "[1,3]"),
                (&[1], "[5,6]"),
            ],
            "[1,2,3,5,6]",
        ),
        (
            Some("[1]"),
            &[
                (&[], "[5]"),
                (&[], "[1,2]"),
                (after, "[5,1,2,7]"),
                (after, "[5,1,2,8]"),
            ],
            "[5,1,2,7,8]",
        ),
        // One task has seen all earlier writes, and all later tasks have seen the write of this task.
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

/// Generates tasks. Each task has steps, or `None` if it writes nothing.
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
    fn b3_every_added_element_is_kept_exactly_once(
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
    fn b3_value_of_a_member_depends_only_on_writes_of_this_member((dag, plan) in plan()) {
        let input = json(r#"{"0":{"0":"in","1":"in"},"1":{"0":"in"},"2":{}}"#);
        let mut values: Vec<Option<Option<Json>>> = Vec::new();
        // The writes of each member: the task, and the value or `None` for a removal.
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
                // A task that sets a new member and removes it again has not written the member.
                if value.is_some() || was_there {
                    writes.entry(path).or_default().push((task, value));
                }
            }
            values.push(Some(Some(Json::encode(&document).unwrap())));
        }
    }
}
