//! The values of typed tasks at run time: `#[task]` expands to calls of these functions (semantics J3, J7, J9).

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decoding::{absent, decode_text};
use super::definition::DEFINITIONS;
use super::task::Source;
use super::{Context, TaskError, TaskHandle};
use crate::types::Json;
use crate::workflow::{Parameter, ParameterSource};

/// Returns the value of a parameter: decoded from the context, otherwise its default, otherwise `None` for an `Option`, otherwise
/// the default that the declared input has for the field.
///
/// # Errors
/// A `TaskInputError`, which is not retried, for a value that is absent or does not have the parameter's type.
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
                "parameter '{name}' of task '{task}' is {}, which is not a {}: {problem}",
                origin(source, name),
                std::any::type_name::<T>()
            ))
        })
    };
    if let Some(given) = key.and_then(|key| context.get_json(key)) {
        return decode(given);
    }
    // The parameter's own default comes before that of the field, which has to decode the whole input.
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

/// The default of a field of the input that the execution lacks: it was submitted by another program, or is a child.
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

/// A phrase that says where the value of a parameter comes from.
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
    /// Stores the value of an `Ok` under the key that the workflow's definition names, otherwise under `key`.
    ///
    /// # Errors
    /// The task's own, or that of a value that JSON cannot represent.
    fn store(self, context: &mut Context, handle: &TaskHandle, key: &str) -> Result<(), TaskError>;
}

impl<T: Serialize> ValueOutput for Result<T, TaskError> {
    fn store(self, context: &mut Context, handle: &TaskHandle, key: &str) -> Result<(), TaskError> {
        let value = self?;
        context.set(handle.result_key().unwrap_or(key), value)?;
        Ok(())
    }
}
