//! Compares a Python object with a decoded value.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList};

/// Returns whether `value` equals `decoded` in value and type, at every depth. The order of keys does not matter.
pub fn is_same(decoded: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !decoded.get_type().is(value.get_type()) {
        return Ok(false);
    }
    if let Ok(decoded) = decoded.cast_exact::<PyList>() {
        let value = value.cast_exact::<PyList>()?;
        for (index, item) in decoded.iter().enumerate() {
            let Ok(other) = value.get_item(index) else {
                // `value` is shorter than `decoded`.
                return Ok(false);
            };
            if !is_same(&item, &other)? {
                return Ok(false);
            }
        }
        return Ok(decoded.len() == value.len());
    }
    if let Ok(decoded) = decoded.cast_exact::<PyDict>() {
        let value = value.cast_exact::<PyDict>()?;
        for (key, member) in decoded {
            match value.get_item(key)? {
                Some(other) if is_same(&member, &other)? => {}
                _ => return Ok(false),
            }
        }
        return Ok(decoded.len() == value.len());
    }
    if let Ok(decoded) = decoded.cast_exact::<PyFloat>() {
        let value = value.cast_exact::<PyFloat>()?;
        return Ok(decoded.value().to_bits() == value.value().to_bits());
    }
    decoded.eq(value)
}
