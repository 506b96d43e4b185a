//! The parts of a decoded value, by which a change in place is noticed.
//!
//! See docs/explanation/decisions/024-arrays-and-changes-in-place.md

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyList, PyString};

/// The lists and dicts of a decoded value, and the objects in them.
///
/// All other objects of a decoded value are immutable: while each list and dict holds the same objects, the value is unchanged. The parts
/// keep these objects alive, so that no other object can get the address of a removed object.
#[derive(Default)]
pub struct Parts {
    /// The lists and dicts with their lengths, inner ones first.
    containers: Vec<(Py<PyAny>, usize)>,
    /// The items and values of the containers, in the same order.
    values: Vec<Py<PyAny>>,
    /// The addresses of the keys of the dicts.
    keys: Vec<usize>,
    /// The objects at these addresses.
    kept: Vec<Py<PyString>>,
    /// Values and keys of the dicts that are not complete yet.
    open_values: Vec<Py<PyAny>>,
    open_keys: Vec<usize>,
}

impl Parts {
    /// Returns a mark of the beginning of a dict, for `end_dict`.
    pub fn begin_dict(&self) -> usize {
        self.open_values.len()
    }

    /// Adds a member of the innermost dict that is not complete.
    pub fn add_member(&mut self, key: &Bound<'_, PyString>, value: Bound<'_, PyAny>) {
        self.open_keys.push(key.as_ptr().addr());
        self.open_values.push(value.unbind());
    }

    /// Completes a dict.
    pub fn end_dict(&mut self, dict: &Bound<'_, PyDict>, start: usize) {
        let length = self.open_values.len() - start;
        let object = dict.clone().into_any().unbind();
        self.containers.push((object, length));
        self.keys.extend(self.open_keys.drain(start..));
        self.values.extend(self.open_values.drain(start..));
    }

    /// Adds a list.
    pub fn add_list(&mut self, list: &Bound<'_, PyList>, items: Vec<Bound<'_, PyAny>>) {
        let object = list.clone().into_any().unbind();
        self.containers.push((object, items.len()));
        self.values.extend(items.into_iter().map(Bound::unbind));
    }

    /// Keeps keys alive.
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

    /// Visits all objects, for Python's garbage collector.
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
                // SAFETY: it is a list, locked where there is no GIL. The address is only compared.
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
                // SAFETY: it is a dict, locked where there is no GIL. The addresses are only compared.
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
