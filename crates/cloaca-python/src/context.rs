//! `Context`: an ordered map from string keys to JSON values that behaves as a Python `MutableMapping`.
#![expect(
    clippy::doc_markdown,
    reason = "the docstrings are read by Python's `help`"
)]

use std::sync::Arc;

use cloacina::types::sync::Mutex;
use cloacina::types::{self, Delta, Json, Overlay};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::context_arguments::{dict_of, key_and_value, key_text, missing_key, pairs_of};
use crate::decoding::decode;
use crate::encoding::encode;

/// The data of an execution: its input, what its tasks read and write, and its result.
///
/// An ordered map from string keys to JSON values. A value is encoded when it is set, and each read returns a new
/// object: to change a list inside a context, set it again. Dataclass, attrs, pydantic and msgspec objects become objects,
/// `Enum` members their values, dates ISO 8601 text, `timedelta` seconds, `Decimal` and `UUID` text, tuples and sets
/// arrays.
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
/// Since 0.1.
#[expect(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "Python's docstring, in Google's style"
)]
#[pyclass(frozen, mapping, module = "cloaca")]
pub struct Context {
    // Never locked while Python code can run.
    content: Mutex<Overlay>,
}

impl Context {
    /// Returns the context that a task gets. It records writes as the task's delta.
    pub fn of_task(base: Arc<types::Context>) -> Self {
        Self {
            content: Mutex::new(Overlay::new(base, true)),
        }
    }

    /// Returns a context that does not record writes.
    pub fn plain(values: Arc<types::Context>) -> Self {
        Self {
            content: Mutex::new(Overlay::new(values, false)),
        }
    }

    /// Returns the recorded writes.
    pub fn delta(&self) -> Delta {
        self.content.lock().delta()
    }

    /// Returns all keys and values; later writes do not change them.
    pub fn snapshot(&self) -> Arc<types::Context> {
        self.content.lock().snapshot()
    }

    fn json(&self, key: &str) -> Option<Json> {
        self.content.lock().get(key).cloned()
    }

    fn put(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = key_text(key)?;
        let json = encode(key, value)?;
        self.content.lock().set(key, json);
        Ok(())
    }

    /// Sets all pairs of a mapping, or none of them if one has no JSON form.
    fn put_all(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut pairs: Vec<(Arc<str>, Json)> = Vec::new();
        if let Ok(other) = data.cast::<Self>() {
            let other = other.get().snapshot();
            pairs.extend(
                other
                    .iter()
                    .map(|(key, value)| (Arc::clone(key), value.clone())),
            );
        } else {
            for pair in pairs_of(data)? {
                let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
                let key = key_text(&key)?;
                pairs.push((key.into(), encode(key, &value)?));
            }
        }
        let mut content = self.content.lock();
        for (key, json) in pairs {
            content.set(&key, json);
        }
        Ok(())
    }

    fn key_vec(&self) -> Vec<Arc<str>> {
        let content = self.content.lock();
        content.iter().map(|(key, _)| Arc::clone(key)).collect()
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
        match self.json(key_text(key)?) {
            Some(json) => decode(key.py(), &json),
            None => Err(PyKeyError::new_err(key.clone().unbind())),
        }
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put(key, value)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let removed = self.content.lock().remove(key_text(key)?);
        removed
            .map(drop)
            .ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys_list(py)?.call_method0("__iter__")
    }

