//! `Context`: an ordered map from string keys to JSON values, with the protocol of a mutable mapping.
#![expect(
    clippy::doc_markdown,
    reason = "the docstrings are read by Python's `help`"
)]

use std::sync::Arc;

use cloacina::types::sync::Mutex;
use cloacina::types::{self, Delta, Error, ErrorCode, Json, Overlay, nearest};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::decoding::decode;
use crate::encoding::encode;
use crate::errors::exception;

/// The data that an execution starts from, that its tasks read and write, and that it ends with.
///
/// An ordered map from string keys to JSON values. A value is encoded when it is set, and `get` returns a fresh one:
/// to change a list inside a context, set it again. Dataclass, attrs, pydantic and msgspec objects become objects,
/// `Enum` members their values, dates ISO 8601 text, `timedelta` seconds, `Decimal` and `UUID` text, tuples and sets
/// arrays.
///
/// Args:
///     data: What it holds at first; a mapping with string keys.
///
/// Raises:
///     TypeError: `data` is no mapping, a key is no string, or a value has no JSON form.
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
    // Held only for moments in which no Python code can run.
    content: Mutex<Overlay>,
}

impl Context {
    /// What a task sees; its writes are its delta.
    pub fn of_task(base: Arc<types::Context>) -> Self {
        Self {
            content: Mutex::new(Overlay::new(base, true)),
        }
    }

    /// Values that nobody counts writes of.
    pub fn plain(values: Arc<types::Context>) -> Self {
        Self {
            content: Mutex::new(Overlay::new(values, false)),
        }
    }

    /// What was written.
    pub fn delta(&self) -> Delta {
        self.content.lock().delta()
    }

    /// Everything, as a value that later writes do not change.
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

    /// Sets all pairs of a mapping, or none when one of them has no JSON form.
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

    fn keys_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys: Vec<Arc<str>> = self
            .content
            .lock()
            .iter()
            .map(|(key, _)| Arc::clone(key))
            .collect();
        PyList::new(py, keys.iter().map(|key| PyString::new(py, key)))
    }

    fn missing(&self, py: Python<'_>, key: &str) -> PyErr {
        let keys: Vec<Arc<str>> = self
            .content
            .lock()
            .iter()
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let error = Error::new(
            ErrorCode::ContextInvalid,
            format!("the context has no key '{key}'"),
        );
        let hint = match nearest(key, keys.iter().map(AsRef::as_ref)) {
            Some(near) => format!("did you mean '{near}'?"),
            None if keys.is_empty() => "it is empty".to_owned(),
            None => {
                let shown: Vec<&str> = keys.iter().take(10).map(AsRef::as_ref).collect();
                format!(
                    "it has {}{}",
                    shown.join(", "),
                    if keys.len() > 10 { ", …" } else { "" }
                )
            }
        };
        exception(py, &error.with_hint(hint))
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

    /// The value of a key, or a default. A stored `None` is present.
    ///
    /// Args:
    ///     key: The key.
    ///     default: What to return where there is no such key.
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

    /// The value of a key that must be there.
    ///
    /// Args:
    ///     key: The key.
    ///
    /// Raises:
    ///     ContextError: There is no such key; the hint names the nearest.
    ///
    /// Since 0.1.
    fn get_required<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let name = key_text(key)?;
        match self.json(name) {
            Some(json) => decode(key.py(), &json),
            None => Err(self.missing(key.py(), name)),
        }
    }

    /// Sets a key, whether it is present or not: the same as `context[key] = value`.
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

    /// Sets a new key.
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
                "the context has the key '{name}' already; use set or update to change it"
            )));
        }
        content.set(name, json);
        Ok(())
    }

    /// `update(key, value)` changes a key that is present; `KeyError` where it is not.
    ///
    /// With anything else it is `dict.update`: `update(mapping)`, `update(pairs)`, `update(name=value)`.
    ///
    /// Raises:
    ///     KeyError: `update(key, value)` of a key that is not present.
    ///     TypeError: A key is no string, or a value has no JSON form.
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

    /// Removes a key.
    ///
    /// Args:
    ///     key: The key.
    ///
    /// Returns:
    ///     Its value, or `None` where there is no such key.
    ///
    /// Since 0.1.
    fn remove<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let removed = self.content.lock().remove(key_text(key)?);
        removed.map(|json| decode(key.py(), &json)).transpose()
    }

    /// The same as `del context[key]`.
    ///
    /// Args:
    ///     key: The key.
    ///
    /// Raises:
    ///     KeyError: There is no such key.
    ///
    /// Since 0.1.
    fn delete(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        self.__delitem__(key)
    }

    /// Removes a key and returns its value.
    ///
    /// Args:
    ///     key: The key.
    ///     default: What to return where there is no such key.
    ///
    /// Raises:
    ///     KeyError: There is neither the key nor a default.
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

    /// Removes the last key and returns it with its value.
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

    /// The value of a key, which is set first where it is not present.
    ///
    /// Args:
    ///     key: The key.
    ///     default: What to set.
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

    /// Removes every key. Since 0.1.
    fn clear(&self) {
        self.content.lock().clear();
    }

    /// A view of the keys. Since 0.1.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "KeysView")?
            .call1((slf,))
    }

    /// A view of the values. Since 0.1.
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "ValuesView")?
            .call1((slf,))
    }

    /// A view of the keys with their values. Since 0.1.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static VIEW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        VIEW.import(slf.py(), "collections.abc", "ItemsView")?
            .call1((slf,))
    }

    /// All keys and values as a new dict. Since 0.1.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = self.snapshot();
        let dict = PyDict::new(py);
        for (key, json) in snapshot.iter() {
            dict.set_item(key.as_ref(), decode(py, json)?)?;
        }
        Ok(dict)
    }

    /// The same as `to_dict()`. Since 0.1.
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.to_dict(py)
    }

    /// Sets all pairs of a mapping, or none when one of them has no JSON form.
    ///
    /// Args:
    ///     data: The mapping; its keys are strings.
    ///
    /// Raises:
    ///     TypeError: A key is no string, or a value has no JSON form.
    ///     ValueError: A value holds NaN, an infinity, or itself.
    ///
    /// Since 0.1.
    fn update_from_dict(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.put_all(data)
    }

    /// The context as the compact text of a JSON object. Since 0.1.
    fn to_json(&self) -> String {
        self.snapshot().to_json()
    }

    /// A context from the text of a JSON object.
    ///
    /// Args:
    ///     text: The text.
    ///
    /// Raises:
    ///     ValueError: It is not the text of a JSON object, or a value is nested deeper than 512 levels.
    ///
    /// Since 0.1.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        parse(text).map(Self::plain)
    }

    /// A context of its own with the same keys and values. Since 0.1.
    fn copy(&self) -> Self {
        Self::plain(self.snapshot())
    }

    /// Becomes a copy of `other`; the difference counts as written.
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

