//! The methods of `Context` that Python calls.
#![expect(
    clippy::doc_markdown,
    reason = "the docstrings are read by Python's `help`"
)]

use std::sync::Arc;

use cloacina::types::Overlay;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::{Context, parse};
use crate::content::Content;
use crate::context_arguments::{key_and_value, key_error, key_text, missing_key};
use crate::decoding::decode;
use crate::encoding::encode;

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

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> bool {
        // A lone surrogate is not valid UTF-8, so no key contains one.
        let key = key.cast::<PyString>();
        let key = key.ok().and_then(|key| key.to_str().ok());
        key.is_some_and(|key| self.content.lock().values.contains(key))
    }

    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.equals(other)
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

    /// Return the value of a key, or a default if the key is missing. A key whose value is `None` is not missing.
    ///
    /// Every read of a list or dict returns the same object, and a change inside the object counts as a write. The default is
    /// not stored in the context; `setdefault` stores its default.
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

    /// Set a key, whether or not the key is present, like `context[key] = value`.
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
    /// With other arguments it works like `dict.update`: `update(mapping)`, `update(pairs)`, `update(name=value)`.
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
            return self.put_present(&key, &value);
        }
        if args.len() > 1 {
            return Err(PyTypeError::new_err(format!(
                "update got {} positional and {} named arguments; it takes a key and a value, or one mapping, or keywords",
                args.len(),
                kwargs.map_or(0, PyDictMethods::len)
            )));
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
    ///     The removed value, or `None` if the key is missing.
    ///
    /// Since 1.0.
    fn remove<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.take(key.py(), key_text(key)?)
    }

    /// Remove a key that must be present, like `del context[key]`.
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
            return Err(PyTypeError::new_err(format!(
                "pop got {} defaults; it takes a key and at most one default",
                default.len()
            )));
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
            // If another thread has just removed the key, the loop takes the new last key.
            if let Some(value) = self.take(py, &key)? {
                return Ok((key.as_ref().to_owned(), value));
            }
        }
    }

    /// Return the value of a key. If the key is missing, set it to the default first.
    ///
    /// Args:
    ///     key: The key.
    ///     default: The value to set.
    ///
    /// Raises:
    ///     TypeError: The key is missing, and the default has no JSON form.
    ///     ValueError: The key is missing, and the default holds NaN, an infinity, or itself.
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
            // If another thread has just set the key, this thread's default is not stored.
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

    /// A new dict with all keys and values, like `to_dict()`. Since 1.0.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.to_dict(py)
    }

    /// Set all keys of a mapping, or none of them if a value has no JSON form.
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

    /// Return the context as a JSON object: compact text, without white space. Since 1.0.
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.snapshot(py)?.to_json())
    }

    /// Return a context with the keys and values of a JSON object.
    ///
    /// Args:
    ///     text: The text of a JSON object.
    ///
    /// Raises:
    ///     ValueError: `text` is not a JSON object, or a value is nested deeper than 512 levels.
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

    /// Return the JSON text of a key's value, or `None` if the key is missing.
    #[pyo3(name = "_raw")]
    fn raw(&self, py: Python<'_>, key: &str) -> PyResult<Option<String>> {
        self.settle(py)?;
        Ok(self
            .content
            .lock()
            .values
            .get(key)
            .map(|json| json.as_str().to_owned()))
    }

    /// Return a key's value as a new object, or `missing` if the key is missing. A change inside the new object does not count
    /// as a write.
    #[pyo3(name = "_decoded")]
    fn decoded<'py>(&self, key: &str, missing: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = missing.py();
        self.settle(py)?;
        let json = self.content.lock().values.get(key).cloned();
        match json {
            Some(json) => decode(py, &json),
            None => Ok(missing),
        }
    }

    /// Replace all keys and values with those of `other`. Every key that changes counts as a write.
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

    /// Store the changes that were made inside returned lists and dicts. Methods that return JSON text or copies of values
    /// call this first.
    #[pyo3(name = "_settle")]
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.store_changes(py)
    }
}
