//! `Context`: an ordered map from string keys to JSON values that behaves as a Python `MutableMapping`.
#![expect(
    clippy::doc_markdown,
    reason = "the docstrings are read by Python's `help`"
)]

use std::sync::Arc;

use cloacina::types::sync::Mutex;
use cloacina::types::{self, Delta, Json, JsonShape, Overlay};
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::content::{Content, Returned};
use crate::context_arguments::{
    dict_of, key_and_value, key_error, key_text, missing_key, pairs_of,
};
use crate::decoding::{decode, decode_with_parts};
use crate::encoding::encode;

/// The data of an execution: its input, what its tasks read and write, and its result.
///
/// An ordered map from string keys to JSON values. A value is encoded when it is set. A list or dict that was read and then
/// changed in place counts as written. Dataclass, attrs, pydantic and msgspec objects become objects, `Enum` members their
/// values, dates ISO 8601 text, `timedelta` seconds, `Decimal` and `UUID` text, tuples and sets arrays.
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
    reason = "Python's docstring, in Google's style"
)]
#[pyclass(frozen, mapping, module = "cloaca")]
pub struct Context {
    // Never locked while Python code can run.
    content: Mutex<Content>,
}

impl Context {
    /// Returns the context that a task gets. It records writes as the task's delta.
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

    /// Returns the recorded writes, those inside objects as of the last `_settle`.
    pub fn delta(&self) -> Delta {
        self.content.lock().values.delta()
    }

    /// Returns all keys and values; later writes do not change them.
    pub fn snapshot(&self, py: Python<'_>) -> PyResult<Arc<types::Context>> {
        self.settle(py)?;
        Ok(self.content.lock().values.snapshot())
    }

    /// Returns the value of a key. A list or dict is the same object at each read, so that changes inside it can be stored.
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
            // Else another thread has set the key meanwhile.
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

    /// Sets all pairs of a mapping, or none of them if one has no JSON form.
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

    /// Returns all keys and values, lists and dicts as the objects that reads have returned.
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

    fn key_vec(&self) -> Vec<Arc<str>> {
        let content = self.content.lock();
        let pairs = content.values.iter();
        pairs.map(|(key, _)| Arc::clone(key)).collect()
    }

    fn keys_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys = self.key_vec();
        PyList::new(py, keys.iter().map(|key| PyString::new(py, key)))
    }
}

#[pymethods]
impl Context {
    #[new]
    #[pyo3(signature = (data=None))]
    fn new(data: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let context = Self::plain(Arc::default());
        if let Some(data) = data {
            context.put_all(data)?;
        }
        Ok(context)
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let value = self.read(key.py(), key_text(key)?)?;
        value.ok_or_else(|| key_error(key, &self.key_vec()))
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let removed = self.content.lock().remove(key_text(key)?);
        match removed {
            (Some(_), _) => Ok(()),
            (None, _) => Err(key_error(key, &self.key_vec())),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys_list(py)?.call_method0("__iter__")
    }

    fn __reversed__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys_list(py)?.call_method0("__reversed__")
    }

    fn __len__(&self) -> usize {
        self.content.lock().values.len()
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        match key.cast::<PyString>() {
            Ok(key) => Ok(self.content.lock().values.contains(key.to_str()?)),
            Err(_) => Ok(false),
        }
    }

    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
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

