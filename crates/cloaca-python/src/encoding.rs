//! Encodes Python values as JSON text.
//!
//! This module encodes plain values: `None`, booleans, numbers, strings, lists, tuples, dicts, and dataclasses that contain
//! only such values. All other values go to the Python package's encoder, which converts them or raises an error, so error
//! messages have one source.

use std::cell::RefCell;
use std::fmt::Write;

use cloacina::types::Json;
use cloacina::types::sync::Mutex;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Maximum nesting depth that this module encodes. Deeper values go to the package's encoder, which refuses values deeper
/// than 512 levels.
const MAX_PLAIN_DEPTH: usize = 100;

/// The package's function `encode(key, value) -> str`, which the package sets when it is imported.
static ENCODER: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

/// The names of the fields of dataclasses: a tuple for each class. The package adds the tuple of a class when it first
/// encodes an object of the class.
static DATACLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// Sets the function `encode(key, value) -> str` for values that are not plain. `encode` raises `TypeError` or `ValueError`.
/// `dataclasses` contains the field names of each dataclass whose objects the function encodes field by field.
#[pyfunction]
pub fn set_encoder(encode: Bound<'_, PyAny>, dataclasses: Bound<'_, PyDict>) {
    let py = encode.py();
    let former = ENCODER.lock().replace(encode.unbind());
    drop(former);
    // If the package is imported a second time, this module keeps the first dict. It then passes objects of classes that are
    // only in the new dict to `encode`.
    let _ = DATACLASSES.set(py, dataclasses.unbind());
}

/// Returns the JSON text of a value that consists of plain values; `None` for all other values.
#[pyfunction]
pub fn encode_plain(value: &Bound<'_, PyAny>) -> Option<String> {
    let mut text = String::new();
    write(&mut text, value, 0).then_some(text)
}

/// Encodes a value. `key` is the value's key in the context, for error messages.
pub fn encode(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Json> {
    let mut text = String::new();
    if write(&mut text, value, 0) {
        return Ok(Json::from_encoder(text));
    }
    encode_foreign(key, value)
}

fn encode_foreign(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Json> {
    let py = value.py();
    let encoder = ENCODER.lock().as_ref().map(|encoder| encoder.clone_ref(py));
    let Some(encoder) = encoder else {
        let kind = value.get_type().qualname()?;
        return Err(PyTypeError::new_err(format!(
            "context key '{key}': a value of type '{kind}' is not JSON"
        )));
    };
    let text = encoder.bind(py).call1((key, value))?;
    let text = text.cast::<PyString>()?.to_str()?;
    Json::parse(text).map_err(|error| {
        PyValueError::new_err(format!(
            "context key '{key}': the encoder returned text that is not JSON: {error}"
        ))
    })
}

/// Appends a plain value. Returns `false` if the value is not plain; the text is then incomplete.
fn write(out: &mut String, value: &Bound<'_, PyAny>, depth: usize) -> bool {
    if value.is_exact_instance_of::<PyString>() {
        let text = value
            .cast::<PyString>()
            .ok()
            .and_then(|text| text.to_str().ok());
        text.map(|text| write_string(out, text)).is_some()
    } else if value.is_exact_instance_of::<PyInt>() {
        write_integer(out, value)
    } else if value.is_exact_instance_of::<PyFloat>() {
        write_float(out, value)
    } else if value.is_none() {
        out.push_str("null");
        true
    } else if let Ok(value) = value.cast_exact::<PyBool>() {
        out.push_str(if value.is_true() { "true" } else { "false" });
        true
    } else if depth > MAX_PLAIN_DEPTH {
        false
    } else if let Ok(list) = value.cast_exact::<PyList>() {
        write_array(out, list.iter(), depth)
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        write_object(out, dict, depth)
    } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        write_array(out, tuple.iter(), depth)
    } else {
        write_dataclass(out, value, depth).unwrap_or(false)
    }
}

/// Appends an object of a dataclass. Returns `false` for an object of another class, or if a field is not plain.
fn write_dataclass(out: &mut String, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<bool> {
    let py = value.py();
    let Some(dataclasses) = DATACLASSES.get(py) else {
        return Ok(false);
    };
    let Some(names) = dataclasses.bind(py).get_item(value.get_type())? else {
        return Ok(false);
    };
    out.push('{');
    for (index, name) in names.cast::<PyTuple>()?.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let name = name.cast_exact::<PyString>()?;
        write_string(out, name.to_str()?);
        out.push(':');
        if !write(out, &value.getattr(name)?, depth + 1) {
            return Ok(false);
        }
    }
    out.push('}');
    Ok(true)
}

fn write_integer(out: &mut String, value: &Bound<'_, PyAny>) -> bool {
    if let Ok(small) = value.extract::<i64>() {
        write_small(out, small);
        return true;
    }
    // The integer does not fit 64 bits, so Python writes it.
    let Ok(text) = value.str() else { return false };
    text.to_str().map(|text| out.push_str(text)).is_ok()
}

/// Appends the shortest text that decodes to the same float. The text never looks like an integer. Returns `false` for NaN
/// and infinities.
fn write_float(out: &mut String, value: &Bound<'_, PyAny>) -> bool {
    match value.extract::<f64>() {
        Ok(number) if number.is_finite() => write!(out, "{number:?}").is_ok(),
        _ => false,
    }
}

/// Appends an integer, faster than the standard library's formatter does.
fn write_small(out: &mut String, number: i64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = u8::try_from(rest % 10).map_or(b'0', |digit| b'0' + digit);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push('-');
    }
    out.extend(digits[start..].iter().map(|digit| char::from(*digit)));
}

fn write_array<'py>(
    out: &mut String,
    items: impl Iterator<Item = Bound<'py, PyAny>>,
    depth: usize,
) -> bool {
    out.push('[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        if !write(out, &item, depth + 1) {
            return false;
        }
    }
    out.push(']');
    true
}

fn write_object(out: &mut String, dict: &Bound<'_, PyDict>, depth: usize) -> bool {
    out.push('{');
    let start = out.len();
    // `locked_for_each` needs an `Fn`, so the text to append to is in a `RefCell`. Calls of the closure never overlap.
    let target = RefCell::new(&mut *out);
    // Locks the dict on free-threaded Python, where another thread may change it.
    let whole = dict.locked_for_each(|key, value| {
        let mut target = target.borrow_mut();
        if target.len() > start {
            target.push(',');
        }
        write_string(&mut target, key.cast_exact::<PyString>()?.to_str()?);
        target.push(':');
        if write(&mut target, &value, depth + 1) {
            Ok(())
        } else {
            Err(PyTypeError::new_err(()))
        }
    });
    out.push('}');
    whole.is_ok()
}

fn write_string(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    loop {
        let length = plain_length(rest.as_bytes());
        out.push_str(&rest[..length]);
        let Some(byte) = rest.as_bytes().get(length) else {
            break;
        };
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            other => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{other:04x}");
            }
        }
        rest = &rest[length + 1..];
    }
    out.push('"');
}

/// Returns the number of leading bytes that JSON does not escape.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // In the result, the lowest set bit is in the first byte of `word` that is below the limit.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let mut length = 0;
    while let Some(chunk) = bytes.get(length..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let quote = ONES * u64::from(b'"');
        let backslash = ONES * u64::from(b'\\');
        let found = below(word, 0x20) | below(word ^ quote, 1) | below(word ^ backslash, 1);
        if found != 0 {
            return length + found.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let is_plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
    length + bytes[length..].iter().take_while(is_plain).count()
}
