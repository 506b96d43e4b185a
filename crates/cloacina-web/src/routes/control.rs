//! Control of executions: cancel, pause, resume, retry.

use axum::http::{HeaderMap, header};
use cloacina::runtime::{self, Guarded};
use cloacina::types::Audit;
use cloacina::{Error, ErrorCode, ExecutionId, ExecutionStatus};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::access::Permission::Control;
use crate::call::{Call, Reply};
use crate::operation::{Handler, Operation};
use crate::problem::Problem;
use crate::views::execution::ControlledView;

/// Maximum number of entity tags of If-Match that are compared.
const MAX_TAGS: usize = 8;

pub(super) fn operations() -> Vec<Operation> {
    let control = |path, id, summary, about, handler: Handler| {
        Operation::post(path, Control, id, summary, handler)
            .about(about)
            .returns::<ControlledView>(200, "The new state.")
    };
    vec![
        control(
            "/executions/{id}/cancel",
            "cancelExecution",
            "Cancel an execution",
            "With the header If-Match, only if the execution still has this revision.",
            cancel,
        )
        .takes::<Change>(),
        control(
            "/executions/{id}/pause",
            "pauseExecution",
            "Pause an execution",
            "Running tasks may finish, and nothing new starts until it is resumed.",
            pause,
        )
        .takes::<Change>(),
        control(
            "/executions/{id}/resume",
            "resumeExecution",
            "Resume a paused execution",
            "Its tasks continue where the pause stopped them.",
            resume,
        )
        .takes::<Change>(),
        control(
            "/executions/{id}/retry",
            "retryExecution",
            "Run the failed tasks of an execution again",
            "The same execution continues: completed tasks keep their results. With `from_task`, this task and all that \
             depend on it run again.",
            retry,
        )
        .takes::<Retry>(),
    ]
}

/// A change of an execution.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// The reason, for the history.
    note: Option<String>,
}

/// A retry of an execution.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    /// The task to run again, with all tasks that depend on it; if omitted, all failed tasks run again.
    from_task: Option<String>,
    /// The reason, for the history.
    note: Option<String>,
}

fn cancel(call: &Call<'_>) -> Result<Reply, Problem> {
    let Change { note } = call.decode()?;
    control(call, "cancel", &runtime::Control::Cancel, note)
}

fn pause(call: &Call<'_>) -> Result<Reply, Problem> {
    let Change { note } = call.decode()?;
    control(call, "pause", &runtime::Control::Pause, note)
}

fn resume(call: &Call<'_>) -> Result<Reply, Problem> {
    let Change { note } = call.decode()?;
    control(call, "resume", &runtime::Control::Resume, note)
}

fn retry(call: &Call<'_>) -> Result<Reply, Problem> {
    let Retry { from_task, note } = call.decode()?;
    control(call, "retry", &runtime::Control::Retry { from_task }, note)
}

fn control(
    call: &Call<'_>,
    name: &str,
    action: &runtime::Control,
    note: Option<String>,
) -> Result<Reply, Problem> {
    let id = call.execution_id()?;
    let current = call.inspector.status(id)?;
    if current.is_terminal() && !matches!(action, runtime::Control::Retry { .. }) {
        let message = format!("execution {id} has ended: it is {current}");
        let error = Error::new(ErrorCode::ExecutionState, message);
        return Err(Problem::from(error).current(current));
    }
    match controlled(call, id, action, &call.audit(note))? {
        Ok(status) => {
            call.note_change(name, &id.to_string());
            Reply::json(&ControlledView {
                id: id.to_string(),
                status: status.name().to_owned(),
            })
        }
        Err(error) if error.code == ErrorCode::ExecutionState => {
            let current = call.inspector.status(id)?;
            Err(Problem::from(error).current(current))
        }
        Err(error) => Err(error.into()),
    }
}

/// Applies an action. If there is a header If-Match, the execution must have one of its revisions. The outer error is an error
/// of the header.
fn controlled(
    call: &Call<'_>,
    id: ExecutionId,
    action: &runtime::Control,
    audit: &Audit,
) -> Result<Result<ExecutionStatus, Error>, Problem> {
    let Some(wanted) = wanted_revisions(call.headers) else {
        return Ok(call.inspector.control_as(id, action, audit));
    };
    let mut present = None;
    for revision in wanted {
        match call.inspector.control_if(id, revision, action, audit) {
            Ok(Guarded::Applied(status)) => return Ok(Ok(status)),
            Ok(Guarded::Changed { revision }) => present = Some(revision),
            Err(error) => return Ok(Err(error)),
        }
    }
    let present = present.map_or_else(
        || "another revision".to_owned(),
        |present| format!("revision {present}"),
    );
    let detail = format!("execution {id} has {present}, which If-Match does not name");
    Err(Problem::new("revision_mismatch", detail).hint("read it again"))
}

/// The revisions that the header If-Match names; `None` if any will do.
fn wanted_revisions(headers: &HeaderMap) -> Option<Vec<i64>> {
    let given = headers.get(header::IF_MATCH)?;
    let text = given.to_str().unwrap_or_default();
    if text.split(',').any(|tag| tag.trim() == "*") {
        return None;
    }
    let tags = text.split(',').filter_map(|tag| {
        let revision = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
        revision.parse().ok()
    });
    Some(tags.take(MAX_TAGS).collect())
}
