//! The arguments of the methods of `Context`: keys, mappings and pairs.

use std::sync::Arc;

use cloacina::types::{self, Error, ErrorCode, nearest};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::errors::exception;

/// Returns the text of a key. Raises `TypeError` if the key is not a string, and `ValueError` for a lone surrogate.
pub fn key_text<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
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

/// Returns the arguments of a call `update(key, value)`, or `None` for a call in the style of `dict.update`.
pub fn key_and_value<'py>(
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

/// Returns the pairs of a mapping, or of an iterable of pairs, as a new list.
pub fn pairs_of<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    match data.cast_exact::<PyDict>() {
        Ok(dict) => Ok(dict.items()),
        Err(_) => Ok(dict_of(data)?.items()),
    }
}

/// Returns a new dict with the pairs of a mapping, or of an iterable of pairs.
pub fn dict_of<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // Without this check, `dict` would read a string as a sequence of pairs and complain about its first letter.
    let is_text = data.is_instance_of::<PyString>() || data.is_instance_of::<PyBytes>();
    if is_text || (data.try_iter().is_err() && !data.hasattr("keys")?) {
        return Err(PyTypeError::new_err(format!(
            "a context takes a mapping from names to values, such as {{'day': 1}}, not a value of type '{}'",
            data.get_type().qualname()?
        )));
    }
    let dict = PyDict::new(data.py());
    dict.call_method1("update", (data,))?;
    Ok(dict)
}

/// Returns the `KeyError` for a missing key. The error's argument equals the key. The error's text names the most similar
/// key.
pub fn key_error(key: &Bound<'_, PyAny>, keys: &[Arc<str>]) -> PyErr {
    let argument = key_with_sentence(key, keys);
    argument.map_or_else(|failure| failure, |key| PyKeyError::new_err(key.unbind()))
}

fn key_with_sentence<'py>(
    key: &Bound<'py, PyAny>,
    keys: &[Arc<str>],
) -> PyResult<Bound<'py, PyAny>> {
    static MISSING_KEY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let sentence = types::missing_key(key_text(key)?, keys.iter().map(AsRef::as_ref));
    MISSING_KEY
        .import(key.py(), "cloaca._values.missing_key", "MissingKey")?
        .call1((key, sentence))
}

/// Returns the `ContextError` for a missing key. The error's hint names the most similar key.
pub fn missing_key(py: Python<'_>, key: &str, keys: &[Arc<str>]) -> PyErr {
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
