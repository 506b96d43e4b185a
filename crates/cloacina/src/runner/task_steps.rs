//! The steps of one attempt of a Rust task (semantics T).

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::TaskError;
use super::task_error::{PARKED, parked_text};
use crate::engine::{Outcome, item_key};
use crate::runtime::{
    Assignment, EndedStep, Message, OtherCall, Reply, StepCall, StepLog, TaskPort,
};
use crate::types::sync::Mutex;
use crate::types::{
    Claim, Condition, Error, ExecutionId, Failure, FailureKind, Json, JsonError, JsonShape, Micros,
    Ordinal, Park, ParkKind, RetryPolicy, RootStart, RunInput, Runs, StepKind, StepRecord,
};

/// The steps of one attempt.
#[derive(Debug, Default)]
pub(super) struct AttemptSteps {
    log: StepLog,
    /// The key of the call for which the function must exit: a sleep, a wait or a call that runs children.
    parked: Mutex<Option<String>>,
    /// The executions that start when the task completes (T10).
    starts: Mutex<Vec<RootStart>>,
    /// The attempt. `None`: the handle belongs to no execution, so nothing is recorded.
    attempt: Option<Attempt>,
}

/// The attempt whose steps are recorded, and the connection to its runner.
#[derive(Debug)]
struct Attempt {
    execution: ExecutionId,
    task: Ordinal,
    task_id: String,
    claim: Claim,
    max_bytes: u64,
    port: TaskPort,
}

impl AttemptSteps {
    pub(super) fn new(assignment: &Assignment, port: TaskPort) -> Self {
        Self {
            log: StepLog::default(),
            parked: Mutex::default(),
            starts: Mutex::default(),
            attempt: Some(Attempt {
                execution: assignment.execution,
                task: assignment.task,
                task_id: assignment.workflow.task(assignment.task).id.clone(),
                claim: assignment.claim,
                max_bytes: assignment.max_context_bytes,
                port,
            }),
        }
    }

    /// Returns the key under which a call is recorded.
    pub(super) fn key(&self, key: &str) -> String {
        self.log.key(key)
    }

    /// Returns the recorded result of a step. If no result is recorded, runs the step and records its result.
    pub(super) async fn run<T, F, R>(&self, key: String, function: F) -> Result<T, TaskError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> R,
        R: Future<Output = Result<T, TaskError>>,
    {
        let Some(attempt) = &self.attempt else {
            let value = function().await?;
            return decode(&key, &encode(&key, &value)?);
        };
        self.load(attempt).await?;
        if let Some(value) = self.recorded(StepCall::Step, &key)? {
            return decode(&key, &value);
        }
        if let Some(wait) = self.parked.lock().as_deref() {
            return Err(TaskError::of_failure(caught(&attempt.task_id, wait)));
        }
        let started_at = attempt.port.now();
        let value = encode(&key, &function().await?)?;
        // Decode the result before it is recorded, because a result that no attempt can decode must not become durable.
        let decoded = decode(&key, &value)?;
        let ended = EndedStep {
            key,
            kind: StepKind::Step,
            attempt: attempt.claim.attempt,
            started_at,
            ended_at: attempt.port.now(),
            value,
        };
        let step = self.log.end(&attempt.task_id, ended, attempt.max_bytes);
        attempt.record(step.map_err(TaskError::of_failure)?).await?;
        Ok(decoded)
    }

