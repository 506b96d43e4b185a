//! Resolves the lists of mapped tasks when a workflow is defined (semantics K). Each list is the result of a task, a
//! field of the input, or a key of the context. The element goes to the parameter that has the name of the list. If
//! no parameter has this name, the element goes to the parameter that is neither a task nor a field of the input.

use std::collections::{BTreeMap, HashMap};

use super::task::{ParameterName, TaskNames};
use crate::types::{Condition, Error, ErrorCode, nearest};
use crate::workflow::TaskDefinition;

/// The fields of a declared input.
#[derive(Clone, Copy)]
pub(super) enum Fields {
    /// The input accepts any key, so its fields are not known.
    Any,
    /// The names of the fields.
    Named(&'static [&'static str]),
}

/// Replaces the names of a mapped task's lists with their keys in the context. Adds the tasks that produce the lists to the
/// dependencies. Returns the names of the parameters that receive the elements; empty for a task that is not mapped.
///
/// # Errors
/// `TaskInvalid` for a list that is neither a task nor a field of the declared input, or if no parameter or several
/// parameters can receive the element.
pub(super) fn resolve(
    workflow: &str,
    task: &mut TaskDefinition,
    names: &TaskNames,
    keys: &HashMap<&str, &str>,
    fields: Option<Fields>,
) -> Result<Vec<String>, Error> {
    let Some(mut spec) = task.over.take() else {
        return Ok(Vec::new());
    };
    let mut lists = BTreeMap::new();
    for (parameter, list) in std::mem::take(&mut spec.lists) {
        let parameter = if !parameter.is_empty() {
            parameter
        } else if task.child.is_some() {
            // In the paths of a child's input, `item` is the element.
            "item".to_owned()
        } else {
            element(workflow, task, names, keys, fields, &list)?
        };
        let (head, rest) = list
            .find('.')
            .map_or((list.as_str(), ""), |dot| list.split_at(dot));
        let made = [(list.as_str(), ""), (head, rest)];
        let maker = made.into_iter().find_map(|(id, rest)| {
            let key = keys.get(id).filter(|_| id != task.id)?;
            Some((id, format!("{key}{rest}")))
        });
        let key = match (maker, fields) {
            (Some((id, key)), _) => {
                if !task.dependencies.iter().any(|known| known == id) {
                    task.dependencies.push(id.to_owned());
                }
                key
            }
            (None, Some(Fields::Named(known))) if !known.contains(&head) => {
                let known = known.iter().chain(keys.keys()).copied();
                let known = known.filter(|known| *known != task.id);
                return Err(unknown_list(workflow, task, &list, known));
            }
            (None, _) => list.clone(),
        };
        lists.insert(parameter, key);
    }
    let elements = lists.keys().cloned().collect();
    spec.lists = lists;
    task.over = Some(spec);
    Ok(elements)
}

fn unknown_list<'a>(
    workflow: &str,
    task: &TaskDefinition,
    list: &str,
    known: impl Iterator<Item = &'a str>,
) -> Error {
    let id = &task.id;
    let message = format!(
        "task '{id}' of workflow '{workflow}' runs over '{list}', which is neither a task nor a field of the input"
    );
    let error = Error::new(ErrorCode::TaskInvalid, message);
    match nearest(list, known) {
        Some(near) => error.with_hint(format!("did you mean '{near}'?")),
        None => error,
    }
}

/// Finds the parameter that receives the element of a list.
fn element(
    workflow: &str,
    task: &TaskDefinition,
    names: &TaskNames,
    keys: &HashMap<&str, &str>,
    fields: Option<Fields>,
    list: &str,
) -> Result<String, Error> {
    let parameters = names.parameters.iter();
    if let Some(own) = parameters.clone().find(|parameter| parameter.name == list) {
        return Ok(own.name.to_owned());
    }
    let is_free = |parameter: &&ParameterName| {
        let from = parameter.task_or_name();
        let is_task = from != task.id && keys.contains_key(from);
        let is_field =
            matches!(fields, Some(Fields::Named(known)) if known.contains(&parameter.name));
        !is_task && !is_field
    };
    let free: Vec<&ParameterName> = parameters.filter(is_free).collect();
    let needed: Vec<&ParameterName> = (free.iter().copied())
        .filter(|parameter| !parameter.has_default)
        .collect();
    let found = if needed.is_empty() { free } else { needed };
    if let [parameter] = found.as_slice() {
        return Ok(parameter.name.to_owned());
    }
    let id = &task.id;
    let (what, hint) = match found.first() {
        None => (
            "no parameter for the element".to_owned(),
            "add a parameter for the element, with a name that is neither a task nor a field of the input"
                .to_owned(),
        ),
        Some(first) => {
            let names: Vec<&str> = found.iter().map(|parameter| parameter.name).collect();
            (
                format!(
                    "several parameters that could receive the element: {}",
                    names.join(", ")
                ),
                format!("name one of them: over = {{ {} = \"{list}\" }}", first.name),
            )
        }
    };
    let message = format!("task '{id}' of workflow '{workflow}' runs over '{list}' and has {what}");
    Err(Error::new(ErrorCode::TaskInvalid, message).with_hint(hint))
}

/// Returns the names of the signals that a task waits for.
pub(super) fn signals(task: &TaskDefinition) -> Vec<String> {
    let leaves = task.wait_for.iter().flat_map(Condition::leaves);
    let names = leaves.filter_map(|leaf| match leaf {
        Condition::Signal { name, .. } => Some(name.clone()),
        _ => None,
    });
    names.collect()
}
