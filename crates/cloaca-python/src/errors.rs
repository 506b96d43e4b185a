//! Converts the engine's errors to Python exceptions. The error code determines the exception's class.

use cloacina::types::sync::Mutex;
use cloacina::types::{Error, ErrorCode};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The exception classes by error code. The package sets them when it is imported.
static CLASSES: Mutex<Option<Py<PyDict>>> = Mutex::new(None);

/// Sets the exception classes by error code. Each class takes `(message, *, code, hint)`.
///
/// Raises `ValueError` if a code has no class.
#[pyfunction]
pub fn set_exceptions(classes: &Bound<'_, PyDict>) -> PyResult<()> {
    for code in ErrorCode::ALL {
        if !classes.contains(code.name())? {
            let name = code.name();
            return Err(PyValueError::new_err(format!(
                "no exception class for the error code '{name}'"
            )));
        }
    }
    let classes = classes.copy()?.unbind();
    let former = CLASSES.lock().replace(classes);
    drop(former);
    Ok(())
}

/// Returns the exception for an error.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error).unwrap_or_else(|failure| failure)
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let classes = CLASSES.lock().as_ref().map(|classes| classes.clone_ref(py));
    let class = match classes {
        Some(classes) => classes.bind(py).get_item(error.code.name())?,
        None => None,
    };
    // The package has not set its classes yet.
    let Some(class) = class else {
        return Ok(PyRuntimeError::new_err(error.to_string()));
    };
    let named = PyDict::new(py);
    named.set_item("code", error.code.name())?;
    named.set_item("hint", error.hint.as_deref())?;
    let exception = class.call((error.message.as_str(),), Some(&named))?;
    if let Some(decided) = &error.decided {
        exception.setattr("by", decided.by.as_deref())?;
        exception.setattr("_at_us", decided.at.0)?;
    }
    Ok(PyErr::from_value(exception))
}

/// Converts the engine's results into results of PyO3.
pub trait Raise<T> {
    /// Returns the value, or the exception for the error.
    fn raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raise<T> for Result<T, Error> {
    fn raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
