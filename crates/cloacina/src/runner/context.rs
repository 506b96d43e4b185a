//! The context as Rust tasks and callers use it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::types::{self, Delta, Error, ErrorCode, Json, JsonError, Overlay, nearest};

/// An ordered map from string keys to JSON values: what an execution starts from, and what its tasks read and write.
///
/// Values are encoded when they are set and decoded when they are read, so that a task pays only for the keys that it
/// touches, and numbers keep their exact text. A stored `null` is present.
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
/// Since 0.1.
#[derive(Clone)]
pub struct Context {
    values: Overlay,
}

impl Context {
    /// An empty context. Since 0.1.
    #[must_use]
    pub fn new() -> Self {
        Self::from_values(Arc::default(), false)
    }

    /// The context of a JSON object.
    ///
    /// # Errors
    /// `ContextInvalid`, when the text is not a JSON object, or a value is nested deeper than 512 levels.
    ///
    /// Since 0.1.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let values = types::Context::from_json(text).map_err(|error| {
            invalid(format!(
                "not a JSON object that a context can hold: {error}"
            ))
        })?;
        Ok(Self::from_values(Arc::new(values), false))
    }

    /// The context of a value that serializes into an object, like a struct or a map.
    ///
    /// # Errors
    /// `ContextInvalid`, when the value is no object, or holds something that is not JSON.
    ///
    /// ```
    /// # use cloacina::Context;
    /// # use std::collections::BTreeMap;
    /// let context = Context::encode(&BTreeMap::from([("day", "2026-01-01")]))?;
    /// assert_eq!(context.get::<String>("day")?, "2026-01-01");
    /// # Ok::<(), cloacina::Error>(())
    /// ```
    ///
    /// Since 0.1.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let json = Json::encode(value)
            .map_err(|error| invalid(format!("the context cannot be encoded: {error}")))?;
        Self::from_json(json.as_str())
    }

    /// The whole context as a value, like a struct.
    ///
    /// # Errors
    /// `ContextInvalid`, when the value has another shape.
    ///
    /// Since 0.1.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.to_json())
            .map_err(|error| invalid(format!("the context cannot be decoded: {error}")))
    }

    /// The context as one JSON object. Since 0.1.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut values = self.values.clone();
        values.snapshot().to_json()
    }

    /// The value of a key.
    ///
    /// # Errors
    /// `ContextInvalid`, when the key is absent or its value has another shape than `T`; both name the key.
    ///
    /// Since 0.1.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T, Error> {
        match self.get_json(key) {
            Some(value) => decode(key, value),
            None => Err(self.absent(key)),
        }
    }

    /// The value of a key that may be absent.
    ///
    /// # Errors
    /// `ContextInvalid`, when the key is present and its value has another shape than `T`.
    ///
    /// Since 0.1.
    pub fn get_optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let value = self.get_json(key);
        value.map(|value| decode(key, value)).transpose()
    }

    /// The JSON text of a key's value. Since 0.1.
    #[must_use]
    pub fn get_json(&self, key: &str) -> Option<&Json> {
        self.values.get(key)
    }

    /// Sets a key; a new one goes to the end.
    ///
    /// # Errors
    /// `ContextInvalid`, when the value is not JSON, like a NaN.
    ///
    /// Since 0.1.
    pub fn set<T: Serialize>(&mut self, key: &str, value: T) -> Result<(), Error> {
        self.values.set(key, encode(key, &value)?);
        Ok(())
    }

    /// Sets a key that is absent.
    ///
    /// # Errors
    /// `ContextInvalid`, when the key is present or the value is not JSON.
    ///
    /// Since 0.1.
    pub fn insert<T: Serialize>(&mut self, key: &str, value: T) -> Result<(), Error> {
        if self.contains_key(key) {
            return Err(invalid(format!("the context has a key '{key}' already"))
                .with_hint("use `set` to write in either case, `update` to change"));
        }
        self.set(key, value)
    }

    /// Changes a key that is present.
    ///
    /// # Errors
    /// `ContextInvalid`, when the key is absent or the value is not JSON.
    ///
    /// Since 0.1.
    pub fn update<T: Serialize>(&mut self, key: &str, value: T) -> Result<(), Error> {
        if !self.contains_key(key) {
            return Err(self.absent(key));
        }
        self.set(key, value)
    }

    /// Removes a key and returns what it had.
    ///
    /// A task's removal counts as written: descendants do not see the key.
    ///
    /// Since 0.1.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        self.values.remove(key)
    }

    /// Whether a key is present. Since 0.1.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.values.contains(key)
    }

    /// Number of keys. Since 0.1.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no key. Since 0.1.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Keys and values in order. Since 0.1.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.values.iter().map(|(key, value)| (&**key, value))
    }

    /// A view of stored values; `is_task` keeps what is written apart from them.
    pub(super) fn from_values(values: Arc<types::Context>, is_task: bool) -> Self {
        Self {
            values: Overlay::new(values, is_task),
        }
    }

    pub(super) fn into_values(mut self) -> Arc<types::Context> {
        self.values.snapshot()
    }

    /// What was written.
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
    /// Equal keys and values, in any order.
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
        invalid(format!("the value for key '{key}' is not JSON: {problem}"))
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::ContextInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_what_is_not_json_is_refused_with_its_key() {
        let mut context = Context::new();
        let error = context.set("ratio", f64::NAN).unwrap_err();
        assert!(error.message.contains("'ratio'"), "{error}");
        assert!(context.is_empty());
    }

    #[test]
    fn insert_and_update_tell_present_from_absent() {
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
    fn get_names_the_key_the_shape_and_the_nearest_key() {
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
    fn integers_beyond_64_bits_survive() {
        let text = r#"{"n":123456789012345678901234567890}"#;
        assert_eq!(Context::from_json(text).unwrap().to_json(), text);
    }
}
