//! Validates the results and parameters of typed tasks, the schema of the input, and the output (semantics J1, J6, J8).

use std::collections::{HashMap, HashSet};

use super::{Parameter, ParameterSource, TaskDefinition, WorkflowDefinition};
use crate::types::{Error, ErrorCode, Json, JsonShape, nearest};

pub(super) fn check(definition: &WorkflowDefinition) -> Result<(), Error> {
    let name = &definition.name;
    if let Some(input) = &definition.input
        && input.shape() != JsonShape::Object
    {
        return Err(invalid(format!(
            "the input schema of workflow '{name}' must be a JSON object, not a JSON {}",
            input.shape().name()
        )));
    }
    let producers = producers(definition)?;
    for task in &definition.tasks {
        check_parameters(name, task, &producers)?;
    }
    check_output(definition, &producers)
}

/// Returns the ordinary tasks by the key of their result. A task without a declared result is listed by its id. Refuses a
/// definition in which an ordinary task stores its result under the same key as another ordinary task or a final task.
fn producers(definition: &WorkflowDefinition) -> Result<HashMap<&str, &TaskDefinition>, Error> {
    let name = &definition.name;
    let mut producers: HashMap<&str, &TaskDefinition> = HashMap::new();
    for task in &definition.tasks {
        if task.result.as_deref() == Some("") {
            return Err(Error::new(
                ErrorCode::TaskInvalid,
                format!(
                    "task '{}' of workflow '{name}' has an empty result key",
                    task.id
                ),
            ));
        }
        let key = task.result_key();
        if let Some(other) = producers.insert(key, task) {
            return Err(same_result(name, other, task));
        }
    }
    for task in &definition.finals {
        // A compensation has the id of its task. `finale` refuses a final task that has the id of an ordinary task.
        let other = producers.get(task.result_key());
        if let Some(other) = other.filter(|other| other.id != task.id) {
            return Err(same_result(name, other, task));
        }
    }
    Ok(producers)
}

fn same_result(workflow: &str, one: &TaskDefinition, other: &TaskDefinition) -> Error {
    let (first, second, key) = (&one.id, &other.id, other.result_key());
    invalid(format!(
        "tasks '{first}' and '{second}' of workflow '{workflow}' both store their result under '{key}'"
    ))
    .with_hint("give one of them another output=...")
}

fn check_parameters(
    workflow: &str,
    task: &TaskDefinition,
    producers: &HashMap<&str, &TaskDefinition>,
) -> Result<(), Error> {
    let id = &task.id;
    let refuse = |problem: String| {
        let message = format!("task '{id}' of workflow '{workflow}' has {problem}");
        Error::new(ErrorCode::TaskInvalid, message)
    };
    let mut names = HashSet::with_capacity(task.parameters.len());
    for parameter in &task.parameters {
        let Parameter { name, source, .. } = parameter;
        if !names.insert(name.as_str()) {
            return Err(refuse(format!("two parameters named '{name}'")));
        }
        match (source, &parameter.task) {
            (ParameterSource::Task, None) => {
                return Err(refuse(format!(
                    "a parameter '{name}' that reads the result of a task but does not name the task"
                )));
            }
            (ParameterSource::Task, Some(from)) => {
                check_upstream(task, name, from, &refuse)?;
                check_key(parameter, from, producers, &refuse)?;
            }
            (_, Some(from)) => {
                return Err(refuse(format!(
                    "a parameter '{name}' that names task '{from}' but has another source"
                )));
            }
            (_, None) => {}
        }
    }
    Ok(())
}

fn check_upstream(
    task: &TaskDefinition,
    name: &str,
    from: &String,
    refuse: &impl Fn(String) -> Error,
) -> Result<(), Error> {
    if task.dependencies.contains(from) || task.rule.named_tasks().contains(&from.as_str()) {
        return Ok(());
    }
    Err(refuse(format!(
        "a parameter '{name}' from task '{from}', which is not a dependency"
    ))
    .with_hint(format!("add '{from}' to its dependencies")))
}

/// Checks that the key of a parameter is the key under which the task's result is stored.
fn check_key(
    parameter: &Parameter,
    from: &str,
    producers: &HashMap<&str, &TaskDefinition>,
    refuse: &impl Fn(String) -> Error,
) -> Result<(), Error> {
    let key = parameter.key();
    if producers
        .get(key)
        .is_some_and(|producer| producer.id == from)
    {
        return Ok(());
    }
    let name = &parameter.name;
    Err(refuse(format!(
        "a parameter '{name}' that reads key '{key}', but task '{from}' stores its result under another key"
    )))
}

/// Checks that each key of the output is a result or a field of the input. If a task can write any key, every key is
/// accepted.
fn check_output(
    definition: &WorkflowDefinition,
    producers: &HashMap<&str, &TaskDefinition>,
) -> Result<(), Error> {
    let Some(output) = &definition.output else {
        return Ok(());
    };
    let name = &definition.name;
    if output.keys().is_empty() {
        return Err(invalid(format!(
            "workflow '{name}' has an empty list as output"
        )));
    }
    // A task without a declared result can write any key.
    let is_open = definition.tasks.iter().any(|task| task.result.is_none());
    let inputs = input_fields(definition);
    let mut seen = HashSet::new();
    for key in output.keys() {
        if !seen.insert(key) {
            return Err(invalid(format!(
                "workflow '{name}' has '{key}' twice in its output"
            )));
        }
        if producers.contains_key(key.as_str()) || inputs.contains(key) || is_open {
            continue;
        }
        let error = invalid(format!(
            "workflow '{name}' has the output '{key}', which is neither the result of a task nor a field of the input"
        ));
        let renamed = definition.tasks.iter().find(|task| task.id == *key);
        let near = renamed
            .and_then(|task| task.result.as_deref())
            .or_else(|| nearest(key, producers.keys().copied()));
        return Err(match near {
            Some(near) => error.with_hint(format!("did you mean '{near}'?")),
            None => error,
        });
    }
    Ok(())
}

/// Returns the names of the declared fields of the input.
pub(super) fn input_fields(definition: &WorkflowDefinition) -> HashSet<String> {
    #[derive(serde::Deserialize)]
    struct Schema {
        #[serde(default)]
        properties: HashMap<String, Json>,
    }
    let schema = definition.input.as_ref();
    let schema = schema.and_then(|schema| schema.decode::<Schema>().ok());
    schema.map_or_else(HashSet::new, |schema| {
        schema.properties.into_keys().collect()
    })
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::WorkflowInvalid, message)
}
