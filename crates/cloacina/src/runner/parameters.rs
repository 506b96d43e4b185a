//! Resolves the parameters of typed tasks when a workflow is defined (semantics J1). Each parameter receives the result of a
//! task, a field of the input, or the value of a key of the context.
//!
//! See docs/explanation/decisions/073-typed-rust-tasks.md

use std::collections::{HashMap, HashSet};

use super::input_type::InputType;
use super::kind_check;
use super::mapped::{self, Fields};
use super::task::{ParameterName, TaskNames};
use crate::types::{Error, ErrorCode, nearest};
use crate::workflow::{ERROR_KEY, Parameter, ParameterSource, TaskDefinition, WorkflowDefinition};

/// Adds the resolved parameters, and the dependencies that they imply, to the tasks of a definition. `names` has an entry for
/// each task of the definition, in the same order.
///
/// # Errors
/// `TaskInvalid` if a parameter has no default and names neither a task nor a field of the declared input, or if the
/// type of a parameter cannot match the type of its source; the errors of [`mapped::resolve`].
pub(super) fn resolve(
    definition: &mut WorkflowDefinition,
    names: &[TaskNames],
    input: Option<&InputType>,
) -> Result<(), Error> {
    let keys = keys_of(names);
    let fields = input.map(|input| input.fields().map_or(Fields::Any, Fields::Named));
    let maps = maps_of(definition);
    for (task, names) in definition.tasks.iter_mut().zip(names) {
        resolve_task(&definition.name, task, names, &keys, fields)?;
        clear_items(task, &maps);
        let from = task
            .parameters
            .iter()
            .filter_map(|parameter| parameter.task.as_ref());
        let implied: Vec<String> = from
            .filter(|id| !task.dependencies.contains(id))
            .cloned()
            .collect();
        task.dependencies.extend(implied);
    }
    kind_check::check(definition, names, input)
}

/// Adds the resolved parameters of `task`, which undoes another task. `own`: the names in the definition of `task`.
/// `names`: the names in the definitions of the workflow's tasks.
///
/// # Errors
/// The errors of [`resolve`].
pub(super) fn resolve_compensation(
    definition: &WorkflowDefinition,
    task: &mut TaskDefinition,
    own: &TaskNames,
    names: &[TaskNames],
    input: Option<&InputType>,
) -> Result<(), Error> {
    let keys = keys_of(names);
    let fields = input.map(|input| input.fields().map_or(Fields::Any, Fields::Named));
    resolve_task(&definition.name, task, own, &keys, fields)?;
    clear_items(task, &maps_of(definition));
    Ok(())
}

/// Returns the ids of the tasks that are maps.
fn maps_of(definition: &WorkflowDefinition) -> HashSet<String> {
    let maps = definition.tasks.iter().filter(|task| task.over.is_some());
    maps.map(|task| task.id.clone()).collect()
}

/// Clears the flag `items` of parameters that do not name a map. `#[task]` sets the flag from the name of the parameter's type,
/// and a program can have its own type with the name `MapResult`.
fn clear_items(task: &mut TaskDefinition, maps: &HashSet<String>) {
    for parameter in &mut task.parameters {
        let from = parameter.task.as_ref();
        parameter.items &= from.is_some_and(|from| maps.contains(from));
    }
}

fn keys_of(names: &[TaskNames]) -> HashMap<&'static str, &'static str> {
    let pairs = names.iter();
    pairs
        .map(|task| (task.id, task.result.unwrap_or(task.id)))
        .collect()
}

fn resolve_task(
    workflow: &str,
    task: &mut TaskDefinition,
    names: &TaskNames,
    keys: &HashMap<&str, &str>,
    fields: Option<Fields>,
) -> Result<(), Error> {
    let elements = mapped::resolve(workflow, task, names, keys, fields)?;
    let signals = mapped::signals(task);
    for parameter in names.parameters {
        let name = parameter.name;
        let given = if elements.iter().any(|element| element == name) {
            Some(ParameterSource::Item)
        } else if parameter.task.is_none() && signals.iter().any(|signal| signal == name) {
            Some(ParameterSource::Signal)
        } else {
            None
        };
        if let Some(source) = given {
            task.parameters.push(Parameter {
                default: parameter.has_default,
                ..plain(name, source)
            });
            continue;
        }
        // In final tasks and compensations, the parameter `error` receives the error of the execution that they follow.
        let is_error = task.role.is_some() && parameter.name == ERROR_KEY;
        let fields = fields.filter(|_| !is_error);
        let resolved = resolve_one(workflow, task, parameter, keys, fields)?;
        task.parameters.extend(resolved);
    }
    let resources = names.resources.iter();
    let resources = resources.map(|name| plain(name, ParameterSource::Resource));
    task.parameters.extend(resources);
    Ok(())
}

/// Returns a parameter that has only a name and a source.
fn plain(name: &str, source: ParameterSource) -> Parameter {
    Parameter {
        name: name.to_owned(),
        source,
        key: None,
        task: None,
        default: false,
        items: false,
    }
}

/// Resolves one parameter. `None`: the parameter receives its default, because the declared input has no field of this name.
fn resolve_one(
    workflow: &str,
    task: &TaskDefinition,
    parameter: &ParameterName,
    keys: &HashMap<&str, &str>,
    fields: Option<Fields>,
) -> Result<Option<Parameter>, Error> {
    let name = parameter.name;
    let resolved = |source, from: Option<&str>, key: &str| Parameter {
        name: name.to_owned(),
        source,
        key: (key != name).then(|| key.to_owned()),
        task: from.map(str::to_owned),
        default: parameter.has_default,
        items: parameter.is_map_result && from.is_some(),
    };
    let from = parameter.task_or_name();
    if let Some(key) = keys.get(from) {
        return Ok(Some(resolved(ParameterSource::Task, Some(from), key)));
    }
    match fields {
        None => Ok(Some(resolved(ParameterSource::Context, None, name))),
        // The fields of an input that accepts any key are not known, so any name can be a field.
        Some(Fields::Any) => Ok(Some(resolved(ParameterSource::Input, None, name))),
        Some(Fields::Named(fields)) if fields.contains(&name) => {
            Ok(Some(resolved(ParameterSource::Input, None, name)))
        }
        Some(Fields::Named(_)) if parameter.has_default => Ok(None),
        Some(Fields::Named(fields)) => {
            let id = &task.id;
            let message = format!(
                "task '{id}' of workflow '{workflow}' has a parameter '{name}', which is neither a task nor a field of the input"
            );
            let error = Error::new(ErrorCode::TaskInvalid, message);
            let known = fields.iter().chain(keys.keys()).copied();
            Err(match nearest(name, known.filter(|known| known != id)) {
                Some(near) => error.with_hint(format!("did you mean '{near}'?")),
                None => error.with_hint("give it a default: #[default = …]"),
            })
        }
    }
}