    fn __or__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        let joined = self.copy(other.py())?;
        joined.put_all(other)?;
        Ok(joined)
    }

    fn __ror__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        let joined = Self::new(Some(other))?;
        for (key, json) in self.snapshot(other.py())?.iter() {
            joined.set_json(key, json.clone(), None);
        }
        Ok(joined)
    }

    fn __ior__(&self, other: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_all(other)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let dict = self.live_dict(py)?.repr()?;
        Ok(format!("Context({})", dict.to_string_lossy()))
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>, String)> {
        let text = slf.get().to_json(slf.py())?;
        Ok((slf.get_type().into_any(), PyTuple::empty(slf.py()), text))
    }

    fn __setstate__(&self, text: &str) -> PyResult<()> {
        let content = Content::new(Overlay::new(parse(text)?, false));
        let former = std::mem::replace(&mut *self.content.lock(), content);
        drop(former);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.content.lock().visit(|object| visit.call(object))
    }

    fn __clear__(&self) {
        let forgotten = self.content.lock().forget();
        drop(forgotten);
    }

    /// Return the value of a key, or a default. A stored `None` counts as present.
    ///
    /// A list or dict is the same object at each read, and a change inside it counts as written. A default does not become
    /// part of the context; `setdefault` stores one.
    ///
    /// Args:
    ///     key: The key.
    ///     default: The result if the key is missing.
    ///
    /// Since 1.0.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.read(key.py(), key_text(key)?)?.or(default))
    }

    /// Return the value of a key that must be present.
    ///
    /// Args:
    ///     key: The key.
    ///
    /// Raises:
    ///     ContextError: The key is missing; the hint names the nearest key.
    ///
    /// Since 1.0.
    fn get_required<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let name = key_text(key)?;
        let value = self.read(key.py(), name)?;
        value.ok_or_else(|| missing_key(key.py(), name, &self.key_vec()))
    }

    /// Set a key, whether or not it is present: the same as `context[key] = value`.
    ///
    /// Args:
    ///     key: The key.
    ///     value: A value with a JSON form.
    ///
    /// Raises:
    ///     TypeError: The value has no JSON form; the message names the key.
    ///     ValueError: The value holds NaN, an infinity, or itself.
    ///
    /// Since 1.0.
    fn set(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value)
    }

    /// Set a key that is not present yet.
    ///
    /// Args:
    ///     key: The key.
    ///     value: A value with a JSON form.
    ///
    /// Raises:
    ///     ValueError: The key is present, or the value holds NaN, an infinity, or itself.
    ///     TypeError: The value has no JSON form.
    ///
    /// Since 1.0.
    fn insert(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = key_text(key)?;
        let json = encode(name, value)?;
        let mut content = self.content.lock();
        if content.values.contains(name) {
            drop(content);
            return Err(PyValueError::new_err(format!(
                "the context already has the key '{name}'; use set or update to change it"
            )));
        }
        content.values.set(name, json);
        Ok(())
    }

    /// Change a key that is present: `update(key, value)`.
    ///
    /// With other arguments it works as `dict.update`: `update(mapping)`, `update(pairs)`, `update(name=value)`.
    ///
    /// Raises:
    ///     KeyError: `update(key, value)` was called and the key is missing.
    ///     TypeError: A key is not a string, or a value has no JSON form.
    ///     ValueError: A value holds NaN, an infinity, or itself.
    ///
    /// Since 1.0.
    #[pyo3(signature = (*args, **kwargs))]
    fn update(
        &self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        if let Some((key, value)) = key_and_value(args, kwargs)? {
            let name = key_text(&key)?;
            let json = encode(name, &value)?;
            let mut content = self.content.lock();
            if content.values.contains(name) {
                let former = content.set(name, json, Some(&value));
                drop(content);
                drop(former);
                return Ok(());
            }
            drop(content);
            return Err(key_error(&key, &self.key_vec()));
        }
        if args.len() > 1 {
            return Err(PyTypeError::new_err(
                "update takes a key and a value, or one mapping, or keywords",
            ));
        }
        if let Ok(data) = args.get_item(0) {
            self.put_all(&data)?;
        }
        kwargs.map_or(Ok(()), |named| self.put_all(named))
    }

    /// Remove a key.
    ///
    /// Args:
    ///     key: The key.
    ///
    /// Returns:
    ///     Its value, or `None` if the key is missing.
    ///
    /// Since 1.0.
    fn remove<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.take(key.py(), key_text(key)?)
    }

    /// Remove a key that must be present: the same as `del context[key]`.
    ///
    /// Args:
    ///     key: The key.
    ///
    /// Raises:
    ///     KeyError: The key is missing.
    ///
    /// Since 1.0.
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.__delitem__(key)
    }

    /// Remove a key and return its value.
    ///
    /// Args:
    ///     key: The key.
    ///     default: The result if the key is missing.
    ///
    /// Raises:
    ///     KeyError: The key is missing and no default was given.
    ///
    /// Since 1.0.
    #[pyo3(signature = (key, *default), text_signature = "($self, key, default=<missing>, /)")]
    fn pop<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if default.len() > 1 {
            return Err(PyTypeError::new_err(
                "pop takes a key and at most one default",
            ));
        }
        match self.remove(key)? {
            Some(value) => Ok(value),
            None => default
                .get_item(0)
                .map_err(|_| key_error(key, &self.key_vec())),
        }
    }

    /// Remove the last key and return it with its value.
    ///
    /// Raises:
    ///     KeyError: The context is empty.
    ///
    /// Since 1.0.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(String, Bound<'py, PyAny>)> {
        loop {
            let last = self.content.lock().values.last_key();
            let key = last.ok_or_else(|| PyKeyError::new_err("the context is empty"))?;
            // Else another thread has removed it meanwhile.
            if let Some(value) = self.take(py, &key)? {
                return Ok((key.as_ref().to_owned(), value));
            }
        }
    }

    /// Return the value of a key, and set it first if it is missing.
    ///
    /// Args:
    ///     key: The key.
    ///     default: The value to set.
    ///
    /// Since 1.0.
    #[pyo3(signature = (key, default=None))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = key_text(key)?;
        let py = key.py();
        loop {
            if let Some(value) = self.read(py, name)? {
                return Ok(value);
            }
            let json = match default {
                Some(default) => encode(name, default)?,
                None => encode(name, py.None().bind(py))?,
            };
            let mut content = self.content.lock();
            // Else another thread has set it meanwhile.
            if !content.values.contains(name) {
                content.values.set(name, json);
            }
        }
    }

    /// Remove all keys. Since 1.0.
    fn clear(&self) {
        let mut content = self.content.lock();
        content.values.clear();
        let forgotten = content.forget();
        drop(content);
        drop(forgotten);
    }

    /// Return a view of the keys. Since 1.0.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "KeysView")?
            .call1((slf,))
    }

    /// Return a view of the values. Since 1.0.
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "ValuesView")?
            .call1((slf,))
    }

    /// Return a view of the pairs of keys and values. Since 1.0.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "ItemsView")?
            .call1((slf,))
    }

    /// Return all keys and values as a new dict. Since 1.0.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.snapshot(py)?;
        let dict = PyDict::new(py);
        for (key, json) in snapshot.iter() {
            dict.set_item(key.as_ref(), decode(py, json)?)?;
        }
        Ok(dict)
    }

    /// All keys and values as a new dict, like `to_dict()`. Since 1.0.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.to_dict(py)
    }

    /// Set all pairs of a mapping, or none of them if one has no JSON form.
    ///
    /// Args:
    ///     data: A mapping with string keys.
    ///
    /// Raises:
    ///     TypeError: A key is not a string, or a value has no JSON form.
    ///     ValueError: A value holds NaN, an infinity, or itself.
    ///
    /// Since 1.0.
    fn update_from_dict(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_all(data)
    }

    /// Return the context as the compact text of a JSON object. Since 1.0.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.snapshot(py)?.to_json())
    }

    /// Return a context with the keys and values of a JSON object.
    ///
    /// Args:
    ///     text: The text of a JSON object.
    ///
    /// Raises:
    ///     ValueError: It is not the text of a JSON object, or a value is nested deeper than 512 levels.
    ///
    /// Since 1.0.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        parse(text).map(Self::plain)
    }

    /// Return a separate context with the same keys and values. Since 1.0.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        self.snapshot(py).map(Self::plain)
    }

    /// Become a copy of `other`. The differences count as writes.
    #[pyo3(name = "_replace_with")]
    fn replace_with(&self, other: &Bound<'_, Self>) -> PyResult<()> {
        if std::ptr::eq(self, other.get()) {
            return self.settle(other.py());
        }
        let other = other.get().snapshot(other.py())?;
        let mut content = self.content.lock();
        content.values.replace_with(&other);
        let forgotten = content.forget();
        drop(content);
        drop(forgotten);
        Ok(())
    }

    /// Store the changes inside lists and dicts that reads have returned. Every method that looks at values does this first.
    #[pyo3(name = "_settle")]
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
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
