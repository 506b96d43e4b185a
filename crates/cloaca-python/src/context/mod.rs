//! `Context`: an ordered map from string keys to JSON values that behaves as a Python `MutableMapping`.

mod methods;

use std::sync::Arc;

use cloacina::types::sync::Mutex;
use cloacina::types::{self, Delta, Json, JsonShape, Overlay};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString};

use crate::content::{Content, Returned, ReturnedObjects};
use crate::context_arguments::{dict_of, key_error, key_text, pairs_of};
use crate::decoding::{decode, decode_with_parts};
use crate::encoding::encode;

/// The data of an execution: its input, what its tasks read and write, and its result.
///
/// An ordered map from string keys to JSON values. A value is encoded when it is set. A change inside a list or dict that was
/// read from the context counts as a write.
///
/// Encoding converts dataclass, attrs, pydantic and msgspec objects to JSON objects, `Enum` members to their values, dates to
/// ISO 8601 text, `timedelta` to seconds, `Decimal` and `UUID` to text, and tuples and sets to arrays.
///
/// Args:
///     data: The initial keys and values: a mapping with string keys.
///
/// Raises:
///     TypeError: `data` is not a mapping, a key is not a string, or a value has no JSON form.
///     ValueError: A value holds NaN, an infinity, or itself.
///
/// Example:
///     >>> context = cloaca.Context({"rows": [1, 2]})
///     >>> context["total"] = sum(context["rows"])
///     >>> context.to_dict()
///     {'rows': [1, 2], 'total': 3}
///
/// Since 1.0.
#[expect(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "Python's `help` shows this docstring, which is in Google's style"
)]
#[pyclass(frozen, mapping, module = "cloaca")]
pub struct Context {
    // Never locked while Python code can run.
    content: Mutex<Content>,
}

impl Context {
    /// Returns a task's context. It records the task's writes, which form the task's delta.
    pub fn of_task(base: Arc<types::Context>) -> Self {
        Self::new_content(Overlay::new(base, true))
    }

    /// Returns a context that does not record writes.
    pub fn plain(values: Arc<types::Context>) -> Self {
        Self::new_content(Overlay::new(values, false))
    }

    fn new_content(values: Overlay) -> Self {
        Self {
            content: Mutex::new(Content::new(values)),
        }
    }

    /// Returns the recorded writes. Changes inside lists and dicts are included if `_settle` was called after them.
    pub fn delta(&self) -> Delta {
        self.content.lock().values.delta()
    }

    /// Returns a copy of all keys and values, which later writes do not change.
    pub fn snapshot(&self, py: Python<'_>) -> PyResult<Arc<types::Context>> {
        self.store_changes(py)?;
        Ok(self.content.lock().values.snapshot())
    }

