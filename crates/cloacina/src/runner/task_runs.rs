//! The methods with which a Rust task's function runs children and starts other executions (semantics T5, T10).

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TaskError;
use super::child_run::{self, ChildRun};
use super::task::TaskHandle;
use super::task_steps::{self, ChildCall};
use crate::types::RootStart;

impl TaskHandle {
    /// Runs another workflow as a child of this task and returns the child's output. If the workflow declares no output,
    /// returns the child's final context.
    ///
    /// The task does not occupy a worker while the child runs. As with [`sleep`](Self::sleep), the function exits with an
    /// error, which you pass on with `?`. When the child has ended, the function starts again from the beginning.
    ///
    /// The child's end is recorded under the key, like a step, so the child is started only once. The child is cancelled when
    /// this execution is cancelled, fails or times out. If no program has defined the workflow yet, the task waits until one
    /// does. To set options such as a timeout, call methods of the returned [`ChildRun`] before you await it.
    ///
    /// # Errors
    /// - `ChildFailedError`, not retried, if the child fails, times out or is cancelled. Later attempts receive the
    ///   same error. A retry of the execution retries the child too, or starts a new child if the child was
    ///   cancelled.
    /// - The error with which the function must exit while the child runs: pass it on with `?`.
    /// - An error if the input is not a JSON object, or if the output does not have the shape of `T`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cloacina::{Context, TaskError, TaskHandle, task};
    ///
    /// #[task]
    /// async fn bill(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
    ///     let order = serde_json::json!({ "order": 7 });
    ///     let invoice: String = cx.run("invoice", "invoice_workflow", &order).await?;
    ///     context.set("invoice", invoice)?;
    ///     Ok(())
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// Since 1.0.
    pub fn run<T, I>(&self, key: &str, workflow: &str, input: &I) -> ChildRun<T>
    where
        T: DeserializeOwned,
        I: Serialize + ?Sized,
    {
        let key = self.steps.key(key);
        let input = task_steps::input_of(&key, input);
        let call = input.map(|input| ChildCall::new(workflow, vec![input]));
        ChildRun::new(Arc::clone(&self.steps), key, call, child_run::read_one)
    }

    /// Runs a child for each input, at most `parallel` at a time (`None`: no limit), and returns their outputs in the
    /// order of the inputs. If one child fails, the other children continue. In all other respects it works like
    /// [`run`](Self::run).
    ///
    /// # Errors
    /// The errors of [`run`](Self::run). If several children failed, returns the error of the first of them, in the order of
    /// the inputs.
    ///
    /// Since 1.0.
    pub fn run_many<T, I>(
        &self,
        key: &str,
        workflow: &str,
        inputs: &[I],
        parallel: Option<u32>,
    ) -> ChildRun<Vec<T>>
    where
        T: DeserializeOwned,
        I: Serialize,
    {
        let key = self.steps.key(key);
        let inputs: Result<Vec<_>, _> = (inputs.iter())
            .map(|input| task_steps::input_of(&key, input))
            .collect();
        let call = inputs.map(|inputs| ChildCall {
            is_many: true,
            parallel: parallel.map(|limit| limit.max(1)),
            ..ChildCall::new(workflow, inputs)
        });
        ChildRun::new(Arc::clone(&self.steps), key, call, child_run::read_many)
    }

    /// Starts an execution of another workflow in the transaction in which this task completes. Does not wait for the
    /// end of the new execution. If this attempt does not complete the task, nothing is started. The new execution has
    /// no parent: a cancel or a retry of this execution does not affect the new execution.
    ///
    /// # Errors
    /// An error if the input is not a JSON object, or if the task is an item of a map.
    ///
    /// Since 1.0.
    pub fn start<I: Serialize + ?Sized>(
        &self,
        key: &str,
        workflow: &str,
        input: &I,
    ) -> Result<(), TaskError> {
        let key = self.steps.key(key);
        let input = task_steps::input_of(&key, input)?;
        self.steps.start(RootStart {
            key,
            workflow: workflow.to_owned(),
            input,
        })
    }
}
