//! Reads the parameters and stores the results of typed tasks at run time. `#[task]` expands to calls of these functions
//! (semantics J3, J7, J9).

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decoding::{absent, decode_text};
use super::definition::DEFINITIONS;
use super::task::Source;
use super::{Context, TaskError, TaskHandle};
use crate::types::Json;
use crate::workflow::{Parameter, ParameterSource};

/// Returns the value of a parameter, from the first of these sources that has a value:
///
/// 1. the context, whose value is decoded;
/// 2. the default of the parameter;
/// 3. `None`, if the parameter is an `Option`;
/// 4. the default of the field in the type of the declared input.
///
/// # Errors
/// A `TaskInputError`, which is not retried, if no source has a value or the value does not have the parameter's type.
#[doc(hidden)]
pub fn parameter<T: DeserializeOwned>(
    context: &Context,
    handle: &TaskHandle,
    name: &str,
    default: Option<fn() -> T>,
) -> Result<T, TaskError> {
    let source = handle.parameter(name);
    let key = match source {
        Source::Resolved(parameter) => Some(parameter.key()),
        Source::Named => Some(name),
        Source::Default => None,
    };
    let task = handle.task_id();
    let decode = |json: &Json| {
        decode_text(json.as_str()).map_err(|problem| {
            TaskError::input(format!(
                "parameter '{name}' of task '{task}' takes {}, but its value is not a valid {}: {problem}",
                origin(source, name),
                std::any::type_name::<T>()
            ))
        })
    };
    if let Some(given) = key.and_then(|key| context.get_json(key)) {
        return decode(given);
    }
    // The parameter's own default comes first, because finding the default of the input field requires decoding the
    // whole input.
    if let Some(default) = default {
        return Ok(default());
    }
    if let Some(none) = absent() {
        return Ok(none);
    }
    match default_of_input(context, handle, source) {
        Some(default) => decode(&default),
        None => Err(TaskError::input(format!(
            "parameter '{name}' of task '{task}' has no value: {} is absent",
            origin(source, name)
        ))),
    }
}

/// Returns the default of a field that the input of the execution lacks. The input can lack it if another program submitted
/// the execution, or if the execution is a child.
fn default_of_input(context: &Context, handle: &TaskHandle, source: Source) -> Option<Json> {
    let Source::Resolved(parameter) = source else {
        return None;
    };
    if parameter.source != ParameterSource::Input {
        return None;
    }
    let value = |field: &str| context.get_json(field).cloned();
    let workflow = handle.workflow_name()?;
    DEFINITIONS.default_of(workflow, handle.execution_id(), parameter.key(), value)
}

/// Returns a phrase for error messages that says where the value of a parameter comes from.
fn origin(source: Source, name: &str) -> String {
    match source {
        Source::Resolved(Parameter {
            source: ParameterSource::Task,
            task: Some(task),
            ..
        }) => format!("the result of task '{task}'"),
        Source::Resolved(parameter) if parameter.source == ParameterSource::Input => {
            format!("field '{}' of the input", parameter.key())
        }
        Source::Resolved(parameter) if parameter.source == ParameterSource::Item => {
            "the element of the list".to_owned()
        }
        Source::Resolved(parameter) if parameter.source == ParameterSource::Signal => {
            format!("the data of signal '{}'", parameter.key())
        }
        Source::Resolved(parameter) => format!("key '{}' of the context", parameter.key()),
        Source::Named | Source::Default => format!("key '{name}' of the context"),
    }
}

/// The return type of a typed task.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a task with values returns `Result<T, TaskError>` with a `T` that can be serialized, not `{Self}`",
    label = "must be `Result<T, TaskError>`",
    note = "derive `serde::Serialize` for the type of the result"
)]
pub trait ValueOutput {
    /// Stores the value of an `Ok` in the context, under the task's result key in the workflow's definition. If the definition
    /// has no result key for the task, stores the value under `key`.
    ///
    /// # Errors
    /// The error that the task returned, or an error for a value that JSON cannot represent.
    fn store(self, context: &mut Context, handle: &TaskHandle, key: &str) -> Result<(), TaskError>;
}

impl<T: Serialize> ValueOutput for Result<T, TaskError> {
    fn store(self, context: &mut Context, handle: &TaskHandle, key: &str) -> Result<(), TaskError> {
        let value = self?;
        context.set(handle.result_key().unwrap_or(key), value)?;
        Ok(())
    }
}
