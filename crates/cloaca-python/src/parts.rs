//! The parts of a decoded value. Comparing them with the value later shows whether the value was changed in place.
//!
//! See docs/explanation/decisions/024-arrays-and-changes-in-place.md

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyList, PyString};

/// The lists and dicts of a decoded value, and the objects in them.
///
/// Objects are compared by address. All objects of a decoded value except lists and dicts are immutable, so the value is
/// unchanged while each list and dict holds the same objects. The parts keep these objects alive, so that no new object can
/// get the address of a removed object.
#[derive(Default)]
pub struct DecodedParts {
    /// The lists and dicts with their lengths, inner ones first.
    containers: Vec<(Py<PyAny>, usize)>,
    /// The items of the lists and the values of the dicts, in the order of `containers`.
    values: Vec<Py<PyAny>>,
    /// The addresses of the keys of the dicts.
    keys: Vec<usize>,
    /// The key objects, which are kept alive.
    kept: Vec<Py<PyString>>,
    /// The dicts that are not complete yet, outer ones first.
    open: Vec<OpenDict>,
    /// Values that were moved out of `values`, because an inner list or dict follows them in their dict.
    open_values: Vec<Py<PyAny>>,
    /// The addresses of the keys of `open_values`. They were moved out of `keys`.
    open_keys: Vec<usize>,
}

/// A dict that is not complete yet.
struct OpenDict {
    /// The index of the dict's first member in `open_values` and `open_keys`.
    open_start: usize,
    /// The indexes, in `values` and `keys`, of the dict's first member that has not been moved out.
    start: (usize, usize),
}

impl DecodedParts {
    /// Begins a list or dict. Its parts must precede the members of the enclosing dict, so the members that the enclosing dict
    /// already has are moved to `open_values` and `open_keys`.
    pub fn begin(&mut self) {
        let Some(dict) = self.open.last() else {
            return;
        };
        let (values, keys) = dict.start;
        if self.values.len() > values {
            self.open_values.extend(self.values.drain(values..));
            self.open_keys.extend(self.keys.drain(keys..));
        }
    }

    /// Begins a dict.
    pub fn begin_dict(&mut self) {
        self.begin();
        self.open.push(OpenDict {
            open_start: self.open_values.len(),
            start: (self.values.len(), self.keys.len()),
        });
    }

    /// Adds a member of the innermost dict that is still being decoded.
    pub fn add_member(&mut self, key: &Bound<'_, PyString>, value: Bound<'_, PyAny>) {
        self.keys.push(key.as_ptr().addr());
        self.values.push(value.unbind());
    }

    /// Completes the innermost dict.
    pub fn end_dict(&mut self, dict: &Bound<'_, PyDict>) {
        let Some(OpenDict { open_start, start }) = self.open.pop() else {
            return;
        };
        let (values, keys) = start;
        if self.open_values.len() > open_start {
            self.open_values.extend(self.values.drain(values..));
            self.open_keys.extend(self.keys.drain(keys..));
            self.values.extend(self.open_values.drain(open_start..));
            self.keys.extend(self.open_keys.drain(open_start..));
        }
        self.end(dict.as_any(), self.values.len() - values);
    }

    /// Completes a list.
    pub fn end_list(&mut self, list: &Bound<'_, PyList>, items: Vec<Bound<'_, PyAny>>) {
        let length = items.len();
        self.values.extend(items.into_iter().map(Bound::unbind));
        self.end(list.as_any(), length);
    }

    fn end(&mut self, container: &Bound<'_, PyAny>, length: usize) {
        self.containers.push((container.clone().unbind(), length));
        if let Some(dict) = self.open.last_mut() {
            dict.start = (self.values.len(), self.keys.len());
        }
    }

    /// Keeps keys alive, so that no new key can get the address of a removed one.
    pub fn keep_keys<'py>(&mut self, keys: impl Iterator<Item = Bound<'py, PyString>>) {
        self.kept.extend(keys.map(Bound::unbind));
    }

    /// Whether each list and dict still holds the same objects, in the same order.
    pub fn are_unchanged(&self, py: Python<'_>) -> bool {
        let (mut values, mut keys) = (self.values.as_slice(), self.keys.as_slice());
        self.containers.iter().all(|(container, length)| {
            let (own, others) = values.split_at(*length);
            values = others;
            let container = container.bind(py);
            if let Ok(list) = container.cast_exact::<PyList>() {
                return holds_items(list, own);
            }
            let (own_keys, others) = keys.split_at(*length);
            keys = others;
            let dict = container.cast_exact::<PyDict>();
            dict.is_ok_and(|dict| holds_members(dict, own_keys, own))
        })
    }

    /// Visits the lists, the dicts and the objects in them, for Python's garbage collector. Keys are strings, which need no
    /// visit.
    pub fn visit<E>(&self, visit: &mut impl FnMut(&Py<PyAny>) -> Result<(), E>) -> Result<(), E> {
        let containers = self.containers.iter().map(|(container, _)| container);
        containers.chain(&self.values).try_for_each(visit)
    }
}

fn holds_items(list: &Bound<'_, PyList>, items: &[Py<PyAny>]) -> bool {
    with_critical_section(list, || {
        list.len() == items.len()
            && (0..).zip(items).all(|(index, item)| {
                #[expect(
                    unsafe_code,
                    reason = "a strong reference to each item takes three times as long"
                )]
                // SAFETY: `list` is a list, and is locked on free-threaded Python. The address is only compared.
                let found = unsafe { ffi::PyList_GetItem(list.as_ptr(), index) };
                found == item.as_ptr()
            })
    })
}

fn holds_members(dict: &Bound<'_, PyDict>, keys: &[usize], values: &[Py<PyAny>]) -> bool {
    with_critical_section(dict, || {
        let mut position = 0;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        dict.len() == keys.len()
            && keys.iter().zip(values).all(|(expected, member)| {
                #[expect(
                    unsafe_code,
                    reason = "strong references to each member take three times as long"
                )]
                // SAFETY: `dict` is a dict, and is locked on free-threaded Python. The addresses are only compared.
                let found = unsafe {
                    ffi::PyDict_Next(
                        dict.as_ptr(),
                        &raw mut position,
                        &raw mut key,
                        &raw mut value,
                    )
                };
                found != 0 && key.addr() == *expected && value == member.as_ptr()
            })
    })
}
