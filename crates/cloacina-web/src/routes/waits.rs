//! The routes for open waits, signals, and decisions about approvals.

use axum::http::StatusCode;
use cloacina::engine::MAX_SIGNAL_KEY;
use cloacina::runner::{Wait, WaitFilter};
use cloacina::runtime;
use cloacina::types::{Json, NewSignal, WaitKind};
use cloacina::{Error, ErrorCode, ExecutionId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::start::refuse_mask;
use super::{CURSOR, LIMIT, MAX_PAGE};
use crate::access::Permission::{Control, View};
use crate::call::{Call, Reply, parse_execution};
use crate::cursor;
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::views::execution::ControlledView;
use crate::views::{Page, due, raw, time};

/// The names of the kinds of waits.
const KINDS: &[&str] = &["signal", "approval", "timer", "cancel"];

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/waits", View, "listWaits", "List the open waits for signals and approvals", list)
            .about("The oldest wait comes first.")
            .with([
                Parameter::words("kind", KINDS, "Only waits of one of these kinds; default: signals and approvals.").repeated(),
                Parameter::text("name", "Only waits for one of these signals or approvals.").repeated(),
                Parameter::text("workflow", "Only waits of one of these workflows.").repeated(),
                LIMIT,
                CURSOR,
            ])
            .returns_page::<WaitingView>("The waits."),
        Operation::get("/executions/{id}/waits", View, "listWaitsOf", "List the open waits of an execution", list_of)
            .returns_page::<WaitingView>("The waits."),
        Operation::post("/signals", Control, "sendSignal", "Send a signal", send)
            .about(
            "The signal goes to the waits for its name and key, or to the mailbox of one execution. A second signal with \
             the same `id` changes nothing.",
            )
            .takes::<SignalRequest>()
            .returns::<SentView>(201, "The signal is stored.")
            .returns::<SentView>(200, "Nothing was stored, because an earlier signal has the id."),
        Operation::post("/executions/{id}/tasks/{task}/approve", Control, "approveTask", "Approve a task that waits for approval", approve)
            .about("Only the first decision counts. A later decision is refused with the status 409.")
            .takes::<DecisionRequest>()
            .returns::<ControlledView>(200, "The state of the execution."),
        Operation::post("/executions/{id}/tasks/{task}/reject", Control, "rejectTask", "Reject a task that waits for approval", reject)
            .about("Only the first decision counts. A later decision is refused with the status 409.")
            .takes::<DecisionRequest>()
            .returns::<ControlledView>(200, "The state of the execution."),
    ]
}

/// An open wait of a task, or of a whole execution for a signal that cancels it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Wait)]
pub(super) struct WaitingView {
    /// The kind: `signal`, `approval`, `timer` or `cancel`.
    kind: String,
    /// The name of the signal or approval.
    name: String,
    /// The key of the signal.
    key: Option<String>,
    /// The execution.
    execution: String,
    /// The workflow.
    workflow: String,
    /// The task; null for a signal that cancels the execution.
    task: Option<String>,
    /// When the wait began.
    #[schema(format = DateTime)]
    since: String,
    /// When the wait times out, or when the timer is due.
    #[schema(format = DateTime)]
    deadline_at: Option<String>,
    /// The title of the approval.
    title: Option<String>,
    /// The person or group who decides.
    to: Option<String>,
    /// The JSON schema of the approval's data.
    #[schema(value_type = Option<serde_json::Value>)]
    schema: Option<Box<RawValue>>,
}

impl WaitingView {
    fn new(wait: Wait) -> Result<Self, Problem> {
        let schema = wait.schema.map(|schema| raw(schema.as_str().to_owned()));
        Ok(Self {
            kind: wait.kind.name().to_owned(),
            name: wait.name,
            key: wait.key,
            execution: wait.execution.to_string(),
            workflow: wait.workflow,
            task: wait.task,
            since: time(wait.since),
            deadline_at: due(wait.deadline),
            title: wait.title,
            to: wait.to,
            schema: schema.transpose()?,
        })
    }
}

/// A signal to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignalRequest {
    /// The name.
    name: String,
    /// The data.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The key. Cannot be combined with `to`.
    key: Option<String>,
    /// The execution whose mailbox receives the signal.
    to: Option<String>,
    /// An id for idempotency: a second signal with the same id is not stored.
    id: Option<String>,
}

/// The result of sending a signal.
#[derive(Debug, Serialize, ToSchema)]
struct SentView {
    /// The signal's number.
    id: String,
    /// Whether this request stored the signal.
    created: bool,
    /// The number of waits that received the signal immediately.
    woken: usize,
}

/// A decision about an approval.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DecisionRequest {
    /// The data of an approval; ignored in a rejection.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The reason for the decision.
    reason: Option<String>,
    /// The name of the person who decides; default: the caller.
    by: Option<String>,
}

fn kind_named(name: &str) -> Option<WaitKind> {
    let mut kinds = WaitKind::ALL.iter().copied();
    kinds.find(|kind| kind.name() == name)
}

/// Maximum number of combinations of values of the parameters of a list of waits.
const MAX_FILTERS: usize = 50;

/// Returns the distinct values of a parameter; a single `None` if the parameter is not given.
fn alternatives(call: &Call<'_>, name: &str) -> Vec<Option<String>> {
    let values: Vec<_> = (call.query.distinct(name))
        .map(|value| Some(value.to_owned()))
        .collect();
    if values.is_empty() {
        vec![None]
    } else {
        values
    }
}