    /// Returns the value of a key. Every read of a list or dict returns the same object, so that changes inside the object
    /// can be found and stored.
    fn read<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            let content = self.content.lock();
            if let Some(object) = content.object(py, key) {
                return Ok(Some(object.into_bound(py)));
            }
            let Some(json) = content.values.get(key).cloned() else {
                return Ok(None);
            };
            drop(content);
            if !matches!(json.shape(), JsonShape::Array | JsonShape::Object) {
                return decode(py, &json).map(Some);
            }
            let (value, parts) = decode_with_parts(py, &json)?;
            let parts = parts.map(Arc::new);
            let kept = self.content.lock().keep(key, &json, &value, parts);
            // `None` means that another thread has just set or removed the key, so the key is read again.
            if let Some(kept) = kept {
                return Ok(Some(kept.into_bound(py)));
            }
        }
    }

    fn set_all<'a, 'py: 'a, K: AsRef<str> + 'a>(
        &self,
        pairs: impl Iterator<Item = (&'a K, Json, Option<&'a Bound<'py, PyAny>>)>,
    ) {
        let mut content = self.content.lock();
        let former: Vec<Returned> = pairs
            .filter_map(|(key, json, object)| content.set(key.as_ref(), json, object))
            .collect();
        drop(content);
        drop(former);
    }

    fn set_json(&self, key: &str, json: Json, object: Option<&Bound<'_, PyAny>>) {
        let former = self.content.lock().set(key, json, object);
        drop(former);
    }

    fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = key_text(key)?;
        let json = encode(key, value)?;
        self.set_json(key, json, Some(value));
        Ok(())
    }

    /// Sets all keys of a mapping, or none of them if a value has no JSON form.
    fn put_all(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(other) = data.cast::<Self>() {
            let other = other.get().snapshot(data.py())?;
            let pairs = other.iter().map(|(key, json)| (key, json.clone(), None));
            self.set_all(pairs);
            return Ok(());
        }
        let mut encoded: Vec<(String, Json, Bound<'_, PyAny>)> = Vec::new();
        for pair in pairs_of(data)? {
            let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
            let key = key_text(&key)?;
            encoded.push((key.to_owned(), encode(key, &value)?, value));
        }
        let pairs = encoded.iter();
        self.set_all(pairs.map(|(key, json, value)| (key, json.clone(), Some(value))));
        Ok(())
    }

    /// Removes a key and returns its value.
    fn take<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let removed = self.content.lock().remove(key);
        match removed {
            (Some(_), Some(returned)) => Ok(Some(returned.into_object(py))),
            (Some(json), None) => decode(py, &json).map(Some),
            (None, _) => Ok(None),
        }
    }

    /// Returns all keys and values. For a list or dict that was read before, returns the same object.
    fn live_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let content = self.content.lock();
        let pairs: Vec<(Arc<str>, Json, Option<Py<PyAny>>)> = content
            .values
            .iter()
            .map(|(key, json)| (Arc::clone(key), json.clone(), content.object(py, key)))
            .collect();
        drop(content);
        let dict = PyDict::new(py);
        for (key, json, object) in pairs {
            match object {
                Some(object) => dict.set_item(key.as_ref(), object)?,
                None => dict.set_item(key.as_ref(), decode(py, &json)?)?,
            }
        }
        Ok(dict)
    }

    fn is_unread(&self) -> bool {
        self.content.lock().is_unread()
    }

    /// Forgets the lists and dicts that reads have returned, and passes them to the caller. Later reads decode new ones.
    pub fn forget_returned(&self) -> ReturnedObjects {
        self.content.lock().forget()
    }

    fn key_vec(&self) -> Vec<Arc<str>> {
        let content = self.content.lock();
        let pairs = content.values.iter();
        pairs.map(|(key, _)| Arc::clone(key)).collect()
    }

    fn keys_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys = self.key_vec();
        PyList::new(py, keys.iter().map(|key| PyString::new(py, key)))
    }

    /// Sets an existing key. Fails if the key is missing.
    fn put_present(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = key_text(key)?;
        let json = encode(name, value)?;
        let mut content = self.content.lock();
        if content.values.contains(name) {
            let former = content.set(name, json, Some(value));
            drop(content);
            drop(former);
            return Ok(());
        }
        drop(content);
        Err(key_error(key, &self.key_vec()))
    }

    /// Compares with a context, a dict or another mapping.
    fn equals<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static MAPPING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = other.py();
        let theirs = if let Ok(context) = other.cast::<Self>() {
            let other = context.get();
            if self.is_unread()
                && other.is_unread()
                && *self.snapshot(py)? == *other.snapshot(py)?
            {
                return Ok(true.into_pyobject(py)?.to_owned().into_any());
            }
            other.live_dict(py)?
        } else if let Ok(dict) = other.cast::<PyDict>() {
            dict.clone()
        } else if other.is_instance(MAPPING.import(py, "collections.abc", "Mapping")?)? {
            dict_of(other)?
        } else {
            return Ok(py.NotImplemented().into_bound(py));
        };
        let equal = self.live_dict(py)?.eq(theirs)?;
        Ok(equal.into_pyobject(py)?.to_owned().into_any())
    }

    /// Stores the changes that were made inside returned lists and dicts.
    fn store_changes(&self, py: Python<'_>) -> PyResult<()> {
        let content = self.content.lock();
        if content.is_unread() {
            return Ok(());
        }
        let objects = content.objects(py);
        drop(content);
        for (key, returned) in objects {
            if let Some(now) = returned.changed(py, &key)? {
                let former = self.content.lock().update(py, &key, returned.json(), now);
                drop(former);
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> PyResult<Arc<types::Context>> {
    let context = types::Context::from_json(text).map_err(|error| {
        PyValueError::new_err(format!(
            "not a JSON object that a context can hold: {error}"
        ))
    })?;
    Ok(Arc::new(context))
}
