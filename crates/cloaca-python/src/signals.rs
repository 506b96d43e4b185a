//! Signals, open waits and decisions, as Python passes them.

use cloacina::Wait;
use cloacina::runner::{WaitFilter, WaitPage as EnginePage};
use cloacina::runtime::Control;
use cloacina::types::{Error, ErrorCode, Json, NewSignal, Sent, Timestamp, WaitKind};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::record::record;
use crate::requests;

record! {
    /// The result of sending a signal.
    SentSignal {
        /// The signal's number.
        seq: i64,
        /// Whether this call stored the signal; false if an earlier call with the same id stored it.
        created: bool,
        /// The number of waits that received the signal at once.
        woken: usize,
    }
}

record! {
    /// An open wait.
    WaitRecord {
        /// `signal`, `approval`, `timer`, `cancel` or `child`.
        kind: &'static str,
        /// The name of the signal or the approval; for a child, the name of its workflow.
        name: String,
        /// The key of the signal.
        key: Option<String>,
        /// The execution.
        execution_id: String,
        /// The workflow's name.
        workflow: String,
        /// The task's id; `None` for a wait for a signal that cancels the execution.
        task_id: Option<String>,
        /// The time at which the wait began, in microseconds since 1970.
        since_us: i64,
        /// The time at which a timer is due or the wait times out, in microseconds since 1970.
        deadline_us: Option<i64>,
        /// The title of an approval.
        title: Option<String>,
        /// The person or group who must decide an approval.
        to: Option<String>,
        /// The JSON Schema of an approval's data, as JSON text.
        schema: Option<String>,
    }
}

record! {
    /// A page of open waits.
    WaitPage {
        /// The waits.
        items: Vec<Py<WaitRecord>>,
        /// The cursor of the next page; `None` on the last one.
        next: Option<String>,
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::Configuration, message)
}

/// Returns the engine's signal. `data` is JSON.
pub fn new_signal(
    name: String,
    data: &str,
    key: Option<String>,
    to: Option<&str>,
    id: Option<String>,
    sender: Option<String>,
) -> Result<NewSignal, Error> {
    Ok(NewSignal {
        name,
        key,
        to: to.map(requests::execution_id).transpose()?,
        data: json(data)?,
        id,
        sender,
    })
}

fn json(text: &str) -> Result<Json, Error> {
    Json::parse(text).map_err(|error| invalid(format!("the data is not JSON: {error}")))
}

/// Returns the action that decides an approval. `data` is JSON.
pub fn decision(
    task: String,
    approved: bool,
    data: &str,
    by: Option<String>,
    reason: Option<String>,
) -> Result<Control, Error> {
    Ok(if approved {
        Control::approve(task, json(data)?, by)
    } else {
        Control::reject(task, reason, by)
    })
}

/// Returns the action that moves the due time of a timer or of a retry delay.
pub fn reschedule(task: String, at_us: Option<i64>, after_us: i64, now: Timestamp) -> Control {
    Control::Reschedule {
        task,
        at: at_us.map_or(now + after_us, Timestamp),
    }
}

/// Returns the filter of a list of waits.
pub fn wait_filter(
    name: Option<String>,
    workflow: Option<String>,
    execution_id: Option<&str>,
    kind: Option<&str>,
    limit: usize,
    cursor: Option<String>,
) -> Result<WaitFilter, Error> {
    let kind = kind.map(|kind| {
        let known = WaitKind::ALL.iter().find(|known| known.name() == kind);
        known.copied().ok_or_else(|| {
            invalid(format!("'{kind}' is not a kind of wait"))
                .with_hint("a kind is signal, approval, timer, child or cancel")
        })
    });
    Ok(WaitFilter {
        name,
        workflow,
        execution: execution_id.map(requests::execution_id).transpose()?,
        kind: kind.transpose()?,
        cursor,
        limit,
    })
}

/// Converts a page of open waits.
pub fn wait_page(py: Python<'_>, page: EnginePage) -> PyResult<WaitPage> {
    let items = page.items.into_iter().map(|wait| Py::new(py, of(wait)));
    Ok(WaitPage {
        items: items.collect::<PyResult<_>>()?,
        next: page.next,
    })
}

fn of(wait: Wait) -> WaitRecord {
    WaitRecord {
        kind: wait.kind.name(),
        name: wait.name,
        key: wait.key,
        execution_id: wait.execution.to_string(),
        workflow: wait.workflow,
        task_id: wait.task,
        since_us: wait.since.0,
        deadline_us: wait.deadline.map(|at| at.0),
        title: wait.title,
        to: wait.to,
        schema: wait.schema.map(|schema| schema.to_string()),
    }
}

/// Returns the result of sending one signal, for Python.
pub fn sent(sent: &[Sent]) -> PyResult<SentSignal> {
    let sent = sent
        .first()
        .ok_or_else(|| PyRuntimeError::new_err("the engine returned no result for the signal"))?;
    Ok(SentSignal {
        seq: sent.seq,
        created: sent.is_new,
        woken: sent.woken,
    })
}