fn page(call: &Call<'_>, execution: Option<ExecutionId>) -> Result<Reply, Problem> {
    let kinds = alternatives(call, "kind");
    let (names, workflows) = (alternatives(call, "name"), alternatives(call, "workflow"));
    if kinds.len() * names.len() * workflows.len() > MAX_FILTERS {
        let detail = format!(
            "the repeated parameters kind, name and workflow have more than {MAX_FILTERS} combinations"
        );
        return Err(Problem::new("bad_request", detail).hint("send several requests"));
    }
    let cursor = cursor::for_engine(&call.query)?;
    let limit = call.query.number("limit", 50, 1..=MAX_PAGE)?;
    let mut filters = Vec::new();
    for kind in &kinds {
        for name in &names {
            filters.extend(workflows.iter().map(|workflow| WaitFilter {
                name: name.clone(),
                workflow: workflow.clone(),
                execution,
                kind: kind.as_deref().and_then(kind_named),
                cursor: cursor.clone(),
                limit,
            }));
        }
    }
    let found = call.inspector.waits_of_any(&filters)?;
    let items = found.items.into_iter().map(WaitingView::new);
    let page = Page {
        items: items.collect::<Result<Vec<_>, _>>()?,
        next: (found.next).map(|next| cursor::of_engine(&next, &call.query)),
        prev: (found.prev).map(|prev| cursor::of_engine(&prev, &call.query)),
    };
    Reply::page(call, &page)
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    page(call, None)
}

fn list_of(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.execution_id()?;
    call.inspector.status(id)?;
    page(call, Some(id))
}

fn json(pointer: &str, data: Option<&RawValue>) -> Result<Json, Problem> {
    let text = data.map_or("null", RawValue::get);
    refuse_mask(pointer, text)?;
    Json::parse(text).map_err(|error| Problem::invalid(pointer, error.to_string()))
}

/// Returns a pointer to the invalid member of a signal that the engine refuses with the code `Configuration`.
fn invalid_member(signal: &NewSignal) -> &'static str {
    let is_long = |text: &Option<String>| {
        text.as_ref()
            .is_some_and(|text| text.len() > MAX_SIGNAL_KEY)
    };
    if signal.key.is_some() && signal.to.is_some() {
        "/to"
    } else if is_long(&signal.key) {
        "/key"
    } else if is_long(&signal.id) {
        "/id"
    } else {
        "/name"
    }
}

fn send(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: SignalRequest = call.decode()?;
    let name = request.name.clone();
    let signal = NewSignal {
        name: request.name,
        key: request.key,
        to: request.to.as_deref().map(parse_execution).transpose()?,
        data: json("/data", request.data.as_deref())?,
        id: request.id,
        sender: Some(call.access.user().to_owned()),
    };
    let invalid = invalid_member(&signal);
    let sent = call.inspector.send(&[signal]).map_err(|error| {
        Problem::from(error)
            .at(ErrorCode::ContextInvalid, "/data")
            .at(ErrorCode::Configuration, invalid)
    })?;
    let missing = || Problem::new("internal", "the signal was not stored");
    let sent = sent.first().ok_or_else(missing)?;
    call.note_change("signal", &name);
    let reply = Reply::json(&SentView {
        id: sent.seq.to_string(),
        created: sent.is_new,
        woken: sent.woken,
    })?;
    Ok(if sent.is_new {
        reply.status(StatusCode::CREATED)
    } else {
        reply
    })
}

fn approve(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: DecisionRequest = call.decode()?;
    let data = json("/data", request.data.as_deref())?;
    let task = call.part("task")?.to_owned();
    let by = request.by.or_else(|| Some(call.access.user().to_owned()));
    let mut action = runtime::Control::approve(task, data, by);
    if let runtime::Control::Decide { decision, .. } = &mut action {
        decision.reason = request.reason;
    }
    decide(call, "approve", &action)
}

fn reject(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: DecisionRequest = call.decode()?;
    let task = call.part("task")?.to_owned();
    let by = request.by.or_else(|| Some(call.access.user().to_owned()));
    decide(
        call,
        "reject",
        &runtime::Control::reject(task, request.reason, by),
    )
}

/// Refuses a task that the execution's workflow does not have.
fn known_task(call: &Call<'_>, id: ExecutionId) -> Result<(), Problem> {
    let execution = call.inspector.outline(id)?;
    super::tasks::ordinal(call, &execution).map(drop)
}

fn decide(call: &Call<'_>, name: &str, action: &runtime::Control) -> Result<Reply, Problem> {
    let id = call.execution_id()?;
    call.check_revision(id)?;
    let decided = call.inspector.control_as(id, action, &call.audit(None));
    let status = decided.map_err(|error: Error| {
        let is_state = matches!(
            error.code,
            ErrorCode::ExecutionState | ErrorCode::AlreadyDecided
        );
        let current = call.inspector.status(id).ok().filter(|_| is_state);
        if (is_state || error.code == ErrorCode::WorkflowInvalid)
            && let Err(problem) = known_task(call, id)
        {
            return problem;
        }
        let problem = Problem::from(error)
            .at(ErrorCode::WorkflowInputInvalid, "/data")
            .at(ErrorCode::ContextInvalid, "/data");
        match current {
            Some(current) => problem.current(current),
            None => problem,
        }
    })?;
    call.note_change(name, &id.to_string());
    Reply::json(&ControlledView {
        id: id.to_string(),
        status: status.name().to_owned(),
    })
}
