//! The parts of a decoded value. Comparing them with the value later shows whether the value was changed in place.
//!
//! See docs/explanation/decisions/024-arrays-and-changes-in-place.md

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyList, PyString};

/// The lists and dicts of a decoded value, and the objects in them.
///
/// All objects of a decoded value except lists and dicts are immutable, so the value is unchanged while its lists and dicts
/// hold the same immutable objects in the same places. These objects are compared by address. They are kept alive, so that
/// no new object can get the address of a removed object. Lists and dicts are compared by their contents only.
#[derive(Default)]
pub struct DecodedParts {
    /// The parts in the order of the text. An immutable object or a key is its address. A list or dict is its length, shifted
    /// by two bits and marked as below, followed by its items, or by its keys, each with its value. Addresses are even.
    trace: Vec<usize>,
    /// The immutable objects, which are kept alive.
    kept: Vec<Py<PyAny>>,
}

const LIST: usize = 0b01;
const DICT: usize = 0b11;

impl DecodedParts {
    /// Begins a list or dict. Returns its place, which `end_list` or `end_dict` takes.
    #[inline]
    pub fn begin(&mut self) -> usize {
        self.trace.push(LIST);
        self.trace.len() - 1
    }

    /// Adds a key of the innermost dict that is not complete. The caller adds the value next, and keeps the key alive.
    #[inline]
    pub fn add_key(&mut self, key: &Bound<'_, PyString>) {
        self.trace.push(key.as_ptr().addr());
    }

    /// Adds an immutable object.
    #[inline]
    pub fn add(&mut self, value: Bound<'_, PyAny>) {
        self.trace.push(value.as_ptr().addr());
        self.kept.push(value.unbind());
    }

    /// Completes the list that began at `place`.
    #[inline]
    pub fn end_list(&mut self, place: usize, length: usize) {
        self.trace[place] = length << 2 | LIST;
    }

    /// Completes the dict that began at `place`.
    #[inline]
    pub fn end_dict(&mut self, place: usize, length: usize) {
        self.trace[place] = length << 2 | DICT;
    }

    /// Keeps keys alive, so that no new key can get the address of a removed one.
    pub fn keep_keys<'py>(&mut self, keys: impl Iterator<Item = Bound<'py, PyString>>) {
        self.kept.extend(keys.map(|key| key.into_any().unbind()));
    }

    /// Whether each list and dict of `value` still holds the same objects, in the same order.
    pub fn are_unchanged(&self, value: &Bound<'_, PyAny>) -> bool {
        let mut trace = self.trace.as_slice();
        take(&mut trace).is_some_and(|part| matches(value, part, &mut trace))
    }
}

impl Drop for DecodedParts {
    fn drop(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        // Dropping a `Py` would check for each object whether the thread is attached to the interpreter.
        let _ = Python::try_attach(|py| {
            for object in kept {
                drop(object.into_bound(py));
            }
        });
    }
}

fn take(trace: &mut &[usize]) -> Option<usize> {
    let (first, rest) = trace.split_first()?;
    *trace = rest;
    Some(*first)
}

/// Whether `value` is the part `part`. The parts of a list or dict are taken from `trace`.
fn matches(value: &Bound<'_, PyAny>, part: usize, trace: &mut &[usize]) -> bool {
    let length = part >> 2;
    if let Ok(list) = value.cast_exact::<PyList>() {
        part & DICT == LIST && holds_items(list, length, trace)
    } else if let Ok(dict) = value.cast_exact::<PyDict>() {
        part & DICT == DICT && holds_members(dict, length, trace)
    } else {
        value.as_ptr().addr() == part
    }
}

/// Whether an object in a list or dict is the next part of `trace`.
///
/// # Safety
/// `found` is an object that lives during the call, or null.
#[inline]
#[expect(
    unsafe_code,
    reason = "a strong reference to each object takes three times as long"
)]
unsafe fn is_next(py: Python<'_>, found: *mut ffi::PyObject, trace: &mut &[usize]) -> bool {
    let Some(part) = take(trace) else {
        return false;
    };
    if part & LIST == 0 {
        return found.addr() == part;
    }
    // SAFETY: the caller guarantees it. The reference is strong, because comparing a list or dict can release locks.
    let inner = unsafe { Bound::from_borrowed_ptr_or_opt(py, found) };
    inner.is_some_and(|inner| matches(&inner, part, trace))
}

fn holds_items(list: &Bound<'_, PyList>, length: usize, trace: &mut &[usize]) -> bool {
    with_critical_section(list, || {
        list.len() == length
            && (0..length).all(|index| {
                let Ok(index) = ffi::Py_ssize_t::try_from(index) else {
                    return false;
                };
                #[expect(
                    unsafe_code,
                    reason = "a strong reference to each item takes three times as long"
                )]
                // SAFETY: `list` is a list, and is locked on free-threaded Python, so its items live.
                unsafe {
                    is_next(list.py(), ffi::PyList_GetItem(list.as_ptr(), index), trace)
                }
            })
    })
}

fn holds_members(dict: &Bound<'_, PyDict>, length: usize, trace: &mut &[usize]) -> bool {
    with_critical_section(dict, || {
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        dict.len() == length
            && (0..length).all(|_| {
                #[expect(
                    unsafe_code,
                    reason = "strong references to each member take three times as long"
                )]
                // SAFETY: `dict` is a dict, and is locked on free-threaded Python, so its members live.
                unsafe {
                    let found = ffi::PyDict_Next(
                        dict.as_ptr(),
                        &raw mut position,
                        &raw mut key,
                        &raw mut value,
                    );
                    found != 0
                        && take(trace).is_some_and(|expected| key.addr() == expected)
                        && is_next(dict.py(), value, trace)
                }
            })
    })
}
