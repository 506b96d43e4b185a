//! What a workflow is: tasks, rules, their graph, validation and the version hash. Pure.

mod agreement;
mod definition;
mod fingerprint;
mod graph;
pub(crate) mod queue;
mod rule;
mod validate;

pub use agreement::check_external;
pub use definition::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};
pub use graph::Graph;
pub use rule::{Operator, TriggerRule};
