//! The routes that control an execution: cancel, pause, resume and retry.

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

/// Maximum number of entity tags that are read from the header If-Match.
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
            "With the header If-Match, the execution is cancelled only if it still has the revision in the header.",
            cancel,
        )
        .takes::<Change>(),
        control(
            "/executions/{id}/pause",
            "pauseExecution",
            "Pause an execution",
            "Running tasks continue to their end, but no other task starts until the execution is resumed.",
            pause,
        )
        .takes::<Change>(),
        control(
            "/executions/{id}/resume",
            "resumeExecution",
            "Resume a paused execution",
            "Tasks that did not start because of the pause can now start.",
            resume,
        )
        .takes::<Change>(),
        control(
            "/executions/{id}/retry",
            "retryExecution",
            "Run the failed tasks of an execution again",
            "The same execution continues: completed tasks keep their results. With `from_task`, the named task and all \
             tasks that depend on it run again.",
            retry,
        )
        .takes::<Retry>(),
    ]
}

/// The reason for a change to an execution or a schedule.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// The reason, for the history.
    pub(super) note: Option<String>,
}

/// A retry of an execution.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    /// The task to run again, together with all tasks that depend on it. If omitted, all failed tasks run again.
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
        Err(error) => {
            let names_task = matches!(action, runtime::Control::Retry { from_task: Some(_) });
            let problem = Problem::from(error);
            Err(if names_task {
                problem.at(ErrorCode::WorkflowInvalid, "/from_task")
            } else {
                problem
            })
        }
    }
}

/// Applies an action. If the request has the header If-Match and the execution has none of the header's revisions, the action
/// is not applied, and the outer result is an error.
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
    Err(mismatch(id, &present))
}

impl Call<'_> {
    /// Refuses the request if it has the header If-Match and the execution has none of the header's revisions.
    pub(super) fn check_revision(&self, id: ExecutionId) -> Result<(), Problem> {
        let Some(wanted) = wanted_revisions(self.headers) else {
            return Ok(());
        };
        let present = self.inspector.execution(id)?.record().revision;
        if wanted.contains(&present) {
            return Ok(());
        }
        Err(mismatch(id, &format!("revision {present}")))
    }
}

fn mismatch(id: ExecutionId, present: &str) -> Problem {
    let detail = format!("execution {id} has {present}, which If-Match does not name");
    Problem::new("revision_mismatch", detail).hint("read the execution again")
}

/// Returns the revisions that the header If-Match names; `None` if any revision is allowed.
pub(super) fn wanted_revisions(headers: &HeaderMap) -> Option<Vec<i64>> {
    let given = headers.get_all(header::IF_MATCH);
    let texts = given.iter().map(|text| text.to_str().unwrap_or_default());
    let mut tags = texts.flat_map(|text| text.split(',')).peekable();
    tags.peek()?;
    let tags: Vec<&str> = tags.collect();
    if tags.iter().any(|tag| tag.trim() == "*") {
        return None;
    }
    let revisions = tags.into_iter().filter_map(|tag| {
        let tag = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
        // The tag of an open execution has a hash of the answer after the revision.
        let revision = tag.split_once('-').map_or(tag, |(revision, _)| revision);
        revision.parse().ok()
    });
    Some(revisions.take(MAX_TAGS).collect())
}
