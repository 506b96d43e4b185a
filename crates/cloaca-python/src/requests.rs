//! Converts the arguments that Python passes to a runner into the engine's requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runtime::{self, Control, Executor, Handler, Registration, Service};
use cloacina::types::{
    Error, ErrorCode, ExecutionId, Labels, Micros, ScheduleId, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, Workflow};
use pyo3::prelude::*;

use crate::context::Context;
use crate::errors::Raise;
use crate::record::repr_of;
use crate::records::Submitted;

/// A submission: which workflow to start, with which input, and when.
#[pyclass(frozen, get_all, module = "cloaca._core")]
pub struct SubmitRequest {
    /// The name of the workflow.
    workflow: String,
    /// The input; `None` for an empty one.
    context: Option<Py<Context>>,
    /// The submission's unique key. If an execution of the workflow has the key, nothing new starts.
    key: Option<String>,
    /// The priority, from -32768 to 32767. Executions with a higher priority start first.
    priority: i64,
    /// The delay before the start, in microseconds.
    delay_us: Option<Micros>,
    /// The time of the start, in microseconds since 1970.
    at_us: Option<i64>,
    /// The timeout of the execution, in microseconds.
    timeout_us: Option<Micros>,
    /// The labels, by name.
    labels: Option<BTreeMap<String, String>>,
    /// The trace context that is stored with the execution, as JSON.
    trace: Option<String>,
}

#[pymethods]
impl SubmitRequest {
    #[new]
    #[pyo3(signature = (workflow, context=None, key=None, priority=0, delay_us=None, at_us=None, timeout_us=None, labels=None))]
    #[expect(clippy::too_many_arguments, reason = "Python passes them by name")]
    const fn new(
        workflow: String,
        context: Option<Py<Context>>,
        key: Option<String>,
        priority: i64,
        delay_us: Option<Micros>,
        at_us: Option<i64>,
        timeout_us: Option<Micros>,
        labels: Option<BTreeMap<String, String>>,
    ) -> Self {
        Self {
            workflow,
            context,
            key,
            priority,
            delay_us,
            at_us,
            timeout_us,
            labels,
            trace: None,
        }
    }

