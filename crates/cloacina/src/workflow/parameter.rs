//! Typed tasks in a definition: what the parameters of a function are, and which values are the output of a workflow
//! (semantics J1, J8).

use std::slice;

use serde::{Deserialize, Serialize};

/// The kind of value that a parameter of a typed task receives (J1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterSource {
    /// The result of another task, which is a dependency.
    Task,
    /// A field of the workflow's input.
    Input,
    /// A key of the context that neither a task nor the declared input produces.
    Context,
    /// An object that the runner makes once, such as a connection.
    Resource,
    /// The handle of the running task.
    Handle,
    /// The element of a mapped task.
    Item,
    /// The payload of a signal.
    Signal,
}

/// A parameter of a typed task, as it was resolved when the workflow was built (J1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// The parameter's name.
    pub name: String,
    /// The kind of value that it receives.
    #[serde(rename = "from")]
    pub source: ParameterSource,
    /// The key of the context that holds its value; `None` means the key named like the parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The id of the task whose result it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Whether it has a default, which replaces a value that is absent (J7).
    #[serde(default, skip_serializing_if = "is_false")]
    pub default: bool,
    /// Whether it receives the items of a map with their states, instead of the list of their values (K9).
    #[serde(default, skip_serializing_if = "is_false")]
    pub items: bool,
}

impl Parameter {
    /// The key of the context that holds the value of a parameter from a task, the input or the context.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or(&self.name)
    }
}

/// The output of a workflow: one value, or several by name (J8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Output {
    /// The key of the only value.
    One(String),
    /// The keys of the values.
    Many(Vec<String>),
}

impl Output {
    /// The keys of the context that hold the values, in the order of their declaration.
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
    reason = "serde calls it with a reference"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}
