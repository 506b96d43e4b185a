//! Calls the `Deserialize` of a type without a value, to find out what it asks for.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns what a probe found. `None`: the type's own code panicked, because it expects a value.
pub(super) fn probe<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