    /// Returns the recorded end of a sleep or a wait, or the error with which the function must exit.
    pub(super) async fn park(
        &self,
        kind: ParkKind,
        key: String,
        condition: Condition,
        timeout: Option<Micros>,
    ) -> Result<Json, TaskError> {
        let Some(attempt) = &self.attempt else {
            return Ok(Json::from_encoder("null"));
        };
        attempt.check_not_item(&key)?;
        self.load(attempt).await?;
        let call = match kind {
            ParkKind::Sleep => StepCall::Sleep,
            ParkKind::Wait | ParkKind::Run | ParkKind::Start => StepCall::Wait,
        };
        if let Some(end) = self.recorded(call, &key)? {
            return Ok(end);
        }
        let mut park = Park {
            kind,
            key,
            position: 0,
            condition,
            timeout,
            runs: None,
        };
        if kind == ParkKind::Wait
            && let Some(position) = self.log.take_position()
        {
            park.position = position;
            if let Some(step) = attempt.end_wait(park.clone()).await? {
                let end = step.value.clone();
                self.log.add(step);
                return Ok(end);
            }
        }
        let position = (self.log).reserve(&attempt.task_id, &park.key, attempt.max_bytes);
        park.position = position.map_err(TaskError::of_failure)?;
        *self.parked.lock() = Some(park.key.clone());
        Err(TaskError::park(park))
    }

    /// T10: adds an execution that starts when the task completes.
    ///
    /// # Errors
    /// Returns an error if the task is an item of a map.
    pub(super) fn start(&self, start: RootStart) -> Result<(), TaskError> {
        if let Some(attempt) = &self.attempt {
            attempt.check_not_item(&start.key)?;
        }
        self.starts.lock().push(start);
        Ok(())
    }

    /// Returns the recorded results of the children of a call, or the error with which the function must exit.
    pub(super) async fn run_children(
        &self,
        key: String,
        call: ChildCall,
    ) -> Result<Vec<Json>, TaskError> {
        let Some(attempt) = &self.attempt else {
            return Err(invalid(format!(
                "'{key}' cannot run workflow '{}' as a child without a runner",
                call.workflow
            )));
        };
        attempt.check_not_item(&key)?;
        self.load(attempt).await?;
        let count = u32::try_from(call.inputs.len()).unwrap_or(u32::MAX);
        let missing = if call.is_many {
            self.recorded(StepCall::RunMany, &key)?;
            if let Some(ends) = self.log.recorded_children(&key) {
                return Ok(ends);
            }
            self.log.missing_children(&key, count)
        } else {
            if let Some(end) = self.recorded(StepCall::Run, &key)? {
                return Ok(vec![end]);
            }
            vec![0]
        };
        let count = call.is_many.then_some(count);
        if missing.is_empty() {
            let at = attempt.port.now();
            let ended = EndedStep {
                key: key.clone(),
                kind: StepKind::Run,
                attempt: attempt.claim.attempt,
                started_at: at,
                ended_at: at,
                value: encode(&key, &serde_json::json!({ "count": count }))?,
            };
            let step = self.log.end(&attempt.task_id, ended, attempt.max_bytes);
            attempt.record(step.map_err(TaskError::of_failure)?).await?;
            let indexes = 0..count.unwrap_or_default();
            let ends = indexes.filter_map(|index| self.log.recorded(&item_key(&key, index)));
            return Ok(ends.collect());
        }
        let position =
            (self.log).reserve_children(&attempt.task_id, &key, count, attempt.max_bytes);
        let mut inputs: Vec<Option<Json>> = call.inputs.into_iter().map(Some).collect();
        let missing = missing.into_iter().filter_map(|index| {
            let input = inputs.get_mut(index as usize)?.take()?;
            Some(RunInput { index, input })
        });
        let runs = Runs {
            workflow: call.workflow,
            inputs: missing.collect(),
            count,
            parallel: call.parallel,
            timeout: call.timeout,
            priority: call.priority,
            ..Runs::default()
        };
        let position = position.map_err(TaskError::of_failure)?;
        *self.parked.lock() = Some(key.clone());
        Err(TaskError::park(Park {
            kind: ParkKind::Run,
            key,
            position,
            condition: Condition::none(),
            timeout: None,
            runs: Some(Box::new(runs)),
        }))
    }

    /// Returns the outcome of the attempt, with the executions to start (T10). It is a failure if the function had to
    /// exit for a sleep, a wait or children, but did not pass on the error (T5).
    pub(super) fn checked(&self, outcome: Outcome) -> Outcome {
        let parked = self.parked.lock().take();
        let starts = std::mem::take(&mut *self.starts.lock());
        let outcome = match outcome {
            Outcome::Completed(delta) if !starts.is_empty() => Outcome::Starting {
                delta,
                starts: starts.into(),
            },
            other => other,
        };
        match parked {
            Some(key) if !may_follow_park(&outcome, &key) => {
                let task = self.attempt.as_ref().map_or("", |attempt| &attempt.task_id);
                Outcome::Failed(caught(task, &key))
            }
            _ => outcome,
        }
    }

