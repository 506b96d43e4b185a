//! Merges the values that tasks without an order between them wrote to the same key (semantics B3).

use std::borrow::Cow;

use indexmap::IndexMap;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::tree::{Members, Tree};
use super::{Json, JsonShape};

/// Merges values in the given order: objects recursively, arrays by concatenation without duplicates; otherwise the later
/// value wins.
#[must_use]
pub fn merge_values(values: &[&Json]) -> Option<Json> {
    let (last, rest) = values.split_last()?;
    let shape = last.shape();
    let alike = |value: &&&Json| value.shape() == shape;
    let others = rest.iter().rev().take_while(alike).count();
    if others == 0 || !matches!(shape, JsonShape::Object | JsonShape::Array) {
        return Some((*last).clone());
    }
    let trees = values[rest.len() - others..]
        .iter()
        .map(|value| Tree::of(value));
    let mut text = String::new();
    merge_trees(trees.collect::<Option<_>>()?)?.write(&mut text);
    Some(Json::from_encoder(text))
}

fn merge_trees(mut values: Vec<Tree<'_>>) -> Option<Tree<'_>> {
    // Only the last run of values of one type matters: a value of another type replaces everything before it.
    let shape = values.last()?.shape();
    let start = values
        .iter()
        .rposition(|value| value.shape() != shape)
        .map_or(0, |index| index + 1);
    let mut alike = values.split_off(start);
    match alike.last() {
        Some(Tree::Object(_)) if alike.len() > 1 => Some(merge_objects(alike)),
        Some(Tree::Array(_)) if alike.len() > 1 => Some(merge_arrays(alike)),
        // The last value replaces the earlier ones unchanged.
        _ => alike.pop(),
    }
}

fn merge_objects(values: Vec<Tree<'_>>) -> Tree<'_> {
    let mut members: IndexMap<Cow<'_, str>, Vec<Tree<'_>>, FxBuildHasher> = IndexMap::default();
    for value in values {
        if let Tree::Object(object) = value {
            for (key, member) in *object {
                members.entry(key).or_default().push(member);
            }
        }
    }
    // A loop: iterator adapters would use more stack for each level of nesting.
    let mut merged = Members::default();
    for (key, member) in members {
        if let Some(value) = merge_trees(member) {
            merged.insert(key, value);
        }
    }
    Tree::Object(Box::new(merged))
}

fn merge_arrays(values: Vec<Tree<'_>>) -> Tree<'_> {
    let mut seen: FxHashSet<Cow<'_, str>> = FxHashSet::default();
    let mut items = Vec::new();
    for value in values {
        if let Tree::Array(array) = value {
            items.extend(
                array
                    .into_iter()
                    .filter(|item| seen.insert(comparable(item))),
            );
        }
    }
    Tree::Array(items)
}

/// The text by which array items are compared. The order of an object's keys does not matter.
fn comparable<'a>(value: &Tree<'a>) -> Cow<'a, str> {
    if let Tree::Scalar(text) = value {
        return Cow::Borrowed(text);
    }
    let mut sorted = value.clone();
    sort_keys(&mut sorted);
    let mut text = String::new();
    sorted.write(&mut text);
    Cow::Owned(text)
}

fn sort_keys(value: &mut Tree<'_>) {
    match value {
        Tree::Scalar(_) => {}
        Tree::Array(items) => items.iter_mut().for_each(sort_keys),
        Tree::Object(members) => {
            members.sort_unstable_keys();
            members.values_mut().for_each(sort_keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_values_of_maximum_depth_merge_on_a_small_stack() {
        let nested = |leaf: &str| {
            let text = format!("{}{leaf}{}", "{\"a\":".repeat(510), "}".repeat(510));
            Json::parse(&text).unwrap()
        };
        let merge = move || {
            let merged = merge_values(&[&nested("[1]"), &nested("[{\"b\":2}]")]).unwrap();
            assert_eq!(merged, nested("[1,{\"b\":2}]"));
        };
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(merge);
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn b3_unordered_writes_of_a_key_merge_by_type() {
        let cases: &[(&[&str], &str)] = &[
            (&["1", "2"], "2"),
            (&["[1,2]", "[2,3]"], "[1,2,3]"),
            (&["[1,1]", "[]"], "[1]"),
            (
                &[r#"{"a":1,"l":[1]}"#, r#"{"b":2,"l":[2]}"#],
                r#"{"a":1,"l":[1,2],"b":2}"#,
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
                &[
                    r#"[{"a":1,"b":[{"c":1,"d":2}]}]"#,
                    r#"[{"b":[{"d":2,"c":1}],"a":1},{"a":1}]"#,
                ],
                r#"[{"a":1,"b":[{"c":1,"d":2}]},{"a":1}]"#,
            ),
            (
                &[r#"{"a\n":1,"b":[1]}"#, r#"{"\u0062":[2]}"#],
                r#"{"a\n":1,"b":[1,2]}"#,
            ),
            (&[r#"["{"]"#, r#"["{","}"]"#], r#"["{","}"]"#),
            (
                &["[12345678901234567890123]", "[1.10]"],
                "[12345678901234567890123,1.10]",
            ),
        ];
        for (values, expected) in cases {
            let parsed: Vec<Json> = values
                .iter()
                .map(|text| Json::parse(text).unwrap())
                .collect();
            let merged = merge_values(&parsed.iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(merged.as_str(), *expected, "{values:?}");
        }
    }
}
