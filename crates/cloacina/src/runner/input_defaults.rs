//! The defaults of the declared input that tasks of executions need which this program did not validate (semantics J5).

use std::collections::VecDeque;

use crate::types::sync::Mutex;
use crate::types::{Context, ExecutionId, Json};

/// Maximum number of executions whose defaults are kept.
const MAX_EXECUTIONS: usize = 8;

/// A cache of the defaults of the last executions of a workflow. To find them the whole input is decoded, which would be done for
/// each item of a map, and a default that is not a constant would differ between the tasks of an execution.
#[derive(Default)]
pub(super) struct InputDefaults(Mutex<VecDeque<(ExecutionId, Context)>>);

impl InputDefaults {
    /// Returns the default of a field. `find` returns all defaults, or `None` if the input is not valid.
    pub(super) fn get(
        &self,
        execution: ExecutionId,
        field: &str,
        find: impl FnOnce() -> Option<Context>,
    ) -> Option<Json> {
        if let Some(known) = self.known(execution, field) {
            return Some(known);
        }
        // Without the lock, because it runs code of the input's type.
        let found = find()?;
        let mut last = self.0.lock();
        let place = last.iter().position(|(id, _)| *id == execution);
        // The entry goes to the end, and a default that another task has found meanwhile stays.
        let (_, mut defaults) = place
            .and_then(|place| last.remove(place))
            .unwrap_or_else(|| (execution, Context::new()));
        for (key, value) in found.iter() {
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
    fn j5_defaults_of_the_last_executions_are_found_once() {
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
        assert_eq!(get(ids[0], "a").as_deref(), Some("10"), "it was the oldest");
        assert_eq!(get(ids[0], "c"), None);
        assert_eq!(defaults.get(ids[1], "c", || None), None);
    }
}