    /// Returns the recorded value of a call.
    ///
    /// # Errors
    /// Returns an error if another kind of call has recorded the key.
    fn recorded(&self, call: StepCall, key: &str) -> Result<Option<Json>, TaskError> {
        let recorded = self.log.recorded_by(call, key);
        recorded.map_err(|other: OtherCall| TaskError::of_failure(other.failure()))
    }

    async fn load(&self, attempt: &Attempt) -> Result<(), TaskError> {
        if !self.log.is_loaded() {
            let (execution, task) = (attempt.execution, attempt.task);
            let steps = attempt.ask(|reply| Message::LoadSteps {
                execution,
                task,
                item: attempt.claim.item,
                reply,
            });
            self.log.load(steps.await?);
        }
        Ok(())
    }
}

impl Attempt {
    /// Refuses calls that an item of a map cannot make. An item has no row that can store a wait, and its end does not
    /// complete the task.
    fn check_not_item(&self, key: &str) -> Result<(), TaskError> {
        let Some(item) = self.claim.item else {
            return Ok(());
        };
        let text = format!(
            "item '{}[{item}]' failed at call '{key}': an item of a map cannot wait, and cannot start other executions; \
             start a child execution for each element, because the tasks of a child can do both",
            self.task_id
        );
        let failure = Failure::engine(FailureKind::Rule, text);
        Err(TaskError::of_failure(failure))
    }

    async fn record(&self, step: StepRecord) -> Result<(), Error> {
        let (execution, task, claim) = (self.execution, self.task, self.claim);
        self.ask(|reply| Message::RecordStep {
            execution,
            task,
            claim,
            step,
            reply,
        })
        .await
    }

    /// Records the end of a wait if its condition already holds, and returns the recorded step; otherwise returns `None`.
    async fn end_wait(&self, park: Park) -> Result<Option<StepRecord>, Error> {
        let (execution, task, claim) = (self.execution, self.task, self.claim);
        self.ask(|reply| Message::EndWait {
            execution,
            task,
            claim,
            park: Box::new(park),
            is_recorded: false,
            reply,
        })
        .await
    }

    /// Sends a message to the runner and waits for its answer.
    async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        self.port
            // `sender.send` fails if the attempt was aborted before the answer. The answer is then dropped.
            .send(message(Box::new(move |answer| drop(sender.send(answer)))));
        receiver
            .await
            .unwrap_or_else(|_| Err(Error::runner_closed()))
    }
}

/// T3: calls the function of a step. Calls it again after each failure that the policy retries.
pub(super) async fn call_with_retry<T, F, R>(
    policy: RetryPolicy,
    mut function: F,
) -> Result<T, TaskError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, TaskError>>,
{
    let mut attempt = 1;
    loop {
        let error = match function().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(delay) = error.delay_in_place(&policy, attempt) else {
            return Err(error);
        };
        tokio::time::sleep(Duration::from_micros(delay.max(0).unsigned_abs())).await;
        attempt += 1;
    }
}

/// A call that runs children.
#[derive(Debug)]
pub(super) struct ChildCall {
    /// The name of the workflow.
    pub(super) workflow: String,
    /// The input of each child, a JSON object.
    pub(super) inputs: Vec<Json>,
    /// Whether the call returns a list.
    pub(super) is_many: bool,
    /// Maximum number of open children. `None`: no limit.
    pub(super) parallel: Option<u32>,
    /// Maximum run time of a child, in microseconds. `None`: the runner's `workflow_timeout`.
    pub(super) timeout: Option<Micros>,
    /// The priority of the children. `None`: the priority of the task.
    pub(super) priority: Option<i16>,
}

