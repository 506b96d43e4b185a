//! What a workflow is: tasks, rules, their graph, validation and the version hash. Pure.

mod definition;
mod fingerprint;
mod graph;
mod rule;
mod validate;

pub use definition::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};
pub use graph::Graph;
pub use rule::{Operator, TriggerRule};
