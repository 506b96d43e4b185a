//! Compares the types of parameters with the types of their sources when a workflow is defined (semantics J6).

use super::input_type::InputType;
use super::json_kinds::Kinds;
use super::task::{ParameterName, TaskNames};
use crate::types::{Error, ErrorCode};
use crate::workflow::{Parameter, ParameterSource, TaskDefinition, WorkflowDefinition};

/// Refuses a parameter whose type has no kind of JSON value in common with the result or input field that the parameter
/// receives. `names` has an entry for each task of the definition, in the same order.
///
/// # Errors
/// `TaskInvalid`.
pub(super) fn check(
    definition: &WorkflowDefinition,
    names: &[TaskNames],
    input: Option<&InputType>,
) -> Result<(), Error> {
    let tasks = definition.tasks.iter().zip(names);
    for (task, own) in tasks.clone() {
        for parameter in own.parameters {
            let mut resolved = task.parameters.iter();
            let Some(source) = resolved.find(|known| known.name == parameter.name) else {
                continue;
            };
            let problem = match (source.source, &source.task) {
                (ParameterSource::Task, Some(id)) => {
                    let mut makers = tasks.clone();
                    let maker = makers.find(|(maker, _)| maker.id == *id);
                    maker.and_then(|(maker, names)| of_result(parameter, maker, names))
                }
                (ParameterSource::Input, _) => {
                    input.and_then(|input| of_field(parameter, source, input))
                }
                _ => None,
            };
            if let Some(problem) = problem {
                let message = format!(
                    "parameter '{}' of task '{}' of workflow '{}' takes {problem}",
                    parameter.name, task.id, definition.name
                );
                return Err(Error::new(ErrorCode::TaskInvalid, message)
                    .with_hint("change one of the two types"));
            }
        }
    }
    Ok(())
}

fn of_result(
    parameter: &ParameterName,
    maker: &TaskDefinition,
    names: &TaskNames,
) -> Option<String> {
    let is_map = maker.over.is_some();
    if is_map {
        return None;
    }
    let taken: Kinds = (parameter.kinds)();
    if taken.is_map_result() {
        return Some(format!(
            "the items of a map, but task '{}' is not a map",
            maker.id
        ));
    }
    let made: Kinds = names.result_kinds?();
    if taken.admits(made) {
        return None;
    }
    Some(format!(
        "{}, but the result of task '{}' is {}",
        taken.names(),
        maker.id,
        made.names()
    ))
}

fn of_field(parameter: &ParameterName, source: &Parameter, input: &InputType) -> Option<String> {
    let key = source.key();
    let field = input.fields()?.iter().find(|field| **field == key)?;
    let (taken, given) = ((parameter.kinds)(), input.kinds(field));
    if taken.admits_given(given) {
        return None;
    }
    Some(format!(
        "{}, but field '{key}' of the input is {}",
        taken.names(),
        given.names()
    ))
}
