//! The results of typed tasks, and the output of an execution (semantics J3, J8).

use super::view::{completed_delta, final_context};
use crate::types::{ExecutionRecord, Json, Ordinal, TaskStatus};
use crate::workflow::{Output, Workflow};

/// Returns the value that a task stored under its result key, or `None` if the task did not complete or stored no result.
#[must_use]
pub fn result(workflow: &Workflow, record: &ExecutionRecord, task: Ordinal) -> Option<Json> {
    let definition = workflow.task(task);
    let key = definition.result.as_ref().unwrap_or(&definition.id);
    completed_delta(record, task)?
        .set
        .get(key.as_str())
        .cloned()
}

/// Returns the output of an execution. This is the value that its workflow names, or an array if the workflow names several
/// values. If the workflow names no value, the output is the final context as an object. A named value is `null` if the
/// context lacks its key, or if the task that should have produced it did not complete.
#[must_use]
pub fn output(workflow: &Workflow, record: &ExecutionRecord) -> Json {
    let context = final_context(workflow, record);
    let value = |key: &String| {
        let tasks = (0..).zip(&workflow.definition().tasks);
        let mut producers = tasks.filter(|(_, task)| task.result.as_ref() == Some(key));
        let is_missing = producers.next().is_some_and(|(task, _): (Ordinal, _)| {
            record.tasks[task as usize].status != TaskStatus::Completed
        });
        let value = context.get(key).filter(|_| !is_missing);
        value.map_or("null", Json::as_str)
    };
    match &workflow.definition().output {
        None => Json::from_encoder(context.to_json()),
        Some(Output::One(key)) => Json::from_encoder(value(key)),
        Some(Output::Many(keys)) => {
            let values: Vec<&str> = keys.iter().map(value).collect();
            Json::from_encoder(format!("[{}]", values.join(",")))
        }
    }
}