impl ChildCall {
    pub(super) fn new(workflow: &str, inputs: Vec<Json>) -> Self {
        Self {
            workflow: workflow.to_owned(),
            inputs,
            is_many: false,
            parallel: None,
            timeout: None,
            priority: None,
        }
    }
}

/// Returns the output of a child, from the recorded end of the child.
///
/// # Errors
/// `ChildFailedError` if the child did not complete. Later attempts receive the same error.
pub(super) fn ended_child<T: DeserializeOwned>(key: &str, end: &Json) -> Result<T, TaskError> {
    #[derive(serde::Deserialize)]
    struct End {
        #[serde(default)]
        value: Option<Json>,
        #[serde(default)]
        failed: Option<Failed>,
    }
    #[derive(serde::Deserialize)]
    struct Failed {
        message: String,
    }
    let end: End = decode(key, end)?;
    if let Some(failed) = end.failed {
        return Err(TaskError::of_failure(Failure {
            retryable: false,
            ..Failure::engine(FailureKind::ChildFailed, failed.message)
        }));
    }
    decode(
        key,
        &end.value.unwrap_or_else(|| Json::from_encoder("null")),
    )
}

/// Encodes the input of an execution as JSON.
///
/// # Errors
/// Returns an error if the input is not a JSON object.
pub(super) fn input_of<T: Serialize + ?Sized>(key: &str, input: &T) -> Result<Json, TaskError> {
    let input = Json::encode(input).map_err(|JsonError(problem)| {
        invalid(format!("the input of '{key}' is not JSON: {problem}"))
    })?;
    if input.shape() != JsonShape::Object {
        return Err(invalid(format!(
            "the input of '{key}' must be a JSON object, not a JSON {}",
            input.shape().name()
        )));
    }
    Ok(input)
}

/// Returns the value that a wait received; `None` if the wait timed out.
pub(super) fn ended_wait<T: DeserializeOwned>(
    key: &str,
    end: &Json,
) -> Result<Option<T>, TaskError> {
    #[derive(serde::Deserialize)]
    struct End {
        #[serde(default)]
        timed_out: bool,
        #[serde(default)]
        value: Option<Json>,
    }
    let end: Option<End> = decode(key, end)?;
    match end {
        Some(End {
            timed_out: true, ..
        }) => Ok(None),
        Some(End {
            value: Some(value), ..
        }) => decode(key, &value).map(Some),
        _ => decode(key, &Json::from_encoder("null")).map(Some),
    }
}

fn encode<T: Serialize + ?Sized>(key: &str, value: &T) -> Result<Json, TaskError> {
    Json::encode(value).map_err(|JsonError(problem)| {
        invalid(format!("the result of step '{key}' is not JSON: {problem}"))
    })
}

fn decode<T: DeserializeOwned>(key: &str, value: &Json) -> Result<T, TaskError> {
    value.decode().map_err(|JsonError(problem)| {
        invalid(format!(
            "the recorded result of '{key}', a JSON {}, is not a {}: {problem}",
            value.shape().name(),
            std::any::type_name::<T>()
        ))
    })
}

/// Returns whether a function that had to exit for a wait can end with this outcome. It can if it passed the error on, or if
/// another future of a `join!` failed at the same time. If a failure's message contains the text of the error, the failure was
/// made from the error, and is not allowed.
fn may_follow_park(outcome: &Outcome, wait: &str) -> bool {
    match outcome {
        Outcome::Park(_) => true,
        Outcome::Failed(failure) => {
            failure.kind != PARKED && !failure.message.contains(&parked_text(wait))
        }
        _ => false,
    }
}

/// Returns the failure of a task that did not pass on the error with which its function had to exit.
fn caught(task: &str, wait: &str) -> Failure {
    let text = format!(
        "task '{task}' caught the error TaskParked, with which the function exits for the wait '{wait}'; pass the error on with `?`"
    );
    Failure::engine(FailureKind::Rule, text)
}

/// Returns a failure that is not retried.
fn invalid(message: String) -> TaskError {
    TaskError::of_failure(Failure::engine(FailureKind::NotStorable, message))
}
