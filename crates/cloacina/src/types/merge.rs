//! How two writes of one key that are not ordered between themselves become one value (semantics B3).

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::{FxBuildHasher, FxHashSet};
use serde_json::value::RawValue;

use super::json::compact;
use super::{Json, JsonShape};

type Object = IndexMap<String, Box<RawValue>, FxBuildHasher>;

/// Merges values in their order: objects recursively, arrays by concatenation without duplicates, else the later one wins.
#[must_use]
pub fn merge_values(values: &[&Json]) -> Option<Json> {
    let (last, rest) = values.split_last()?;
    if rest.is_empty() {
        return Some((*last).clone());
    }
    // Only the run of equal shapes at the end can matter: a later value of another shape replaces all before it.
    let shape = last.shape();
    let start = values
        .iter()
        .rposition(|value| value.shape() != shape)
        .map_or(0, |index| index + 1);
    let alike = &values[start..];
    match shape {
        // It replaces what came before, as it was written.
        _ if alike.len() == 1 => Some((*last).clone()),
        JsonShape::Object => Some(merge_objects(alike)),
        JsonShape::Array => Some(merge_arrays(alike)),
        _ => Some((*last).clone()),
    }
}

fn merge_objects(values: &[&Json]) -> Json {
    let mut members: IndexMap<String, Vec<Json>, FxBuildHasher> = IndexMap::default();
    for value in values {
        let Ok(object) = serde_json::from_str::<Object>(value.as_str()) else {
            continue;
        };
        for (key, member) in object {
            members
                .entry(key)
                .or_default()
                .push(Json::from_encoder(compact(member.get())));
        }
    }
    let mut out = String::from("{");
    for (key, member) in members {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(key).to_string());
        out.push(':');
        let parts: Vec<&Json> = member.iter().collect();
        if let Some(merged) = merge_values(&parts) {
            out.push_str(merged.as_str());
        }
    }
    out.push('}');
    Json::from_encoder(out)
}

fn merge_arrays(values: &[&Json]) -> Json {
    let mut seen: FxHashSet<Arc<str>> = FxHashSet::default();
    let mut out = String::from("[");
    for value in values {
        let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(value.as_str()) else {
            continue;
        };
        for item in items {
            let text = compact(item.get());
            if seen.insert(comparable(&text)) {
                if out.len() > 1 {
                    out.push(',');
                }
                out.push_str(&text);
            }
        }
    }
    out.push(']');
    Json::from_encoder(out)
}

/// The text by which equal values are told: the order of an object's keys does not count.
fn comparable(text: &Arc<str>) -> Arc<str> {
    if !text.contains('{') {
        return Arc::clone(text);
    }
    let mut out = String::with_capacity(text.len());
    write_comparable(text, &mut out);
    out.into()
}

fn write_comparable(text: &str, out: &mut String) {
    if let Ok(mut object) = serde_json::from_str::<Object>(text) {
        object.sort_unstable_keys();
        out.push('{');
        for (key, member) in object {
            out.push_str(&serde_json::Value::from(key).to_string());
            out.push(':');
            write_comparable(member.get(), out);
            out.push(',');
        }
        out.push('}');
    } else if let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(text) {
        out.push('[');
        for item in items {
            write_comparable(item.get(), out);
            out.push(',');
        }
        out.push(']');
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_table_of_merges() {
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
