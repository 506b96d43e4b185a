//! The routes for inputs, results and contexts.

use axum::http::header;

use super::tasks::ordinal;
use crate::access::Permission::ViewPayloads;
use crate::call::{Call, Reply};
use crate::operation::{Handler, Operation, Parameter};
use crate::problem::Problem;
use crate::views::execution::Payload;
use crate::views::{MAX_INLINE, raw};

pub(super) fn operations() -> Vec<Operation> {
    let payload = |path, id, summary, handler: Handler| {
        Operation::get(path, ViewPayloads, id, summary, handler)
            .about("A value of more than 64 KiB is omitted unless `full` or `raw` is true.")
            .with([
                Parameter::flag(
                    "full",
                    "Whether to send the value at any size, as a download.",
                ),
                Parameter::flag(
                    "raw",
                    "Whether to send only the value, without its size, at any size, as a download.",
                ),
            ])
            .returns::<Payload>(200, "The value with its size.")
    };
    vec![
        payload(
            "/executions/{id}/input",
            "getInput",
            "Show the input of an execution",
            input,
        ),
        payload(
            "/executions/{id}/output",
            "getOutput",
            "Show the context of an execution",
            output,
        ),
        payload(
            "/executions/{id}/tasks/{task}/output",
            "getTaskOutput",
            "Show what a task wrote",
            task_output,
        ),
        payload(
            "/executions/{id}/tasks/{task}/view",
            "getTaskView",
            "Show the context that a task sees",
            task_view,
        ),
    ]
}

fn payload(call: &Call<'_>, text: Option<String>) -> Result<Reply, Problem> {
    if call.web.hides_payloads() {
        return Err(Problem::new(
            "forbidden",
            "the server hides inputs and results",
        ));
    }
    if call.query.flag("raw")? {
        let value = raw(text.unwrap_or_else(|| "null".to_owned()))?;
        return Ok(Reply::json(&value)?.header(
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"value.json\"",
        ));
    }
    let is_full = call.query.flag("full")?;
    let size_bytes = text.as_ref().map_or(0, String::len);
    let is_cut = size_bytes > MAX_INLINE && !is_full;
    let value = text.filter(|_| !is_cut).map(raw).transpose()?;
    let reply = Reply::json(&Payload {
        value,
        size_bytes,
        is_cut,
    })?;
    Ok(if is_full {
        reply.header(
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"payload.json\"",
        )
    } else {
        reply
    })
}

fn input(call: &Call<'_>) -> Result<Reply, Problem> {
    let execution = call.inspector.execution(call.execution_id()?)?;
    payload(call, Some(execution.record().input.to_json()))
}

fn output(call: &Call<'_>) -> Result<Reply, Problem> {
    let execution = call.inspector.execution(call.execution_id()?)?;
    payload(call, Some(execution.final_context().to_json()))
}

fn task_output(call: &Call<'_>) -> Result<Reply, Problem> {
    let execution = call.inspector.execution(call.execution_id()?)?;
    let task = execution.task(ordinal(call, &execution)?);
    payload(call, task.delta.as_ref().map(|delta| delta.to_json()))
}

fn task_view(call: &Call<'_>) -> Result<Reply, Problem> {
    let execution = call.inspector.execution(call.execution_id()?)?;
    let ordinal = ordinal(call, &execution)?;
    let view = execution.as_ref().clone().view(ordinal);
    payload(call, Some(view.to_json()))
}
