//! The macro `record!`, which defines classes for the plain data that `_core` returns to Python.

use pyo3::prelude::*;

/// Returns `ClassName(field=value, …)` for an object with these attributes.
pub fn repr_of(object: &Bound<'_, PyAny>, fields: &[&str]) -> PyResult<String> {
    let mut shown = Vec::with_capacity(fields.len());
    for field in fields {
        // The field `type` is a raw identifier in Rust.
        let field = field.trim_start_matches("r#");
        let value = object.getattr(field)?.repr()?;
        shown.push(format!("{field}={}", value.to_string_lossy()));
    }
    let class = object.get_type().name()?;
    Ok(format!("{}({})", class.to_string_lossy(), shown.join(", ")))
}

/// Defines a frozen class whose fields Python reads by name, with a `__repr__`.
macro_rules! record {
    (
        $(#[$meta:meta])+
        $name:ident { $($(#[$field_meta:meta])+ $field:ident: $type:ty,)+ }
    ) => {
        $(#[$meta])+
        #[pyclass(frozen, get_all, module = "cloaca._core")]
        pub struct $name {
            $($(#[$field_meta])+ pub $field: $type,)+
        }

        #[pymethods]
        impl $name {
            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                $crate::record::repr_of(slf.as_any(), &[$(stringify!($field)),+])
            }
        }
    };
}
pub(crate) use record;
