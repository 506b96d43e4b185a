//! A call that runs children from a task's function: the options of the call, and the future of the children's outputs
//! (semantics T10, M4).

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::TaskError;
use super::task_steps::{self, AttemptSteps, ChildCall};
use crate::types::{Json, micros};

/// A call of [`TaskHandle::run`](crate::TaskHandle::run) or [`run_many`](crate::TaskHandle::run_many). Set the options of the
/// call, then await it. Nothing runs until it is awaited.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use cloacina::{Context, TaskError, TaskHandle, task};
///
/// #[task]
/// async fn ship(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
///     let parcel = serde_json::json!({ "order": 7 });
///     let label: String = cx
///         .run("label", "label_workflow", &parcel)
///         .timeout(Duration::from_mins(10))
///         .priority(5)
///         .await?;
///     context.set("label", label)?;
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// Since 1.0.
#[must_use = "children run only if the call is awaited"]
pub struct ChildRun<T> {
    steps: Arc<AttemptSteps>,
    key: String,
    call: Result<ChildCall, TaskError>,
    /// Reads the outputs from the recorded results of the children.
    read: fn(&str, &[Json]) -> Result<T, TaskError>,
}

impl<T> ChildRun<T> {
    pub(super) fn new(
        steps: Arc<AttemptSteps>,
        key: String,
        call: Result<ChildCall, TaskError>,
        read: fn(&str, &[Json]) -> Result<T, TaskError>,
    ) -> Self {
        Self {
            steps,
            key,
            call,
            read,
        }
    }

    /// Sets the maximum run time of each child. If this execution has less time left, a child gets only that time. Without a
    /// call of this method, the runner's setting `workflow_timeout` is the timeout.
    ///
    /// Since 1.0.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Ok(call) = &mut self.call {
            call.timeout = Some(micros(timeout).max(1));
        }
        self
    }

    /// Sets the priority of the children: executions with a higher priority run first. Without a call of this method, the
    /// children have the priority of the task.
    ///
    /// Since 1.0.
    pub fn priority(mut self, priority: i16) -> Self {
        if let Ok(call) = &mut self.call {
            call.priority = Some(priority);
        }
        self
    }
}

impl<T: DeserializeOwned + 'static> IntoFuture for ChildRun<T> {
    type Output = Result<T, TaskError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let ends = self
                .steps
                .run_children(self.key.clone(), self.call?)
                .await?;
            (self.read)(&self.key, &ends)
        })
    }
}

impl<T> std::fmt::Debug for ChildRun<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ChildRun")
            .field("key", &self.key)
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

/// Reads the output of the only child of a call.
pub(super) fn read_one<T: DeserializeOwned>(key: &str, ends: &[Json]) -> Result<T, TaskError> {
    let missing = || TaskError::abort(format!("the child of the call '{key}' has no recorded end"));
    task_steps::ended_child(key, ends.first().ok_or_else(missing)?)
}

/// Reads the outputs of several children, in the order of their inputs.
pub(super) fn read_many<T: DeserializeOwned>(
    key: &str,
    ends: &[Json],
) -> Result<Vec<T>, TaskError> {
    let outputs = ends.iter().map(|end| task_steps::ended_child(key, end));
    outputs.collect()
}

#[cfg(test)]
mod tests {
    use super::super::task::TaskHandle;
    use super::*;

    fn call(inputs: &[serde_json::Value]) -> ChildRun<Vec<u32>> {
        let handle = TaskHandle::detached();
        handle.run_many("key", "workflow", inputs, Some(0))
    }

    #[test]
    fn m4_options_of_a_call_reach_its_children() {
        let inputs = [serde_json::json!({})];
        let run = call(&inputs).timeout(Duration::ZERO).priority(-3);
        let run = run.call.unwrap();
        assert_eq!((run.timeout, run.priority), (Some(1), Some(-3)));
        assert_eq!(run.parallel, Some(1), "at least one child runs");
        let run = call(&inputs).call.unwrap();
        assert_eq!((run.timeout, run.priority), (None, None));
    }

    #[test]
    fn t10_input_that_is_not_an_object_is_refused_with_any_options() {
        let run = call(&[serde_json::json!([1])]).timeout(Duration::MAX);
        let error = run.call.unwrap_err().to_string();
        assert!(error.contains("must be a JSON object"), "{error}");
    }
}