    /// Returns a copy of this request with a trace context, given as JSON.
    fn with_trace(&self, py: Python<'_>, trace: String) -> Self {
        Self {
            workflow: self.workflow.clone(),
            context: self.context.as_ref().map(|context| context.clone_ref(py)),
            key: self.key.clone(),
            labels: self.labels.clone(),
            trace: Some(trace),
            ..*self
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr_of(
            slf.as_any(),
            &[
                "workflow",
                "key",
                "priority",
                "delay_us",
                "at_us",
                "timeout_us",
                "labels",
            ],
        )
    }
}

/// A task's handler: the number of the Python function, and how to run it.
#[pyclass(frozen, get_all, module = "cloaca._core")]
pub struct TaskHandler {
    /// `threads` or `loop`.
    executor: String,
    /// The number of the function in the package's registry.
    number: u64,
    /// Whether the task has a callback that is called after success.
    on_success: bool,
    /// Whether the task has a callback that is called after failure.
    on_failure: bool,
}

impl TaskHandler {
    /// Whether worker threads run the task.
    pub fn is_on_threads(&self) -> bool {
        self.executor == "threads"
    }
}

#[pymethods]
impl TaskHandler {
    #[new]
    const fn new(executor: String, number: u64, on_success: bool, on_failure: bool) -> Self {
        Self {
            executor,
            number,
            on_success,
            on_failure,
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let fields = ["executor", "number", "on_success", "on_failure"];
        repr_of(slf.as_any(), &fields)
    }
}

/// Returns the engine's request for a submission, with a new execution id.
pub fn submission(
    py: Python<'_>,
    request: &SubmitRequest,
    now: Timestamp,
) -> PyResult<runtime::SubmitRequest> {
    let priority = request.priority;
    let priority = i16::try_from(priority)
        .map_err(|_| {
            invalid(format!(
                "priority must be between -32768 and 32767, not {priority}"
            ))
        })
        .raise(py)?;
    let context = request.context.as_ref();
    let input = context.map(|context| context.get().snapshot(py));
    let delayed = request.delay_us.map(|delay| now + delay);
    Ok(runtime::SubmitRequest {
        id: ExecutionId::generate(),
        workflow: request.workflow.clone(),
        input: input.transpose()?.unwrap_or_default(),
        key: request.key.clone(),
        priority,
        start_at: request.at_us.map(Timestamp).or(delayed),
        timeout: request.timeout_us,
        labels: match &request.labels {
            None => Labels::default(),
            Some(labels) => Labels::new(labels.clone()).raise(py)?,
        },
        trace: request.trace.as_deref().map(Arc::from),
    })
}

/// Returns the engine's requests for submissions, each with a new execution id.
pub fn submissions(
    py: Python<'_>,
    requests: Vec<Bound<'_, SubmitRequest>>,
    now: Timestamp,
) -> PyResult<Vec<runtime::SubmitRequest>> {
    let requests = requests.into_iter();
    requests
        .map(|request| submission(py, request.get(), now))
        .collect()
}

/// Returns the result of each submission. `own` has the ids of the requests; `stored` has the ids of the stored executions.
pub fn submitted(own: &[ExecutionId], stored: &[ExecutionId]) -> Vec<Submitted> {
    let pairs = own.iter().zip(stored);
    pairs
        .map(|(own, stored)| Submitted {
            execution_id: stored.to_string(),
            created: own == stored,
        })
        .collect()
}

/// Returns a workflow with this program's handlers, and whether one of the handlers runs on the event loop.
pub fn registration(
    workflow: &Arc<Workflow>,
    handlers: BTreeMap<String, Bound<'_, TaskHandler>>,
) -> Result<(Registration, bool), Error> {
    let mut wants_loop = false;
    let mut known = BTreeMap::new();
    for (task, handler) in handlers {
        if is_final(workflow, &task) {
            let handler = engine_handler(handler.get())?;
            wants_loop |= handler.executor == Executor::Loop;
            known.insert(task, handler);
            continue;
        }
        let Some(ordinal) = workflow.ordinal(&task) else {
            let name = workflow.name();
            return Err(Error::new(
                ErrorCode::TaskInvalid,
                format!("cannot register a handler: workflow '{name}' has no task '{task}'"),
            ));
        };
        let handler = engine_handler(handler.get())?;
        wants_loop |= handler.executor == Executor::Loop;
        known.insert(workflow.task(ordinal).id.clone(), handler);
    }
    Ok((
        Registration {
            workflow: Arc::clone(workflow),
            handlers: known,
        },
        wants_loop,
    ))
}

/// Whether a handler belongs to a final task. Compensations are final tasks too; their handlers' names end in `~final`.
fn is_final(workflow: &Workflow, name: &str) -> bool {
    let id = name.strip_suffix("~final").unwrap_or(name);
    let mut finals = workflow.definition().finals.iter();
    (workflow.ordinal(name).is_none()) && finals.any(|task| task.id == id)
}

/// Returns a handler for an external task of another program's workflow, and whether the handler runs on the event loop.
pub fn service(
    workflow: String,
    definition: &str,
    handler: &TaskHandler,
) -> Result<(Service, bool), Error> {
    let task: TaskDefinition = serde_json::from_str(definition).map_err(|error| {
        Error::new(
            ErrorCode::TaskInvalid,
            format!("cannot read a task definition for workflow '{workflow}': {error}"),
        )
    })?;
    let handler = engine_handler(handler)?;
    let tasks = vec![(task, handler)];
    Ok((
        Service { workflow, tasks },
        handler.executor == Executor::Loop,
    ))
}

fn engine_handler(handler: &TaskHandler) -> Result<Handler, Error> {
    let executor = match handler.executor.as_str() {
        "threads" => Executor::Threads,
        "loop" => Executor::Loop,
        other => return Err(invalid(format!("'{other}' is not a Python executor"))),
    };
    Ok(Handler {
        executor,
        token: handler.number,
        on_success: handler.on_success,
        on_failure: handler.on_failure,
    })
}

/// Parses the id of an execution.
pub fn execution_id(text: &str) -> Result<ExecutionId, Error> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        Error::new(
            ErrorCode::ExecutionNotFound,
            format!("'{shown}' is not an execution id"),
        )
        .with_hint("an id is a UUID, like 0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41; submit returns it")
    })
}

/// Parses the name of a task's state.
pub fn task_status(name: Option<&str>) -> Result<Option<TaskStatus>, Error> {
    let Some(name) = name else {
        return Ok(None);
    };
    if let Some(status) = TaskStatus::ALL.iter().find(|status| status.name() == name) {
        return Ok(Some(*status));
    }
    let known: Vec<&str> = TaskStatus::ALL.iter().map(|status| status.name()).collect();
    Err(invalid(format!("'{name}' is not the state of a task"))
        .with_hint(format!("a state is one of {}", known.join(", "))))
}

/// Parses the id of a schedule or trigger.
pub fn schedule_id(text: &str) -> Result<ScheduleId, Error> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        Error::new(
            ErrorCode::ScheduleInvalid,
            format!("Invalid schedule ID '{shown}'"),
        )
        .with_hint("use the UUID that register_cron_workflow returned")
    })
}

/// Parses the name of a control action.
pub fn control(
    action: &str,
    from_task: Option<String>,
    from_step: Option<String>,
) -> Result<Control, Error> {
    match action {
        "cancel" => Ok(Control::Cancel),
        "pause" => Ok(Control::Pause),
        "resume" => Ok(Control::Resume),
        "retry" => Ok(match from_step {
            Some(step) => Control::RetryFromStep {
                task: from_task,
                step,
                again: false,
            },
            None => Control::Retry { from_task },
        }),
        other => Err(invalid(format!("'{other}' is not a control action"))),
    }
}

pub fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Configuration, message)
}
