//! The export of an execution as one document, to keep or to send to other people.

use axum::http::header;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::access::Permission::View;
use crate::call::{Call, Reply, hash_of};
use crate::indent::indented;
use crate::operation::{Operation, Parameter};
use crate::pages;
use crate::problem::Problem;
use crate::views::execution::{ExecutionView, TaskView};
use crate::views::history::{EventView, LogView};
use crate::views::{context, time};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/executions/{id}/export", View, "exportExecution", "Export an execution as one document", export)
            .about(
            "The document contains the execution's tasks, history and log lines. Callers with `view_payloads` also get its \
             input and context.",
            )
            .with([Parameter::words("format", &["json", "html"], "The format; default: json.")])
            .returns::<Export>(200, "The document, as a download.")
            .or_text("text/html"),
    ]
}

/// An execution with its tasks, history, logs and data.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Export {
    /// When the document was created.
    #[schema(format = DateTime)]
    exported_at: String,
    /// The execution.
    execution: ExecutionView,
    /// The tasks in the order of their declaration.
    tasks: Vec<TaskView>,
    /// The history, oldest event first.
    events: Vec<EventView>,
    /// The log lines, oldest first.
    logs: Vec<LogView>,
    /// The input; null without the permission `view_payloads`.
    #[schema(value_type = Option<serde_json::Value>)]
    input: Option<Box<RawValue>>,
    /// The context; null without the permission `view_payloads`.
    #[schema(value_type = Option<serde_json::Value>)]
    context: Option<Box<RawValue>>,
}

fn export(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.execution_id()?;
    let (execution, events) = call.inspector.history(id)?;
    let (_, chunks) = call.inspector.logs(id)?;
    let rows = execution
        .workflow()
        .definition()
        .tasks
        .iter()
        .zip(&execution.record().tasks);
    let maps = super::maps::rows(call, &execution)?;
    let tasks = (0..)
        .zip(rows)
        .map(|(ordinal, (definition, record))| {
            let map = maps.iter().find(|row| row.task == ordinal);
            TaskView::new(definition, record, map, true)
        })
        .collect();
    let events = events.into_iter().enumerate();
    let is_shown = call.may_view_payloads();
    let events = events.map(|(index, event)| EventView::new(index, event, &execution, is_shown));
    let lines = chunks.into_iter().flat_map(|chunk| {
        let task = execution.workflow().task(chunk.task).id.clone();
        let lines = chunk.lines.into_iter();
        lines.map(move |line| (task.clone(), chunk.attempt, line))
    });
    let logs = lines.enumerate();
    let logs = logs.map(|(index, (task, attempt, line))| LogView::new(index, &task, attempt, line));
    let document = Export {
        exported_at: time(call.inspector.now()),
        tasks,
        events: events.collect::<Result<_, _>>()?,
        logs: logs.collect(),
        input: is_shown
            .then(|| context(&execution.record().input))
            .transpose()?,
        context: is_shown
            .then(|| context(&execution.final_context()))
            .transpose()?,
        execution: super::executions::view(call, &execution)?,
    };
    let redactor = super::tasks::redactor(call, &execution);
    let failed = |_| Problem::new("internal", "the document cannot be encoded as JSON");
    let text = serde_json::to_string(&document).map_err(failed)?;
    let text = redactor.json(&text);
    // The first member is the time of the export. The entity tag leaves it out, because it differs for each request.
    let tag = hash_of(text.split_once(',').map_or("", |(_, rest)| rest));
    if call.query.get("format") != Some("html") {
        let name = format!("attachment; filename=\"execution-{id}.json\"");
        let reply = Reply::json(&document)?.header(header::CONTENT_DISPOSITION, &name);
        return Ok(reply.etag(tag).redacted_by(redactor));
    }
    // The text is not parsed for indenting, because parsing it into a tree of values would change numbers and the
    // order of keys, and would fail for deeply nested values.
    let text = indented(&text);
    let title = format!("{} {id}", execution.workflow().name());
    let name = format!("attachment; filename=\"execution-{id}.html\"");
    let reply = Reply::text(pages::document(&title, &text), "text/html; charset=utf-8");
    Ok(reply.etag(tag).header(header::CONTENT_DISPOSITION, &name))
}