fn key_text<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    match key.cast::<PyString>() {
        Ok(text) => text.to_str().map_err(|_| {
            PyValueError::new_err("a context key with a lone surrogate is not Unicode text")
        }),
        Err(_) => Err(PyTypeError::new_err(format!(
            "context keys are strings, not {}: {}",
            key.get_type().qualname()?.to_string_lossy(),
            key.repr()?.to_string_lossy()
        ))),
    }
}

/// The arguments of the established `update(key, value)`.
fn key_and_value<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let named = kwargs.map_or(0, PyDictMethods::len);
    if args.len() + named != 2 {
        return Ok(None);
    }
    let by_name = |name| match kwargs {
        Some(kwargs) => kwargs.get_item(name),
        None => Ok(None),
    };
    let (key, value) = match args.len() {
        2 => (Some(args.get_item(0)?), Some(args.get_item(1)?)),
        1 => match args.get_item(0)?.cast::<PyString>() {
            Ok(key) => (Some(key.clone().into_any()), by_name("value")?),
            Err(_) => (None, None),
        },
        _ => (by_name("key")?, by_name("value")?),
    };
    Ok(key.zip(value))
}

/// The pairs of a mapping, or of an iterable of pairs, as a list that nobody else changes.
fn pairs_of<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    match data.cast_exact::<PyDict>() {
        Ok(dict) => Ok(dict.items()),
        Err(_) => Ok(dict_of(data)?.items()),
    }
}

fn dict_of<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // `dict` would take a text for pairs, and say something about its first letter.
    let is_text = data.is_instance_of::<PyString>() || data.is_instance_of::<PyBytes>();
    if is_text || (data.try_iter().is_err() && !data.hasattr("keys")?) {
        return Err(PyTypeError::new_err(format!(
            "a context is made of a mapping from names to values, such as {{'day': 1}}, not of a value of type '{}'",
            data.get_type().qualname()?
        )));
    }
    let dict = PyDict::new(data.py());
    dict.call_method1("update", (data,))?;
    Ok(dict)
}
