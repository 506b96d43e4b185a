//! Converts what Python passes to a runner into the engine's requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runner::ListFilter;
use cloacina::runtime::{Control, Executor, Handler, Registration, Service, SubmitRequest};
use cloacina::types::{Error, ErrorCode, ExecutionId, ExecutionStatus, Micros, Timestamp, nearest};
use cloacina::workflow::{TaskDefinition, Workflow};
use pyo3::prelude::*;

use crate::context::Context;

/// Workflow, context, key, priority, `delay_us`, `at_us`, `timeout_us`.
pub type SubmitParts<'py> = (
    String,
    Option<Bound<'py, Context>>,
    Option<String>,
    i64,
    Option<Micros>,
    Option<i64>,
    Option<Micros>,
);

/// Executor, handler number, `on_success`, `on_failure`.
pub type HandlerParts = (String, u64, bool, bool);

/// Returns a submission with a new execution id.
pub fn submit_request(
    parts: SubmitParts<'_>,
    now: Timestamp,
    trace: Option<&str>,
) -> Result<SubmitRequest, Error> {
    let (workflow, context, key, priority, delay, at, timeout) = parts;
    let priority = i16::try_from(priority).map_err(|_| {
        invalid(format!(
            "priority must be between -32768 and 32767, not {priority}"
        ))
    })?;
    Ok(SubmitRequest {
        id: ExecutionId::generate(),
        workflow,
        input: context.map_or_else(Arc::default, |context| context.get().snapshot()),
        key,
        priority,
        start_at: at.map(Timestamp).or_else(|| delay.map(|delay| now + delay)),
        timeout,
        trace: trace.map(Arc::from),
    })
}

/// Returns a workflow with this program's handlers, and whether one of them runs on the event loop.
pub fn registration(
    workflow: &Arc<Workflow>,
    handlers: BTreeMap<String, HandlerParts>,
) -> Result<(Registration, bool), Error> {
    let mut wants_loop = false;
    let mut known = BTreeMap::new();
    for (task, parts) in handlers {
        let Some(ordinal) = workflow.ordinal(&task) else {
            let name = workflow.name();
            return Err(Error::new(
                ErrorCode::TaskInvalid,
                format!("cannot register a handler: workflow '{name}' has no task '{task}'"),
            ));
        };
        let handler = handler(parts)?;
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

/// Returns a handler for an external task of a workflow that another program defines, and whether it runs on the event
/// loop.
pub fn service(
    workflow: String,
    definition: &str,
    parts: HandlerParts,
) -> Result<(Service, bool), Error> {
    let task: TaskDefinition = serde_json::from_str(definition).map_err(|error| {
        Error::new(
            ErrorCode::TaskInvalid,
            format!("cannot read a task definition for workflow '{workflow}': {error}"),
        )
    })?;
    let handler = handler(parts)?;
    let tasks = vec![(task, handler)];
    Ok((
        Service { workflow, tasks },
        handler.executor == Executor::Loop,
    ))
}

fn handler((executor, token, on_success, on_failure): HandlerParts) -> Result<Handler, Error> {
    let executor = match executor.as_str() {
        "threads" => Executor::Threads,
        "loop" => Executor::Loop,
        other => return Err(invalid(format!("'{other}' is not a Python executor"))),
    };
    Ok(Handler {
        executor,
        token,
        on_success,
        on_failure,
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

/// Parses a listing's cursor: the id of the last execution of the previous page.
fn cursor_id(text: &str) -> Result<ExecutionId, Error> {
    execution_id(text).map_err(|error| Error {
        code: ErrorCode::Configuration,
        ..error
    })
}

/// Parses the name of a control action.
pub fn control(action: &str, from_task: Option<String>) -> Result<Control, Error> {
    match action {
        "cancel" => Ok(Control::Cancel),
        "pause" => Ok(Control::Pause),
        "resume" => Ok(Control::Resume),
        "retry" => Ok(Control::Retry { from_task }),
        other => Err(invalid(format!("'{other}' is not a control action"))),
    }
}

/// Returns the filter of a listing.
pub fn list_filter(
    workflow: Option<String>,
    statuses: &[String],
    tags: Option<BTreeMap<String, String>>,
    since: Option<i64>,
    limit: usize,
    cursor: Option<&str>,
) -> Result<ListFilter, Error> {
    Ok(ListFilter {
        workflow,
        statuses: statuses
            .iter()
            .map(|name| status(name))
            .collect::<Result<_, _>>()?,
        tags: tags.into_iter().flatten().collect(),
        since: since.map(Timestamp),
        before: cursor.map(cursor_id).transpose()?,
        limit,
    })
}

fn status(name: &str) -> Result<ExecutionStatus, Error> {
    name.parse().map_err(|()| {
        let names = ExecutionStatus::ALL.iter().map(|status| status.name());
        let error = invalid(format!("'{name}' is not an execution status"));
        let known = names.clone().collect::<Vec<_>>().join(", ");
        error.with_hint(match nearest(name, names) {
            Some(near) => format!("did you mean '{near}'? It takes one of {known}"),
            None => format!("it takes one of {known}"),
        })
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Configuration, message)
}
