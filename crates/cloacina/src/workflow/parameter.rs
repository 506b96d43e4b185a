//! The parameters of typed tasks, and the output of a workflow, as parts of a definition (semantics J1, J8).

use std::slice;

use serde::{Deserialize, Serialize};

/// The kind of value that a parameter of a typed task receives (J1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterSource {
    /// The result of another task. The other task is a dependency.
    Task,
    /// A field of the workflow's input.
    Input,
    /// A key of the context that is neither the result of a task nor a field of the declared input.
    Context,
    /// A shared object, such as a connection, which the runner creates once.
    Resource,
    /// The handle of the running task.
    Handle,
    /// An element of a mapped task's list, or an array of elements (`batch`).
    Item,
    /// The data of a signal.
    Signal,
}

/// A resolved parameter of a typed task. Parameters are resolved when the workflow is defined (J1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// The parameter's name.
    pub name: String,
    /// The kind of value that the parameter receives.
    #[serde(rename = "from")]
    pub source: ParameterSource,
    /// The context key of the parameter's value; `None` means the parameter's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The id of the task whose result the parameter receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Whether the parameter has a default, which replaces an absent value (J7).
    #[serde(default, skip_serializing_if = "is_false")]
    pub default: bool,
    /// Whether the parameter receives the items of a map with their states, not only their values (K9).
    #[serde(default, skip_serializing_if = "is_false")]
    pub items: bool,
}

impl Parameter {
    /// Returns the context key of the parameter's value. A resource or a handle has no key in the context: for these,
    /// returns the parameter's name.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.name)
    }
}

/// The output of a workflow: one value, or an array of values (J8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Output {
    /// The key of the only value.
    One(String),
    /// The keys of the values.
    Many(Vec<String>),
}

impl Output {
    /// Returns the context keys of the values, in declaration order.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        match self {
            Self::One(key) => slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls this function with a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}