    fn __reversed__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys_list(py)?.call_method0("__reversed__")
    }

    fn __len__(&self) -> usize {
        self.content.lock().len()
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        match key.cast::<PyString>() {
            Ok(key) => Ok(self.content.lock().contains(key.to_str()?)),
            Err(_) => Ok(false),
        }
    }

    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static MAPPING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = other.py();
        let theirs = if let Ok(context) = other.cast::<Self>() {
            let (mine, theirs) = (self.snapshot(), context.get().snapshot());
            if *mine == *theirs {
                return Ok(true.into_pyobject(py)?.to_owned().into_any());
            }
            context.get().to_dict(py)?
        } else if let Ok(dict) = other.cast::<PyDict>() {
            dict.clone()
        } else if other.is_instance(MAPPING.import(py, "collections.abc", "Mapping")?)? {
            dict_of(other)?
        } else {
            return Ok(py.NotImplemented().into_bound(py));
        };
        let equal = self.to_dict(py)?.eq(theirs)?;
        Ok(equal.into_pyobject(py)?.to_owned().into_any())
    }

    fn __or__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        let joined = self.copy();
        joined.put_all(other)?;
        Ok(joined)
    }

    fn __ror__(&self, other: &Bound<'_, PyAny>) -> PyResult<Self> {
        let joined = Self::new(Some(other))?;
        for (key, json) in self.snapshot().iter() {
            joined.content.lock().set(key, json.clone());
        }
        Ok(joined)
    }

    fn __ior__(&self, other: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_all(other)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let dict = self.to_dict(py)?.repr()?;
        Ok(format!("Context({})", dict.to_string_lossy()))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyAny>, Bound<'py, PyTuple>, String) {
        (
            slf.get_type().into_any(),
            PyTuple::empty(slf.py()),
            slf.get().to_json(),
        )
    }

    fn __setstate__(&self, text: &str) -> PyResult<()> {
        *self.content.lock() = Overlay::new(parse(text)?, false);
        Ok(())
    }

    /// Return the value of a key, or a default. A stored `None` counts as present.
    ///
    /// Args:
    ///     key: The key.
    ///     default: The result if the key is missing.
    ///
    /// Since 0.1.
    #[pyo3(signature = (key, default=None))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.json(key_text(key)?) {
            Some(json) => decode(key.py(), &json).map(Some),
            None => Ok(default),
        }
    }

    /// Return the value of a key that must be present.
    ///
    /// Args:
    ///     key: The key.
    ///
    /// Raises:
    ///     ContextError: The key is missing; the hint names the nearest key.
    ///
    /// Since 0.1.
    fn get_required<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let name = key_text(key)?;
        match self.json(name) {
            Some(json) => decode(key.py(), &json),
            None => Err(missing_key(key.py(), name, &self.key_vec())),
        }
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
    /// Since 0.1.
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
    /// Since 0.1.
    fn insert(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = key_text(key)?;
        let json = encode(name, value)?;
        let mut content = self.content.lock();
        if content.contains(name) {
            drop(content);
            return Err(PyValueError::new_err(format!(
                "the context already has the key '{name}'; use set or update to change it"
            )));
        }
        content.set(name, json);
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
    /// Since 0.1.
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
            if content.contains(name) {
                content.set(name, json);
                return Ok(());
            }
            drop(content);
            return Err(PyKeyError::new_err(key.unbind()));
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
    /// Since 0.1.
    fn remove<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let removed = self.content.lock().remove(key_text(key)?);
        removed.map(|json| decode(key.py(), &json)).transpose()
    }

    /// Remove a key that must be present: the same as `del context[key]`.
    ///
    /// Args:
    ///     key: The key.
    ///
    /// Raises:
    ///     KeyError: The key is missing.
    ///
    /// Since 0.1.
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
    /// Since 0.1.
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
                .map_err(|_| PyKeyError::new_err(key.clone().unbind())),
        }
    }

    /// Remove the last key and return it with its value.
    ///
    /// Raises:
    ///     KeyError: The context is empty.
    ///
    /// Since 0.1.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(String, Bound<'py, PyAny>)> {
        let mut content = self.content.lock();
        let last = content.last_key();
        let removed = last.and_then(|key| content.remove(&key).map(|json| (key, json)));
        drop(content);
        let (key, json) = removed.ok_or_else(|| PyKeyError::new_err("the context is empty"))?;
        Ok((key.as_ref().to_owned(), decode(py, &json)?))
    }

    /// Return the value of a key, and set it first if it is missing.
    ///
    /// Args:
    ///     key: The key.
    ///     default: The value to set.
    ///
    /// Since 0.1.
    #[pyo3(signature = (key, default=None))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = key_text(key)?;
        let py = key.py();
        if let Some(json) = self.json(name) {
            return decode(py, &json);
        }
        let json = encode(name, &default.unwrap_or_else(|| py.None().into_bound(py)))?;
        self.content.lock().set(name, json.clone());
        decode(py, &json)
    }

    /// Remove all keys. Since 0.1.
    fn clear(&self) {
        self.content.lock().clear();
    }

    /// Return a view of the keys. Since 0.1.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "KeysView")?
            .call1((slf,))
    }

    /// Return a view of the values. Since 0.1.
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "ValuesView")?
            .call1((slf,))
    }

    /// Return a view of the pairs of keys and values. Since 0.1.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "ItemsView")?
            .call1((slf,))
    }

    /// Return all keys and values as a new dict. Since 0.1.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.snapshot();
        let dict = PyDict::new(py);
        for (key, json) in snapshot.iter() {
            dict.set_item(key.as_ref(), decode(py, json)?)?;
        }
        Ok(dict)
    }

    /// All keys and values as a new dict, like `to_dict()`. Since 0.1.
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
    /// Since 0.1.
    fn update_from_dict(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_all(data)
    }

    /// Return the context as the compact text of a JSON object. Since 0.1.
    fn to_json(&self) -> String {
        self.snapshot().to_json()
    }

    /// Return a context with the keys and values of a JSON object.
    ///
    /// Args:
    ///     text: The text of a JSON object.
    ///
    /// Raises:
    ///     ValueError: It is not the text of a JSON object, or a value is nested deeper than 512 levels.
    ///
    /// Since 0.1.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        parse(text).map(Self::plain)
    }

    /// Return a separate context with the same keys and values. Since 0.1.
    fn copy(&self) -> Self {
        Self::plain(self.snapshot())
    }

    /// Become a copy of `other`. The differences count as writes.
    #[pyo3(name = "_replace_with")]
    fn replace_with(&self, other: &Bound<'_, Self>) {
        if std::ptr::eq(self, other.get()) {
            return;
        }
        let other = other.get().snapshot();
        self.content.lock().replace_with(&other);
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
