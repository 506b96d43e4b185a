//! Children of a Rust task's function, and executions that it starts (semantics T5, T10).

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TaskError;
use super::child_run::{self, ChildRun};
use super::task::TaskHandle;
use super::task_steps::{self, ChildCall};
use crate::types::RootStart;

impl TaskHandle {
    /// Runs another workflow as a child of this task and returns its output; the final context where the workflow has no
    /// output. The task holds no worker in the meantime, like [`sleep`](Self::sleep): the function exits with an error, which `?`
    /// passes on, and starts again from its top when the child has ended.
    ///
    /// The child's end is recorded under the key, like a step, so the child is started once. It is cancelled when this
    /// execution is cancelled, fails or times out. A workflow that no program has defined yet is waited for. Options of the call,
    /// such as a timeout, are set on the returned [`ChildRun`] before it is awaited.
    ///
    /// # Errors
    /// `ChildFailedError`, not retried, when the child fails, times out or is cancelled; later attempts get the same, until the
    /// execution is retried, which retries the child too. While the child has not ended, the error with which the function exits:
    /// pass it on with `?`. An error when the input is not a JSON object, or the output does not have the shape of `T`.
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

    /// Runs a child for each input, at most `parallel` at a time, and returns their outputs in the order of the inputs. All
    /// run to their ends, also if one fails. Otherwise as [`run`](Self::run).
    ///
    /// # Errors
    /// As for [`run`](Self::run). If several children failed, the error is that of the first input among them.
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

    /// Starts an execution of another workflow when this task completes, in the same transaction, and does not wait for it. If
    /// the attempt does not complete the task, nothing is started. The execution has no parent: it is not cancelled or retried
    /// with this one.
    ///
    /// # Errors
    /// When the input is not a JSON object, or the task is an item of a map.
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
