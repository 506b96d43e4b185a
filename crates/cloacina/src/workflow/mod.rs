//! Workflow definitions: tasks, trigger rules, the graph, validation and the version hash. Pure: no I/O, no clock.

mod definition;
mod external_compat;
mod fingerprint;
mod graph;
pub(crate) mod queue;
mod rule;
mod validate;

pub use definition::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};
pub use external_compat::check_external;
pub use graph::Graph;
pub use rule::{Operator, TriggerRule};
