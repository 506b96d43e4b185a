//! The context that Rust tasks and callers use.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{self, Delta, Error, ErrorCode, Json, JsonError, Overlay, nearest};

/// An ordered map from string keys to JSON values: the input of an execution, and what its tasks read and write.
///
/// A value is encoded when it is set, and decoded when it is read. A task therefore pays only for the keys that it uses, and
/// numbers keep their exact text. A key with the value `null` is present.
///
/// # Examples
///
/// ```
/// use cloacina::Context;
///
/// # fn main() -> Result<(), cloacina::Error> {
/// let mut context = Context::new();
/// context.set("rows", vec![1, 2, 3])?;
/// let rows: Vec<u64> = context.get("rows")?;
/// assert_eq!(rows.iter().sum::<u64>(), 6);
/// assert_eq!(context.get_optional::<String>("day")?, None);
/// assert_eq!(context.to_json(), r#"{"rows":[1,2,3]}"#);
/// # Ok(())
/// # }
/// ```
///
/// Since 1.0.
#[derive(Clone)]
pub struct Context {
    values: Overlay,
}

impl Context {
    /// Creates an empty context. Since 1.0.
    #[must_use]
    pub fn new() -> Self {
        Self::from_values(Arc::default(), false)
    }

    /// Parses a context from the text of a JSON object.
    ///
    /// # Errors
    /// `ContextInvalid` when the text is not a JSON object, or a value is nested deeper than 512 levels.
    ///
    /// Since 1.0.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let values = types::Context::from_json(text).map_err(|error| {
            invalid(format!(
                "the JSON text is not an object that a context can hold: {error}"
            ))
        })?;
        Ok(Self::from_values(Arc::new(values), false))
    }

    /// Creates a context from a value that serializes to a JSON object, such as a struct or a map.
    ///
    /// # Errors
    /// `ContextInvalid` when the value does not serialize to an object, or has a part that JSON cannot represent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use cloacina::Context;
    /// # use std::collections::BTreeMap;
    /// let context = Context::encode(&BTreeMap::from([("day", "2026-01-01")]))?;
    /// assert_eq!(context.get::<String>("day")?, "2026-01-01");
    /// # Ok::<(), cloacina::Error>(())
    /// ```
    ///
    /// Since 1.0.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let json = Json::encode(value)
            .map_err(|error| invalid(format!("the context cannot be encoded: {error}")))?;
        Self::from_json(json.as_str())
    }

    /// Decodes the whole context as one value, such as a struct.
    ///
    /// # Errors
    /// `ContextInvalid` when the context does not have the shape of `T`.
    ///
    /// Since 1.0.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.to_json())
            .map_err(|error| invalid(format!("the context cannot be decoded: {error}")))
    }

    /// Returns the context as the text of one JSON object. Since 1.0.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut values = self.values.clone();
        values.snapshot().to_json()
    }

    /// Decodes the value of a key.
    ///
    /// # Errors
    /// `ContextInvalid` when the key is absent or its value does not have the shape of `T`. The message names the key.
    ///
    /// Since 1.0.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        match self.get_json(key) {
            Some(value) => decode(key, value),
            None => Err(self.absent(key)),
        }
    }

    /// Decodes the value of a key; `None` when the key is absent.
    ///
    /// # Errors
    /// `ContextInvalid` when the key is present and its value does not have the shape of `T`.
    ///
    /// Since 1.0.
    pub fn get_optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let value = self.get_json(key);
        value.map(|value| decode(key, value)).transpose()
    }

    /// Returns the JSON value of a key; `None` when the key is absent. Since 1.0.
    #[must_use]
    pub fn get_json(&self, key: &str) -> Option<&Json> {
        self.values.get(key)
    }

    /// Sets a key. A new key is appended at the end.
    ///
    /// # Errors
    /// `ContextInvalid` when JSON cannot represent the value, e.g. a NaN.
    ///
    /// Since 1.0.
    pub fn set<T: Serialize>(&mut self, key: &str, value: T) -> Result<(), Error> {
        self.values.set(key, encode(key, &value)?);
        Ok(())
    }

    /// Adds a new key at the end.
    ///
    /// # Errors
    /// `ContextInvalid` when the key is already present, or JSON cannot represent the value.
    ///
    /// Since 1.0.
    pub fn insert<T: Serialize>(&mut self, key: &str, value: T) -> Result<(), Error> {
        if self.contains_key(key) {
            return Err(
                invalid(format!("the context already has a key '{key}'")).with_hint(
                    "use `update` to change the value, or `set` to write it in either case",
                ),
            );
        }
        self.set(key, value)
    }

    /// Changes the value of an existing key.
    ///
    /// # Errors
    /// `ContextInvalid` when the key is absent, or JSON cannot represent the value.
    ///
    /// Since 1.0.
    pub fn update<T: Serialize>(&mut self, key: &str, value: T) -> Result<(), Error> {
        if !self.contains_key(key) {
            return Err(self.absent(key));
        }
        self.set(key, value)
    }

    /// Removes a key and returns its value.
    ///
    /// In a task, the removal counts as a write: tasks that depend on this task, directly or indirectly, do not see the key.
    ///
    /// Since 1.0.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.values.remove(key)
    }

    /// Returns whether a key is present. Since 1.0.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.values.contains(key)
    }

    /// Returns the number of keys. Since 1.0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns whether the context has no keys. Since 1.0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the keys and values, in insertion order. Since 1.0.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.values.iter().map(|(key, value)| (&**key, value))
    }

    /// Creates a context with stored values. `is_task`: whether the context belongs to a task, so that
    /// [`delta`](Self::delta) must return all later writes.
    pub(super) fn from_values(values: Arc<types::Context>, is_task: bool) -> Self {
        Self {
            values: Overlay::new(values, is_task),
        }
    }

    pub(super) fn into_values(mut self) -> Arc<types::Context> {
        self.values.snapshot()
    }

    /// Returns the writes since the context was created. Only the context of a task keeps all of them.
    pub(super) fn delta(&self) -> Delta {
        self.values.delta()
    }

    fn absent(&self, key: &str) -> Error {
        let error = invalid(format!("the context has no key '{key}'"));
        match nearest(key, self.iter().map(|(known, _)| known)) {
            Some(near) => error.with_hint(format!("did you mean '{near}'?")),
            None => error.with_hint("use `get_optional` for a key that may be absent"),
        }
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Context {
    /// Compares keys and values, regardless of their order.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .all(|(key, value)| other.get_json(key) == Some(value))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn decode<T: DeserializeOwned>(key: &str, value: &Json) -> Result<T, Error> {
    value.decode().map_err(|JsonError(problem)| {
        invalid(format!(
            "the value of key '{key}', a JSON {}, is not a {}: {problem}",
            value.shape().name(),
            std::any::type_name::<T>()
        ))
    })
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Json, Error> {
    Json::encode(value).map_err(|JsonError(problem)| {
        invalid(format!(
            "the value for key '{key}' cannot be encoded as JSON: {problem}"
        ))
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::ContextInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_nan_is_refused_with_its_key() {
        let mut context = Context::new();
        let error = context.set("ratio", f64::NAN).unwrap_err();
        assert!(error.message.contains("'ratio'"), "{error}");
        assert!(context.is_empty());
    }

    #[test]
    fn insert_refuses_a_present_key_and_update_refuses_an_absent_key() {
        let mut context = Context::from_json(r#"{"a":null}"#).unwrap();
        assert!(context.insert("a", 1).is_err());
        assert!(context.update("b", 1).is_err());
        context.insert("b", 2).unwrap();
        context.update("a", 3).unwrap();
        assert_eq!(context.to_json(), r#"{"a":3,"b":2}"#);
        assert_eq!(context.remove("a").unwrap().as_str(), "3");
        assert_eq!(context.remove("a"), None);
    }

    #[test]
    fn get_error_names_the_key_the_shape_and_a_similar_key() {
        let context = Context::from_json(r#"{"rows":"many"}"#).unwrap();
        let shape = context.get::<u32>("rows").unwrap_err();
        assert!(
            shape
                .message
                .contains("key 'rows', a JSON string, is not a u32")
        );
        let absent = context.get::<u32>("row").unwrap_err();
        assert_eq!(absent.hint.as_deref(), Some("did you mean 'rows'?"));
    }

    #[test]
    fn b1_integers_beyond_64_bits_keep_all_digits() {
        let text = r#"{"n":123456789012345678901234567890}"#;
        assert_eq!(Context::from_json(text).unwrap().to_json(), text);
    }
}
