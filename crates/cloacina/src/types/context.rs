//! The context, an ordered map from keys to JSON values, and the delta between two contexts (semantics B).

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Json, JsonError};

type Map<V> = IndexMap<Arc<str>, V, FxBuildHasher>;

/// An ordered map from string keys to JSON values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Context {
    #[serde(deserialize_with = "read_values")]
    values: Map<Json>,
}

impl Context {
    /// Creates an empty context.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns whether the context has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the size of all keys and values together, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let pairs = self.values.iter();
        pairs
            .map(|(key, value)| key.len() + value.as_str().len())
            .sum()
    }

    /// Returns the value of a key; `None` if the key is absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.values.get(key)
    }

    /// Returns whether the key is present. A key with the value `null` is present.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Sets a key. A new key is appended at the end.
    pub fn set(&mut self, key: impl Into<Arc<str>>, value: Json) {
        self.values.insert(key.into(), value);
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.values.shift_remove(key)
    }

    /// Returns the keys and values, in insertion order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Json)> {
        self.values.iter()
    }

    /// Returns the context as the text of one JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(2 + self.values.len() * 16);
        out.push('{');
        for (index, (key, value)) in self.values.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_key(&mut out, key);
            out.push_str(value.as_str());
        }
        out.push('}');
        out
    }

    /// Parses a context from the text of a JSON object.
    ///
    /// # Errors
    /// Returns an error if the text is not a JSON object, or if a value is nested deeper than
    /// [`super::MAX_JSON_DEPTH`]. In the second case, the error names the key of the value.
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        serde_json::from_str(text).map_err(|error| JsonError(error.to_string()))
    }

    /// Applies a delta in place: removals first, then writes.
    pub fn apply(&mut self, delta: &Delta) {
        for key in &delta.removed {
            self.values.shift_remove(key);
        }
        for (key, value) in &delta.set {
            self.values.insert(Arc::clone(key), value.clone());
        }
    }

    /// Returns the delta that turns `self` into `after`.
    #[must_use]
    pub fn delta_to(&self, after: &Self) -> Delta {
        let mut delta = Delta::default();
        for (key, value) in &after.values {
            if self.values.get(key) != Some(value) {
                delta.set.insert(Arc::clone(key), value.clone());
            }
        }
        for key in self.values.keys() {
            if !after.values.contains_key(key) {
                delta.removed.push(Arc::clone(key));
            }
        }
        delta
    }
}

impl FromIterator<(Arc<str>, Json)> for Context {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Json)>>(pairs: I) -> Self {
        Self {
            values: pairs.into_iter().collect(),
        }
    }
}

/// The changes that a task made to its context: keys set and keys removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The keys that the task set, with their values, in the order of their first write.
    #[serde(
        default,
        rename = "s",
        skip_serializing_if = "Map::is_empty",
        deserialize_with = "read_values"
    )]
    pub set: Map<Json>,
    /// The keys that the task removed.
    #[serde(default, rename = "r", skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<Arc<str>>,
}

impl Delta {
    /// Returns whether the delta has no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    /// Returns the size of all keys and values together, in bytes. `max_context_bytes` limits this size.
    #[must_use]
    pub fn size(&self) -> usize {
        self.set
            .iter()
            .map(|(key, value)| key.len() + value.as_str().len())
            .sum::<usize>()
            + self.removed.iter().map(|key| key.len()).sum::<usize>()
    }

    /// Returns the JSON text that is stored in the database.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(8 + self.size() + 4 * self.set.len());
        out.push('{');
        if !self.set.is_empty() {
            out.push_str("\"s\":{");
            for (index, (key, value)) in self.set.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_key(&mut out, key);
                out.push_str(value.as_str());
            }
            out.push('}');
        }
        if !self.removed.is_empty() {
            out.push_str(if self.set.is_empty() {
                "\"r\":["
            } else {
                ",\"r\":["
            });
            for (index, key) in self.removed.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_string(&mut out, key);
            }
            out.push(']');
        }
        out.push('}');
        out
    }

    /// Parses a delta from its stored text.
    ///
    /// # Errors
    /// Returns an error if the text does not have the form that [`Delta::to_json`] writes, or if a value is nested
    /// deeper than [`super::MAX_JSON_DEPTH`].
    pub fn from_json(text: &str) -> Result<Self, JsonError> {
        serde_json::from_str(text).map_err(|error| JsonError(error.to_string()))
    }
}

/// Decodes keys and values. An error about a value names its key.
fn read_values<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<Json>, D::Error> {
    struct Values;

    impl<'de> Visitor<'de> for Values {
        type Value = Map<Json>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut values = Map::default();
            while let Some((key, raw)) = access.next_entry::<Arc<str>, Box<RawValue>>()? {
                let value = Json::of_raw(&raw).map_err(|error| {
                    de::Error::custom(format_args!("the value of key '{key}' is {error}"))
                })?;
                values.insert(key, value);
            }
            Ok(values)
        }
    }

    deserializer.deserialize_map(Values)
}

pub(super) fn push_key(out: &mut String, key: &str) {
    push_string(out, key);
    out.push(':');
}

/// Appends `text` as a JSON string. Text that needs no escapes is copied without an encoder.
fn push_string(out: &mut String, text: &str) {
    if text
        .bytes()
        .all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(text: &str) -> Context {
        Context::from_json(text).unwrap()
    }

    #[test]
    fn b1_text_round_trips_with_order_escapes_and_big_numbers() {
        let text = r#"{"z":1,"a\"b\n":{"n":12345678901234567890123},"é":[1,null]}"#;
        assert_eq!(context(text).to_json(), text);
    }

    #[test]
    fn delta_turns_before_into_after() {
        let before = context(r#"{"a":1,"b":2,"c":3}"#);
        let after = context(r#"{"a":1,"b":5,"d":null}"#);
        let delta = before.delta_to(&after);
        assert_eq!(delta.to_json(), r#"{"s":{"b":5,"d":null},"r":["c"]}"#);
        assert_eq!(Delta::from_json(&delta.to_json()).unwrap(), delta);
        let mut applied = before;
        applied.apply(&delta);
        assert_eq!(applied, after);
    }

    #[test]
    fn b1_error_for_a_too_deep_value_names_its_key() {
        let deep = format!("{}{}", "[".repeat(513), "]".repeat(513));
        let expected = "the value of key 'd' is nested deeper than 512 levels";
        let context = Context::from_json(&format!("{{\"fine\":[1],\"d\":{deep}}}"));
        assert!(context.unwrap_err().0.starts_with(expected));
        let delta = Delta::from_json(&format!("{{\"s\":{{\"d\":{deep}}}}}"));
        assert!(delta.unwrap_err().0.starts_with(expected));
    }

    #[test]
    fn text_that_is_not_an_object_is_refused() {
        for text in ["[]", "1", "null", "{\"a\":}", ""] {
            assert!(Context::from_json(text).is_err(), "{text}");
        }
    }
}
