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
    let mut writer = Writer::default();
    writer.write(value, 0).then_some(writer.text)
}

/// Encodes a value. `key` is the value's key in the context, for error messages.
pub fn encode(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Json> {
    match encode_plain(value) {
        Some(text) => Ok(Json::from_encoder(text)),
        None => encode_foreign(key, value),
    }
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

/// Number of keys whose JSON text is remembered while a value is encoded.
const KNOWN_KEYS: usize = 8;

/// The JSON text of a value that is being encoded.
#[derive(Default)]
struct Writer<'py> {
    text: String,
    /// Keys that were written, with the places of their texts in `text`. The keys of records are the same strings again and
    /// again, and copying a text is faster than encoding a key. The place in the array depends on the string's address.
    known: [Option<KnownKey<'py>>; KNOWN_KEYS],
}

struct KnownKey<'py> {
    key: Bound<'py, PyString>,
    start: usize,
    end: usize,
}

impl<'py> Writer<'py> {
    /// Appends a plain value. Returns `false` if the value is not plain; the text is then incomplete.
    fn write(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> bool {
        let out = &mut self.text;
        if let Ok(text) = value.cast_exact::<PyString>() {
            let text = text.to_str().ok();
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
            self.write_array(list.iter(), depth)
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.write_object(dict, depth)
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.write_array(tuple.iter(), depth)
        } else {
            self.write_dataclass(value, depth).unwrap_or(false)
        }
    }

    fn write_array(
        &mut self,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: usize,
    ) -> bool {
        self.text.push('[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            if !self.write(&item, depth + 1) {
                return false;
            }
        }
        self.text.push(']');
        true
    }

    fn write_object(&mut self, dict: &Bound<'py, PyDict>, depth: usize) -> bool {
        self.text.push('{');
        let start = self.text.len();
        // `locked_for_each` needs an `Fn`, so the writer is in a `RefCell`. Calls of the closure never overlap.
        let target = RefCell::new(&mut *self);
        // Locks the dict on free-threaded Python, where another thread may change it.
        let whole = dict.locked_for_each(|key, value| {
            let mut target = target.borrow_mut();
            if target.text.len() > start {
                target.text.push(',');
            }
            target.write_key(key.cast_into_exact::<PyString>()?)?;
            if target.write(&value, depth + 1) {
                Ok(())
            } else {
                Err(PyTypeError::new_err(()))
            }
        });
        self.text.push('}');
        whole.is_ok()
    }

    /// Appends a key of an object, and a colon.
    #[inline]
    fn write_key(&mut self, key: Bound<'py, PyString>) -> PyResult<()> {
        // The addresses of objects are multiples of 16.
        let place = (key.as_ptr().addr() >> 4) % KNOWN_KEYS;
        if let Some(known) = &self.known[place]
            && known.key.is(&key)
        {
            self.text.extend_from_within(known.start..known.end);
            return Ok(());
        }
        let start = self.text.len();
        write_string(&mut self.text, key.to_str()?);
        self.text.push(':');
        let end = self.text.len();
        self.known[place] = Some(KnownKey { key, start, end });
        Ok(())
    }

    /// Appends an object of a dataclass. Returns `false` for an object of another class, or if a field is not plain.
    fn write_dataclass(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> PyResult<bool> {
        let py = value.py();
        let Some(dataclasses) = DATACLASSES.get(py) else {
            return Ok(false);
        };
        let Some(names) = dataclasses.bind(py).get_item(value.get_type())? else {
            return Ok(false);
        };
        self.text.push('{');
        for (index, name) in names.cast::<PyTuple>()?.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            let name = name.cast_into_exact::<PyString>()?;
            self.write_key(name.clone())?;
            if !self.write(&value.getattr(name)?, depth + 1) {
                return Ok(false);
            }
        }
        self.text.push('}');
        Ok(true)
    }
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
