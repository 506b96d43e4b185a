//! Calls the `Deserialize` of a type without a value, to find out what it requests from a deserializer.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns the result of `call`, which calls a `Deserialize`. `None`: the code of the type panicked.
pub(super) fn probe<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}
