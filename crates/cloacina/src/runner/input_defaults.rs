//! The defaults of absent input fields, for executions whose input this program did not validate (semantics J5).

use std::collections::VecDeque;

use crate::types::sync::Mutex;
use crate::types::{Context, ExecutionId, Json};

/// Maximum number of executions in the cache.
const MAX_EXECUTIONS: usize = 8;

/// A cache of the input defaults of a workflow's most recent executions.
///
/// Finding the defaults requires decoding the whole input. Without the cache, this would happen for each item of a map, and a
/// default that is not constant could differ between the tasks of an execution.
#[derive(Default)]
pub(super) struct InputDefaults(Mutex<VecDeque<(ExecutionId, Context)>>);

impl InputDefaults {
    /// Returns the default of a field of an execution's input; `None` if the field has no default or the input is not valid.
    /// `find` returns all defaults of the execution, or `None` if its input is not valid.
    pub(super) fn get(
        &self,
        execution: ExecutionId,
        field: &str,
        find: impl FnOnce() -> Option<Context>,
    ) -> Option<Json> {
        if let Some(known) = self.known(execution, field) {
            return Some(known);
        }
        // The lock is not held here, because `find` runs code of the input's type.
        let all_defaults = find()?;
        let mut last = self.0.lock();
        let position = last.iter().position(|(id, _)| *id == execution);
        // Moves the execution's entry to the end. Keeps the defaults that another task has stored in the meantime.
        let (_, mut defaults) = position
            .and_then(|position| last.remove(position))
            .unwrap_or_else(|| (execution, Context::new()));
        for (key, value) in all_defaults.iter() {
            if defaults.get(key).is_none() {
                defaults.set(&**key, value.clone());
            }
        }
        let default = defaults.get(field).cloned();
        if last.len() == MAX_EXECUTIONS {
            last.pop_front();
        }
        last.push_back((execution, defaults));
        default
    }

    fn known(&self, execution: ExecutionId, field: &str) -> Option<Json> {
        let last = self.0.lock();
        let (_, defaults) = last.iter().find(|(id, _)| *id == execution)?;
        defaults.get(field).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j5_defaults_are_computed_once_for_recent_executions() {
        let defaults = InputDefaults::default();
        let ids: Vec<_> = (0..=MAX_EXECUTIONS)
            .map(|_| ExecutionId::generate())
            .collect();
        let mut calls = 0;
        let mut get = |id, field| {
            let value = defaults.get(id, field, || {
                calls += 1;
                Context::from_json(&format!(r#"{{"a":{calls},"b":{calls}}}"#)).ok()
            });
            value.map(|value| value.as_str().to_owned())
        };
        for (id, expected) in ids.iter().zip(1..) {
            assert_eq!(get(*id, "a"), Some(expected.to_string()));
            assert_eq!(get(*id, "b"), Some(expected.to_string()));
        }
        assert_eq!(get(ids[1], "a").as_deref(), Some("2"));
        assert_eq!(
            get(ids[0], "a").as_deref(),
            Some("10"),
            "the oldest was removed"
        );
        assert_eq!(get(ids[0], "c"), None);
        assert_eq!(defaults.get(ids[1], "c", || None), None);
    }
}
